//! Every message on the wire: what payees and escrows are asked, and what they answer. Spec: P-01 and R-01.

use crate::amount::{Amount, Asset, Timestamp};
use crate::book::{Book, Ticket};
use crate::claim::{Claim, ClaimBatch, Head, Receipt, Refusal};
use crate::codec::{List, Tag, Text, hex_bytes, tagged_hash};
use crate::hold::{Delegation, Fee, Hold, Release};
use crate::key::{AccountKey, BookId, HoldId, RequestId, Signature, Signed};
use crate::limits::{CLAIMS_PER_BATCH_MAX, PAGE_ITEMS_MAX, REFERENCE_BYTES_MAX};
use crate::quote::{Quote, Service};
use crate::reject::Reject;
use bincode::{Decode, Encode};

/// An external or client-chosen reference.
pub type Reference = Text<REFERENCE_BYTES_MAX>;

/// What a payee is asked; the first frame of a stream. Spec: P-01.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub enum PayeeRequest {
    /// A page of what is sold, by name, after the given one.
    Services {
        /// The last name of the page before.
        after: Option<Service>,
    },
    /// An offer; for `tip` with the amount to be tipped.
    Quote {
        /// What.
        service: Service,
        /// The ticket price of a tip; other services have their own.
        price: Option<Amount>,
    },
    /// Opens a book; ticket records follow on the same stream.
    OpenBook(Box<OpenBook>),
    /// Shows a topped-up hold.
    PresentHold {
        /// A revision that the payee may not have seen.
        hold: Signed<Hold>,
    },
    /// Asks for units of a service.
    Request {
        /// What.
        service: Service,
        /// First unit wanted; the rest follow in order.
        from_unit: u64,
        /// The book that pays; none asks for the header only.
        book: Option<BookId>,
        /// A ticket of that book: pays, or for a closed book shows whose it is.
        ticket: Option<Ticket>,
    },
}

/// What opens a book. Spec: P-04.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct OpenBook {
    /// Signed by the escrow.
    pub hold: Signed<Hold>,
    /// As the payee gave it, whole.
    pub quote: Quote,
    /// Signed by the hold's signer.
    pub book: Signed<Book>,
}

/// What a payee answers to everything but `OpenBook`. Spec: P-02.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub enum PayeeAnswer {
    /// No.
    Rejected(Reject),
    /// A page of services.
    Services {
        /// In order of their names.
        services: List<ServiceOffer, PAGE_ITEMS_MAX>,
        /// Whether another page follows.
        more: bool,
    },
    /// An offer.
    Quote(Quote),
    /// A presented hold was taken.
    HoldState {
        /// The highest revision that the payee knows.
        revision: u32,
        /// What is neither paid, owed nor reserved.
        room: Amount,
    },
    /// Units follow as bare bytes.
    Response(ResponseHeader),
}

/// One thing that a payee sells. Spec: D-01.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct ServiceOffer {
    /// Its name.
    pub service: Service,
    /// In which asset.
    pub asset: Asset,
    /// Price of one unit, which is one ticket. 0 for a tip: the payer chooses.
    pub ticket_price: Amount,
    /// Bytes of a unit; the last one may be shorter. 0 if units are not bytes.
    pub unit_bytes: u32,
    /// Bytes in all; 0 if it has no end.
    pub size: u64,
}

/// What precedes the bytes of a delivery. Spec: D-02.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct ResponseHeader {
    /// Bytes of the whole service.
    pub size: u64,
    /// Units of the whole service.
    pub units: u64,
    /// Bytes of a unit.
    pub unit_bytes: u32,
    /// SHA-256 of the whole content, so that two versions are never spliced.
    pub content_hash: ContentHash,
    /// Highest index drawn of the named book; 0 without one.
    pub through: u32,
}

hex_bytes!(
    /// SHA-256 of a service's content. Spec: D-02.
    ContentHash,
    32
);

/// What a payee says on a book's stream. Spec: P-05.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub enum BookFrame {
    /// All up to `through` is drawn, and its winners are durable. `Ack{0}` opens the book.
    Ack {
        /// Highest index drawn and durable.
        through: u32,
        /// A quote for the book after this one.
        next_quote: Option<Quote>,
    },
    /// The hold has no room for another winner; the book waits for a top-up.
    Exhausted {
        /// Highest index drawn and durable.
        through: u32,
        /// One face value.
        need: Amount,
        /// Room in the hold.
        has: Amount,
    },
    /// The book is closed for good.
    Closed {
        /// Highest index drawn and durable.
        through: u32,
        /// Why, with both numbers.
        reject: Reject,
        /// A quote for the book after this one.
        next_quote: Option<Quote>,
    },
}

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
    /// Entries as they happen.
    Subscribe {
        /// Entries with a larger sequence number.
        after: u64,
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
            | Self::Withdraw { request, .. } => Some(request),
            Self::Info
            | Self::Account { .. }
            | Self::HoldStatus { .. }
            | Self::Release(_)
            | Self::Claim { .. }
            | Self::Statement { .. }
            | Self::Subscribe { .. } => None,
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
    },
    /// A page of a statement, or entries of a subscription.
    Statement(StatementPage),
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
    Redeemed(Box<Charge>),
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

/// Entries of one statement page: 50 charges of 1,000 bytes stay below one message.
pub const STATEMENT_ITEMS_MAX: usize = 50;

const REQUEST_TAG: Tag = Tag::new("tombola/request/v1");
