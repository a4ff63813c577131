//! Whether an escrow's wall clock can be believed.

use crate::amount::{SECOND_MS, Timestamp};
use crate::limits::{CLOCK_FOLLOWED_PPM, CLOCK_JUMP_MAX_MS};

/// What two clocks of one machine say at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// The one that tells the date, and that people, NTP and hypervisors set.
    pub wall: Timestamp,
    /// The one that only ticks, in ms since anything: nobody sets it, and it goes on while the machine is suspended.
    pub ticking_ms: u64,
}

/// A wall clock that is not where the ticking one expects it. Which of them is right only the operator knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockJump {
    /// What the wall clock says.
    pub wall: Timestamp,
    /// What it would say if it had gone on as before.
    pub expected: Timestamp,
}

impl ClockJump {
    /// A time that neither has passed: nothing is early by it, whichever is right.
    #[must_use]
    pub fn earlier(&self) -> Timestamp {
        self.wall.min(self.expected)
    }
}

/// Holds a wall clock against one that nobody sets. Spec: C-07.
///
/// It follows the wall clock so slowly that many small jumps are as large as one: without that, a clock that gains a
/// minute every half minute would be believed for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockWatch {
    anchor: Clocks,
}

impl ClockWatch {
    /// Believes what the clocks say at the start.
    #[must_use]
    pub const fn starting(clocks: Clocks) -> Self {
        Self { anchor: clocks }
    }

