//! Money out: withdrawals, their end, and policies that make them by themselves.
//!
//! ```text
//! withdrawal:  -withdraw-> Pending -paid---> Paid      The amount leaves the balance at once. Paid, it leaves the
//!                          Pending -failed-> Failed    ledger less the fee; failed, all of it comes back.
//! ```

use crate::amount::{Amount, HOUR_MS, Timestamp};
use crate::limits::PAYOUT_EVERY_MIN_MS;
use crate::message::{PayoutPolicy, Reference};
use crate::reject::{Code, Reject};
use bincode::{Decode, Encode};

/// What an escrow asks of payouts. Spec: R-20.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayoutTerms {
    /// What it keeps of each.
    pub fee: Amount,
    /// The smallest amount that can be withdrawn.
    pub min: Amount,
}

impl PayoutTerms {
    /// The least that can be withdrawn: the smallest payout, and more than the fee takes. Spec: R-20.
    #[must_use]
    pub const fn least(&self) -> Amount {
        let over_fee = Amount(self.fee.0.saturating_add(1));
        if self.min.0 > over_fee.0 { self.min } else { over_fee }
    }
}

/// Decides on a withdrawal; `amount` is to be moved from the balance to the withdrawal. Spec: R-20.
///
/// # Errors
/// `amount_zero`, `payout_too_small` (least, amount), `bad_terms` (1, 0) without a destination, `insufficient_funds`.
pub fn withdraw(amount: Amount, destination: &Reference, balance: Amount, terms: &PayoutTerms) -> Result<(), Reject> {
    if amount.is_zero() {
        return Err(Reject::of(Code::AmountZero));
    }
    if amount < terms.least() {
        return Err(Reject::compared(Code::PayoutTooSmall, terms.least().0, amount.0));
    }
    check_destination(destination)?;
    super::check_funds(amount, balance)
}

fn check_destination(destination: &Reference) -> Result<(), Reject> {
    if destination.as_str().is_empty() {
        return Err(Reject::compared(Code::BadTerms, 1, 0));
    }
    Ok(())
}

/// Whether a policy can be set. Spec: R-21.
///
/// # Errors
/// `bad_terms` with neither threshold nor schedule, or (1, 0) without a destination; `time_out_of_range` (least, given)
/// for a schedule under an hour; `payout_too_small` (least, given) for a threshold under the smallest payout.
pub fn check_policy(policy: &PayoutPolicy, terms: &PayoutTerms) -> Result<(), Reject> {
    if policy.threshold.is_zero() && policy.every_ms == 0 {
        return Err(Reject::of(Code::BadTerms));
    }
    if policy.every_ms != 0 && policy.every_ms < PAYOUT_EVERY_MIN_MS {
        return Err(Reject::compared(
            Code::TimeOutOfRange,
            PAYOUT_EVERY_MIN_MS,
            policy.every_ms,
        ));
    }
    if !policy.threshold.is_zero() && policy.threshold < terms.least() {
        return Err(Reject::compared(
            Code::PayoutTooSmall,
            terms.least().0,
            policy.threshold.0,
        ));
    }
    check_destination(&policy.destination)
}

/// Since when a policy waits. Spec: R-21.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct PayoutClock {
    /// When it was set.
    pub set_at: Timestamp,
    /// When it last paid out.
    pub paid_at: Option<Timestamp>,
}

/// What a policy pays out now: the whole balance, or nothing. Spec: R-21.
///
/// A threshold counts at once after the policy was set, and then at most once an hour, so that neither a busy payee
/// nor a destination that keeps failing makes a payment a second. A schedule counts from the last payout or from when it
/// was set.
#[must_use]
pub fn due(
    policy: &PayoutPolicy,
    clock: &PayoutClock,
    balance: Amount,
    now: Timestamp,
    terms: &PayoutTerms,
) -> Option<Amount> {
    let rested = clock.paid_at.is_none_or(|at| now >= at.plus_ms(PAYOUT_EVERY_MIN_MS));
    let by_threshold = !policy.threshold.is_zero() && balance >= policy.threshold && rested;
    let since = clock.paid_at.unwrap_or(clock.set_at);
    let by_schedule = policy.every_ms != 0 && now >= since.plus_ms(policy.every_ms);
    let is_due = (by_threshold || by_schedule) && balance >= terms.least();
    is_due.then_some(balance)
}

