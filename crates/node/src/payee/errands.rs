//! What a payee asks of its escrow, one task at a time: claims, questions about holds, releases.

use super::shared::{Shared, lock};
use super::store::{Change, KeptReceipt};
use crate::clock;
use crate::escrow_client::{EscrowClient, EscrowError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tombola_core::amount::Timestamp;
use tombola_core::claim::{Claim, ClaimBatch, Refusal};
use tombola_core::codec::List;
use tombola_core::hold::{Hold, Release};
use tombola_core::key::{BookId, HoldId, SecretKey, Signed};
use tombola_core::limits::CLAIMS_PER_BATCH_MAX;
use tombola_core::message::{ClaimAnswer, EscrowAnswer, EscrowCommand, Phase};
use tombola_core::payee::{HoldRow, Payee, Refused, Task};
use tombola_core::reject::{Code, Reject};

/// What one task needs; cheap to copy, so that tasks run side by side.
#[derive(Clone)]
pub(super) struct Errands {
    pub(super) shared: Arc<Shared>,
    pub(super) escrow: Arc<EscrowClient>,
    pub(super) key: Arc<SecretKey>,
}

impl Errands {
    /// Carries out one task.
    ///
    /// # Errors
    /// [`EscrowError::Away`] if the escrow cannot be reached, and any error for claims: what was due stays due.
    pub(super) async fn carry_out(&self, task: Task) -> Result<(), EscrowError> {
        match task {
            Task::Close(book, code) => {
                self.close(&book, code);
                Ok(())
            }
            Task::Claim(claims) => self.claim(claims).await,
            Task::Check(hold) => self.check(&hold).await,
            Task::Release(release) => self.release(release).await,
            Task::SendRelease(release) => self.send_release(release).await,
            Task::Forget(hold) => {
                let queued = {
                    let rules = self.shared.rules();
                    let changes = vec![Change::Forget(hold), Change::AsksBefore(rules.asks_before())];
                    self.shared.store.enqueue(changes)
                };
                // A row that stays is forgotten again after the next start.
                let _ = self.shared.durable(queued).await;
                Ok(())
            }
        }
    }

    /// Closes a book. Says whether it was open: one that was closed before waits for its winners to be durable.
    pub(super) fn close(&self, book: &BookId, code: Code) -> bool {
        let Some(book) = self.shared.book(book) else {
            return false;
        };
        let was_open = lock(&book.machine).closed().is_none();
        self.shared.close(&book, Reject::of(code));
        was_open
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
        let status = match self.escrow.request(EscrowCommand::HoldStatus { hold: id }).await {
            Ok(EscrowAnswer::HoldStatus(status)) => status,
            Ok(_) | Err(EscrowError::Unintelligible) => {
                tracing::error!(hold = %id, "the escrow's answer about a hold is none");
                self.shared.rules().postpone_check(&id, clock::now());
                return Ok(());
            }
            Err(EscrowError::Rejected(reject)) => {
                let phase = self.phase_for(reject.code).await;
                judge_check(&mut self.shared.rules(), &id, reject.code, phase, clock::now());
                tracing::warn!(%reject, ?phase, hold = %id, "the escrow does not vouch for a hold");
                return Ok(());
            }
            Err(error @ EscrowError::Away(_)) => return Err(error),
        };
        let queued = {
            let mut rules = self.shared.rules();
            match rules.checked(&id, &status, clock::now()) {
                Ok(row) => row.map(|row| self.shared.store.enqueue(vec![Change::Hold(Box::new(row))])),
                Err(reject) => {
                    tracing::error!(event = "status_wrong", %reject, hold = %id, "what the escrow says about a hold is not what it signed");
                    rules.postpone_check(&id, clock::now());
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

    async fn release(&self, release: Release) -> Result<(), EscrowError> {
        let signed = Signed::new(release, &self.key);
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
        let answer = self.escrow.request(EscrowCommand::Release(release)).await;
        let (code, phase) = match answer {
            Ok(EscrowAnswer::Released { .. }) => (None, None),
            Ok(_) | Err(EscrowError::Unintelligible) => (Some(Code::Malformed), None),
            Err(EscrowError::Rejected(reject)) => {
                let phase = self.phase_for(reject.code).await;
                tracing::warn!(%reject, ?phase, hold = %release.body.hold, "the escrow does not take a release");
                (Some(reject.code), phase)
            }
            Err(error @ EscrowError::Away(_)) => return Err(error),
        };
        let queued = {
            let mut rules = self.shared.rules();
            let row = judge_release(&mut rules, &release.body.hold, code, phase, clock::now());
            row.map(|row| self.shared.store.enqueue(vec![Change::Hold(Box::new(row))]))
        };
        if let Some(queued) = queued {
            // A row that stays says released: the next start sends that, and comes here again.
            let _ = self.shared.durable(queued).await;
        }
        Ok(())
    }

    /// What the escrow does, where that decides whether a refusal is its last word. Unknown, it is none.
    async fn phase_for(&self, code: Code) -> Option<Phase> {
        if !is_verdict(code) {
            return None;
        }
        self.escrow.info().await.ok().map(|info| info.phase)
    }
}

/// Refusals by which an escrow may say its last word on a hold. Any other one passes: it is busy, or shuts down.
const fn is_verdict(code: Code) -> bool {
    matches!(code, Code::HoldUnknown | Code::Unauthorized | Code::ReleaseMismatch)
}

/// What a refusal to say how a hold stands means. Only an escrow that is known to be open knows its holds: one that
/// recovers may be shown the hold again. Spec: B-06.
pub(super) fn judge_check(rules: &mut Payee, hold: &HoldId, code: Code, phase: Option<Phase>, now: Timestamp) {
    let is_unknown = matches!(code, Code::HoldUnknown | Code::Unauthorized);
    if is_unknown && phase == Some(Phase::Open) {
        rules.check_failed(hold);
    } else {
        rules.postpone_check(hold, now);
    }
}

/// What the answer to a release means, a refusal's code or none. Returns the row to be written. Spec: B-15.
pub(super) fn judge_release(
    rules: &mut Payee,
    hold: &HoldId,
    refused: Option<Code>,
    phase: Option<Phase>,
    now: Timestamp,
) -> Option<HoldRow> {
    let is_open = phase == Some(Phase::Open);
    let has_ended = match refused {
        None | Some(Code::HoldExpired) => true,
        Some(code) => is_open && matches!(code, Code::HoldUnknown | Code::Unauthorized),
    };
    if has_ended {
        return rules.release_known(hold);
    }
    if is_open && refused == Some(Code::ReleaseMismatch) {
        tracing::error!(event = "release_refused", %hold, "the escrow counts another sum for a hold");
        return rules.release_failed(hold);
    }
    rules.postpone_release(hold, now);
    None
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
