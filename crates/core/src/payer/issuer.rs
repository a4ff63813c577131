//! One book at its payer: tickets out, acknowledgements in.

use super::audit::JournalRow;
use super::window::Window;
use crate::amount::Amount;
use crate::book::{Anchor, Book, Ticket};
use crate::chain::{Chain, Preimage};
use crate::draw::Commitment;
use crate::hold::Hold;
use crate::key::{BookId, SecretKey, Signed};
use crate::odds::Threshold;
use crate::quote::Quote;
use crate::reject::{Code, Reject};

/// One book at its payer. Its chain lives in memory only and dies with the process. Spec: T-02, B-16.
#[derive(Debug)]
pub struct PayerBook {
    id: BookId,
    signed: Signed<Book>,
    chain: Chain,
    price: Amount,
    jump_max: u32,
    sent: u32,
    acknowledged: u32,
    closed: Option<Reject>,
}

impl PayerBook {
    /// Issues a book on a hold for a quote; `secret` is 32 fresh random bytes.
    ///
    /// # Errors
    /// `bad_terms` unless `1 <= price <= face`, and whatever [`Book::check_hold`] finds: the payee would refuse the book.
    pub fn new(
        hold: &Hold,
        quote: &Quote,
        face_value: Amount,
        length: u32,
        secret: Preimage,
        key: &SecretKey,
    ) -> Result<Self, Reject> {
        let threshold = Threshold::for_price(quote.terms.ticket_price, face_value)?;
        let length = length.min(quote.terms.book_length_max).min(hold.terms.book_length_max);
        if length == 0 {
            return Err(Reject::compared(Code::BookTooLong, 1, 0));
        }
        let chain = Chain::new(secret, length);
        let anchor = Anchor(chain.anchor().0);
        let commitment: Commitment = quote.commitment;
        let book = Book {
            hold: hold.id(),
            commitment,
            anchor,
            length,
            face_value,
            threshold,
        };
        book.check_hold(hold)?;
        Ok(Self {
            id: book.id(),
            signed: Signed::new(book, key),
            chain,
            price: quote.terms.ticket_price,
            jump_max: quote.terms.jump_max,
            sent: 0,
            acknowledged: 0,
            closed: None,
        })
    }

    /// The next tickets, at most `count` and what the window allows; each becomes one 36-byte record of `records`.
    /// Returns how many.
    pub fn issue(&mut self, count: u32, window: &mut Window, records: &mut Vec<u8>) -> u32 {
        let allowed = window
            .allowance(self.price, self.jump_max)
            .min(count)
            .min(self.remaining());
        let mut issued = 0u32;
        while issued < allowed {
            let Some(ticket) = self.next_ticket() else { break };
            records.extend_from_slice(&ticket.to_bytes());
            issued = issued.saturating_add(1);
        }
        window.sent(issued, self.price);
        issued
    }

    fn next_ticket(&mut self) -> Option<Ticket> {
        if self.closed.is_some() {
            return None;
        }
        let index = self.sent.checked_add(1)?;
        let preimage = self.chain.preimage(index)?;
        self.sent = index;
        Some(Ticket { index, preimage })
    }

    /// The first ticket: shows a payee whose book this is, also after the stream is lost. Spec: D-04.
    #[must_use]
    pub fn bearer(&mut self) -> Option<Ticket> {
        self.chain.preimage(1).map(|preimage| Ticket { index: 1, preimage })
    }

    /// The payee acknowledged everything up to an index. Returns how many tickets that is news of.
    pub fn acknowledge(&mut self, through: u32, window: &mut Window) -> u32 {
        let through = through.min(self.sent);
        let news = through.saturating_sub(self.acknowledged);
        self.acknowledged = self.acknowledged.max(through);
        window.acknowledged(news, self.price, self.jump_max);
        news
    }

    /// The payee closed the book: what it did not draw, it never will.
    pub fn closed_by_payee(&mut self, through: u32, reject: Reject, window: &mut Window) -> u32 {
        let news = self.acknowledge(through, window);
        window.undrawn(self.in_flight(), self.price);
        self.sent = self.acknowledged;
        self.closed.get_or_insert(reject);
        news
    }

    /// The stream was lost: what is in flight stays counted.
    pub fn lost(&mut self, window: &mut Window) {
        if self.closed.is_none() {
            window.lost(self.in_flight(), self.price);
            self.closed = Some(Reject::of(Code::StreamLost));
        }
    }

    /// Sent and not acknowledged.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.sent.saturating_sub(self.acknowledged)
    }

    /// Not yet sent.
    #[must_use]
    pub const fn remaining(&self) -> u32 {
        self.chain.length().saturating_sub(self.sent)
    }

    /// Highest index sent.
    #[must_use]
    pub const fn sent(&self) -> u32 {
        self.sent
    }

    /// Highest index acknowledged.
    #[must_use]
    pub const fn acknowledged(&self) -> u32 {
        self.acknowledged
    }

    /// Why it is closed, if it is.
    #[must_use]
    pub const fn closed(&self) -> Option<Reject> {
        self.closed
    }

    /// The signed book.
    #[must_use]
    pub const fn signed(&self) -> &Signed<Book> {
        &self.signed
    }

    /// The journal line of this book as it stands; without an acknowledgement while it is open.
    #[must_use]
    pub fn journal_row(&self) -> JournalRow {
        let book = &self.signed.body;
        JournalRow {
            book: self.id,
            face_value: book.face_value,
            threshold: book.threshold,
            acknowledged: self.closed.map(|_| self.acknowledged),
            in_flight: self.closed.map_or(0, |_| self.in_flight()),
        }
    }

    /// The book's id.
    #[must_use]
    pub const fn id(&self) -> BookId {
        self.id
    }
}
