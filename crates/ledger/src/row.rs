//! What a store holds: one struct for each table, written by the protocol's codec.

use crate::event::{Event, Place, Posting};
use crate::key::HoldKey;
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
    /// One row for each writer: its sums, and the end of its log.
    Totals(Totals) "totals";
    /// Row numbers of accounts, by key.
    AccountIds(u64) "account_ids";
    /// Accounts, by row number.
    Accounts(AccountRow) "accounts";
    /// Where holds are, by id.
    HoldIds(HoldKey) "hold_ids";
    /// Holds, by payer and serial.
    Holds(HoldRow) "holds";
    /// Open holds, by payer and serial.
    OpenHolds(()) "open_holds";
    /// Open holds, by the end of their claims.
    Due(()) "due";
    /// Holds that have ended, by when.
    Ended(()) "ended";
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
    /// Credits that wait to be folded, by account and place in the log.
    Credits(CreditRow) "credits";
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
record!(OpenHolds | Due | Ended, ());
record!(Totals, Totals);
record!(AccountIds, u64);
record!(HoldIds, HoldKey);
record!(Accounts, AccountRow);
record!(Holds, HoldRow);
record!(Books, BookRow);
record!(Answers, AnswerRow);
record!(AnswerAges, AnswerAge);
record!(Deposits, DepositRow);
record!(Events, Event);
record!(Statements, StatementRow);
record!(Credits, CreditRow);

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
pub const FORMAT: u32 = 2;

/// A place in a writer's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, serde::Serialize)]
pub struct LogPlace {
    /// Whose log.
    pub writer: u32,
    /// 1, 2, 3, ...
    pub height: u64,
}

/// What one writer's events add up to, and where its log ends. It changes in each of the writer's commits, so it is the
/// writer's lease as well: whoever opens the ledger as the same writer changes it, and the one before is fenced off.
///
/// A writer may pay out what another one took in, so of several writers' rows only the sums cannot be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Totals {
    /// How often this writer was started.
    pub incarnation: u64,
    /// Whether the operator removed this writer: it is dead and nobody waits for it.
    pub is_removed: bool,
    /// Since when it has served claims without a gap, by its ledger time.
    pub served_since: Timestamp,
    /// When it last showed a sign of life, by its ledger time.
    pub alive_at: Timestamp,
    /// Ledger time of the last event.
    pub time: Timestamp,
    /// Height of the last event; 0 if there is none.
    pub height: u64,
    /// Head of the log.
    pub head: Head,
    /// Accounts made, which are numbered from 0 on top of the writer's number.
    pub accounts: u64,
    /// Holds opened.
    pub holds: u64,
    /// Money taken in.
    pub deposits: i128,
    /// What accounts can spend, credits that wait to be folded included.
    pub balances: i128,
    /// What open holds set aside and have not paid.
    pub held: i128,
    /// What the escrow kept of winners.
    pub fees: i128,
    /// Claims that paid something.
    pub claims: u64,
    /// Winners paid.
    pub winners: u64,
}

impl Totals {
    /// Of a writer that did nothing.
    pub const EMPTY: Self = Self {
        incarnation: 0,
        is_removed: false,
        served_since: Timestamp(0),
        alive_at: Timestamp(0),
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

    /// Moves money into or out of one place.
    pub(crate) fn post(&mut self, posting: &Posting) {
        let delta = posting.delta;
        match posting.place {
            // What came in is what outside is short of.
            Place::Outside => add(&mut self.deposits, 0i128.saturating_sub(delta)),
            Place::Fees => add(&mut self.fees, delta),
            Place::Account(_) | Place::Credit(_) => add(&mut self.balances, delta),
            Place::Hold(_) => add(&mut self.held, delta),
        }
    }

    /// Adds what another writer's events add up to.
    pub fn add(&mut self, other: &Self) {
        self.time = self.time.max(other.time);
        self.height = self.height.saturating_add(other.height);
        self.accounts = self.accounts.saturating_add(other.accounts);
        self.holds = self.holds.saturating_add(other.holds);
        self.claims = self.claims.saturating_add(other.claims);
        self.winners = self.winners.saturating_add(other.winners);
        add(&mut self.deposits, other.deposits);
        add(&mut self.balances, other.balances);
        add(&mut self.held, other.held);
        add(&mut self.fees, other.fees);
    }

    /// Goes to the end of a log that this event was appended to.
    pub(crate) fn follow(&mut self, event: &Event) {
        self.time = event.body.at;
        self.height = event.height;
        self.head = event.head();
    }

    /// The row number of this writer's next account.
    pub(crate) fn next_account(&self, writer: u32) -> u64 {
        // 2^40 accounts of each of 2^16 writers: the number stays positive where a store knows signed ones only.
        (u64::from(writer) << ACCOUNT_BITS) | self.accounts
    }

    /// Where the writer's next event goes.
    pub(crate) fn next_place(&self, writer: u32) -> LogPlace {
        LogPlace {
            writer,
            height: self.height.saturating_add(1),
        }
    }
}

fn add(sum: &mut i128, delta: i128) {
    let after = sum.checked_add(delta);
    invariant!(after.is_some(), "no sum overflows: {sum} and {delta}");
    *sum = after.unwrap_or(*sum);
}

/// Low bits of an account's row number that count; the writer's number is above them.
const ACCOUNT_BITS: u32 = 40;
/// Writers of one ledger, dead ones included: their numbers are below this.
pub const WRITERS_MAX: u32 = 64;

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
    /// The event that signed this revision.
    pub signed_in: LogPlace,
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
    /// The event.
    pub place: LogPlace,
}

/// An entry of a statement; the rest is in the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct StatementRow {
    /// The event.
    pub place: LogPlace,
    /// Balance after it.
    pub balance: Amount,
}

/// Money that came to an account and is not in its row yet: appended by any writer without touching that row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct CreditRow {
    /// How much; zero where only the statement is to show the event.
    pub amount: Amount,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "no sum overflows")]
    fn a_sum_that_would_overflow_stops_the_program() {
        let mut sum = i128::MIN;
        add(&mut sum, -6);
    }

    #[test]
    fn account_rows_of_two_writers_never_meet() {
        let last = Totals {
            accounts: (1 << ACCOUNT_BITS) - 1,
            ..Totals::EMPTY
        };
        assert!(last.next_account(0) < Totals::EMPTY.next_account(1));
        assert!(i64::try_from(last.next_account(WRITERS_MAX - 1)).is_ok());
    }
}
