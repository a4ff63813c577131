//! The audit: fetches the whole statement and checks every charge again, draw by draw.

use super::luck::{Charges, compare};
use super::{Payer, PayerError};
use std::collections::BTreeMap;
use tombola_core::amount::{self, Amount};
use tombola_core::key::{BookId, HoldId};
use tombola_core::message::{Charge, StatementKind};
use tombola_core::payer::{Audited, ChargeFault, JournalRow, audit_charge};

/// What an audit found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct AuditReport {
    /// Charges in the statement.
    pub charges: u64,
    /// Draws made again.
    pub draws: u64,
    /// Winners among them.
    pub winners: u64,
    /// What the winners cost.
    pub charged: Amount,
    /// Tickets that payees acknowledged, by the journal.
    pub acknowledged: u64,
    /// What these were worth in expectation.
    pub expected: Amount,
    /// How lucky the payees were, in standard deviations: the luck of [`Payer::luck`], which leaves lost books out that are
    /// among `acknowledged` and `expected`.
    pub z: f64,
    /// Charges that do not hold.
    pub faults: Vec<AuditedCharge>,
    /// Charges beyond what the payee had acknowledged, or stated later, or could have drawn.
    pub beyond: Vec<AuditedCharge>,
    /// Tickets charged that were in flight when a stream was lost, by payees that never said how many of them they drew.
    pub lost: u64,
    /// Charges whose journal line is missing or open, as the payer was killed: whether they go beyond is unknown.
    pub unknown: u64,
    /// Whether balances, holds and books of the statement add up, entry by entry.
    pub adds_up: bool,
}

/// One charge that is worth a look.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AuditedCharge {
    /// Place in the statement.
    pub sequence: u64,
    /// Which book.
    pub book: BookId,
    /// What.
    pub what: String,
}

impl AuditReport {
    /// Whether everything that can be checked holds.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty() && self.beyond.is_empty() && self.unknown == 0 && self.adds_up
    }
}

impl Payer {
    /// Checks every charge again: hold, own signature, commitment, chain, every draw, and the sums; against the journal,
    /// whether anyone was paid beyond what it had acknowledged.
    ///
    /// # Errors
    /// [`PayerError`] if the escrow is away or the journal cannot be read; what does not hold is in the report.
    pub async fn audit(&self) -> Result<AuditReport, PayerError> {
        let journal = self.inner.store.journal()?;
        let mut report = Tally::default();
        for row in journal.values() {
            report.expect(row);
        }
        let mut after = 0;
        loop {
            let page = self.statement(after).await?;
            for entry in page.entries.as_slice() {
                after = entry.sequence;
                report.follow(entry.balance, &entry.kind);
                report.paid.follow(entry);
                if let StatementKind::Charged(charge) = &entry.kind {
                    let row = journal.get(&charge.claim.book.body.id());
                    let audited = audit_charge(charge, &self.inner.escrow.address().key, &self.inner.account, row);
                    report.take(entry.sequence, charge, audited);
                }
            }
            if !page.more || page.entries.as_slice().is_empty() {
                let luck = compare(&journal, &report.paid).luck;
                return Ok(report.into_report(luck.z));
            }
        }
    }
}

struct Tally {
    balance: Option<Amount>,
    adds_up: bool,
    charges: u64,
    draws: u64,
    winners: u64,
    acknowledged: u64,
    charged: u128,
    expected: u128,
    paid: Charges,
    faults: Vec<AuditedCharge>,
    beyond: Vec<AuditedCharge>,
    /// Of each book that was never found, the tickets in flight that were charged.
    lost: BTreeMap<BookId, u32>,
    unknown: u64,
    /// Of each book, how far it was charged and what for.
    books: BTreeMap<BookId, (u32, Amount)>,
    /// Of each hold, what was set aside and what was charged.
    holds: BTreeMap<HoldId, (u128, u128)>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            balance: Some(Amount::ZERO),
            adds_up: true,
            charges: 0,
            draws: 0,
            winners: 0,
            acknowledged: 0,
            charged: 0,
            expected: 0,
            paid: Charges::default(),
            faults: Vec::new(),
            beyond: Vec::new(),
            lost: BTreeMap::new(),
            unknown: 0,
            books: BTreeMap::new(),
            holds: BTreeMap::new(),
        }
    }
}