/// A withdrawal as the ledger has it. Spec: R-20.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithdrawalRecord {
    /// What left the balance.
    pub amount: Amount,
    /// What of it the escrow keeps when it is paid; fixed when it was asked for.
    pub fee: Amount,
    /// Where it is in its life.
    pub state: WithdrawalState,
    /// The operator's reference of its end; empty before.
    pub settled_by: Reference,
}

/// Where a withdrawal is in its life. Spec: R-20.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WithdrawalState {
    /// It waits for the operator.
    Pending,
    /// It was paid out.
    Paid,
    /// It failed and came back.
    Failed,
}

/// What an operator says of a payout. Spec: R-20.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PayoutOutcome {
    /// The money has gone out.
    Paid,
    /// It could not.
    Failed,
}

/// What comes of an operator's word on a payout. Spec: R-20.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// `out` leaves the ledger, and `fee` becomes the escrow's.
    Paid {
        /// The amount less the fee.
        out: Amount,
        /// The escrow's.
        fee: Amount,
    },
    /// All of it goes back to the balance.
    Returned(Amount),
    /// The same was said before.
    Repeat,
}

/// Decides on an operator's word on the withdrawal of a number, as far as the ledger has one. Spec: R-20.
///
/// # Errors
/// `withdrawal_unknown` (0, number); `withdrawal_settled` in another way, or with another reference.
pub fn settle(
    number: u64,
    withdrawal: Option<&WithdrawalRecord>,
    outcome: PayoutOutcome,
    reference: &Reference,
) -> Result<Settlement, Reject> {
    let unknown = Reject::compared(Code::WithdrawalUnknown, 0, number);
    let withdrawal = withdrawal.ok_or(unknown)?;
    let is_same = withdrawal.settled_by == *reference;
    match (withdrawal.state, outcome) {
        (WithdrawalState::Pending, PayoutOutcome::Paid) => Ok(Settlement::Paid {
            out: withdrawal.amount.saturating_sub(withdrawal.fee),
            fee: withdrawal.fee.min(withdrawal.amount),
        }),
        (WithdrawalState::Pending, PayoutOutcome::Failed) => Ok(Settlement::Returned(withdrawal.amount)),
        (WithdrawalState::Paid, PayoutOutcome::Paid) | (WithdrawalState::Failed, PayoutOutcome::Failed) if is_same => {
            Ok(Settlement::Repeat)
        }
        (WithdrawalState::Paid | WithdrawalState::Failed, PayoutOutcome::Paid | PayoutOutcome::Failed) => {
            Err(Reject::of(Code::WithdrawalSettled))
        }
    }
}

