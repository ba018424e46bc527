//! The process that holds a server and its clients dies at a write to any of their files: at each
//! one, in a child process that aborts there. What it leaves is opened again, and nothing that was
//! acknowledged is missing or doubled.

#[cfg(test)]
mod child;
#[cfg(test)]
mod notes;
#[cfg(test)]
mod points;
#[cfg(test)]
mod stages;
