//! Where rows are: a table and an ordered key. Rows of one payer begin with its number, so that they lie together; no
//! key is shorter than the eight bytes by which a store with several servers may spread rows.

use crate::row::{LogPlace, Table};
use bincode::{Decode, Encode};
use std::fmt;
use tombola_core::amount::Timestamp;
use tombola_core::codec::{Tag, tagged_hash};
use tombola_core::key::{AccountKey, BookId, HoldId, RequestId};
use tombola_core::message::Reference;

/// Where a hold is: with its payer, by its serial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, serde::Serialize)]
pub struct HoldKey {
    /// Row of the payer's account.
    pub payer: u64,
    /// The hold's serial, unique for the payer.
    pub serial: u64,
}

/// The longest key: a connection key and a request id, or a hold's and a book's.
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
        Self::new(Table::Header, &[&[0; 8]])
    }

    /// A writer's sums and the end of its log.
    #[must_use]
    pub fn totals(writer: u32) -> Self {
        Self::new(Table::Totals, &[&u64::from(writer).to_be_bytes()])
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

    /// Where a hold is, by its id.
    #[must_use]
    pub fn hold_id(hold: &HoldId) -> Self {
        Self::new(Table::HoldIds, &[&hold.0])
    }

    /// A hold.
    #[must_use]
    pub fn hold(hold: HoldKey) -> Self {
        Self::new(Table::Holds, &[&hold.payer.to_be_bytes(), &hold.serial.to_be_bytes()])
    }

    /// An open hold of an account, by serial.
    #[must_use]
    pub fn open_hold(hold: HoldKey) -> Self {
        Self::new(
            Table::OpenHolds,
            &[&hold.payer.to_be_bytes(), &hold.serial.to_be_bytes()],
        )
    }

    /// An open hold, by the time it can be claimed until.
    #[must_use]
    pub fn due(redeem_by: Timestamp, hold: HoldKey) -> Self {
        let (payer, serial) = (hold.payer.to_be_bytes(), hold.serial.to_be_bytes());
        Self::new(Table::Due, &[&redeem_by.0.to_be_bytes(), &payer, &serial])
    }

    /// A hold that has ended, by the time it did.
    #[must_use]
    pub fn ended(at: Timestamp, hold: HoldKey) -> Self {
        let (payer, serial) = (hold.payer.to_be_bytes(), hold.serial.to_be_bytes());
        Self::new(Table::Ended, &[&at.0.to_be_bytes(), &payer, &serial])
    }

    /// A book of which something was paid.
    #[must_use]
    pub fn book(hold: HoldKey, book: &BookId) -> Self {
        let (payer, serial) = (hold.payer.to_be_bytes(), hold.serial.to_be_bytes());
        Self::new(Table::Books, &[&payer, &serial, &book.0])
    }

    /// A credit that waits to be folded into its account.
    #[must_use]
    pub fn credit(account: u64, place: LogPlace) -> Self {
        let (writer, height) = (place.writer.to_be_bytes(), place.height.to_be_bytes());
        Self::new(Table::Credits, &[&account.to_be_bytes(), &writer, &height])
    }

    /// The kept answer to a request.
    #[must_use]
    pub fn answer(connection: &AccountKey, request: &RequestId) -> Self {
        Self::new(Table::Answers, &[&connection.0, &request.0])
    }

    /// A kept answer by its age; the place of its event makes it unique.
    #[must_use]
    pub fn answer_age(at: Timestamp, place: LogPlace) -> Self {
        let (writer, height) = (place.writer.to_be_bytes(), place.height.to_be_bytes());
        Self::new(Table::AnswerAges, &[&at.0.to_be_bytes(), &writer, &height])
    }

    /// A deposit by its reference, hashed to a fixed size.
    #[must_use]
    pub fn deposit(reference: &Reference) -> Self {
        Self::new(Table::Deposits, &[&tagged_hash(REFERENCE_TAG, reference)])
    }

    /// An event of a writer's log.
    #[must_use]
    pub fn event(place: LogPlace) -> Self {
        let writer = u64::from(place.writer).to_be_bytes();
        Self::new(Table::Events, &[&writer, &place.height.to_be_bytes()])
    }

    /// An entry of an account's statement.
    #[must_use]
    pub fn statement(account: u64, sequence: u64) -> Self {
        Self::new(Table::Statements, &[&account.to_be_bytes(), &sequence.to_be_bytes()])
    }

    /// A withdrawal.
    #[must_use]
    pub fn withdrawal(number: u64) -> Self {
        Self::new(Table::Withdrawals, &[&number.to_be_bytes()])
    }

    /// A withdrawal that is neither paid nor failed.
    #[must_use]
    pub fn pending_withdrawal(number: u64) -> Self {
        Self::new(Table::PendingWithdrawals, &[&number.to_be_bytes()])
    }

    /// A withdrawal that is paid or failed, by when.
    #[must_use]
    pub fn settled_withdrawal(at: Timestamp, number: u64) -> Self {
        let parts = [at.0.to_be_bytes(), number.to_be_bytes()];
        Self::new(Table::SettledWithdrawals, &[&parts[0], &parts[1]])
    }

    /// An account's payout policy.
    #[must_use]
    pub fn payout(account: u64) -> Self {
        Self::new(Table::Payouts, &[&account.to_be_bytes()])
    }

    /// How a payee's credits are divided.
    #[must_use]
    pub fn split(payee: u64) -> Self {
        Self::new(Table::Splits, &[&payee.to_be_bytes()])
    }

    /// A signer of an account.
    #[must_use]
    pub fn signer(account: u64, signer: &AccountKey) -> Self {
        Self::new(Table::Signers, &[&account.to_be_bytes(), &signer.0])
    }

    /// Fees that were collected, by the reference, hashed to a fixed size.
    #[must_use]
    pub fn collection(reference: &Reference) -> Self {
        Self::new(Table::Collections, &[&tagged_hash(REFERENCE_TAG, reference)])
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

    /// The hold that a key of an open, due or ended hold ends with.
    #[must_use]
    pub fn last_hold(&self) -> HoldKey {
        let before = self.as_bytes().split_last_chunk::<8>().map(|(before, _)| before);
        let payer = before.and_then(|bytes| bytes.last_chunk::<8>());
        HoldKey {
            payer: payer.map_or(0, |bytes| u64::from_be_bytes(*bytes)),
            serial: self.last_number(),
        }
    }

    /// The place of an event that a key of a credit or an event ends with.
    #[must_use]
    pub fn last_place(&self) -> LogPlace {
        let before = self.as_bytes().split_last_chunk::<8>().map(|(before, _)| before);
        let writer = before.and_then(|bytes| bytes.last_chunk::<4>());
        LogPlace {
            writer: writer.map_or(0, |bytes| u32::from_be_bytes(*bytes)),
            height: self.last_number(),
        }
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

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl serde::Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}[{self}]", self.table)
    }
}

const REFERENCE_TAG: Tag = Tag::new("tombola/reference/v1");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_their_numbers_and_know_what_follows() {
        let event = |height| Key::event(LogPlace { writer: 3, height });
        let hold = |payer, serial| HoldKey { payer, serial };
        assert!(event(255) < event(256));
        assert!(Key::due(Timestamp(1), hold(u64::MAX, 1)) < Key::due(Timestamp(2), hold(0, 1)));
        assert_eq!(event(255).successor(), Some(event(256)));
        assert_eq!(Key::account(u64::MAX).successor(), None);
        assert_eq!(Key::statement(7, 9).last_number(), 9);
        assert_eq!(Key::due(Timestamp(1), hold(7, 8)).last_hold(), hold(7, 8));
        let place = LogPlace { writer: 3, height: 9 };
        assert_eq!(Key::credit(5, place).last_place(), place);
        assert_eq!(event(9).last_place(), place);
    }

    #[test]
    fn a_key_reads_back_as_it_was_written() {
        let key = Key::answer(&AccountKey([3; 32]), &RequestId([4; 16]));
        assert_eq!(key.as_bytes().len(), KEY_BYTES_MAX);
        assert_eq!(Key::from_bytes(key.table(), key.as_bytes()), key);
    }
}
