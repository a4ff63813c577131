//! What the demo found: it says only what holds, and what does not by name.

use super::{ASSET, Measured, Terms};
use crate::output::{money, sum};
use serde_json::{Value, json};
use tombola_ledger::audit::AuditReport as Books;
use tombola_node::estimate::{chance, luck};
use tombola_node::payer::AuditReport;

/// The payments, and what payer and escrow say of them afterwards.
pub(super) struct Summary<'a> {
    pub(super) terms: &'a Terms,
    pub(super) measured: &'a Measured,
    pub(super) audit: &'a AuditReport,
    pub(super) books: &'a Books,
}

impl Summary<'_> {
    /// Everything that must add up and does not.
    pub(super) fn wrong(&self) -> Vec<String> {
        let (t, m) = (self.terms, self.measured);
        let mut wrong = Vec::new();
        if m.records != t.payments || m.tickets != t.payments {
            wrong.push(format!(
                "{} payments, {} records, {} draws",
                t.payments, m.records, m.tickets
            ));
        }
        if Some(m.redeemed) != t.face.checked_mul(m.winners) {
            let redeemed = money(m.redeemed, ASSET);
            wrong.push(format!("{} winners, but {redeemed} redeemed", m.winners));
        }
        if !self.is_conserved() {
            wrong.push("the escrow's books do not balance".to_owned());
        }
        if !self.is_audited() {
            let faults = self.audit.faults.len() + self.audit.beyond.len();
            let sums = if self.audit.adds_up {
                ""
            } else {
                ", and sums that do not add up"
            };
            wrong.push(format!(
                "the payer's audit found {faults} faults and {} charges without a line in its journal{sums}",
                self.audit.unknown
            ));
        }
        wrong
    }

    /// Whether the escrow has what was deposited, and nothing else.
    fn is_conserved(&self) -> bool {
        self.books.conserved && self.books.deposits == u128::from(self.terms.deposit.0)
    }

    /// Whether the payer found every charge to be right.
    fn is_audited(&self) -> bool {
        self.audit.is_clean()
    }

    fn z(&self) -> f64 {
        let (t, m) = (self.terms, self.measured);
        luck(t.payments, chance(t.threshold), m.winners)
    }

    fn rate(&self) -> f64 {
        self.terms.payments as f64 / self.measured.seconds
    }

    fn bytes(&self) -> f64 {
        self.measured.bytes as f64 / self.terms.payments as f64
    }

    fn expected(&self) -> String {
        let t = self.terms;
        sum(t.threshold.expected(t.face, t.payments), ASSET)
    }

    pub(super) fn json(&self) -> Value {
        let (t, m, books) = (self.terms, self.measured, self.books);
        json!({
            "payments": t.payments,
            "records": m.records,
            "winners": m.winners,
            "expected": self.expected(),
            "redeemed": money(m.redeemed, ASSET),
            "z": self.z(),
            "seconds": m.seconds,
            "payments_per_second": self.rate(),
            "wire_bytes_per_payment": self.bytes(),
            "claims": m.claims,
            "conserved": self.is_conserved(),
            "price": money(t.price, ASSET),
            "face_value": money(t.face, ASSET),
            "deposits": sum(books.deposits, ASSET),
            "balances": sum(books.balances, ASSET),
            "held": sum(books.held, ASSET),
            "fees": sum(books.fees, ASSET),
            "draws_audited_by_payer": self.audit.draws,
            "asset": ASSET.name(),
        })
    }

    pub(super) fn text(&self) -> String {
        let (t, m) = (self.terms, self.measured);
        let (name, price, expected) = (ASSET.name(), money(t.price, ASSET), self.expected());
        let winners = format!("paid by {} winners", m.winners);
        let (z, rate, bytes) = (self.z(), self.rate(), self.bytes());
        let mut lines = vec![
            format!("{} payments of {price} {name}, each its own ticket:", t.payments),
            format!("  paid in expectation   {expected} {name}"),
            format!("  {winners:<22}{} {name}", money(m.redeemed, ASSET)),
            format!("  luck of the payee     {z:+.2} standard deviations ({})", describe(z)),
            format!(
                "  speed                 {rate:.0} payments/s, {:.2} s in all",
                m.seconds
            ),
            format!("  on the wire           {bytes:.1} bytes a payment, between payer and payee, both ways"),
            format!(
                "  claims to the escrow  {}, in place of {} payments",
                m.claims, t.payments
            ),
            self.audit_line(),
            self.books_line(),
            String::new(),
        ];
        let wrong = self.wrong();
        if wrong.is_empty() {
            lines.push("Next: run your own escrow, then follow what it says.".to_owned());
            lines.push("  tombola escrow init --home ./escrow && tombola escrow run --home ./escrow".to_owned());
        } else {
            lines.push("What does not add up:".to_owned());
            lines.extend(wrong.iter().map(|wrong| format!("  {wrong}")));
        }
        lines.join("\n")
    }

    fn audit_line(&self) -> String {
        let outcome = match self.is_audited() {
            true => "every winner really won",
            false => "not every charge holds",
        };
        format!("  drawn again by payer  {} tickets: {outcome}", self.audit.draws)
    }

    fn books_line(&self) -> String {
        let books = self.books;
        let (deposits, balances) = (sum(books.deposits, ASSET), sum(books.balances, ASSET));
        let (held, fees) = (sum(books.held, ASSET), sum(books.fees, ASSET));
        match self.is_conserved() {
            true => {
                format!("  the books balance     deposits {deposits} = balances {balances} + held {held} + fees {fees}")
            }
            false => format!(
                "  DO NOT BALANCE        deposits {deposits}, balances {balances}, held {held}, fees {fees}, findings {}",
                books.findings.len()
            ),
        }
    }
}

