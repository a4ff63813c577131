//! Redeeming: which books to close, what to claim, and what a receipt settles.

use super::book::WinnerRow;
use super::exposure::{HoldAccount, HoldRow};
use super::releasing::Pause;
use super::{Health, Payee};
use crate::amount::{Amount, HOUR_MS, Timestamp};
use crate::claim::{Claim, Receipt, Refusal};
use crate::hold::{Hold, Release};
use crate::key::{BookId, HoldId, Signed};
use crate::limits::CLAIMS_PER_BATCH_MAX;
use crate::reject::{Code, Reject};
use std::collections::BTreeMap;

/// The winners of a closed book that wait for a receipt.
#[derive(Debug)]
pub(crate) struct Unclaimed {
    row: WinnerRow,
    deadline: Timestamp,
    pause: Pause,
}

impl Unclaimed {
    pub(super) const fn new(row: WinnerRow, deadline: Timestamp) -> Self {
        Self {
            row,
            deadline,
            pause: Pause::NONE,
        }
    }

    pub(super) const fn deadline(&self) -> Timestamp {
        self.deadline
    }

    pub(super) fn winners(&self) -> u64 {
        u64::from(self.row.winners)
    }

    fn postpone(&mut self, now: Timestamp) {
        self.pause.lengthen(now, RETRY_LAST_MS);
    }
}

/// What a driver is to do next; see [`Payee::tick`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Close a book with this code: its winners are to be claimed, or its hold has ended and pays no more of them.
    Close(BookId, Code),
    /// Send these claims to the escrow of the first; all are of closed books.
    Claim(Vec<Claim>),
    /// Ask the escrow about a hold.
    Check(Box<Signed<Hold>>),
    /// Sign a release, write its row as [`Payee::released`] says, and only then send it.
    Release(Release),
    /// Send a release again that was written before; the escrow repeats its answer.
    SendRelease(Signed<Release>),
    /// Delete the row of a hold that has ended, and write [`Payee::asks_before`] with that.
    Forget(HoldId),
}

/// What a refusal means for its claim. Rows are to be written, as what they say must outlive a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The claim is repeated after a pause.
    Postponed,
    /// As [`Refused::Postponed`]; and the hold takes no book before the escrow was asked about it.
    Unchecked(Box<HoldRow>),
    /// The hold has ended: the winner is evidence from now on and is claimed no more, and the hold takes no book.
    Ended(Box<HoldRow>),
}

/// What a receipt settles: to be written in one transaction. Spec: B-15.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Settled {
    /// The hold, with what it has paid now.
    pub hold: HoldRow,
    /// The book whose winner row is done.
    pub book: BookId,
    /// Its winners.
    pub winners: u32,
    /// What was credited: gross less fee.
    pub net: Amount,
}

