//! Opening a book: the checks of the spec, in its order, cheap before dear.
//!
//! In three steps, so that signatures are verified outside of whatever guards the shared state: [`Payee::begin_open`]
//! reads, [`OpenCheck::verify`] computes, [`Payee::finish_open`] changes.

use super::book::PayeeBook;
use super::exposure::{HoldAccount, HoldRow};
use super::{Payee, Room, takes_until};
use crate::amount::{Amount, SECOND_MS, Timestamp};
use crate::book::check_face;
use crate::draw::Reveal;
use crate::hold::{Fee, Hold};
use crate::key::{AccountKey, HoldId, PublicKey, Signed};
use crate::limits::{HOLDS_MAX, OPEN_BOOKS_PER_HOLD_MAX};
use crate::message::OpenBook;
use crate::reject::{Code, Reject};

/// An opening that passed the cheap checks; its signatures are still to be verified.
#[derive(Debug)]
pub struct OpenCheck {
    hold_id: HoldId,
    reveal: Reveal,
    /// The signer of a hold whose very revision was verified before.
    known_signer: Option<PublicKey>,
}

/// An opening whose signatures verify.
#[derive(Debug)]
pub struct OpenReady {
    open: OpenBook,
    hold_id: HoldId,
    reveal: Reveal,
    signer: PublicKey,
}

/// A topped-up hold that passed the cheap checks; its signature is still to be verified.
#[derive(Debug)]
pub struct PresentCheck {
    hold: Signed<Hold>,
    is_known: bool,
}

/// A topped-up hold whose signature verifies.
#[derive(Debug)]
pub struct PresentReady {
    hold: Signed<Hold>,
}

/// A book was opened.
#[derive(Debug)]
pub struct Opened {
    /// Takes the tickets of the stream.
    pub book: PayeeBook,
    /// To be written, without anyone waiting for it: the hold is new here, or in a new revision.
    pub hold_row: Option<HoldRow>,
}

