//! Whether a purchase goes forward: a payee that brings neither bytes nor acknowledgements is not waited for for ever.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tombola_net::{NetError, limits};

/// A payee that brings nothing for so long is away. A payee that lost its payer without noticing closes the books when
/// the connection has idled out, and only then ends what it delivers for them.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(30);

const _: () = assert!(SILENCE_MAX.as_millis() > limits::IDLE_TIMEOUT.as_millis());

/// When one purchase went forward last. What counts is bytes delivered and tickets acknowledged; words alone do not.
#[derive(Debug)]
pub(crate) struct Progress {
    silence_max: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: Instant,
    /// Since when the payer waits for somebody else than the payee.
    waiting_since: Option<Instant>,
}

/// While it lives the payee is not to blame; what had passed before counts on afterwards.
#[derive(Debug)]
pub(crate) struct Pause<'a>(&'a Progress);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let Some(since) = state.waiting_since.take() {
            state.last += since.elapsed();
        }
    }
}

impl Progress {
    pub(crate) fn new(silence_max: Duration) -> Self {
        let state = State {
            last: Instant::now(),
            waiting_since: None,
        };
        Self {
            silence_max,
            state: Mutex::new(state),
        }
    }

    /// Something went forward.
    pub(crate) fn made(&self) {
        let (mut state, now) = (self.state(), Instant::now());
        state.last = now;
        // What is waited for from now on does not count either; what was waited for before is over.
        state.waiting_since = state.waiting_since.map(|_| now);
    }

    /// The payer waits for its escrow. One wait at a time.
    pub(crate) fn pause(&self) -> Pause<'_> {
        self.state().waiting_since.get_or_insert_with(Instant::now);
        Pause(self)
    }

    /// Waits until nothing has gone forward for too long.
    pub(crate) async fn missed(&self) {
        loop {
            let deadline = self.deadline();
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }

    /// Does something with the payee, unless nothing goes forward meanwhile.
    ///
    /// # Errors
    /// [`NetError::TimedOut`] then, otherwise those of the work.
    pub(crate) async fn within<T, E: From<NetError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.missed() => Err(NetError::TimedOut.into()),
        }
    }

    fn deadline(&self) -> Instant {
        let state = self.state();
        match state.waiting_since {
            Some(_) => Instant::now() + self.silence_max,
            None => state.last + self.silence_max,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_late_is_given_up() {
        let progress = Progress::new(Duration::ZERO);
        let never = std::future::pending::<Result<(), NetError>>();
        assert_eq!(progress.within(never).await, Err(NetError::TimedOut));
        // What is done is done, however late.
        assert_eq!(progress.within(async { Ok::<_, NetError>(7) }).await, Ok(7));
    }

    #[test]
    fn what_others_take_is_not_counted() {
        let progress = Progress::new(SILENCE_MAX);
        let first = progress.deadline();
        let pass = || {
            let began = Instant::now();
            while Instant::now() == began {}
        };
        pass();
        assert_eq!(progress.deadline(), first);
        let escrow_is_away = progress.pause();
        pass();
        assert!(progress.deadline() > first);
        drop(escrow_is_away);
        let later = progress.deadline();
        assert!(later > first);
        pass();
        assert_eq!(progress.deadline(), later);
        progress.made();
        assert!(progress.deadline() > later);
    }
}
