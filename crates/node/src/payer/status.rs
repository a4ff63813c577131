//! What a payer risks with each payee right now.

use super::Payer;
use super::paying::lock_window;
use crate::metrics::{Sample, Unit};
use std::sync::PoisonError;
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
        u64::try_from(self.inner.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The numbers for the metrics port. Names are a contract.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
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
        samples
    }

    /// The cap of each window, if one is set; by default the larger of one face value and 64 prices.
    #[must_use]
    pub fn window_value(&self) -> Option<Amount> {
        self.inner.terms.window_value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombola_core::key::SecretKey;

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
