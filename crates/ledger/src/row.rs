//! What a store holds: one struct for each table, written by the protocol's codec.

use crate::event::Event;
use bincode::{Decode, Encode};
use tombola_core::amount::{Amount, Asset, Timestamp};
use tombola_core::chain::Preimage;
use tombola_core::claim::{Head, Receipt};
use tombola_core::codec::{self, DecodeError};
use tombola_core::hold::Hold;
use tombola_core::key::{AccountKey, RequestId};
use tombola_core::message::{EscrowAnswer, HoldState, RequestHash};

/// Defines the tables, the rows in them, and how the two convert.
macro_rules! tables {
    ($($(#[$doc:meta])* $table:ident($row:ty) $name:literal;)*) => {
        /// A table of a store.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Table {
            $($(#[$doc])* $table,)*
        }

        impl Table {
            /// Every table.
            pub const ALL: &'static [Self] = &[$(Self::$table),*];

            /// Its name in a store.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$table => $name),* }
            }
        }

        /// A row of some table.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(clippy::large_enum_variant, reason = "the large ones are the many")]
        pub enum Row {
            $($(#[$doc])* $table($row),)*
        }

        impl Row {
            /// The bytes that a store keeps.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                match self { $(Self::$table(row) => codec::encode(row)),* }
            }

            /// Reads the bytes of a table's row.
            ///
            /// # Errors
            /// [`DecodeError`] if they are not such a row.
            pub fn decode(table: Table, bytes: &[u8]) -> Result<Self, DecodeError> {
                match table { $(Table::$table => codec::decode(bytes).map(Self::$table)),* }
            }
        }
    };
}

tables! {
    /// One row: whose store this is.
    Header(Header) "header";
    /// One row: the sums, and the log's end.
    Totals(Totals) "totals";
    /// Row numbers of accounts, by key.
    AccountIds(u64) "account_ids";
    /// Accounts, by row number.
    Accounts(AccountRow) "accounts";
    /// Row numbers of holds, by id.
    HoldIds(u64) "hold_ids";
    /// Holds, by row number.
    Holds(HoldRow) "holds";
    /// Row numbers of open holds, by account and serial.
    OpenHolds(u64) "open_holds";
    /// Open holds, by the end of their claims.
    Due(()) "due";
    /// Books of which something was paid, by hold and id.
    Books(BookRow) "books";
    /// Kept answers, by connection and request.
    Answers(AnswerRow) "answers";
    /// Kept answers, by age.
    AnswerAges(AnswerAge) "answer_ages";
    /// Deposits, by reference.
    Deposits(DepositRow) "deposits";
    /// The log, by height.
    Events(Event) "events";
    /// Statements, by account and sequence number.
    Statements(StatementRow) "statements";
}

/// A type that is the row of a table.
pub(crate) trait Record: Sized {
    fn of(row: &Row) -> Option<&Self>;
    fn of_mut(row: &mut Row) -> Option<&mut Self>;
}

macro_rules! record {
    ($($table:ident)|+, $row:ty) => {
        impl Record for $row {
            fn of(row: &Row) -> Option<&Self> {
                if let $(Row::$table(row))|+ = row { Some(row) } else { None }
            }

            fn of_mut(row: &mut Row) -> Option<&mut Self> {
                if let $(Row::$table(row))|+ = row { Some(row) } else { None }
            }
        }
    };
}

record!(Header, Header);
record!(Due, ());
record!(Totals, Totals);
record!(AccountIds | HoldIds | OpenHolds, u64);
record!(Accounts, AccountRow);
record!(Holds, HoldRow);
record!(Books, BookRow);
record!(Answers, AnswerRow);
record!(AnswerAges, AnswerAge);
record!(Deposits, DepositRow);
record!(Events, Event);
record!(Statements, StatementRow);

/// Whose store this is. The first row written, and never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// Version of the format of all rows.
    pub format: u32,
    /// The escrow's key.
    pub escrow: AccountKey,
    /// Its one asset.
    pub asset: Asset,
}

/// The first bytes of a header.
pub const MAGIC: [u8; 8] = *b"TOMBLEDG";
/// The format that this version writes and the only one it reads.
pub const FORMAT: u32 = 1;

/// Sums over all rows, and where the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Totals {
    /// Ledger time of the last event.
    pub time: Timestamp,
    /// Height of the last event; 0 if there is none.
    pub height: u64,
    /// Head of the log.
    pub head: Head,
    /// Accounts, which are numbered from 0.
    pub accounts: u64,
    /// Holds ever opened, which are numbered from 0.
    pub holds: u64,
    /// Money taken in.
    pub deposits: u128,
    /// What accounts can spend.
    pub balances: u128,
    /// What open holds set aside and have not paid.
    pub held: u128,
    /// What the escrow kept of winners.
    pub fees: u128,
    /// Claims that paid something.
    pub claims: u64,
    /// Winners paid.
    pub winners: u64,
}

impl Totals {
    /// Of a ledger in which nothing happened.
    pub(crate) const EMPTY: Self = Self {
        time: Timestamp(0),
        height: 0,
        head: Head([0; 32]),
        accounts: 0,
        holds: 0,
        deposits: 0,
        balances: 0,
        held: 0,
        fees: 0,
        claims: 0,
        winners: 0,
    };

    /// Whether deposits = balances + held + fees.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        let inside = self
            .balances
            .checked_add(self.held)
            .and_then(|sum| sum.checked_add(self.fees));
        inside == Some(self.deposits)
    }
}

/// An account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct AccountRow {
    /// Whose.
    pub account: AccountKey,
    /// What it can spend.
    pub balance: Amount,
    /// What its open holds set aside and have not paid.
    pub held: Amount,
    /// All that ever came in: deposits, transfers, redemptions.
    pub credits: u128,
    /// All that ever went out: transfers, charges.
    pub debits: u128,
    /// How many of its holds are open.
    pub open_holds: u32,
    /// Serial of its next hold.
    pub serial: u64,
    /// Entries of its statement.
    pub entries: u64,
}

/// A hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct HoldRow {
    /// The current revision; signed whenever it leaves.
    pub hold: Hold,
    /// The payer's row.
    pub payer: u64,
    /// The payee's row.
    pub payee: u64,
    /// What it has paid, gross.
    pub paid: Amount,
    /// What is set aside now: cap less paid while open, nothing afterwards.
    pub left: Amount,
    /// Open, released or expired.
    pub state: HoldState,
    /// What went back when it ended.
    pub returned: Amount,
    /// When it ended; 0 while open.
    pub ended_at: Timestamp,
}

/// A book of which something was paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct BookRow {
    /// `w[through]` of the last receipt.
    pub preimage: Preimage,
    /// The last receipt; signed whenever it leaves.
    pub receipt: Receipt,
}

/// The kept answer to an accepted request.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AnswerRow {
    /// What was asked.
    pub hash: RequestHash,
    /// What was answered, its signatures blank.
    pub answer: EscrowAnswer,
}

/// Which answer is how old; the age is in the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct AnswerAge {
    /// Who asked.
    pub connection: AccountKey,
    /// By what id.
    pub request: RequestId,
}

/// A deposit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct DepositRow {
    /// To whom.
    pub account: AccountKey,
    /// How much.
    pub amount: Amount,
    /// Ledger time.
    pub at: Timestamp,
    /// Height of the event.
    pub height: u64,
}

/// An entry of a statement; the rest is in the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct StatementRow {
    /// Height of the event.
    pub height: u64,
    /// Balance after it.
    pub balance: Amount,
}