impl Tally {
    /// The balance after each entry must follow from the one before.
    fn follow(&mut self, balance: Amount, kind: &StatementKind) {
        let before = self.balance.unwrap_or_default();
        let after = match kind {
            StatementKind::Deposited { amount, .. }
            | StatementKind::Returned { amount, .. }
            | StatementKind::Received { amount, .. }
            | StatementKind::WithdrawalFailed { amount, .. }
            | StatementKind::Shared { amount, .. } => before.checked_add(*amount),
            StatementKind::Held { amount, .. }
            | StatementKind::Sent { amount, .. }
            | StatementKind::Withdrawn { amount, .. } => before.checked_sub(*amount),
            // A charge is paid out of a hold, and a payout out of a withdrawal: both had left the balance before.
            StatementKind::Charged(_) | StatementKind::WithdrawalPaid { .. } => Some(before),
            // What may not be seen cannot be followed.
            StatementKind::Private => Some(balance),
            StatementKind::Redeemed(redemption) => {
                let charge = &redemption.charge;
                let shares = amount::sum(redemption.shares.as_slice().iter().map(|share| share.amount));
                let shared = Amount(u64::try_from(shares).unwrap_or(u64::MAX));
                let fee = charge.hold.body.terms.fee.per_winner(charge.claim.book.body.face_value);
                let winners = charge
                    .amount
                    .0
                    .checked_div(charge.claim.book.body.face_value.0)
                    .unwrap_or(0);
                before
                    .checked_add(charge.amount)
                    .and_then(|sum| sum.checked_sub(fee.saturating_mul(winners)))
                    .and_then(|sum| sum.checked_sub(shared))
            }
        };
        self.adds_up &= after == Some(balance) && self.follow_hold(kind);
        self.balance = Some(balance);
    }

    /// What comes back from a hold is what was set aside less what was charged to it, and a book is charged for what its
    /// receipts say, each further one for more than the one before.
    fn follow_hold(&mut self, kind: &StatementKind) -> bool {
        match kind {
            StatementKind::Held { hold, amount } => {
                self.holds.entry(hold.body.id()).or_default().0 += u128::from(amount.0);
                true
            }
            StatementKind::Charged(charge) => {
                self.holds.entry(charge.hold.body.id()).or_default().1 += u128::from(charge.amount.0);
                let receipt = &charge.receipt.body;
                let (through, gross) = self
                    .books
                    .insert(receipt.book, (receipt.through, receipt.gross))
                    .unwrap_or_default();
                receipt.through > through && gross.checked_add(charge.amount) == Some(receipt.gross)
            }
            StatementKind::Returned { hold, paid, amount, .. } => {
                let (held, charged) = self.holds.remove(hold).unwrap_or_default();
                charged == u128::from(paid.0) && held == charged + u128::from(amount.0)
            }
            StatementKind::Deposited { .. }
            | StatementKind::Redeemed(_)
            | StatementKind::Sent { .. }
            | StatementKind::Received { .. }
            | StatementKind::Withdrawn { .. }
            | StatementKind::WithdrawalPaid { .. }
            | StatementKind::WithdrawalFailed { .. }
            | StatementKind::Shared { .. }
            | StatementKind::Private => true,
        }
    }

    fn expect(&mut self, row: &JournalRow) {
        let draws = u64::from(row.acknowledged.unwrap_or(0));
        self.acknowledged += draws;
        self.expected += row.threshold.expected(row.face_value, draws);
    }

    fn take(&mut self, sequence: u64, charge: &Charge, audited: Result<Audited, ChargeFault>) {
        self.charges += 1;
        self.charged += u128::from(charge.amount.0);
        match audited {
            Err(fault) => {
                let book = charge.claim.book.body.id();
                self.faults.push(AuditedCharge {
                    sequence,
                    book,
                    what: fault.to_string(),
                });
            }
            Ok(audited) => {
                self.draws += u64::from(audited.through);
                self.winners += u64::from(audited.winners);
                if audited.lost > 0 {
                    self.lost.insert(audited.book, audited.lost);
                }
                match audited.beyond {
                    None => self.unknown += 1,
                    Some(0) => {}
                    Some(tickets) => self.beyond.push(AuditedCharge {
                        sequence,
                        book: audited.book,
                        what: format!("redeemed {tickets} tickets beyond what the payee had acknowledged"),
                    }),
                }
            }
        }
    }

    fn into_report(self, z: f64) -> AuditReport {
        let amount = |sum: u128| Amount(u64::try_from(sum).unwrap_or(u64::MAX));
        AuditReport {
            charges: self.charges,
            draws: self.draws,
            winners: self.winners,
            charged: amount(self.charged),
            acknowledged: self.acknowledged,
            expected: amount(self.expected),
            z,
            faults: self.faults,
            beyond: self.beyond,
            lost: self.lost.values().map(|tickets| u64::from(*tickets)).sum(),
            unknown: self.unknown,
            adds_up: self.adds_up,
        }
    }
}
