//! A payee that sells to a real payer while its disk fails: every ticket wins, so each acknowledgement is a winner that
//! the disk must have.

use super::key;
use crate::clock;
use crate::config::{Money, PayeeConfig, PayerConfig};
use crate::disk::survive::OnTestDisk;
use crate::escrow::{Escrow, EscrowOptions, WitnessOptions};
use crate::loopback::LoopbackOptions;
use crate::payee::store::{Change, PayeeStore};
use crate::payee::{Content, MemoryCatalog, Payee, PayeeOptions, share};
use crate::payer::{Order, Payer, PayerError, PayerEvent, PayerOptions, Sent};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tombola_core::amount::Amount;
use tombola_core::message::Reference;
use tombola_core::payee::{Health, Room};
use tombola_core::quote::Service;
use tombola_core::reject::Code;
use tombola_tests::disk::{Fate, Fault, Image, TestDisk};

/// A late write, a probe a second later, and a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(2);
const PRICE: &str = "0.001";
const PAYMENTS: u64 = 3_000;
const SEED: u64 = 1;

/// An escrow and a payer with real files, and a payee on a disk for tests.
struct Market {
    directory: TempDir,
    escrow: Escrow,
    disk: TestDisk,
    payee: Payee,
    payer: Payer,
    acknowledged: Arc<AtomicU64>,
    buying: JoinHandle<Result<Sent, PayerError>>,
}

impl Market {
    /// Starts all three; the payer buys.
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = LoopbackOptions::default();
        let escrow = Escrow::serve(EscrowOptions {
            key: key(1),
            listen: options.escrow.listen,
            terms: options.escrow.terms().unwrap(),
            name: options.escrow.name.clone(),
            store: directory.path().join("escrow.redb").into(),
            witness: WitnessOptions::at(directory.path().join("witness")),
        });
        let escrow = escrow.await.unwrap();
        let disk = TestDisk::default();
        let payee = open_payee(&directory, &escrow, &disk, &options);
        let payer = Payer::connect(PayerOptions {
            key: key(2),
            escrow: escrow.address().clone(),
            terms: PayerConfig::default().terms().unwrap(),
            store: directory.path().join("payer.redb"),
        });
        let payer = payer.unwrap();
        let reference = Reference::new("first").unwrap();
        escrow
            .deposit(&payer.account(), options.deposit, &reference)
            .await
            .unwrap();
        let order = order(&payer, &payee).await;
        let acknowledged = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&acknowledged);
        let buyer = payer.clone();
        let buying = tokio::spawn(async move {
            let note = |event: PayerEvent| {
                if let PayerEvent::Acknowledged { tickets } = event {
                    seen.store(tickets, Ordering::Release);
                }
            };
            buyer.send(&order, &note).await
        });
        Self {
            directory,
            escrow,
            disk,
            payee,
            payer,
            acknowledged,
            buying,
        }
    }

    async fn wait_until(&self, what: &str, has_come: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !has_come(self) {
            assert!(Instant::now() < until, "waited in vain: {what}");
            tokio::time::sleep(LOOK).await;
        }
    }

    fn health(&self) -> Health {
        self.payee.shared.rules().health()
    }

    fn drawn(&self) -> u64 {
        self.payee.shared.counters.tickets.load(Ordering::Acquire)
    }

    fn sells(&self) -> Result<(), Code> {
        self.payee.shared.room().check_selling().map_err(|reject| reject.code)
    }

    async fn probe(&self) {
        self.payee.redeemer.lock().await.probe_store().await;
    }

    /// A write that only a restart helps is not tried for ever.
    async fn gives_up_writing(&self, what: &str) {
        let shared = &self.payee.shared;
        let queued = shared.store.enqueue(vec![Change::Probe]);
        let kept = shared.retry_until_durable(queued, Change::Probe);
        let kept = tokio::time::timeout(PATIENCE, kept).await;
        assert!(matches!(kept, Ok(Err(_))), "{what}: {kept:?}");
    }

    async fn close(self) {
        self.buying.abort();
        self.payee.shutdown().await;
        self.escrow.shutdown().await;
        drop(self.directory);
    }
}

/// Payments for as much as the payer has.
async fn order(payer: &Payer, payee: &Payee) -> Order {
    let address = payee.address().clone().with_path("units");
    let ceiling = payer.balance().await.unwrap().account;
    let ceiling = Amount(ceiling.balance.0 + ceiling.held.0);
    payer.plan_payments(&address, PAYMENTS, Some(ceiling)).await.unwrap()
}

