//! How fast a number grows: over the last minute, by samples of it with their times.

use std::collections::VecDeque;

/// A rate is over this long, or over the time since the start where that is shorter.
pub const RATE_WINDOW_MS: u64 = 60_000;
/// Samples closer together than this are one, so that asking often costs no memory.
const SAMPLE_MIN_MS: u64 = 500;

/// The growth of one number. It knows no clock: time is an argument.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    /// Time and total, oldest first; the first one may be older than the window, as what it is counted from.
    samples: VecDeque<(u64, u64)>,
}

impl Rate {
    /// The number has reached `total` at a time that never goes back.
    pub fn note(&mut self, at_ms: u64, total: u64) {
        let is_close = self
            .samples
            .back()
            .is_some_and(|(last, _)| at_ms < last.saturating_add(SAMPLE_MIN_MS));
        if is_close {
            return;
        }
        self.samples.push_back((at_ms, total));
        let begin = at_ms.saturating_sub(RATE_WINDOW_MS);
        while self.samples.get(1).is_some_and(|(second, _)| *second <= begin) {
            self.samples.pop_front();
        }
    }

    /// What it grew by in a second, on average over the last minute; 0 where nothing was noted before.
    #[must_use]
    pub fn per_second(&self, at_ms: u64, total: u64) -> f64 {
        let begin = at_ms.saturating_sub(RATE_WINDOW_MS);
        // The last sample that is no younger than the window, or else the first one of all.
        let from = self.samples.iter().rev().find(|(at, _)| *at <= begin);
        let Some((from_ms, from_total)) = from.or_else(|| self.samples.front()) else {
            return 0.0;
        };
        let took_ms = at_ms.saturating_sub(*from_ms);
        if took_ms == 0 {
            return 0.0;
        }
        let milli = u128::from(total.saturating_sub(*from_total)).saturating_mul(1_000_000) / u128::from(took_ms);
        // Thousandths are all that anybody reads, and divide back exactly enough.
        u64::try_from(milli).unwrap_or(u64::MAX) as f64 / 1_000.0
    }
}
