//! Replays the life of holds and the claims on them: each is decided again, with nothing but what the log has.

use super::Replay;
use super::account::Booking;
use crate::audit::Finding;
use crate::decide::capture_postings;
use crate::event::{Captured, Cause, Effect, Event, Place, ReadRow, moved};
use crate::key::HoldKey;
use crate::row::{HoldRow, LogPlace};
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::claim::Claim;
use tombola_core::codec::List;
use tombola_core::escrow::delegation::Promise;
use tombola_core::escrow::{self, BookRecord, EscrowConfig, HoldRecord, PayerRecord, Verdict, judge, release};
use tombola_core::hold::Hold;
use tombola_core::key::{AccountKey, BookId, HoldId};
use tombola_core::limits::EXPIRE_GRACE_MS;
use tombola_core::message::{EscrowCommand, EscrowRequest, HoldState};

/// A hold as the log says.
#[derive(Debug)]
pub(super) struct ReplayedHold {
    pub(super) key: HoldKey,
    pub(super) payee: u64,
    pub(super) signed_in: LogPlace,
    pub(super) record: HoldRecord,
    /// What went back when it ended.
    pub(super) returned: Amount,
}

impl ReplayedHold {
    /// A hold that is open and has paid nothing.
    pub(super) const fn new(key: HoldKey, payee: u64, hold: Hold, signed_in: LogPlace) -> Self {
        Self {
            key,
            payee,
            signed_in,
            record: HoldRecord {
                hold,
                paid: Amount::ZERO,
                state: HoldState::Open,
            },
            returned: Amount::ZERO,
        }
    }

    /// Its row, with what it sets aside now, and when it ended.
    pub(super) const fn row(&self, left: Amount, ended_at: Timestamp) -> HoldRow {
        HoldRow {
            hold: self.record.hold,
            signed_in: self.signed_in,
            payee: self.payee,
            paid: self.record.paid,
            left,
            state: self.record.state,
            returned: self.returned,
            ended_at,
        }
    }
}

