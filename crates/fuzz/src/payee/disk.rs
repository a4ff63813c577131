//! What a payee has made durable, and what it still has in memory only.

use std::collections::BTreeMap;
use tombola_core::amount::Timestamp;
use tombola_core::key::{BookId, HoldId};
use tombola_core::payee::{HoldRow, WinnerRow};

/// Rows by their keys, written in the order of the calls; a winner's row is durable only when the harness says so.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) holds: BTreeMap<HoldId, HoldRow>,
    pub(super) winners: BTreeMap<BookId, WinnerRow>,
    /// Written with each row that is deleted.
    pub(super) asks_before: Timestamp,
    /// Rows that are being written.
    writing: BTreeMap<BookId, WinnerRow>,
}

impl Disk {
    pub(super) fn keep_hold(&mut self, row: HoldRow) {
        self.holds.insert(row.hold.body.id(), row);
    }

    pub(super) fn begin(&mut self, row: WinnerRow) {
        let before = self.writing.insert(row.claim.book.body.id(), row);
        assert_eq!(before, None, "one write of a book at a time");
    }

    /// Says whether a row was being written.
    pub(super) fn finish(&mut self, book: &BookId) -> bool {
        let row = self.writing.remove(book);
        if let Some(row) = row {
            self.keep_winner(row);
        }
        row.is_some()
    }

    pub(super) fn keep_winner(&mut self, row: WinnerRow) {
        let before = self.winners.insert(row.claim.book.body.id(), row);
        if let Some(before) = before {
            assert!(before.claim.through <= row.claim.through, "a row only grows");
            assert!(before.winners <= row.winners, "a row only grows");
        }
    }

    /// The power goes: what was being written may have been written or not.
    pub(super) fn crash(&mut self, was_written: impl Fn(&BookId) -> bool) {
        for (book, row) in std::mem::take(&mut self.writing) {
            if was_written(&book) {
                self.keep_winner(row);
            }
        }
    }

    /// Up to which index a book's winners are durable.
    pub(super) fn winners_through(&self, book: &BookId) -> u32 {
        self.winners.get(book).map_or(0, |row| row.claim.through)
    }
}
