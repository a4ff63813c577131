//! Replays what came back after a rollback: the log has each piece of evidence whole, and it is judged again. Spec: R-25.

use super::Replay;
use super::account::Booking;
use super::hold::ReplayedHold;
use crate::event::{Captured, Effect, Event, Place, moved};
use crate::key::HoldKey;
use tombola_core::amount::Amount;
use tombola_core::escrow::recovery::{self, Proved};
use tombola_core::hold::Hold;
use tombola_core::message::{Evidence, HoldState};

impl Replay<'_> {
    /// What evidence must have booked; none if it does not prove what the event says.
    pub(super) fn evidence(&mut self, event: &Event, piece: &Evidence) -> Option<Booking> {
        let known = self.holds.get(&crate::request::hold_of(piece));
        let hold = known.map(|known| known.record.hold);
        let escrow = self.config.escrow.check().ok()?;
        let proved = recovery::verify(piece, hold.as_ref(), &escrow, &self.config.asset).ok()?;
        match (piece, proved, &event.body.effect) {
            (Evidence::Hold(signed), Proved::Hold, Effect::Opened { hold }) => {
                let booking = self.restored(event, hold)?;
                (signed.body == *hold).then_some(booking)
            }
            (Evidence::Hold(signed), Proved::Hold, Effect::Raised { hold, amount }) => {
                let booking = self.raised_again(event, hold, *amount)?;
                (signed.body == *hold).then_some(booking)
            }
            (
                Evidence::Release(signed),
                Proved::Release,
                Effect::Ended {
                    hold,
                    state,
                    paid,
                    returned,
                    signer: _,
                },
            ) => {
                let is_right = signed.body.hold == *hold && *state == HoldState::Released && signed.body.paid == *paid;
                let booking = self.give_back(event, hold, *state, (*paid, *returned))?;
                is_right.then_some(booking)
            }
            (Evidence::Receipt { claim, receipt }, Proved::Receipt(_), Effect::Captured(captured)) => {
                let captured: &Captured = captured;
                let payee = hold?.terms.payee;
                let (booking, book) = self.captured(event, captured, &payee, claim)?;
                // The book keeps the receipt as it was signed before.
                self.books.get_mut(&book)?.receipt = receipt.body;
                Some(booking)
            }
            _ => None,
        }
    }

    fn restored(&mut self, event: &Event, hold: &Hold) -> Option<Booking> {
        let terms = &hold.terms;
        let key = HoldKey {
            payer: self.account(&terms.payer)?,
            serial: terms.serial,
        };
        let payee = self.account(&terms.payee)?;
        let replayed = ReplayedHold::new(key, payee, *hold, event.place());
        self.add_hold(event, replayed)
    }

    fn raised_again(&mut self, event: &Event, hold: &Hold, amount: Amount) -> Option<Booking> {
        let known = self.holds.get_mut(&hold.id())?;
        let before = &known.record.hold;
        let is_right = known.record.state == HoldState::Open
            && hold.revision > before.revision
            && hold.cap.checked_sub(before.cap) == Some(amount);
        known.record.hold = *hold;
        known.signed_in = event.place();
        let key = known.key;
        self.commit_signer(key.payer, &hold.terms, amount);
        is_right.then(|| Booking::own(key.payer, moved(Place::Account(key.payer), Place::Hold(key), amount)))
    }
}
