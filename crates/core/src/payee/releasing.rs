//! Holds that nobody uses: what the escrow is asked about them, and how they are released and forgotten.

use super::Payee;
use super::ended::{Forgotten, Kept, gone_at};
use super::exposure::{HoldAccount, HoldRow};
use super::redeeming::Task;
use crate::amount::{HOUR_MS, MINUTE_MS, SECOND_MS, Timestamp};
use crate::hold::{Hold, Release};
use crate::key::{HoldId, Signed};
use crate::limits::{HOLD_IDLE_MS, HOLDS_MAX};
use crate::reject::{Code, Reject};

/// What was refused waits longer each time, so that it neither floods the escrow nor keeps others waiting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pause {
    refusals: u32,
    until: Timestamp,
}

impl Pause {
    pub(crate) const NONE: Self = Self {
        refusals: 0,
        until: Timestamp(0),
    };

    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        now >= self.until
    }

    pub(crate) const fn until(&self) -> Timestamp {
        self.until
    }

    /// One second at first, doubled each time.
    pub(crate) fn lengthen(&mut self, now: Timestamp, last_ms: u64) {
        let pause = SECOND_MS.saturating_mul(1u64.checked_shl(self.refusals).unwrap_or(u64::MAX));
        self.until = now.plus_ms(pause.min(last_ms));
        self.refusals = self.refusals.saturating_add(1);
    }
}

/// A hold that the escrow must be asked about.
#[derive(Debug)]
pub(crate) struct Asked {
    hold: Signed<Hold>,
    pause: Pause,
}

impl Payee {
    /// The next holds to ask the escrow about.
    pub(super) fn checks_due(&self, now: Timestamp) -> impl Iterator<Item = Task> {
        let due = self.to_check.values().filter(move |asked| asked.pause.is_over(now));
        due.take(TASKS_PER_TICK).map(|asked| Task::Check(Box::new(asked.hold)))
    }

    /// The next holds to release, to release again, to ask about, or to forget. All holds are gone through once a second at most, and
    /// not before those that were due are done: there may be a million, and nothing about them is urgent.
    pub(super) fn hold_tasks_due(&mut self, now: Timestamp) -> Vec<Task> {
        if self.due_holds.is_empty() && now >= self.next_housekeeping {
            self.next_housekeeping = now.plus_ms(HOUSEKEEPING_MS);
            let due = |(id, account): (&HoldId, &HoldAccount)| task_of_hold(*id, account, now).map(|_| *id);
            self.due_holds.extend(self.holds.iter().filter_map(due));
            self.move_ended();
            let second_ago = now.minus_ms(SECOND_MS);
            self.payers
                .retain(|_, payer| payer.units_lent > 0 || payer.opens_since > second_ago);
        }
        if now >= self.next_forgetting {
            self.next_forgetting = now.plus_ms(MINUTE_MS);
            for forgotten in self.ended.take_over(now) {
                self.note_forgotten(&forgotten);
            }
        }
        let count = self.forgettable.len().min(TASKS_PER_TICK);
        let mut tasks: Vec<Task> = self.forgettable.drain(..count).map(Task::Forget).collect();
        while tasks.len() < TASKS_PER_TICK {
            let Some(id) = self.due_holds.pop_front() else { break };
            // It may have come into use since.
            tasks.extend(self.holds.get(&id).and_then(|account| task_of_hold(id, account, now)));
        }
        tasks
    }

    /// Holds that the escrow has ended and that owe nothing need no account.
    fn move_ended(&mut self) {
        let has_ended = |account: &HoldAccount| account.ended.filter(|_| account.is_settled());
        let ended = self.holds.iter().filter_map(|(id, a)| Some((*id, has_ended(a)?)));
        for (id, code) in ended.collect::<Vec<_>>() {
            self.end(&id, code);
        }
    }

    /// A hold takes and owes nothing more: only that is remembered.
    fn end(&mut self, id: &HoldId, code: Code) {
        if let Some(account) = self.holds.remove(id) {
            self.remember(&account.row.hold.body, code, Kept::of(&account.row));
        }
    }

    /// Remembers a hold that has ended, so that it is refused when it is presented.
    pub(super) fn remember(&mut self, hold: &Hold, code: Code, kept: Kept) {
        if let Some(forgotten) = self.ended.remember(hold, code, kept) {
            self.note_forgotten(&forgotten);
        }
    }

    /// A hold that is remembered no more might be presented again, if only by a clock that was set: then it must not count
    /// as new.
    fn note_forgotten(&mut self, forgotten: &Forgotten) {
        self.asks_before = self.asks_before.max(forgotten.opened_at.plus_ms(1));
        if forgotten.has_row {
            self.forgettable.push_back(forgotten.id);
        }
    }

    /// A payer shows a hold that must be asked about first.
    ///
    /// # Errors
    /// `busy` where too many are asked about already.
    pub(super) fn ask_about(&mut self, hold: &Signed<Hold>, id: HoldId) -> Result<(), Reject> {
        let known = self.holds.len().saturating_add(self.to_check.len());
        if known >= HOLDS_MAX && !self.holds.contains_key(&id) {
            let limit = u64::try_from(HOLDS_MAX).unwrap_or(u64::MAX);
            return Err(Reject::compared(Code::Busy, limit, limit));
        }
        self.ask(*hold, id);
        Ok(())
    }

    /// A hold of the store takes no book before the escrow was asked about it.
    pub(super) fn must_check(&mut self, row: &HoldRow) {
        self.ask(row.hold, row.hold.body.id());
    }

