//! Patience with a server that does not answer.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tombola_ledger::store::StoreFault;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long a server may take for one thing, of the patience that there is with all of them, so that there is time left to
/// find another one.
fn turn_of(limit: Duration) -> Duration {
    limit.checked_div(3).unwrap_or_default()
}

/// Waits for a server until patience ends.
///
/// It begins when a server is first missed, whatever was done before: time in which this process itself was stopped is none
/// of the server's, which may have undone meanwhile what had begun.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    ends: Instant,
    is_missed: bool,
    pause: Duration,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            ends: after(limit),
            is_missed: false,
            pause: FIRST_PAUSE,
        }
    }

    /// What comes of the work before a server had its turn, at the latest when patience ends.
    pub(super) async fn turn<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let ends = after(turn_of(self.limit)).min(self.ends);
        let done = timeout_at(ends, work).await.ok();
        if done.is_none() {
            self.miss();
        }
        done
    }

    /// What comes of the work before patience ends.
    pub(super) async fn whole<T>(&mut self, work: impl Future<Output = T>) -> Result<T, StoreFault> {
        let mut work = pin!(work);
        loop {
            match timeout_at(self.ends, work.as_mut()).await {
                Ok(done) => return Ok(done),
                Err(_) if self.is_missed => return Err(StoreFault::Unreachable),
                Err(_) => self.miss(),
            }
        }
    }

    /// Waits before the next try, longer each time.
    pub(super) async fn pause(&mut self) -> Result<(), StoreFault> {
        self.miss();
        if Instant::now() >= self.ends {
            return Err(StoreFault::Unreachable);
        }
        sleep(self.pause).await;
        self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
        Ok(())
    }

    /// There was no answer.
    pub(super) fn miss(&mut self) {
        if !self.is_missed {
            self.is_missed = true;
            self.ends = after(self.limit);
        }
    }
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}
