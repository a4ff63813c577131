//! One book at its payee: tickets in, draws, and what may be acknowledged and served.
//!
//! Held by the one who reads the book's stream, apart from the payee's shared state, so that a losing ticket touches
//! only its own book. It reaches the shared state through [`Room`], once for each winner.
//!
//! | state | ticket | top-up or room | close |
//! | --- | --- | --- | --- |
//! | open | verify, draw | nothing to do | closed |
//! | exhausted | verify, keep the highest | draw what is kept, open | closed; what is undrawn stays undrawn |
//! | closed | refused with the closing code | nothing to do | the first code stands |

use crate::amount::{Amount, Timestamp};
use crate::book::{Anchor, Book, Ticket};
use crate::chain::{Preimage, walk};
use crate::claim::Claim;
use crate::draw::{Draw, Hashes, RUN_MAX, Reveal};
use crate::key::{BookId, HoldId, Signature, Signed};
use crate::limits::BOOK_IDLE_MS;
use crate::reject::{Code, Reject};
use std::num::NonZeroU32;

/// Room for winners in a hold, as a book sees it. Spec: B-10.
pub trait Room {
    /// Whether tickets may be taken at all: not while the store cannot keep a winner. Spec: B-14.
    ///
    /// # Errors
    /// `not_selling`.
    fn check_selling(&mut self) -> Result<(), Reject>;

    /// Sets one face value aside for a book's next winner, or queues the book for it.
    ///
    /// # Errors
    /// `hold_exhausted` with face value and room.
    fn reserve(&mut self, hold: &HoldId, book: &BookId) -> Result<(), Reject>;

    /// Turns a book's reservation into a liability.
    fn win(&mut self, hold: &HoldId, book: &BookId);
}

/// What became of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Drawn, with all before it.
    Drawn,
    /// Not above what was drawn already: no hash, no draw.
    Repeat,
    /// Kept: the hold has no room for another winner.
    Exhausted {
        /// One face value.
        need: Amount,
        /// Room in the hold.
        has: Amount,
    },
}

impl Taken {
    /// The same from `hold_exhausted`, which names the two.
    const fn exhausted(full: Reject) -> Self {
        Self::Exhausted {
            need: Amount(full.need),
            has: Amount(full.has),
        }
    }
}

/// A book's winners, as they must be durable before they are acknowledged: one row a book. Spec: B-12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct WinnerRow {
    /// The claim for all winners so far.
    pub claim: Claim,
    /// How many there are.
    pub winners: u32,
}

impl WinnerRow {
    /// What the hold owes for these winners, gross.
    #[must_use]
    pub fn gross(&self) -> Amount {
        self.claim.book.body.face_value.saturating_mul(u64::from(self.winners))
    }
}

/// One book at its payee. There are many of them and most wait, so each is small: what few of them have is boxed, and
/// what follows from the rest is computed.
#[derive(Debug)]
pub struct PayeeBook {
    id: BookId,
    hold: HoldId,
    anchor: Anchor,
    length: u32,
    face_value: Amount,
    signature: Signature,
    reveal: Reveal,
    draw: Draw,
    price: Amount,
    jump_max: u32,
    takes_until: Timestamp,
    last_ticket_at: Timestamp,
    /// The highest index drawn, and the chain value there.
    through: u32,
    top: Preimage,
    has_reservation: Reservation,
    kept: Option<Box<Kept>>,
    /// Tickets presented whose index is drawn: as many as `through`, unless the payer jumped.
    records: u32,
    winners: u32,
    last_win: Option<Box<Ticket>>,
    /// The first winner of which no write has begun, and the first of those being written.
    unwritten: Option<NonZeroU32>,
    writing: Option<NonZeroU32>,
    served: u32,
    resent: u32,
    lent: u32,
    closed: Option<Box<Reject>>,
}

/// What was presented while the hold had no room.
#[derive(Debug, Clone, Copy)]
struct Kept {
    /// The highest ticket.
    ticket: Ticket,
    /// How many are not drawn, this one included.
    count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reservation {
    None,
    Held,
}

impl PayeeBook {
    pub(crate) fn new(
        book: &Signed<Book>,
        reveal: Reveal,
        price: Amount,
        jump_max: u32,
        takes_until: Timestamp,
        now: Timestamp,
    ) -> Self {
        let (signature, book) = (book.signature, &book.body);
        let id = book.id();
        Self {
            id,
            hold: book.hold,
            anchor: book.anchor,
            length: book.length,
            face_value: book.face_value,
            signature,
            draw: Draw::new(&id, &reveal, book.threshold),
            top: Preimage(book.anchor.0),
            reveal,
            price,
            jump_max,
            takes_until,
            last_ticket_at: now,
            through: 0,
            has_reservation: Reservation::None,
            kept: None,
            records: 0,
            winners: 0,
            last_win: None,
            unwritten: None,
            writing: None,
            served: 0,
            resent: 0,
            lent: 0,
            closed: None,
        }
    }

