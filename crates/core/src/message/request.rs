//! What an escrow is asked.

use super::Reference;
use crate::amount::{Amount, Timestamp};
use crate::claim::{Claim, ClaimBatch, Receipt};
use crate::codec::{List, Tag, hex_bytes, tagged_hash};
use crate::hold::{Delegation, Fee, Hold, Release};
use crate::key::{AccountKey, BookId, HoldId, RequestId, Signature, Signed};
use crate::limits::{EVIDENCE_MAX, SHARES_MAX};
use bincode::{Decode, Encode};

/// What an escrow is asked: on whose behalf, and what. Spec: R-01.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct EscrowRequest {
    /// The account it is about; the connection's key must have authority over it.
    pub account: AccountKey,
    /// What.
    pub command: EscrowCommand,
}

impl EscrowRequest {
    /// The hash that a request id is bound to. Spec: R-02.
    #[must_use]
    pub fn hash(&self) -> RequestHash {
        RequestHash(tagged_hash(REQUEST_TAG, self))
    }
}

hex_bytes!(
    /// Hash of a request, account and all. Spec: R-02.
    RequestHash,
    32
);

/// What makes a mutating request safe to repeat. Spec: R-02.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct RequestHeader {
    /// Random; a repeat bears the same.
    pub id: RequestId,
    /// The client's time.
    pub issued_at: Timestamp,
}

/// What an escrow can be asked. Spec: R-01.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub enum EscrowCommand {
    /// Who the escrow is, its limits, time and phase.
    Info,
    /// Balance and a page of open holds.
    Account {
        /// Open holds with a larger serial.
        holds_after: u64,
    },
    /// Sets part of the balance aside for one payee.
    OpenHold {
        /// Makes it safe to repeat.
        request: RequestHeader,
        /// What is asked for.
        hold: HoldRequest,
    },
    /// Raises the cap of an open hold.
    TopUpHold {
        /// Makes it safe to repeat.
        request: RequestHeader,
        /// Which.
        hold: HoldId,
        /// The revision that the caller knows.
        revision: u32,
        /// The new cap.
        cap: Amount,
    },
    /// The current hold and what it has paid.
    HoldStatus {
        /// Which.
        hold: HoldId,
    },
    /// Gives back what is left of a hold; from its payee.
    Release(Signed<Release>),
    /// Lets another key sign on this account.
    Delegate {
        /// Makes it safe to repeat.
        request: RequestHeader,
        /// Carries its own authority.
        delegation: Signed<Delegation>,
    },
    /// Redeems winners.
    Claim {
        /// Up to 128 books.
        batch: ClaimBatch,
        /// The payee's, when this is not its connection.
        signature: Option<Signature>,
    },
    /// Moves money to another account.
    Transfer {
        /// Makes it safe to repeat.
        request: RequestHeader,
        /// To whom.
        to: AccountKey,
        /// How much.
        amount: Amount,
        /// For the other side to recognise it by.
        reference: Reference,
        /// The book that a refund is for.
        book: Option<BookId>,
    },
    /// Pays money out of the ledger.
    Withdraw {
        /// Makes it safe to repeat.
        request: RequestHeader,
        /// How much.
        amount: Amount,
        /// Where to.
        destination: Reference,
        /// For the books of the account's owner.
        reference: Reference,
    },
    /// A page of what happened to the account.
    Statement {
        /// Entries with a larger sequence number.
        after: u64,
    },
    /// Entries as they happen, until either side ends the stream.
    Subscribe {
        /// Entries with a larger sequence number.
        after: u64,
    },
    /// Lets the balance be paid out by itself; none ends that.
    SetPayout {
        /// Makes it safe to repeat.
        request: RequestHeader,
        /// When and where to.
        policy: Option<PayoutPolicy>,
    },
    /// Divides what the account is credited for winners among others; none ends that.
    SetSplit {
        /// Makes it safe to repeat.
        request: RequestHeader,
        /// Who gets what; the account keeps the rest.
        shares: Shares,
    },
    /// Shows a recovering escrow what it signed and no longer knows.
    Resubmit {
        /// Judged one by one, in this order.
        evidence: List<Evidence, EVIDENCE_MAX>,
    },
}

impl EscrowCommand {
    /// The header that makes a mutating request safe to repeat; none for the others.
    #[must_use]
    pub const fn request(&self) -> Option<&RequestHeader> {
        match self {
            Self::OpenHold { request, .. }
            | Self::TopUpHold { request, .. }
            | Self::Delegate { request, .. }
            | Self::Transfer { request, .. }
            | Self::Withdraw { request, .. }
            | Self::SetPayout { request, .. }
            | Self::SetSplit { request, .. } => Some(request),
            Self::Info
            | Self::Account { .. }
            | Self::HoldStatus { .. }
            | Self::Release(_)
            | Self::Claim { .. }
            | Self::Statement { .. }
            | Self::Subscribe { .. }
            | Self::Resubmit { .. } => None,
        }
    }
}

/// The hold that a payer asks for; the escrow adds itself, asset, serial, fee and opening time. Spec: R-05.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct HoldRequest {
    /// Who signs books.
    pub signer: AccountKey,
    /// For whom.
    pub payee: AccountKey,
    /// Smallest face value.
    pub face_value_min: Amount,
    /// Largest face value.
    pub face_value_max: Amount,
    /// Longest book.
    pub book_length_max: u32,
    /// No ticket after this.
    pub expires_at: Timestamp,
    /// Claims until this.
    pub redeem_by: Timestamp,
    /// The most that can be paid.
    pub cap: Amount,
    /// The highest fee that the payer accepts for it.
    pub fee_max: Fee,
}

/// When an account's balance is paid out by itself, and where to. Spec: R-21.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct PayoutPolicy {
    /// As soon as the balance reaches this; 0 for no threshold.
    pub threshold: Amount,
    /// After this long, if the balance covers the smallest payout; 0 for no schedule.
    pub every_ms: u64,
    /// Where to.
    pub destination: Reference,
}

/// What one account gets of another's credits. Spec: R-22.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct Share {
    /// Who.
    pub account: AccountKey,
    /// Millionths of each credit.
    pub ppm: u32,
}

/// How credits are divided, in this order. Spec: R-22.
pub type Shares = List<Share, SHARES_MAX>;

/// What an escrow signed before it lost it, or a payee's release. Spec: R-25.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub enum Evidence {
    /// A hold in some revision.
    Hold(Signed<Hold>),
    /// A payee's last word on a hold.
    Release(Signed<Release>),
    /// A claim that was paid.
    Receipt {
        /// What was claimed.
        claim: Claim,
        /// What was answered.
        receipt: Signed<Receipt>,
    },
}

const REQUEST_TAG: Tag = Tag::new("tombola/request/v1");
