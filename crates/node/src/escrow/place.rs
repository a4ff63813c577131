//! Where an escrow keeps its ledger, and whether that place's clock agrees with this machine's.

use crate::clock;
use std::fmt;
use std::path::PathBuf;
use tokio::runtime::Handle;
use tombola_core::amount::SECOND_MS;
use tombola_ledger::ledger::{self, LedgerFault};
use tombola_ledger::store::{Snapshot, Store, StoreFault};
use tombola_store::escrow_store::EscrowStore;
use tombola_store::postgres_store::PostgresStore;
use tombola_store::redb_store::RedbStore;

/// How far this machine's clock and a shared store's may be apart: the writers of one ledger then agree within twice
/// that, which is far below every deadline of a hold.
pub const CLOCK_APART_MAX_MS: u64 = 5 * SECOND_MS;

/// Where an escrow keeps its ledger.
#[derive(Debug, Clone)]
pub enum StorePlace {
    /// In a PostgreSQL database, which other escrow processes may share.
    Database(DatabasePlace),
    /// In a file of its own; made if it is not there.
    File(PathBuf),
}

impl From<PathBuf> for StorePlace {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// A database, and who this process is in it.
#[derive(Clone)]
pub struct DatabasePlace {
    /// Everything that connecting takes, password included.
    address: String,
    writer: u32,
}

impl DatabasePlace {
    /// The database of an address, as [`PostgresStore::open`] takes it, written to as this writer.
    #[must_use]
    pub const fn new(address: String, writer: u32) -> Self {
        Self { address, writer }
    }

    /// Everything that connecting takes. Not to be shown: it may have a password.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl fmt::Debug for DatabasePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address has a password in it.
        f.debug_struct("DatabasePlace")
            .field("writer", &self.writer)
            .finish_non_exhaustive()
    }
}

impl StorePlace {
    /// The number of the writer that this process is.
    #[must_use]
    pub const fn writer(&self) -> u32 {
        match self {
            Self::Database(database) => database.writer,
            Self::File(_) => 0,
        }
    }

    /// Opens the store. Blocks for a file.
    pub(super) async fn open(&self) -> Result<EscrowStore, StoreFault> {
        Ok(match self {
            Self::Database(database) => {
                EscrowStore::Postgres(PostgresStore::open(database.address(), Handle::current()).await?)
            }
            Self::File(path) => EscrowStore::Redb(RedbStore::open(path)?),
        })
    }
}

/// Compares this machine's clock with the store's, if that has one of its own.
///
/// # Errors
/// [`LedgerFault::ClockApart`] if they are more than [`CLOCK_APART_MAX_MS`] apart, [`LedgerFault::Store`].
pub(super) async fn check_clock<S: Store>(store: &S) -> Result<(), LedgerFault> {
    let here = clock::now();
    match store.snapshot().await?.clock() {
        Some(there) => ledger::check_clock(here, there, CLOCK_APART_MAX_MS),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_database_has_no_password() {
        let place = DatabasePlace::new("postgres://u:secret@h/d".to_owned(), 3);
        let shown = format!("{:?}", StorePlace::Database(place));
        assert!(shown.contains('3') && !shown.contains("secret"), "{shown}");
    }
}
