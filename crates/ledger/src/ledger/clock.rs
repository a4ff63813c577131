//! Whether this machine's clock and the store's own agree: writers of one ledger judge deadlines by their own clocks.

use super::LedgerFault;
use crate::store::ClockReading;
use tombola_core::amount::Timestamp;

/// Compares a clock that was read here, before the store's was asked for, with the store's. Spec: C-06.
///
/// # Errors
/// [`LedgerFault::ClockApart`] if they are more than `limit_ms` apart, and waiting for the answer does not explain it.
pub const fn check(here: Timestamp, there: ClockReading, limit_ms: u64) -> Result<(), LedgerFault> {
    let behind = here.0.saturating_sub(there.at.0);
    let ahead = there.at.0.saturating_sub(here.plus_ms(there.waited_ms).0);
    let apart_ms = if behind > ahead { behind } else { ahead };
    if apart_ms > limit_ms {
        return Err(LedgerFault::ClockApart {
            here,
            there: there.at,
            apart_ms,
            limit_ms,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec: C-06.
    #[test]
    fn a_clock_is_apart_by_what_waiting_for_it_does_not_explain() {
        let apart = |here, at, waited_ms| {
            let at = Timestamp(at);
            check(Timestamp(here), ClockReading { at, waited_ms }, 5_000)
        };
        assert_eq!(apart(10_000, 10_500, 1_000), Ok(()));
        assert_eq!(apart(10_000, 16_000, 1_000), Ok(()));
        assert_eq!(
            apart(10_000, 16_001, 1_000),
            Err(LedgerFault::ClockApart {
                here: Timestamp(10_000),
                there: Timestamp(16_001),
                apart_ms: 5_001,
                limit_ms: 5_000
            })
        );
        assert_eq!(apart(10_000, 5_000, 60_000), Ok(()));
        assert!(apart(10_000, 4_999, 60_000).is_err());
    }
}
