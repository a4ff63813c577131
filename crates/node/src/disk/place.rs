//! Where a store file and its log are: in a directory, or in tests on a disk that fails.

use super::log::LogFile;
use crate::home::{Existing, private_file, write_file_by};
use redb::{Database, DatabaseError};
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tombola_store::redb_file;

/// Opens and reads the two files.
pub(crate) trait Place: Debug + Send {
    /// The store file, made if it is not there.
    fn open_store(&self) -> Result<Database, DatabaseError>;

    /// Its bytes.
    fn read_store(&self) -> io::Result<Vec<u8>>;

    /// Makes the log, in place of one that may be there: a crash leaves it whole or not at all, and its name durable.
    fn make_log(&self, bytes: &[u8]) -> io::Result<()>;

    /// The bytes of the log.
    fn read_log(&self) -> io::Result<Vec<u8>>;

    /// The log, for appending.
    fn open_log(&self) -> io::Result<Box<dyn LogFile>>;

    /// What the log is called.
    fn log_path(&self) -> PathBuf;
}

/// Two files of one directory.
#[derive(Debug)]
pub(crate) struct Files {
    pub(super) store: PathBuf,
    pub(super) log: PathBuf,
}

impl Files {
    /// A store file, and its log beside it.
    pub(crate) fn at(store: &Path) -> Box<Self> {
        Box::new(Self {
            store: store.to_path_buf(),
            log: store.with_extension("log"),
        })
    }
}

impl Place for Files {
    fn open_store(&self) -> Result<Database, DatabaseError> {
        redb_file::open(&self.store)
    }

    fn read_store(&self) -> io::Result<Vec<u8>> {
        std::fs::read(&self.store)
    }

    fn make_log(&self, bytes: &[u8]) -> io::Result<()> {
        // A store file may ask for it from now on.
        write_file_by(&self.log, Existing::Replace, |unfinished| {
            // It has reveals of open books, and the salt.
            let file = private_file(unfinished)?;
            file.set_len(0)?;
            file.write_all_at(bytes, 0)?;
            file.sync_all()
        })
    }

    fn read_log(&self) -> io::Result<Vec<u8>> {
        std::fs::read(&self.log)
    }

    fn open_log(&self) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(File::options().write(true).open(&self.log)?))
    }

    fn log_path(&self) -> PathBuf {
        self.log.clone()
    }
}
