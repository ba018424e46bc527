//! New files that only their owner can read. Never replaces one that is there.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::CliError;

/// Refuses a path where something lies already, before work is done for nothing.
pub(crate) fn refuse_existing(path: Option<&Path>) -> Result<(), CliError> {
    match path {
        Some(path) if path.symlink_metadata().is_ok() => Err(CliError::Usage(format!(
            "{} is there already: name a file that is not",
            path.display()
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Writes a new file (0600), or none; it is on the disk when this returns, and its name, too: what
/// is deleted elsewhere because it is here must not be lost with the power.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let unwritable = |source| CliError::NotWritten { what: path.display().to_string(), source };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(unwritable)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    });
    if written.is_err() {
        // What is half there helps nobody, and stands in the way of another attempt.
        std::fs::remove_file(path).ok();
    }
    written.map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_for_its_owner_alone_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phrase");
        assert!(refuse_existing(Some(&path)).is_ok());
        write_new(&path, b"words").unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(write_new(&path, b"other"), Err(CliError::NotWritten { .. })));
        assert!(matches!(refuse_existing(Some(&path)), Err(CliError::Usage(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"words");
    }
}