    /// What the wall clock says now.
    ///
    /// # Errors
    /// [`ClockJump`] while it is more than [`CLOCK_JUMP_MAX_MS`] before or behind what is expected of it.
    pub fn observe(&mut self, now: Clocks) -> Result<Timestamp, ClockJump> {
        let passed_ms = now.ticking_ms.saturating_sub(self.anchor.ticking_ms);
        let expected = self.anchor.wall.plus_ms(passed_ms);
        let apart_ms = now.wall.0.abs_diff(expected.0);
        if apart_ms > CLOCK_JUMP_MAX_MS {
            let wall = now.wall;
            return Err(ClockJump { wall, expected });
        }
        // The millionths of less than a second would be rounded to nothing.
        if passed_ms >= SECOND_MS {
            let followed_ms = apart_ms.min(passed_ms.saturating_mul(CLOCK_FOLLOWED_PPM) / 1_000_000);
            let wall = match now.wall < expected {
                true => expected.minus_ms(followed_ms),
                false => expected.plus_ms(followed_ms),
            };
            self.anchor = Clocks { wall, ..now };
        }
        Ok(now.wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::{DAY_MS, HOUR_MS};
    use crate::limits::SERVED_GAP_MS;

    const TICK_MS: u64 = SERVED_GAP_MS / 2;
    const START: Clocks = Clocks {
        wall: Timestamp(1_800_000_000_000),
        ticking_ms: 77_000,
    };

    /// Both clocks after so much time, and the wall clock that far ahead.
    fn after(passed_ms: u64, ahead_ms: i64) -> Clocks {
        let wall = START.wall.plus_ms(passed_ms).0.checked_add_signed(ahead_ms);
        Clocks {
            wall: Timestamp(wall.unwrap()),
            ticking_ms: START.ticking_ms + passed_ms,
        }
    }

    /// Spec: C-07.
    #[test]
    fn a_clock_has_jumped_past_five_minutes_and_not_before() {
        let limit_ms = i64::try_from(CLOCK_JUMP_MAX_MS).unwrap();
        for ahead_ms in [0, 1_000, -1_000, limit_ms - 1, 1 - limit_ms, limit_ms, -limit_ms] {
            let now = after(TICK_MS, ahead_ms);
            assert_eq!(ClockWatch::starting(START).observe(now), Ok(now.wall), "{ahead_ms}");
        }
        let (day_ms, years_ms) = (86_400_000, 315_576_000_000);
        for ahead_ms in [limit_ms + 1, -limit_ms - 1, day_ms, -day_ms, years_ms, -years_ms] {
            let now = after(TICK_MS, ahead_ms);
            let jump = ClockWatch::starting(START).observe(now).unwrap_err();
            let expected = after(TICK_MS, 0).wall;
            assert_eq!((jump.wall, jump.expected), (now.wall, expected), "{ahead_ms}");
            assert_eq!(jump.earlier(), if ahead_ms > 0 { expected } else { now.wall });
        }
    }

    /// Spec: C-07.
    #[test]
    fn a_jump_lasts_until_the_clock_is_set_right_however_long_that_takes() {
        let mut watch = ClockWatch::starting(START);
        let year_ms = 365 * DAY_MS;
        for passed_ms in [TICK_MS, HOUR_MS, DAY_MS, year_ms] {
            let jump = watch.observe(after(passed_ms, 300_001 + 60_000)).unwrap_err();
            assert_eq!(jump.expected, after(passed_ms, 0).wall);
        }
        let right = after(year_ms + TICK_MS, 0);
        assert_eq!(watch.observe(right), Ok(right.wall));
    }

    /// Spec: C-07.
    #[test]
    fn small_jumps_add_up_and_time_forgets_them() {
        let mut watch = ClockWatch::starting(START);
        // Each alone is nothing: a minute in half a minute.
        let believed = (1..=100).take_while(|n| {
            let gained_ms = i64::try_from(n * 60_000).unwrap();
            watch.observe(after(n * TICK_MS, gained_ms)).is_ok()
        });
        assert_eq!(believed.count(), 5);
        // A minute a day is less than what is forgotten in one.
        let mut watch = ClockWatch::starting(START);
        for tick in 1..=30 * DAY_MS / TICK_MS {
            let gained_ms = i64::try_from(tick * TICK_MS / DAY_MS * 60_000).unwrap();
            assert!(watch.observe(after(tick * TICK_MS, gained_ms)).is_ok(), "{tick}");
        }
    }

    /// Spec: C-07. At 500 ppm it is 300 s off after a week.
    #[test]
    fn a_clock_that_is_slewed_is_believed_however_long_and_however_often_it_is_read() {
        for every_ms in [700, 1_000, 1_999, TICK_MS, DAY_MS] {
            for slew in [-1, 1] {
                let mut watch = ClockWatch::starting(START);
                for read in 1..=(365 * DAY_MS / every_ms).min(2_000_000) {
                    let passed_ms = read * every_ms;
                    let now = after(passed_ms, slew * i64::try_from(passed_ms / 2_000).unwrap());
                    assert_eq!(watch.observe(now), Ok(now.wall), "every {every_ms} ms, {passed_ms} ms");
                }
            }
        }
    }

    /// Spec: C-07. The ticking clock goes on meanwhile, so both have moved alike.
    #[test]
    fn a_machine_that_was_suspended_or_stopped_has_not_jumped() {
        let mut watch = ClockWatch::starting(START);
        for passed_ms in [1, HOUR_MS, 30 * DAY_MS, 30 * DAY_MS + 1] {
            let now = after(passed_ms, 0);
            assert_eq!(watch.observe(now), Ok(now.wall));
        }
        // Nor does the long silence make it believe a jump.
        let now = after(60 * DAY_MS, 86_400_000);
        assert!(watch.observe(now).is_err());
    }

    #[test]
    fn clocks_at_the_ends_of_time_are_compared_as_well() {
        let clocks = |wall, ticking_ms| Clocks {
            wall: Timestamp(wall),
            ticking_ms,
        };
        let mut watch = ClockWatch::starting(clocks(u64::MAX, 0));
        assert!(watch.observe(clocks(0, u64::MAX)).is_err());
        assert_eq!(watch.observe(clocks(u64::MAX, u64::MAX)), Ok(Timestamp(u64::MAX)));
        let mut watch = ClockWatch::starting(clocks(0, 5_000));
        assert_eq!(watch.observe(clocks(0, 0)), Ok(Timestamp(0)));
    }
}
