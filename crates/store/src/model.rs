//! The model: a sorted map. What it says a store must do, every other store must do.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tombola_ledger::key::Key;
use tombola_ledger::row::Table;
use tombola_ledger::store::{ClockReading, Commit, Range, Reader, Sharing, Snapshot, Store, StoreFault, Stored};

type Rows = BTreeMap<Key, Stored>;

/// Rows in memory; clones share them.
#[derive(Debug, Clone)]
pub struct ModelStore {
    rows: Arc<Mutex<Arc<Rows>>>,
    sharing: Sharing,
}

impl Default for ModelStore {
    fn default() -> Self {
        Self::new(Sharing::Sole)
    }
}

impl ModelStore {
    /// An empty store for one writer or for several.
    #[must_use]
    pub fn new(sharing: Sharing) -> Self {
        let rows = Arc::default();
        Self { rows, sharing }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Rows>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything in it, for comparing.
    #[must_use]
    pub fn rows(&self) -> Vec<(Key, Stored)> {
        let rows = self.lock();
        rows.iter().map(|(key, stored)| (*key, stored.clone())).collect()
    }
}

impl Reader for ModelStore {
    async fn load(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreFault> {
        let rows = Arc::clone(&self.lock());
        Ok(load(&rows, keys))
    }

    async fn scan(&self, range: &Range) -> Result<Vec<(Key, Stored)>, StoreFault> {
        let rows = Arc::clone(&self.lock());
        Ok(scan(&rows, range))
    }
}

impl Store for ModelStore {
    type Snapshot = ModelSnapshot;

    fn sharing(&self) -> Sharing {
        self.sharing
    }

    async fn snapshot(&self) -> Result<ModelSnapshot, StoreFault> {
        Ok(ModelSnapshot(Arc::clone(&self.lock())))
    }

    async fn snapshot_to_write(&self) -> Result<ModelSnapshot, StoreFault> {
        self.snapshot().await
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreFault> {
        let Commit { changes, reads, .. } = commit;
        let mut rows = self.lock();
        let changed = changes.iter().map(|change| (&change.key, change.before));
        for (key, before) in changed.chain(reads.iter().map(|(key, version)| (key, *version))) {
            let version = rows.get(key).map_or(0, |stored| stored.version);
            if version != before {
                return Err(StoreFault::Conflict(key.table()));
            }
        }
        // Copied only while a snapshot holds on to the rows as they were.
        let rows = Arc::make_mut(&mut rows);
        for change in changes {
            match change.after {
                Some(stored) => rows.insert(change.key, stored),
                None => rows.remove(&change.key),
            };
        }
        Ok(())
    }
}

/// The rows of one moment.
#[derive(Debug, Clone)]
pub struct ModelSnapshot(Arc<Rows>);

impl Reader for ModelSnapshot {
    async fn load(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreFault> {
        Ok(load(&self.0, keys))
    }

    async fn scan(&self, range: &Range) -> Result<Vec<(Key, Stored)>, StoreFault> {
        Ok(scan(&self.0, range))
    }
}

impl Snapshot for ModelSnapshot {
    fn clock(&self) -> Option<ClockReading> {
        None
    }
}

fn load(rows: &Rows, keys: &[Key]) -> Vec<Option<Stored>> {
    keys.iter().map(|key| rows.get(key).cloned()).collect()
}

fn scan(rows: &Rows, range: &Range) -> Vec<(Key, Stored)> {
    let table: Table = range.from.table();
    let end = range.to.map_or(Bound::Unbounded, Bound::Included);
    if range.to.is_some_and(|to| to < range.from) {
        return Vec::new();
    }
    rows.range((Bound::Included(range.from), end))
        .take_while(|(key, _)| key.table() == table)
        .take(range.limit)
        .map(|(key, stored)| (*key, stored.clone()))
        .collect()
}
