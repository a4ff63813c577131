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
        let exposure = &self.exposure;
        let seconds = |ms: u64| ms as f64 / 1_000.0;
        let mut samples = vec![
            Sample::info("payee", "The program", vec![("version", self.version.to_owned())]),
            Sample::measured(
                "payee_uptime",
                "How long the node runs",
                seconds(self.uptime_ms.unwrap_or(0)),
            )
            .of(Unit::Seconds),
            Sample::gauge("payee_selling", "1 if tickets are taken", u64::from(self.is_selling())),
            Sample::counter("payee_tickets", "Tickets drawn", self.tickets),
            Sample::counter("payee_records", "Ticket records whose index was drawn", self.records),
            Sample::counter("payee_winners", "Tickets that won", self.winners),
            Sample::counter("payee_books", "Books opened", self.books),
            Sample::counter(
                "payee_broken_books",
                "Books closed for a broken chain",
                self.broken_books,
            ),
            Sample::counter(
                "payee_requests_turned_away",
                "Requests refused by a limit on work",
                self.turned_away,
            ),
            Sample::counter("payee_units", "Units delivered", self.units),
            Sample::counter("payee_claims", "Claims sent, repeats included", self.claims),
            Sample::counter(
                "payee_winners_redeemed",
                "Winners redeemed, ever",
                self.winners_redeemed,
            ),
            Sample::counter("payee_redeemed", "Credited for winners, ever", self.redeemed.0).of(Unit::Atoms),
            Sample::counter(
                "payee_expected",
                "Worth of drawn tickets in expectation",
                self.luck.expected.0,
            )
            .of(Unit::Atoms),
            Sample::counter("payee_drawn", "Worth of the winners among them", self.luck.drawn.0).of(Unit::Atoms),
            Sample::measured(
                "payee_luck",
                "Standard deviations that winners are above expectation",
                self.luck.z,
            ),
            Sample::gauge("payee_refusals", "Refusals of claims, kept as evidence", self.refusals),
            Sample::gauge("payee_owed", "Winners not redeemed", exposure.liabilities.0).of(Unit::Atoms),
            Sample::gauge("payee_reserved", "Set aside for next winners", exposure.reservations.0).of(Unit::Atoms),
            Sample::gauge("payee_hold_capacity", "What open holds pay in all", exposure.capacity.0).of(Unit::Atoms),
            Sample::gauge("payee_hold_room", "What of it is free", exposure.room.0).of(Unit::Atoms),
            Sample::gauge("payee_open_holds", "Holds that have not ended", exposure.open_holds),
            Sample::gauge("payee_open_books", "Books open now", exposure.open_books),
            Sample::gauge(
                "payee_unclaimed_books",
                "Closed books that wait for a receipt",
                exposure.unclaimed_books,
            ),
            Sample::gauge("payee_unclaimed_winners", "Their winners", exposure.unclaimed_winners),
            Sample::gauge("payee_units_lent", "Units served ahead of tickets", exposure.units_lent),
            Sample::gauge(
                "payee_connections",
                "Connections that stand or are being made",
                self.connections,
            ),
        ];
        let times = [
            (
                "payee_claim_deadline_timestamp",
                "When the first winner must have been claimed",
                exposure.claim_deadline,
            ),
            (
                "payee_hold_expiry_timestamp",
                "When the next hold takes its last ticket",
                exposure.next_expiry,
            ),
        ];
        for (name, help, time) in times {
            samples.extend(time.map(|time| Sample::measured(name, help, seconds(time.0)).of(Unit::Seconds)));
        }
        samples.push(Sample::by_reason(
            "payee_connections_turned_away",
            "Attempts to connect that were not let in",
            self.connections_turned_away.clone(),
        ));
        samples
    }
}
