//! What a store holds: one struct for each table, written by the protocol's codec.

mod totals;

pub use totals::{Totals, WRITERS_MAX};
pub(crate) use totals::{others, withdrawal_epoch, withdrawal_number, withdrawal_place, withdrawal_place_of};

use crate::event::Event;
use crate::key::HoldKey;
use bincode::{Decode, Encode};
use tombola_core::amount::{Amount, Asset, Timestamp};
use tombola_core::chain::Preimage;
use tombola_core::claim::Receipt;
use tombola_core::codec::{self, DecodeError};
use tombola_core::escrow::payout::{PayoutClock, WithdrawalState};
use tombola_core::hold::{Delegation, Hold};
use tombola_core::key::{AccountKey, RequestId};
use tombola_core::message::{EscrowAnswer, HoldState, PayoutPolicy, Reference, RequestHash};

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
    /// Withdrawals, by number.
    Withdrawals(WithdrawalRow) "withdrawals";
    /// Withdrawals that are neither paid nor failed, by number.
    PendingWithdrawals(()) "pending_withdrawals";
    /// Withdrawals that are paid or failed, by when.
    SettledWithdrawals(()) "settled_withdrawals";
    /// Payout policies, by account.
    Payouts(PayoutRow) "payouts";
    /// How credits are divided, by payee's account.
    Splits(SplitRow) "splits";
    /// Signers other than the account itself, by account and key.
    Signers(SignerRow) "signers";
    /// Fees that the operator collected, by reference.
    Collections(CollectionRow) "collections";
}

impl serde::Serialize for Table {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
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
record!(OpenHolds | Due | Ended | PendingWithdrawals | SettledWithdrawals, ());
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
record!(Withdrawals, WithdrawalRow);
record!(Payouts, PayoutRow);
record!(Splits, SplitRow);
record!(Signers, SignerRow);
record!(Collections, CollectionRow);

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
pub const FORMAT: u32 = 4;

/// A place in a writer's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, serde::Serialize)]
pub struct LogPlace {
    /// Whose log.
    pub writer: u32,
    /// 1, 2, 3, ...
    pub height: u64,
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
    /// What its withdrawals that are not settled set aside.
    pub pending: Amount,
    /// All that ever came in: deposits, transfers, redemptions, shares, collected fees.
    pub credits: u128,
    /// All that ever went out: transfers, charges, paid withdrawals.
    pub debits: u128,
    /// How many of its holds are open.
    pub open_holds: u32,
    /// How many other keys have holds or delegations of it.
    pub signers: u32,
    /// Serial of its next hold.
    pub serial: u64,
    /// Entries of its statement.
    pub entries: u64,
}

impl AccountRow {
    /// All that is the account's: what it can spend and what is set aside.
    #[must_use]
    pub fn owned(&self) -> Option<u128> {
        let sum = u128::from(self.balance.0).checked_add(u128::from(self.held.0))?;
        sum.checked_add(u128::from(self.pending.0))
    }
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
    /// Which part the account had in it.
    pub side: Side,
}

/// Which part an account had in an event; one that is its own payee's share can have both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Side {
    /// It was changed by its own or by an operator's doing.
    Own,
    /// It was credited.
    Credited,
}

/// Money that came to an account and is not in its row yet: appended by any writer without touching that row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct CreditRow {
    /// How much; zero where only the statement is to show the event.
    pub amount: Amount,
}

/// A withdrawal.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WithdrawalRow {
    /// Row of the account.
    pub account: u64,
    /// What left the balance.
    pub amount: Amount,
    /// What of it the escrow keeps when it is paid; fixed when it was asked for.
    pub fee: Amount,
    /// What is set aside now: the amount while it is pending, nothing afterwards.
    pub left: Amount,
    /// Where to.
    pub destination: Reference,
    /// The owner's; empty for an automatic payout.
    pub reference: Reference,
    /// When it left the balance.
    pub asked_at: Timestamp,
    /// Where it is in its life.
    pub state: WithdrawalState,
    /// The operator's reference of its end; empty before.
    pub settled_by: Reference,
    /// When it ended; 0 before.
    pub settled_at: Timestamp,
}

/// When an account's balance is paid out by itself. It stays when a policy ends, so that its versions never start anew.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PayoutRow {
    /// The policy in force.
    pub policy: Option<PayoutPolicy>,
    /// Since when it waits.
    pub clock: PayoutClock,
}

/// How a payee's credits are divided. It stays when a split ends, so that its versions never start anew.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SplitRow {
    /// In order.
    pub shares: Vec<ShareRow>,
}

/// One share of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ShareRow {
    /// Whose.
    pub account: AccountKey,
    /// Its row.
    pub row: u64,
    /// Millionths of each credit.
    pub ppm: u32,
}

/// What a signer has promised for an account. It stays, or an old delegation would be good again.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignerRow {
    /// The last delegation; none where the account itself opened holds for this signer.
    pub delegation: Option<Delegation>,
    /// Sum over all holds of this account and signer of (open ? cap : paid).
    pub committed: u128,
}

/// Fees that the operator moved to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct CollectionRow {
    /// To whom.
    pub account: AccountKey,
    /// How much.
    pub amount: Amount,
    /// Ledger time.
    pub at: Timestamp,
    /// The event.
    pub place: LogPlace,
}
