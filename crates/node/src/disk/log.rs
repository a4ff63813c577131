//! A log ahead of a store file: what somebody waits for is durable here after one short write and one sync.
//!
//! A commit of redb rewrites pages from a leaf to the root, twice synced; that is dear for one row. So a change is
//! appended here first, and many changes together go into the store file later ([`super::Disk`]). A start reads the
//! log again and puts into the store file whatever is not there yet.
//!
//! The file has a fixed size and is written in whole pages of 4,096 bytes, so a sync is of data only and no write
//! touches a page that was durable before.
//!
//! | at | what |
//! | --- | --- |
//! | page 0 | `MAGIC`, 16 bytes; salt, 32 random bytes, of which the store file keeps the first 8; SHA-256 of both, 32 bytes, or zeros in a log of an older program |
//! | page 1 on | entries, each from the start of a page: hash 32, sequence u64, length u32, then as many bytes |
//!
//! The hash is SHA-256 of salt, sequence, length and bytes. The salt never leaves this machine, so a peer whose bytes are
//! in a row cannot make them pass for an entry. Sequences rise by one. Once everything is in the store file writing
//! begins at page 1 again; what is left of older entries has lower sequences, so reading stops there.
//!
//! An entry that is not whole was never answered, as nothing came behind it before it was durable. So where a later one
//! stands behind it, the disk has changed what was durable, and the log is refused.

use super::StoreError;
use super::place::Place;
use crate::clock;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const MAGIC: &[u8; 16] = b"tombola log 1\0\0\0";
const PAGE: usize = 4_096;
/// Some thousand small commits; it is written in full once, when it is made.
const LOG_BYTES: usize = 1_024 * PAGE;
const SALT_END: usize = MAGIC.len() + 32;
const CHECK_END: usize = SALT_END + 32;
const ENTRY_HEADER: usize = 32 + 8 + 4;

/// What a log asks of its file: the place for a disk that fails.
pub(crate) trait LogFile: std::fmt::Debug + Send {
    fn write_all_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// On return all that was written is durable.
    fn sync_data(&mut self) -> io::Result<()>;
}

impl LogFile for File {
    fn write_all_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, at)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Self::sync_data(self)
    }
}

/// The log of one store file.
#[derive(Debug)]
pub(super) struct Log {
    file: Box<dyn LogFile>,
    salt: [u8; 32],
    /// Where the next entry begins.
    at: usize,
    /// Of the last entry.
    sequence: u64,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    Durable,
    /// It does not fit behind what is there.
    Full,
}

impl Log {
    /// A log whose file is made and read: its next entry goes to `at`.
    pub(super) fn new(file: Box<dyn LogFile>, salt: [u8; 32], at: usize, sequence: u64) -> Self {
        Self {
            file,
            salt,
            at,
            sequence,
        }
    }

    /// Makes an empty log, durable. `sequence` is that of the last entry of the store's life. What is there stays, and is
    /// an error, unless nothing is lost with it: it may have the winners of a store that somebody moved or lost.
    pub(super) fn create(place: &dyn Place, sequence: u64) -> Result<Self, StoreError> {
        if !is_free(place.read_log())? {
            let path = place.log_path();
            return Err(StoreError::ForeignLog { path });
        }
        let salt: [u8; 32] = clock::random();
        let mut bytes = vec![0u8; LOG_BYTES];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[MAGIC.len()..SALT_END].copy_from_slice(&salt);
        let check = Sha256::digest(&bytes[..SALT_END]);
        bytes[SALT_END..CHECK_END].copy_from_slice(&check);
        place.make_log(&bytes)?;
        Ok(Self::new(place.open_log()?, salt, PAGE, sequence))
    }

