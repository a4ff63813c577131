//! When a hold ends by itself.

use super::HoldRecord;
use crate::amount::{Amount, Timestamp};
use crate::limits::{EXPIRE_GRACE_MS, EXPIRE_SERVED_MS, SERVED_GAP_MS};
use crate::reject::{Code, Reject};

/// Decides on an expiry; answers what goes back to the payer. Spec: H-09.
///
/// # Errors
/// `hold_released`, `hold_expired`, `time_out_of_range` (earliest, now), `busy` (needed, served) in ms.
pub fn expire(hold: &HoldRecord, served: &Served, now: Timestamp) -> Result<Amount, Reject> {
    hold.check_open()?;
    let earliest = hold.hold.terms.redeem_by.plus_ms(EXPIRE_GRACE_MS);
    if now < earliest {
        return Err(Reject::compared(Code::TimeOutOfRange, earliest.0, now.0));
    }
    let for_ms = served.for_ms();
    if for_ms < EXPIRE_SERVED_MS {
        return Err(Reject::compared(Code::Busy, EXPIRE_SERVED_MS, for_ms));
    }
    Ok(hold.left())
}

/// Since when claims were served without a gap, in ledger time. Spec: H-09.
///
/// It starts anew with each process, and after any two observations that lie too far apart: an outage, a suspended
/// machine and a clock that jumps forward all look alike, and none of them may cost a payee its winners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    since: Timestamp,
    last: Timestamp,
}

impl Served {
    /// Claims are served from now on.
    #[must_use]
    pub const fn starting(now: Timestamp) -> Self {
        Self { since: now, last: now }
    }

    /// As another writer wrote it down: served since then, and last seen to.
    #[must_use]
    pub const fn recorded(since: Timestamp, last: Timestamp) -> Self {
        Self { since, last }
    }

    /// Since when.
    #[must_use]
    pub const fn since(&self) -> Timestamp {
        self.since
    }

    /// Claims are being served at this time.
    pub fn observe(&mut self, now: Timestamp) {
        if now.0.saturating_sub(self.last.0) > SERVED_GAP_MS {
            self.since = now;
        }
        self.last = now.max(self.last);
    }

    /// For how long, in ms.
    #[must_use]
    pub const fn for_ms(&self) -> u64 {
        self.last.0.saturating_sub(self.since.0)
    }
}