impl Replay<'_> {
    /// Opens a hold again. The escrow's limits and fee of that day are not in the log, but that the hold has what was
    /// asked for, within what the protocol and the payer allow, is. Spec: H-06.
    pub(super) fn opened(&mut self, event: &Event, hold: &Hold, request: &EscrowRequest) -> Option<Booking> {
        let EscrowCommand::OpenHold { hold: asked, .. } = &request.command else {
            return None;
        };
        let terms = &hold.terms;
        let (payer, payee) = (self.account(&request.account)?, self.account(&terms.payee)?);
        let epoch = terms.serial >> SERIAL_BITS;
        let facts = self.accounts.get(payer)?;
        let facts = PayerRecord {
            account: request.account,
            balance: self.balance(payer),
            open_holds: facts.open_holds,
            serial: facts.serial,
        };
        let limits = EscrowConfig {
            fee: terms.fee,
            face_value_min: Amount::ZERO,
            cap_min: Amount::ZERO,
            epoch: u32::try_from(epoch).ok()?,
            ..self.config.clone()
        };
        let again = escrow::open(asked, &facts, &limits, event.body.at).ok()?;
        let is_authorised = self.is_authorised(event, &Promise::of_request(asked));
        let is_in_turn = self.is_epoch_right(event.writer, epoch) && again.terms.serial == terms.serial;
        self.check(is_in_turn, Finding::Number(event.place()));
        let mut again = again;
        again.terms.serial = terms.serial;
        let key = HoldKey {
            payer,
            serial: terms.serial,
        };
        let booking = self.add_hold(event, ReplayedHold::new(key, payee, *hold, event.place()))?;
        (again == *hold && is_authorised).then_some(booking)
    }

    /// Takes note of a hold; none if the log had it before.
    pub(super) fn add_hold(&mut self, event: &Event, replayed: ReplayedHold) -> Option<Booking> {
        let (key, hold) = (replayed.key, replayed.record.hold);
        self.commit_signer(key.payer, &hold.terms, hold.cap);
        let before = self.holds.insert(hold.id(), replayed);
        let is_new = self.versions.insert(ReadRow::Hold(key), 1).is_none();
        self.check(is_new, Finding::Number(event.place()));
        if let Some(log) = self.logs.get_mut(&event.writer) {
            log.holds = log.holds.saturating_add(1);
        }
        let payer = self.accounts.get_mut(key.payer)?;
        payer.open_holds = payer.open_holds.saturating_add(1);
        payer.serial = payer.serial.max(key.serial.saturating_add(1));
        let postings = moved(Place::Account(key.payer), Place::Hold(key), hold.cap);
        before.is_none().then(|| Booking::own(key.payer, postings))
    }

    /// Raises a hold again. Spec: H-08.
    pub(super) fn raised(
        &mut self,
        event: &Event,
        hold: &Hold,
        amount: Amount,
        request: &EscrowRequest,
    ) -> Option<Booking> {
        let EscrowCommand::TopUpHold {
            hold: asked,
            revision,
            cap,
            ..
        } = &request.command
        else {
            return None;
        };
        let known = self.holds.get(asked)?;
        let (key, record) = (known.key, known.record);
        let raised = escrow::top_up(&record, *revision, *cap, self.balance(key.payer)).ok()?;
        let is_authorised = record.hold.terms.payer == request.account
            && self.is_authorised(event, &Promise::of_top_up(&record.hold, *cap));
        let known = self.holds.get_mut(asked)?;
        known.record.hold = *hold;
        known.signed_in = event.place();
        self.commit_signer(key.payer, &hold.terms, amount);
        let is_right = is_authorised && (raised.hold, raised.amount) == (*hold, amount);
        let postings = moved(Place::Account(key.payer), Place::Hold(key), amount);
        is_right.then(|| Booking::own(key.payer, postings))
    }

    /// Ends a hold again, on its payee's word or by the clock. Spec: H-07, H-09.
    pub(super) fn ended(&mut self, event: &Event, cause: &Cause) -> Option<Booking> {
        let Effect::Ended {
            hold,
            state,
            paid,
            returned,
            ..
        } = &event.body.effect
        else {
            return None;
        };
        let record = self.holds.get(hold)?.record;
        let is_ordered = match cause {
            Cause::Expire { hold: named } => {
                let earliest = record.hold.terms.redeem_by.plus_ms(EXPIRE_GRACE_MS);
                let finding = Finding::EarlyExpiry(event.place());
                self.check(event.body.at >= earliest, finding);
                named == hold && *state == HoldState::Expired
            }
            Cause::Request { request, .. } => *state == HoldState::Released && is_released(request, hold, &record),
            Cause::Deposit { .. }
            | Cause::Claim { .. }
            | Cause::PayOut { .. }
            | Cause::Settle { .. }
            | Cause::Collect { .. }
            | Cause::Fold { .. }
            | Cause::Evidence { .. }
            | Cause::RemoveWriter { .. } => false,
        };
        let booking = self.give_back(event, hold, *state, (*paid, *returned))?;
        is_ordered.then_some(booking)
    }

    /// Ends a hold; none if it was not open, had not paid and left this much, or was signed by another.
    pub(super) fn give_back(
        &mut self,
        event: &Event,
        hold: &HoldId,
        state: HoldState,
        (paid, returned): (Amount, Amount),
    ) -> Option<Booking> {
        let known = self.holds.get_mut(hold)?;
        let is_right =
            known.record.state == HoldState::Open && (known.record.paid, known.record.left()) == (paid, returned);
        known.record.state = state;
        known.returned = returned;
        let (key, terms) = (known.key, known.record.hold.terms);
        self.ended.insert(key, event.body.at);
        if let Some(log) = self.logs.get_mut(&event.writer) {
            log.ended = log.ended.saturating_add(1);
        }
        self.return_signer(key.payer, &terms, returned);
        let payer = self.accounts.get_mut(key.payer)?;
        payer.open_holds = payer.open_holds.saturating_sub(1);
        let is_signer = matches!(&event.body.effect, Effect::Ended { signer, .. } if *signer == terms.signer);
        let postings = moved(Place::Hold(key), Place::Account(key.payer), returned);
        (is_right && is_signer).then(|| Booking::own(key.payer, postings))
    }

    /// Draws every ticket of a claim again and judges it as the ledger did.
    pub(super) fn captured(
        &mut self,
        event: &Event,
        captured: &Captured,
        payee: &AccountKey,
        claim: &Claim,
    ) -> Option<(Booking, (HoldKey, BookId))> {
        let known = self.holds.get(&captured.hold)?;
        let winnings = claim.verify(&known.record.hold).ok()?;
        let (key, payee_row) = ((known.key, winnings.book), known.payee);
        let Ok(Verdict::Capture(capture)) = judge(&winnings, payee, self.books.get(&key), &known.record) else {
            return None;
        };
        let (kept, shares) = self.divided(payee_row, captured.split, capture.credit)?;
        let known = self.holds.get_mut(&captured.hold)?;
        let proven = Captured {
            hold: claim.book.body.hold,
            book: winnings.book,
            through: winnings.through,
            winners: winnings.winners,
            gross: winnings.gross,
            fee: winnings.fee,
            hold_paid_after: capture.hold_paid_after,
            amount: capture.amount,
            signed_in: known.signed_in,
            split: captured.split,
            shares: List::new(shares.iter().map(|(_, share)| *share).collect()).ok()?,
        };
        let receipt = captured.receipt(self.config.escrow, event.body.at, event.place(), event.head());
        let preimage = winnings.preimage;
        self.books.insert(key, BookRecord { preimage, receipt });
        known.record.paid = capture.hold_paid_after;
        if let Some(log) = self.logs.get_mut(&event.writer) {
            log.claims = log.claims.saturating_add(1);
            log.winners = log.winners.saturating_add(u64::from(capture.winners));
        }
        let is_read = event.body.reads.iter().any(|read| read.row == ReadRow::Hold(known.key));
        let mut credits = vec![(payee_row, kept)];
        let moving = shares.iter().filter(|(_, share)| !share.amount.is_zero());
        credits.extend(moving.map(|(row, share)| (*row, share.amount)));
        let places: Vec<(Place, Amount)> = credits
            .iter()
            .map(|(row, amount)| (Self::credited(event, *row), *amount))
            .collect();
        let booking = Booking::of(capture_postings(key.0, &places, &capture))
            .debit(key.0.payer, capture.amount)
            .credit(credits);
        (proven == *captured && is_read).then_some((booking, key))
    }
}

/// Whether a request is the payee's release of this hold, signature and all.
fn is_released(request: &EscrowRequest, hold: &HoldId, record: &HoldRecord) -> bool {
    let EscrowCommand::Release(signed) = &request.command else {
        return false;
    };
    let key = record.hold.terms.payee.check();
    let is_signed = key.is_ok_and(|key| signed.verify(&key).is_ok());
    is_signed && signed.body.hold == *hold && release(&signed.body, record).is_ok()
}

/// Low bits of a serial that count within its epoch. Spec: R-26.
const SERIAL_BITS: u32 = 40;