    fn ask(&mut self, hold: Signed<Hold>, id: HoldId) {
        let pause = Pause::NONE;
        self.to_check.entry(id).or_insert(Asked { hold, pause });
    }

    /// The hold that the escrow has answered about, if it was to be asked.
    pub(super) fn answered(&mut self, hold: &HoldId) -> Option<Signed<Hold>> {
        self.to_check.remove(hold).map(|asked| asked.hold)
    }

    /// The escrow knows no such hold of this payee: it is not asked again before somebody presents it. One whose time has
    /// passed has ended long ago.
    pub fn check_failed(&mut self, hold: &HoldId) {
        self.to_check.remove(hold);
        let account = self.holds.get(hold);
        if account.is_some_and(|account| account.is_settled() && self.now > gone_at(&account.row.hold.body)) {
            self.end(hold, Code::HoldExpired);
        }
    }

    /// The escrow could not say how a hold stands, or what it said does not count: it is asked again after a pause.
    pub fn postpone_check(&mut self, hold: &HoldId, now: Timestamp) {
        let now = self.advance(now);
        if let Some(asked) = self.to_check.get_mut(hold) {
            asked.pause.lengthen(now, ASK_LAST_MS);
        }
        if let Some(account) = self.holds.get_mut(hold) {
            account.pause.lengthen(now, RELEASE_LAST_MS);
        }
    }

    /// The payee's last word on a hold, signed; from now on the hold takes nothing more. Once the row is durable the driver
    /// says so with [`Self::release_kept`], and only then sends it. Spec: H-07.
    ///
    /// # Errors
    /// `hold_unknown`; `busy` if the hold has come into use again since the task was named.
    pub fn released(&mut self, release: Signed<Release>) -> Result<HoldRow, Reject> {
        let now = self.now;
        let account = self
            .holds
            .get_mut(&release.body.hold)
            .ok_or(Reject::of(Code::HoldUnknown))?;
        let is_unused = account.is_settled() && account.is_idle(now) && account.row.paid == release.body.paid;
        if !is_unused || account.row.release.is_some() {
            return Err(Reject::of(Code::Busy));
        }
        account.row.release = Some(release);
        account.is_release_kept = false;
        Ok(account.row)
    }

    /// A hold that was to be released still owes something: it counts as in use now.
    pub fn put_off(&mut self, hold: &HoldId) {
        if let Some(account) = self.holds.get_mut(hold) {
            account.idle_since = self.now;
        }
    }

    /// The row with the release is durable.
    pub fn release_kept(&mut self, hold: &HoldId) {
        if let Some(account) = self.holds.get_mut(hold) {
            account.is_release_kept = account.row.release.is_some();
        }
    }

    /// The release was not written, or the escrow counts another sum: it is taken back, and the escrow is asked how the
    /// hold stands before anything more happens on it. Returns the row to be written.
    pub fn release_failed(&mut self, hold: &HoldId) -> Option<HoldRow> {
        let account = self.holds.get_mut(hold)?;
        account.row.release = None;
        account.row.checked_at = HoldRow::MUST_ASK;
        let row = account.row;
        self.must_check(&row);
        Some(row)
    }

    /// The escrow could not take a release now: it is sent again after a pause.
    pub fn postpone_release(&mut self, hold: &HoldId, now: Timestamp) {
        let now = self.advance(now);
        if let Some(account) = self.holds.get_mut(hold) {
            account.pause.lengthen(now, RELEASE_LAST_MS);
        }
    }

    /// The escrow has answered a release: what was left is the payer's again. Returns the row to be written, so that the
    /// release is not sent again after a restart.
    pub fn release_known(&mut self, hold: &HoldId) -> Option<HoldRow> {
        let account = self.holds.get_mut(hold)?;
        account.ended = Some(Code::HoldReleased);
        if account.row.release.is_some() {
            account.row.checked_at = HoldRow::RELEASED;
        }
        let row = account.row;
        if account.is_settled() {
            self.end(hold, Code::HoldReleased);
        }
        Some(row)
    }
}

/// Checks, and other tasks of holds, that are named at once: a driver does them side by side, and claims come between.
const TASKS_PER_TICK: usize = 32;

/// The longest pause before the escrow is asked again about a hold: a payer may be waiting.
const ASK_LAST_MS: u64 = 30 * SECOND_MS;

/// The longest pause before a release is sent again.
const RELEASE_LAST_MS: u64 = HOUR_MS;

const HOUSEKEEPING_MS: u64 = SECOND_MS;

/// A settled hold without use for 10 min is released, and the release is sent until it is answered. One whose time has
/// passed is asked about before anything of it is forgotten: this payee's clock may have been set.
fn task_of_hold(id: HoldId, account: &HoldAccount, now: Timestamp) -> Option<Task> {
    if !account.is_settled() || account.ended.is_some() || !account.pause.is_over(now) {
        return None;
    }
    match account.row.release {
        Some(release) if account.is_release_kept => Some(Task::SendRelease(release)),
        Some(_) => None,
        None if now > gone_at(&account.row.hold.body) => Some(Task::Check(Box::new(account.row.hold))),
        None if !account.is_unchecked() && account.is_idle(now) => Some(Task::Release(Release {
            hold: id,
            paid: account.row.paid,
        })),
        None => None,
    }
}

impl HoldAccount {
    /// Whether nothing has happened on it for so long that it is to be released.
    fn is_idle(&self, now: Timestamp) -> bool {
        now >= self.idle_since.plus_ms(HOLD_IDLE_MS)
    }
}