impl Payee {
    /// What is due now: claims before all else, and of the rest a few at a time, so that no claim waits behind a long row of
    /// it. Drivers call it every second, after each close, and again when they have done what it named. Spec: B-15, C-04.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Task> {
        let now = self.advance(now);
        self.judge_health(now);
        let unpaid = self.unpaid_books.iter();
        let mut tasks: Vec<Task> = unpaid.map(|(book, code)| Task::Close(*book, *code)).collect();
        if self.is_redeeming_due(now) {
            let redeemed = |book: &BookId| Task::Close(*book, Code::BookRedeemed);
            tasks.extend(self.winning_books.keys().map(redeemed));
        }
        let mut due: Vec<&Unclaimed> = self
            .unclaimed
            .values()
            .filter(|unclaimed| unclaimed.pause.is_over(now))
            .collect();
        due.sort_by_key(|unclaimed| unclaimed.pause.until());
        due.truncate(CLAIMS_PER_BATCH_MAX);
        if !due.is_empty() {
            tasks.push(Task::Claim(
                due.into_iter().map(|unclaimed| unclaimed.row.claim).collect(),
            ));
        }
        tasks.extend(self.checks_due(now));
        tasks.extend(self.hold_tasks_due(now));
        tasks
    }

    /// Late is: a winner without receipt at half of its hold's redeem window. Then nothing more is sold. Spec: C-04.
    fn judge_health(&mut self, now: Timestamp) {
        let is_overdue = self.unclaimed.values().any(|unclaimed| now >= unclaimed.deadline);
        self.health = match (self.health, is_overdue) {
            (Health::StoreFailed, _) => Health::StoreFailed,
            (_, true) => Health::Overdue,
            (_, false) => Health::Selling,
        };
    }

    /// Closed books are claimed anyway; open ones are closed for it when their winners are worth it, or it gets late.
    fn is_redeeming_due(&self, now: Timestamp) -> bool {
        let winning = || {
            self.winning_books
                .iter()
                .filter_map(|(book, hold)| Some((book, self.holds.get(hold)?)))
        };
        let owed = crate::amount::sum(winning().map(|(book, account)| account.liability(book)));
        let is_late = winning().any(|(_, account)| now >= account.terms().expires_at);
        owed >= u128::from(self.terms.redeem_at_value.0) || is_late
    }

    /// A receipt: the hold's paid goes up and the book's debt goes, in one step. Spec: B-15.
    ///
    /// # Errors
    /// `book_unknown` for a book that waits for none; `bad_signature`; `bad_terms` (winners, receipt's winners) if the receipt
    /// pays less than was drawn: then the claim stays unsettled, and the receipt is evidence.
    pub fn receive(&mut self, receipt: &Signed<Receipt>, now: Timestamp) -> Result<Settled, Reject> {
        let now = self.advance(now);
        let body = &receipt.body;
        let unclaimed = self.unclaimed.get(&body.book).ok_or(Reject::of(Code::BookUnknown))?;
        let row = unclaimed.row;
        let account = self
            .holds
            .get_mut(&row.claim.book.body.hold)
            .ok_or(Reject::of(Code::HoldUnknown))?;
        if account.terms().escrow != body.escrow {
            return Err(Reject::of(Code::WrongEscrow));
        }
        receipt.verify(&body.escrow.check()?)?;
        // A larger receipt is one of a time that a restored store does not know: it pays what was drawn, and more.
        let pays_all = match body.through.cmp(&row.claim.through) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => body.winners == row.winners && body.gross == row.gross(),
            std::cmp::Ordering::Greater => body.winners > row.winners && body.gross > row.gross(),
        };
        if !pays_all {
            return Err(Reject::compared(
                Code::BadTerms,
                u64::from(row.winners),
                u64::from(body.winners),
            ));
        }
        account.settle(&body.book, body.hold_paid_after, now);
        let hold = account.row;
        self.unclaimed.remove(&body.book);
        self.judge_health(now);
        Ok(Settled {
            hold,
            book: body.book,
            winners: body.winners,
            net: body.gross.saturating_sub(body.fee),
        })
    }

    /// A refusal: signed evidence, to be kept. A hold that has ended ends the matter: the winner and the refusal stay in
    /// the store for whoever judges it, and count no more. Any other claim is repeated after a growing pause, and after
    /// a refusal for the cap the escrow is asked how the hold stands. Spec: B-15, H-06.
    ///
    /// # Errors
    /// `book_unknown`, `hold_unknown`, `bad_signature`.
    pub fn refused(&mut self, refusal: &Signed<Refusal>, now: Timestamp) -> Result<Refused, Reject> {
        let now = self.advance(now);
        let (unclaimed, account) = refused_claim(&mut self.unclaimed, &mut self.holds, refusal)?;
        let body = &refusal.body;
        if body.code.ends_hold() {
            account.settle(&body.book, Amount::ZERO, now);
            account.ended = Some(body.code);
            account.row.checked_at = HoldRow::MUST_ASK;
            let row = account.row;
            self.unpaid_books
                .extend(account.open_book_ids().map(|book| (book, body.code)));
            self.unclaimed.remove(&body.book);
            return Ok(Refused::Ended(Box::new(row)));
        }
        unclaimed.postpone(now);
        if body.code != Code::ClaimOverCap {
            return Ok(Refused::Postponed);
        }
        account.row.checked_at = HoldRow::MUST_ASK;
        let row = account.row;
        self.must_check(&row);
        Ok(Refused::Unchecked(Box::new(row)))
    }

    /// A refusal by an escrow that recovers, or of which nobody knows whether it does: evidence all the same, but no last
    /// word, whatever its code. Spec: B-15.
    ///
    /// # Errors
    /// As [`Self::refused`].
    pub fn refused_for_now(&mut self, refusal: &Signed<Refusal>, now: Timestamp) -> Result<(), Reject> {
        let now = self.advance(now);
        let (unclaimed, _) = refused_claim(&mut self.unclaimed, &mut self.holds, refusal)?;
        unclaimed.postpone(now);
        Ok(())
    }

    /// A claim came to nothing, for instance because its receipt does not fit: it is repeated after a pause.
    pub fn postpone(&mut self, book: &BookId, now: Timestamp) {
        let now = self.advance(now);
        if let Some(unclaimed) = self.unclaimed.get_mut(book) {
            unclaimed.postpone(now);
        }
    }

    /// The hold of a winner that waits for a receipt, for `status` and evidence.
    pub fn unclaimed(&self) -> impl Iterator<Item = (&Claim, u32, Timestamp)> {
        self.unclaimed
            .values()
            .map(|entry| (&entry.row.claim, entry.row.winners, entry.deadline))
    }

    pub(super) fn restore_winner(&mut self, row: WinnerRow) -> Result<(), Reject> {
        let book = &row.claim.book.body;
        let account = self.holds.get_mut(&book.hold).ok_or(Reject::of(Code::HoldUnknown))?;
        account.add_liability(book.id(), book.face_value, row.gross());
        let deadline = account.row.hold.body.claim_deadline();
        self.unclaimed.insert(book.id(), Unclaimed::new(row, deadline));
        Ok(())
    }
}

/// The claim that a refusal is about and its hold, if the hold's escrow has signed the refusal.
fn refused_claim<'a>(
    unclaimed: &'a mut BTreeMap<BookId, Unclaimed>,
    holds: &'a mut BTreeMap<HoldId, HoldAccount>,
    refusal: &Signed<Refusal>,
) -> Result<(&'a mut Unclaimed, &'a mut HoldAccount), Reject> {
    let unclaimed = unclaimed
        .get_mut(&refusal.body.book)
        .ok_or(Reject::of(Code::BookUnknown))?;
    let account = holds
        .get_mut(&unclaimed.row.claim.book.body.hold)
        .ok_or(Reject::of(Code::HoldUnknown))?;
    refusal.verify(&account.terms().escrow.check()?)?;
    Ok((unclaimed, account))
}

/// The longest pause after a refused claim.
const RETRY_LAST_MS: u64 = HOUR_MS;
