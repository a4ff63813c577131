//! Booking an event: the money it moves, its entry in the log, and those in statements. Spec: G-01, G-04.

use super::Work;
use crate::event::{Body, Cause, Effect, Event, Place, Posting, Read};
use crate::key::Key;
use crate::row::{AccountRow, CreditRow, HoldRow, LogPlace, Row, Side, StatementRow, WithdrawalRow};
use crate::store::Sharing;
use tombola_core::amount::Amount;
use tombola_core::claim::Head;

/// Where an event ended up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Logged {
    pub(super) place: LogPlace,
    pub(super) head: Head,
}

impl Work<'_> {
    /// Books an event: moves the money, appends to the log, to the statements of the accounts that it changed, and to
    /// those that it credited.
    pub(super) fn book(&mut self, body: Body, changed: &[u64], credits: &[(u64, Amount)]) -> Logged {
        let sum: i128 = body.postings.iter().fold(0, |sum, p| sum.saturating_add(p.delta));
        invariant!(sum == 0, "postings sum to zero, not to {sum}");
        for posting in &body.postings {
            self.post(posting);
        }
        invariant!(
            self.totals.is_conserved(),
            "deposits = balances + held + fees + pending + withdrawn"
        );
        let place = self.totals.next_place(self.config.writer);
        let event = Event {
            writer: place.writer,
            height: place.height,
            previous: self.totals.head,
            body,
        };
        self.totals.follow(&event);
        let head = self.totals.head;
        self.view.put(Key::event(place), Row::Events(event));
        // Credits first: an account that pays and has a share of it is shown the balance of each.
        for (row, amount) in credits {
            match self.sharing {
                Sharing::Sole => {
                    self.credit(*row, *amount);
                    self.note(*row, place, Side::Credited);
                }
                Sharing::Shared => {
                    let credit = CreditRow { amount: *amount };
                    self.view.put(Key::credit(*row, place), Row::Credits(credit));
                }
            }
        }
        for row in changed {
            self.note(*row, place, Side::Own);
        }
        Logged { place, head }
    }

    /// Adds an entry to an account's statement, and checks the account.
    fn note(&mut self, row: u64, place: LogPlace, side: Side) {
        let balance = self
            .view
            .peek::<AccountRow>(Key::account(row))
            .map(|account| account.balance);
        invariant!(balance.is_some(), "an account is read before its statement grows");
        self.note_at(row, place, balance.unwrap_or(Amount::ZERO), side);
        self.check_account(row);
    }

    /// Adds an entry with the balance after it.
    pub(super) fn note_at(&mut self, row: u64, place: LogPlace, balance: Amount, side: Side) {
        let mut sequence = 0;
        self.view.edit::<AccountRow>(Key::account(row), |account| {
            account.entries = account.entries.saturating_add(1);
            sequence = account.entries;
        });
        let entry = StatementRow { place, balance, side };
        self.view.put(Key::statement(row, sequence), Row::Statements(entry));
    }

    /// What an account has is what came in less what went out.
    pub(super) fn check_account(&self, row: u64) {
        let account = self.view.peek::<AccountRow>(Key::account(row));
        let is_sound = account.is_some_and(|account| account.owned() == account.credits.checked_sub(account.debits));
        invariant!(is_sound, "balance + held + pending = credits - debits");
    }

    /// Moves money into or out of one place; no row goes below zero or over what an amount can be.
    fn post(&mut self, posting: &Posting) {
        let delta = posting.delta;
        match posting.place {
            // Credits are rows of their own, written or removed with the event.
            Place::Outside | Place::Fees | Place::Credit(_) => {}
            Place::Account(row) => self
                .view
                .edit::<AccountRow>(Key::account(row), |account| add(&mut account.balance, delta)),
            Place::Hold(hold) => {
                self.view
                    .edit::<HoldRow>(Key::hold(hold), |hold| add(&mut hold.left, delta));
                self.view
                    .edit::<AccountRow>(Key::account(hold.payer), |payer| add(&mut payer.held, delta));
            }
            Place::Withdrawal(number) => {
                let mut account = 0;
                self.view.edit::<WithdrawalRow>(Key::withdrawal(number), |row| {
                    add(&mut row.left, delta);
                    account = row.account;
                });
                self.view
                    .edit::<AccountRow>(Key::account(account), |owner| add(&mut owner.pending, delta));
            }
        }
        self.totals.post(posting);
    }

    pub(super) fn event_body(
        &mut self,
        cause: Cause,
        effect: Effect,
        postings: Vec<Posting>,
        reads: Vec<Read>,
    ) -> Body {
        Body {
            at: self.now,
            cause,
            effect,
            postings,
            reads,
            created: std::mem::take(&mut self.created),
        }
    }

    pub(super) fn credit(&mut self, row: u64, amount: Amount) {
        self.view.edit::<AccountRow>(Key::account(row), |account| {
            account.credits = account.credits.saturating_add(u128::from(amount.0));
        });
    }

    pub(super) fn debit(&mut self, row: u64, amount: Amount) {
        self.view.edit::<AccountRow>(Key::account(row), |account| {
            account.debits = account.debits.saturating_add(u128::from(amount.0));
        });
    }
}

fn add(amount: &mut Amount, delta: i128) {
    let sum = i128::from(amount.0).checked_add(delta);
    let after = sum.and_then(|sum| u64::try_from(sum).ok());
    invariant!(
        after.is_some(),
        "no row goes negative or overflows: {amount:?} and {delta}"
    );
    *amount = after.map_or(*amount, Amount);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Terms;
    use crate::row::Totals;
    use tombola_core::amount::Timestamp;
    use tombola_core::escrow::{EscrowConfig, Served};
    use tombola_core::key::AccountKey;
    use tombola_core::message::Phase;

    /// Spec: G-04.
    #[test]
    #[should_panic(expected = "no row goes negative")]
    fn a_row_that_would_go_negative_stops_the_program() {
        add(&mut Amount(5), -6);
    }

    /// Spec: G-04.
    #[test]
    #[should_panic(expected = "postings sum to zero")]
    fn postings_that_make_money_stop_the_program() {
        let config = EscrowConfig {
            escrow: AccountKey([1; 32]),
            asset: tombola_core::amount::Asset::USD,
            name: tombola_core::message::Reference::default(),
            fee: tombola_core::hold::Fee::default(),
            face_value_min: Amount(1),
            cap_min: Amount(1),
            writer: 0,
            payout_fee: Amount::ZERO,
            payout_min: Amount::ZERO,
            epoch: 0,
        };
        let now = Timestamp(1);
        let terms = Terms {
            sharing: Sharing::Sole,
            now,
            served: Served::starting(now),
            phase: Phase::Open,
            restored_at: Timestamp(0),
        };
        let mut work = Work::new(&config, Totals::EMPTY, terms);
        let cause = Cause::Expire {
            hold: tombola_core::key::HoldId([0; 32]),
        };
        let postings = vec![Posting {
            place: Place::Fees,
            delta: 1,
        }];
        let body = work.event_body(cause, Effect::Transferred, postings, Vec::new());
        work.book(body, &[], &[]);
    }
}
