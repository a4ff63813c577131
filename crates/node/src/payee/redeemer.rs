//! Redeeming by itself: closes books when their winners are worth it, claims, keeps receipts, releases holds.

use super::shared::Shared;
use super::store::{Change, KeptReceipt};
use crate::clock;
use crate::escrow_client::{EscrowClient, EscrowError};
use crate::resubmit::Resubmitting;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use tombola_core::claim::{Claim, ClaimBatch};
use tombola_core::codec::List;
use tombola_core::hold::{Hold, Release};
use tombola_core::key::{BookId, SecretKey, Signed};
use tombola_core::limits::CLAIMS_PER_BATCH_MAX;
use tombola_core::message::{ClaimAnswer, EscrowAnswer, EscrowCommand, Phase};
use tombola_core::payee::Task;
use tombola_core::reject::{Code, Reject};

/// How often due work is looked for when nothing wakes the redeemer.
const TICK: Duration = Duration::from_secs(1);
/// First pause after an escrow could not be reached; doubles up to the last.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_LAST: Duration = Duration::from_secs(30);

/// Works for one payee until it is drained.
pub(crate) struct Redeemer {
    shared: Arc<Shared>,
    escrow: Arc<EscrowClient>,
    key: Arc<SecretKey>,
    backoff: Duration,
    next_try: Instant,
    resubmitting: Resubmitting,
}

/// Works until the payee drains.
pub(crate) async fn run(redeemer: Arc<tokio::sync::Mutex<Redeemer>>, shared: Arc<Shared>) {
    let mut drain = shared.drain.subscribe();
    loop {
        tokio::select! {
            () = shared.work.notified() => {}
            () = tokio::time::sleep(TICK) => {}
            _ = drain.wait_for(|draining| *draining) => return,
        }
        let mut redeemer = redeemer.lock().await;
        redeemer.probe_store().await;
        // What failed was logged, stays due, and is tried again after a pause.
        let _ = redeemer.round().await;
        shared.prune_books();
    }
}

impl Redeemer {
    pub(crate) fn new(shared: Arc<Shared>, escrow: Arc<EscrowClient>, key: Arc<SecretKey>) -> Self {
        Self {
            shared,
            escrow,
            key,
            backoff: BACKOFF_FIRST,
            next_try: Instant::now(),
            resubmitting: Resubmitting::default(),
        }
    }

