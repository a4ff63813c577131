//! Money out: withdrawals, their end by the operator's word, policies that make them, and fees that are collected.

use super::hold::cause_of;
use super::{Decided, Work};
use crate::event::{Cause, Effect, Place, Posting, ReadRow, moved};
use crate::key::Key;
use crate::ledger::Outcome;
use crate::request::VerifiedRequest;
use crate::row::{AccountRow, CollectionRow, PayoutRow, Row, WithdrawalRow, withdrawal_number};
use crate::view::Stop;
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::escrow::payout::{self, PayoutClock, PayoutOutcome, PayoutTerms, Settlement, WithdrawalState};
use tombola_core::escrow::{self, EscrowConfig};
use tombola_core::key::AccountKey;
use tombola_core::message::{EscrowAnswer, PayoutPolicy, Phase, Reference};
use tombola_core::reject::{Code, Reject};

/// What an escrow asks of payouts.
pub(crate) const fn terms_of(config: &EscrowConfig) -> PayoutTerms {
    PayoutTerms {
        fee: config.payout_fee,
        min: config.payout_min,
    }
}

/// What is to leave a balance, and for what.
struct Leaving<'a> {
    amount: Amount,
    destination: &'a Reference,
    reference: &'a Reference,
}

impl Work<'_> {
    /// Takes money out of a balance until the operator says what became of it. Spec: R-20.
    pub(super) fn withdraw(
        &mut self,
        request: &VerifiedRequest,
        amount: Amount,
        destination: &Reference,
        reference: &Reference,
    ) -> Result<EscrowAnswer, Stop> {
        let unknown = Reject::of(Code::AccountUnknown);
        let (row, account) = self.account_row(&request.request().account)?.ok_or(Stop::No(unknown))?;
        payout::withdraw(amount, destination, account.balance, &terms_of(self.config))?;
        let leaving = Leaving {
            amount,
            destination,
            reference,
        };
        let withdrawal = self.leave(row, &leaving, cause_of(request), &[ReadRow::Account(row)]);
        Ok(EscrowAnswer::WithdrawalPending {
            withdrawal,
            at: self.now,
            fee: self.config.payout_fee,
        })
    }

    /// Withdraws the whole balance of an account whose policy is due. Spec: R-21.
    pub(super) fn pay_out(&mut self, row: u64) -> Result<Decided, Stop> {
        let idle = Decided::Outcome(Outcome::PaidOut { withdrawal: None });
        let account = *self.view.need::<AccountRow>(Key::account(row))?;
        let found = self.view.find::<PayoutRow>(Key::payout(row))?;
        let Some(PayoutRow {
            policy: Some(policy),
            clock,
        }) = found.cloned()
        else {
            return Ok(idle);
        };
        let due = payout::due(&policy, &clock, account.balance, self.now, &terms_of(self.config));
        let Some(amount) = due.filter(|_| self.phase != Phase::Recovering) else {
            return Ok(idle);
        };
        let leaving = Leaving {
            amount,
            destination: &policy.destination,
            reference: &Reference::default(),
        };
        let cause = Cause::PayOut {
            account: account.account,
        };
        let reads = [ReadRow::Account(row), ReadRow::Payout(row)];
        let withdrawal = self.leave(row, &leaving, cause, &reads);
        Ok(Decided::Outcome(Outcome::PaidOut {
            withdrawal: Some(withdrawal),
        }))
    }

    /// Books a withdrawal; says its number.
    fn leave(&mut self, row: u64, leaving: &Leaving<'_>, cause: Cause, reads: &[ReadRow]) -> u64 {
        let reads = self.reads(reads);
        let now = self.now;
        if matches!(cause, Cause::PayOut { .. }) {
            self.view
                .edit::<PayoutRow>(Key::payout(row), |payout| payout.clock.paid_at = Some(now));
        }
        let number = withdrawal_number(self.config.epoch, self.totals.next_place(self.config.writer));
        let fresh = WithdrawalRow {
            account: row,
            amount: leaving.amount,
            fee: self.config.payout_fee,
            left: Amount::ZERO,
            destination: leaving.destination.clone(),
            reference: leaving.reference.clone(),
            asked_at: now,
            state: WithdrawalState::Pending,
            settled_by: Reference::default(),
            settled_at: Timestamp(0),
        };
        let effect = Effect::Withdrawn {
            withdrawal: number,
            amount: fresh.amount,
            fee: fresh.fee,
            destination: fresh.destination.clone(),
            reference: fresh.reference.clone(),
        };
        self.view.put(Key::withdrawal(number), Row::Withdrawals(fresh));
        self.view
            .put(Key::pending_withdrawal(number), Row::PendingWithdrawals(()));
        let postings = moved(Place::Account(row), Place::Withdrawal(number), leaving.amount).to_vec();
        let body = self.event_body(cause, effect, postings, reads);
        self.book(body, &[row], &[]);
        self.check_withdrawal(number);
        number
    }

    /// Ends a withdrawal by the operator's word. Spec: R-23.
    pub(super) fn settle(
        &mut self,
        number: u64,
        outcome: PayoutOutcome,
        reference: &Reference,
    ) -> Result<Decided, Stop> {
        let found = self.view.find::<WithdrawalRow>(Key::withdrawal(number))?.cloned();
        let record = found.as_ref().map(judged);
        let settlement = payout::settle(number, record.as_ref(), outcome, reference)?;
        let Some(row) = found else {
            return Err(Stop::No(Reject::compared(Code::WithdrawalUnknown, 0, number)));
        };
        let at = match settlement {
            Settlement::Repeat => row.settled_at,
            Settlement::Paid { .. } | Settlement::Returned(_) => {
                self.end_withdrawal(number, &row, outcome, reference, &settlement)?;
                self.now
            }
        };
        Ok(Decided::Outcome(Outcome::Settled {
            withdrawal: number,
            outcome,
            amount: row.amount,
            fee: row.fee,
            at,
        }))
    }

    fn end_withdrawal(
        &mut self,
        number: u64,
        row: &WithdrawalRow,
        outcome: PayoutOutcome,
        reference: &Reference,
        settlement: &Settlement,
    ) -> Result<(), Stop> {
        let (key, account) = (Key::withdrawal(number), row.account);
        self.view.need::<AccountRow>(Key::account(account))?;
        self.view.need::<()>(Key::pending_withdrawal(number))?;
        let reads = self.reads(&[ReadRow::Withdrawal(number), ReadRow::Account(account)]);
        let now = self.now;
        self.view.remove(Key::pending_withdrawal(number));
        self.view
            .put(Key::settled_withdrawal(now, number), Row::SettledWithdrawals(()));
        self.view.edit::<WithdrawalRow>(key, |row| {
            row.state = match outcome {
                PayoutOutcome::Paid => WithdrawalState::Paid,
                PayoutOutcome::Failed => WithdrawalState::Failed,
            };
            row.settled_by = reference.clone();
            row.settled_at = now;
        });
        if let Settlement::Paid { fee, .. } = settlement {
            self.debit(account, row.amount);
            self.totals.count_payout_fee(*fee);
        }
        let cause = Cause::Settle {
            withdrawal: number,
            outcome,
            reference: reference.clone(),
        };
        let effect = Effect::Settled {
            account,
            amount: row.amount,
            fee: row.fee,
        };
        let postings = settled_postings(number, account, settlement);
        let body = self.event_body(cause, effect, postings, reads);
        self.book(body, &[account], &[]);
        self.check_withdrawal(number);
        Ok(())
    }

    /// Sets a payout policy, or ends it. Spec: R-21.
    pub(super) fn set_payout(
        &mut self,
        request: &VerifiedRequest,
        policy: Option<&PayoutPolicy>,
    ) -> Result<EscrowAnswer, Stop> {
        let unknown = Reject::of(Code::AccountUnknown);
        let (row, _) = self.account_row(&request.request().account)?.ok_or(Stop::No(unknown))?;
        if let Some(policy) = policy {
            payout::check_policy(policy, &terms_of(self.config))?;
        }
        self.view.find::<PayoutRow>(Key::payout(row))?;
        let reads = self.reads(&[ReadRow::Payout(row)]);
        let clock = PayoutClock {
            set_at: self.now,
            paid_at: None,
        };
        let policy = policy.cloned();
        self.view
            .put(Key::payout(row), Row::Payouts(PayoutRow { policy, clock }));
        let body = self.event_body(cause_of(request), Effect::PayoutSet, Vec::new(), reads);
        self.book(body, &[], &[]);
        Ok(EscrowAnswer::PayoutSet { at: self.now })
    }

    /// Moves this writer's fees, and those of writers that it removed, to an account, once for each reference. Spec: G-07.
    pub(super) fn collect(
        &mut self,
        account: AccountKey,
        amount: Amount,
        reference: &Reference,
    ) -> Result<Decided, Stop> {
        let key = Key::collection(reference);
        let before = self.view.find::<CollectionRow>(key)?.copied();
        let found = self.account_number(&account)?;
        if let Some(before) = before {
            if before.account != account || before.amount != amount {
                return Err(Reject::compared(Code::ReferenceReused, before.amount.0, amount.0).into());
            }
            return Ok(collected(&before));
        }
        if amount.is_zero() {
            return Err(Reject::of(Code::AmountZero).into());
        }
        escrow::check_funds(amount, self.totals.own_fees())?;
        let read = match found {
            Some(row) => self.check_creditable(row)?,
            None => None,
        };
        let reads = self.reads(read.as_slice());
        let row = self.ensure_account(&account, found);
        let cause = Cause::Collect {
            account,
            amount,
            reference: reference.clone(),
        };
        let postings = moved(Place::Fees, self.credited(row), amount).to_vec();
        let body = self.event_body(cause, Effect::Collected, postings, reads);
        let logged = self.book(body, &[], &[(row, amount)]);
        self.totals.count_collected(amount);
        let entry = CollectionRow {
            account,
            amount,
            at: self.now,
            place: logged.place,
        };
        self.view.put(key, Row::Collections(entry));
        Ok(collected(&entry))
    }

    /// What is set aside is the amount of a pending withdrawal.
    fn check_withdrawal(&self, number: u64) {
        let row = self.view.peek::<WithdrawalRow>(Key::withdrawal(number));
        let is_sound = row.is_some_and(|row| match row.state {
            WithdrawalState::Pending => row.left == row.amount,
            WithdrawalState::Paid | WithdrawalState::Failed => row.left.is_zero(),
        });
        invariant!(
            is_sound,
            "a pending withdrawal sets its amount aside, a settled one nothing"
        );
    }
}

