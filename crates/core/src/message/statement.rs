//! What an account is told of its history.

use super::{HoldState, Reference};
use crate::amount::{Amount, Timestamp};
use crate::claim::{Claim, Receipt};
use crate::codec::List;
use crate::hold::Hold;
use crate::key::{AccountKey, BookId, HoldId, Signed};
use crate::limits::SHARES_MAX;
use bincode::{Decode, Encode};

/// A page of an account's history, oldest first. Spec: R-16.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct StatementPage {
    /// In order of their sequence numbers.
    pub entries: List<StatementEntry, STATEMENT_ITEMS_MAX>,
    /// Whether another page follows.
    pub more: bool,
}

/// One thing that happened to an account. Spec: R-16.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct StatementEntry {
    /// 1, 2, 3, ... for each account.
    pub sequence: u64,
    /// Ledger time.
    pub at: Timestamp,
    /// Balance after it.
    pub balance: Amount,
    /// What.
    pub kind: StatementKind,
}

/// What can happen to an account. Spec: R-16.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StatementKind {
    /// The operator took money in.
    Deposited {
        /// How much.
        amount: Amount,
        /// The operator's reference.
        reference: Reference,
    },
    /// Part of the balance was set aside, by a new hold or a top-up.
    Held {
        /// The hold as signed.
        hold: Box<Signed<Hold>>,
        /// By how much the cap rose.
        amount: Amount,
    },
    /// What was left of a hold came back, on release or expiry.
    Returned {
        /// Which hold.
        hold: HoldId,
        /// What it had paid.
        paid: Amount,
        /// What came back.
        amount: Amount,
        /// Released or expired.
        state: HoldState,
    },
    /// A payee redeemed winners from a hold of this account.
    Charged(Box<Charge>),
    /// This account redeemed winners.
    Redeemed(Box<Redemption>),
    /// Money went to another account.
    Sent {
        /// To whom.
        to: AccountKey,
        /// How much.
        amount: Amount,
        /// As given.
        reference: Reference,
    },
    /// Money came from another account.
    Received {
        /// From whom.
        from: AccountKey,
        /// How much.
        amount: Amount,
        /// As given.
        reference: Reference,
        /// The book that a refund is for.
        book: Option<BookId>,
    },
    /// A withdrawal left the balance and waits to be paid out.
    Withdrawn {
        /// Its number at this escrow.
        withdrawal: u64,
        /// How much left the balance.
        amount: Amount,
        /// What of it the escrow keeps when it is paid.
        fee: Amount,
        /// Where to.
        destination: Reference,
        /// As given; empty for an automatic payout.
        reference: Reference,
    },
    /// A withdrawal was paid out.
    WithdrawalPaid {
        /// Which.
        withdrawal: u64,
        /// The operator's reference of the payment.
        reference: Reference,
    },
    /// A withdrawal failed and came back whole.
    WithdrawalFailed {
        /// Which.
        withdrawal: u64,
        /// What came back, fee included.
        amount: Amount,
        /// The operator's reference of the failure.
        reference: Reference,
    },
    /// A payee that shares its credits with this account redeemed winners.
    Shared {
        /// Who redeemed.
        payee: AccountKey,
        /// Which book.
        book: BookId,
        /// What this account got.
        amount: Amount,
    },
    /// Something that the asking signer may not see.
    Private,
}

/// What a payee redeemed, and with whom it shared it. Spec: R-16.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct Redemption {
    /// All that is needed to check it.
    pub charge: Charge,
    /// What went to others of the amount less the fee; the payee kept the rest.
    pub shares: List<SharePaid, SHARES_MAX>,
}

/// What one share of a credit came to. Spec: R-22.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct SharePaid {
    /// Whose share.
    pub account: AccountKey,
    /// How much.
    pub amount: Amount,
}

/// All that is needed to check a redemption: anyone can draw every ticket again. Spec: R-16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct Charge {
    /// The hold that paid.
    pub hold: Signed<Hold>,
    /// The claim with its book.
    pub claim: Claim,
    /// The receipt for it.
    pub receipt: Signed<Receipt>,
    /// What this claim took from the hold: the receipt's gross less that of the book's receipt before.
    pub amount: Amount,
}

/// Entries of one statement page: 30 redemptions of 2,069 bytes, with 32 shares each, stay below one message.
pub const STATEMENT_ITEMS_MAX: usize = 30;

const _: () = assert!(STATEMENT_ITEMS_MAX * (789 + 40 * SHARES_MAX) + 13 < crate::codec::MESSAGE_BYTES_MAX);
