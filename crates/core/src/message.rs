//! Every message on the wire: what payees and escrows are asked, and what they answer. Spec: P-01 and R-01.

mod answer;
mod request;
mod statement;

pub use answer::*;
pub use request::*;
pub use statement::*;

use crate::amount::{Amount, Asset};
use crate::book::{Book, Ticket};
use crate::codec::{List, Text, hex_bytes};
use crate::hold::Hold;
use crate::key::{BookId, Signed};
use crate::limits::{PAGE_ITEMS_MAX, REFERENCE_BYTES_MAX};
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
