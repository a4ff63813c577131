//! The log: one event for each command that changed something, chained by heads. Spec: G-01.

use crate::key::HoldKey;
use crate::row::LogPlace;
use bincode::{Decode, Encode};
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::claim::{Claim, Head, Receipt};
use tombola_core::codec::{List, Tag, tagged_hash};
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::hold::Hold;
use tombola_core::key::{AccountKey, BookId, HoldId};
use tombola_core::limits::SHARES_MAX;
use tombola_core::message::{EscrowRequest, Evidence, HoldState, Reference, SharePaid};

/// One entry of a writer's log. Spec: G-01.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Event {
    /// Whose log.
    pub writer: u32,
    /// 1, 2, 3, ...
    pub height: u64,
    /// Head of the log before it; zeros for the first.
    pub previous: Head,
    /// What happened.
    pub body: Body,
}

impl Event {
    /// Where it is.
    #[must_use]
    pub const fn place(&self) -> LogPlace {
        LogPlace {
            writer: self.writer,
            height: self.height,
        }
    }

    /// The head of the log after this event. Spec: G-02.
    #[must_use]
    pub fn head(&self) -> Head {
        Head(tagged_hash(EVENT_TAG, self))
    }

    /// The head after an event whose bytes are these, whatever they say. Spec: G-02.
    #[must_use]
    pub fn head_of(bytes: &[u8]) -> Head {
        Head(tombola_core::codec::tagged_hash_of(EVENT_TAG, bytes))
    }
}

/// What happened. Spec: G-03.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Body {
    /// Ledger time.
    pub at: Timestamp,
    /// The command.
    pub cause: Cause,
    /// What came of it.
    pub effect: Effect,
    /// Where money moved; they sum to zero.
    pub postings: Vec<Posting>,
    /// The rows it was decided on, each of which it changed.
    pub reads: Vec<Read>,
    /// Accounts that it made, with their rows.
    pub created: Vec<(AccountKey, u64)>,
}

/// The command behind an event. Spec: G-03.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[allow(clippy::large_enum_variant, reason = "claims are the largest and nearly all")]
pub enum Cause {
    /// The operator took money in.
    Deposit {
        /// To whom.
        account: AccountKey,
        /// How much.
        amount: Amount,
        /// The operator's reference.
        reference: Reference,
    },
    /// The operator's clock ended a hold.
    Expire {
        /// Which.
        hold: HoldId,
    },
    /// A party asked.
    Request {
        /// On whose connection.
        connection: AccountKey,
        /// What.
        request: Box<EscrowRequest>,
    },
    /// A payout policy is due.
    PayOut {
        /// Whose.
        account: AccountKey,
    },
    /// The operator says what became of a withdrawal.
    Settle {
        /// Its number.
        withdrawal: u64,
        /// Paid or failed.
        outcome: PayoutOutcome,
        /// The operator's reference.
        reference: Reference,
    },
    /// The operator collects fees.
    Collect {
        /// To whom.
        account: AccountKey,
        /// How much.
        amount: Amount,
        /// The operator's reference.
        reference: Reference,
    },
    /// Credits that several writers appended are added up.
    Fold {
        /// Whose.
        account: AccountKey,
    },
    /// A payee claimed; each claim of a batch is an event.
    Claim {
        /// Who.
        payee: AccountKey,
        /// The claim, whole.
        claim: Claim,
    },
    /// After a rollback: what the escrow had signed, or a payee released, was shown to it. Spec: R-25.
    Evidence {
        /// What was shown.
        piece: Box<Evidence>,
    },
    /// The operator says that a writer is dead. Spec: G-13.
    RemoveWriter {
        /// Which.
        writer: u32,
    },
}

