//! A passphrase: bytes that leave memory when dropped and are never printed.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest passphrase: far more than anybody types, and a wrong file is noticed.
pub const PASSPHRASE_BYTES_MAX: usize = 1_024;
/// Bits that let others than the owner do anything.
const OPEN_TO_OTHERS: u32 = 0o077;
/// The line feed that editors and `echo` add, with the carriage return that some add before it.
const NEWLINE_BYTES_MAX: usize = 2;

/// Where systemd puts the credentials of a service, for that service alone.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// Group bits of a file that has an access control list are that list's widest entry: here the service's own user.
const CREDENTIAL_MODE: u32 = 0o440;

/// Whether a file is one that systemd keeps for this service: root's, in the directory that nobody else can enter.
fn is_credential(path: &Path, credentials: Option<&Path>, (uid, mode): (u32, u32)) -> bool {
    let is_there = credentials.is_some_and(|directory| path.parent() == Some(directory));
    is_there && uid == 0 && mode == CREDENTIAL_MODE
}

/// Opens a file with a secret that somebody gave to this process: its own user's or root's, and open to nobody else.
///
/// # Errors
/// [`PassphraseFileError::Exposed`], [`PassphraseFileError::NotMine`], [`PassphraseFileError::Io`].
pub(crate) fn open_secret(path: &Path) -> Result<File, PassphraseFileError> {
    let failed = |error: io::Error| PassphraseFileError::io(path, &error);
    let file = OpenOptions::new().read(true).open(path).map_err(failed)?;
    // Asked of the opened file: the path could lead elsewhere a moment later.
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.mode() & 0o777;
    let credentials = std::env::var_os(CREDENTIALS).map(PathBuf::from);
    if mode & OPEN_TO_OTHERS != 0 && !is_credential(path, credentials.as_deref(), (metadata.uid(), mode)) {
        let path = path.to_owned();
        return Err(PassphraseFileError::Exposed { path, mode });
    }
    // The system's own user may hand secrets to services.
    let uid = metadata.uid();
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        let path = path.to_owned();
        return Err(PassphraseFileError::NotMine { path, uid });
    }
    Ok(file)
}

/// What opens an encrypted key file. Not empty, and at most [`PASSPHRASE_BYTES_MAX`] bytes of any kind.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes a passphrase over.
    ///
    /// # Errors
    /// [`BadPassphrase`] if it is empty or too long.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, BadPassphrase> {
        match bytes.len() {
            0 => Err(BadPassphrase::Empty),
            1..=PASSPHRASE_BYTES_MAX => Ok(Self(bytes)),
            has => Err(BadPassphrase::TooLong { has }),
        }
    }

    /// Reads a passphrase from a file, or from a pipe with a name. One newline at its end is not part of it.
    ///
    /// # Errors
    /// [`PassphraseFileError`], where others may open the file as well.
    pub fn read(path: &Path) -> Result<Self, PassphraseFileError> {
        let file = open_secret(path)?;
        // Reserved at once, so that growing leaves no copy behind; one more byte shows what is too long.
        let limit = PASSPHRASE_BYTES_MAX + NEWLINE_BYTES_MAX + 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
        let take = u64::try_from(limit).unwrap_or(u64::MAX);
        let read = file.take(take).read_to_end(&mut bytes);
        read.map_err(|error| PassphraseFileError::io(path, &error))?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Self::new(bytes).map_err(|problem| PassphraseFileError::Bad {
            path: path.to_owned(),
            problem,
        })
    }

    /// Whether two passphrases are one, in a time that tells nothing but their lengths.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let differ = self.0.iter().zip(other.0.iter()).fold(0, |all, (a, b)| all | (a ^ b));
        self.0.len() == other.0.len() && differ == 0
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// Why bytes are no passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPassphrase {
    /// It is empty, and would protect nothing.
    #[error("the passphrase is empty")]
    Empty,
    /// It is longer than any passphrase.
    #[error("the passphrase has {has} bytes or more, and at most {PASSPHRASE_BYTES_MAX} are taken")]
    TooLong {
        /// Its length, as far as it was read.
        has: usize,
    },
}

/// Why a file gives no passphrase, or another secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PassphraseFileError {
    /// What is in it is no passphrase.
    #[error("{}: {problem}", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: BadPassphrase,
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
    /// The file belongs to another user, who chose what is in it.
    #[error("{} belongs to user {uid}, and this process to user {}", path.display(), rustix::process::geteuid().as_raw())]
    NotMine {
        /// The file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
}

impl PassphraseFileError {
    fn io(path: &Path, error: &io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            kind: error.kind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_systemd_keeps_for_this_service_may_show_group_bits() {
        let directory = Path::new("/run/credentials/a.service");
        let (there, elsewhere) = (directory.join("passphrase"), Path::new("/tmp/passphrase"));
        let kept = (0, 0o440);
        assert!(is_credential(&there, Some(directory), kept));
        assert!(!is_credential(&there, None, kept));
        assert!(!is_credential(elsewhere, Some(directory), kept));
        assert!(!is_credential(&there, Some(directory), (1_000, 0o440)));
        assert!(!is_credential(&there, Some(directory), (0, 0o444)));
    }
}
