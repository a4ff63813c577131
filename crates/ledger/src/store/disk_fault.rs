//! What a disk says when it does not do what it was asked.

use std::fmt;
use std::io;

/// An error of a disk, to be told and compared: its kind, and the system's own number where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskFault {
    kind: io::ErrorKind,
    code: Option<i32>,
}

impl DiskFault {
    /// What kind of error it is. `EIO` and others have no kind of their own.
    #[must_use]
    pub const fn kind(&self) -> io::ErrorKind {
        self.kind
    }

    /// Whether room on the disk would help.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self.kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl From<&io::Error> for DiskFault {
    fn from(error: &io::Error) -> Self {
        Self {
            kind: error.kind(),
            code: error.raw_os_error(),
        }
    }
}

impl From<io::ErrorKind> for DiskFault {
    fn from(kind: io::ErrorKind) -> Self {
        Self { kind, code: None }
    }
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            // As the system puts it, with its number: the kind alone may be "uncategorized error".
            Some(code) => io::Error::from_raw_os_error(code).fmt(f),
            None => self.kind.fmt(f),
        }
    }
}
