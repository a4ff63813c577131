//! What a ledger is told to do, and what comes of it.

use crate::draft::Draft;
use crate::request::VerifiedRequest;
use crate::row::LogPlace;
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::key::{AccountKey, HoldId, PublicKey};
use tombola_core::message::Reference;
use tombola_core::reject::Reject;

/// What a ledger is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "requests are nearly all")]
pub enum Command {
    /// The operator took money in. The same reference moves money once. Spec: R-17.
    Deposit {
        /// To whom.
        account: PublicKey,
        /// How much.
        amount: Amount,
        /// The operator's reference.
        reference: Reference,
    },
    /// A hold's time has run out. Spec: H-09.
    Expire {
        /// Which.
        hold: HoldId,
    },
    /// The operator says what became of a withdrawal. The same again is answered the same. Spec: R-23.
    Settle {
        /// Its number.
        withdrawal: u64,
        /// Paid or failed.
        outcome: PayoutOutcome,
        /// The operator's reference.
        reference: Reference,
    },
    /// The operator collects fees of this writer and of those that it removed. The same reference moves money once. Spec: G-07.
    CollectFees {
        /// To whom.
        account: PublicKey,
        /// How much.
        amount: Amount,
        /// The operator's reference.
        reference: Reference,
    },
    /// A payout policy may be due. Spec: R-21.
    PayOut {
        /// The account's row.
        account: u64,
    },
    /// Credits that several writers appended are to be added up. Spec: G-06.
    Fold {
        /// The account's row.
        account: u64,
        /// Where the credits come from.
        credits: Vec<LogPlace>,
    },
    /// The operator says that another writer is dead. Spec: G-13.
    RemoveWriter {
        /// Which.
        writer: u32,
    },
    /// A party asks.
    Request(VerifiedRequest),
}

/// What came of a command; all of it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "drafts are nearly all")]
pub enum Outcome {
    /// The money is in the account; the same again for the same reference.
    Deposited {
        /// Whose account.
        account: AccountKey,
        /// How much.
        amount: Amount,
        /// Ledger time.
        at: Timestamp,
        /// The event.
        place: LogPlace,
    },
    /// Credits are in their account's balance.
    Folded {
        /// How many; those that were folded before do not count.
        credits: usize,
    },
    /// The hold is expired.
    Expired {
        /// Which.
        hold: HoldId,
        /// What went back to the payer.
        returned: Amount,
        /// Ledger time.
        at: Timestamp,
    },
    /// A withdrawal is paid or has failed; the same again for the same word.
    Settled {
        /// Its number.
        withdrawal: u64,
        /// Which of the two.
        outcome: PayoutOutcome,
        /// What left the balance when it was asked for.
        amount: Amount,
        /// What of it the escrow keeps if it was paid.
        fee: Amount,
        /// Ledger time.
        at: Timestamp,
    },
    /// Fees are the account's; the same again for the same reference.
    FeesCollected {
        /// Whose account.
        account: AccountKey,
        /// How much.
        amount: Amount,
        /// Ledger time.
        at: Timestamp,
        /// The event.
        place: LogPlace,
    },
    /// A payout policy was looked at.
    PaidOut {
        /// The withdrawal that it made; none if it was not due.
        withdrawal: Option<u64>,
    },
    /// What became of a writer that is to be removed.
    WriterRemoval(Removal),
    /// What an operator asked was refused; nothing changed.
    Rejected(Reject),
    /// The answer to a request, to be signed.
    Answer(Draft),
}

/// What became of a writer that is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is removed, now or before.
    Done,
    /// It is not: it showed a sign of life.
    Alive {
        /// How long ago, in ms.
        silent_ms: u64,
    },
    /// There is no such writer.
    Unknown,
}
