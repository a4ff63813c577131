//! The payee's rules: quoting, opening books, exposure, winners, redeeming, releasing.
//!
//! [`Payee`] is what all of a payee's streams share; each open book is a [`PayeeBook`] of its own, so that losing tickets
//! never meet here. The driver owns sockets, disk and clock: it calls in with what happened, writes the rows it is given
//! before it tells anyone, and carries out the [`Task`]s that [`Payee::tick`] names.
//!
//! A hold at its payee:
//!
//! | state | open book | top-up | receipt | release |
//! | --- | --- | --- | --- | --- |
//! | unchecked | `hold_unchecked`, escrow is asked | taken | taken | no |
//! | open | taken if there is room | taken, waiters go on | paid goes up, debt goes | when settled and idle |
//! | released or expired | `hold_released`, `hold_expired` | the same | taken | the same again, until it is answered |
//!
//! Books that are open when the escrow says that their hold has ended are closed: nobody would pay their winners.
//!
//! Of one that has ended only its id is kept in memory; one that was forgotten may be presented again, and is unchecked.

mod book;
mod ended;
mod exposure;
mod opening;
mod quoter;
mod redeeming;
mod releasing;
#[cfg(test)]
mod tests;

pub use book::{Closing, PaidBy, PayeeBook, Room, Taken, WinnerRow};
pub use exposure::HoldRow;
pub use opening::{OpenCheck, OpenReady, Opened, PresentCheck, PresentReady};
pub use redeeming::{Refused, Settled, Task};

use crate::amount::{Amount, Asset, HOUR_MS, Timestamp};
use crate::hold::{Fee, Hold};
use crate::key::{AccountKey, BookId, HoldId, QuoteId, Signed};
use crate::limits::{EXPIRY_MARGIN_MS, HOLD_CHECK_MS, QUOTE_LIFE_MS};
use crate::message::HoldState;
use crate::quote::{EpochSecret, Escrows, Quote, QuoteTerms, Service};
use crate::reject::{Code, Reject};
use ended::{EndedHolds, Kept};
use exposure::HoldAccount;
use quoter::Quoter;
use redeeming::Unclaimed;
use releasing::Asked;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The service that takes tips. Spec: D-05.
pub const TIP_SERVICE: &str = "tip";

/// What a payee sells and whom it trusts; fixed while the process runs.
#[derive(Debug, Clone)]
pub struct PayeeTerms {
    /// The payee's account.
    pub payee: AccountKey,
    /// Asset of its escrows.
    pub asset: Asset,
    /// Escrows whose holds it takes.
    pub escrows: Escrows,
    /// The largest fee it accepts in a hold, each part for itself.
    pub fee_max: Fee,
    /// Smallest face value it takes.
    pub face_value_min: Amount,
    /// Largest face value it takes: its risk of a long wait between winners.
    pub face_value_max: Amount,
    /// Longest book.
    pub book_length_max: u32,
    /// Farthest jump between tickets.
    pub jump_max: u32,
    /// Units it serves to a payer account ahead of tickets.
    pub credit_units: u32,
    /// Unclaimed winners of this value are redeemed at once.
    pub redeem_at_value: Amount,
    /// Least time between a hold's expiry and its redeem_by.
    pub redeem_window_min_ms: u64,
    /// Longest time from a hold's opening to its redeem_by.
    pub hold_life_max_ms: u64,
    /// Books one payer may open per second.
    pub opens_per_second_max: u32,
    /// A hold that was opened before this, by its escrow's time, and that the payee does not know, may have been forgotten
    /// by its store: the escrow is asked about it first. What [`Payee::asks_before`] last said; [`Timestamp::MAX`] for a
    /// store that was made or restored since then.
    pub asks_before: Timestamp,
}

/// What all streams of a payee share. See the module.
#[derive(Debug)]
pub struct Payee {
    terms: PayeeTerms,
    quoter: Quoter,
    now: Timestamp,
    holds: BTreeMap<HoldId, HoldAccount>,
    ended: EndedHolds,
    /// As in the terms, and later with each hold that is forgotten.
    asks_before: Timestamp,
    unclaimed: BTreeMap<BookId, Unclaimed>,
    /// Holds that the escrow must be asked about, in the order of their ids.
    to_check: BTreeMap<HoldId, Asked>,
    payers: BTreeMap<AccountKey, PayerAccount>,
    health: Health,
    /// Open books that have winners, for redeeming at a value.
    winning_books: BTreeMap<BookId, HoldId>,
    /// Open books whose hold has ended at the escrow, and how.
    unpaid_books: BTreeMap<BookId, Code>,
    next_housekeeping: Timestamp,
    /// Holds of which something was due when they were last gone through.
    due_holds: VecDeque<HoldId>,
    /// Holds whose rows are to be deleted.
    forgettable: VecDeque<HoldId>,
    next_forgetting: Timestamp,
    granted: Vec<BookId>,
}