fn describe(z: f64) -> &'static str {
    match z.abs() {
        z if z < 1.0 => "as good as average",
        z if z < 2.0 => "happens every few runs",
        z if z < 3.0 => "happens once in 20 runs or more seldom",
        _ => "happens less than once in 300 runs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombola_core::amount::Amount;
    use tombola_core::odds::Threshold;

    fn terms() -> Terms {
        Terms {
            payments: 100,
            price: Amount(1),
            face: Amount(10),
            threshold: Threshold::for_price(Amount(1), Amount(10)).unwrap(),
            deposit: Amount(1_000),
        }
    }

    fn measured() -> Measured {
        Measured {
            seconds: 1.0,
            records: 100,
            tickets: 100,
            winners: 9,
            redeemed: Amount(90),
            claims: 1,
            bytes: 3_700,
        }
    }

    fn audit() -> AuditReport {
        AuditReport {
            charges: 1,
            draws: 100,
            winners: 9,
            charged: Amount(90),
            acknowledged: 100,
            expected: Amount(100),
            z: 0.0,
            faults: vec![],
            beyond: vec![],
            lost: 0,
            unknown: 0,
            adds_up: true,
        }
    }

    fn books() -> Books {
        Books {
            events: 4,
            accounts: 2,
            holds: 1,
            books: 1,
            rows: 12,
            deposits: 1_000,
            balances: 1_000,
            held: 0,
            fees: 0,
            pending: 0,
            withdrawn: 0,
            claims: 1,
            winners: 9,
            conserved: true,
            findings: vec![],
        }
    }

    fn told(measured: &Measured, audit: &AuditReport, books: &Books) -> (usize, String) {
        let summary = Summary {
            terms: &terms(),
            measured,
            audit,
            books,
        };
        (summary.wrong().len(), summary.text())
    }

    #[test]
    fn nothing_is_said_to_hold_that_does_not() {
        let promises = ["every winner really won", "the books balance", "Next: "];
        let said = |text: &str| promises.map(|promise| text.contains(promise));
        let (wrong, text) = told(&measured(), &audit(), &books());
        assert_eq!((wrong, said(&text)), (0, [true; 3]), "{text}");

        let unsure = AuditReport { unknown: 1, ..audit() };
        let (wrong, text) = told(&measured(), &unsure, &books());
        assert_eq!((wrong, said(&text)), (1, [false, true, false]), "{text}");

        let short = Books {
            deposits: 999,
            ..books()
        };
        let (wrong, text) = told(&measured(), &audit(), &short);
        assert_eq!((wrong, said(&text)), (1, [true, false, false]), "{text}");

        let lost = Measured {
            records: 99,
            redeemed: Amount(80),
            ..measured()
        };
        let (wrong, text) = told(&lost, &audit(), &books());
        assert_eq!((wrong, said(&text)), (2, [true, true, false]), "{text}");
    }
}
