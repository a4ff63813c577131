//! The salt of a server's reset tokens: made once, kept beside its store, the same after each restart. Spec: N-09.

use crate::clock;
use crate::home::{Existing, write_file};
use std::io;
use std::path::{Path, PathBuf};
use tombola_net::ResetSalt;

/// What it is called in a role's home.
pub(crate) const FILE: &str = "reset.salt";

/// Reads the salt, or makes it.
pub(crate) fn read_or_make(path: &Path) -> Result<ResetSalt, ResetSaltError> {
    let failed = |error: io::Error| ResetSaltError::File {
        path: path.to_path_buf(),
        kind: error.kind(),
    };
    match std::fs::read(path) {
        Ok(bytes) => parse(path, &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let salt: [u8; 32] = clock::random();
            write_file(path, &salt, 0o600, Existing::Keep).map_err(failed)?;
            Ok(ResetSalt::new(salt))
        }
        Err(error) => Err(failed(error)),
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<ResetSalt, ResetSaltError> {
    let salt = bytes.try_into().map_err(|_| ResetSaltError::Length {
        path: path.to_path_buf(),
        found: bytes.len(),
    })?;
    Ok(ResetSalt::new(salt))
}

/// Why there is no salt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResetSaltError {
    /// The file could not be read or written.
    #[error("{}: {kind}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The file is not what was written.
    #[error("{} has {found} bytes and not 32: remove it, and a new one is made", path.display())]
    Length {
        /// Which.
        path: PathBuf,
        /// Its bytes.
        found: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Spec: N-09.
    #[test]
    fn a_salt_is_made_once_for_each_home_and_is_its_owners_alone() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, other) = (here.path().join(FILE), there.path().join(FILE));
        for path in [&path, &other] {
            read_or_make(path).unwrap();
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let first = std::fs::read(&path).unwrap();
        assert_ne!(first, std::fs::read(&other).unwrap());
        read_or_make(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first, "the same after a restart");
    }

    #[test]
    fn a_salt_that_is_cut_short_is_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE);
        std::fs::write(&path, [1; 31]).unwrap();
        let error = read_or_make(&path).unwrap_err();
        assert_eq!(error, ResetSaltError::Length { path, found: 31 });
        assert!(
            error
                .to_string()
                .ends_with("has 31 bytes and not 32: remove it, and a new one is made")
        );
    }
}
