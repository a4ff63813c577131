//! Opens redb files, also those that a crash left before anything was in them, and none that a disk has changed.
//!
//! redb makes a file in steps: it takes its size, gets a header without the nine bytes that redb files begin with, and
//! after a sync these. A crash or a full disk in between leaves a file that redb takes for none of its own, and would do so
//! for ever. Nothing was ever committed to such a file, so it is made anew.

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{BackendError, Builder, Database, DatabaseError, StorageBackend, StorageError};
use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::path::Path;

/// What redb files begin with.
const MAGIC_BYTES: usize = 9;
/// Where a header ends that redb has written without its first bytes.
const HEADER_END: usize = 320;
/// redb makes files of one to two megabytes; what is longer was not left by a crash in between.
const UNFINISHED_BYTES_MAX: u64 = 1 << 24;

/// Opens a file, or makes it.
///
/// # Errors
/// As [`Database::create`].
pub fn open(path: &Path) -> Result<Database, DatabaseError> {
    open_on(|| {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        FileBackend::new(file)
    })
}

/// As [`open`], on whatever keeps bytes: `medium` opens it, again where a file may have to be made anew.
///
/// # Errors
/// As [`open`].
pub fn open_on<B: StorageBackend>(medium: impl Fn() -> Result<B, DatabaseError>) -> Result<Database, DatabaseError> {
    let build = || checking().create_with_backend(medium()?);
    match build() {
        Err(error) if is_foreign(&error) && empty_if_unfinished(&medium()?)? => build(),
        opened => opened,
    }
}

/// Opens the bytes of a file in memory, and leaves the file as it is.
///
/// # Errors
/// As [`open`].
pub fn open_copy(bytes: &[u8]) -> Result<Database, DatabaseError> {
    let backend = InMemoryBackend::new();
    backend.set_len(u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
    backend.write(0, bytes)?;
    checking().create_with_backend(backend)
}

/// Has redb read every page and compare it with its checksum. By itself it does so only after a crash, and would else take
/// what a disk has changed for what was written.
fn checking() -> Builder {
    let mut builder = Database::builder();
    builder.set_check_integrity_on_open(true);
    builder
}

/// Empties a file in which nothing is but a header that redb had not finished, and says whether it was one.
///
/// It looks and empties under the lock that redb takes for as long as it has a file open, so that whoever makes the file
/// in this moment is left alone.
fn empty_if_unfinished(file: &impl StorageBackend) -> Result<bool, DatabaseError> {
    match file.try_lock_range(Bound::Unbounded, Bound::Unbounded) {
        Ok(true) => {}
        Ok(false) => return Err(DatabaseError::DatabaseAlreadyOpen),
        // What has no locks is nobody else's, as redb takes it, too.
        Err(BackendError::Unsupported) => {}
        Err(error) => return Err(error.into()),
    }
    let is_unfinished = is_unfinished(file)?;
    if is_unfinished {
        file.set_len(0)?;
    }
    file.close()?;
    Ok(is_unfinished)
}

/// Whether this is how redb says that a file does not begin as its files do.
#[must_use]
pub fn is_foreign(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::InvalidData)
}

/// Whether nothing is in a file but a header that redb had not finished.
fn is_unfinished(file: &impl StorageBackend) -> io::Result<bool> {
    let length = file.len()?;
    if length > UNFINISHED_BYTES_MAX {
        return Ok(false);
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read(0, &mut bytes)?;
    let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == 0);
    let begins = bytes.get(..MAGIC_BYTES).unwrap_or(&bytes);
    Ok(is_zero(begins) && bytes.get(HEADER_END..).is_none_or(is_zero))
}