    /// Opens the log of a store file that knows it by `id` and has everything up to the sequence `applied`. Returns what
    /// the store file does not have yet, oldest first.
    pub(super) fn open(place: &dyn Place, id: u64, applied: u64) -> Result<(Self, Vec<Vec<u8>>), StoreError> {
        let foreign = StoreError::Corrupted {
            what: "the log beside it is missing or belongs to another store",
        };
        let bytes = match place.read_log() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(foreign),
            Err(error) => return Err(error.into()),
        };
        let Some(salt) = bytes.get(MAGIC.len()..SALT_END) else {
            return Err(foreign);
        };
        let mut log = Self::new(place.open_log()?, salt.try_into().unwrap_or_default(), PAGE, applied);
        if !bytes.starts_with(MAGIC) || bytes.len() != LOG_BYTES || log.id() != id {
            return Err(foreign);
        }
        if !is_sealed(&bytes) {
            return Err(StoreError::Corrupted {
                what: "the log beside it",
            });
        }
        let mut missing = Vec::new();
        let mut at = PAGE;
        let mut expected = None;
        while let Some((sequence, body)) = log.entry(bytes.get(at..).unwrap_or_default()) {
            if expected.is_some_and(|expected| expected != sequence) {
                break;
            }
            if sequence > log.sequence {
                if sequence != log.sequence + 1 {
                    return Err(StoreError::Corrupted {
                        what: "its log has a gap",
                    });
                }
                log.sequence = sequence;
                missing.push(body.to_vec());
            }
            expected = Some(sequence + 1);
            at += pages(ENTRY_HEADER + body.len());
        }
        if log.goes_on_behind(&bytes, at) {
            return Err(StoreError::Corrupted {
                what: "its log has a gap",
            });
        }
        log.at = at;
        Ok((log, missing))
    }

    /// By which the store file knows its log; never 0.
    pub(super) fn id(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.salt;
        u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1)
    }

    /// The sequence of the last entry.
    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Appends an entry; on return it is durable, or there was no room for it. After an error nothing is known about it.
    pub(super) fn append(&mut self, body: &[u8]) -> Result<Appended, StoreError> {
        let size = pages(ENTRY_HEADER + body.len());
        let Ok(length) = u32::try_from(body.len()) else {
            return Ok(Appended::Full);
        };
        if self.at + size > LOG_BYTES {
            return Ok(Appended::Full);
        }
        let sequence = self.sequence + 1;
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&self.hash(sequence, length, body));
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(body);
        bytes.resize(size, 0);
        self.file
            .write_all_at(&bytes, u64::try_from(self.at).unwrap_or(u64::MAX))?;
        self.file.sync_data()?;
        self.sequence = sequence;
        self.at += size;
        Ok(Appended::Durable)
    }

    /// Everything is in the store file, durable: entries begin at the front again.
    pub(super) const fn rewind(&mut self) {
        self.at = PAGE;
    }

    /// The entry at the front of some bytes, if there is a whole one.
    fn entry<'a>(&self, bytes: &'a [u8]) -> Option<(u64, &'a [u8])> {
        let (hash, rest) = bytes.split_first_chunk::<32>()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (sequence, length) = (u64::from_le_bytes(*sequence), u32::from_le_bytes(*length));
        let body = rest.get(..usize::try_from(length).ok()?)?;
        (self.hash(sequence, length, body) == *hash).then_some((sequence, body))
    }

    /// Whether a later entry than the last one that was read stands behind the place where reading stopped.
    fn goes_on_behind(&self, bytes: &[u8], at: usize) -> bool {
        let last = self.sequence + u64::try_from(LOG_BYTES / PAGE).unwrap_or(u64::MAX);
        let pages = bytes.get(at..).unwrap_or_default();
        (PAGE..pages.len()).step_by(PAGE).any(|at| {
            let rest = pages.get(at..).unwrap_or_default();
            // What peers wrote may look like an entry of any length: only what can be one is hashed.
            let sequence = rest.get(32..40).and_then(|bytes| bytes.try_into().ok());
            let sequence = sequence.map_or(0, u64::from_le_bytes);
            (self.sequence + 1..=last).contains(&sequence) && self.entry(rest).is_some()
        })
    }

    fn hash(&self, sequence: u64, length: u32, body: &[u8]) -> [u8; 32] {
        let hash = Sha256::new()
            .chain_update(self.salt)
            .chain_update(sequence.to_le_bytes())
            .chain_update(length.to_le_bytes())
            .chain_update(body);
        hash.finalize().into()
    }
}

/// Whether a log may be made where this was read: nothing is there, or a log without entries, which a crash left before
/// its store file knew of it.
fn is_free(found: io::Result<Vec<u8>>) -> io::Result<bool> {
    match found {
        Ok(bytes) => Ok(bytes.is_empty() || (bytes.starts_with(MAGIC) && is_blank(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether nothing was ever written behind the first page of a whole log.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.len() == LOG_BYTES && bytes.get(CHECK_END..).is_some_and(is_zero)
}

/// Whether magic and salt are what they were when the log was made; an older program did not say.
fn is_sealed(bytes: &[u8]) -> bool {
    let (Some(front), Some(check)) = (bytes.get(..SALT_END), bytes.get(SALT_END..CHECK_END)) else {
        return false;
    };
    is_zero(check) || Sha256::digest(front).as_slice() == check
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Bytes of the whole pages that so many bytes take.
const fn pages(bytes: usize) -> usize {
    bytes.div_ceil(PAGE) * PAGE
}
