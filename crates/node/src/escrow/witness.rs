//! The witness: a small file outside of the store that knows how far the ledger came.
//!
//! A store that is restored from a backup, or a disk that lost its last writes, looks like any other store. The witness
//! tells: it has the last head that was durable, signed by the escrow, so a store that is behind it has lost events that
//! parties may hold receipts for. It helps only if it does not share the store's fate: keep it on another disk or machine.
//!
//! It also has the epoch of serials and whether the escrow is recovering, and since when. Both must survive the
//! store: another backup may be restored in the midst of a recovery, and would bring an old answer with it.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `TOMBWITN` |
//! | 4 | version of this format, little-endian: 1 |
//! | rest | [`Witness`] and the escrow's signature over it, encoded as in the spec with the tag `tombola/witness/v1` |
//!
//! It is never ahead of what is durable: it is written after a commit, at most about a second later, and at a shutdown.

use crate::home::{Existing, write_file};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tombola_core::amount::Timestamp;
use tombola_core::claim::Head;
use tombola_core::codec::{Tag, decode, encode};
use tombola_core::key::{AccountKey, SecretKey, Signed, Tagged};
use tombola_core::limits::EPOCH_MAX;
use tombola_ledger::key::Key;
use tombola_ledger::row::{LogPlace, Row, Table, Totals};
use tombola_ledger::store::{DiskFault, Reader, StoreFault};

const MAGIC: [u8; 8] = *b"TOMBWITN";
const VERSION: u32 = 1;
/// Longest file that is read; a witness has some 200 bytes.
const FILE_BYTES_MAX: u64 = 4_096;

/// The last head that is known to be durable. Spec: G-12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(super) struct Witness {
    /// Whose ledger.
    pub escrow: AccountKey,
    /// Which of its writers.
    pub writer: u32,
    /// Height of the writer's log.
    pub height: u64,
    /// Its head there.
    pub head: Head,
    /// Ledger time of the event.
    pub time: Timestamp,
    /// How often the ledger was rolled back.
    pub epoch: u32,
    /// While it is recovering: the time of the last event that was not lost.
    pub recovering: Option<Timestamp>,
}

impl Tagged for Witness {
    const TAG: Tag = Tag::new("tombola/witness/v1");
}

/// What to do where the witness does not say that all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consent {
    /// Refuse to start.
    #[default]
    None,
    /// The operator says that the witness is new, or lost: begin one at the store's head.
    NewWitness,
    /// The operator says that the store was rolled back: raise the epoch and recover.
    Rollback,
}

/// Where a ledger's witness is, and what the operator consents to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessOptions {
    /// The file.
    pub path: PathBuf,
    /// For this start alone.
    pub consent: Consent,
}

impl WitnessOptions {
    /// A witness at a path, with no consent to anything.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            consent: Consent::None,
        }
    }
}

/// Why a ledger cannot be started beside its witness.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The store has lost events.
    #[error(
        "the store is behind its witness by {} events: it ends at height {height}, the witness has seen {witnessed} \
         (at {} ms since 1970); parties may hold what was lost",
        witnessed.saturating_sub(*height), time.0
    )]
    Behind {
        /// The last height in the store.
        height: u64,
        /// The last height that was durable once.
        witnessed: u64,
        /// Ledger time of the store's last event: what came after it is lost.
        restored_at: Timestamp,
        /// Ledger time of the last event that was lost.
        time: Timestamp,
    },
    /// The store has another event where the witness has seen one.
    #[error("the store has another history than its witness: at height {height} its head is {stored}, not {witnessed}")]
    AnotherHistory {
        /// Where they differ, at the latest.
        height: u64,
        /// The store's head there.
        stored: Head,
        /// The head that was durable once.
        witnessed: Head,
    },
    /// There is a ledger, and no witness.
    #[error("{} is missing, and the store has {height} events: whether it lost some is not known", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// Events in the store.
        height: u64,
    },
    /// The file is not this ledger's witness.
    #[error("{} is not the witness of this escrow's writer {writer}", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// The writer that was started.
        writer: u32,
    },
    /// The file has another format.
    #[error("{} has format {found}, this version reads {VERSION}: use the version that wrote it", path.display())]
    AnotherFormat {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// No epoch is left.
    #[error("the ledger was rolled back {EPOCH_MAX} times: no epoch is left for serials")]
    EpochsUsedUp,
    /// The system refused.
    #[error("{}: {kind}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        kind: DiskFault,
    },
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// What a start begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standpoint {
    /// The epoch of serials.
    pub(super) epoch: u32,
    /// While recovering: the time of the last event that was not lost.
    pub(super) recovering: Option<Timestamp>,
}

