//! The time that an escrow's ledger goes by, and the alarm when its wall clock jumps.

use crate::clock;
use std::fmt;
use tombola_core::amount::Timestamp;
use tombola_core::escrow::{ClockJump, ClockWatch, Clocks};
use tombola_ledger::store::Sharing;

/// A wall clock that is watched. Spec: C-07.
pub(super) struct WatchedClock {
    read: Box<dyn FnMut() -> Clocks + Send>,
    watch: ClockWatch,
    sharing: Sharing,
    jump: Option<ClockJump>,
}

impl WatchedClock {
    /// This machine's; what it says now is believed.
    pub(super) fn start(sharing: Sharing) -> Self {
        Self::reading(sharing, clock::clocks)
    }

    /// One that is read in another way.
    pub(super) fn reading(sharing: Sharing, mut read: impl FnMut() -> Clocks + Send + 'static) -> Self {
        let watch = ClockWatch::starting(read());
        Self {
            read: Box::new(read),
            watch,
            sharing,
            jump: None,
        }
    }

    /// For what is done whatever the clock says.
    pub(super) fn now(&mut self) -> Timestamp {
        match (self.observe(), self.sharing) {
            (Ok(time), _) => time,
            (Err(jump), Sharing::Sole) => jump.earlier(),
            // All writers of a ledger go by the clock of its database, and each stops when its own is off that. Spec: C-06.
            (Err(jump), Sharing::Shared) => jump.wall,
        }
    }

    /// For what a date alone decides; none while the clock cannot be believed.
    pub(super) fn believed(&mut self) -> Option<Timestamp> {
        self.observe().ok()
    }

    /// How the clock stood when it was last read.
    pub(super) const fn jump(&self) -> Option<ClockJump> {
        self.jump
    }

    fn observe(&mut self) -> Result<Timestamp, ClockJump> {
        let observed = self.watch.observe((self.read)());
        match (self.jump, observed) {
            (None, Err(ClockJump { wall, expected })) => tracing::error!(
                event = "clock_skew",
                wall_ms = wall.0,
                expected_ms = expected.0,
                "the wall clock jumped: claims are paid and nothing expires until it is set back; if it is right, restart the escrow"
            ),
            (Some(_), Ok(time)) => tracing::info!(
                event = "clock_right",
                wall_ms = time.0,
                "the wall clock is where it is expected again: holds expire"
            ),
            (None, Ok(_)) | (Some(_), Err(_)) => {}
        }
        self.jump = observed.err();
        observed
    }
}

impl fmt::Debug for WatchedClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedClock")
            .field("watch", &self.watch)
            .field("jump", &self.jump)
            .finish_non_exhaustive()
    }
}

/// Says what the clock and the ledger say at a start, where nothing but the operator can tell which is right.
pub(super) fn compare(clock: Timestamp, last_event: Timestamp) {
    let behind_ms = last_event.0.saturating_sub(clock.0);
    if behind_ms > tombola_core::limits::CLOCK_JUMP_MAX_MS {
        tracing::error!(
            event = "clock_skew",
            wall_ms = clock.0,
            last_event_ms = last_event.0,
            "the wall clock is behind the last event of the ledger: ledger time stands still and nothing expires until it has caught up"
        );
    } else {
        tracing::info!(
            wall_ms = clock.0,
            last_event_ms = last_event.0,
            "ledger time goes on from the wall clock"
        );
    }
}
