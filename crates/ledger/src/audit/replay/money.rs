//! Replays what moves money out, divides it, or lets others promise it: withdrawals, policies, splits, signers, fees.

use super::Replay;
use super::account::Booking;
use crate::audit::Finding;
use crate::decide::{judged_signer, settled_postings};
use crate::event::{Cause, Effect, Event, Place, ReadRow, moved};
use crate::key::Key;
use crate::row::{
    CollectionRow, PayoutRow, ShareRow, SignerRow, WithdrawalRow, withdrawal_epoch, withdrawal_place,
    withdrawal_place_of,
};
use std::collections::HashMap;
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::escrow::delegation::{self, DelegationVerdict, Promise};
use tombola_core::escrow::payout::{
    PayoutClock, PayoutOutcome, PayoutTerms, Settlement, WithdrawalRecord, WithdrawalState, due, settle,
};
use tombola_core::escrow::split;
use tombola_core::hold::{Delegation, HoldTerms};
use tombola_core::key::{AccountKey, Signed};
use tombola_core::message::{EscrowCommand, EscrowRequest, Reference, Share, SharePaid};

/// What the log says of all that.
#[derive(Debug, Default)]
pub(super) struct Money {
    pub(super) withdrawals: HashMap<u64, WithdrawalRow>,
    pub(super) payouts: HashMap<u64, PayoutRow>,
    /// Every version of each split, from 1 on: other writers' claims may still be by an older one.
    pub(super) splits: HashMap<u64, Vec<Vec<ShareRow>>>,
    pub(super) signers: HashMap<(u64, AccountKey), SignerRow>,
    pub(super) collections: HashMap<Key, CollectionRow>,
}

impl Money {
    /// Row of the account that a withdrawal is from.
    pub(super) fn owner(&self, withdrawal: u64) -> Option<u64> {
        self.withdrawals.get(&withdrawal).map(|row| row.account)
    }

    /// How many versions a payee's split has had.
    pub(super) fn split_versions(&self, payee: u64) -> u64 {
        self.splits
            .get(&payee)
            .map_or(0, |splits| u64::try_from(splits.len()).unwrap_or(u64::MAX))
    }
}