impl Payee {
    /// The cheap checks, in the order of the spec. Spec: B-04.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn begin_open(&mut self, open: &OpenBook, now: Timestamp) -> Result<OpenCheck, Reject> {
        let now = self.advance(now);
        self.check_selling()?;
        let reveal = self.quoter.recognise(&open.quote, now)?;
        let hold = &open.hold.body;
        self.check_hold_terms(open, now)?;
        let book = &open.book.body;
        book.check_hold(hold)?;
        if book.commitment != open.quote.commitment {
            return Err(Reject::of(Code::CommitmentMismatch));
        }
        let quote = &open.quote.terms;
        if book.length > quote.book_length_max {
            let limit = u64::from(quote.book_length_max);
            return Err(Reject::compared(Code::BookTooLong, limit, u64::from(book.length)));
        }
        check_face(book.face_value, quote.face_value_min, quote.face_value_max)?;
        if quote.ticket_price > book.face_value {
            return Err(Reject::compared(
                Code::BadTerms,
                quote.ticket_price.0,
                book.face_value.0,
            ));
        }
        if !book.threshold.covers(quote.ticket_price, book.face_value) {
            let expected = Amount(u64::try_from(book.threshold.expected(book.face_value, 1)).unwrap_or(u64::MAX));
            return Err(Reject::compared(Code::OddsTooLow, quote.ticket_price.0, expected.0));
        }
        let hold_id = hold.id();
        let known = self.holds.get(&hold_id).filter(|account| account.row.hold == open.hold);
        Ok(OpenCheck {
            hold_id,
            reveal,
            known_signer: known.map(|account| account.signer),
        })
    }

    /// The cheap checks of a topped-up hold. Spec: P-06.
    ///
    /// # Errors
    /// `hold_unknown`, `hold_released`, `hold_expired`.
    pub fn begin_present(&mut self, hold: &Signed<Hold>, now: Timestamp) -> Result<PresentCheck, Reject> {
        self.advance(now);
        let account = self.live_hold(&hold.body)?;
        Ok(PresentCheck {
            hold: *hold,
            is_known: account.row.hold == *hold,
        })
    }

    /// Takes a topped-up hold that was verified. Spec: P-06.
    ///
    /// # Errors
    /// `hold_unknown`, `hold_released`, `hold_expired`: it may have ended since the cheap checks.
    pub fn finish_present(&mut self, ready: PresentReady, now: Timestamp) -> Result<(HoldRow, Amount), Reject> {
        self.advance(now);
        let account = self.live_hold(&ready.hold.body)?;
        account.raise(&ready.hold);
        let granted = account.grant();
        let answer = (account.row, account.room());
        self.granted.extend(granted);
        Ok(answer)
    }

    fn live_hold(&mut self, hold: &Hold) -> Result<&mut HoldAccount, Reject> {
        let absent = self.ended.code(hold).unwrap_or(Code::HoldUnknown);
        let account = self.holds.get_mut(&hold.id()).ok_or_else(|| Reject::of(absent))?;
        if account.row.release.is_some() {
            return Err(Reject::of(Code::HoldReleased));
        }
        match account.ended {
            Some(code) => Err(Reject::of(code)),
            None => Ok(account),
        }
    }

    fn check_hold_terms(&self, open: &OpenBook, now: Timestamp) -> Result<(), Reject> {
        let hold = &open.hold.body;
        let terms = &hold.terms;
        if !open.quote.terms.escrows.as_slice().contains(&terms.escrow) {
            return Err(Reject::of(Code::WrongEscrow));
        }
        if terms.asset != open.quote.terms.asset {
            return Err(Reject::of(Code::WrongAsset));
        }
        if terms.payee != self.terms.payee {
            return Err(Reject::of(Code::HoldNotForMe));
        }
        hold.check_shape()?;
        if now > takes_until(hold) {
            return Err(Reject::compared(Code::HoldExpired, now.0, takes_until(hold).0));
        }
        let window = terms.redeem_by.0.saturating_sub(terms.expires_at.0);
        if window < self.terms.redeem_window_min_ms {
            return Err(Reject::compared(
                Code::RedeemWindowShort,
                self.terms.redeem_window_min_ms,
                window,
            ));
        }
        let latest = terms.opened_at.plus_ms(self.terms.hold_life_max_ms);
        if terms.redeem_by > latest {
            return Err(Reject::compared(Code::TimeOutOfRange, latest.0, terms.redeem_by.0));
        }
        check_fee(&terms.fee, &self.terms.fee_max)
    }

    /// Registers a verified opening: one book for one commitment. Spec: B-05.
    ///
    /// # Errors
    /// `commitment_reused`, `busy`, `hold_released`, `hold_expired`, `hold_unchecked` (retryable: the escrow is asked first).
    pub fn finish_open(&mut self, ready: OpenReady, now: Timestamp) -> Result<Opened, Reject> {
        let now = self.advance(now);
        self.quoter.check_unopened(&ready.open.quote)?;
        self.check_open_rate(&ready.open.hold.body.terms.payer, now)?;
        let row_before = self.holds.get(&ready.hold_id).map(|account| account.row);
        let account = self.account_for(&ready, now)?;
        let limit = OPEN_BOOKS_PER_HOLD_MAX;
        if account.open_books() >= limit {
            let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
            return Err(Reject::compared(Code::Busy, count(limit), count(account.open_books())));
        }
        let (book, quote) = (ready.open.book, &ready.open.quote.terms);
        account.raise(&ready.open.hold);
        account.add_book(book.body.id(), book.body.face_value);
        let row = account.row;
        let granted = account.grant();
        let until = takes_until(&row.hold.body);
        let opened = PayeeBook::new(&book, ready.reveal, quote.ticket_price, quote.jump_max, until, now);
        self.granted.extend(granted);
        self.quoter.mark_opened(&ready.open.quote);
        Ok(Opened {
            book: opened,
            hold_row: (row_before != Some(row)).then_some(row),
        })
    }

    /// The account of a hold that may be used: known and checked, or new and surely not forgotten. Spec: B-06.
    fn account_for(&mut self, ready: &OpenReady, now: Timestamp) -> Result<&mut HoldAccount, Reject> {
        let id = ready.hold_id;
        let hold = &ready.open.hold.body;
        let must_ask = match self.holds.get(&id) {
            Some(account) if account.row.release.is_some() => return Err(Reject::of(Code::HoldReleased)),
            Some(HoldAccount { ended: Some(code), .. }) => return Err(Reject::of(*code)),
            Some(account) => account.is_unchecked(),
            None => {
                if let Some(code) = self.ended.code(hold) {
                    return Err(Reject::of(code));
                }
                hold.terms.opened_at < self.asks_before
            }
        };
        if must_ask {
            self.ask_about(&ready.open.hold, id)?;
            return Err(Reject::of(Code::HoldUnchecked));
        }
        if self.holds.len() >= HOLDS_MAX && !self.holds.contains_key(&id) {
            let limit = u64::try_from(HOLDS_MAX).unwrap_or(u64::MAX);
            return Err(Reject::compared(Code::Busy, limit, limit));
        }
        let row = HoldRow {
            hold: ready.open.hold,
            paid: Amount::ZERO,
            checked_at: Timestamp(0),
            release: None,
        };
        Ok(self
            .holds
            .entry(id)
            .or_insert_with(|| HoldAccount::new(row, ready.signer, now)))
    }

    fn check_open_rate(&mut self, payer: &AccountKey, now: Timestamp) -> Result<(), Reject> {
        let limit = self.terms.opens_per_second_max;
        let account = self.payers.entry(*payer).or_default();
        if now >= account.opens_since.plus_ms(SECOND_MS) {
            account.opens_since = now;
            account.opens = 0;
        }
        if account.opens >= limit {
            return Err(Reject::compared(Code::Busy, u64::from(limit), u64::from(account.opens)));
        }
        account.opens = account.opens.saturating_add(1);
        Ok(())
    }

    /// All three steps of opening a book in one, for drivers that have only one thread.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn open_book(&mut self, open: OpenBook, now: Timestamp) -> Result<Opened, Reject> {
        let check = self.begin_open(&open, now)?;
        let ready = check.verify(open)?;
        self.finish_open(ready, now)
    }
}

