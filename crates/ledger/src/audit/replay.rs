//! What the log alone says: balances, holds and books, rebuilt event by event without looking at any row.

use super::{AuditReport, FINDINGS_MAX, Finding};
use crate::decide::capture_postings;
use crate::event::{Captured, Cause, Effect, Event, Place, Posting, ReadRow, moved};
use crate::row::{AccountRow, BookRow, HoldRow, Totals};
use std::collections::HashMap;
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::chain::Preimage;
use tombola_core::claim::{Claim, Head, Receipt};
use tombola_core::escrow::{BookRecord, EscrowConfig, HoldRecord, Verdict, judge, release};
use tombola_core::hold::Hold;
use tombola_core::key::{AccountKey, BookId, HoldId};
use tombola_core::message::{EscrowCommand, EscrowRequest, HoldState};

/// A hold as the log says.
#[derive(Debug)]
struct ReplayedHold {
    row: u64,
    payee: u64,
    record: HoldRecord,
}

/// The state of a replay.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    config: &'a EscrowConfig,
    height: u64,
    head: Head,
    time: Timestamp,
    places: HashMap<Place, i128>,
    accounts: HashMap<AccountKey, u64>,
    holds: HashMap<HoldId, ReplayedHold>,
    books: HashMap<(u64, BookId), BookRecord>,
    claims: u64,
    winners: u64,
    findings: Vec<Finding>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(config: &'a EscrowConfig) -> Self {
        Self {
            config,
            height: 0,
            head: Totals::EMPTY.head,
            time: Timestamp(0),
            places: HashMap::new(),
            accounts: HashMap::new(),
            holds: HashMap::new(),
            books: HashMap::new(),
            claims: 0,
            winners: 0,
            findings: Vec::new(),
        }
    }

    /// Replays one event that was found at a height.
    pub(super) fn event(&mut self, height: u64, event: &Event) {
        let follows = height == self.height.saturating_add(1)
            && event.height == height
            && event.previous == self.head
            && event.writer == self.config.writer;
        self.check(follows, Finding::LogBroken { height });
        self.check(event.body.at >= self.time, Finding::TimeBack { height });
        self.height = height;
        self.head = event.head();
        self.time = event.body.at;
        match self.expected(event) {
            Err(finding) => self.check(false, finding),
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
            let place = self.places.entry(posting.place).or_default();
            *place = place.saturating_add(posting.delta);
            let is_sound = *place >= 0 || posting.place == Place::Outside;
            self.check(is_sound, Finding::Overdraft { height });
        }
    }

    /// The postings that an event's command must have had, having applied its effect to holds and books.
    fn expected(&mut self, event: &Event) -> Result<Vec<Posting>, Finding> {
        let wrong = Finding::Effect { height: event.height };
        match (&event.body.effect, &event.body.cause) {
            (Effect::Deposited, Cause::Deposit { account, amount, .. }) => {
                let row = self.account(account);
                Ok(moved(Place::Outside, Place::Account(row), *amount).to_vec())
            }
            (Effect::Opened { hold }, Cause::Request { request, .. }) => self.opened(hold, request).ok_or(wrong),
            (Effect::Raised { hold, amount }, Cause::Request { request, .. }) => {
                let is_asked = matches!(&request.command, EscrowCommand::TopUpHold { cap, .. } if *cap == hold.cap);
                let payer = self.account(&hold.terms.payer);
                let known = self.holds.get_mut(&hold.id()).ok_or(wrong)?;
                let rose = hold.cap.checked_sub(known.record.hold.cap);
                let next = known.record.hold.revision.checked_add(1);
                let is_open = known.record.state == HoldState::Open;
                if !is_asked || !is_open || rose != Some(*amount) || next != Some(hold.revision) {
                    return Err(wrong);
                }
                known.record.hold = *hold;
                Ok(moved(Place::Account(payer), Place::Hold(known.row), *amount).to_vec())
            }
            (
                Effect::Ended {
                    hold,
                    state,
                    paid,
                    returned,
                },
                cause,
            ) => self.ended(hold, *state, (*paid, *returned), cause).ok_or(wrong),
            (Effect::Captured(captured), Cause::Claim { payee, claim }) => {
                let finding = Finding::Claim { height: event.height };
                self.captured(event, captured, payee, claim).ok_or(finding)
            }
            (Effect::Transferred, Cause::Request { request, .. }) => {
                let EscrowCommand::Transfer { to, amount, .. } = &request.command else {
                    return Err(wrong);
                };
                let (from, to) = (self.account(&request.account), self.account(to));
                Ok(moved(Place::Account(from), Place::Account(to), *amount).to_vec())
            }
            (
                Effect::Deposited
                | Effect::Opened { .. }
                | Effect::Raised { .. }
                | Effect::Captured(_)
                | Effect::Transferred,
                _,
            ) => Err(wrong),
        }
    }

    fn opened(&mut self, hold: &Hold, request: &EscrowRequest) -> Option<Vec<Posting>> {
        let EscrowCommand::OpenHold { hold: asked, .. } = &request.command else {
            return None;
        };
        let terms = &hold.terms;
        let is_asked = terms.payer == request.account
            && (terms.payee, terms.signer, hold.cap) == (asked.payee, asked.signer, asked.cap)
            && terms.escrow == self.config.escrow
            && hold.check_shape().is_ok();
        let payer = self.account(&terms.payer);
        let payee = self.account(&terms.payee);
        let row = u64::try_from(self.holds.len()).ok()?;
        let record = HoldRecord {
            hold: *hold,
            paid: Amount::ZERO,
            state: HoldState::Open,
        };
        let before = self.holds.insert(hold.id(), ReplayedHold { row, payee, record });
        let postings = moved(Place::Account(payer), Place::Hold(row), hold.cap).to_vec();
        (is_asked && before.is_none()).then_some(postings)
    }

    fn ended(
        &mut self,
        hold: &HoldId,
        state: HoldState,
        (paid, returned): (Amount, Amount),
        cause: &Cause,
    ) -> Option<Vec<Posting>> {
        let known = self.holds.get_mut(hold)?;
        let is_ordered = match cause {
            Cause::Expire { hold: named } => named == hold && state == HoldState::Expired,
            Cause::Request { request, .. } => state == HoldState::Released && is_released(request, hold, &known.record),
            Cause::Deposit { .. } | Cause::Claim { .. } => false,
        };
        let is_right = is_ordered
            && known.record.state == HoldState::Open
            && (known.record.paid, known.record.left()) == (paid, returned);
        known.record.state = state;
        let row = known.row;
        let payer = known.record.hold.terms.payer;
        let payer = self.account(&payer);
        is_right.then(|| moved(Place::Hold(row), Place::Account(payer), returned).to_vec())
    }

    /// Draws every ticket of a claim again and judges it as the ledger did.
    fn captured(
        &mut self,
        event: &Event,
        captured: &Captured,
        payee: &AccountKey,
        claim: &Claim,
    ) -> Option<Vec<Posting>> {
        let known = self.holds.get_mut(&captured.hold)?;
        let winnings = claim.verify(&known.record.hold).ok()?;
        let key = (known.row, winnings.book);
        let Ok(Verdict::Capture(capture)) = judge(&winnings, payee, self.books.get(&key), &known.record) else {
            return None;
        };
        let proven = Captured {
            hold: claim.book.body.hold,
            book: winnings.book,
            through: winnings.through,
            winners: winnings.winners,
            gross: winnings.gross,
            fee: winnings.fee,
            hold_paid_after: capture.hold_paid_after,
            amount: capture.amount,
        };
        let receipt = captured.receipt(self.config.escrow, event.body.at, event.writer, event.height, self.head);
        let preimage: Preimage = winnings.preimage;
        self.books.insert(key, BookRecord { preimage, receipt });
        known.record.paid = capture.hold_paid_after;
        self.claims = self.claims.saturating_add(1);
        self.winners = self.winners.saturating_add(u64::from(capture.winners));
        let is_read = event.body.reads.iter().any(|read| read.row == ReadRow::Hold(known.row));
        let postings = capture_postings(known.row, known.payee, capture.amount, capture.fee, capture.credit);
        (proven == *captured && is_read).then_some(postings)
    }

    /// The row of an account: they are numbered in the order in which they first appear.
    fn account(&mut self, account: &AccountKey) -> u64 {
        let next = u64::try_from(self.accounts.len()).unwrap_or(u64::MAX);
        *self.accounts.entry(*account).or_insert(next)
    }

    fn place(&self, place: Place) -> u128 {
        let money = self.places.get(&place).copied().unwrap_or(0);
        u128::try_from(money).unwrap_or(0)
    }

    pub(super) fn compare_account(&mut self, row: u64, account: &AccountRow) {
        let is_known = self.accounts.get(&account.account) == Some(&row);
        let is_right = self.place(Place::Account(row)) == u128::from(account.balance.0);
        self.check(is_known && is_right, Finding::Account { row });
        let owned = u128::from(account.balance.0).saturating_add(u128::from(account.held.0));
        let net = account.credits.checked_sub(account.debits);
        self.check(net == Some(owned), Finding::Account { row });
    }

    pub(super) fn compare_hold(&mut self, row: u64, hold: &HoldRow) {
        let known = self.holds.get(&hold.hold.id());
        let is_right = known.is_some_and(|known| {
            known.row == row
                && known.record.hold == hold.hold
                && (known.record.paid, known.record.state) == (hold.paid, hold.state)
        });
        let left = self.place(Place::Hold(row)) == u128::from(hold.left.0);
        self.check(is_right && left, Finding::Hold { row });
    }

    pub(super) fn compare_book(&mut self, hold: u64, book: &BookRow) {
        let known = self.books.get(&(hold, book.receipt.book));
        let is_right = known.is_some_and(|known| {
            let receipt: &Receipt = &known.receipt;
            *receipt == book.receipt && known.preimage == book.preimage
        });
        self.check(is_right, Finding::Book { hold });
    }

    /// Compares the sums and ends the audit.
    pub(super) fn report(mut self, totals: &Totals, accounts: u64, holds: u64, books: u64) -> AuditReport {
        let deposits = self.places.get(&Place::Outside).copied().unwrap_or(0).unsigned_abs();
        let fees = self.place(Place::Fees);
        let (mut balances, mut held) = (0u128, 0u128);
        for (place, money) in &self.places {
            let money = u128::try_from(*money).unwrap_or(0);
            match place {
                Place::Account(_) => balances = balances.saturating_add(money),
                Place::Hold(_) => held = held.saturating_add(money),
                Place::Outside | Place::Fees => {}
            }
        }
        let replayed = Totals {
            time: self.time,
            height: self.height,
            head: self.head,
            accounts: u64::try_from(self.accounts.len()).unwrap_or(u64::MAX),
            holds: u64::try_from(self.holds.len()).unwrap_or(u64::MAX),
            deposits,
            balances,
            held,
            fees,
            claims: self.claims,
            winners: self.winners,
        };
        let height = self.height;
        let is_end = (totals.height, totals.head) == (replayed.height, replayed.head);
        self.check(is_end, Finding::LogEnd { height });
        let all = accounts == replayed.accounts && holds == replayed.holds;
        let all = all && usize::try_from(books).is_ok_and(|books| books == self.books.len());
        self.check(all && *totals == replayed && totals.is_conserved(), Finding::Totals);
        AuditReport {
            events: height,
            accounts,
            holds,
            books,
            deposits,
            balances,
            held,
            fees,
            claims: self.claims,
            winners: self.winners,
            conserved: self.findings.is_empty(),
            findings: self.findings,
        }
    }

    /// Keeps a finding unless all is well.
    fn check(&mut self, is_well: bool, finding: Finding) {
        if !is_well && self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
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
