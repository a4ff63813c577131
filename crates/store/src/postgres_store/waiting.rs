//! How long an answer was waited for, where the machine may have slept in between.

use std::time::{Instant, SystemTime};

/// When something was asked for, by both clocks of this machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    ticking: Instant,
    wall: SystemTime,
}

impl Asked {
    /// As of now.
    pub(super) fn now() -> Self {
        Self {
            ticking: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// How long ago that was, in ms: by the clock that says more. The ticking one stands still while the machine is
    /// suspended and the wall clock does not; the wall clock may have been set back and the ticking one never is.
    pub(super) fn waited_ms(self) -> u64 {
        let wall = self.wall.elapsed().unwrap_or_default();
        u64::try_from(self.ticking.elapsed().max(wall).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Spec: C-06.
    #[test]
    fn a_machine_that_slept_while_it_waited_has_waited_that_long() {
        let hour = Duration::from_secs(3_600);
        let before_the_sleep = Asked {
            wall: SystemTime::now() - hour,
            ..Asked::now()
        };
        assert!(before_the_sleep.waited_ms() >= 3_600_000);
    }

    #[test]
    fn a_wall_clock_that_was_set_back_hides_no_wait() {
        let set_back = Asked {
            wall: SystemTime::now() + Duration::from_secs(3_600),
            ..Asked::now()
        };
        assert!(set_back.waited_ms() < 3_600_000);
    }
}