impl OpenCheck {
    /// Verifies the signatures: the escrow's on a hold not seen before, the signer's on the book. Pure. Spec: B-04.
    ///
    /// # Errors
    /// `bad_key`, `bad_signature`.
    pub fn verify(self, open: OpenBook) -> Result<OpenReady, Reject> {
        let terms = &open.hold.body.terms;
        let signer = match self.known_signer {
            Some(signer) => signer,
            None => {
                open.hold.verify(&terms.escrow.check()?)?;
                terms.signer.check()?
            }
        };
        open.book.verify(&signer)?;
        Ok(OpenReady {
            open,
            hold_id: self.hold_id,
            reveal: self.reveal,
            signer,
        })
    }
}

impl PresentCheck {
    /// Verifies the escrow's signature, unless this very revision was verified before. Pure. Spec: P-06.
    ///
    /// # Errors
    /// `bad_key`, `bad_signature`.
    pub fn verify(self) -> Result<PresentReady, Reject> {
        if !self.is_known {
            self.hold.verify(&self.hold.body.terms.escrow.check()?)?;
        }
        Ok(PresentReady { hold: self.hold })
    }
}

impl HoldAccount {
    /// Takes a higher revision; a revision can only raise the cap, so a lower or equal one changes nothing.
    pub(super) fn raise(&mut self, hold: &Signed<Hold>) {
        let known = &self.row.hold.body;
        if hold.body.revision > known.revision && hold.body.cap >= known.cap {
            self.row.hold = *hold;
        }
    }
}

fn check_fee(fee: &Fee, max: &Fee) -> Result<(), Reject> {
    if fee.flat > max.flat {
        return Err(Reject::compared(Code::FeeTooHigh, max.flat.0, fee.flat.0));
    }
    if fee.ppm > max.ppm {
        return Err(Reject::compared(
            Code::FeeTooHigh,
            u64::from(max.ppm),
            u64::from(fee.ppm),
        ));
    }
    Ok(())
}
