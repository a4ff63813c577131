//! What a payee does by itself: claims that its escrow pays, holds that it asks about, releases.

use super::Market;
use crate::input::Input;
use crate::party::{bank, payee};
use tombola_core::amount::Amount;
use tombola_core::claim::{Claim, Head, Receipt, Refusal};
use tombola_core::key::{HoldId, Signed};
use tombola_core::message::{HoldState, HoldStatus};
use tombola_core::payee::{Refused, Task};
use tombola_core::reject::{Code, Reject};

impl Market {
    /// What is due now, done or failed.
    pub(in crate::payee) fn tick(&mut self, input: &mut Input<'_>) {
        for task in self.payee.tick(self.now) {
            let luck = input.byte();
            match task {
                Task::Close(id, code) => self.close_with(id, Reject::of(code)),
                Task::Claim(claims) => claims.iter().for_each(|claim| self.claim(claim, luck)),
                Task::Check(hold) => self.answer_check(&hold.body.id(), luck),
                Task::Release(release) => {
                    let Ok(row) = self.payee.released(Signed::new(release, payee())) else {
                        continue;
                    };
                    if luck == 1 {
                        self.payee
                            .release_failed(&release.hold)
                            .into_iter()
                            .for_each(|row| self.disk.keep_hold(row));
                    } else {
                        self.disk.keep_hold(row);
                        self.payee.release_kept(&release.hold);
                    }
                }
                Task::SendRelease(release) => {
                    let hold = &release.body.hold;
                    let Some(promise) = self.promises.iter_mut().find(|p| p.hold.body.id() == *hold) else {
                        continue;
                    };
                    assert_eq!(release.body.paid.0, promise.paid, "a release counts what was paid");
                    if luck != 1 {
                        promise.state = HoldState::Released;
                        let row = self.payee.release_known(hold);
                        row.into_iter().for_each(|row| self.disk.keep_hold(row));
                    }
                }
                Task::Forget(hold) => {
                    self.disk.asks_before = self.payee.asks_before();
                    self.disk.holds.remove(&hold);
                }
            }
        }
        self.resume_granted();
    }

    /// The escrow pays a claim, once; its receipt arrives, is lost, or a refusal comes instead.
    fn claim(&mut self, claim: &Claim, luck: u8) {
        let id = claim.book.body.id();
        let Some(sold) = self.sold.get_mut(&id) else {
            panic!("a claim is for a book that was sold")
        };
        assert!(sold.machine.is_none(), "no claim leaves before its book is closed");
        let promise = &mut self.promises[sold.hold];
        let won = claim
            .verify(&promise.hold.body)
            .expect("a payee claims what it can prove");
        assert_eq!(
            won.winners,
            sold.winners_through(claim.through),
            "each index is drawn once"
        );
        assert!(self.disk.winners_through(&id) >= claim.through, "a claim is durable");
        if luck == 1 {
            self.payee.postpone(&id, self.now);
            return;
        }
        if luck == 2 {
            self.refuse(claim, Code::ClaimOverCap);
            return;
        }
        assert_eq!(promise.state, HoldState::Open, "a released hold owes nothing");
        let before = sold.receipt.map_or(0, |receipt| receipt.gross.0);
        promise.paid += won.gross.0 - before;
        assert!(
            promise.paid <= promise.hold.body.cap.0,
            "every winner that was served is paid"
        );
        let receipt = Receipt {
            escrow: bank().account(),
            writer: 0,
            book: id,
            through: won.through,
            winners: won.winners,
            gross: won.gross,
            fee: won.fee,
            hold_paid_after: Amount(promise.paid),
            at: self.now,
            height: 1,
            head: Head([0; 32]),
        };
        sold.receipt = Some(receipt);
        if luck == 3 {
            // It is lost on its way, and asked for again.
            self.payee.postpone(&id, self.now);
            return;
        }
        let settled = self
            .payee
            .receive(&Signed::new(receipt, bank()), self.now)
            .expect("it pays what was drawn");
        assert_eq!(settled.winners, won.winners);
        self.disk.keep_hold(settled.hold);
        self.disk.winners.remove(&id);
    }

    fn refuse(&mut self, claim: &Claim, code: Code) {
        let body = Refusal {
            escrow: bank().account(),
            writer: 0,
            book: claim.book.body.id(),
            claim_hash: claim.hash(),
            code,
            revision: 0,
            cap: Amount(0),
            paid: Amount(0),
            at: self.now,
        };
        match self.payee.refused(&Signed::new(body, bank()), self.now) {
            Ok(Refused::Unchecked(row) | Refused::Ended(row)) => self.disk.keep_hold(*row),
            Ok(Refused::Postponed) => {}
            Err(reject) => panic!("the refusal is for a claim: {reject}"),
        }
    }

    fn answer_check(&mut self, hold: &HoldId, luck: u8) {
        let promise = self.promises.iter().find(|promise| promise.hold.body.id() == *hold);
        let Some(promise) = promise.filter(|_| luck != 1) else {
            return;
        };
        let status = HoldStatus {
            hold: promise.hold,
            paid: Amount(promise.paid),
            state: promise.state,
        };
        let row = self.payee.checked(hold, &status, self.now);
        if let Some(row) = row.expect("the escrow has signed what it was asked about") {
            self.disk.keep_hold(row);
        }
    }
}
