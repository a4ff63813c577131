//! Patience with a server that does not answer.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};
use tombola_ledger::store::StoreFault;

/// A timer that comes so late says that this process stood still: it was stopped, or its machine slept.
const LATE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long a server may take for one thing, of the patience that there is with all of them, so that there is time left to
/// find another one.
pub(super) fn turn_of(limit: Duration) -> Duration {
    limit.checked_div(3).unwrap_or_default()
}

/// Waits for a server until patience ends. It begins anew when this process has stood still: that time is none of the
/// server's, which may have undone meanwhile what had begun.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    ends: Instant,
    pause: Duration,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        let ends = after(limit);
        Self {
            limit,
            ends,
            pause: FIRST_PAUSE,
        }
    }

    /// What comes of the work before a server had its turn, at the latest when patience ends.
    pub(super) async fn turn<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let ends = after(turn_of(self.limit)).min(self.ends);
        let done = timeout_at(ends, work).await.ok();
        self.begin_anew_if_late(ends);
        done
    }

    /// What comes of the work before patience ends.
    pub(super) async fn whole<T>(&mut self, work: impl Future<Output = T>) -> Result<T, StoreFault> {
        let mut work = pin!(work);
        loop {
            let ends = self.ends;
            let done = timeout_at(ends, work.as_mut()).await;
            let is_over = !self.begin_anew_if_late(ends);
            match done {
                Ok(done) => return Ok(done),
                Err(_) if is_over => return Err(StoreFault::Unreachable),
                Err(_) => {}
            }
        }
    }

    /// Waits before the next try, longer each time.
    pub(super) async fn pause(&mut self) -> Result<(), StoreFault> {
        if Instant::now() >= self.ends {
            return Err(StoreFault::Unreachable);
        }
        let ends = after(self.pause);
        sleep_until(ends).await;
        self.begin_anew_if_late(ends);
        self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
        Ok(())
    }

    fn begin_anew_if_late(&mut self, planned: Instant) -> bool {
        let is_late = planned.elapsed() > LATE;
        if is_late {
            self.ends = after(self.limit);
        }
        is_late
    }
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}
