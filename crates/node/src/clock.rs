//! The outside that core takes as arguments: wall-clock time and randomness of the operating system.

use rand::TryRng;
use rand::rngs::SysRng;
use rustix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};
use tombola_core::amount::{SECOND_MS, Timestamp};
use tombola_core::escrow::Clocks;

/// Wall-clock time; 0 for a clock before 1970, which every expiry check then refuses.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The wall clock and the ticking one, which nobody can set, as of one moment.
#[must_use]
pub fn clocks() -> Clocks {
    at_once(now, ticking_ms)
}

/// Since the machine started, with the time that it was suspended: the standard library's clock stands still meanwhile,
/// and then the wall clock would seem to have jumped.
fn ticking_ms() -> u64 {
    let since = clock_gettime(ClockId::Boottime);
    let ms = |number: i64| u64::try_from(number).unwrap_or_default();
    ms(since.tv_sec)
        .saturating_mul(SECOND_MS)
        .saturating_add(ms(since.tv_nsec / 1_000_000))
}

/// Reads both until nothing came in between: a process that was stopped after the first would see the second jump.
fn at_once(mut wall: impl FnMut() -> Timestamp, mut ticking_ms: impl FnMut() -> u64) -> Clocks {
    loop {
        let (before, wall, after) = (ticking_ms(), wall(), ticking_ms());
        if after.saturating_sub(before) <= SECOND_MS {
            let ticking_ms = after;
            return Clocks { wall, ticking_ms };
        }
    }
}

/// Fresh bytes from the operating system.
///
/// # Panics
/// If the operating system has no randomness to give: no secret can be made, so the process must stop.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    assert!(
        SysRng.try_fill_bytes(&mut bytes).is_ok(),
        "the operating system gives random bytes"
    );
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Spec: C-07.
    #[test]
    fn a_process_that_was_stopped_between_two_clocks_reads_both_again() {
        let mut ticks = [10, 600_010, 600_020, 600_021].into_iter();
        let mut walls = [Timestamp(1), Timestamp(2)].into_iter();
        let read = at_once(|| walls.next().unwrap(), || ticks.next().unwrap());
        assert_eq!((read.wall, read.ticking_ms), (Timestamp(2), 600_021));
    }

    #[test]
    fn the_ticking_clock_counts_milliseconds() {
        let (first, begun) = (clocks(), std::time::Instant::now());
        while begun.elapsed() < Duration::from_millis(20) {
            std::thread::yield_now();
        }
        let (second, elapsed) = (clocks(), begun.elapsed());
        let passed_ms = second.ticking_ms - first.ticking_ms;
        assert!(
            passed_ms >= 19 && u128::from(passed_ms) <= elapsed.as_millis() + 1_001,
            "{passed_ms}"
        );
        assert!(first.wall >= Timestamp(1_600_000_000_000), "{first:?}");
    }
}
