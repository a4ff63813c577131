//! How far ahead of a payee's acknowledgements a payer pays: the payer's whole risk with that payee.

use crate::amount::Amount;

/// Unacknowledged tickets towards one payee, over all books and connections. Spec: B-16.
///
/// The window starts at 1 ticket, doubles with each acknowledgement that gets anything done, stays within the quote's
/// `jump_max`, and is capped in money. Tickets of a lost connection stay counted: whatever a payee does to its
/// connections, it cannot be paid more than the window without serving. Value that it acknowledges later works them off,
/// at one sixteenth, so that a payee that crashed is not shut out for good.
#[derive(Debug, Clone)]
pub struct Window {
    tickets: u32,
    value_max: Amount,
    in_flight: u64,
    in_flight_value: u128,
    lost_value: u128,
    acknowledged_value: u128,
    undrawn_value: u128,
}

impl Window {
    /// A fresh window of at most this value.
    #[must_use]
    pub const fn new(value_max: Amount) -> Self {
        Self {
            tickets: 1,
            value_max,
            in_flight: 0,
            in_flight_value: 0,
            lost_value: 0,
            acknowledged_value: 0,
            undrawn_value: 0,
        }
    }

    /// The default value: the larger of one face value in expectation and 64 prices.
    #[must_use]
    pub fn value_default(price: Amount, face_value: Amount) -> Amount {
        face_value.max(price.saturating_mul(crate::limits::WINDOW_PRICES_DEFAULT))
    }

    /// Raises the value cap for dearer books; never lowers it.
    pub fn allow(&mut self, value_max: Amount) {
        self.value_max = self.value_max.max(value_max);
    }

    /// How many more tickets of this price may be sent now.
    #[must_use]
    pub fn allowance(&self, price: Amount, jump_max: u32) -> u32 {
        if self.distrust().is_some() {
            return 0;
        }
        let by_count = u64::from(self.tickets.min(jump_max)).saturating_sub(self.in_flight);
        let used = self.in_flight_value.saturating_add(self.lost_value);
        let room = u128::from(self.value_max.0).saturating_sub(used);
        let by_value = room.checked_div(u128::from(price.0)).unwrap_or(0);
        let allowed = u32::try_from(u128::from(by_count).min(by_value)).unwrap_or(u32::MAX);
        // One ticket at a time works off what was lost; past two windows lost, nothing goes.
        let may_probe = self.in_flight == 0 && self.lost_value < u128::from(self.value_max.0).saturating_mul(2);
        if allowed == 0 && may_probe { 1 } else { allowed }
    }

    /// Tickets were sent.
    pub fn sent(&mut self, tickets: u32, price: Amount) {
        self.in_flight = self.in_flight.saturating_add(u64::from(tickets));
        self.in_flight_value = self.in_flight_value.saturating_add(value(tickets, price));
    }

    /// The payee acknowledged tickets: the window doubles, up to `jump_max`.
    pub fn acknowledged(&mut self, tickets: u32, price: Amount, jump_max: u32) {
        if tickets == 0 {
            return;
        }
        self.leave(tickets, price);
        self.tickets = self.tickets.saturating_mul(2).min(jump_max.max(1));
        self.acknowledged_value = self.acknowledged_value.saturating_add(value(tickets, price));
        self.lost_value = self.lost_value.saturating_sub(value(tickets, price) >> 4);
    }

    /// The payee said that these will never be drawn: its book is closed below them. Nobody can check that before the
    /// statement comes, so it is believed only in proportion, see [`Self::distrust`].
    pub fn undrawn(&mut self, tickets: u32, price: Amount) {
        self.leave(tickets, price);
        self.undrawn_value = self.undrawn_value.saturating_add(value(tickets, price));
    }

    /// The worth of what the payee claims not to have drawn, once that is over what it has acknowledged and two windows:
    /// then nothing more is sent to it.
    #[must_use]
    pub fn distrust(&self) -> Option<u128> {
        let allowed = self
            .acknowledged_value
            .saturating_add(u128::from(self.value_max.0).saturating_mul(2));
        (self.undrawn_value > allowed).then_some(self.undrawn_value)
    }

    /// The connection went away with these in flight: nobody knows whether they were drawn.
    pub fn lost(&mut self, tickets: u32, price: Amount) {
        self.leave(tickets, price);
        self.lost_value = self.lost_value.saturating_add(value(tickets, price));
    }

    /// A lost book was found again: the payee says how many of its tickets in flight it drew, and that the rest never will be.
    pub fn found(&mut self, in_flight: u32, drawn: u32, price: Amount) {
        let drawn = drawn.min(in_flight);
        self.lost_value = self.lost_value.saturating_sub(value(in_flight, price));
        self.acknowledged_value = self.acknowledged_value.saturating_add(value(drawn, price));
        let undrawn = in_flight.saturating_sub(drawn);
        self.undrawn_value = self.undrawn_value.saturating_add(value(undrawn, price));
    }

    fn leave(&mut self, tickets: u32, price: Amount) {
        self.in_flight = self.in_flight.saturating_sub(u64::from(tickets));
        self.in_flight_value = self.in_flight_value.saturating_sub(value(tickets, price));
    }

    /// Tickets in flight and what they are worth, for `status`.
    #[must_use]
    pub const fn in_flight(&self) -> (u64, u128) {
        (self.in_flight, self.in_flight_value)
    }

    /// How many tickets may be out at once, as far as their number goes; the cap in money may allow fewer.
    #[must_use]
    pub const fn tickets(&self) -> u32 {
        self.tickets
    }

    /// The worth of what the payee says that it has not drawn and will not draw.
    #[must_use]
    pub const fn undrawn_value(&self) -> u128 {
        self.undrawn_value
    }

    /// What tickets of lost connections were worth.
    #[must_use]
    pub const fn lost_value(&self) -> u128 {
        self.lost_value
    }

    /// The cap in money.
    #[must_use]
    pub const fn value_max(&self) -> Amount {
        self.value_max
    }
}

/// Expected value of tickets that cover a price exactly, for bounding.
fn value(tickets: u32, price: Amount) -> u128 {
    u128::from(tickets).saturating_mul(u128::from(price.0))
}
