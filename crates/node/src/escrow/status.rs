//! How an escrow stands: what its operator sees, and the numbers that are watched.

use super::reader::{EscrowTotals, WriterSummary};
use super::shared::Shared;
use super::{Escrow, EscrowNodeError};
use crate::clock;
use crate::metrics::{Pulse, Sample, Unit, VERSION, by_reason};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tombola_core::amount::Timestamp;
use tombola_core::escrow::ClockJump;
use tombola_core::message::Phase;

/// How an escrow stands.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct EscrowStatus {
    /// The version of this program.
    pub version: &'static str,
    /// How long the node has run.
    pub uptime_ms: u64,
    /// Its sums, as of the last commit.
    pub totals: EscrowTotals,
    /// The processes that share its ledger, this one included.
    pub writers: Vec<WriterSummary>,
    /// Connections that stand or are being made.
    pub connections: u64,
    /// Requests answered since the start.
    pub requests: u64,
    /// Of these a second, over the last minute.
    pub requests_per_second: f64,
    /// Claims answered since the start, repeats and refusals included.
    pub claims_answered: u64,
    /// Of these a second, over the last minute.
    pub claims_per_second: f64,
    /// Requests refused because a limit on work was reached, since the start.
    pub turned_away: u64,
    /// Attempts to connect that were not let in since the start, by reason.
    pub connections_turned_away: BTreeMap<String, u64>,
    /// Whether mutating requests are answered: false after a fault of the store.
    pub is_serving: bool,
    /// Open, recovering after a rollback, or draining.
    pub phase: Phase,
    /// Ledger time.
    pub time: Timestamp,
    /// By how much the wall clock is behind that: ledger time stands still until it has caught up.
    pub clock_behind_ms: u64,
    /// A wall clock that cannot be believed: nothing expires while it is so.
    pub clock_jump: Option<JumpSummary>,
}

/// A wall clock that is not where it is expected. Spec: C-07.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct JumpSummary {
    /// What it says.
    pub wall: Timestamp,
    /// What it would say if it had gone on as before.
    pub expected: Timestamp,
}

/// What is counted for the rates: requests and claims.
pub(super) type EscrowPulse = Pulse<2>;

/// Starts counting rates.
pub(super) fn watch(shared: &Arc<Shared>) -> (Arc<EscrowPulse>, JoinHandle<()>) {
    let watched = Arc::clone(shared);
    Pulse::start(move || counted(&watched))
}

fn counted(shared: &Shared) -> [u64; 2] {
    [shared.counters.requests.read(), shared.counters.claims.read()]
}

impl Escrow {
    /// How it stands.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] if the store cannot be read.
    pub async fn status(&self) -> Result<EscrowStatus, EscrowNodeError> {
        let reader = self.reader();
        let (totals, writers) = (reader.totals().await?, reader.writers().await?);
        let (standing, jump) = (self.shared.state.standing(), self.shared.state.clock_jump());
        let counts = counted(&self.shared);
        let [requests, claims_answered] = counts;
        let [requests_per_second, claims_per_second] = self.pulse.per_second(counts);
        Ok(EscrowStatus {
            version: VERSION,
            uptime_ms: self.pulse.uptime_ms(),
            totals,
            writers,
            connections: u64::try_from(self.endpoint.open_connections()).unwrap_or(u64::MAX),
            requests,
            requests_per_second,
            claims_answered,
            claims_per_second,
            turned_away: self.shared.counters.turned_away.read(),
            connections_turned_away: by_reason(&self.endpoint.turned_away()),
            is_serving: self.shared.state.fault().is_none(),
            phase: standing.phase,
            time: standing.time,
            clock_behind_ms: standing.time.0.saturating_sub(clock::now().0),
            clock_jump: jump.map(|ClockJump { wall, expected }| JumpSummary { wall, expected }),
        })
    }
}

impl EscrowStatus {
    /// The numbers for the metrics port. Names are a contract.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = Sample::of_program("escrow", "escrow_uptime", self.uptime_ms).to_vec();
        samples.extend(self.counters());
        samples.extend(self.gauges());
        samples.extend(self.money());
        samples.extend(self.totals.next_expiry.map(|at| {
            let help = "When the next open hold can expire";
            Sample::seconds("escrow_next_expiry_timestamp", help, at.0)
        }));
        samples.push(Sample::by_reason(
            "escrow_connections_turned_away",
            "Attempts to connect that were not let in",
            self.connections_turned_away.clone(),
        ));
        samples
    }

    fn counters(&self) -> impl Iterator<Item = Sample> {
        let totals = &self.totals;
        let counts = [
            ("escrow_requests", "Requests answered", self.requests),
            (
                "escrow_claims_answered",
                "Claims answered, repeats and refusals included",
                self.claims_answered,
            ),
            (
                "escrow_requests_turned_away",
                "Requests refused by a limit on work",
                self.turned_away,
            ),
            ("escrow_height", "Events in the log", totals.height),
            ("escrow_accounts", "Accounts", totals.accounts),
            ("escrow_holds", "Holds ever opened", totals.holds),
            ("escrow_claims", "Claims that paid something, ever", totals.claims),
            ("escrow_winners", "Winners paid, ever", totals.winners),
        ];
        counts
            .into_iter()
            .map(|(name, help, count)| Sample::counter(name, help, count))
    }

    fn gauges(&self) -> impl Iterator<Item = Sample> {
        let is_recovering = self.phase == Phase::Recovering;
        let writers = self.writers.iter().filter(|writer| !writer.is_removed).count();
        let counts = [
            (
                "escrow_serving",
                "1 unless the store failed",
                u64::from(self.is_serving),
            ),
            (
                "escrow_recovering",
                "1 while parties bring back what was lost",
                u64::from(is_recovering),
            ),
            (
                "escrow_clock_jumped",
                "1 while the wall clock cannot be believed and nothing expires",
                u64::from(self.clock_jump.is_some()),
            ),
            (
                "escrow_conserved",
                "1 if the sums add up",
                u64::from(self.totals.conserved),
            ),
            (
                "escrow_writers",
                "Processes that share the ledger",
                u64::try_from(writers).unwrap_or(u64::MAX),
            ),
            ("escrow_open_holds", "Holds that are open", self.totals.open_holds),
            (
                "escrow_connections",
                "Connections that stand or are being made",
                self.connections,
            ),
        ];
        counts
            .into_iter()
            .map(|(name, help, count)| Sample::gauge(name, help, count))
    }

    fn money(&self) -> impl Iterator<Item = Sample> {
        let totals = &self.totals;
        // A sum past 18 quintillion atomic units is shown as that.
        let atoms = |sum: u128| u64::try_from(sum).unwrap_or(u64::MAX);
        let moved = [
            ("escrow_deposits", "Money taken in, ever", totals.deposits),
            ("escrow_withdrawn", "Money paid out, ever", totals.withdrawn),
        ];
        let kept = [
            ("escrow_balances", "What accounts can spend", totals.balances),
            ("escrow_held", "What open holds set aside", totals.held),
            ("escrow_fees", "Fees not collected", totals.fees),
            ("escrow_pending", "Payouts not settled", totals.pending),
        ];
        let moved = moved.map(|(name, help, sum)| Sample::counter(name, help, atoms(sum)).of(Unit::Atoms));
        let kept = kept.map(|(name, help, sum)| Sample::gauge(name, help, atoms(sum)).of(Unit::Atoms));
        moved.into_iter().chain(kept)
    }
}
