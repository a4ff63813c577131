//! A payer among peers that do not play by the rules.

mod false_payee;

use super::{Payer, PayerError, PayerOptions};
use crate::config::PayerConfig;
use crate::key_file;
use crate::loopback::{Loopback, LoopbackOptions};
use crate::payee::FileCatalog;
use false_payee::{FalsePayee, Lie, PRICE};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tombola_core::amount::Amount;
use tombola_net::Address;

/// Two prices: a payee may owe four.
const WINDOW: &str = "0.002";
/// Everything here is over long before this.
const PATIENCE: Duration = Duration::from_secs(120);
const CEILING: Amount = Amount(8_000_000_000);

/// A payer with an escrow that can be trusted and a payee that cannot.
struct World {
    nodes: Loopback,
    directory: TempDir,
    payee: FalsePayee,
}

fn config() -> PayerConfig {
    PayerConfig {
        window_value: WINDOW.parse().ok(),
        ..PayerConfig::default()
    }
}

impl World {
    async fn start(lie: Lie) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = directory.path().join("files");
        std::fs::create_dir(&files).unwrap();
        let options = LoopbackOptions {
            payer: config(),
            ..LoopbackOptions::default()
        };
        let catalog = FileCatalog::new(&files, PRICE, 1_024).unwrap();
        let nodes = Loopback::start(directory.path(), &options, catalog).await.unwrap();
        let payee = FalsePayee::start(lie, nodes.escrow.address().key);
        Self {
            nodes,
            directory,
            payee,
        }
    }

    fn url(&self) -> Address {
        self.payee.address.clone().with_path("song")
    }

    fn output(&self) -> PathBuf {
        self.directory.path().join("song.got")
    }

    /// Downloads the song with a payer.
    async fn get(&self, payer: &Payer) -> Result<(), PayerError> {
        let work = async {
            let order = payer.plan_get(&self.url(), Some(CEILING), &self.output()).await?;
            payer.get(&order, &|_| ()).await.map(drop)
        };
        tokio::time::timeout(PATIENCE, work).await.unwrap()
    }

    /// Ends the payer and starts it again on what it left.
    async fn restart_payer(&mut self) {
        self.nodes.payer.shutdown().await;
        let home = self.directory.path().join("payer");
        let options = || PayerOptions {
            key: key_file::read(&home.join(key_file::KEY_FILE)).unwrap(),
            escrow: self.nodes.escrow.address().clone(),
            terms: config().terms().unwrap(),
            store: home.join("another.redb"),
        };
        self.nodes.payer = Payer::connect(options()).unwrap();
    }
}

/// The checks: `Run::settle`, `Window::shortfall`, and the sidecar for a payer that was started again.
/// Spec: B-16.
#[tokio::test(flavor = "multi_thread")]
async fn a_payee_that_acknowledges_and_drops_the_connection_keeps_two_windows_at_most() {
    let mut world = World::start(Lie::KeepsThePay).await;
    let limit = u128::from(4 * PRICE.0);
    let refused = |outcome: Result<(), PayerError>| match outcome {
        Err(PayerError::Undelivered { missing, limit: told }) => assert!(missing >= limit && told == limit),
        other => panic!("{other:?}"),
    };
    refused(world.get(&world.nodes.payer).await);
    let loot = world.payee.loot();
    println!("{} tickets, {} units", loot.tickets(), loot.delivered);
    assert!(loot.delivered > 0 && loot.connections > 1);
    // One unit is always paid before it comes.
    assert!(loot.tickets() <= loot.delivered + 4 + 1);
    // Asking again, in this process or another, gives it nothing more.
    refused(world.get(&world.nodes.payer).await);
    world.restart_payer().await;
    refused(world.get(&world.nodes.payer).await);
    assert_eq!(world.payee.loot().tickets(), loot.tickets());
    world.nodes.stop().await;
}
