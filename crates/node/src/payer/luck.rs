//! The luck of the payees that a payer has paid: what its tickets were worth in expectation against what they have cost.

use super::{Payer, PayerError};
use crate::metrics::{Luck, LuckTally};
use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use tombola_core::key::BookId;
use tombola_core::message::StatementKind;
use tombola_core::payer::JournalRow;

/// How lucky the payees were with what they were paid, over all books of which the journal knows how many tickets were
/// drawn: neither open, nor lost with tickets in flight.
///
/// Claims come late, so until a hold has ended the escrow may still be asked to pay for tickets that count here. `drawn`
/// can grow by what is left in open holds at most, and never falls: as long as there are any, luck is a lower bound.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct PayerLuck {
    /// Tickets of these books that payees acknowledged, or said later that they drew.
    pub acknowledged: u64,
    /// What they were worth, what their winners have been charged for, and the difference in standard deviations.
    pub luck: Luck,
}

/// What a statement says of charges, up to one of its entries.
#[derive(Debug, Default)]
pub(super) struct Charges {
    /// The last entry that was read.
    after: u64,
    /// Of each book, what it was charged for.
    books: BTreeMap<BookId, u128>,
}

impl Charges {
    /// Takes the next entry.
    pub(super) fn follow(&mut self, kind: &StatementKind) {
        if let StatementKind::Charged(charge) = kind {
            self.note(charge.receipt.body.book, charge.amount.0);
        }
    }

    fn note(&mut self, book: BookId, amount: u64) {
        let sum = self.books.entry(book).or_default();
        *sum = sum.saturating_add(u128::from(amount));
    }
}

/// Luck is counted over everything that a payee drew, winners and losers: a claim ends at a winner, and so never shows the
/// losers after it.
pub(super) fn compare(journal: &BTreeMap<BookId, JournalRow>, charges: &Charges) -> PayerLuck {
    let (mut tally, mut tickets) = (LuckTally::default(), 0_u64);
    // Of an open or a lost book nobody knows how many were drawn.
    let known = journal.values().filter(|row| row.in_flight == 0);
    for (row, drawn) in known.filter_map(|row| Some((row, u64::from(row.acknowledged?)))) {
        let charged = charges.books.get(&row.book).copied().unwrap_or(0);
        tally.note(row.face_value, row.threshold, drawn, charged);
        tickets = tickets.saturating_add(drawn);
    }
    PayerLuck {
        acknowledged: tickets,
        luck: tally.luck(),
    }
}

impl Payer {
    /// How lucky the payees were, by the journal and by what the escrow says that it charged. Only what is new in the
    /// statement is asked for, and whoever stops waiting loses nothing that was read. May block on the disk.
    ///
    /// # Errors
    /// [`PayerError`] if the escrow is away or the journal cannot be read.
    pub async fn luck(&self) -> Result<PayerLuck, PayerError> {
        loop {
            let after = self.charges().after;
            let page = self.statement(after).await?;
            let entries = page.entries.as_slice();
            let mut charges = self.charges();
            // Whoever asked at the same time may have taken this page already.
            if charges.after == after {
                for entry in entries {
                    charges.after = entry.sequence;
                    charges.follow(&entry.kind);
                }
            }
            if !page.more || entries.is_empty() {
                break;
            }
        }
        let journal = self.inner.store.journal()?;
        Ok(compare(&journal, &self.charges()))
    }

    fn charges(&self) -> MutexGuard<'_, Charges> {
        self.inner.charges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombola_core::amount::Amount;
    use tombola_core::odds::Threshold;

    const EVEN: Threshold = Threshold(u64::MAX / 2);

    fn row(book: u8, threshold: Threshold, acknowledged: Option<u32>, in_flight: u32) -> JournalRow {
        JournalRow {
            book: BookId([book; 32]),
            face_value: Amount(1_000),
            threshold,
            acknowledged,
            in_flight,
        }
    }

    fn figures(rows: &[JournalRow], charged: &[(u8, u64)]) -> (u64, u64, u64, f64) {
        let journal = rows.iter().map(|row| (row.book, *row)).collect();
        let mut charges = Charges::default();
        for (book, amount) in charged {
            charges.note(BookId([*book; 32]), *amount);
        }
        let PayerLuck { acknowledged, luck } = compare(&journal, &charges);
        (acknowledged, luck.expected.0, luck.drawn.0, luck.z)
    }

    #[test]
    fn a_payers_luck_is_what_its_drawn_tickets_were_worth_against_what_they_were_charged() {
        assert_eq!(figures(&[], &[]), (0, 0, 0, 0.0));
        // 10,000 tickets of 1 in 2 in two books: 5,000 are expected, with a deviation of 50.
        let even = [row(1, EVEN, Some(4_000), 0), row(2, EVEN, Some(6_000), 0)];
        // One of the books was charged twice, each time for its newest winners.
        let charged = [(1, 1_000_000), (2, 3_100_000), (1, 1_000_000)];
        assert_eq!(figures(&even, &charged), (10_000, 5_000_000, 5_100_000, 2.0));
        // As long as a claim is not there, luck is lower.
        assert_eq!(figures(&even, &charged[..2]), (10_000, 5_000_000, 4_100_000, -18.0));
        // Sure tickets have no luck, and do not change that of others.
        let sure = row(3, Threshold::ALWAYS, Some(7), 0);
        assert_eq!(figures(&[sure], &[(3, 7_000)]), (7, 7_000, 7_000, 0.0));
        let both = [even[0], even[1], sure];
        let charged = [charged[0], charged[1], charged[2], (3, 7_000)];
        assert_eq!(figures(&both, &charged), (10_007, 5_007_000, 5_107_000, 2.0));
    }

    #[test]
    fn books_of_which_nobody_knows_how_many_were_drawn_are_not_counted_on_either_side() {
        let known = row(1, EVEN, Some(10_000), 0);
        let lost = row(2, EVEN, Some(500), 4);
        let open = row(3, EVEN, None, 0);
        // A book of another home of this account has no line here.
        let charged = [(1, 5_000_000), (2, 400_000), (3, 300_000), (4, 200_000)];
        let alone = (10_000, 5_000_000, 5_000_000, 0.0);
        assert_eq!(figures(&[known, lost, open], &charged), alone);
        // Charged without a single acknowledged ticket: it is on the side of what was charged.
        let denied = row(4, EVEN, Some(0), 0);
        let (acknowledged, expected, drawn, z) = figures(&[known, denied], &charged);
        assert_eq!((acknowledged, expected, drawn, z), (10_000, 5_000_000, 5_200_000, 4.0));
    }
}