/// What the rules see of a withdrawal.
pub(crate) fn judged(row: &WithdrawalRow) -> payout::WithdrawalRecord {
    payout::WithdrawalRecord {
        amount: row.amount,
        fee: row.fee,
        state: row.state,
        settled_by: row.settled_by.clone(),
    }
}

/// From the withdrawal to the outside less the fee, or back to the balance. Spec: G-07.
pub(crate) fn settled_postings(number: u64, account: u64, settlement: &Settlement) -> Vec<Posting> {
    let posting = |place, amount: Amount| Posting {
        place,
        delta: i128::from(amount.0),
    };
    match settlement {
        Settlement::Repeat => Vec::new(),
        Settlement::Returned(amount) => moved(Place::Withdrawal(number), Place::Account(account), *amount).to_vec(),
        Settlement::Paid { out, fee } => {
            let gone = i128::from(out.0).saturating_add(i128::from(fee.0));
            let from = Posting {
                place: Place::Withdrawal(number),
                delta: 0i128.saturating_sub(gone),
            };
            vec![from, posting(Place::Outside, *out), posting(Place::Fees, *fee)]
        }
    }
}

fn collected(row: &CollectionRow) -> Decided {
    Decided::Outcome(Outcome::FeesCollected {
        account: row.account,
        amount: row.amount,
        at: row.at,
        place: row.place,
    })
}
