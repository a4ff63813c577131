//! What a payer risks with each payee right now, and what it pays.

use super::paying::lock_window;
use super::{Payer, PayerLuck};
use crate::metrics::{Pulse, Sample, Unit};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use tokio::task::JoinHandle;
use tombola_core::amount::Amount;
use tombola_core::key::AccountKey;
use tombola_core::payer::Window;
use tombola_net::Address;

/// The window of one payee: what it was given and has not acknowledged, over all books and connections of this process.
/// Amounts are expected values. Spec: B-16.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct WindowStatus {
    /// The payee.
    pub payee: AccountKey,
    /// Where it is reached.
    #[serde(serialize_with = "crate::payer::order::as_text")]
    pub address: Address,
    /// Tickets on their way that it has not acknowledged.
    pub in_flight: u64,
    /// What they are worth.
    pub in_flight_value: Amount,
    /// What was on its way when a connection broke, and is not worked off.
    pub lost_value: Amount,
    /// What it said that it has not drawn.
    pub undrawn_value: Amount,
    /// What it acknowledged and did not deliver, over several connections.
    pub undelivered_value: Amount,
    /// The most that may be in flight, lost and undelivered together.
    pub limit: Amount,
    /// Tickets that may be out at once by their number.
    pub tickets: u32,
}

impl WindowStatus {
    fn new(payee: AccountKey, address: Address, window: &Window) -> Self {
        let atoms = |value: u128| Amount(u64::try_from(value).unwrap_or(u64::MAX));
        let (in_flight, in_flight_value) = window.in_flight();
        Self {
            payee,
            address,
            in_flight,
            in_flight_value: atoms(in_flight_value),
            lost_value: atoms(window.lost_value()),
            undrawn_value: atoms(window.undrawn_value()),
            undelivered_value: atoms(window.undelivered_value()),
            limit: window.value_max(),
            tickets: window.tickets(),
        }
    }
}

/// What payees have acknowledged to this process.
#[derive(Debug, Default)]
struct Counters {
    tickets: AtomicU64,
    /// Their price, in atomic units.
    value: AtomicU64,
}