/// What came of a command. Spec: G-03.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[allow(clippy::large_enum_variant, reason = "events are written one at a time")]
pub enum Effect {
    /// Money came in.
    Deposited,
    /// A hold was opened.
    Opened {
        /// As it will be signed.
        hold: Hold,
    },
    /// A hold was topped up.
    Raised {
        /// The new revision.
        hold: Hold,
        /// By how much its cap rose.
        amount: Amount,
    },
    /// A hold ended and the rest went back.
    Ended {
        /// Which.
        hold: HoldId,
        /// Released or expired.
        state: HoldState,
        /// What it had paid.
        paid: Amount,
        /// What went back.
        returned: Amount,
        /// Who signed its books, so that it can be told when the hold's row is pruned.
        signer: AccountKey,
    },
    /// A claim was paid.
    Captured(Captured),
    /// Money went to another account.
    Transferred,
    /// Credits went into their account's balance.
    Folded {
        /// The account's row.
        account: u64,
        /// The events that they came from.
        credits: Vec<LogPlace>,
    },
    /// Money left a balance to be paid out.
    Withdrawn {
        /// Its number: writer and height of this event.
        withdrawal: u64,
        /// How much.
        amount: Amount,
        /// What of it the escrow keeps when it is paid.
        fee: Amount,
        /// Where to.
        destination: Reference,
        /// The owner's; empty for an automatic payout.
        reference: Reference,
    },
    /// A withdrawal was paid or has failed.
    Settled {
        /// The account's row.
        account: u64,
        /// How much it was.
        amount: Amount,
        /// What of it the escrow keeps if it was paid.
        fee: Amount,
    },
    /// A payout policy was set, or ended.
    PayoutSet,
    /// A split was set, or ended.
    SplitSet,
    /// A delegation is in force.
    Delegated,
    /// Fees went to an account.
    Collected,
    /// A writer is dead: its log ends, and its fees are the remover's to collect. Spec: G-13.
    WriterRemoved {
        /// Which.
        writer: u32,
        /// Height of its last event.
        height: u64,
        /// Head of its log.
        head: Head,
        /// What it could have collected.
        fees: Amount,
    },
}

/// A paid claim: the receipt without what is in the event around it, and what it added. Spec: G-03.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Captured {
    /// Which hold.
    pub hold: HoldId,
    /// Which book.
    pub book: BookId,
    /// Up to which index.
    pub through: u32,
    /// Winners up to `through`.
    pub winners: u32,
    /// What they took from the hold.
    pub gross: Amount,
    /// What of it the escrow kept.
    pub fee: Amount,
    /// What the hold had paid in all, after this.
    pub hold_paid_after: Amount,
    /// What this claim took: the gross less that of the book's receipt before.
    pub amount: Amount,
    /// The event that signed the hold's revision, so that the hold can be shown when its row is pruned.
    pub signed_in: LogPlace,
    /// Version of the payee's split that its credit was divided by; 0 if it has none.
    pub split: u64,
    /// What went to others of the credit.
    pub shares: List<SharePaid, SHARES_MAX>,
}

impl Captured {
    /// The receipt of an event, unsigned.
    #[must_use]
    pub const fn receipt(&self, escrow: AccountKey, at: Timestamp, place: LogPlace, head: Head) -> Receipt {
        Receipt {
            escrow,
            writer: place.writer,
            book: self.book,
            through: self.through,
            winners: self.winners,
            gross: self.gross,
            fee: self.fee,
            hold_paid_after: self.hold_paid_after,
            at,
            height: place.height,
            head,
        }
    }
}

/// Money into a place (positive) or out of it (negative). Spec: G-04.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Posting {
    /// Where.
    pub place: Place,
    /// How much.
    pub delta: i128,
}

/// Where money can be. Spec: G-04.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Place {
    /// Outside: what left it has come in by deposits, what came to it was paid out.
    Outside,
    /// The escrow's own fees.
    Fees,
    /// An account's balance, by its row.
    Account(u64),
    /// A hold.
    Hold(HoldKey),
    /// What came to an account and is not folded into its balance yet, by the account's row.
    Credit(u64),
    /// A withdrawal that is not settled, by its number.
    Withdrawal(u64),
}

/// A move from one place to another, as its two postings.
#[must_use]
pub fn moved(from: Place, to: Place, amount: Amount) -> [Posting; 2] {
    let amount = i128::from(amount.0);
    let out = Posting {
        place: from,
        // Of a u64, so it cannot overflow.
        delta: 0i128.saturating_sub(amount),
    };
    let into = Posting {
        place: to,
        delta: amount,
    };
    [out, into]
}

/// The version of a row that a command was decided on; 0 if there was none. Spec: G-05.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Read {
    /// Which row.
    pub row: ReadRow,
    /// Its version then.
    pub version: u64,
}

/// A row that a command was decided on. Spec: G-05.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ReadRow {
    /// An account, by its row.
    Account(u64),
    /// A hold.
    Hold(HoldKey),
    /// A book of a hold.
    Book(HoldKey, BookId),
    /// A withdrawal, by its number.
    Withdrawal(u64),
    /// An account's payout policy, by its row.
    Payout(u64),
    /// A payee's split, by its row.
    Split(u64),
    /// A signer of an account, by its row.
    Signer(u64, AccountKey),
}

const EVENT_TAG: Tag = Tag::new("tombola/event/v1");
