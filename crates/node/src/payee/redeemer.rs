//! Redeeming by itself: closes books when their winners are worth it, claims, keeps receipts, releases holds.

use super::errands::Errands;
use super::shared::Shared;
use super::store::Change;
use crate::clock;
use crate::escrow_client::{EscrowClient, EscrowError};
use crate::resubmit::Resubmitting;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tombola_core::key::{HoldId, SecretKey};
use tombola_core::payee::Task;

/// How often due work is looked for when nothing wakes the redeemer.
const TICK: Duration = Duration::from_secs(1);
/// First pause after an escrow could not be reached; doubles up to the last.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_LAST: Duration = Duration::from_secs(30);

/// Works for one payee until it is drained.
pub(crate) struct Redeemer {
    errands: Errands,
    backoff: Duration,
    next_try: Instant,
    resubmitting: Resubmitting,
    /// Holds that owe units, and when they were looked for.
    owing: Option<(Instant, HashSet<HoldId>)>,
}

/// Works until the payee drains.
pub(crate) async fn run(redeemer: Arc<tokio::sync::Mutex<Redeemer>>, shared: Arc<Shared>) {
    let mut drain = shared.drain.subscribe();
    let mut next_prune = Instant::now();
    loop {
        tokio::select! {
            () = shared.work.notified() => {}
            () = tokio::time::sleep(TICK) => {}
            _ = drain.wait_for(|draining| *draining) => return,
        }
        let mut has_more = true;
        while has_more && !*drain.borrow() {
            let mut redeemer = redeemer.lock().await;
            redeemer.probe_store().await;
            // What failed was logged, stays due, and is tried again after a pause.
            has_more = redeemer.round().await.unwrap_or(false);
            redeemer.date_store().await;
            if Instant::now() >= next_prune {
                shared.prune_books();
                next_prune = Instant::now() + TICK;
            }
        }
    }
}

impl Redeemer {
    pub(crate) fn new(shared: Arc<Shared>, escrow: Arc<EscrowClient>, key: Arc<SecretKey>) -> Self {
        Self {
            errands: Errands { shared, escrow, key },
            backoff: BACKOFF_FIRST,
            next_try: Instant::now(),
            resubmitting: Resubmitting::default(),
            owing: None,
        }
    }

    /// A failed store is tried with a write that loses nothing if it fails. Spec: B-14.
    pub(super) async fn probe_store(&self) {
        let shared = &self.errands.shared;
        let has_failed = shared.rules().health() == tombola_core::payee::Health::StoreFailed;
        if has_failed && shared.store.write(vec![Change::Probe]).await.is_ok() {
            shared.rules().store_recovered();
            tracing::info!(event = "store_recovered", "the store works again: tickets are taken");
            for book in shared.open_books() {
                book.changed.notify_one();
            }
        }
    }

    /// Does all that is due, whatever pause the last failure asked for.
    ///
    /// # Errors
    /// As [`Self::round`].
    pub(crate) async fn redeem_now(&mut self) -> Result<(), EscrowError> {
        self.next_try = Instant::now();
        while self.round().await? {}
        Ok(())
    }

