//! What a party does when its escrow was rolled back: it shows what it has with the escrow's signature, once, and goes on.

use crate::escrow_client::{EscrowClient, EscrowError};
use std::time::Duration;
use tokio::time::Instant;
use tombola_core::codec::List;
use tombola_core::limits::EVIDENCE_MAX;
use tombola_core::message::{EscrowAnswer, EscrowCommand, Evidence, Phase, ResubmitAnswer};
use tombola_core::reject::{Code, Reject};

/// What was refused for something that another party or the operator has yet to bring back is shown again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What became of all evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Outcome {
    restored: u64,
    known: u64,
    /// It may count later.
    early: u64,
    /// It does not count.
    refused: u64,
}

/// Watches for an escrow that recovers. It can have been rolled back only while no connection stood.
#[derive(Debug, Default)]
pub(crate) struct Resubmitting {
    /// Connections that the client had made when the escrow was last asked.
    asked: u64,
    again_at: Option<Instant>,
}

impl Resubmitting {
    /// Whether the escrow is to be asked what it does: over a connection that is new, or lost, or after a pause.
    pub(crate) async fn is_due(&self, client: &EscrowClient) -> bool {
        let is_time = self.again_at.is_some_and(|at| Instant::now() >= at);
        is_time || self.asked != client.connections() || !client.is_connected().await
    }

    /// Asks the escrow what it does, and shows it all evidence if it recovers.
    ///
    /// # Errors
    /// [`EscrowError`]: it is due again then.
    pub(crate) async fn tend(
        &mut self,
        client: &EscrowClient,
        evidence: impl FnOnce() -> Vec<Evidence>,
    ) -> Result<Phase, EscrowError> {
        let phase = client.info().await?.phase;
        let connections = client.connections();
        self.again_at = None;
        if phase == Phase::Recovering {
            let outcome = resubmit(client, &evidence()).await?;
            tracing::warn!(
                ?outcome,
                "the escrow lost the end of its ledger: it was shown what we have"
            );
            self.again_at = (outcome.early > 0).then(|| Instant::now() + AGAIN_AFTER);
        }
        self.asked = connections;
        Ok(phase)
    }
}

/// Shows evidence in as many requests as it takes. An escrow that no longer recovers needs none.
async fn resubmit(client: &EscrowClient, evidence: &[Evidence]) -> Result<Outcome, EscrowError> {
    let mut outcome = Outcome::default();
    for batch in evidence.chunks(EVIDENCE_MAX) {
        // As many as fit.
        let evidence = List::new(batch.to_vec()).map_err(|_| EscrowError::Unintelligible)?;
        let answers = match client.request(EscrowCommand::Resubmit { evidence }).await {
            Ok(EscrowAnswer::Resubmitted { answers }) => answers,
            Ok(_) => return Err(EscrowError::Unintelligible),
            Err(EscrowError::Rejected(Reject {
                code: Code::NotRecovering,
                ..
            })) => return Ok(outcome),
            // Dear evidence is taken at a bounded rate.
            Err(EscrowError::Rejected(Reject { code: Code::Busy, .. })) => {
                outcome.early += count(batch.len());
                continue;
            }
            Err(error) => return Err(error),
        };
        for answer in answers.as_slice() {
            match answer {
                ResubmitAnswer::Restored => outcome.restored += 1,
                ResubmitAnswer::Known => outcome.known += 1,
                ResubmitAnswer::Refused(reject) if is_early(reject.code) => outcome.early += 1,
                ResubmitAnswer::Refused(reject) => {
                    tracing::warn!(%reject, "the escrow does not take evidence back");
                    outcome.refused += 1;
                }
            }
        }
    }
    Ok(outcome)
}

/// Whether a refusal is for what a deposit, or evidence of another party, can still bring back.
const fn is_early(code: Code) -> bool {
    matches!(
        code,
        Code::AccountUnknown
            | Code::InsufficientFunds
            | Code::HoldUnknown
            | Code::ClaimOverCap
            | Code::ReleaseMismatch
            | Code::Busy
    )
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
