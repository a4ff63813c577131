//! How a payee stands: what its operator sees, and the numbers that are watched.

use super::shared::Shared;
use super::{Payee, PayeeError};
use crate::metrics::{Luck, Pulse, Sample, Unit, VERSION};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use tokio::task::JoinHandle;
use tombola_core::amount::Amount;
use tombola_core::payee::{Exposure, Health};

/// How a payee stands.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct PayeeStatus {
    /// The version of this program.
    pub version: &'static str,
    /// How long the node has run; nothing where none runs.
    pub uptime_ms: Option<u64>,
    /// Whether tickets are taken, and if not, why: a code, see [`HEALTH_CODES`].
    pub health: &'static str,
    /// What it is owed and has reserved.
    pub exposure: Exposure,
    /// Units that it lends one payer account ahead of tickets at most.
    pub credit_units: u32,
    /// Ticket records whose index was drawn, since the start: as many as tickets, unless payers jumped.
    pub records: u64,
    /// Indices drawn since the start.
    pub tickets: u64,
    /// Of these a second, over the last minute.
    pub tickets_per_second: f64,
    /// Winners since the start.
    pub winners: u64,
    /// What was drawn since the start against what was expected.
    pub luck: Luck,
    /// Claims sent since the start, repeats included.
    pub claims: u64,
    /// Of these a second, over the last minute.
    pub claims_per_second: f64,
    /// Books opened since the start.
    pub books: u64,
    /// Units delivered since the start.
    pub units: u64,
    /// Winners redeemed, ever.
    pub winners_redeemed: u64,
    /// Credited for them, fees deducted, ever.
    pub redeemed: Amount,
    /// Refusals kept as evidence.
    pub refusals: u64,
    /// Books closed since the start because a record was not of their chain.
    pub broken_books: u64,
    /// Books not opened since the start because their payer had broken too many.
    pub turned_away: u64,
    /// Connections that stand or are being made.
    pub connections: u64,
    /// Attempts to connect that were not let in since the start, by reason.
    pub connections_turned_away: BTreeMap<String, u64>,
}

/// Every code that [`PayeeStatus::health`] may have, with what it means.
pub const HEALTH_CODES: [(&str, &str); 4] = [
    ("selling", "tickets are taken"),
    (
        "overdue",
        "no ticket is taken: winners could not be redeemed in time; see that the escrow is reachable",
    ),
    (
        "store_failed",
        "no ticket is taken: the store does not take writes; it is tried again each second",
    ),
    (
        "restart_needed",
        "no ticket is taken: the disk has lost writes, and only a restart tells what it has; mend the disk first",
    ),
];

/// What is counted for the rates: tickets and claims.
pub(super) type PayeePulse = Pulse<2>;

/// Starts counting rates, and says by the log when the payee stops or begins to take tickets.
pub(super) fn watch(shared: &Arc<Shared>) -> (Arc<PayeePulse>, JoinHandle<()>) {
    let watched = Arc::clone(shared);
    let mut before = health(shared);
    Pulse::start(move || {
        let now = health(&watched);
        if now != before {
            tell(now);
            before = now;
        }
        counted(&watched)
    })
}

fn counted(shared: &Shared) -> [u64; 2] {
    let counters = &shared.counters;
    [&counters.tickets, &counters.claims].map(|counter| counter.load(Ordering::Relaxed))
}

/// The events that an operator is woken for. Their names are a contract, listed in README.md.
fn tell(health: &'static str) {
    match health {
        "selling" => tracing::info!(event = "selling", "tickets are taken again"),
        "overdue" => tracing::error!(
            event = "claims_overdue",
            "winners were not redeemed in time: no ticket is taken"
        ),
        _ => tracing::error!(
            event = "store_failed",
            health,
            "the store does not take writes: no ticket is taken"
        ),
    }
}

fn health(shared: &Shared) -> &'static str {
    if shared.store.has_failed() {
        return "restart_needed";
    }
    match shared.rules().health() {
        Health::Selling => "selling",
        Health::Overdue => "overdue",
        Health::StoreFailed => "store_failed",
    }
}

/// How a payee stands by what it keeps and counts. May block on the disk.
pub(super) fn status(shared: &Shared) -> Result<PayeeStatus, PayeeError> {
    // Reading may wait for the disk, and nothing may wait for the rules meanwhile.
    let (totals, refusals) = (shared.store.totals()?, shared.store.refusals()?);
    let health = health(shared);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &shared.counters;
    let luck = counters.luck.lock().unwrap_or_else(PoisonError::into_inner).luck();
    let rules = shared.rules();
    Ok(PayeeStatus {
        version: VERSION,
        uptime_ms: None,
        health,
        exposure: rules.exposure(),
        credit_units: rules.terms().credit_units,
        records: count(&counters.records),
        tickets: count(&counters.tickets),
        tickets_per_second: 0.0,
        winners: count(&counters.winners),
        luck,
        claims: count(&counters.claims),
        claims_per_second: 0.0,
        books: count(&counters.books),
        units: count(&counters.units),
        winners_redeemed: totals.winners,
        redeemed: Amount(totals.net),
        refusals: u64::try_from(refusals.len()).unwrap_or(u64::MAX),
        broken_books: count(&counters.broken_books),
        turned_away: count(&counters.turned_away),
        connections: 0,
        connections_turned_away: BTreeMap::new(),
    })
}