    /// Does what is due now: claims first, and then a few other tasks side by side. True if more may be due: closing books
    /// makes claims due, a full batch may leave more of them, and of the rest only so much is named at once.
    ///
    /// # Errors
    /// [`EscrowError::Away`] if the escrow cannot be reached, another one for claims: what was due stays due.
    pub(crate) async fn round(&mut self) -> Result<bool, EscrowError> {
        let tasks = self.errands.shared.rules().tick(clock::now());
        let (closing, tasks): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| matches!(task, Task::Close(..)));
        let mut has_closed = false;
        for task in &closing {
            if let Task::Close(book, code) = task {
                has_closed |= self.errands.close(book, *code);
            }
        }
        if Instant::now() < self.next_try {
            return Ok(false);
        }
        let (claims, others): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| matches!(task, Task::Claim(_)));
        let receipts = || self.errands.shared.counters.receipts.load(Ordering::Relaxed);
        let (before, has_others) = (receipts(), !others.is_empty());
        let has_asked = has_others || !claims.is_empty();
        let done = self.work(claims, others).await;
        // Where nothing was asked nothing was learnt of the escrow, and the pause between tries stays as it is.
        if has_asked || done.is_err() {
            self.note(&done);
        }
        done?;
        // Refusals are no progress: what was refused waits for its own pause.
        let receipts = self.errands.shared.counters.receipts.load(Ordering::Relaxed);
        Ok(has_closed || has_others || before != receipts)
    }

    /// A store that was made or restored learns the escrow's time, once.
    async fn date_store(&mut self) {
        let shared = Arc::clone(&self.errands.shared);
        if shared.rules().is_dated() || Instant::now() < self.next_try {
            return;
        }
        let info = self.errands.escrow.info().await;
        if let Ok(info) = &info {
            let queued = {
                let mut rules = shared.rules();
                let asks_before = rules.date_store(info.time);
                shared.store.enqueue(vec![Change::AsksBefore(asks_before)])
            };
            // What is not kept is asked again after the next start.
            let _ = shared.durable(queued).await;
        }
        self.note(&info.map(drop));
    }

    async fn work(&mut self, claims: Vec<Task>, others: Vec<Task>) -> Result<(), EscrowError> {
        self.resubmit().await?;
        let mut claimed = Ok(());
        for batch in claims {
            claimed = self.errands.carry_out(batch).await;
        }
        if let Err(EscrowError::Away(_)) = claimed {
            return claimed;
        }
        claimed.and(self.side_by_side(others).await)
    }

    /// One round trip, and one sync, for all of them.
    async fn side_by_side(&mut self, tasks: Vec<Task>) -> Result<(), EscrowError> {
        let mut running = JoinSet::new();
        for task in tasks {
            if let Task::Release(release) = &task
                && self.owes(&release.hold)
            {
                // Paid units that were not delivered are still owed, and only an open hold keeps their book.
                self.errands.shared.rules().put_off(&release.hold);
                continue;
            }
            let errands = self.errands.clone();
            running.spawn(async move { errands.carry_out(task).await });
        }
        let mut result = Ok(());
        // A task that panicked has broken an invariant; nobody cancels one.
        while let Some(Ok(done)) = running.join_next().await {
            result = result.and(done);
        }
        result
    }

    /// Whether a hold owes units, by a look at all books that is not older than a second. A hold that has come into use
    /// since then is not released, whatever it owes.
    fn owes(&mut self, hold: &HoldId) -> bool {
        let now = Instant::now();
        if self.owing.as_ref().is_none_or(|(at, _)| now >= *at + TICK) {
            self.owing = Some((now, self.errands.shared.owing()));
        }
        self.owing.as_ref().is_some_and(|(_, owing)| owing.contains(hold))
    }

    /// Before anything is asked of an escrow that may have been rolled back: it would refuse claims on holds that it lost.
    async fn resubmit(&mut self) -> Result<(), EscrowError> {
        let Errands { shared, escrow, .. } = &self.errands;
        let has_holds = shared.rules().has_holds();
        if !has_holds || !self.resubmitting.is_due(escrow).await {
            return Ok(());
        }
        let store = &shared.store;
        let evidence = || {
            store.evidence().unwrap_or_else(|error| {
                tracing::error!(%error, "what the escrow signed cannot be read");
                Vec::new()
            })
        };
        self.resubmitting.tend(escrow, evidence).await.map(drop)
    }

    fn note(&mut self, result: &Result<(), EscrowError>) {
        match result {
            Ok(()) => self.backoff = BACKOFF_FIRST,
            Err(error) => {
                tracing::warn!(event = "escrow_away", %error, retry_in_ms = self.backoff.as_millis(), "the escrow does not answer");
                self.next_try = Instant::now() + self.backoff;
                self.backoff = (self.backoff * 2).min(BACKOFF_LAST);
            }
        }
    }
}
