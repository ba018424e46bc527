//! Skeleton.

pub mod provider;
