//! The store of an escrow, whichever it was told to use.

use crate::postgres_store::{PostgresSnapshot, PostgresStore};
use crate::redb_store::{RedbSnapshot, RedbStore};
use tombola_ledger::key::Key;
use tombola_ledger::store::{ClockReading, Commit, Range, Reader, Sharing, Snapshot, Store, StoreFault, Stored};

/// A file of one process, or a database that several share.
#[derive(Debug, Clone)]
pub enum EscrowStore {
    /// On PostgreSQL.
    Postgres(PostgresStore),
    /// In a file.
    Redb(RedbStore),
}

/// The rows of one moment of an [`EscrowStore`].
#[derive(Debug)]
pub enum EscrowSnapshot {
    /// Of a database.
    Postgres(PostgresSnapshot),
    /// Of a file.
    Redb(RedbSnapshot),
}

impl Reader for EscrowStore {
    async fn load(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreFault> {
        match self {
            Self::Postgres(store) => store.load(keys).await,
            Self::Redb(store) => store.load(keys).await,
        }
    }

    async fn scan(&self, range: &Range) -> Result<Vec<(Key, Stored)>, StoreFault> {
        match self {
            Self::Postgres(store) => store.scan(range).await,
            Self::Redb(store) => store.scan(range).await,
        }
    }
}

impl Store for EscrowStore {
    type Snapshot = EscrowSnapshot;

    fn sharing(&self) -> Sharing {
        match self {
            Self::Postgres(store) => store.sharing(),
            Self::Redb(store) => store.sharing(),
        }
    }

    async fn snapshot(&self) -> Result<EscrowSnapshot, StoreFault> {
        Ok(match self {
            Self::Postgres(store) => EscrowSnapshot::Postgres(store.snapshot().await?),
            Self::Redb(store) => EscrowSnapshot::Redb(store.snapshot().await?),
        })
    }

    async fn snapshot_to_write(&self) -> Result<EscrowSnapshot, StoreFault> {
        Ok(match self {
            Self::Postgres(store) => EscrowSnapshot::Postgres(store.snapshot_to_write().await?),
            Self::Redb(store) => EscrowSnapshot::Redb(store.snapshot_to_write().await?),
        })
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreFault> {
        match self {
            Self::Postgres(store) => store.commit(commit).await,
            Self::Redb(store) => store.commit(commit).await,
        }
    }
}

impl Reader for EscrowSnapshot {
    async fn load(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreFault> {
        match self {
            Self::Postgres(snapshot) => snapshot.load(keys).await,
            Self::Redb(snapshot) => snapshot.load(keys).await,
        }
    }

    async fn scan(&self, range: &Range) -> Result<Vec<(Key, Stored)>, StoreFault> {
        match self {
            Self::Postgres(snapshot) => snapshot.scan(range).await,
            Self::Redb(snapshot) => snapshot.scan(range).await,
        }
    }
}

impl Snapshot for EscrowSnapshot {
    fn clock(&self) -> Option<ClockReading> {
        match self {
            Self::Postgres(snapshot) => snapshot.clock(),
            Self::Redb(snapshot) => snapshot.clock(),
        }
    }
}
