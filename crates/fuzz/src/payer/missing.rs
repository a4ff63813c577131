//! What a payee has taken without serving, counted by hand beside the window.

use tombola_core::amount::Amount;
use tombola_core::payer::{Shortfall, Window};

/// What is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing that is delivered over this connection: a tip.
    Payments,
    /// Units that come after they are paid; what has not come counts against the payee when the connection is gone.
    Download,
}

/// In atomic units.
pub(super) struct Missing {
    pub(super) kind: Kind,
    /// In flight when a stream was lost, less what was worked off since.
    lost: u128,
    /// Acknowledged and not delivered on connections that are gone, less what was worked off since.
    undelivered: u128,
    /// Acknowledged and not delivered.
    owed: u128,
    /// The part of it that is of connections before this one.
    counted: u128,
    /// Where an earlier process brought it, with all that could still go missing then.
    excused: u128,
}

fn value(tickets: impl Into<u128>, price: u64) -> u128 {
    tickets.into() * u128::from(price)
}

impl Missing {
    pub(super) const fn of(kind: Kind) -> Self {
        Self {
            kind,
            lost: 0,
            undelivered: 0,
            owed: 0,
            counted: 0,
            excused: 0,
        }
    }

    pub(super) const fn value(&self) -> u128 {
        self.lost + self.undelivered
    }

    /// How many of so many tickets may be paid ahead of what is delivered: a download keeps to what the window says.
    pub(super) fn payable(&self, count: u32, window: &Window, price: u64) -> u32 {
        let room = u128::from(window.value_max().0).saturating_sub(self.value());
        let ahead = (room / u128::from(price)).max(1);
        assert_eq!(
            u128::from(window.ahead(Amount(price))),
            ahead,
            "the window less what is missing"
        );
        let out = (self.owed - self.counted + window.in_flight().1).div_ceil(u128::from(price));
        match self.kind {
            Kind::Payments => count,
            Kind::Download => count.min(u32::try_from(ahead.saturating_sub(out)).unwrap_or(u32::MAX)),
        }
    }

    pub(super) fn acknowledged(&mut self, tickets: u32, price: u64) {
        self.lost = self.lost.saturating_sub(value(tickets, price) / 16);
        self.paid(tickets, price);
    }

    pub(super) fn paid(&mut self, tickets: u32, price: u64) {
        if self.kind == Kind::Download {
            self.owed += value(tickets, price);
        }
    }

    pub(super) fn lost(&mut self, tickets: u32, price: u64) {
        self.lost += value(tickets, price);
    }

    pub(super) fn found(&mut self, tickets: u32, price: u64) {
        self.lost = self.lost.saturating_sub(value(tickets, price));
    }

    /// Of so many units those that were paid on this connection. They work off a sixteenth of what they are worth.
    pub(super) fn deliver(&mut self, units: u64, price: u64) -> u64 {
        let due = (self.owed - self.counted) / u128::from(price);
        let units = units.min(u64::try_from(due).unwrap_or(u64::MAX));
        self.owed -= value(units, price);
        self.undelivered = self.undelivered.saturating_sub(value(units, price) / 16);
        units
    }

    /// Some of what was owed comes late.
    pub(super) fn collect(&mut self, part: u8) {
        self.owed -= self.owed * u128::from(part) / 255;
    }

    /// What was owed when that was last counted, and what is now.
    pub(super) fn settle(&mut self) -> (u128, u128) {
        let before = std::mem::replace(&mut self.counted, self.owed);
        self.undelivered = (self.undelivered + self.owed).saturating_sub(before);
        (before, self.owed)
    }

    pub(super) fn remember(&mut self, lost: u128, undelivered: u128, in_flight: u128) {
        self.lost = self.lost.max(lost);
        self.undelivered = self.undelivered.max(undelivered);
        self.excused = self.value() + self.owed - self.counted + in_flight;
    }

    pub(super) fn check(&self, window: &Window, dearest: u64) {
        assert_eq!(window.lost_value(), self.lost, "what was lost");
        assert_eq!(window.undelivered_value(), self.undelivered, "what was not delivered");
        let (missing, limit) = (self.value(), 2 * u128::from(window.value_max().0));
        let short = (missing >= limit).then_some(Shortfall { missing, limit });
        assert_eq!(window.shortfall(), short);
        // What is out goes missing at the worst.
        let at_worst = missing + self.owed.saturating_sub(self.counted) + window.in_flight().1;
        let most = (limit + u128::from(dearest)).max(self.excused);
        assert!(at_worst <= most, "{at_worst} go missing, {most} may");
    }
}
