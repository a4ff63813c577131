//! Planning a purchase: face value, cap, and what it can cost at most. Integers only; estimates for people are elsewhere.

use crate::amount::Amount;
use crate::odds::Threshold;

/// What a payee's quote allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Price of a unit, which is a ticket.
    pub price: Amount,
    /// Smallest face value.
    pub face_value_min: Amount,
    /// Largest face value.
    pub face_value_max: Amount,
}

/// What an escrow's holds allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldLimits {
    /// Smallest face value.
    pub face_value_min: Amount,
    /// Smallest cap.
    pub cap_min: Amount,
}

/// A purchase as planned. Spec: B-17.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purchase {
    /// Units to buy, a ticket each.
    pub units: u64,
    /// Price of a unit.
    pub price: Amount,
    /// What a winner pays.
    pub face_value: Amount,
    /// What wins.
    pub threshold: Threshold,
    /// Cap of the hold to open or to use again.
    pub cap: Amount,
    /// The most that can leave the account.
    pub spend_max: Amount,
    /// `min(spend_max, units * face)`: what it costs if every ticket wins.
    pub worst: Amount,
}

impl Purchase {
    /// Expected cost in atomic units.
    #[must_use]
    pub fn expected(&self) -> u128 {
        self.threshold.expected(self.face_value, self.units)
    }

    /// Whether it costs its price exactly: every ticket wins.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.threshold == Threshold::ALWAYS
    }
}

/// Chooses face value and cap for a purchase within a ceiling.
///
/// The face value is a twentieth of the ceiling, within what payee and escrow take, and the cap 20 faces within the
/// ceiling. A purchase of less than one such face goes down to the smallest face value, where the odds are best; if that is no
/// more than the price, every ticket wins and the cost is exact.
///
/// # Errors
/// [`PlanError`] if nothing is to be bought, or no hold within the ceiling can pay for it.
pub fn plan(units: u64, terms: &Terms, limits: &HoldLimits, spend_max: Amount) -> Result<Purchase, PlanError> {
    if units == 0 {
        return Err(PlanError::Nothing);
    }
    let smallest = terms.face_value_min.max(limits.face_value_min).max(terms.price);
    if smallest > terms.face_value_max {
        return Err(PlanError::NoCommonFace {
            need: smallest,
            limit: terms.face_value_max,
        });
    }
    let total = terms.price.saturating_mul(units);
    let twentieth = Amount(spend_max.0.checked_div(FACES_PER_CAP).unwrap_or(0));
    let wished = twentieth.clamp(smallest, terms.face_value_max);
    let face_value = if total < wished { smallest } else { wished };
    let cap = spend_max
        .min(face_value.saturating_mul(FACES_PER_CAP))
        .max(limits.cap_min.max(face_value));
    if cap > spend_max {
        return Err(PlanError::CeilingTooLow {
            need: cap,
            ceiling: spend_max,
        });
    }
    let threshold = Threshold::for_price(terms.price, face_value).map_err(|_| PlanError::Nothing)?;
    let worst = spend_max.min(face_value.saturating_mul(units));
    Ok(Purchase {
        units,
        price: terms.price,
        face_value,
        threshold,
        cap,
        spend_max,
        worst,
    })
}

/// Why a purchase cannot be planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No units, or no price.
    #[error("nothing to pay for")]
    Nothing,
    /// Escrow and payee share no face value.
    #[error("no face value suits both: at least {need:?}, at most {limit:?}")]
    NoCommonFace {
        /// Smallest that escrow and price need.
        need: Amount,
        /// Largest that the payee takes.
        limit: Amount,
    },
    /// The smallest hold that works is over the ceiling.
    #[error("the ceiling is too low: a hold needs {need:?}, the ceiling is {ceiling:?}")]
    CeilingTooLow {
        /// Cap of the smallest hold.
        need: Amount,
        /// What was allowed.
        ceiling: Amount,
    },
}

/// A hold that can pay 20 winners runs dry before its expected cost so seldom that nobody waits for a top-up.
const FACES_PER_CAP: u64 = 20;