impl Replay<'_> {
    /// What an event about money that is not a hold's books; none if it does not follow from its command.
    pub(super) fn money(&mut self, event: &Event) -> Option<Booking> {
        match (&event.body.effect, &event.body.cause) {
            (Effect::Withdrawn { .. }, Cause::Request { .. } | Cause::PayOut { .. }) => self.withdrawn(event),
            (
                Effect::Settled { account, amount, fee },
                Cause::Settle {
                    withdrawal,
                    outcome,
                    reference,
                },
            ) => {
                let booking = self.settled(event, *withdrawal, *outcome, reference)?;
                let row = self.money.withdrawals.get(withdrawal)?;
                ((row.account, row.amount, row.fee) == (*account, *amount, *fee)).then_some(booking)
            }
            (Effect::PayoutSet, Cause::Request { request, .. }) => self.payout_set(event, request),
            (Effect::SplitSet, Cause::Request { request, .. }) => self.split_set(request),
            (Effect::Delegated, Cause::Request { request, .. }) => self.delegated(request),
            (Effect::Collected, Cause::Collect { .. }) => self.collected(event),
            (Effect::WriterRemoved { .. }, Cause::RemoveWriter { .. }) => self.writer_removed(event),
            // Money from another cause, and what is not about money.
            (
                Effect::Withdrawn { .. }
                | Effect::Settled { .. }
                | Effect::PayoutSet
                | Effect::SplitSet
                | Effect::Delegated
                | Effect::Collected
                | Effect::WriterRemoved { .. }
                | Effect::Deposited
                | Effect::Opened { .. }
                | Effect::Raised { .. }
                | Effect::Ended { .. }
                | Effect::Captured(_)
                | Effect::Transferred
                | Effect::Folded { .. },
                _,
            ) => None,
        }
    }

    /// Fees that were collected were this writer's: its own, or those of writers that it removed.
    fn collected(&mut self, event: &Event) -> Option<Booking> {
        let Cause::Collect {
            account,
            amount,
            reference,
        } = &event.body.cause
        else {
            return None;
        };
        let row = self.account(account)?;
        let log = self.logs.get_mut(&event.writer)?;
        let is_there = *amount <= log.own_fees();
        log.count_collected(*amount);
        let entry = CollectionRow {
            account: *account,
            amount: *amount,
            at: event.body.at,
            place: event.place(),
        };
        let before = self.money.collections.insert(Key::collection(reference), entry);
        let postings = moved(Place::Fees, Self::credited(event, row), *amount).to_vec();
        let booking = Booking::of(postings).credit([(row, *amount)]);
        (before.is_none() && is_there).then_some(booking)
    }

    /// A writer whose log ends where the event says, and whose fees are the remover's from then on.
    fn writer_removed(&mut self, event: &Event) -> Option<Booking> {
        let (
            Cause::RemoveWriter { writer: named },
            Effect::WriterRemoved {
                writer,
                height,
                head,
                fees,
            },
        ) = (&event.body.cause, &event.body.effect)
        else {
            return None;
        };
        let log = self.logs.get(writer)?;
        let is_end = named == writer && (log.height, log.head) == (*height, *head) && log.own_fees() == *fees;
        let is_first = *writer != event.writer && self.removed.insert(*writer);
        self.logs.get_mut(&event.writer)?.inherit(*fees);
        (is_end && is_first).then(|| Booking::of(Vec::new()))
    }

    fn withdrawn(&mut self, event: &Event) -> Option<Booking> {
        let Effect::Withdrawn {
            withdrawal,
            amount,
            fee,
            destination,
            reference,
        } = &event.body.effect
        else {
            return None;
        };
        let (row, is_right) = match &event.body.cause {
            Cause::Request { request, .. } => {
                let row = self.account(&request.account)?;
                let is_asked = matches!(&request.command, EscrowCommand::Withdraw { amount: a, destination: d, reference: r, .. }
                    if (a, d, r) == (amount, destination, reference));
                (row, is_asked)
            }
            Cause::PayOut { account } => {
                let row = self.account(account)?;
                let balance = self.balance(row);
                let payout = self.money.payouts.get_mut(&row)?;
                let policy = payout.policy.as_ref()?;
                // What the smallest payout was then is not in the log; the fee is.
                let terms = PayoutTerms {
                    fee: *fee,
                    min: Amount::ZERO,
                };
                let is_due = due(policy, &payout.clock, balance, event.body.at, &terms) == Some(*amount);
                let is_there = policy.destination == *destination && reference.as_str().is_empty();
                payout.clock.paid_at = Some(event.body.at);
                (row, is_due && is_there)
            }
            _ => return None,
        };
        let entry = WithdrawalRow {
            account: row,
            amount: *amount,
            fee: *fee,
            left: *amount,
            destination: destination.clone(),
            reference: reference.clone(),
            asked_at: event.body.at,
            state: WithdrawalState::Pending,
            settled_by: Reference::default(),
            settled_at: Timestamp(0),
        };
        let before = self.money.withdrawals.insert(*withdrawal, entry);
        self.versions.insert(ReadRow::Withdrawal(*withdrawal), 1);
        let is_numbered = withdrawal_place_of(*withdrawal) == withdrawal_place(event.place());
        let is_of_epoch = self.is_epoch_right(event.writer, withdrawal_epoch(*withdrawal));
        let is_right_number = is_numbered && is_of_epoch && before.is_none();
        self.check(is_right_number, Finding::Number(event.place()));
        let postings = moved(Place::Account(row), Place::Withdrawal(*withdrawal), *amount).to_vec();
        is_right.then(|| Booking::own(row, postings))
    }

    fn settled(
        &mut self,
        event: &Event,
        number: u64,
        outcome: PayoutOutcome,
        reference: &Reference,
    ) -> Option<Booking> {
        let row = self.money.withdrawals.get_mut(&number)?;
        let record = WithdrawalRecord {
            amount: row.amount,
            fee: row.fee,
            state: row.state,
            settled_by: row.settled_by.clone(),
        };
        let settlement = settle(number, Some(&record), outcome, reference).ok()?;
        row.left = Amount::ZERO;
        row.settled_by = reference.clone();
        row.settled_at = event.body.at;
        let debit;
        (row.state, debit) = match settlement {
            Settlement::Repeat => return None,
            Settlement::Returned(_) => (WithdrawalState::Failed, Amount::ZERO),
            Settlement::Paid { fee, .. } => {
                if let Some(log) = self.logs.get_mut(&event.writer) {
                    log.count_payout_fee(fee);
                }
                (WithdrawalState::Paid, row.amount)
            }
        };
        let postings = settled_postings(number, row.account, &settlement);
        Some(Booking::of(postings).debit(row.account, debit))
    }

    fn payout_set(&mut self, event: &Event, request: &EscrowRequest) -> Option<Booking> {
        let EscrowCommand::SetPayout { policy, .. } = &request.command else {
            return None;
        };
        let row = self.account(&request.account)?;
        let clock = PayoutClock {
            set_at: event.body.at,
            paid_at: None,
        };
        let policy = policy.clone();
        self.money.payouts.insert(row, PayoutRow { policy, clock });
        Some(Booking::default())
    }

    fn split_set(&mut self, request: &EscrowRequest) -> Option<Booking> {
        let EscrowCommand::SetSplit { shares, .. } = &request.command else {
            return None;
        };
        let payee = self.account(&request.account)?;
        split::check(&request.account, shares.as_slice()).ok()?;
        let mut rows = Vec::with_capacity(shares.as_slice().len());
        for share in shares.as_slice() {
            rows.push(ShareRow {
                account: share.account,
                row: self.account(&share.account)?,
                ppm: share.ppm,
            });
        }
        self.money.splits.entry(payee).or_default().push(rows);
        Some(Booking::default())
    }

    /// How a credit was divided by a version of its payee's split; none if there was no such version.
    pub(super) fn divided(&self, payee: u64, version: u64, credit: Amount) -> Option<(Amount, Vec<(u64, SharePaid)>)> {
        let none = Vec::new();
        let rows = match version.checked_sub(1) {
            None => &none,
            Some(index) => self.money.splits.get(&payee)?.get(usize::try_from(index).ok()?)?,
        };
        let share = |row: &ShareRow| Share {
            account: row.account,
            ppm: row.ppm,
        };
        let division = split::divide(credit, &rows.iter().map(share).collect::<Vec<_>>());
        let shares = rows.iter().map(|row| row.row).zip(division.shares).collect();
        Some((division.kept, shares))
    }

    fn delegated(&mut self, request: &EscrowRequest) -> Option<Booking> {
        let EscrowCommand::Delegate { delegation, .. } = &request.command else {
            return None;
        };
        let delegation: &Signed<Delegation> = delegation;
        let given = &delegation.body;
        delegation.verify(&given.account.check().ok()?).ok()?;
        let row = self.account(&given.account)?;
        let signers = self.accounts.get(row)?.signers;
        let found = self.money.signers.get(&(row, given.signer));
        let record = found.map(judged_signer);
        let verdict = delegation::accept(given, record.as_ref(), &self.config.escrow, signers).ok()?;
        self.signer(row, given.signer).delegation = Some(given.clone());
        (verdict == DelegationVerdict::Replace && request.account == given.account).then(Booking::default)
    }

    /// A signer of an account; counted when it is new.
    fn signer(&mut self, account: u64, signer: AccountKey) -> &mut SignerRow {
        let accounts = &mut self.accounts;
        self.money.signers.entry((account, signer)).or_insert_with(|| {
            if let Some(account) = accounts.get_mut(account) {
                account.signers = account.signers.saturating_add(1);
            }
            SignerRow {
                delegation: None,
                committed: 0,
            }
        })
    }

    /// Whether the connection of an event's request may promise this. Spec: A-05.
    pub(super) fn is_authorised(&self, event: &Event, promise: &Promise) -> bool {
        let Cause::Request { connection, request } = &event.body.cause else {
            return false;
        };
        if *connection == request.account {
            return true;
        }
        let row = self.account(&request.account);
        let found = row.and_then(|row| self.money.signers.get(&(row, *connection)));
        let record = found.map(judged_signer);
        delegation::authorise(connection, promise, record.as_ref(), event.body.at).is_ok()
    }

    /// Adds to what a hold's signer has promised. Spec: A-03.
    pub(super) fn commit_signer(&mut self, payer: u64, terms: &HoldTerms, amount: Amount) {
        if terms.signer != terms.payer {
            let row = self.signer(payer, terms.signer);
            row.committed = row.committed.saturating_add(u128::from(amount.0));
        }
    }

    /// Takes back what an ended hold did not pay. Spec: A-03.
    pub(super) fn return_signer(&mut self, payer: u64, terms: &HoldTerms, amount: Amount) {
        if terms.signer != terms.payer {
            let row = self.signer(payer, terms.signer);
            row.committed = row.committed.saturating_sub(u128::from(amount.0));
        }
    }
}