// A schedule is counted in hours.
const _: () = assert!(PAYOUT_EVERY_MIN_MS >= HOUR_MS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::DAY_MS;

    const NOW: Timestamp = Timestamp(1_000_000_000_000);
    const TERMS: PayoutTerms = PayoutTerms {
        fee: Amount(25),
        min: Amount(100),
    };

    fn text(text: &str) -> Reference {
        Reference::new(text).unwrap()
    }

    fn policy(threshold: u64, every_ms: u64) -> PayoutPolicy {
        PayoutPolicy {
            threshold: Amount(threshold),
            every_ms,
            destination: text("bank:DE00"),
        }
    }

    fn clock(paid_at: Option<Timestamp>) -> PayoutClock {
        PayoutClock { set_at: NOW, paid_at }
    }

    /// Spec: R-20.
    #[test]
    fn a_withdrawal_needs_a_balance_a_destination_and_more_than_the_fee() {
        let ask = |amount, terms: &PayoutTerms| withdraw(Amount(amount), &text("bank"), Amount(500), terms);
        assert_eq!((ask(100, &TERMS), ask(500, &TERMS)), (Ok(()), Ok(())));
        assert_eq!(ask(0, &TERMS), Err(Reject::of(Code::AmountZero)));
        assert_eq!(
            ask(99, &TERMS),
            Err(Reject::compared(Code::PayoutTooSmall, 100, 99)),
            "under the smallest"
        );
        let dear = PayoutTerms {
            fee: Amount(200),
            ..TERMS
        };
        assert_eq!(
            ask(200, &dear),
            Err(Reject::compared(Code::PayoutTooSmall, 201, 200)),
            "the fee would take all"
        );
        assert_eq!(ask(201, &dear), Ok(()));
        assert_eq!(
            ask(501, &TERMS),
            Err(Reject::compared(Code::InsufficientFunds, 501, 500))
        );
        let nowhere = withdraw(Amount(100), &text(""), Amount(500), &TERMS);
        assert_eq!(nowhere, Err(Reject::compared(Code::BadTerms, 1, 0)));
    }

    /// Spec: R-21.
    #[test]
    fn a_policy_has_a_threshold_or_a_schedule_within_the_limits() {
        assert_eq!(check_policy(&policy(100, 0), &TERMS), Ok(()));
        assert_eq!(check_policy(&policy(0, HOUR_MS), &TERMS), Ok(()));
        assert_eq!(check_policy(&policy(0, 0), &TERMS), Err(Reject::of(Code::BadTerms)));
        assert_eq!(
            check_policy(&policy(0, HOUR_MS - 1), &TERMS),
            Err(Reject::compared(Code::TimeOutOfRange, HOUR_MS, HOUR_MS - 1))
        );
        assert_eq!(
            check_policy(&policy(99, 0), &TERMS),
            Err(Reject::compared(Code::PayoutTooSmall, 100, 99))
        );
        let nowhere = PayoutPolicy {
            destination: text(""),
            ..policy(100, 0)
        };
        assert_eq!(
            check_policy(&nowhere, &TERMS),
            Err(Reject::compared(Code::BadTerms, 1, 0))
        );
    }

    /// Spec: R-21.
    #[test]
    fn a_threshold_pays_the_whole_balance_out_and_then_rests_for_an_hour() {
        let due = |balance, paid_at, now| due(&policy(1_000, 0), &clock(paid_at), Amount(balance), now, &TERMS);
        assert_eq!(due(999, None, NOW), None);
        assert_eq!(due(1_234, None, NOW), Some(Amount(1_234)));
        assert_eq!(due(1_234, Some(NOW), NOW.plus_ms(HOUR_MS - 1)), None);
        assert_eq!(due(1_234, Some(NOW), NOW.plus_ms(HOUR_MS)), Some(Amount(1_234)));
    }

    #[test]
    fn a_schedule_pays_what_covers_the_smallest_payout() {
        let due = |balance, paid_at, now| due(&policy(0, DAY_MS), &clock(paid_at), Amount(balance), now, &TERMS);
        assert_eq!(due(500, None, NOW.plus_ms(DAY_MS - 1)), None);
        assert_eq!(due(500, None, NOW.plus_ms(DAY_MS)), Some(Amount(500)));
        assert_eq!(due(99, None, NOW.plus_ms(DAY_MS)), None);
        let paid = NOW.plus_ms(DAY_MS);
        assert_eq!(due(500, Some(paid), paid.plus_ms(DAY_MS - 1)), None);
        assert_eq!(due(500, Some(paid), paid.plus_ms(DAY_MS)), Some(Amount(500)));
    }

    #[test]
    fn a_threshold_and_a_schedule_pay_whichever_comes_first() {
        let due = |balance, now| due(&policy(1_000, DAY_MS), &clock(None), Amount(balance), now, &TERMS);
        assert_eq!(due(1_000, NOW), Some(Amount(1_000)));
        assert_eq!(due(100, NOW.plus_ms(DAY_MS)), Some(Amount(100)));
    }

    /// Spec: R-20, R-23.
    #[test]
    fn a_payout_is_paid_less_its_fee_or_comes_back_whole_once() {
        let pending = WithdrawalRecord {
            amount: Amount(100),
            fee: Amount(25),
            state: WithdrawalState::Pending,
            settled_by: text(""),
        };
        let paid = Settlement::Paid {
            out: Amount(75),
            fee: Amount(25),
        };
        let wire = text("wire 1");
        assert_eq!(settle(5, Some(&pending), PayoutOutcome::Paid, &wire), Ok(paid));
        assert_eq!(
            settle(5, Some(&pending), PayoutOutcome::Failed, &wire),
            Ok(Settlement::Returned(Amount(100)))
        );
        let unknown = Err(Reject::compared(Code::WithdrawalUnknown, 0, 6));
        assert_eq!(settle(6, None, PayoutOutcome::Paid, &wire), unknown);
        let settled = Err(Reject::of(Code::WithdrawalSettled));
        for (state, same, other) in [
            (WithdrawalState::Paid, PayoutOutcome::Paid, PayoutOutcome::Failed),
            (WithdrawalState::Failed, PayoutOutcome::Failed, PayoutOutcome::Paid),
        ] {
            let ended = WithdrawalRecord {
                state,
                settled_by: wire.clone(),
                ..pending.clone()
            };
            assert_eq!(settle(5, Some(&ended), same, &wire), Ok(Settlement::Repeat));
            assert_eq!(settle(5, Some(&ended), other, &wire), settled);
            assert_eq!(settle(5, Some(&ended), same, &text("wire 2")), settled);
        }
    }
}