/// Whether the payee takes tickets. Spec: B-14.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Selling,
    /// A winner could not be redeemed in time.
    Overdue,
    /// A write came too late, which only a durable probe write makes good, or failed, which only a restart does.
    StoreFailed,
}

#[derive(Debug, Default)]
struct PayerAccount {
    units_lent: u32,
    opens: u32,
    opens_since: Timestamp,
}

/// What a payee owes itself to see: shown by `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Exposure {
    /// Holds known, those that have ended and are not yet forgotten included.
    pub holds: u64,
    /// Of these, holds that still take tickets or pay winners.
    pub open_holds: u64,
    /// What the open holds pay in all.
    pub capacity: Amount,
    /// What of it is neither paid, owed nor reserved.
    pub room: Amount,
    /// When the first of the open holds takes its last ticket.
    pub next_expiry: Option<Timestamp>,
    /// Books open now.
    pub open_books: u64,
    /// Winners not redeemed, gross.
    pub liabilities: Amount,
    /// Set aside for the next winners of open books.
    pub reservations: Amount,
    /// Closed books whose winners wait for a receipt.
    pub unclaimed_books: u64,
    /// The winners of these.
    pub unclaimed_winners: u64,
    /// When the first of them must have been claimed.
    pub claim_deadline: Option<Timestamp>,
    /// Units served ahead of tickets.
    pub units_lent: u64,
}

impl Payee {
    /// A payee over the rows of its store; `secret` is 32 fresh random bytes.
    ///
    /// Every book of an earlier process is closed, as its reveal died with the process: its winners are to be claimed.
    ///
    /// # Errors
    /// `bad_key` if a stored hold names a signer that is no key; such a row was never written by this code. `hold_unknown`
    /// for a winner without its hold: such a winner can be claimed no more, and the driver keeps it as evidence only.
    pub fn new(
        terms: PayeeTerms,
        secret: EpochSecret,
        holds: Vec<HoldRow>,
        winners: Vec<WinnerRow>,
        now: Timestamp,
    ) -> Result<Self, Reject> {
        let mut payee = Self {
            asks_before: terms.asks_before,
            terms,
            quoter: Quoter::new(secret, now),
            now,
            holds: BTreeMap::new(),
            ended: EndedHolds::new(),
            unclaimed: BTreeMap::new(),
            to_check: BTreeMap::new(),
            payers: BTreeMap::new(),
            health: Health::Selling,
            winning_books: BTreeMap::new(),
            unpaid_books: BTreeMap::new(),
            next_housekeeping: Timestamp(0),
            due_holds: VecDeque::new(),
            forgettable: VecDeque::new(),
            next_forgetting: Timestamp(0),
            granted: Vec::new(),
        };
        // A backup may have a winner of a hold that was settled and released while it was written.
        let owing: BTreeSet<HoldId> = winners.iter().map(|row| row.claim.book.body.hold).collect();
        for row in holds {
            if row.is_release_answered() && !owing.contains(&row.hold.body.id()) {
                payee.remember(&row.hold.body, Code::HoldReleased, Kept::of(&row));
                continue;
            }
            let signer = row.hold.body.terms.signer.check()?;
            let account = HoldAccount::new(row, signer, now);
            if account.is_unchecked() && row.release.is_none() {
                payee.must_check(&row);
            }
            payee.holds.insert(row.hold.body.id(), account);
        }
        for row in winners {
            payee.restore_winner(row)?;
        }
        Ok(payee)
    }

