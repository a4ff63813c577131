//! A key file: one Ed25519 key as PKCS#8 PEM, which other tools open too, readable by its owner only.
//!
//! With a passphrase it is encrypted by scrypt and AES-256-CBC (PBES2), and `openssl pkey -in key.pem -text` asks for
//! it. Without one, whoever reads the file has the account.

mod core_dump;
mod envelope;
mod passphrase;
#[cfg(test)]
mod tests;

pub use core_dump::forbid_core_dumps;
pub use envelope::{Cost, KeyFileProblem, Protection};
pub(crate) use passphrase::open_secret;
pub use passphrase::{BadPassphrase, PASSPHRASE_BYTES_MAX, Passphrase, PassphraseFileError};

use crate::home::{Existing, write_file};
use envelope::{Envelope, Salts};
use rand::TryRng;
use rand::rngs::SysRng;
use rustix::fs::OFlags;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tombola_core::key::{AccountKey, SecretKey};
use zeroize::Zeroizing;

/// The key file of a home.
pub const KEY_FILE: &str = "key.pem";
/// Longest file that is read: an encrypted key has 400 bytes, and other tools may add a few lines.
const KEY_FILE_BYTES_MAX: usize = 4_096;
/// Bits that let others than the owner do anything.
const OPEN_TO_OTHERS: u32 = 0o077;

/// Makes a fresh key from the operating system's randomness, in memory only.
///
/// # Errors
/// [`KeyFileError::NoRandomness`] if the system has none.
pub fn generate() -> Result<SecretKey, KeyFileError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    fill(seed.as_mut_slice())?;
    Ok(SecretKey::from_seed(&seed))
}

/// Makes a fresh key and writes it, without a passphrase, to a new file; durable when this returns.
///
/// # Errors
/// As [`generate`] and [`write()`].
pub fn create(path: &Path) -> Result<SecretKey, KeyFileError> {
    let key = generate()?;
    write(path, &key, Protection::None)?;
    Ok(key)
}

/// Writes a key to a new file of mode 0600. An existing file is never overwritten: it may be worth money.
///
/// # Errors
/// [`KeyFileError::Exists`], or [`KeyFileError::Io`].
pub fn write(path: &Path, key: &SecretKey, protection: Protection<'_>) -> Result<(), KeyFileError> {
    store(path, &encode(key, protection)?, Existing::Keep)
}

/// Writes the key that is in a file anew, with another protection. Whatever fails, the old file stays as it is.
///
/// # Errors
/// [`KeyFileError::Io`], and what [`KeyFile::read`] and [`KeyFile::open`] would say of the new file.
pub fn rewrite(path: &Path, key: &SecretKey, protection: Protection<'_>) -> Result<(), KeyFileError> {
    // A link stays a link: what it leads to is replaced.
    let path = path.canonicalize().map_err(|error| KeyFileError::io(path, &error))?;
    let text = encode(key, protection)?;
    let bad = |problem| KeyFileError::bad(&path, problem);
    // The old file is all there is: the new one must open before it takes its place.
    let passphrase = match protection {
        Protection::None => None,
        Protection::Passphrase(passphrase, _) => Some(passphrase),
    };
    let again = Envelope::parse(&text).and_then(|written| written.open(passphrase));
    match again.map_err(bad)? {
        Some(again) if again.account() == key.account() => store(&path, &text, Existing::Replace),
        _ => Err(bad(KeyFileProblem::Unwritable)),
    }
}

/// The text of a key file, for whoever keeps it elsewhere.
///
/// # Errors
/// [`KeyFileError::NoRandomness`] if the system has none for the encryption.
pub fn encode(key: &SecretKey, protection: Protection<'_>) -> Result<Zeroizing<String>, KeyFileError> {
    let mut salts = Salts {
        salt: [0; 16],
        iv: [0; 16],
    };
    fill(&mut salts.salt)?;
    fill(&mut salts.iv)?;
    envelope::write(key, protection, &salts).map_err(|problem| KeyFileError::bad(Path::new(KEY_FILE), problem))
}

/// Reads a key file that has no passphrase.
///
/// # Errors
/// As [`KeyFile::read`] and [`KeyFile::open`].
pub fn read(path: &Path) -> Result<SecretKey, KeyFileError> {
    KeyFile::read(path)?.open(None)
}

/// Reads a small file that must be its owner's alone, such as a key in any form.
///
/// # Errors
/// [`KeyFileError::Exposed`] if others than the owner may open it, [`KeyFileError::NotMine`] if it belongs to another
/// user, [`KeyFileError::NotAFile`], [`KeyFileError::Bad`] if it is too large for a key, or [`KeyFileError::Io`].
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    read_private_of(path, rustix::process::geteuid().as_raw())
}

