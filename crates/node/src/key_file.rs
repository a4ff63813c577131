//! A key file: one Ed25519 key as PKCS#8 PEM (RFC 8410), which other tools open too, readable by its owner only.
//!
//! `openssl pkey -in key.pem -text` shows it. It is not encrypted: whoever reads the file has the account.

use crate::home::{Existing, write_file};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use rand::TryRng;
use rand::rngs::SysRng;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tombola_core::key::SecretKey;
use zeroize::Zeroizing;

/// The key file of a home.
pub const KEY_FILE: &str = "key.pem";
/// Longest file that is read: a PEM of 48 bytes has 119.
const KEY_FILE_BYTES_MAX: u64 = 1_024;
/// Bits that let others than the owner do anything.
const OPEN_TO_OTHERS: u32 = 0o077;

/// Makes a fresh key from the operating system's randomness, in memory only.
///
/// # Errors
/// [`KeyFileError::NoRandomness`] if the system has none.
pub fn generate() -> Result<SecretKey, KeyFileError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    SysRng
        .try_fill_bytes(seed.as_mut_slice())
        .map_err(|_| KeyFileError::NoRandomness)?;
    Ok(SecretKey::from_seed(&seed))
}

/// Makes a fresh key and writes it to a new file; durable when this returns.
///
/// # Errors
/// As [`generate`] and [`write()`].
pub fn create(path: &Path) -> Result<SecretKey, KeyFileError> {
    let key = generate()?;
    write(path, &key)?;
    Ok(key)
}

/// Writes a key to a new file of mode 0600. An existing file is never overwritten: it may be worth money.
///
/// # Errors
/// [`KeyFileError::Exists`], or [`KeyFileError::Io`].
pub fn write(path: &Path, key: &SecretKey) -> Result<(), KeyFileError> {
    let bytes = KeypairBytes {
        secret_key: *key.seed(),
        // Version 1 of the format: OpenSSL does not read a file that also has the public key.
        public_key: None,
    };
    let pem = bytes
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|_| KeyFileError::NotAKey { path: path.to_owned() })?;
    write_file(path, pem.as_bytes(), 0o600, Existing::Keep).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
        kind => KeyFileError::Io {
            path: path.to_owned(),
            kind,
        },
    })
}

/// Reads a key file.
///
/// # Errors
/// [`KeyFileError::Exposed`] if others than the owner may open it, [`KeyFileError::NotMine`] if it belongs to another
/// user, [`KeyFileError::NotAKey`], or [`KeyFileError::Io`].
pub fn read(path: &Path) -> Result<SecretKey, KeyFileError> {
    let failed = |error: io::Error| KeyFileError::Io {
        path: path.to_owned(),
        kind: error.kind(),
    };
    let file = File::open(path).map_err(failed)?;
    // Asked of the opened file: the path could lead elsewhere a moment later.
    let metadata = file.metadata().map_err(failed)?;
    let not_a_key = || KeyFileError::NotAKey { path: path.to_owned() };
    if !metadata.is_file() || metadata.len() > KEY_FILE_BYTES_MAX {
        return Err(not_a_key());
    }
    let mode = metadata.mode() & 0o777;
    if mode & OPEN_TO_OTHERS != 0 {
        return Err(KeyFileError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(KeyFileError::NotMine {
            path: path.to_owned(),
            uid: metadata.uid(),
        });
    }
    // Reserved at once, so that growing leaves no copy behind.
    let mut pem = Zeroizing::new(String::with_capacity(
        usize::try_from(KEY_FILE_BYTES_MAX).unwrap_or(1_024),
    ));
    file.take(KEY_FILE_BYTES_MAX)
        .read_to_string(&mut pem)
        .map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => not_a_key(),
            _ => failed(error),
        })?;
    let key = SigningKey::from_pkcs8_pem(&pem).map_err(|_| not_a_key())?;
    Ok(SecretKey::from_seed(&Zeroizing::new(key.to_bytes())))
}

/// Why a key file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// A file is there already.
    #[error("{} exists and is not overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may open the file.
    #[error("{} can be opened by others (mode {mode:o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system refused.
    #[error("{}: {kind}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// The system has no random bytes to give.
    #[error("the system has no random bytes to give")]
    NoRandomness,
    /// The file is not an Ed25519 key in PKCS#8 PEM.
    #[error("{} is not an Ed25519 key in PKCS#8 PEM", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The file belongs to another user.
    #[error("{} belongs to user {uid}", path.display())]
    NotMine {
        /// The file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_file_reads_as_it_was_written_and_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(KEY_FILE);
        let key = create(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap().account(), key.account());
        assert_eq!(create(&path).unwrap_err(), KeyFileError::Exists { path: path.clone() });
        assert_eq!(read(&path).unwrap().account(), key.account());
        assert_ne!(generate().unwrap().account(), generate().unwrap().account());
    }

    #[test]
    fn the_format_is_the_one_of_rfc_8410() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(KEY_FILE);
        // The private key of RFC 8410 section 10.3, as `openssl genpkey` writes it.
        let text = "-----BEGIN PRIVATE KEY-----\n\
                    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                    -----END PRIVATE KEY-----\n";
        write_file(&path, text.as_bytes(), 0o600, Existing::Keep).unwrap();
        let key = read(&path).unwrap();
        let again = directory.path().join("again.pem");
        write(&again, &key).unwrap();
        assert_eq!(std::fs::read_to_string(&again).unwrap(), text);
    }

    #[test]
    fn a_key_file_that_others_may_open_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(KEY_FILE);
        create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let path = path.clone();
            assert_eq!(read(&path).unwrap_err(), KeyFileError::Exposed { path, mode });
        }
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(KEY_FILE);
        for text in [&b""[..], b"-----BEGIN PRIVATE KEY-----", &[0xff; 64], &[b'x'; 2_000]] {
            write_file(&path, text, 0o600, Existing::Replace).unwrap();
            assert_eq!(read(&path).unwrap_err(), KeyFileError::NotAKey { path: path.clone() });
        }
        let missing = directory.path().join("none");
        assert!(matches!(read(&missing).unwrap_err(), KeyFileError::Io { .. }));
    }
}
