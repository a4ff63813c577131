//! Replays what came back after a rollback: the log has each piece of evidence whole, and it is judged again. Spec: R-25.

use super::{Replay, ReplayedHold};
use crate::event::{Captured, Effect, Event, Place, Posting, moved};
use crate::key::HoldKey;
use tombola_core::amount::Amount;
use tombola_core::escrow::HoldRecord;
use tombola_core::escrow::recovery::{self, Proved};
use tombola_core::hold::Hold;
use tombola_core::message::{Evidence, HoldState};

impl Replay<'_> {
    /// The postings that evidence must have led to; none if it does not prove what the event says.
    pub(super) fn evidence(&mut self, event: &Event, piece: &Evidence) -> Option<Vec<Posting>> {
        let known = self.holds.get(&crate::request::hold_of(piece));
        let hold = known.map(|known| known.record.hold);
        let escrow = self.config.escrow.check().ok()?;
        let proved = recovery::verify(piece, hold.as_ref(), &escrow, &self.config.asset).ok()?;
        match (piece, proved, &event.body.effect) {
            (Evidence::Hold(signed), Proved::Hold, Effect::Opened { hold }) => {
                let postings = self.restored(event, hold)?;
                (signed.body == *hold).then_some(postings)
            }
            (Evidence::Hold(signed), Proved::Hold, Effect::Raised { hold, amount }) => {
                let postings = self.raised_again(event, hold, *amount)?;
                (signed.body == *hold).then_some(postings)
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
                let postings = self.give_back(hold, *state, (*paid, *returned))?;
                is_right.then_some(postings)
            }
            (Evidence::Receipt { claim, receipt }, Proved::Receipt(_), Effect::Captured(captured)) => {
                let captured: &Captured = captured;
                let payee = hold?.terms.payee;
                let (postings, book) = self.captured(event, captured, &payee, claim)?;
                // The book keeps the receipt as it was signed before.
                self.books.get_mut(&book)?.receipt = receipt.body;
                Some(postings)
            }
            _ => None,
        }
    }

    fn restored(&mut self, event: &Event, hold: &Hold) -> Option<Vec<Posting>> {
        let terms = &hold.terms;
        let replayed = ReplayedHold {
            key: HoldKey {
                payer: self.account(&terms.payer)?,
                serial: terms.serial,
            },
            payee: self.account(&terms.payee)?,
            signed_in: event.place(),
            record: HoldRecord {
                hold: *hold,
                paid: Amount::ZERO,
                state: HoldState::Open,
            },
        };
        self.add_hold(event, replayed)
    }

    fn raised_again(&mut self, event: &Event, hold: &Hold, amount: Amount) -> Option<Vec<Posting>> {
        let known = self.holds.get_mut(&hold.id())?;
        let before = &known.record.hold;
        let is_right = known.record.state == HoldState::Open
            && hold.revision > before.revision
            && hold.cap.checked_sub(before.cap) == Some(amount);
        known.record.hold = *hold;
        known.signed_in = event.place();
        let key = known.key;
        self.commit_signer(key.payer, &hold.terms, amount);
        is_right.then(|| moved(Place::Account(key.payer), Place::Hold(key), amount).to_vec())
    }
}
