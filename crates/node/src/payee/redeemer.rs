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
use tombola_core::claim::{Claim, ClaimBatch, Refusal};
use tombola_core::codec::List;
use tombola_core::hold::{Hold, Release};
use tombola_core::key::{BookId, SecretKey, Signed};
use tombola_core::limits::CLAIMS_PER_BATCH_MAX;
use tombola_core::message::{ClaimAnswer, EscrowAnswer, EscrowCommand, Phase};
use tombola_core::payee::{Payee, Refused, Task};
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
    pub(super) async fn probe_store(&self) {
        let has_failed = self.shared.rules().health() == tombola_core::payee::Health::StoreFailed;
        if has_failed && self.shared.store.write(vec![Change::Probe]).await.is_ok() {
            self.shared.rules().store_recovered();
            tracing::info!(event = "store_recovered", "the store works again: tickets are taken");
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
                tracing::warn!(event = "escrow_away", %error, retry_in_ms = self.backoff.as_millis(), "the escrow does not answer");
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
        let (receipts, refusals) = sorted(&answers, sent);
        // What was paid is kept before anything else is asked.
        let queued = {
            let mut rules = self.shared.rules();
            let changes = receipts
                .into_iter()
                .flat_map(|answer| self.settle(&mut rules, answer))
                .collect();
            self.shared.store.enqueue(changes)
        };
        if let Err(error) = self.shared.durable(queued).await {
            // The escrow repeats each receipt, so what was not written is only asked for again.
            tracing::warn!(%error, "receipts could not be written");
        }
        self.keep_refusals(&refusals).await
    }

    fn settle(&self, rules: &mut Payee, answer: KeptReceipt) -> Vec<Change> {
        match rules.receive(&answer.receipt, clock::now()) {
            Ok(settled) => {
                self.shared.counters.receipts.fetch_add(1, Ordering::Relaxed);
                vec![Change::Settle(Box::new(settled)), Change::Receipt(Box::new(answer))]
            }
            Err(reject) => {
                let book = answer.receipt.body.book;
                tracing::error!(event = "receipt_wrong", %reject, %book, "a receipt that does not fit its claim");
                rules.postpone(&book, clock::now());
                Vec::new()
            }
        }
    }

    /// Keeps each refusal, whatever becomes of its claim. What the escrow does is asked only where it refuses something:
    /// then it may have lost what it is asked about.
    async fn keep_refusals(&self, refusals: &[Signed<Refusal>]) -> Result<(), EscrowError> {
        if refusals.is_empty() {
            return Ok(());
        }
        let info = self.escrow.info().await;
        let phase = info.as_ref().ok().map(|info| info.phase);
        let queued = {
            let mut rules = self.shared.rules();
            let judged = refusals.iter().map(|refusal| judge(&mut rules, refusal, phase));
            let changes: Vec<Change> = judged.flatten().collect();
            self.shared.store.enqueue(changes)
        };
        let count = u64::try_from(refusals.len()).unwrap_or(u64::MAX);
        self.shared.counters.refusals.fetch_add(count, Ordering::Relaxed);
        if let Err(error) = self.shared.durable(queued).await {
            // After a restart the claims are repeated and refused again.
            tracing::warn!(%error, "refusals could not be written");
        }
        info.map(drop)
    }

    async fn check(&self, hold: &Signed<Hold>) -> Result<(), EscrowError> {
        let id = hold.body.id();
        match self.escrow.request(EscrowCommand::HoldStatus { hold: id }).await {
            Ok(EscrowAnswer::HoldStatus(status)) => {
                let queued = {
                    let mut rules = self.shared.rules();
                    match rules.checked(&id, &status, clock::now()) {
                        Ok(row) => row.map(|row| self.shared.store.enqueue(vec![Change::Hold(Box::new(row))])),
                        Err(reject) => {
                            tracing::error!(event = "status_wrong", %reject, hold = %id, "what the escrow says about a hold is not what it signed");
                            return Ok(());
                        }
                    }
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
                tracing::error!(event = "release_refused", %reject, hold = %release.body.hold, "the escrow refuses a release");
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

/// Receipts with their claims, and refusals.
fn sorted(
    answers: &List<ClaimAnswer, CLAIMS_PER_BATCH_MAX>,
    sent: Vec<Claim>,
) -> (Vec<KeptReceipt>, Vec<Signed<Refusal>>) {
    let (mut receipts, mut refusals) = (Vec::new(), Vec::new());
    for (answer, claim) in answers.as_slice().iter().zip(sent) {
        match answer {
            ClaimAnswer::Receipt(receipt) => receipts.push(KeptReceipt {
                claim,
                receipt: *receipt,
            }),
            ClaimAnswer::Refusal(refusal) => refusals.push(*refusal),
        }
    }
    (receipts, refusals)
}

/// What is to be written of a refusal. Only an escrow that is known to be open has the last word on a hold that it
/// signed: one that recovers may be shown the hold again. Spec: B-15.
pub(super) fn judge(rules: &mut Payee, refusal: &Signed<Refusal>, phase: Option<Phase>) -> Vec<Change> {
    let (book, code, now) = (refusal.body.book, refusal.body.code, clock::now());
    let kept = Change::Refusal(Box::new(*refusal));
    let refused = match phase {
        Some(Phase::Open) => rules.refused(refusal, now),
        Some(_) | None => rules.refused_for_now(refusal, now).map(|()| Refused::Postponed),
    };
    match refused {
        Ok(Refused::Ended(hold)) => {
            tracing::error!(event = "claim_refused", %code, %book, "a claim was refused for good: its winner and the refusal are kept");
            vec![kept, Change::End(book), Change::Hold(hold)]
        }
        Ok(Refused::Unchecked(hold)) => {
            tracing::warn!(%code, %book, "a claim was refused: the escrow is asked about its hold, and it is claimed again");
            vec![kept, Change::Hold(hold)]
        }
        Ok(Refused::Postponed) => {
            tracing::warn!(%code, %book, ?phase, "a claim was refused: claimed again later");
            vec![kept]
        }
        Err(reject) => {
            tracing::error!(%reject, %book, "a refusal that fits no claim");
            rules.postpone(&book, now);
            Vec::new()
        }
    }
}
