//! A writer's sums, the end of its log, and the numbers that it gives out.

use super::LogPlace;
use crate::event::{Event, Place, Posting};
use bincode::{Decode, Encode};
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::claim::Head;
use tombola_core::limits::SERVED_GAP_MS;

/// What one writer's events add up to, and where its log ends. It changes in each of the writer's commits, so it is the
/// writer's lease as well: whoever opens the ledger as the same writer changes it, and the one before is fenced off.
///
/// A writer may pay out what another one took in, so of several writers' rows only the sums cannot be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Totals {
    /// How often this writer was started.
    pub incarnation: u64,
    /// Whether the operator removed this writer: it is dead and nobody waits for it.
    pub is_removed: bool,
    /// Since when it has served claims without a gap, by its ledger time.
    pub served_since: Timestamp,
    /// When it last showed a sign of life, by its ledger time.
    pub alive_at: Timestamp,
    /// The upper part of the serials that it gives out, one larger after each rollback of the store.
    pub epoch: u32,
    /// Since which time it takes back what a rollback lost; none while it does business.
    pub recovers_since: Option<Timestamp>,
    /// Ledger time of the last event.
    pub time: Timestamp,
    /// Height of the last event; 0 if there is none.
    pub height: u64,
    /// Head of the log.
    pub head: Head,
    /// Accounts made, which are numbered from 0 on top of the writer's number.
    pub accounts: u64,
    /// Holds opened.
    pub holds: u64,
    /// Holds ended, whoever opened them.
    pub ended: u64,
    /// Money taken in.
    pub deposits: i128,
    /// What accounts can spend, credits that wait to be folded included.
    pub balances: i128,
    /// What open holds set aside and have not paid.
    pub held: i128,
    /// What the escrow kept of winners and payouts and did not collect.
    pub fees: i128,
    /// What left balances to be paid out and is not settled.
    pub pending: i128,
    /// Money paid out.
    pub withdrawn: i128,
    /// What the escrow ever kept of payouts; it is a part of the fees.
    pub payout_fees: i128,
    /// Fees that the operator ever collected.
    pub collected: i128,
    /// What fees of writers that this one removed came to: it may collect as much more than it kept itself.
    pub inherited: i128,
    /// Claims that paid something.
    pub claims: u64,
    /// Winners paid.
    pub winners: u64,
}

impl Totals {
    /// Of a writer that did nothing.
    pub const EMPTY: Self = Self {
        incarnation: 0,
        is_removed: false,
        served_since: Timestamp(0),
        alive_at: Timestamp(0),
        epoch: 0,
        recovers_since: None,
        time: Timestamp(0),
        height: 0,
        head: Head([0; 32]),
        accounts: 0,
        holds: 0,
        ended: 0,
        deposits: 0,
        balances: 0,
        held: 0,
        fees: 0,
        pending: 0,
        withdrawn: 0,
        payout_fees: 0,
        collected: 0,
        inherited: 0,
        claims: 0,
        winners: 0,
    };