    /// Takes one ticket: verifies its chain, then draws every index up to it, in ascending order. Spec: B-07 to B-11.
    ///
    /// # Errors
    /// A typed reject, upon which the driver closes the book with it; `not_selling` alone is a pause: the ticket is
    /// not taken and may be presented again.
    pub fn take(&mut self, ticket: &Ticket, room: &mut impl Room, now: Timestamp) -> Result<Taken, Reject> {
        let mut answer = Taken::Repeat;
        self.take_all(std::slice::from_ref(ticket), room, now, |taken| answer = taken)?;
        Ok(answer)
    }

    /// Takes tickets one after another, as they were sent, and tells what became of each that was taken.
    ///
    /// Hashes of tickets that follow on each other are made side by side, ahead of the rules; a ticket costs a third then.
    ///
    /// # Errors
    /// As [`Self::take`], for the first ticket of which nothing was told.
    pub fn take_all(
        &mut self,
        tickets: &[Ticket],
        room: &mut impl Room,
        now: Timestamp,
        mut tell: impl FnMut(Taken),
    ) -> Result<(), Reject> {
        let mut hashes = [Hashes::BLANK; RUN_MAX];
        let mut left = tickets;
        while let Some((first, after_first)) = left.split_first() {
            match self.run(left) {
                // One alone is hashed where it is judged, and only if it gets that far.
                [] | [_] => {
                    tell(self.take_hashed(first, None, room, now)?);
                    left = after_first;
                }
                run => {
                    self.draw.hash_run(run, &mut hashes);
                    for (ticket, hashes) in run.iter().zip(&hashes) {
                        tell(self.take_hashed(ticket, Some(hashes), room, now)?);
                    }
                    left = left.get(run.len()..).unwrap_or_default();
                }
            }
        }
        Ok(())
    }

