//! Compares every row of every table with what the log says it must be.

use super::replay::Replay;
use super::{Finding, PAGE_ROWS};
use crate::key::Key;
use crate::pages::Pages;
use crate::row::{Row, Table};
use crate::store::{Range, Reader, StoreFault};
use std::collections::{BTreeMap, HashMap};
use tombola_core::amount::Timestamp;
use tombola_core::codec::{Tag, tagged_hash_of};

/// How many rows of each table were compared.
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<Table, u64>);

impl Counts {
    /// Of one table.
    pub(super) fn of(&self, table: Table) -> u64 {
        self.0.get(&table).copied().unwrap_or(0)
    }

    /// Of all tables.
    pub(super) fn sum(&self) -> u64 {
        self.0.values().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// The rows of one table, as the log says: a digest of each, as they may be as many as events.
#[derive(Debug, Default)]
pub(super) struct Expected(HashMap<Key, (Digest, Presence)>);

/// Of a row's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(row: &Row) -> Self {
        Self::of_bytes(&row.encode())
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        Self(tagged_hash_of(ROW_TAG, bytes))
    }
}

/// Whether a row must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Needed,
    /// So old that it may have been forgotten. Spec: G-08.
    Forgettable,
}

impl Expected {
    /// A row that must be there.
    pub(super) fn put(&mut self, key: Key, row: &Row) {
        self.put_as(key, Digest::of(row), Presence::Needed);
    }

    /// A row that must be there, or may be.
    pub(super) fn put_as(&mut self, key: Key, row: Digest, presence: Presence) {
        self.0.insert(key, (row, presence));
    }

    /// Takes a row out; says whether it is the one that is stored.
    fn take(&mut self, key: &Key, stored: &[u8]) -> bool {
        self.0
            .remove(key)
            .is_some_and(|(row, _)| row == Digest::of_bytes(stored))
    }

    /// What nobody took out and must be there, in key order.
    fn missing(self) -> Vec<Key> {
        let needed = self.0.into_iter();
        let needed = needed.filter(|(_, (_, presence))| *presence == Presence::Needed);
        let mut keys: Vec<Key> = needed.map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys
    }
}

/// Compares all tables; `now` is the last sign of life of any writer, by which rows are old enough to be forgotten.
pub(super) async fn compare_all<R: Reader>(
    reader: &R,
    replay: &mut Replay<'_>,
    now: Timestamp,
) -> Result<Counts, StoreFault> {
    let mut counts = Counts::default();
    for table in Table::ALL {
        let Some(expected) = replay.expected(*table, now) else {
            continue;
        };
        let count = compare(reader, replay, *table, expected).await?;
        counts.0.insert(*table, count);
    }
    Ok(counts)
}

/// Compares one table; says how many rows it has.
async fn compare<R: Reader>(
    reader: &R,
    replay: &mut Replay<'_>,
    table: Table,
    mut expected: Expected,
) -> Result<u64, StoreFault> {
    let mut count = 0u64;
    let mut pages = Pages::of(Range {
        from: Key::from_bytes(table, &[0; 8]),
        to: None,
        limit: PAGE_ROWS,
    });
    while let Some(page) = pages.next(reader).await? {
        for (key, stored) in page {
            count = count.saturating_add(1);
            if !expected.take(&key, &stored.bytes) {
                replay.find(Finding::row(key));
            }
        }
    }
    for key in expected.missing() {
        replay.find(Finding::row(key));
    }
    Ok(count)
}

/// Of what is never kept: only two digests of one audit are compared.
const ROW_TAG: Tag = Tag::new("tombola/audited-row");
