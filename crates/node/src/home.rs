//! A role's home directory: its files, its lock, and writing a file so that a crash leaves the old or the new one.

use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file that a running process keeps locked.
pub const LOCK_FILE: &str = "lock";
/// Longest lock file that is read: a pid has at most ten digits.
const LOCK_BYTES_MAX: u64 = 32;
/// Bits that let others than the owner write: they could replace a key or a socket.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// An existing home directory that nobody else can write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    path: PathBuf,
}

impl Home {
    /// Makes the directory with mode 0700, parents included, or opens it if it exists.
    ///
    /// # Errors
    /// [`HomeError::Io`], or [`HomeError::Exposed`] if others may write to it.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, HomeError> {
        let path = path.into();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| HomeError::io(&path, &error))?;
        Self::open(path)
    }

    /// Opens an existing home.
    ///
    /// # Errors
    /// [`HomeError::Missing`] if there is none, [`HomeError::Exposed`] if others may write to it, [`HomeError::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, HomeError> {
        let path = path.into();
        let metadata = match path.metadata() {
            Ok(metadata) if metadata.is_dir() => metadata,
            Ok(_) => return Err(HomeError::Missing { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(HomeError::Missing { path }),
            Err(error) => return Err(HomeError::io(&path, &error)),
        };
        let mode = metadata.mode() & 0o777;
        if mode & WRITABLE_BY_OTHERS != 0 {
            return Err(HomeError::Exposed { path, mode });
        }
        Ok(Self { path })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Takes the lock: at most one process works on a home, and holds it until the [`HomeLock`] is dropped or the
    /// process ends, however it ends.
    ///
    /// # Errors
    /// [`HomeError::Locked`] with the pid of the process that has it, or [`HomeError::Io`].
    pub fn lock(&self) -> Result<HomeLock, HomeError> {
        let path = self.file(LOCK_FILE);
        let failed = |error: io::Error| HomeError::io(&path, &error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            // What it says stays until the lock is had: it names the holder.
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(HomeError::Locked {
                    path: self.path.clone(),
                    pid: read_pid(&mut file),
                });
            }
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(HomeLock {
            home: self.clone(),
            _file: file,
        })
    }
}

/// The right to work on a home; given back when dropped.
#[derive(Debug)]
pub struct HomeLock {
    home: Home,
    _file: File,
}

impl HomeLock {
    /// The home that is locked.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }
}

/// Whether a file may take the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// An existing file stays and is an error of kind `AlreadyExists`.
    Keep,
    /// An existing file is replaced.
    Replace,
}

/// Writes a file that is durable when this returns. A crash leaves the old file, or none, or the new one; never a part.
///
/// # Errors
/// What the system said; of kind `AlreadyExists` where an existing file was to be kept.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32, existing: Existing) -> io::Result<()> {
    write_file_by(path, existing, |unfinished| write_new(unfinished, bytes, mode))
}

/// As [`write_file`], where something else writes the file, whole and durable, under the name that it is given.
pub(crate) fn write_file_by(
    path: &Path,
    existing: Existing,
    write: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut unfinished = name.to_os_string();
    unfinished.push(format!(".{}.new", std::process::id()));
    let unfinished = directory.join(unfinished);
    let written = write(&unfinished).and_then(|()| match existing {
        Existing::Replace => std::fs::rename(&unfinished, path),
        // Unlike a rename, a link never replaces.
        Existing::Keep => std::fs::hard_link(&unfinished, path),
    });
    if written.is_err() || existing == Existing::Keep {
        // Left behind, it would only be a stray file; the outcome is the one of the write.
        let _ = std::fs::remove_file(&unfinished);
    }
    written?;
    sync_directory_of(path)
}

/// Makes the name of a file durable, or that it is gone.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// Opens a file for reading and writing that is its owner's alone, whatever the umask and whoever made it; makes it,
/// empty, if it is not there.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // What is in it stays.
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path)?;
    make_private(&file)?;
    Ok(file)
}

fn make_private(file: &File) -> io::Result<()> {
    if file.metadata()?.mode() & 0o777 == 0o600 {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(0o600))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        // A process of the same pid crashed here before; its part of a file is worth nothing.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?
        }
        opened => opened?,
    };
    // A umask takes bits away at most; what is left then could not even be read by its owner.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(LOCK_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Why a home cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// Others than the owner may write to it.
    #[error("{} can be written by others (mode {mode:o}); run: chmod 700 {}", path.display(), path.display())]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system refused.
    #[error("{}: {kind}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// Another process works on it.
    #[error("{} is in use by process {}", path.display(), pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string()))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process, unless it has just begun.
        pid: Option<u32>,
    },
    /// There is no such directory.
    #[error("{} is not a home directory; init makes one", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
}

impl HomeError {
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
    fn a_home_is_for_its_owner_only() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        assert_eq!(
            Home::open(&path),
            Err(HomeError::Missing { path: path.clone() }),
            "not made yet"
        );
        let home = Home::create(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        assert_eq!(Home::create(&path), Ok(home));
        std::fs::set_permissions(&path, Permissions::from_mode(0o770)).unwrap();
        assert_eq!(Home::open(&path), Err(HomeError::Exposed { path, mode: 0o770 }));
    }

    #[test]
    fn a_second_lock_names_the_process_that_has_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::create(directory.path()).unwrap();
        let lock = home.lock().unwrap();
        let second = home.lock().unwrap_err();
        assert_eq!(
            second,
            HomeError::Locked {
                path: directory.path().to_owned(),
                pid: Some(std::process::id()),
            }
        );
        assert!(second.to_string().contains(&std::process::id().to_string()));
        drop(lock);
        assert!(home.lock().is_ok(), "a lock is given back");
    }

    #[test]
    fn a_lock_left_by_a_dead_process_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::create(directory.path()).unwrap();
        std::fs::write(home.file(LOCK_FILE), "4294967295 and more\n").unwrap();
        let _lock = home.lock().unwrap();
        let text = std::fs::read_to_string(home.file(LOCK_FILE)).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_private_file_is_made_so_and_one_that_was_open_to_others_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        drop(private_file(&path).unwrap());
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        std::fs::write(&path, b"rows").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        drop(private_file(&path).unwrap());
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read(&path).unwrap(), b"rows");
    }

    #[test]
    fn files_are_replaced_whole_or_kept_and_nothing_else_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        write_file(&path, b"one", 0o600, Existing::Keep).unwrap();
        let kept = write_file(&path, b"two", 0o600, Existing::Keep).unwrap_err();
        assert_eq!(kept.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write_file(&path, b"three", 0o600, Existing::Replace).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