impl Counters {
    /// Tickets, and what they are worth.
    fn read(&self) -> [u64; 2] {
        [&self.tickets, &self.value].map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// Counts what payees acknowledge, and notes it once a second for the rates, as long as there is a payer.
#[derive(Debug)]
pub(crate) struct PayerPulse {
    counters: Arc<Counters>,
    pulse: Arc<Pulse<2>>,
    beating: JoinHandle<()>,
}

impl PayerPulse {
    pub(super) fn start() -> Self {
        let counters = Arc::<Counters>::default();
        let counted = Arc::clone(&counters);
        let (pulse, beating) = Pulse::start(move || counted.read());
        Self {
            counters,
            pulse,
            beating,
        }
    }

    /// A payee has acknowledged so many tickets more, each at this price.
    pub(crate) fn count(&self, tickets: u64, price: Amount) {
        self.counters.tickets.fetch_add(tickets, Ordering::Relaxed);
        let value = price.saturating_mul(tickets).0;
        self.counters.value.fetch_add(value, Ordering::Relaxed);
    }
}

impl Drop for PayerPulse {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

/// What payees acknowledge in a second, on average over the last minute.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct PayerRates {
    /// Tickets.
    pub tickets_per_second: f64,
    /// What they are worth in expectation, rounded down.
    pub expected_per_second: Amount,
}

impl Payer {
    /// The windows of all payees that this process has dealt with, in the order of their keys.
    #[must_use]
    pub fn windows(&self) -> Vec<WindowStatus> {
        let links = self.inner.links.lock().unwrap_or_else(PoisonError::into_inner);
        let windows = links
            .iter()
            .map(|(payee, link)| WindowStatus::new(*payee, link.address().with_path(""), &lock_window(link)));
        let mut windows: Vec<_> = windows.collect();
        windows.sort_unstable_by_key(|window| window.payee);
        windows
    }

    /// Milliseconds since it was connected.
    #[must_use]
    pub fn uptime_ms(&self) -> u64 {
        self.inner.pulse.pulse.uptime_ms()
    }

    /// What this process pays over all payees: tickets count when they are acknowledged.
    #[must_use]
    pub fn rates(&self) -> PayerRates {
        let pulse = &self.inner.pulse;
        let [tickets_per_second, value] = pulse.pulse.per_second(pulse.counters.read());
        PayerRates {
            tickets_per_second,
            expected_per_second: Amount(value as u64),
        }
    }

    /// The numbers for the metrics port; those of luck only where it is known. Names are a contract.
    #[must_use]
    pub fn samples(&self, luck: Option<&PayerLuck>) -> Vec<Sample> {
        let windows = self.windows();
        let total = |part: fn(&WindowStatus) -> Amount| {
            let sum = tombola_core::amount::sum(windows.iter().map(part));
            u64::try_from(sum).unwrap_or(u64::MAX)
        };
        let in_flight = windows.iter().map(|window| window.in_flight).sum();
        let payees = u64::try_from(windows.len()).unwrap_or(u64::MAX);
        let counts = [
            ("payer_payees", "Payees that this process has dealt with", payees),
            (
                "payer_in_flight",
                "Tickets that payees have not acknowledged",
                in_flight,
            ),
        ];
        let amounts = [
            (
                "payer_in_flight_value",
                "Their worth",
                total(|window| window.in_flight_value),
            ),
            (
                "payer_lost",
                "Worth of what was lost with connections",
                total(|window| window.lost_value),
            ),
            (
                "payer_undrawn",
                "Worth of what payees said they did not draw",
                total(|window| window.undrawn_value),
            ),
            (
                "payer_undelivered",
                "Worth of what payees were paid for and did not deliver",
                total(|window| window.undelivered_value),
            ),
        ];
        let mut samples = Sample::of_program("payer", "payer_uptime", self.uptime_ms()).to_vec();
        samples.extend(counts.map(|(name, help, count)| Sample::gauge(name, help, count)));
        samples.extend(amounts.map(|(name, help, amount)| Sample::gauge(name, help, amount).of(Unit::Atoms)));
        let [tickets, value] = self.inner.pulse.counters.read();
        samples.push(Sample::counter(
            "payer_tickets",
            "Tickets that payees acknowledged",
            tickets,
        ));
        samples.push(Sample::counter("payer_tickets_value", "Their worth", value).of(Unit::Atoms));
        samples.extend(luck.into_iter().flat_map(PayerLuck::samples));
        samples
    }

    /// The cap of each window, if one is set; by default the larger of one face value and 64 prices.
    #[must_use]
    pub fn window_value(&self) -> Option<Amount> {
        self.inner.terms.window_value
    }
}

impl PayerLuck {
    fn samples(&self) -> [Sample; 4] {
        let amounts = [
            (
                "payer_expected",
                "Worth of drawn tickets in expectation, ever",
                self.luck.expected,
            ),
            (
                "payer_drawn",
                "Charged for the winners among them, ever",
                self.luck.drawn,
            ),
        ];
        let [expected, drawn] =
            amounts.map(|(name, help, amount)| Sample::counter(name, help, amount.0).of(Unit::Atoms));
        let luck = Sample::measured(
            "payer_luck",
            "Standard deviations that charges are above expectation",
            self.luck.z,
        );
        let uncounted = Sample::gauge(
            "payer_uncounted",
            "Charged for books that luck leaves out",
            self.uncounted.0,
        );
        [expected, drawn, luck, uncounted.of(Unit::Atoms)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tombola_core::key::SecretKey;

    #[tokio::test]
    async fn what_is_acknowledged_is_counted_as_long_as_there_is_a_payer() {
        let pulse = PayerPulse::start();
        pulse.count(3, Amount(7));
        pulse.count(2, Amount(10));
        assert_eq!(pulse.counters.read(), [5, 41]);
        let counters = Arc::downgrade(&pulse.counters);
        drop(pulse);
        let ended = async {
            while counters.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended)
            .await
            .expect("it beats on");
    }

    #[test]
    fn a_status_tells_what_is_in_flight_lost_undrawn_and_undelivered() {
        let payee = SecretKey::from_seed(&[3; 32]).account();
        let mut window = Window::new(Amount(1_000));
        let price = Amount(10);
        window.sent(8, price);
        window.lost(3, price);
        window.undrawn(1, price);
        window.settle(0, 20);
        let address = Address::new(payee, "127.0.0.1", 7_401);
        let status = WindowStatus::new(payee, address, &window);
        let values = [
            status.in_flight_value,
            status.lost_value,
            status.undrawn_value,
            status.undelivered_value,
            status.limit,
        ];
        assert_eq!(
            (status.in_flight, values.map(|amount| amount.0)),
            (4, [40, 30, 10, 20, 1_000])
        );
    }
}