    /// The tickets at the front that both hashes will be wanted of, if all goes well: the next ones of an open book.
    fn run<'a>(&self, tickets: &'a [Ticket]) -> &'a [Ticket] {
        if self.kept.is_some() || self.closed.is_some() {
            return &[];
        }
        let next = self.through.saturating_add(1)..=self.length;
        let is_next = |(ticket, index): &(&Ticket, u32)| ticket.index == *index;
        let count = tickets.iter().zip(next).take(RUN_MAX).take_while(is_next).count();
        tickets.get(..count).unwrap_or_default()
    }

    /// Takes one ticket, whose hashes may have been made already. The only place that says what becomes of a ticket.
    fn take_hashed(
        &mut self,
        ticket: &Ticket,
        hashes: Option<&Hashes>,
        room: &mut impl Room,
        now: Timestamp,
    ) -> Result<Taken, Reject> {
        if let Some(closed) = self.closed() {
            return Err(closed);
        }
        if ticket.index == 0 {
            return Err(Reject::of(Code::IndexZero));
        }
        if ticket.index > self.length {
            let length = u64::from(self.length);
            return Err(Reject::compared(Code::IndexPastEnd, length, u64::from(ticket.index)));
        }
        let (known_index, known) = match &self.kept {
            Some(kept) => (kept.ticket.index, kept.ticket.preimage),
            None => (self.through, self.top),
        };
        if ticket.index <= known_index {
            return Ok(self.resume(room));
        }
        if now > self.takes_until {
            return Err(Reject::compared(Code::HoldExpired, now.0, self.takes_until.0));
        }
        let jump = ticket.index.saturating_sub(self.through);
        if jump > self.jump_max {
            return Err(Reject::compared(
                Code::JumpTooLong,
                u64::from(self.jump_max),
                u64::from(jump),
            ));
        }
        room.check_selling()?;
        self.last_ticket_at = self.last_ticket_at.max(now);
        // The common case: the very next ticket, of a book with room. One step and one draw, nothing allocated.
        if self.kept.is_none() && jump == 1 {
            let hashes = hashes.copied().unwrap_or_else(|| self.draw.hash(ticket));
            if hashes.below != known {
                return Err(Reject::of(Code::ChainBroken));
            }
            if let Err(full) = self.draw_next(ticket, hashes.number, room) {
                return Ok(self.keep(*ticket, 1, full));
            }
            self.records = self.records.saturating_add(1);
            return Ok(Taken::Drawn);
        }
        // Before anything is drawn: a jump to another chain costs one hash an index, and no memory.
        if walk(&ticket.preimage, ticket.index, known_index) != known {
            return Err(Reject::of(Code::ChainBroken));
        }
        if let Some(kept) = &mut self.kept {
            kept.ticket = *ticket;
            kept.count = kept.count.saturating_add(1);
            return Ok(self.resume(room));
        }
        let values = self.undrawn(ticket);
        Ok(self.draw_all(&values, *ticket, 1, room))
    }

    /// Goes on with the kept ticket, if there is room for another winner now. Spec: B-11.
    pub fn resume(&mut self, room: &mut impl Room) -> Taken {
        let Some(Kept { ticket, count }) = self.kept.as_deref().copied().filter(|_| self.closed.is_none()) else {
            return Taken::Repeat;
        };
        if let Err(full) = room.check_selling().and_then(|()| self.reserve(room)) {
            return Taken::exhausted(full);
        }
        self.kept = None;
        let values = self.undrawn(&ticket);
        self.draw_all(&values, ticket, count, room)
    }

    /// Draws what lies below the highest of `count` tickets, as far as there is room.
    fn draw_all(&mut self, values: &[(Ticket, u64)], highest: Ticket, count: u32, room: &mut impl Room) -> Taken {
        let before = self.through;
        let full = values
            .iter()
            .find_map(|(ticket, number)| self.draw_next(ticket, *number, room).err());
        let drawn = self.through.saturating_sub(before).min(count);
        self.records = self.records.saturating_add(drawn);
        match full {
            Some(full) => self.keep(highest, count.saturating_sub(drawn), full),
            None => Taken::Drawn,
        }
    }

    /// Lets the index after `through` draw its number. A draw needs a reservation first, so that a winner is always paid.
    fn draw_next(&mut self, ticket: &Ticket, number: u64, room: &mut impl Room) -> Result<(), Reject> {
        self.reserve(room)?;
        if self.draw.is_win(number) {
            room.win(&self.hold, &self.id);
            self.has_reservation = Reservation::None;
            self.winners = self.winners.saturating_add(1);
            match &mut self.last_win {
                Some(last) => **last = *ticket,
                None => self.last_win = Some(Box::new(*ticket)),
            }
            self.unwritten = self.unwritten.or_else(|| NonZeroU32::new(ticket.index));
        }
        self.through = ticket.index;
        self.top = ticket.preimage;
        Ok(())
    }

    /// The tickets up to the given one that are not drawn yet, ascending, each with the number that it draws.
    fn undrawn(&self, highest: &Ticket) -> Vec<(Ticket, u64)> {
        let mut values = Vec::new();
        let mut at = *highest;
        while at.index > self.through {
            let hashes = self.draw.hash(&at);
            values.push((at, hashes.number));
            at = Ticket {
                index: at.index.saturating_sub(1),
                preimage: hashes.below,
            };
        }
        values.reverse();
        values
    }

    fn reserve(&mut self, room: &mut impl Room) -> Result<(), Reject> {
        if self.has_reservation == Reservation::None {
            room.reserve(&self.hold, &self.id)?;
            self.has_reservation = Reservation::Held;
        }
        Ok(())
    }

    fn keep(&mut self, ticket: Ticket, count: u32, full: Reject) -> Taken {
        self.kept = Some(Box::new(Kept { ticket, count }));
        Taken::exhausted(full)
    }

    /// The row to write now, if a winner is not yet being written; [`Self::written`] must follow. Spec: B-12.
    pub fn begin_write(&mut self) -> Option<WinnerRow> {
        if self.writing.is_some() || self.unwritten.is_none() {
            return None;
        }
        self.writing = self.unwritten.take();
        self.winner_row()
    }

    /// The driver says that the row of the last [`Self::begin_write`] is durable.
    pub fn written(&mut self) {
        self.writing = None;
    }

    /// Highest index that may be acknowledged: drawn, with every winner up to it durable. Spec: B-12.
    #[must_use]
    pub fn ack_through(&self) -> u32 {
        let first_unsafe = self.writing.or(self.unwritten);
        first_unsafe.map_or(self.through, |index| index.get().saturating_sub(1))
    }

    /// Whether every winner is durable, so that all that is drawn may be acknowledged.
    #[must_use]
    pub const fn is_durable(&self) -> bool {
        self.unwritten.is_none() && self.writing.is_none()
    }

    /// The claim for all winners so far; what closing the book lets out. Never to be sent while the book is open.
    fn winner_row(&self) -> Option<WinnerRow> {
        let top = self.last_win.as_deref()?;
        let claim = Claim {
            book: Signed {
                body: self.book(),
                signature: self.signature,
            },
            reveal: self.reveal,
            through: top.index,
            preimage: top.preimage,
        };
        Some(WinnerRow {
            claim,
            winners: self.winners,
        })
    }

    /// Closes the book for good; the first reason stands. Spec: B-13.
    pub fn close(&mut self, reject: Reject) -> Closing {
        let reject = **self.closed.get_or_insert_with(|| Box::new(reject));
        self.has_reservation = Reservation::None;
        Closing {
            book: self.id,
            hold: self.hold,
            reject,
            winners: self.winner_row(),
        }
    }

    /// Takes one unit out of the pool of paid units, or on the payer's credit, which the caller has asked for. Spec: D-03.
    pub fn serve(&mut self, paid_by: PaidBy) -> bool {
        let is_paid = self.served < self.ack_through();
        match paid_by {
            PaidBy::Tickets if !is_paid => return false,
            PaidBy::Tickets => {}
            PaidBy::Credit => self.lent = self.lent.saturating_add(1),
        }
        self.served = self.served.saturating_add(1);
        true
    }

    /// Whether a unit that this book has paid for and that was sent once may be sent again: in all at most as often as
    /// tickets were drawn, so that nobody makes the payee send for ever. Spec: D-03.
    pub fn resend(&mut self) -> bool {
        let may = self.resent < self.ack_through();
        if may {
            self.resent = self.resent.saturating_add(1);
        }
        may
    }

    /// A unit that was taken could not be sent: it is in the pool again.
    pub fn unserve(&mut self) {
        self.served = self.served.saturating_sub(1);
    }

    /// Units lent that tickets have paid for since: the payer's credit is good for them again. Spec: D-03.
    pub fn settle_credit(&mut self) -> u32 {
        let still_lent = self.lent.min(self.served.saturating_sub(self.ack_through()));
        let repaid = self.lent.saturating_sub(still_lent);
        self.lent = still_lent;
        repaid
    }

    /// Units paid and not served.
    #[must_use]
    pub fn pool(&self) -> u32 {
        self.ack_through().saturating_sub(self.served)
    }

    /// Whether a ticket is of this book: only payer and payee have seen any, so its bearer is the payer. Spec: D-04.
    #[must_use]
    pub fn is_bearer(&self, ticket: &Ticket) -> bool {
        if ticket.index == 0 || ticket.index > self.length {
            return false;
        }
        if ticket.index > self.through {
            return walk(&ticket.preimage, ticket.index, self.through) == self.top;
        }
        walk(&self.top, self.through, ticket.index) == ticket.preimage
    }

    /// No ticket for 60 s and no paid unit owed. Spec: B-13.
    #[must_use]
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.pool() == 0 && now >= self.last_ticket_at.plus_ms(BOOK_IDLE_MS)
    }

    /// The highest index drawn.
    #[must_use]
    pub const fn through(&self) -> u32 {
        self.through
    }

    /// Whether every ticket of the book is drawn.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.through == self.length
    }

    /// Whether the book waits for a top-up.
    #[must_use]
    pub const fn is_exhausted(&self) -> bool {
        self.kept.is_some()
    }

    /// Why it was closed, if it was.
    #[must_use]
    pub fn closed(&self) -> Option<Reject> {
        self.closed.as_deref().copied()
    }

    /// The book's id.
    #[must_use]
    pub const fn id(&self) -> BookId {
        self.id
    }

    /// The book. Its commitment is computed: it takes a hash.
    #[must_use]
    pub fn book(&self) -> Book {
        Book {
            hold: self.hold,
            commitment: self.reveal.commitment(),
            anchor: self.anchor,
            length: self.length,
            face_value: self.face_value,
            threshold: self.draw.threshold(),
        }
    }

    /// The hold that pays.
    #[must_use]
    pub const fn hold(&self) -> HoldId {
        self.hold
    }

    /// What one of its winners is worth.
    #[must_use]
    pub const fn face_value(&self) -> Amount {
        self.face_value
    }

    /// Expected value of so many of its tickets, in atomic units.
    #[must_use]
    pub fn expected(&self, tickets: u64) -> u128 {
        self.draw.threshold().expected(self.face_value, tickets)
    }

    /// How many tickets the book has.
    #[must_use]
    pub const fn length(&self) -> u32 {
        self.length
    }

    /// Price of one ticket in its quote.
    #[must_use]
    pub const fn price(&self) -> Amount {
        self.price
    }

    /// Tickets presented whose index is drawn: `through`, less what the payer jumped over.
    #[must_use]
    pub const fn records(&self) -> u32 {
        self.records
    }

    /// Winners drawn so far.
    #[must_use]
    pub const fn winners(&self) -> u32 {
        self.winners
    }
}

/// Who pays for a unit that is about to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaidBy {
    /// A ticket that was taken and acknowledged.
    Tickets,
    /// The payer's credit with this payee.
    Credit,
}

/// What is left of a book when it is closed. Spec: B-13.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// Which.
    pub book: BookId,
    /// On which hold.
    pub hold: HoldId,
    /// Why.
    pub reject: Reject,
    /// What is to be claimed.
    pub winners: Option<WinnerRow>,
}