    /// Whether deposits = balances + held + fees + pending + withdrawn. Spec: G-04.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        let places = [self.held, self.fees, self.pending, self.withdrawn];
        let sum = places
            .iter()
            .try_fold(self.balances, |sum, place| sum.checked_add(*place));
        sum == Some(self.deposits)
    }

    /// What the escrow ever kept of winners.
    #[must_use]
    pub const fn winner_fees(&self) -> i128 {
        self.fees
            .saturating_add(self.collected)
            .saturating_sub(self.payout_fees)
    }

    /// Moves money into or out of one place.
    pub(crate) fn post(&mut self, posting: &Posting) {
        let delta = posting.delta;
        match posting.place {
            // What came in is what outside is short of; what goes there was paid out.
            Place::Outside if delta < 0 => add(&mut self.deposits, 0i128.saturating_sub(delta)),
            Place::Outside => add(&mut self.withdrawn, delta),
            Place::Fees => add(&mut self.fees, delta),
            Place::Account(_) | Place::Credit(_) => add(&mut self.balances, delta),
            Place::Hold(_) => add(&mut self.held, delta),
            Place::Withdrawal(_) => add(&mut self.pending, delta),
        }
    }

    /// Counts what was kept of a payout.
    pub(crate) fn count_payout_fee(&mut self, fee: Amount) {
        add(&mut self.payout_fees, i128::from(fee.0));
    }

    /// Counts fees that were collected.
    pub(crate) fn count_collected(&mut self, amount: Amount) {
        add(&mut self.collected, i128::from(amount.0));
    }

    /// What this writer can collect: what it kept and what it inherited, less what it collected.
    #[must_use]
    pub fn own_fees(&self) -> Amount {
        let fees = self.fees.saturating_add(self.inherited);
        Amount(u64::try_from(fees.max(0)).unwrap_or(u64::MAX))
    }

    /// Counts the fees of a writer that was removed.
    pub(crate) fn inherit(&mut self, fees: Amount) {
        add(&mut self.inherited, i128::from(fees.0));
    }

    /// How long this writer has shown no sign of life.
    #[must_use]
    pub const fn silent_for_ms(&self, now: Timestamp) -> u64 {
        now.0.saturating_sub(self.alive_at.0)
    }

    /// Whether it serves: nobody removed it, and it was not silent for longer than what would be a gap in serving.
    #[must_use]
    pub const fn is_alive(&self, now: Timestamp) -> bool {
        !self.is_removed && self.silent_for_ms(now) <= SERVED_GAP_MS
    }

    /// Adds what another writer's events add up to.
    pub fn add(&mut self, other: &Self) {
        self.time = self.time.max(other.time);
        self.height = self.height.saturating_add(other.height);
        self.accounts = self.accounts.saturating_add(other.accounts);
        self.holds = self.holds.saturating_add(other.holds);
        self.ended = self.ended.saturating_add(other.ended);
        self.claims = self.claims.saturating_add(other.claims);
        self.winners = self.winners.saturating_add(other.winners);
        add(&mut self.deposits, other.deposits);
        add(&mut self.balances, other.balances);
        add(&mut self.held, other.held);
        add(&mut self.fees, other.fees);
        add(&mut self.pending, other.pending);
        add(&mut self.withdrawn, other.withdrawn);
        add(&mut self.payout_fees, other.payout_fees);
        add(&mut self.collected, other.collected);
    }

    /// Goes to the end of a log that this event was appended to.
    pub(crate) fn follow(&mut self, event: &Event) {
        self.time = event.body.at;
        self.height = event.height;
        self.head = event.head();
    }

    /// The row number of this writer's next account.
    pub(crate) fn next_account(&self, writer: u32) -> u64 {
        // 2^40 accounts of each of 2^16 writers: the number stays positive where a store knows signed ones only.
        (u64::from(writer) << ACCOUNT_BITS) | self.accounts
    }

    /// Where the writer's next event goes.
    pub(crate) fn next_place(&self, writer: u32) -> LogPlace {
        LogPlace {
            writer,
            height: self.height.saturating_add(1),
        }
    }
}

/// All writers but one, and but those that were removed: whom that one has to reckon with.
pub(crate) fn others(writers: &[(u32, Totals)], own: u32) -> impl Iterator<Item = (u32, &Totals)> {
    let others = writers
        .iter()
        .filter(move |(writer, totals)| *writer != own && !totals.is_removed);
    others.map(|(writer, totals)| (*writer, totals))
}

fn add(sum: &mut i128, delta: i128) {
    let after = sum.checked_add(delta);
    invariant!(after.is_some(), "no sum overflows: {sum} and {delta}");
    *sum = after.unwrap_or(*sum);
}

/// The number of the withdrawal that an event asked for: heights come again after a rollback, in another epoch.
pub(crate) fn withdrawal_number(epoch: u32, place: LogPlace) -> u64 {
    (u64::from(epoch) << EPOCH_SHIFT) | withdrawal_place(place)
}

/// What a withdrawal's number says of its event, whatever the epoch.
pub(crate) fn withdrawal_place(place: LogPlace) -> u64 {
    (u64::from(place.writer) << ACCOUNT_BITS) | place.height
}

/// The epoch in a withdrawal's number.
pub(crate) const fn withdrawal_epoch(number: u64) -> u64 {
    number >> EPOCH_SHIFT
}

/// The low bits of a withdrawal's number: the place of its event.
pub(crate) const fn withdrawal_place_of(number: u64) -> u64 {
    number & ((1 << EPOCH_SHIFT) - 1)
}

/// Six bits of writer lie between an epoch and a height.
const EPOCH_SHIFT: u32 = ACCOUNT_BITS + WRITERS_MAX.ilog2();

/// Low bits of an account's row number that count; the writer's number is above them.
const ACCOUNT_BITS: u32 = 40;
/// Writers of one ledger, dead ones included: their numbers are below this.
pub const WRITERS_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "no sum overflows")]
    fn a_sum_that_would_overflow_stops_the_program() {
        let mut sum = i128::MIN;
        add(&mut sum, -6);
    }

    #[test]
    fn account_rows_of_two_writers_never_meet() {
        let last = Totals {
            accounts: (1 << ACCOUNT_BITS) - 1,
            ..Totals::EMPTY
        };
        assert!(last.next_account(0) < Totals::EMPTY.next_account(1));
        assert!(i64::try_from(last.next_account(WRITERS_MAX - 1)).is_ok());
    }
}