/// As [`read_private`], of a file that must belong to this user.
fn read_private_of(path: &Path, owner: u32) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let failed = |error: io::Error| KeyFileError::io(path, &error);
    let mut options = OpenOptions::new();
    // A pipe that nobody writes to is refused below, not waited for.
    let wait_for_nothing = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = options.read(true).custom_flags(wait_for_nothing).open(path);
    let file = file.map_err(failed)?;
    // Asked of the opened file: the path could lead elsewhere a moment later.
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile { path: path.to_owned() });
    }
    let mode = metadata.mode() & 0o777;
    if mode & OPEN_TO_OTHERS != 0 {
        let path = path.to_owned();
        return Err(KeyFileError::Exposed { path, mode });
    }
    let uid = metadata.uid();
    if uid != owner {
        let path = path.to_owned();
        return Err(KeyFileError::NotMine { path, uid });
    }
    read_small(file)
        .map_err(failed)?
        .ok_or_else(|| KeyFileError::bad(path, KeyFileProblem::Foreign))
}

/// Reads what may be a key from anything; nothing if it is too large for one.
///
/// # Errors
/// What the system said.
pub fn read_small(from: impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // Reserved at once, so that growing leaves no copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES_MAX + 1));
    let limit = u64::try_from(KEY_FILE_BYTES_MAX + 1).unwrap_or(u64::MAX);
    from.take(limit).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= KEY_FILE_BYTES_MAX).then_some(bytes))
}

/// A key file that was read and not opened yet.
pub struct KeyFile {
    path: PathBuf,
    envelope: Envelope,
}

impl KeyFile {
    /// Reads a key file.
    ///
    /// # Errors
    /// As [`read_private`] and [`KeyFile::parse`].
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        Self::parse(path, &read_private(path)?)
    }

    /// As [`Self::read`], of a key that belongs to this user, which root may look at without taking it over.
    ///
    /// # Errors
    /// As [`Self::read`]; [`KeyFileError::NotMine`] if it belongs to a third one.
    pub fn read_of(path: &Path, owner: u32) -> Result<Self, KeyFileError> {
        Self::parse(path, &read_private_of(path, owner)?)
    }

    /// Takes the bytes of a key file; `path` is for errors.
    ///
    /// # Errors
    /// [`KeyFileError::Bad`] with what is wrong.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, KeyFileError> {
        let text = std::str::from_utf8(bytes).map_err(|_| KeyFileProblem::Foreign);
        let envelope = text.and_then(Envelope::parse);
        Ok(Self {
            envelope: envelope.map_err(|problem| KeyFileError::bad(path, problem))?,
            path: path.to_owned(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it takes a passphrase to open it.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.envelope.is_encrypted()
    }

    /// Whose key it says it is; nothing if another tool encrypted it. Opening it shows whether that is true.
    #[must_use]
    pub fn account(&self) -> Option<AccountKey> {
        self.envelope.account
    }

    /// The key. A passphrase for a file that needs none is not looked at.
    ///
    /// # Errors
    /// [`KeyFileError::Encrypted`] without a passphrase for a file that needs one, or [`KeyFileError::Bad`].
    pub fn open(self, passphrase: Option<&Passphrase>) -> Result<SecretKey, KeyFileError> {
        let Self { path, envelope } = self;
        match envelope.open(passphrase) {
            Ok(Some(key)) => Ok(key),
            Ok(None) => Err(KeyFileError::Encrypted { path }),
            Err(problem) => Err(KeyFileError::Bad { path, problem }),
        }
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn fill(bytes: &mut [u8]) -> Result<(), KeyFileError> {
    SysRng.try_fill_bytes(bytes).map_err(|_| KeyFileError::NoRandomness)
}

fn store(path: &Path, text: &str, existing: Existing) -> Result<(), KeyFileError> {
    write_file(path, text.as_bytes(), 0o600, existing).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
        _ => KeyFileError::io(path, &error),
    })
}

/// Why a key file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// What is in it cannot be used.
    #[error("{}: {problem}", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: KeyFileProblem,
    },
    /// It takes a passphrase, and none was given.
    #[error("{} is encrypted, and no passphrase was given", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
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
    /// It is a directory, a pipe or a device.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// What it is not.
        path: PathBuf,
    },
    /// The file belongs to another user.
    #[error("{} belongs to user {uid}, and this process to user {}", path.display(), rustix::process::geteuid().as_raw())]
    NotMine {
        /// The file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
}

impl KeyFileError {
    fn io(path: &Path, error: &io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            kind: error.kind(),
        }
    }

    fn bad(path: &Path, problem: KeyFileProblem) -> Self {
        Self::Bad {
            path: path.to_owned(),
            problem,
        }
    }
}
