//! The life of a hold: opened, topped up, released or expired.

use super::{Decided, Work};
use crate::draft::blank;
use crate::event::{Cause, Effect, Place, ReadRow, moved};
use crate::key::{HoldKey, Key};
use crate::ledger::Outcome;
use crate::request::VerifiedRequest;
use crate::row::{AccountRow, HoldRow, Row};
use crate::view::Stop;
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::escrow::delegation::Promise;
use tombola_core::escrow::{self, HoldRecord, PayerRecord, ReleaseVerdict};
use tombola_core::hold::{Hold, Release};
use tombola_core::key::HoldId;
use tombola_core::message::{EscrowAnswer, HoldRequest, HoldState, Phase};
use tombola_core::reject::{Code, Reject};

impl Work<'_> {
    /// Opens a hold. Spec: H-06.
    pub(super) fn open_hold(&mut self, request: &VerifiedRequest, asked: &HoldRequest) -> Result<EscrowAnswer, Stop> {
        self.authorise(request, &Promise::of_request(asked))?;
        let unknown = Reject::of(Code::AccountUnknown);
        let (payer_row, payer) = self.account_row(&request.request().account)?.ok_or(Stop::No(unknown))?;
        let found = self.account_number(&asked.payee)?;
        let facts = PayerRecord {
            account: payer.account,
            balance: payer.balance,
            open_holds: payer.open_holds,
            serial: payer.serial,
        };
        let hold = escrow::open(asked, &facts, self.config, self.now)?;
        let signer = self.new_signer_row(payer_row, &hold.terms)?;
        let mut read = vec![ReadRow::Account(payer_row)];
        read.extend(signer);
        let reads = self.reads(&read);
        let row = HoldKey {
            payer: payer_row,
            serial: hold.terms.serial,
        };
        self.add_hold(row, &hold, found);
        self.commit_signer(signer, hold.cap);
        let postings = moved(Place::Account(payer_row), Place::Hold(row), hold.cap).to_vec();
        let body = self.event_body(cause_of(request), Effect::Opened { hold }, postings, reads);
        self.book(body, &[payer_row], &[]);
        Ok(EscrowAnswer::Hold(blank(hold)))
    }

    /// Writes the rows of a hold that is opened; `payee` is the row of its payee's account, if it has one.
    pub(super) fn add_hold(&mut self, row: HoldKey, hold: &Hold, payee: Option<u64>) {
        let payee_row = self.ensure_account(&hold.terms.payee, payee);
        self.totals.holds = self.totals.holds.saturating_add(1);
        let id = hold.id();
        let fresh = HoldRow {
            hold: *hold,
            signed_in: self.totals.next_place(self.config.writer),
            payee: payee_row,
            paid: Amount::ZERO,
            left: Amount::ZERO,
            state: HoldState::Open,
            returned: Amount::ZERO,
            ended_at: Timestamp(0),
        };
        self.view.put(Key::hold_id(&id), Row::HoldIds(row));
        self.view.put(Key::hold(row), Row::Holds(fresh));
        self.view.put(Key::open_hold(row), Row::OpenHolds(()));
        self.view.put(Key::due(hold.terms.redeem_by, row), Row::Due(()));
        self.view.edit::<AccountRow>(Key::account(row.payer), |payer| {
            payer.open_holds = payer.open_holds.saturating_add(1);
            payer.serial = payer.serial.max(hold.terms.serial.saturating_add(1));
        });
    }

    /// Raises a hold's cap, or shows the current revision. Spec: H-08.
    pub(super) fn top_up(
        &mut self,
        request: &VerifiedRequest,
        hold: &HoldId,
        revision: u32,
        cap: Amount,
    ) -> Result<EscrowAnswer, Stop> {
        let (row, record) = self.hold_row(hold)?;
        if record.hold.terms.payer != request.request().account {
            return Err(Reject::of(Code::Unauthorized).into());
        }
        self.authorise(request, &Promise::of_top_up(&record.hold, cap))?;
        let payer = self.view.need::<AccountRow>(Key::account(row.payer))?;
        let raised = match escrow::top_up(&judged(&record), revision, cap, payer.balance) {
            Ok(raised) => raised,
            Err(reject) if reject.code == Code::RevisionStale => {
                return Ok(EscrowAnswer::RevisionStale(blank(record.hold)));
            }
            Err(reject) => return Err(reject.into()),
        };
        let signer = self.signer_row(row.payer, &record.hold.terms)?;
        let mut read = vec![ReadRow::Hold(row), ReadRow::Account(row.payer)];
        read.extend(signer);
        let reads = self.reads(&read);
        self.commit_signer(signer, raised.amount);
        let signed_in = self.totals.next_place(self.config.writer);
        self.view.edit::<HoldRow>(Key::hold(row), |hold| {
            hold.hold = raised.hold;
            hold.signed_in = signed_in;
        });
        let postings = moved(Place::Account(row.payer), Place::Hold(row), raised.amount).to_vec();
        let effect = Effect::Raised {
            hold: raised.hold,
            amount: raised.amount,
        };
        let body = self.event_body(cause_of(request), effect, postings, reads);
        self.book(body, &[row.payer], &[]);
        self.check_hold(row);
        Ok(EscrowAnswer::Hold(blank(raised.hold)))
    }

    /// Ends a hold on its payee's word; the same answer to each repeat. Spec: H-07.
    pub(super) fn release(&mut self, request: &VerifiedRequest, release: &Release) -> Result<Decided, Stop> {
        let (row, record) = self.hold_row(&release.hold)?;
        let (returned, at) = match escrow::release(release, &judged(&record))? {
            ReleaseVerdict::Repeat => (record.returned, record.ended_at),
            ReleaseVerdict::Return(returned) => {
                self.end_hold(row, &record, HoldState::Released, returned, cause_of(request))?;
                (returned, self.now)
            }
        };
        Ok(Decided::answer(EscrowAnswer::Released {
            hold: release.hold,
            returned,
            at,
        }))
    }

    /// Ends a hold whose time has run out. Spec: H-09.
    pub(super) fn expire(&mut self, hold: &HoldId) -> Result<Decided, Stop> {
        // Another writer may have begun to recover since this hold was found due. Spec: R-24.
        if self.phase == Phase::Recovering {
            return Err(Reject::of(Code::Recovering).into());
        }
        let (row, record) = self.hold_row(hold)?;
        let returned = escrow::expire(&judged(&record), &self.served, self.now)?;
        let cause = Cause::Expire { hold: *hold };
        self.end_hold(row, &record, HoldState::Expired, returned, cause)?;
        Ok(Decided::Outcome(Outcome::Expired {
            hold: *hold,
            returned,
            at: self.now,
        }))
    }

    /// Gives the rest of a hold back to its payer.
    pub(super) fn end_hold(
        &mut self,
        row: HoldKey,
        record: &HoldRow,
        state: HoldState,
        returned: Amount,
        cause: Cause,
    ) -> Result<(), Stop> {
        let terms = &record.hold.terms;
        let open = Key::open_hold(row);
        let due = Key::due(terms.redeem_by, row);
        self.view.need::<()>(open)?;
        self.view.need::<()>(due)?;
        self.view.need::<AccountRow>(Key::account(row.payer))?;
        let signer = self.signer_row(row.payer, terms)?;
        let mut read = vec![ReadRow::Hold(row), ReadRow::Account(row.payer)];
        read.extend(signer);
        let reads = self.reads(&read);
        self.return_signer(signer, returned);
        let now = self.now;
        self.totals.ended = self.totals.ended.saturating_add(1);
        self.view.remove(open);
        self.view.remove(due);
        self.view.put(Key::ended(now, row), Row::Ended(()));
        self.view.edit::<HoldRow>(Key::hold(row), |hold| {
            hold.state = state;
            hold.returned = returned;
            hold.ended_at = now;
        });
        self.view.edit::<AccountRow>(Key::account(row.payer), |payer| {
            invariant!(payer.open_holds > 0, "an open hold is counted");
            payer.open_holds = payer.open_holds.saturating_sub(1);
        });
        let postings = moved(Place::Hold(row), Place::Account(row.payer), returned).to_vec();
        let effect = Effect::Ended {
            hold: record.hold.id(),
            state,
            paid: record.paid,
            returned,
            signer: terms.signer,
        };
        let body = self.event_body(cause, effect, postings, reads);
        self.book(body, &[row.payer], &[]);
        self.check_hold(row);
        Ok(())
    }

    /// A hold and its row.
    pub(super) fn hold_row(&self, hold: &HoldId) -> Result<(HoldKey, HoldRow), Stop> {
        let row = self.view.find::<HoldKey>(Key::hold_id(hold))?.copied();
        let row = row.ok_or(Stop::No(Reject::of(Code::HoldUnknown)))?;
        let record = self.view.need::<HoldRow>(Key::hold(row))?;
        Ok((row, *record))
    }

    /// What is set aside is what the hold can still pay.
    pub(super) fn check_hold(&self, row: HoldKey) {
        let hold = self.view.peek::<HoldRow>(Key::hold(row));
        let is_sound = hold.is_some_and(|hold| match hold.state {
            HoldState::Open => hold.paid.checked_add(hold.left) == Some(hold.hold.cap),
            HoldState::Released | HoldState::Expired => hold.left.is_zero(),
        });
        invariant!(is_sound, "an open hold sets aside cap less paid, an ended one nothing");
    }
}

/// What the rules see of a hold.
pub(super) const fn judged(row: &HoldRow) -> HoldRecord {
    HoldRecord {
        hold: row.hold,
        paid: row.paid,
        state: row.state,
    }
}

pub(super) fn cause_of(request: &VerifiedRequest) -> Cause {
    Cause::Request {
        connection: *request.connection(),
        request: Box::new(request.request().clone()),
    }
}