fn open_payee(directory: &TempDir, escrow: &Escrow, disk: &TestDisk, options: &LoopbackOptions) -> Payee {
    let money = |text: &str| text.parse::<Money>().unwrap();
    let config = PayeeConfig {
        price: money(PRICE),
        face_value_min: money(PRICE),
        face_value_max: money(PRICE),
        // Nothing is redeemed meanwhile.
        redeem_at_value: money("1000000"),
        ..options.payee.clone()
    };
    let price = Amount::parse(PRICE, 9).unwrap();
    let content = Content::from_bytes(price, 1, Vec::new());
    let catalog = MemoryCatalog::default().with(Service::new("/units").unwrap(), content);
    let (store, loaded) = PayeeStore::open_in(OnTestDisk(disk.clone()).place(), clock::now()).unwrap();
    let options = PayeeOptions {
        key: key(3),
        listen: config.listen,
        escrow: escrow.address().clone(),
        terms: config.terms().unwrap(),
        store: directory.path().join("payee.redb"),
    };
    let shared = share(
        &options.key,
        &options.escrow,
        &options.terms,
        store,
        loaded,
        Arc::new(catalog),
    );
    Payee::start(options, shared.unwrap()).unwrap()
}

/// Winners that a payee finds on a disk.
fn winners(image: &Image) -> u64 {
    let (store, loaded) = PayeeStore::open_in(OnTestDisk::holding(image).place(), clock::now()).unwrap();
    assert_eq!(store.totals().unwrap().winners, 0);
    loaded.winners.iter().map(|row| u64::from(row.winners)).sum()
}

async fn fails_while_selling(after: usize, fault: Fault) {
    let market = Market::open().await;
    let told = |market: &Market| market.acknowledged.load(Ordering::Acquire) > 0;
    market.wait_until("a first payment", told).await;
    market.disk.strike(after, fault);
    let what = format!("{fault:?} {after} calls on");
    market
        .wait_until(&what, |market| market.health() == Health::StoreFailed)
        .await;
    assert_eq!(market.sells(), Err(Code::NotSelling), "{what}");
    // A run that was being drawn ends; then nothing is drawn, whatever the payer has on its way.
    market.probe().await;
    let drawn = market.drawn();
    for _ in 0..20 {
        market.probe().await;
    }
    assert_eq!(
        (market.drawn(), market.sells()),
        (drawn, Err(Code::NotSelling)),
        "{what}"
    );
    let acknowledged = market.acknowledged.load(Ordering::Acquire);
    assert!(acknowledged < PAYMENTS, "{what}");
    market.gives_up_writing(&what).await;
    let image = |fate| market.disk.power_cut(fate, SEED);
    for image in [market.disk.restarted(), image(Fate::Dropped), image(Fate::Torn)] {
        let found = winners(&image);
        assert!(
            found >= acknowledged,
            "{what}: {acknowledged} acknowledged, {found} on the disk"
        );
    }
    println!("{what}: {drawn} drawn, {acknowledged} acknowledged");
    market.close().await;
}

/// Property 6. Watches `payee/shared.rs::durable` and `disk/writer.rs::keep`.
/// Spec: B-12, B-14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_error_of_its_disk_a_payee_draws_nothing_until_it_is_restarted() {
    for (after, fault) in [
        (1, Fault::Error),
        (4, Fault::Error),
        (11, Fault::Error),
        (9, Fault::Full),
    ] {
        fails_while_selling(after, fault).await;
    }
}

/// Property 6. Watches `payee/shared.rs::durable` and `payee/redeemer.rs::probe_store`.
/// Spec: B-14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_write_is_late_a_payee_draws_nothing_and_sells_again_after_a_probe() {
    let mut market = Market::open().await;
    market.wait_until("a first payment", |market| market.drawn() > 0).await;
    market.disk.strike(2, Fault::Stall);
    let is_late = |market: &Market| market.health() == Health::StoreFailed;
    market.wait_until("the write is late", is_late).await;
    assert_eq!(market.sells(), Err(Code::NotSelling));
    assert!(market.acknowledged.load(Ordering::Acquire) < PAYMENTS);
    market.disk.resume();
    market
        .wait_until("a probe is durable", |market| market.sells().is_ok())
        .await;
    match (&mut market.buying).await.unwrap() {
        Ok(sent) => assert_eq!((sent.tickets, market.drawn()), (PAYMENTS, PAYMENTS)),
        // It gave up while the write was late, as it may, and buys again.
        Err(error) => {
            println!("the first purchase: {error}");
            let again = order(&market.payer, &market.payee).await;
            let sent = market.payer.send(&again, &|_| ()).await.unwrap();
            assert_eq!(sent.tickets, PAYMENTS);
        }
    }
    market.close().await;
}