    /// A failed store is tried with a write that loses nothing if it fails. Spec: B-14.
    async fn probe_store(&self) {
        let has_failed = self.shared.rules().health() == tombola_core::payee::Health::StoreFailed;
        if has_failed && self.shared.store.write(vec![Change::Probe]).await.is_ok() {
            self.shared.rules().store_recovered();
            tracing::info!("the store works again: tickets are taken");
            for book in self.shared.open_books() {
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
        self.round().await
    }

    /// Does all that is due now.
    ///
    /// # Errors
    /// [`EscrowError::Away`] if the escrow cannot be reached: what was due stays due.
    pub(crate) async fn round(&mut self) -> Result<(), EscrowError> {
        // Closing books makes claims due, and a full batch may leave more of them: go on while there is progress.
        loop {
            let tasks = self.shared.rules().tick(clock::now());
            let (closing, others): (Vec<_>, Vec<_>) =
                tasks.into_iter().partition(|task| matches!(task, Task::Close(_)));
            for task in &closing {
                if let Task::Close(book) = task {
                    self.close(book);
                }
            }
            if Instant::now() < self.next_try {
                return Ok(());
            }
            let resubmitted = self.resubmit().await;
            self.note(&resubmitted);
            resubmitted?;
            let before = self.shared.counters.receipts.load(Ordering::Relaxed);
            for task in others {
                let result = self.carry_out(task).await;
                self.note(&result);
                result?;
            }
            // Refusals are no progress: what was refused waits for its own pause.
            if closing.is_empty() && before == self.shared.counters.receipts.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    /// Before anything is asked of an escrow that may have been rolled back: it would refuse claims on holds that it lost.
    async fn resubmit(&mut self) -> Result<(), EscrowError> {
        let has_holds = self.shared.rules().exposure().holds > 0;
        if !has_holds || !self.resubmitting.is_due(&self.escrow).await {
            return Ok(());
        }
        let store = &self.shared.store;
        let evidence = || {
            store.evidence().unwrap_or_else(|error| {
                tracing::error!(%error, "what the escrow signed cannot be read");
                Vec::new()
            })
        };
        self.resubmitting.tend(&self.escrow, evidence).await.map(drop)
    }

    fn note(&mut self, result: &Result<(), EscrowError>) {
        match result {
            Ok(()) => self.backoff = BACKOFF_FIRST,
            Err(error) => {
                tracing::warn!(%error, retry_in_ms = self.backoff.as_millis(), "the escrow does not answer");
                self.next_try = Instant::now() + self.backoff;
                self.backoff = (self.backoff * 2).min(BACKOFF_LAST);
            }
        }
    }

    fn close(&self, book: &BookId) {
        if let Some(book) = self.shared.book(book) {
            self.shared.close(&book, Reject::of(Code::BookRedeemed));
        }
    }

    async fn carry_out(&self, task: Task) -> Result<(), EscrowError> {
        match task {
            Task::Close(book) => self.close(&book),
            Task::Claim(claims) => self.claim(claims).await?,
            Task::Check(hold) => self.check(&hold).await?,
            Task::Release(release) => self.release(release).await?,
            Task::SendRelease(release) => self.send_release(release).await?,
            Task::Forget(hold) => {
                self.shared.rules().forget(&hold);
                // A row that stays is forgotten again after the next start.
                let _ = self
                    .shared
                    .durable(self.shared.store.enqueue(vec![Change::Forget(hold)]))
                    .await;
            }
        }
        Ok(())
    }

    async fn claim(&self, claims: Vec<Claim>) -> Result<(), EscrowError> {
        let escrow = self.escrow.address().key;
        let sent = claims.clone();
        let claims = List::new(claims).map_err(|_| EscrowError::Unintelligible)?;
        let count = u64::try_from(claims.as_slice().len()).unwrap_or(u64::MAX);
        self.shared.counters.claims.fetch_add(count, Ordering::Relaxed);
        let batch = ClaimBatch {
            escrow,
            payee: self.escrow.account(),
            claims,
        };
        let answer = self
            .escrow
            .request(EscrowCommand::Claim { batch, signature: None })
            .await?;
        let EscrowAnswer::Claimed { answers } = answer else {
            return Err(EscrowError::Unintelligible);
        };
        let phase = self.phase_of(&answers).await?;
        let queued = {
            let mut changes = Vec::new();
            let mut rules = self.shared.rules();
            for (answer, claim) in answers.as_slice().iter().zip(sent) {
                match answer {
                    ClaimAnswer::Receipt(receipt) => match rules.receive(receipt, clock::now()) {
                        Ok(settled) => {
                            self.shared.counters.receipts.fetch_add(1, Ordering::Relaxed);
                            changes.push(Change::Settle(Box::new(settled)));
                            let receipt = *receipt;
                            changes.push(Change::Receipt(Box::new(KeptReceipt { claim, receipt })));
                        }
                        Err(reject) => {
                            tracing::error!(%reject, book = %receipt.body.book, "a receipt that does not fit its claim");
                            rules.postpone(&receipt.body.book, clock::now());
                        }
                    },
                    // It signed this hold: either it recovers, or it has rejected what it was shown.
                    ClaimAnswer::Refusal(refusal) if phase == Phase::Recovering => {
                        tracing::warn!(code = %refusal.body.code, book = %refusal.body.book, "the escrow recovers: claimed again later");
                        rules.postpone(&refusal.body.book, clock::now());
                    }
                    ClaimAnswer::Refusal(refusal) => {
                        self.shared.counters.refusals.fetch_add(1, Ordering::Relaxed);
                        tracing::error!(code = %refusal.body.code, book = %refusal.body.book, "a claim was refused");
                        if rules.refused(refusal, clock::now()).is_ok() {
                            changes.push(Change::Refusal(Box::new(*refusal)));
                        }
                    }
                }
            }
            self.shared.store.enqueue(changes)
        };
        if let Err(error) = self.shared.durable(queued).await {
            // The escrow repeats each receipt, so what was not written is only asked for again.
            tracing::warn!(%error, "receipts could not be written");
        }
        Ok(())
    }

    /// What the escrow does, asked only where it refuses something: then it may have lost what it is asked about.
    async fn phase_of(&self, answers: &List<ClaimAnswer, CLAIMS_PER_BATCH_MAX>) -> Result<Phase, EscrowError> {
        let is_refused = |answer: &ClaimAnswer| matches!(answer, ClaimAnswer::Refusal(_));
        match answers.as_slice().iter().any(is_refused) {
            true => Ok(self.escrow.info().await?.phase),
            false => Ok(Phase::Open),
        }
    }

    async fn check(&self, hold: &Signed<Hold>) -> Result<(), EscrowError> {
        let id = hold.body.id();
        match self.escrow.request(EscrowCommand::HoldStatus { hold: id }).await {
            Ok(EscrowAnswer::HoldStatus(status)) => {
                let queued = {
                    let mut rules = self.shared.rules();
                    let row = rules.checked(&status, clock::now());
                    row.map(|row| self.shared.store.enqueue(vec![Change::Hold(Box::new(row))]))
                };
                self.shared.wake_granted();
                if let Some(queued) = queued {
                    // A check that is not kept is made again.
                    let _ = self.shared.durable(queued).await;
                }
                Ok(())
            }
            Ok(_) => Err(EscrowError::Unintelligible),
            Err(EscrowError::Rejected(reject)) => {
                tracing::warn!(%reject, hold = %id, "the escrow does not vouch for a hold");
                self.shared.rules().check_failed(&id);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn release(&self, release: Release) -> Result<(), EscrowError> {
        let signed = Signed::new(release, &self.key);
        // Paid units that were not delivered are still owed, and only an open hold keeps their book.
        if self.shared.owes(&release.hold) {
            return Ok(());
        }
        let queued = {
            let mut rules = self.shared.rules();
            let Ok(row) = rules.released(signed) else { return Ok(()) };
            self.shared.store.enqueue(vec![Change::Hold(Box::new(row))])
        };
        // Durable before it is sent: a payee that forgot its last word would go on taking tickets on it.
        if self.shared.durable(queued).await.is_err() {
            self.shared.rules().release_failed(&release.hold);
            return Ok(());
        }
        self.shared.rules().release_kept(&release.hold);
        self.send_release(signed).await
    }

    async fn send_release(&self, release: Signed<Release>) -> Result<(), EscrowError> {
        match self.escrow.request(EscrowCommand::Release(release)).await {
            Ok(_)
            | Err(EscrowError::Rejected(Reject {
                code: Code::HoldExpired | Code::HoldUnknown,
                ..
            })) => {
                self.shared.rules().release_known(&release.body.hold);
                Ok(())
            }
            Err(EscrowError::Rejected(reject)) => {
                tracing::error!(%reject, hold = %release.body.hold, "the escrow refuses a release");
                let queued = {
                    let mut rules = self.shared.rules();
                    let row = rules.release_failed(&release.body.hold);
                    row.map(|row| self.shared.store.enqueue(vec![Change::Hold(Box::new(row))]))
                };
                if let Some(queued) = queued {
                    // A row that stays says released: the next start sends that, is refused, and comes here again.
                    let _ = self.shared.durable(queued).await;
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
