//! The luck of the payees that a payer has paid: what its tickets were worth in expectation against what they have cost.

use super::{Payer, PayerError};
use crate::disk::StoreError;
use crate::metrics::{Luck, LuckTally};
use std::collections::BTreeMap;
use std::sync::Arc;
use tombola_core::amount::Amount;
use tombola_core::key::BookId;
use tombola_core::message::{StatementEntry, StatementKind};
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
    /// What was charged for all other books: a payee that loses just the connections on which it won is seen here.
    pub uncounted: Amount,
}

/// What a statement says of charges, up to one of its entries.
#[derive(Debug, Default)]
pub(super) struct Charges {
    /// The last entry that was read.
    after: u64,
    /// How many connections to the escrow there had been when it was read.
    connections: u64,
    /// Of each book, what it was charged for.
    books: BTreeMap<BookId, u128>,
}

impl Charges {
    /// Takes the next entry.
    pub(super) fn follow(&mut self, entry: &StatementEntry) {
        self.after = entry.sequence;
        if let StatementKind::Charged(charge) = &entry.kind {
            self.note(charge.claim.book.body.id(), charge.amount.0);
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
    let mut uncounted: u128 = charges.books.values().sum();
    // Of an open or a lost book nobody knows how many were drawn.
    let known = journal.values().filter(|row| row.in_flight == 0);
    for (row, drawn) in known.filter_map(|row| Some((row, u64::from(row.acknowledged?)))) {
        let charged = charges.books.get(&row.book).copied().unwrap_or(0);
        tally.note(row.face_value, row.threshold, drawn, charged);
        tickets = tickets.saturating_add(drawn);
        uncounted = uncounted.saturating_sub(charged);
    }
    PayerLuck {
        acknowledged: tickets,
        luck: tally.luck(),
        uncounted: Amount(u64::try_from(uncounted).unwrap_or(u64::MAX)),
    }
}

impl Payer {
    /// How lucky the payees were, by the journal and by what the escrow says that it charged. Only what is new in the
    /// statement is asked for, and whoever stops waiting loses nothing that was read. Who asks meanwhile waits.
    ///
    /// # Errors
    /// [`PayerError`] if the escrow is away or the journal cannot be read.
    pub async fn luck(&self) -> Result<PayerLuck, PayerError> {
        let mut charges = Arc::clone(&self.inner.charges).lock_owned().await;
        loop {
            let page = self.statement(charges.after).await?;
            let connections = self.inner.escrow.connections();
            if charges.connections != connections {
                // Behind another connection may be an escrow that has lost entries and gives their numbers to others.
                let is_first_page = charges.after == 0;
                *charges = Charges {
                    connections,
                    ..Charges::default()
                };
                if !is_first_page {
                    continue;
                }
            }
            page.entries.as_slice().iter().for_each(|entry| charges.follow(entry));
            if !page.more || page.entries.as_slice().is_empty() {
                break;
            }
        }
        self.inner.store.flush().await?;
        let inner = Arc::clone(&self.inner);
        let compared = tokio::task::spawn_blocking(move || Ok(compare(&inner.store.journal()?, &charges)));
        // Only a bug in it, or a runtime that ends, keeps its result away.
        compared.await.unwrap_or(Err(PayerError::Store(StoreError::Stopped)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback::{Loopback, LoopbackOptions};
    use crate::payee::FileCatalog;
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
        let known = compared(rows, charged);
        (
            known.acknowledged,
            known.luck.expected.0,
            known.luck.drawn.0,
            known.luck.z,
        )
    }

    fn compared(rows: &[JournalRow], charged: &[(u8, u64)]) -> PayerLuck {
        let journal = rows.iter().map(|row| (row.book, *row)).collect();
        let mut charges = Charges::default();
        for (book, amount) in charged {
            charges.note(BookId([*book; 32]), *amount);
        }
        compare(&journal, &charges)
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
        assert_eq!(compared(&[known, lost, open], &charged).uncounted, Amount(900_000));
        // Charged without a single acknowledged ticket: it is on the side of what was charged.
        let denied = row(4, EVEN, Some(0), 0);
        let (acknowledged, expected, drawn, z) = figures(&[known, denied], &charged);
        assert_eq!((acknowledged, expected, drawn, z), (10_000, 5_000_000, 5_200_000, 4.0));
    }

    /// A restored escrow gives the numbers of lost entries to others. The check: `connections` in `Payer::luck`.
    #[tokio::test(flavor = "multi_thread")]
    async fn behind_another_connection_the_statement_is_read_from_its_beginning() {
        const PAYMENTS: u64 = 40;
        let directory = tempfile::tempdir().unwrap();
        let files = directory.path().join("files");
        std::fs::create_dir(&files).unwrap();
        std::fs::write(files.join("song"), "la").unwrap();
        let price = Amount(1_000_000);
        let mut options = LoopbackOptions::default();
        options.payee.face_value_max = "0.001".parse().unwrap();
        let catalog = FileCatalog::new(&files, price, 1_024).unwrap();
        let nodes = Loopback::start(directory.path(), &options, catalog).await.unwrap();
        let payer = &nodes.payer;
        let url = nodes.payee.address().clone().with_path("song");
        let order = payer.plan_payments(&url, PAYMENTS, None).await.unwrap();
        payer.send(&order, &|_| ()).await.unwrap();
        nodes.payee.redeem().await.unwrap();
        let before = payer.luck().await.unwrap();
        assert_eq!((before.luck.drawn.0, before.uncounted.0), (PAYMENTS * price.0, 0));
        {
            let mut charges = payer.inner.charges.lock().await;
            assert!(charges.after > 0 && charges.connections == 1);
            // What was read over an earlier connection is no longer so.
            charges.connections = 0;
            charges.books.clear();
        }
        assert_eq!(payer.luck().await.unwrap(), before);
        nodes.stop().await;
    }
}