/// Compares a ledger's store with its witness, and says from where to go on.
///
/// # Errors
/// [`WitnessError`]; nothing is written then.
pub(super) async fn check<R: Reader>(
    store: &R,
    totals: &Totals,
    options: &WitnessOptions,
    writer: u32,
    key: &SecretKey,
) -> Result<Standpoint, WitnessError> {
    let found = read(&options.path, writer, key)?;
    let judged = judge(store, totals, options, found.as_ref(), writer).await;
    let (epoch, recovering) = match (judged, found, options.consent) {
        (Ok(()), Some(witness), _) => (witness.epoch, witness.recovering),
        (Ok(()), None, _) => (0, None),
        (Err(WitnessError::Behind { .. } | WitnessError::AnotherHistory { .. }), Some(witness), Consent::Rollback) => {
            if witness.epoch >= EPOCH_MAX {
                return Err(WitnessError::EpochsUsedUp);
            }
            // Rolled back in the midst of a recovery: what the earlier one lost is lost still.
            let since = witness.recovering.map_or(totals.time, |since| since.min(totals.time));
            (witness.epoch.saturating_add(1), Some(since))
        }
        (Err(error), _, _) => return Err(error),
    };
    Ok(Standpoint { epoch, recovering })
}

async fn judge<R: Reader>(
    store: &R,
    totals: &Totals,
    options: &WitnessOptions,
    found: Option<&Witness>,
    writer: u32,
) -> Result<(), WitnessError> {
    let Some(witness) = found else {
        let is_allowed = totals.height == 0 || options.consent == Consent::NewWitness;
        return if is_allowed {
            Ok(())
        } else {
            Err(WitnessError::Missing {
                path: options.path.clone(),
                height: totals.height,
            })
        };
    };
    if totals.height < witness.height {
        return Err(WitnessError::Behind {
            height: totals.height,
            witnessed: witness.height,
            restored_at: totals.time,
            time: witness.time,
        });
    }
    let stored = head_at(store, writer, witness.height).await?;
    if stored != witness.head {
        return Err(WitnessError::AnotherHistory {
            height: witness.height,
            stored,
            witnessed: witness.head,
        });
    }
    Ok(())
}

/// The head of a log after an event, from the event itself; zeros before the first one.
async fn head_at<R: Reader>(store: &R, writer: u32, height: u64) -> Result<Head, StoreFault> {
    if height == 0 {
        return Ok(Head([0; 32]));
    }
    let stored = store
        .load(&[Key::event(LogPlace { writer, height })])
        .await?
        .pop()
        .flatten();
    match stored.map(|stored| Row::decode(Table::Events, &stored.bytes)) {
        Some(Ok(Row::Events(event))) => Ok(event.head()),
        _ => Err(StoreFault::DamagedRow(Table::Events)),
    }
}

/// Reads a witness; none if there is no file.
fn read(path: &Path, writer: u32, key: &SecretKey) -> Result<Option<Witness>, WitnessError> {
    let io = |error: std::io::Error| WitnessError::Io {
        path: path.to_owned(),
        kind: DiskFault::from(&error),
    };
    let foreign = || WitnessError::Foreign {
        path: path.to_owned(),
        writer,
    };
    match path.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => return Err(foreign()),
        Ok(_) => {}
    }
    let bytes = std::fs::read(path).map_err(io)?;
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(foreign)?;
    let (version, body) = rest.split_first_chunk::<4>().ok_or_else(foreign)?;
    if *magic != MAGIC {
        return Err(foreign());
    }
    let found = u32::from_le_bytes(*version);
    if found != VERSION {
        return Err(WitnessError::AnotherFormat {
            path: path.to_owned(),
            found,
        });
    }
    let signed: Signed<Witness> = decode(body).map_err(|_| foreign())?;
    let is_signed = key.account().check().is_ok_and(|key| signed.verify(&key).is_ok());
    let witness = signed.body;
    if !is_signed || witness.escrow != key.account() || witness.writer != writer {
        return Err(foreign());
    }
    Ok(Some(witness))
}

/// Writes a ledger's witness as it goes on.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    writer: u32,
    key: SecretKey,
    standpoint: Standpoint,
    written: Option<(u64, Standpoint)>,
}

impl Keeper {
    pub(super) fn new(path: PathBuf, writer: u32, key: &SecretKey, standpoint: Standpoint) -> Self {
        Self {
            path,
            writer,
            key: SecretKey::from_seed(&key.seed()),
            standpoint,
            written: None,
        }
    }

    pub(super) const fn writer(&self) -> u32 {
        self.writer
    }

    /// The recovery has ended; the next write says so.
    pub(super) const fn end_recovery(&mut self) {
        self.standpoint.recovering = None;
    }

    /// Writes what is durable, unless the file says so already. Blocks.
    pub(super) fn write(&mut self, durable: &Totals) -> Result<(), WitnessError> {
        let news = Some((durable.height, self.standpoint));
        if self.written == news {
            return Ok(());
        }
        let witness = Witness {
            escrow: self.key.account(),
            writer: self.writer,
            height: durable.height,
            head: durable.head,
            time: durable.time,
            epoch: self.standpoint.epoch,
            recovering: self.standpoint.recovering,
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&encode(&Signed::new(witness, &self.key)));
        write_file(&self.path, &bytes, 0o600, Existing::Replace).map_err(|error| WitnessError::Io {
            path: self.path.clone(),
            kind: DiskFault::from(&error),
        })?;
        self.written = news;
        Ok(())
    }
}
