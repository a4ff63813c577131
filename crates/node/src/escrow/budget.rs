//! How much work each payee key may cause: hashes are the one thing a claim can ask for without having paid for it.

use std::collections::HashMap;
use std::time::Instant;
use tombola_core::claim::Claim;
use tombola_core::key::AccountKey;
use tombola_core::limits::HASHES_PER_PAYEE_PER_SECOND;
use tombola_core::message::{EscrowCommand, EscrowRequest, Evidence};
use tombola_core::reject::{Code, Reject};

/// Hashes for one ticket of a claim: a step of the chain and a draw.
const HASHES_PER_TICKET: u64 = 2;
/// Payees remembered at once; those that owe nothing are forgotten first.
const PAYEES_REMEMBERED_MAX: usize = 65_536;

/// What each payee key has used and not yet worked off.
///
/// A batch is taken while less than one second of work is outstanding, and then whole, however large it is: so every
/// batch that fits a message is taken some time, and the mean rate is the limit.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    used: HashMap<AccountKey, Used>,
}

#[derive(Debug, Clone, Copy)]
struct Used {
    hashes: u64,
    at: Instant,
}

impl Used {
    /// What is outstanding at a time.
    fn outstanding(&self, now: Instant) -> u64 {
        let micros = now.saturating_duration_since(self.at).as_micros();
        let worked_off = micros.saturating_mul(u128::from(HASHES_PER_PAYEE_PER_SECOND)) / 1_000_000;
        self.hashes
            .saturating_sub(u64::try_from(worked_off).unwrap_or(u64::MAX))
    }
}

impl Budgets {
    /// Takes hashes from a payee's budget.
    ///
    /// # Errors
    /// `busy` (hashes a second, outstanding).
    pub(super) fn take(&mut self, payee: AccountKey, hashes: u64, now: Instant) -> Result<(), Reject> {
        let outstanding = self.used.get(&payee).map_or(0, |used| used.outstanding(now));
        if outstanding >= HASHES_PER_PAYEE_PER_SECOND {
            return Err(Reject::compared(Code::Busy, HASHES_PER_PAYEE_PER_SECOND, outstanding));
        }
        if self.used.len() >= PAYEES_REMEMBERED_MAX {
            self.used.retain(|_, used| used.outstanding(now) > 0);
        }
        let hashes = outstanding.saturating_add(hashes);
        self.used.insert(payee, Used { hashes, at: now });
        Ok(())
    }
}

/// Hashes that verifying a request can take.
pub(super) fn hashes_of(request: &EscrowRequest) -> u64 {
    // An index past the end is refused before the walk.
    let tickets = |claim: &Claim| u64::from(claim.through.min(claim.book.body.length));
    let tickets: u64 = match &request.command {
        EscrowCommand::Claim { batch, .. } => batch.claims.as_slice().iter().map(tickets).sum(),
        EscrowCommand::Resubmit { evidence } => evidence
            .as_slice()
            .iter()
            .map(|piece| match piece {
                Evidence::Receipt { claim, .. } => tickets(claim),
                Evidence::Hold(_) | Evidence::Release(_) => 0,
            })
            .sum(),
        EscrowCommand::Info
        | EscrowCommand::Account { .. }
        | EscrowCommand::OpenHold { .. }
        | EscrowCommand::TopUpHold { .. }
        | EscrowCommand::HoldStatus { .. }
        | EscrowCommand::Release(_)
        | EscrowCommand::Delegate { .. }
        | EscrowCommand::Transfer { .. }
        | EscrowCommand::Withdraw { .. }
        | EscrowCommand::Statement { .. }
        | EscrowCommand::Subscribe { .. }
        | EscrowCommand::SetPayout { .. }
        | EscrowCommand::SetSplit { .. } => 0,
    };
    tickets.saturating_mul(HASHES_PER_TICKET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_payee_over_its_budget_waits_until_it_is_worked_off_and_no_other_waits() {
        let mut budgets = Budgets::default();
        let (payee, other) = (AccountKey([1; 32]), AccountKey([2; 32]));
        let start = Instant::now();
        let limit = HASHES_PER_PAYEE_PER_SECOND;
        assert_eq!(budgets.take(payee, 2 * limit, start), Ok(()), "any batch, once");
        assert_eq!(
            budgets.take(payee, 1, start),
            Err(Reject::compared(Code::Busy, limit, 2 * limit))
        );
        assert_eq!(budgets.take(other, 1, start), Ok(()));
        let later = start + Duration::from_millis(1_001);
        assert_eq!(budgets.take(payee, 1, later), Ok(()));
    }
}
