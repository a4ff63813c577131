//! What the log alone says: every row but the log itself, rebuilt event by event without looking at any.

mod account;
mod hold;
mod money;
mod recovery;
mod rows;

use super::compare::Counts;
use super::{AuditReport, FINDINGS_MAX, Finding};
use crate::event::{Cause, Effect, Event, Place, Posting, ReadRow};
use crate::key::{HoldKey, Key};
use crate::row::{DepositRow, LogPlace, Table, Totals};
use account::{Accounts, Booking, KeptAnswer};
use hold::ReplayedHold;
use money::Money;
use std::collections::{HashMap, HashSet};
use tombola_core::amount::Timestamp;
use tombola_core::escrow::{BookRecord, EscrowConfig};
use tombola_core::key::{AccountKey, BookId, HoldId};
use tombola_core::message::{EscrowCommand, Share};

/// The state of a replay.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    config: &'a EscrowConfig,
    logs: HashMap<u32, Totals>,
    /// Writers that were removed: nothing may follow in their logs.
    removed: HashSet<u32>,
    /// The largest epoch that any writer is in, and those that each was seen in.
    epoch: u32,
    epochs: HashMap<u32, u64>,
    events: u64,
    places: HashMap<Place, i128>,
    /// How often each row was changed, by what events say.
    versions: HashMap<ReadRow, u64>,
    accounts: Accounts,
    holds: HashMap<HoldId, ReplayedHold>,
    books: HashMap<(HoldKey, BookId), BookRecord>,
    /// Credits that no event has folded yet.
    credits: HashMap<(u64, LogPlace), i128>,
    /// When holds ended.
    ended: HashMap<HoldKey, Timestamp>,
    deposits: HashMap<Key, DepositRow>,
    answers: Vec<KeptAnswer>,
    money: Money,
    findings: Vec<Finding>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(config: &'a EscrowConfig, writers: &[(u32, Totals)]) -> Self {
        let epoch = writers.iter().map(|(_, totals)| totals.epoch).max();
        Self {
            config,
            logs: writers.iter().map(|(writer, _)| (*writer, Totals::EMPTY)).collect(),
            removed: HashSet::new(),
            epoch: epoch.unwrap_or(0),
            epochs: HashMap::new(),
            events: 0,
            places: HashMap::new(),
            versions: HashMap::new(),
            accounts: Accounts::default(),
            holds: HashMap::new(),
            books: HashMap::new(),
            credits: HashMap::new(),
            ended: HashMap::new(),
            deposits: HashMap::new(),
            answers: Vec::new(),
            money: Money::default(),
            findings: Vec::new(),
        }
    }

    /// Events replayed so far.
    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    /// Whether all that an event was decided on was replayed.
    pub(super) fn is_ready(&self, event: &Event) -> bool {
        let body = &event.body;
        let version = |row: &ReadRow| self.versions.get(row).copied().unwrap_or(0);
        let is_there = |row: u64| self.accounts.has(row) || body.created.iter().any(|(_, made)| *made == row);
        let are_rows_there = body.postings.iter().all(|posting| match posting.place {
            Place::Account(row) | Place::Credit(row) => is_there(row),
            Place::Outside | Place::Fees | Place::Hold(_) | Place::Withdrawal(_) => true,
        });
        let are_reads_right = body.reads.iter().all(|read| version(&read.row) == read.version);
        // An account that an event names and moves nothing to may have been made by another writer.
        let is_known = |account: &AccountKey| {
            self.accounts.row(account).is_some() || body.created.iter().any(|(made, _)| made == account)
        };
        let is_asker_known = || !matches!(&body.cause, Cause::Request { request, .. } if !is_known(&request.account));
        let is_effect_ready = match &body.effect {
            Effect::Folded { account, credits } => credits
                .iter()
                .all(|place| self.credits.contains_key(&(*account, *place))),
            Effect::Captured(captured) => {
                let payee = self.holds.get(&captured.hold).map(|hold| hold.payee);
                payee.is_some_and(|payee| self.money.split_versions(payee) >= captured.split)
            }
            Effect::Opened { hold } => is_known(&hold.terms.payee),
            Effect::PayoutSet | Effect::Delegated => is_asker_known(),
            Effect::SplitSet => {
                let shares = shares_of(&body.cause);
                is_asker_known() && shares.iter().all(|share| is_known(&share.account))
            }
            Effect::WriterRemoved { writer, height, .. } => {
                self.logs.get(writer).is_some_and(|log| log.height >= *height)
            }
            Effect::Deposited
            | Effect::Raised { .. }
            | Effect::Ended { .. }
            | Effect::Transferred
            | Effect::Withdrawn { .. }
            | Effect::Settled { .. }
            | Effect::Collected => true,
        };
        are_reads_right && are_rows_there && is_effect_ready
    }

    /// Replays the next event of a writer's log.
    pub(super) fn event(&mut self, event: &Event) {
        let place = event.place();
        self.events = self.events.saturating_add(1);
        let log = *self.logs.entry(event.writer).or_insert(Totals::EMPTY);
        let follows = event.height == log.height.saturating_add(1) && event.previous == log.head;
        self.check(
            follows && !self.removed.contains(&event.writer),
            Finding::LogBroken(place),
        );
        self.check(event.body.at >= log.time, Finding::TimeBack(place));
        self.create(event, &log);
        let booking = match self.expected_booking(event) {
            Err(finding) => {
                self.find(finding);
                Booking::default()
            }
            Ok(booking) => {
                let mut postings = event.body.postings.iter();
                let sum = postings.try_fold(0i128, |sum, p| sum.checked_add(p.delta));
                let agrees = booking.postings == event.body.postings && sum == Some(0);
                self.check(agrees, Finding::Postings(place));
                booking
            }
        };
        for posting in &event.body.postings {
            self.post(event, posting);
        }
        self.note(event, &booking);
        self.keep_answer(event);
        for read in &event.body.reads {
            let is_new =
                matches!(read.row, ReadRow::Account(row) if event.body.created.iter().any(|(_, made)| *made == row));
            if !is_new {
                let version = self.versions.entry(read.row).or_default();
                *version = version.saturating_add(1);
            }
        }
        if let Some(log) = self.logs.get_mut(&event.writer) {
            log.follow(event);
        }
    }

    fn post(&mut self, event: &Event, posting: &Posting) {
        if let Some(log) = self.logs.get_mut(&event.writer) {
            log.post(posting);
        }
        let place = self.places.entry(posting.place).or_default();
        *place = place.saturating_add(posting.delta);
        let is_sound = *place >= 0 || posting.place == Place::Outside;
        self.check(is_sound, Finding::Overdraft(event.place()));
        match posting.place {
            Place::Outside | Place::Fees | Place::Account(_) => {}
            Place::Hold(hold) => self.accounts.hold_back(hold.payer, posting.delta),
            Place::Withdrawal(number) => {
                if let Some(owner) = self.money.owner(number) {
                    self.accounts.set_aside(owner, posting.delta);
                }
            }
            Place::Credit(row) => {
                if !matches!(event.body.effect, Effect::Folded { .. }) {
                    self.credits.insert((row, event.place()), posting.delta);
                }
            }
        }
    }

    /// What an event's command must have booked, having applied its effect to holds and books.
    fn expected_booking(&mut self, event: &Event) -> Result<Booking, Finding> {
        let wrong = Finding::Effect(event.place());
        match (&event.body.effect, &event.body.cause) {
            (_, Cause::Evidence { piece }) => self.evidence(event, piece).ok_or(wrong),
            (Effect::Deposited, Cause::Deposit { .. }) => self.deposited(event).ok_or(wrong),
            (Effect::Opened { hold }, Cause::Request { request, .. }) => self.opened(event, hold, request).ok_or(wrong),
            (Effect::Raised { hold, amount }, Cause::Request { request, .. }) => {
                self.raised(event, hold, *amount, request).ok_or(wrong)
            }
            (Effect::Ended { .. }, cause) => self.ended(event, cause).ok_or(wrong),
            (
                Effect::Withdrawn { .. }
                | Effect::Settled { .. }
                | Effect::PayoutSet
                | Effect::SplitSet
                | Effect::Delegated
                | Effect::Collected
                | Effect::WriterRemoved { .. },
                _,
            ) => self.money(event).ok_or(wrong),
            (Effect::Captured(captured), Cause::Claim { payee, claim }) => {
                let captured = self.captured(event, captured, payee, claim);
                let captured = captured.map(|(booking, _)| booking);
                captured.ok_or_else(|| Finding::Claim(event.place()))
            }
            (Effect::Transferred, Cause::Request { request, .. }) => self.transferred(event, request).ok_or(wrong),
            (Effect::Folded { account, credits }, Cause::Fold { account: named }) => {
                self.folded(*account, credits, named).ok_or(wrong)
            }
            (
                Effect::Deposited
                | Effect::Opened { .. }
                | Effect::Raised { .. }
                | Effect::Captured(_)
                | Effect::Transferred
                | Effect::Folded { .. },
                _,
            ) => Err(wrong),
        }
    }

    fn place(&self, place: Place) -> u128 {
        let money = self.places.get(&place).copied().unwrap_or(0);
        u128::try_from(money).unwrap_or(0)
    }

    /// Takes note of the epoch of a number that a writer gave out. Epochs only rise, and none is ahead of all writers.
    fn is_epoch_right(&mut self, writer: u32, epoch: u64) -> bool {
        let seen = self.epochs.entry(writer).or_default();
        let is_right = *seen <= epoch && epoch <= u64::from(self.epoch);
        *seen = epoch.max(*seen);
        is_right
    }

    /// Compares the sums of each writer and ends the audit.
    pub(super) fn report(mut self, writers: &[(u32, Totals)], counts: &Counts) -> AuditReport {
        let mut sum = Totals::EMPTY;
        for (writer, totals) in writers {
            let replayed = self.logs.get(writer).copied().unwrap_or(Totals::EMPTY);
            let place = LogPlace {
                writer: *writer,
                height: replayed.height,
            };
            let is_end = (totals.height, totals.head) == (replayed.height, replayed.head);
            self.check(is_end, Finding::LogEnd(place));
            let replayed = Totals {
                is_removed: self.removed.contains(writer),
                // What is not of the log.
                incarnation: totals.incarnation,
                served_since: totals.served_since,
                alive_at: totals.alive_at,
                epoch: totals.epoch,
                recovers_since: totals.recovers_since,
                ..replayed
            };
            self.check(*totals == replayed && totals.is_conserved(), Finding::Totals);
            sum.add(&replayed);
        }
        let places = [
            sum.deposits,
            sum.balances,
            sum.held,
            sum.fees,
            sum.pending,
            sum.withdrawn,
        ];
        let is_sound = sum.is_conserved() && places.iter().all(|sum| *sum >= 0);
        self.check(is_sound, Finding::Totals);
        let money = |sum: i128| u128::try_from(sum).unwrap_or(0);
        AuditReport {
            events: self.events,
            rows: counts.sum(),
            accounts: counts.of(Table::Accounts),
            holds: counts.of(Table::Holds),
            books: counts.of(Table::Books),
            deposits: money(sum.deposits),
            balances: money(sum.balances),
            held: money(sum.held),
            fees: money(sum.fees),
            pending: money(sum.pending),
            withdrawn: money(sum.withdrawn),
            claims: sum.claims,
            winners: sum.winners,
            conserved: self.findings.is_empty(),
            findings: self.findings,
        }
    }

    /// Keeps a finding unless all is well.
    fn check(&mut self, is_well: bool, finding: Finding) {
        if !is_well {
            self.find(finding);
        }
    }

    pub(super) fn find(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// The shares that a request sets; none for any other.
fn shares_of(cause: &Cause) -> &[Share] {
    match cause {
        Cause::Request { request, .. } => match &request.command {
            EscrowCommand::SetSplit { shares, .. } => shares.as_slice(),
            _ => &[],
        },
        _ => &[],
    }
}
