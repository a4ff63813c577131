//! How far ahead of a payee's acknowledgements and deliveries a payer pays: the payer's whole risk with that payee.

use crate::amount::Amount;

/// Unacknowledged tickets towards one payee, over all books and connections. Spec: B-16.
///
/// The window starts at 1 ticket, doubles with each acknowledgement that gets anything done, stays within the quote's
/// `jump_max`, and is capped in money. Tickets of a lost connection stay counted: whatever a payee does to its
/// connections, it cannot be paid more than the window without serving. Value that it acknowledges later works them off,
/// at one sixteenth, so that a payee that crashed is not shut out for good. What it acknowledged and did not deliver when
/// the connection went away counts in the same way, and is worked off by what it delivers.
#[derive(Debug, Clone)]
pub struct Window {
    tickets: u32,
    value_max: Amount,
    in_flight: u64,
    in_flight_value: u128,
    lost_value: u128,
    acknowledged_value: u128,
    undrawn_value: u128,
    undelivered_value: u128,
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
            undelivered_value: 0,
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
        let used = self.in_flight_value.saturating_add(self.missing_value());
        let room = u128::from(self.value_max.0).saturating_sub(used);
        let by_value = room.checked_div(u128::from(price.0)).unwrap_or(0);
        let allowed = u32::try_from(u128::from(by_count).min(by_value)).unwrap_or(u32::MAX);
        // One ticket at a time works off what is missing; past two windows, nothing goes.
        let may_probe = self.in_flight == 0 && self.shortfall().is_none();
        if allowed == 0 && may_probe { 1 } else { allowed }
    }

    /// How many units of this price may be paid ahead of their delivery: what the window has left, and at least one, as
    /// only further deliveries work off what is missing.
    #[must_use]
    pub fn ahead(&self, price: Amount) -> u64 {
        let room = u128::from(self.value_max.0).saturating_sub(self.missing_value());
        let units = room.checked_div(u128::from(price.0)).unwrap_or(0);
        u64::try_from(units).unwrap_or(u64::MAX).max(1)
    }

    /// What is missing and the limit, once two windows are: then nothing more is sent.
    #[must_use]
    pub fn shortfall(&self) -> Option<Shortfall> {
        let limit = u128::from(self.value_max.0).saturating_mul(2);
        let missing = self.missing_value();
        (missing >= limit).then_some(Shortfall { missing, limit })
    }

    /// What was lost with connections and what was acknowledged and not delivered.
    fn missing_value(&self) -> u128 {
        self.lost_value.saturating_add(self.undelivered_value)
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

    /// What a purchase has paid for and not got was worth `before` when it was last counted, and is worth `now`.
    pub fn settle(&mut self, before: u128, now: u128) {
        self.undelivered_value = self.undelivered_value.saturating_add(now).saturating_sub(before);
    }

    /// What an earlier process wrote down as lost, and as paid and not delivered, counts here as well, once.
    pub fn remember(&mut self, lost: u128, undelivered: u128) {
        self.lost_value = self.lost_value.max(lost);
        self.undelivered_value = self.undelivered_value.max(undelivered);
    }

    /// Units were delivered as they were paid: that works off what is missing of earlier ones, at a sixteenth.
    pub fn delivered(&mut self, units: u64, price: Amount) {
        let worked_off = u128::from(units).saturating_mul(u128::from(price.0)) >> 4;
        self.undelivered_value = self.undelivered_value.saturating_sub(worked_off);
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

    /// What tickets were worth that the payee acknowledged, without delivering what they paid for.
    #[must_use]
    pub const fn undelivered_value(&self) -> u128 {
        self.undelivered_value
    }

    /// The cap in money.
    #[must_use]
    pub const fn value_max(&self) -> Amount {
        self.value_max
    }
}

/// Why nothing more is sent to a payee: what it has taken without serving, and the most that it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortfall {
    /// Expected value of what was lost with connections, or acknowledged and not delivered.
    pub missing: u128,
    /// Two windows.
    pub limit: u128,
}

/// Expected value of tickets that cover a price exactly, for bounding.
fn value(tickets: u32, price: Amount) -> u128 {
    u128::from(tickets).saturating_mul(u128::from(price.0))
}