impl Payee {
    /// How it stands. May block on the disk.
    ///
    /// # Errors
    /// [`PayeeError::Store`] if the store cannot be read.
    pub fn status(&self) -> Result<PayeeStatus, PayeeError> {
        let status = status(&self.shared)?;
        let [tickets_per_second, claims_per_second] = self.pulse.per_second([status.tickets, status.claims]);
        Ok(PayeeStatus {
            uptime_ms: Some(self.pulse.uptime_ms()),
            tickets_per_second,
            claims_per_second,
            connections: u64::try_from(self.connections()).unwrap_or(u64::MAX),
            connections_turned_away: crate::metrics::by_reason(&self.connections_turned_away()),
            ..status
        })
    }
}

impl PayeeStatus {
    /// Whether it takes tickets.
    #[must_use]
    pub fn is_selling(&self) -> bool {
        self.health == "selling"
    }

    /// The numbers for the metrics port. Names are a contract.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = Sample::of_program("payee", "payee_uptime", self.uptime_ms.unwrap_or(0)).to_vec();
        samples.push(Sample::measured(
            "payee_luck",
            "Standard deviations that winners are above expectation",
            self.luck.z,
        ));
        samples.extend(self.counters());
        samples.extend(self.gauges());
        let times = [
            (
                "payee_claim_deadline_timestamp",
                "When the first winner must have been claimed",
                self.exposure.claim_deadline,
            ),
            (
                "payee_hold_expiry_timestamp",
                "When the next hold takes its last ticket",
                self.exposure.next_expiry,
            ),
        ];
        for (name, help, time) in times {
            samples.extend(time.map(|time| Sample::seconds(name, help, time.0)));
        }
        samples.push(Sample::by_reason(
            "payee_connections_turned_away",
            "Attempts to connect that were not let in",
            self.connections_turned_away.clone(),
        ));
        samples
    }

    fn counters(&self) -> impl Iterator<Item = Sample> {
        let counts = [
            ("payee_tickets", "Tickets drawn", self.tickets),
            ("payee_records", "Ticket records whose index was drawn", self.records),
            ("payee_winners", "Tickets that won", self.winners),
            ("payee_books", "Books opened", self.books),
            (
                "payee_broken_books",
                "Books closed for a broken chain",
                self.broken_books,
            ),
            (
                "payee_requests_turned_away",
                "Requests refused by a limit on work",
                self.turned_away,
            ),
            ("payee_units", "Units delivered", self.units),
            ("payee_claims", "Claims sent, repeats included", self.claims),
            (
                "payee_winners_redeemed",
                "Winners redeemed, ever",
                self.winners_redeemed,
            ),
        ];
        let amounts = [
            ("payee_redeemed", "Credited for winners, ever", self.redeemed),
            (
                "payee_expected",
                "Worth of drawn tickets in expectation",
                self.luck.expected,
            ),
            ("payee_drawn", "Worth of the winners among them", self.luck.drawn),
        ];
        let counts = counts.map(|(name, help, count)| Sample::counter(name, help, count));
        let amounts = amounts.map(|(name, help, amount)| Sample::counter(name, help, amount.0).of(Unit::Atoms));
        counts.into_iter().chain(amounts)
    }

    fn gauges(&self) -> impl Iterator<Item = Sample> {
        let now = &self.exposure;
        let counts = [
            ("payee_selling", "1 if tickets are taken", u64::from(self.is_selling())),
            ("payee_refusals", "Refusals of claims, kept as evidence", self.refusals),
            ("payee_open_holds", "Holds that have not ended", now.open_holds),
            ("payee_open_books", "Books open now", now.open_books),
            (
                "payee_unclaimed_books",
                "Closed books that wait for a receipt",
                now.unclaimed_books,
            ),
            ("payee_unclaimed_winners", "Their winners", now.unclaimed_winners),
            ("payee_units_lent", "Units served ahead of tickets", now.units_lent),
            (
                "payee_connections",
                "Connections that stand or are being made",
                self.connections,
            ),
        ];
        let amounts = [
            ("payee_owed", "Winners not redeemed", now.liabilities),
            ("payee_reserved", "Set aside for next winners", now.reservations),
            ("payee_hold_capacity", "What open holds pay in all", now.capacity),
            ("payee_hold_room", "What of it is free", now.room),
        ];
        let counts = counts.map(|(name, help, count)| Sample::gauge(name, help, count));
        let amounts = amounts.map(|(name, help, amount)| Sample::gauge(name, help, amount.0).of(Unit::Atoms));
        counts.into_iter().chain(amounts)
    }
}
