//! What an escrow answers.

use super::{PayoutPolicy, Reference, Shares, StatementPage};
use crate::amount::{Amount, Asset, Timestamp};
use crate::claim::{Head, Receipt, Refusal};
use crate::codec::List;
use crate::hold::{Fee, Hold};
use crate::key::{AccountKey, HoldId, Signed};
use crate::limits::{CLAIMS_PER_BATCH_MAX, EVIDENCE_MAX, PAGE_ITEMS_MAX};
use crate::reject::Reject;
use bincode::{Decode, Encode};

/// What an escrow answers. Spec: R-03.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub enum EscrowAnswer {
    /// No; nothing changed.
    Rejected(Reject),
    /// Who the escrow is.
    Info(EscrowInfo),
    /// An account.
    Account(AccountState),
    /// The hold that was opened or topped up.
    Hold(Signed<Hold>),
    /// A top-up named another revision than this, the current one.
    RevisionStale(Signed<Hold>),
    /// How a hold stands.
    HoldStatus(HoldStatus),
    /// The hold is released; the same answer to each repeat.
    Released {
        /// Which.
        hold: HoldId,
        /// What went back to the payer.
        returned: Amount,
        /// Ledger time.
        at: Timestamp,
    },
    /// A delegation is in force.
    Delegated {
        /// Its serial.
        serial: u64,
    },
    /// One answer for each claim, in order.
    Claimed {
        /// Receipt or refusal.
        answers: List<ClaimAnswer, CLAIMS_PER_BATCH_MAX>,
    },
    /// Money was moved.
    Transferred(TransferReceipt),
    /// A withdrawal waits to be paid out.
    WithdrawalPending {
        /// Its number at this escrow.
        withdrawal: u64,
        /// Ledger time.
        at: Timestamp,
        /// What the escrow keeps of the amount when it is paid.
        fee: Amount,
    },
    /// A page of a statement, or entries of a subscription.
    Statement(StatementPage),
    /// A payout policy is in force, or none is.
    PayoutSet {
        /// Ledger time.
        at: Timestamp,
    },
    /// A split is in force, or none is.
    SplitSet {
        /// Ledger time.
        at: Timestamp,
    },
    /// One answer for each piece of evidence, in order.
    Resubmitted {
        /// What became of it.
        answers: List<ResubmitAnswer, EVIDENCE_MAX>,
    },
}

/// Who an escrow is and what it allows. Spec: R-04.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct EscrowInfo {
    /// Its key, which is the network id.
    pub escrow: AccountKey,
    /// Its one asset.
    pub asset: Asset,
    /// A name for people.
    pub name: Reference,
    /// Ledger time.
    pub time: Timestamp,
    /// What it does at present.
    pub phase: Phase,
    /// Fee of new holds.
    pub fee: Fee,
    /// Smallest face value.
    pub face_value_min: Amount,
    /// Smallest cap.
    pub cap_min: Amount,
    /// This writer.
    pub writer: u32,
    /// Height of its log.
    pub height: u64,
    /// Head of its log.
    pub head: Head,
    /// What it keeps of each payout.
    pub payout_fee: Amount,
    /// Smallest withdrawal.
    pub payout_min: Amount,
}

/// What an escrow does at present. Spec: R-04.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Everything.
    Open,
    /// After a rollback: takes back what parties resubmit, promises nothing new.
    Recovering,
    /// Finishing what it has begun.
    Draining,
}

/// An account as its owner sees it. Spec: R-06.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct AccountState {
    /// Which.
    pub account: AccountKey,
    /// What it can spend.
    pub balance: Amount,
    /// What its open holds set aside and have not paid.
    pub held: Amount,
    /// How many open holds it has.
    pub open_holds: u32,
    /// A page of them, by serial.
    pub holds: List<HoldStatus, PAGE_ITEMS_MAX>,
    /// Whether another page follows.
    pub more: bool,
    /// Withdrawals that are neither paid nor failed.
    pub pending: Amount,
    /// When the balance is paid out by itself.
    pub payout: Option<PayoutPolicy>,
    /// Among whom credits for winners are divided.
    pub shares: Shares,
}

/// How a hold stands at the escrow. Spec: R-08.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct HoldStatus {
    /// Its current revision.
    pub hold: Signed<Hold>,
    /// What it has paid, gross.
    pub paid: Amount,
    /// Open, released or expired.
    pub state: HoldState,
}

/// Where a hold is in its life. Spec: H-05.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// Pays claims.
    Open,
    /// The payee gave the rest back.
    Released,
    /// Its time ran out and the rest went back.
    Expired,
}

/// The answer to one claim. Spec: R-12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub enum ClaimAnswer {
    /// Paid.
    Receipt(Signed<Receipt>),
    /// Not paid, nothing consumed.
    Refusal(Signed<Refusal>),
}

/// The answer to one piece of evidence. Spec: R-25.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub enum ResubmitAnswer {
    /// The ledger has it again.
    Restored,
    /// The ledger had it, or more than it.
    Known,
    /// It does not count.
    Refused(Reject),
}

/// The answer to a transfer. Spec: R-15.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct TransferReceipt {
    /// From whom.
    pub from: AccountKey,
    /// To whom.
    pub to: AccountKey,
    /// How much.
    pub amount: Amount,
    /// As the sender gave it.
    pub reference: Reference,
    /// Ledger time.
    pub at: Timestamp,
    /// Height of the event.
    pub height: u64,
    /// Head of the log after it.
    pub head: Head,
}