    /// Ledger-like time: it never runs backwards, so nothing expired opens again. Spec: C-02.
    pub fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.now.max(now);
        self.quoter.prune(self.now);
        self.now
    }

    /// What the payee sells on.
    #[must_use]
    pub const fn terms(&self) -> &PayeeTerms {
        &self.terms
    }

    /// Holds that were opened before this and are not known are asked about first. To be written with each row that is
    /// deleted: then no clock makes a forgotten hold count as new. Spec: B-06.
    #[must_use]
    pub const fn asks_before(&self) -> Timestamp {
        self.asks_before
    }

    /// Whether the escrow has told its time since the store was made or restored.
    #[must_use]
    pub fn is_dated(&self) -> bool {
        self.asks_before != Timestamp::MAX
    }

    /// The escrow's time, once the store was made or restored: it opened every hold that an earlier store may have known
    /// before that, whatever this payee's clock says. Returns [`Self::asks_before`], to be written. Spec: B-06.
    pub fn date_store(&mut self, escrow_time: Timestamp) -> Timestamp {
        if !self.is_dated() {
            self.asks_before = escrow_time.plus_ms(HOLD_CHECK_MS);
        }
        self.asks_before
    }

    /// Whether a fresh quoting secret is due. Spec: Q-04.
    #[must_use]
    pub fn is_epoch_over(&self) -> bool {
        self.quoter.is_epoch_over(self.now)
    }

    /// Begins a quoting epoch with 32 fresh random bytes. Spec: Q-04.
    pub fn begin_epoch(&mut self, secret: EpochSecret) {
        self.quoter.begin_epoch(secret, self.now);
    }

    /// An offer for a service at its price. Spec: Q-01.
    ///
    /// # Errors
    /// `not_selling`; `bad_terms` if the price is zero or over the largest face value.
    pub fn quote(&mut self, service: &Service, price: Amount, id: QuoteId, now: Timestamp) -> Result<Quote, Reject> {
        let now = self.advance(now);
        self.check_selling()?;
        // A tip of any size is exact from the smallest face value up, so its own amount is a face value too.
        let is_tip = service.as_str() == TIP_SERVICE;
        let face_value_max = if is_tip {
            self.terms.face_value_max.max(price)
        } else {
            self.terms.face_value_max
        };
        if price.is_zero() || price > face_value_max {
            return Err(Reject::compared(Code::BadTerms, face_value_max.0, price.0));
        }
        let terms = QuoteTerms {
            payee: self.terms.payee,
            quote_id: id,
            service: service.clone(),
            asset: self.terms.asset,
            ticket_price: price,
            face_value_min: self.terms.face_value_min.max(price).min(face_value_max),
            face_value_max,
            book_length_max: self.terms.book_length_max,
            jump_max: self.terms.jump_max,
            expires_at: now.plus_ms(QUOTE_LIFE_MS),
            escrows: self.terms.escrows.clone(),
        };
        Ok(self.quoter.quote(terms))
    }

    /// Takes a topped-up hold, in one step for drivers that have only one thread. Returns its row and room; waiting books
    /// go on, see [`Self::take_granted`]. Spec: P-06.
    ///
    /// # Errors
    /// `hold_unknown`, `hold_released`, `bad_signature`.
    pub fn present_hold(&mut self, hold: &Signed<Hold>, now: Timestamp) -> Result<(HoldRow, Amount), Reject> {
        let check = self.begin_present(hold, now)?;
        self.finish_present(check.verify()?, now)
    }

    /// Books that were waiting for room and have it now; the driver calls [`PayeeBook::resume`] for each.
    pub fn take_granted(&mut self) -> Vec<BookId> {
        std::mem::take(&mut self.granted)
    }

    /// What the escrow says about a hold it was asked about. Returns the row to be written, if there is one. Spec: B-06.
    ///
    /// # Errors
    /// `hold_mismatch` if it speaks of another hold, `bad_key` or `bad_signature` if it has not signed this revision: then
    /// nothing has changed, and the escrow is to be asked again.
    pub fn checked(
        &mut self,
        asked: &HoldId,
        status: &crate::message::HoldStatus,
        now: Timestamp,
    ) -> Result<Option<HoldRow>, Reject> {
        let now = self.advance(now);
        let id = status.hold.body.id();
        if id != *asked {
            return Err(Reject::of(Code::HoldMismatch));
        }
        // Its cap is what is sold on, and the hold is the evidence for the winners, so both must be signed.
        status.hold.verify(&status.hold.body.terms.escrow.check()?)?;
        let pending = self.answered(&id);
        if let (Some(hold), false) = (pending, self.holds.contains_key(&id)) {
            if let Some(code) = ended_code(status.state) {
                self.remember(&status.hold.body, code, Kept::Nothing);
                return Ok(None);
            }
            let signer = hold.body.terms.signer.check()?;
            let row = HoldRow {
                hold,
                paid: Amount::ZERO,
                checked_at: now,
                release: None,
            };
            self.holds.insert(id, HoldAccount::new(row, signer, now));
        }
        let Some(account) = self.holds.get_mut(&id) else {
            return Ok(None);
        };
        account.raise(&status.hold);
        account.row.paid = account.row.paid.max(status.paid);
        // A hold that the escrow has ended takes no more books, whoever ended it, and after a restart it is asked again.
        account.ended = ended_code(status.state);
        account.row.checked_at = if account.ended.is_some() {
            HoldRow::MUST_ASK
        } else {
            now
        };
        for book in account.open_book_ids() {
            // An escrow that was rolled back may have the hold again.
            match account.ended {
                Some(code) => self.unpaid_books.insert(book, code),
                None => self.unpaid_books.remove(&book),
            };
        }
        // Past its time and still open, it is not asked about at every look.
        account.pause.lengthen(now, HOUR_MS);
        self.granted.extend(account.grant());
        Ok(Some(account.row))
    }

    /// A book was closed: its reservation is free, its winners are to be claimed. Spec: B-13.
    pub fn closed(&mut self, closing: &Closing, now: Timestamp) {
        let now = self.advance(now);
        self.winning_books.remove(&closing.book);
        self.unpaid_books.remove(&closing.book);
        let Some(account) = self.holds.get_mut(&closing.hold) else {
            return;
        };
        account.close_book(&closing.book, now);
        if let Some(winners) = closing.winners {
            let deadline = account.row.hold.body.claim_deadline();
            self.unclaimed.insert(closing.book, Unclaimed::new(winners, deadline));
        }
        self.granted.extend(account.grant());
    }

    /// The account that pays from a hold that is known.
    #[must_use]
    pub fn payer(&self, hold: &HoldId) -> Option<AccountKey> {
        self.holds.get(hold).map(HoldAccount::payer)
    }

    /// Lends a payer one unit, if its credit allows; counted over all its books and connections. Spec: D-03.
    pub fn lend(&mut self, payer: &AccountKey) -> bool {
        let account = self.payers.entry(*payer).or_default();
        let is_allowed = account.units_lent < self.terms.credit_units;
        if is_allowed {
            account.units_lent = account.units_lent.saturating_add(1);
        }
        is_allowed
    }

    /// A payer has paid for units that it was lent.
    pub fn repay(&mut self, payer: &AccountKey, units: u32) {
        if let Some(account) = self.payers.get_mut(payer) {
            account.units_lent = account.units_lent.saturating_sub(units);
        }
    }

    /// A write failed or came too late: no ticket is taken from now on. Spec: B-14.
    pub fn store_failed(&mut self) {
        self.health = Health::StoreFailed;
    }

    /// A probe write is durable. After a write that failed the driver must not say so: only a restart helps then.
    pub fn store_recovered(&mut self) {
        if self.health == Health::StoreFailed {
            self.health = Health::Selling;
        }
    }

    /// Whether tickets are taken.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// Whether it knows any hold.
    #[must_use]
    pub fn has_holds(&self) -> bool {
        !self.holds.is_empty() || self.ended.len() > 0
    }

    /// Sums for `status`.
    #[must_use]
    pub fn exposure(&self) -> Exposure {
        let atoms = |sum: u128| Amount(u64::try_from(sum).unwrap_or(u64::MAX));
        let total = |part: fn(&HoldAccount) -> Amount| atoms(crate::amount::sum(self.holds.values().map(part)));
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let open = || self.holds.values().filter(|account| account.is_open());
        Exposure {
            holds: count(self.holds.len().saturating_add(self.ended.len())),
            open_holds: count(open().count()),
            capacity: atoms(crate::amount::sum(open().map(|account| account.row.hold.body.cap))),
            room: atoms(crate::amount::sum(open().map(HoldAccount::room))),
            next_expiry: open()
                .map(|account| takes_until(&account.row.hold.body))
                .filter(|until| *until > self.now)
                .min(),
            open_books: count(self.holds.values().map(HoldAccount::open_books).sum()),
            liabilities: total(HoldAccount::liabilities),
            reservations: total(HoldAccount::reservations),
            unclaimed_books: count(self.unclaimed.len()),
            unclaimed_winners: self.unclaimed.values().map(Unclaimed::winners).sum(),
            claim_deadline: self.unclaimed.values().map(Unclaimed::deadline).min(),
            units_lent: self.payers.values().map(|payer| u64::from(payer.units_lent)).sum(),
        }
    }

    /// The signed hold of an id, in its highest revision; nothing of one that is not known or has ended.
    #[must_use]
    pub fn hold(&self, id: &HoldId) -> Option<&HoldRow> {
        self.holds.get(id).map(|account| &account.row)
    }
}

impl Room for Payee {
    fn check_selling(&mut self) -> Result<(), Reject> {
        match self.health {
            Health::Selling => Ok(()),
            Health::Overdue | Health::StoreFailed => Err(Reject::of(Code::NotSelling)),
        }
    }

    fn reserve(&mut self, hold: &HoldId, book: &BookId) -> Result<(), Reject> {
        self.holds
            .get_mut(hold)
            .ok_or(Reject::of(Code::HoldUnknown))?
            .reserve(book)
    }

    fn win(&mut self, hold: &HoldId, book: &BookId) {
        if let Some(account) = self.holds.get_mut(hold) {
            account.win(book);
            self.winning_books.insert(*book, *hold);
        }
    }
}

/// How a hold has ended by what its escrow says.
const fn ended_code(state: HoldState) -> Option<Code> {
    match state {
        HoldState::Open => None,
        HoldState::Released => Some(Code::HoldReleased),
        HoldState::Expired => Some(Code::HoldExpired),
    }
}

/// When a hold takes its last ticket. Spec: C-03.
fn takes_until(hold: &Hold) -> Timestamp {
    hold.terms.expires_at.minus_ms(EXPIRY_MARGIN_MS)
}
