//! What the log alone says: balances, holds and books, rebuilt event by event without looking at any row.

mod money;
mod recovery;

use super::{AuditReport, Counts, FINDINGS_MAX, Finding};
use crate::decide::capture_postings;
use crate::event::{Captured, Cause, Effect, Event, Place, Posting, ReadRow, moved};
use crate::key::HoldKey;
use crate::row::{AccountRow, BookRow, CreditRow, HoldRow, LogPlace, Totals};
use money::Money;
use std::collections::{HashMap, HashSet};
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::chain::Preimage;
use tombola_core::claim::{Claim, Receipt};
use tombola_core::codec::List;
use tombola_core::escrow::delegation::Promise;
use tombola_core::escrow::{BookRecord, EscrowConfig, HoldRecord, Verdict, judge, release};
use tombola_core::hold::Hold;
use tombola_core::key::{AccountKey, BookId, HoldId};
use tombola_core::limits::ENDED_KEPT_MS;
use tombola_core::message::{EscrowCommand, EscrowRequest, HoldState, Share};

/// A hold as the log says.
#[derive(Debug)]
struct ReplayedHold {
    key: HoldKey,
    payee: u64,
    signed_in: LogPlace,
    record: HoldRecord,
}

/// The state of a replay.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    config: &'a EscrowConfig,
    logs: HashMap<u32, Totals>,
    events: u64,
    places: HashMap<Place, i128>,
    /// How often each row was changed, by what events say.
    versions: HashMap<ReadRow, u64>,
    accounts: HashMap<AccountKey, u64>,
    rows: HashSet<u64>,
    holds: HashMap<HoldId, ReplayedHold>,
    books: HashMap<(HoldKey, BookId), BookRecord>,
    /// Credits that no event has folded yet.
    credits: HashMap<(u64, LogPlace), i128>,
    /// When holds ended.
    ended: HashMap<HoldKey, Timestamp>,
    money: Money,
    findings: Vec<Finding>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(config: &'a EscrowConfig, writers: impl Iterator<Item = u32>) -> Self {
        Self {
            config,
            logs: writers.map(|writer| (writer, Totals::EMPTY)).collect(),
            events: 0,
            places: HashMap::new(),
            versions: HashMap::new(),
            accounts: HashMap::new(),
            rows: HashSet::new(),
            holds: HashMap::new(),
            books: HashMap::new(),
            credits: HashMap::new(),
            ended: HashMap::new(),
            money: Money::default(),
            findings: Vec::new(),
        }
    }

    /// Whether all that an event was decided on was replayed.
    pub(super) fn is_ready(&self, event: &Event) -> bool {
        let body = &event.body;
        let version = |row: &ReadRow| self.versions.get(row).copied().unwrap_or(0);
        let is_there = |row: u64| self.rows.contains(&row) || body.created.iter().any(|(_, made)| *made == row);
        let are_rows_there = body.postings.iter().all(|posting| match posting.place {
            Place::Account(row) | Place::Credit(row) => is_there(row),
            Place::Outside | Place::Fees | Place::Hold(_) | Place::Withdrawal(_) => true,
        });
        let are_credits_there = match &body.effect {
            Effect::Folded { account, credits } => credits
                .iter()
                .all(|place| self.credits.contains_key(&(*account, *place))),
            _ => true,
        };
        let are_reads_right = body.reads.iter().all(|read| version(&read.row) == read.version);
        let is_split_there = match &body.effect {
            Effect::Captured(captured) => {
                let payee = self.holds.get(&captured.hold).map(|hold| hold.payee);
                payee.is_some_and(|payee| self.money.split_versions(payee) >= captured.split)
            }
            _ => true,
        };
        // An account that an event names and moves nothing to may have been made by another writer.
        let is_known = |account: &AccountKey| {
            self.accounts.contains_key(account) || body.created.iter().any(|(made, _)| made == account)
        };
        let are_named_there = match &body.effect {
            Effect::Opened { hold } => is_known(&hold.terms.payee),
            Effect::SplitSet => shares_of(&body.cause).iter().all(|share| is_known(&share.account)),
            _ => true,
        };
        are_reads_right && are_rows_there && are_credits_there && is_split_there && are_named_there
    }

    /// Replays the next event of a writer's log.
    pub(super) fn event(&mut self, event: &Event) {
        let height = event.height;
        self.events = self.events.saturating_add(1);
        let log = self.logs.entry(event.writer).or_insert(Totals::EMPTY);
        let follows = height == log.height.saturating_add(1) && event.previous == log.head;
        let is_later = event.body.at >= log.time;
        let log = *log;
        self.check(follows, Finding::LogBroken { height });
        self.check(is_later, Finding::TimeBack { height });
        self.create(event, &log);
        match self.expected(event) {
            Err(finding) => self.find(finding),
            Ok(expected) => {
                let sum = event
                    .body
                    .postings
                    .iter()
                    .try_fold(0i128, |sum, p| sum.checked_add(p.delta));
                let agrees = expected == event.body.postings && sum == Some(0);
                self.check(agrees, Finding::Postings { height });
            }
        }
        for posting in &event.body.postings {
            self.post(event, posting);
        }
        if let Effect::Ended { hold, signer, .. } = &event.body.effect
            && let Some(known) = self.holds.get(hold)
        {
            let is_right = known.record.hold.terms.signer == *signer;
            self.ended.insert(known.key, event.body.at);
            self.check(is_right, Finding::Effect { height });
        }
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

    /// Takes note of the accounts that an event made: they are numbered by their writer, without a gap.
    fn create(&mut self, event: &Event, log: &Totals) {
        let mut log = *log;
        for (account, row) in &event.body.created {
            let is_next = *row == log.next_account(event.writer);
            log.accounts = log.accounts.saturating_add(1);
            let is_new = self.accounts.insert(*account, *row).is_none() && self.rows.insert(*row);
            self.versions.insert(ReadRow::Account(*row), 1);
            self.check(is_next && is_new, Finding::Effect { height: event.height });
        }
        if let Some(entry) = self.logs.get_mut(&event.writer) {
            entry.accounts = log.accounts;
        }
    }

    fn post(&mut self, event: &Event, posting: &Posting) {
        if let Some(log) = self.logs.get_mut(&event.writer) {
            log.post(posting);
        }
        let place = self.places.entry(posting.place).or_default();
        *place = place.saturating_add(posting.delta);
        let is_sound = *place >= 0 || posting.place == Place::Outside;
        self.check(is_sound, Finding::Overdraft { height: event.height });
        if let Place::Credit(row) = posting.place
            && !matches!(event.body.effect, Effect::Folded { .. })
        {
            self.credits.insert((row, event.place()), posting.delta);
        }
    }

    /// Where an event put a credit: into the account, or beside it.
    fn credited(event: &Event, row: u64) -> Place {
        let beside = Place::Credit(row);
        if event.body.postings.iter().any(|posting| posting.place == beside) {
            beside
        } else {
            Place::Account(row)
        }
    }

    /// The postings that an event's command must have had, having applied its effect to holds and books.
    fn expected(&mut self, event: &Event) -> Result<Vec<Posting>, Finding> {
        let wrong = Finding::Effect { height: event.height };
        match (&event.body.effect, &event.body.cause) {
            (_, Cause::Evidence { piece }) => self.evidence(event, piece).ok_or(wrong),
            (Effect::Deposited, Cause::Deposit { account, amount, .. }) => {
                let row = self.account(account).ok_or(wrong)?;
                Ok(moved(Place::Outside, Self::credited(event, row), *amount).to_vec())
            }
            (Effect::Opened { hold }, Cause::Request { request, .. }) => self.opened(event, hold, request).ok_or(wrong),
            (Effect::Raised { hold, amount }, Cause::Request { request, .. }) => {
                let is_asked = matches!(&request.command, EscrowCommand::TopUpHold { cap, .. } if *cap == hold.cap);
                let before = self.holds.get(&hold.id()).ok_or(wrong)?.record.hold;
                let is_asked = is_asked && self.is_authorised(event, &Promise::of_top_up(&before, hold.cap));
                let known = self.holds.get_mut(&hold.id()).ok_or(wrong)?;
                let rose = hold.cap.checked_sub(known.record.hold.cap);
                let next = known.record.hold.revision.checked_add(1);
                let is_open = known.record.state == HoldState::Open;
                if !is_asked || !is_open || rose != Some(*amount) || next != Some(hold.revision) {
                    return Err(wrong);
                }
                known.record.hold = *hold;
                known.signed_in = event.place();
                let key = known.key;
                self.commit_signer(key.payer, &hold.terms, *amount);
                Ok(moved(Place::Account(key.payer), Place::Hold(key), *amount).to_vec())
            }
            (
                Effect::Ended {
                    hold,
                    state,
                    paid,
                    returned,
                    signer: _,
                },
                cause,
            ) => self.ended(hold, *state, (*paid, *returned), cause).ok_or(wrong),
            (
                Effect::Withdrawn { .. }
                | Effect::Settled { .. }
                | Effect::PayoutSet
                | Effect::SplitSet
                | Effect::Delegated
                | Effect::Collected,
                _,
            ) => self.money(event).ok_or(wrong),
            (Effect::Captured(captured), Cause::Claim { payee, claim }) => {
                let finding = Finding::Claim { height: event.height };
                let captured = self.captured(event, captured, payee, claim);
                captured.map(|(postings, _)| postings).ok_or(finding)
            }
            (Effect::Transferred, Cause::Request { request, .. }) => {
                let EscrowCommand::Transfer { to, amount, .. } = &request.command else {
                    return Err(wrong);
                };
                let from = self.account(&request.account).ok_or(wrong)?;
                let to = Self::credited(event, self.account(to).ok_or(wrong)?);
                Ok(moved(Place::Account(from), to, *amount).to_vec())
            }
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

    fn folded(&mut self, row: u64, credits: &[LogPlace], named: &AccountKey) -> Option<Vec<Posting>> {
        let mut sum = 0i128;
        for place in credits {
            sum = sum.checked_add(self.credits.remove(&(row, *place))?)?;
        }
        let sum = u64::try_from(sum).ok().map(Amount)?;
        let is_right = self.account(named) == Some(row);
        is_right.then(|| moved(Place::Credit(row), Place::Account(row), sum).to_vec())
    }

    fn opened(&mut self, event: &Event, hold: &Hold, request: &EscrowRequest) -> Option<Vec<Posting>> {
        let EscrowCommand::OpenHold { hold: asked, .. } = &request.command else {
            return None;
        };
        let terms = &hold.terms;
        let is_asked = terms.payer == request.account
            && (terms.payee, terms.signer, hold.cap) == (asked.payee, asked.signer, asked.cap)
            && terms.escrow == self.config.escrow
            && hold.check_shape().is_ok()
            && self.is_authorised(event, &Promise::of_request(asked));
        let payee = self.account(&terms.payee)?;
        let key = HoldKey {
            payer: self.account(&terms.payer)?,
            serial: terms.serial,
        };
        let record = HoldRecord {
            hold: *hold,
            paid: Amount::ZERO,
            state: HoldState::Open,
        };
        let replayed = ReplayedHold {
            key,
            payee,
            signed_in: event.place(),
            record,
        };
        let postings = self.add_hold(event, replayed)?;
        is_asked.then_some(postings)
    }

    /// Takes note of a hold; none if the log had it before.
    fn add_hold(&mut self, event: &Event, replayed: ReplayedHold) -> Option<Vec<Posting>> {
        let (key, hold) = (replayed.key, replayed.record.hold);
        self.commit_signer(key.payer, &hold.terms, hold.cap);
        let before = self.holds.insert(hold.id(), replayed);
        self.versions.insert(ReadRow::Hold(key), 1);
        if let Some(log) = self.logs.get_mut(&event.writer) {
            log.holds = log.holds.saturating_add(1);
        }
        let postings = moved(Place::Account(key.payer), Place::Hold(key), hold.cap).to_vec();
        before.is_none().then_some(postings)
    }

    fn ended(
        &mut self,
        hold: &HoldId,
        state: HoldState,
        (paid, returned): (Amount, Amount),
        cause: &Cause,
    ) -> Option<Vec<Posting>> {
        let known = self.holds.get(hold)?;
        let is_ordered = match cause {
            Cause::Expire { hold: named } => named == hold && state == HoldState::Expired,
            Cause::Request { request, .. } => state == HoldState::Released && is_released(request, hold, &known.record),
            Cause::Deposit { .. }
            | Cause::Claim { .. }
            | Cause::PayOut { .. }
            | Cause::Settle { .. }
            | Cause::Collect { .. }
            | Cause::Fold { .. }
            | Cause::Evidence { .. } => false,
        };
        let postings = self.give_back(hold, state, (paid, returned))?;
        is_ordered.then_some(postings)
    }

    /// Ends a hold; none if it was not open, or had not paid and left this much.
    fn give_back(
        &mut self,
        hold: &HoldId,
        state: HoldState,
        (paid, returned): (Amount, Amount),
    ) -> Option<Vec<Posting>> {
        let known = self.holds.get_mut(hold)?;
        let is_right =
            known.record.state == HoldState::Open && (known.record.paid, known.record.left()) == (paid, returned);
        known.record.state = state;
        let (key, terms) = (known.key, known.record.hold.terms);
        self.return_signer(key.payer, &terms, returned);
        is_right.then(|| moved(Place::Hold(key), Place::Account(key.payer), returned).to_vec())
    }

    /// Draws every ticket of a claim again and judges it as the ledger did.
    fn captured(
        &mut self,
        event: &Event,
        captured: &Captured,
        payee: &AccountKey,
        claim: &Claim,
    ) -> Option<(Vec<Posting>, (HoldKey, BookId))> {
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
        let preimage: Preimage = winnings.preimage;
        self.books.insert(key, BookRecord { preimage, receipt });
        known.record.paid = capture.hold_paid_after;
        if let Some(log) = self.logs.get_mut(&event.writer) {
            log.claims = log.claims.saturating_add(1);
            log.winners = log.winners.saturating_add(u64::from(capture.winners));
        }
        let is_read = event.body.reads.iter().any(|read| read.row == ReadRow::Hold(known.key));
        let mut credits = vec![(Self::credited(event, payee_row), kept)];
        let moving = shares.iter().filter(|(_, share)| !share.amount.is_zero());
        credits.extend(moving.map(|(row, share)| (Self::credited(event, *row), share.amount)));
        let postings = capture_postings(key.0, &credits, &capture);
        (proven == *captured && is_read).then_some((postings, key))
    }

    /// The row of an account that some event made.
    fn account(&self, account: &AccountKey) -> Option<u64> {
        self.accounts.get(account).copied()
    }

    fn place(&self, place: Place) -> u128 {
        let money = self.places.get(&place).copied().unwrap_or(0);
        u128::try_from(money).unwrap_or(0)
    }

    pub(super) fn compare_account(&mut self, row: u64, account: &AccountRow) {
        let is_known = self.accounts.get(&account.account) == Some(&row);
        let is_right = self.place(Place::Account(row)) == u128::from(account.balance.0);
        self.check(is_known && is_right, Finding::Account { row });
        let net = account.credits.checked_sub(account.debits);
        let owes = self.owes(row) == (u128::from(account.pending.0), account.signers);
        self.check(
            net.is_some() && net == account.owned() && owes,
            Finding::Account { row },
        );
    }

    pub(super) fn compare_hold(&mut self, hold: HoldKey, row: &HoldRow) {
        let known = self.holds.remove(&row.hold.id());
        let ended_at = self.ended.get(&hold).copied().unwrap_or(Timestamp(0));
        let is_right = known.is_some_and(|known| {
            (known.key, known.payee, known.signed_in) == (hold, row.payee, row.signed_in)
                && known.record.hold == row.hold
                && (known.record.paid, known.record.state) == (row.paid, row.state)
                && ended_at == row.ended_at
        });
        let left = self.place(Place::Hold(hold)) == u128::from(row.left.0);
        self.check(is_right && left, Finding::Hold { hold });
    }

    pub(super) fn compare_book(&mut self, hold: HoldKey, book: &BookRow) {
        let known = self.books.remove(&(hold, book.receipt.book));
        let is_right = known.is_some_and(|known| {
            let receipt: &Receipt = &known.receipt;
            *receipt == book.receipt && known.preimage == book.preimage
        });
        self.check(is_right, Finding::Book { hold });
    }

    pub(super) fn compare_credit(&mut self, account: u64, place: LogPlace, row: &CreditRow) {
        let is_right = self.credits.get(&(account, place)) == Some(&i128::from(row.amount.0));
        self.check(is_right, Finding::Credit { account });
    }

    /// Finds holds and books that no row was there for; those that had ended before `pruned` are forgotten rightly.
    fn find_missing(&mut self, pruned: Timestamp) {
        let forgotten = std::mem::take(&mut self.ended);
        let is_forgotten = |hold: &HoldKey| forgotten.get(hold).is_some_and(|at| *at <= pruned);
        let holds: Vec<HoldKey> = self.holds.values().map(|hold| hold.key).collect();
        for hold in holds {
            self.check(is_forgotten(&hold), Finding::Hold { hold });
        }
        let books: Vec<HoldKey> = self.books.keys().map(|(hold, _)| *hold).collect();
        for hold in books {
            self.check(is_forgotten(&hold), Finding::Book { hold });
        }
        self.find_missing_money(pruned);
    }

    /// Compares the sums of each writer and ends the audit.
    pub(super) fn report(mut self, writers: &[(u32, Totals)], counts: &Counts) -> AuditReport {
        let mut sum = Totals::EMPTY;
        for (writer, totals) in writers {
            let replayed = self.logs.get(writer).copied().unwrap_or(Totals::EMPTY);
            let height = replayed.height;
            let is_end = (totals.height, totals.head) == (replayed.height, replayed.head);
            self.check(is_end, Finding::LogEnd { height });
            // What is not of the log.
            let replayed = Totals {
                incarnation: totals.incarnation,
                is_removed: totals.is_removed,
                served_since: totals.served_since,
                alive_at: totals.alive_at,
                epoch: totals.epoch,
                recovers_since: totals.recovers_since,
                ..replayed
            };
            self.check(*totals == replayed && totals.is_conserved(), Finding::Totals);
            sum.add(&replayed);
        }
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        let all = (counts.accounts, counts.credits) == (count(self.accounts.len()), count(self.credits.len()));
        let negative = [
            sum.deposits,
            sum.balances,
            sum.held,
            sum.fees,
            sum.pending,
            sum.withdrawn,
        ]
        .iter()
        .any(|sum| *sum < 0);
        let now = writers.iter().map(|(_, totals)| totals.alive_at).max();
        self.find_missing(now.unwrap_or(Timestamp(0)).minus_ms(ENDED_KEPT_MS));
        self.check(all && !negative && sum.is_conserved(), Finding::Totals);
        let money = |sum: i128| u128::try_from(sum).unwrap_or(0);
        AuditReport {
            events: self.events,
            accounts: counts.accounts,
            holds: counts.holds,
            books: counts.books,
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

/// Whether a request is the payee's release of this hold, signature and all.
fn is_released(request: &EscrowRequest, hold: &HoldId, record: &HoldRecord) -> bool {
    let EscrowCommand::Release(signed) = &request.command else {
        return false;
    };
    let key = record.hold.terms.payee.check();
    let is_signed = key.is_ok_and(|key| signed.verify(&key).is_ok());
    is_signed && signed.body.hold == *hold && release(&signed.body, record).is_ok()
}
