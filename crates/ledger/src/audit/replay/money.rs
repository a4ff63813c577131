//! Replays what moves money out, divides it, or lets others promise it: withdrawals, policies, splits, signers, fees.

use super::Replay;
use crate::audit::Finding;
use crate::decide::{judged_signer, settled_postings};
use crate::event::{Cause, Effect, Event, Place, Posting, ReadRow, moved};
use crate::key::Key;
use crate::row::{
    CollectionRow, PayoutRow, ShareRow, SignerRow, SplitRow, WithdrawalRow, withdrawal_place, withdrawal_place_of,
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

/// What the log says of all that; rows that were found are taken out, so what is left at the end is missing.
#[derive(Debug, Default)]
pub(super) struct Money {
    withdrawals: HashMap<u64, WithdrawalRow>,
    pending: HashMap<u64, u128>,
    payouts: HashMap<u64, PayoutRow>,
    /// Every version of each split, from 1 on: other writers' claims may still be by an older one.
    splits: HashMap<u64, Vec<Vec<ShareRow>>>,
    signers: HashMap<(u64, AccountKey), SignerRow>,
    signer_counts: HashMap<u64, u32>,
    collections: HashMap<Key, CollectionRow>,
    /// Withdrawals that the lists of pending (no time) and settled ones (since then) must have.
    listed: HashMap<u64, Option<Timestamp>>,
}

impl Money {
    /// How many versions a payee's split has had.
    pub(super) fn split_versions(&self, payee: u64) -> u64 {
        self.splits
            .get(&payee)
            .map_or(0, |splits| u64::try_from(splits.len()).unwrap_or(u64::MAX))
    }
}

impl Replay<'_> {
    /// The postings of an event about money that is not a hold's; none if it does not follow from its command.
    pub(super) fn money(&mut self, event: &Event) -> Option<Vec<Posting>> {
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
                let postings = self.settled(event, *withdrawal, *outcome, reference)?;
                let row = self.money.withdrawals.get(withdrawal)?;
                ((row.account, row.amount, row.fee) == (*account, *amount, *fee)).then_some(postings)
            }
            (Effect::PayoutSet, Cause::Request { request, .. }) => self.payout_set(event, request),
            (Effect::SplitSet, Cause::Request { request, .. }) => self.split_set(request),
            (Effect::Delegated, Cause::Request { request, .. }) => self.delegated(request),
            (
                Effect::Collected,
                Cause::Collect {
                    account,
                    amount,
                    reference,
                },
            ) => {
                let row = self.account(account)?;
                if let Some(log) = self.logs.get_mut(&event.writer) {
                    log.count_collected(*amount);
                }
                let entry = CollectionRow {
                    account: *account,
                    amount: *amount,
                    at: event.body.at,
                    place: event.place(),
                };
                let before = self.money.collections.insert(Key::collection(reference), entry);
                let postings = moved(Place::Fees, Self::credited(event, row), *amount).to_vec();
                before.is_none().then_some(postings)
            }
            _ => None,
        }
    }

    fn withdrawn(&mut self, event: &Event) -> Option<Vec<Posting>> {
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
                let balance = u64::try_from(self.place(Place::Account(row))).ok().map(Amount)?;
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
        let is_numbered = withdrawal_place_of(*withdrawal) == withdrawal_place(event.place());
        let before = self.money.withdrawals.insert(*withdrawal, entry);
        self.versions.insert(ReadRow::Withdrawal(*withdrawal), 1);
        let pending = self.money.pending.entry(row).or_default();
        *pending = pending.saturating_add(u128::from(amount.0));
        let postings = moved(Place::Account(row), Place::Withdrawal(*withdrawal), *amount).to_vec();
        (is_right && is_numbered && before.is_none()).then_some(postings)
    }

    fn settled(
        &mut self,
        event: &Event,
        number: u64,
        outcome: PayoutOutcome,
        reference: &Reference,
    ) -> Option<Vec<Posting>> {
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
        row.state = match settlement {
            Settlement::Repeat => return None,
            Settlement::Returned(_) => WithdrawalState::Failed,
            Settlement::Paid { fee, .. } => {
                if let Some(log) = self.logs.get_mut(&event.writer) {
                    log.count_payout_fee(fee);
                }
                WithdrawalState::Paid
            }
        };
        let pending = self.money.pending.entry(row.account).or_default();
        *pending = pending.saturating_sub(u128::from(row.amount.0));
        Some(settled_postings(number, row.account, &settlement))
    }

    fn payout_set(&mut self, event: &Event, request: &EscrowRequest) -> Option<Vec<Posting>> {
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
        Some(Vec::new())
    }

    fn split_set(&mut self, request: &EscrowRequest) -> Option<Vec<Posting>> {
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
        Some(Vec::new())
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

    fn delegated(&mut self, request: &EscrowRequest) -> Option<Vec<Posting>> {
        let EscrowCommand::Delegate { delegation, .. } = &request.command else {
            return None;
        };
        let delegation: &Signed<Delegation> = delegation;
        let given = &delegation.body;
        delegation.verify(&given.account.check().ok()?).ok()?;
        let row = self.account(&given.account)?;
        let signers = self.money.signer_counts.get(&row).copied().unwrap_or(0);
        let found = self.money.signers.get(&(row, given.signer));
        let record = found.map(judged_signer);
        let verdict = delegation::accept(given, record.as_ref(), &self.config.escrow, signers).ok()?;
        self.signer(row, given.signer).delegation = Some(given.clone());
        (verdict == DelegationVerdict::Replace && request.account == given.account).then(Vec::new)
    }

    /// A signer of an account; counted when it is new.
    fn signer(&mut self, account: u64, signer: AccountKey) -> &mut SignerRow {
        let money = &mut self.money;
        money.signers.entry((account, signer)).or_insert_with(|| {
            let count = money.signer_counts.entry(account).or_default();
            *count = count.saturating_add(1);
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

    /// What an account's pending withdrawals and its signers come to.
    pub(super) fn owes(&self, account: u64) -> (u128, u32) {
        let pending = self.money.pending.get(&account).copied().unwrap_or(0);
        (pending, self.money.signer_counts.get(&account).copied().unwrap_or(0))
    }

    pub(in crate::audit) fn compare_withdrawal(&mut self, number: u64, row: &WithdrawalRow) {
        let known = self.money.withdrawals.remove(&number);
        let settled_at = match row.state {
            WithdrawalState::Pending => None,
            WithdrawalState::Paid | WithdrawalState::Failed => Some(row.settled_at),
        };
        self.money.listed.insert(number, settled_at);
        let left = self.place(Place::Withdrawal(number)) == u128::from(row.left.0);
        let finding = Finding::Withdrawal { withdrawal: number };
        self.check(known.as_ref() == Some(row) && left, finding);
    }

    /// An entry of the list of pending withdrawals, or of settled ones with the time they have there.
    pub(in crate::audit) fn compare_listed(&mut self, number: u64, settled_at: Option<Timestamp>) {
        let is_listed = self.money.listed.remove(&number) == Some(settled_at);
        self.check(is_listed, Finding::Withdrawal { withdrawal: number });
    }

    pub(in crate::audit) fn compare_payout(&mut self, account: u64, row: &PayoutRow) {
        let known = self.money.payouts.remove(&account);
        self.check(known.as_ref() == Some(row), Finding::Payout { account });
    }

    pub(in crate::audit) fn compare_split(&mut self, account: u64, row: &SplitRow) {
        let known = self.money.splits.remove(&account);
        let last = known.as_ref().and_then(|splits| splits.last());
        self.check(last == Some(&row.shares), Finding::Split { account });
    }

    pub(in crate::audit) fn compare_signer(&mut self, account: u64, signer: AccountKey, row: &SignerRow) {
        let known = self.money.signers.remove(&(account, signer));
        self.check(known.as_ref() == Some(row), Finding::Signer { account });
    }

    pub(in crate::audit) fn compare_collection(&mut self, key: Key, row: &CollectionRow) {
        let known = self.money.collections.remove(&key);
        let height = row.place.height;
        self.check(known.as_ref() == Some(row), Finding::Collection { height });
    }

    /// Finds what no row was there for; withdrawals that had ended before `pruned` are forgotten rightly.
    pub(super) fn find_missing_money(&mut self, pruned: Timestamp) {
        let money = std::mem::take(&mut self.money);
        for (withdrawal, row) in money.withdrawals {
            let is_forgotten = row.state != WithdrawalState::Pending && row.settled_at <= pruned;
            self.check(is_forgotten, Finding::Withdrawal { withdrawal });
        }
        for withdrawal in money.listed.into_keys() {
            self.find(Finding::Withdrawal { withdrawal });
        }
        for account in money.payouts.into_keys() {
            self.find(Finding::Payout { account });
        }
        for account in money.splits.into_keys() {
            self.find(Finding::Split { account });
        }
        for (account, _) in money.signers.into_keys() {
            self.find(Finding::Signer { account });
        }
        for row in money.collections.into_values() {
            let height = row.place.height;
            self.find(Finding::Collection { height });
        }
    }
}
