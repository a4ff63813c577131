//! Luck: what tickets were worth in expectation against what their winners were worth.

use tombola_core::amount::Amount;
use tombola_core::odds::Threshold;

use crate::estimate::chance;

/// How lucky somebody was: what was expected, what was drawn, and whether that is still chance.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Luck {
    /// What the tickets were worth, in atomic units.
    pub expected: Amount,
    /// What their winners are worth, before fees.
    pub drawn: Amount,
    /// By how many standard deviations it was more than expected. Beyond 4 either way is worth a look: where 30 winners
    /// or more were expected it hardly happens by chance; where less than one was, a single winner can do it.
    pub z: f64,
}

/// Adds up luck. The variance is a float, as it is of no account: nothing is booked by it.
#[derive(Debug, Default)]
pub(crate) struct LuckTally {
    expected: u128,
    drawn: u128,
    variance: f64,
}

impl LuckTally {
    /// So many tickets of one book were drawn; `drawn` is what their winners are worth, in atomic units.
    pub(crate) fn note(&mut self, face_value: Amount, threshold: Threshold, tickets: u64, drawn: u128) {
        let chance = chance(threshold);
        self.expected = self.expected.saturating_add(threshold.expected(face_value, tickets));
        self.drawn = self.drawn.saturating_add(drawn);
        self.variance += tickets as f64 * (face_value.0 as f64).powi(2) * chance * (1.0 - chance);
    }

    pub(crate) fn luck(&self) -> Luck {
        let atoms = |sum: u128| Amount(u64::try_from(sum).unwrap_or(u64::MAX));
        let deviation = self.variance.sqrt();
        let difference = self.drawn as f64 - self.expected as f64;
        Luck {
            expected: atoms(self.expected),
            drawn: atoms(self.drawn),
            // Sure tickets have no luck.
            z: if deviation > 0.0 { difference / deviation } else { 0.0 },
        }
    }
}
