//! The rows of one batch: as loaded, and as its commands have changed them so far.

use crate::key::Key;
use crate::row::{Record, Row, Table};
use crate::store::{Change, Reader, StoreFault, Stored};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use tombola_core::reject::Reject;

/// Why a decision did not come to its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A row must be loaded first; then the decision is made again from its start.
    Miss(Key),
    /// A row that another one points at is not there.
    Damaged(Table),
    /// The rules say no.
    No(Reject),
}

impl From<Reject> for Stop {
    fn from(reject: Reject) -> Self {
        Self::No(reject)
    }
}

#[derive(Debug)]
struct Cell {
    /// Version in the store; 0 if it has no such row.
    before: u64,
    /// Version now.
    version: u64,
    /// The event that changed it last: all changes of one event are one version.
    touched: u64,
    row: Option<Row>,
}

impl Cell {
    fn touch(&mut self, event: u64) {
        if self.touched != event {
            self.touched = event;
            self.version = self.version.saturating_add(1);
        }
    }
}

/// Loaded rows with changes on top. All reads of a decision come before its first write.
#[derive(Debug, Default)]
pub(crate) struct View {
    cells: HashMap<Key, Cell>,
    writes: u64,
    /// Number of the decision being made, which is an event at most.
    event: u64,
}

impl View {
    /// Begins a decision.
    pub(crate) const fn begin(&mut self) {
        self.event = self.event.saturating_add(1);
    }

    /// Loads those of the keys that are not loaded yet.
    pub(crate) async fn load<R: Reader>(&mut self, reader: &R, keys: &[Key]) -> Result<(), StoreFault> {
        let mut missing: Vec<Key> = keys.iter().filter(|k| !self.cells.contains_key(*k)).copied().collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        let rows = reader.load(&missing).await?;
        invariant!(rows.len() == missing.len(), "a store answers every key");
        for (key, stored) in missing.into_iter().zip(rows) {
            let cell = match stored {
                None => Cell {
                    before: 0,
                    version: 0,
                    touched: 0,
                    row: None,
                },
                Some(stored) => Cell {
                    before: stored.version,
                    version: stored.version,
                    touched: 0,
                    row: Some(
                        Row::decode(key.table(), &stored.bytes).map_err(|_| StoreFault::DamagedRow(key.table()))?,
                    ),
                },
            };
            self.cells.insert(key, cell);
        }
        Ok(())
    }

    /// A row, if there is one.
    pub(crate) fn find<T: Record>(&self, key: Key) -> Result<Option<&T>, Stop> {
        match self.cells.get(&key) {
            None => Err(Stop::Miss(key)),
            Some(cell) => match &cell.row {
                None => Ok(None),
                Some(row) => T::of(row).map(Some).ok_or_else(|| Stop::Damaged(key.table())),
            },
        }
    }

    /// A row that must be there because another one points at it.
    pub(crate) fn need<T: Record>(&self, key: Key) -> Result<&T, Stop> {
        self.find(key)?.ok_or_else(|| Stop::Damaged(key.table()))
    }

    /// Whether a row was loaded.
    pub(crate) fn peek<T: Record>(&self, key: Key) -> Option<&T> {
        self.cells.get(&key).and_then(|cell| cell.row.as_ref()).and_then(T::of)
    }

    /// Credits of an account that this batch appended.
    pub(crate) fn new_credits(&self, account: u64) -> impl Iterator<Item = Key> {
        let cells = self
            .cells
            .iter()
            .filter(|(_, cell)| cell.before == 0 && cell.row.is_some());
        let keys = cells.map(|(key, _)| *key);
        keys.filter(move |key| key.table() == Table::Credits && key.first_number() == account)
    }

    /// The version of a loaded row; 0 if there is none.
    pub(crate) fn version(&self, key: Key) -> u64 {
        self.cells.get(&key).map_or(0, |cell| cell.version)
    }

    /// Changes a row in place. It was read before, so it is there.
    pub(crate) fn edit<T: Record>(&mut self, key: Key, change: impl FnOnce(&mut T)) {
        let (cell, event) = (self.cells.get_mut(&key), self.event);
        let row = cell.and_then(|cell| {
            cell.touch(event);
            cell.row.as_mut().and_then(T::of_mut)
        });
        invariant!(row.is_some(), "{key:?} is read before it is changed");
        if let Some(row) = row {
            change(row);
        }
        self.writes = self.writes.saturating_add(1);
    }

    /// Writes a row that is new, or that is replaced whole after it was read.
    pub(crate) fn put(&mut self, key: Key, row: Row) {
        match self.cells.entry(key) {
            Entry::Occupied(mut cell) => {
                let cell = cell.get_mut();
                cell.touch(self.event);
                cell.row = Some(row);
            }
            // Numbered by the ledger, so there was no such row: the store checks that in the commit.
            Entry::Vacant(cell) => {
                cell.insert(Cell {
                    before: 0,
                    version: 1,
                    touched: self.event,
                    row: Some(row),
                });
            }
        }
        self.writes = self.writes.saturating_add(1);
    }

    /// Removes a row that was read before.
    pub(crate) fn remove(&mut self, key: Key) {
        let (cell, event) = (self.cells.get_mut(&key), self.event);
        invariant!(cell.is_some(), "{key:?} is read before it is removed");
        if let Some(cell) = cell {
            cell.touch(event);
            cell.row = None;
        }
        self.writes = self.writes.saturating_add(1);
    }

    /// How many writes there were: a decision that stops must not have made any.
    pub(crate) const fn writes(&self) -> u64 {
        self.writes
    }

    /// What was read and stays as it is, in key order: what other writers must not have changed meanwhile. Rows that
    /// never change once they are there need no such check.
    pub(crate) fn reads(&self) -> Vec<(Key, u64)> {
        let is_fixed = |key: &Key, cell: &Cell| {
            let fixed = matches!(
                key.table(),
                Table::Header | Table::AccountIds | Table::HoldIds | Table::Answers | Table::Deposits | Table::Events
            );
            fixed && cell.row.is_some()
        };
        let kept = self
            .cells
            .iter()
            .filter(|(key, cell)| cell.version == cell.before && !is_fixed(key, cell));
        let mut reads: Vec<(Key, u64)> = kept.map(|(key, cell)| (*key, cell.before)).collect();
        reads.sort_unstable();
        reads
    }

    /// What to commit, in key order.
    pub(crate) fn into_changes(self) -> Vec<Change> {
        let mut changes: Vec<Change> = self
            .cells
            .into_iter()
            .filter(|(_, cell)| cell.version != cell.before && (cell.before > 0 || cell.row.is_some()))
            .map(|(key, cell)| Change {
                key,
                before: cell.before,
                after: cell.row.map(|row| Stored {
                    version: cell.version,
                    bytes: row.encode(),
                }),
            })
            .collect();
        changes.sort_unstable_by_key(|change| change.key);
        changes
    }
}
