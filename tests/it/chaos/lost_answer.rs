//! A claim that is paid and whose answer never comes.

use super::{NONE, World, through};
use std::time::{Duration, Instant};
use tombola_core::amount::Amount;
use tombola_core::codec::encode;
use tombola_core::message::StatementKind;
use tombola_node::escrow::EscrowTotals;
use tombola_tests::chaos::Way;

/// Tickets that are claimed in the dark.
const MORE: u64 = 10;
/// A claim comes, and a connection is given up, long before this.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often an escrow is asked how it stands, which nothing tells of.
const LOOK: Duration = Duration::from_millis(20);

impl World {
    /// Every receipt that the escrow signed, in its bytes, as it shows them to the payer.
    async fn receipts(&self) -> Vec<Vec<u8>> {
        let page = self.payer.statement(0).await.unwrap();
        assert!(!page.more);
        let charges = page.entries.as_slice().iter().filter_map(|entry| match &entry.kind {
            StatementKind::Charged(charge) => Some(encode(&charge.receipt)),
            _ => None,
        });
        charges.collect()
    }

    /// Pays for units that nobody fetches.
    async fn pay(&self, units: u64) {
        let song = through(&self.to_payee, self.payee.address()).with_path("song");
        let order = self.payer.plan_payments(&song, units, Some(Amount(1_000_000_000)));
        let order = order.await.unwrap();
        assert!(order.hold_reused);
        assert_eq!(self.payer.send(&order, &|_| ()).await.unwrap().tickets, units);
    }

    /// How many of these the payee has in its files.
    fn kept(&self, receipts: &[Vec<u8>]) -> usize {
        let home = self.directory.path().join("payee");
        let files = std::fs::read_dir(home).unwrap().map(|file| file.unwrap().path());
        let files: Vec<Vec<u8>> = files.map(|path| std::fs::read(path).unwrap()).collect();
        let has = |file: &Vec<u8>, receipt: &[u8]| file.windows(receipt.len()).any(|bytes| bytes == receipt);
        let is_kept = |receipt: &&Vec<u8>| files.iter().any(|file| has(file, receipt));
        receipts.iter().filter(is_kept).count()
    }
}

/// Spec. The payee has only its own patience to find out by; then it asks again over a new connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_answer_is_lost_pays_once_and_has_one_receipt() {
    let world = World::start(NONE).await;
    let done = world.download(0, || ()).await;
    world.payee.redeem().await.unwrap();
    let before = world.escrow.status().await.unwrap();
    // What the payee sends its escrow arrives, and nothing comes back. The hold has room for this much more.
    world.payee_to_escrow.darken(Way::ToClient);
    world.pay(MORE).await;
    let began = Instant::now();
    let paid = loop {
        let status = world.escrow.status().await.unwrap();
        // Both end the connection when they have waited long enough: from now on they hear nothing of each other.
        if status.totals.claims > before.totals.claims {
            world.payee_to_escrow.darken(Way::ToServer);
            if status.connections < before.connections {
                break status;
            }
        }
        assert!(began.elapsed() < PATIENCE, "{status:?}");
        tokio::time::sleep(LOOK).await;
    };
    assert!(world.payee_to_escrow.swallowed(Way::ToClient) > 0);
    assert_eq!(paid.claims_answered, before.claims_answered + 1);
    assert_eq!(paid.totals.winners, before.totals.winners + MORE);
    let receipts = world.receipts().await;
    let unheard = receipts.len() - world.kept(&receipts);
    let status = world.payee.status().unwrap();
    assert_eq!(
        (unheard, status.winners_redeemed),
        (1, before.totals.winners),
        "{status:?}"
    );
    assert_eq!(status.exposure.unclaimed_books, 1, "{status:?}");

    world.payee_to_escrow.heal();
    // The payee may have begun by itself; then this finds nothing left to do.
    world.payee.redeem().await.unwrap();
    let status = world.payee.status().unwrap();
    let redeemed = (status.exposure.unclaimed_books, status.winners_redeemed);
    assert_eq!(redeemed, (0, paid.totals.winners));
    let again = world.escrow.status().await.unwrap();
    // The claim itself came again: it was not the old answer that arrived late.
    assert_eq!(again.claims_answered, paid.claims_answered + 1);
    let sums = |totals: &EscrowTotals| (totals.claims, totals.winners, totals.fees);
    assert_eq!(sums(&again.totals), sums(&paid.totals));
    assert_eq!(world.receipts().await, receipts);
    assert_eq!(world.kept(&receipts), receipts.len(), "byte for byte");
    world.check(done).await;
}
