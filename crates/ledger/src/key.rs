//! Where rows are: a table and an ordered key. Dense row numbers come first, so that a B-tree appends.

use crate::row::Table;
use std::fmt;
use tombola_core::amount::Timestamp;
use tombola_core::codec::{Tag, tagged_hash};
use tombola_core::key::{AccountKey, BookId, HoldId, RequestId};
use tombola_core::message::Reference;

/// The longest key: a connection key and a request id.
pub const KEY_BYTES_MAX: usize = 48;

/// Names one row. Numbers are big-endian, so that keys order as the numbers do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    table: Table,
    bytes: [u8; KEY_BYTES_MAX],
    len: u8,
}

impl Key {
    fn new(table: Table, parts: &[&[u8]]) -> Self {
        let mut bytes = [0u8; KEY_BYTES_MAX];
        let mut len = 0u8;
        for (slot, byte) in bytes.iter_mut().zip(parts.iter().copied().flatten()) {
            *slot = *byte;
            len = len.saturating_add(1);
        }
        Self { table, bytes, len }
    }

    /// A key as a store read it back.
    ///
    /// It is cut at [`KEY_BYTES_MAX`]; no key is longer.
    #[must_use]
    pub fn from_bytes(table: Table, bytes: &[u8]) -> Self {
        Self::new(table, &[bytes])
    }

    /// The one header of a store.
    #[must_use]
    pub fn header() -> Self {
        Self::new(Table::Header, &[&[0]])
    }

    /// The one row of totals.
    #[must_use]
    pub fn totals() -> Self {
        Self::new(Table::Totals, &[&[0]])
    }

    /// The row number of an account.
    #[must_use]
    pub fn account_id(account: &AccountKey) -> Self {
        Self::new(Table::AccountIds, &[&account.0])
    }

    /// An account.
    #[must_use]
    pub fn account(row: u64) -> Self {
        Self::new(Table::Accounts, &[&row.to_be_bytes()])
    }

    /// The row number of a hold.
    #[must_use]
    pub fn hold_id(hold: &HoldId) -> Self {
        Self::new(Table::HoldIds, &[&hold.0])
    }

    /// A hold.
    #[must_use]
    pub fn hold(row: u64) -> Self {
        Self::new(Table::Holds, &[&row.to_be_bytes()])
    }

    /// An open hold of an account, by serial.
    #[must_use]
    pub fn open_hold(account: u64, serial: u64) -> Self {
        Self::new(Table::OpenHolds, &[&account.to_be_bytes(), &serial.to_be_bytes()])
    }

    /// An open hold, by the time it can be claimed until.
    #[must_use]
    pub fn due(redeem_by: Timestamp, hold: u64) -> Self {
        Self::new(Table::Due, &[&redeem_by.0.to_be_bytes(), &hold.to_be_bytes()])
    }

    /// A book of which something was paid.
    #[must_use]
    pub fn book(hold: u64, book: &BookId) -> Self {
        Self::new(Table::Books, &[&hold.to_be_bytes(), &book.0])
    }

    /// The kept answer to a request.
    #[must_use]
    pub fn answer(connection: &AccountKey, request: &RequestId) -> Self {
        Self::new(Table::Answers, &[&connection.0, &request.0])
    }

    /// A kept answer by its age; the height of its event makes it unique.
    #[must_use]
    pub fn answer_age(at: Timestamp, height: u64) -> Self {
        Self::new(Table::AnswerAges, &[&at.0.to_be_bytes(), &height.to_be_bytes()])
    }

    /// A deposit by its reference, hashed to a fixed size.
    #[must_use]
    pub fn deposit(reference: &Reference) -> Self {
        Self::new(Table::Deposits, &[&tagged_hash(REFERENCE_TAG, reference)])
    }

    /// An event of the log.
    #[must_use]
    pub fn event(height: u64) -> Self {
        Self::new(Table::Events, &[&height.to_be_bytes()])
    }

    /// An entry of an account's statement.
    #[must_use]
    pub fn statement(account: u64, sequence: u64) -> Self {
        Self::new(Table::Statements, &[&account.to_be_bytes(), &sequence.to_be_bytes()])
    }

    /// The next key of the same length; none after the last one.
    #[must_use]
    pub fn successor(&self) -> Option<Self> {
        let mut next = *self;
        for byte in next.bytes.iter_mut().take(usize::from(self.len)).rev() {
            let (sum, overflowed) = byte.overflowing_add(1);
            *byte = sum;
            if !overflowed {
                return Some(next);
            }
        }
        None
    }

    /// In which table.
    #[must_use]
    pub const fn table(&self) -> Table {
        self.table
    }

    /// The key within its table.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The number of a row whose key begins or ends with it: the last 8 bytes.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        let tail = self.as_bytes().last_chunk::<8>();
        tail.map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// The number that a key begins with.
    #[must_use]
    pub fn first_number(&self) -> u64 {
        let head = self.as_bytes().first_chunk::<8>();
        head.map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}[", self.table)?;
        for byte in self.as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("]")
    }
}

const REFERENCE_TAG: Tag = Tag::new("tombola/reference/v1");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_their_numbers_and_know_what_follows() {
        assert!(Key::event(255) < Key::event(256));
        assert!(Key::due(Timestamp(1), u64::MAX) < Key::due(Timestamp(2), 0));
        assert_eq!(Key::event(255).successor(), Some(Key::event(256)));
        assert_eq!(Key::event(u64::MAX).successor(), None);
        assert_eq!(Key::statement(7, 9).last_number(), 9);
        assert_eq!(Key::book(7, &BookId([1; 32])).first_number(), 7);
    }

    #[test]
    fn a_key_reads_back_as_it_was_written() {
        let key = Key::answer(&AccountKey([3; 32]), &RequestId([4; 16]));
        assert_eq!(key.as_bytes().len(), KEY_BYTES_MAX);
        assert_eq!(Key::from_bytes(key.table(), key.as_bytes()), key);
    }
}
