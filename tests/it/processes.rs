//! Nodes as processes of their own that are killed, ended by signals, and started again on what they left.
//!
//! A kill comes at a moment that the test observed, such as the 300th acknowledgement, never after a sleep. Where every
//! ticket wins (a face value of one price), what was acknowledged, redeemed and charged can be compared to the atom.

mod backup;
mod clock;
mod drill;
mod escrow;
mod payee;
mod payer;
mod root;
mod signals;
mod status;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tombola_core::amount::Amount;
use tombola_core::message::{Charge, StatementKind};
use tombola_node::config::{ConfigFile, PayerConfig, PayerTerms};
use tombola_node::key_file;
use tombola_node::payer::{AuditReport, Delivered, Payer, PayerEvent, PayerOptions};
use tombola_tests::process::{Node, Offer, Town};

const UNIT: usize = 1_024;
const PRICE: u64 = 1_000_000;
/// Tickets that a payer risks with one payee: 64 prices, as no face value here is larger.
const WINDOW: u64 = 64;
/// The ceiling of a purchase, far above its cost.
const CEILING: Amount = Amount(8_000_000_000);

/// Every ticket wins.
const SURE: Offer<'static> = Offer {
    price: "0.001",
    per: "1KiB",
    face_value_max: "0.001",
    redeem_at_value: "1000",
};

/// Every second ticket wins.
const EVEN: Offer<'static> = Offer {
    face_value_max: "0.002",
    ..SURE
};

/// What one download over a kill came to.
struct Bought {
    done: Delivered,
    /// Acknowledged on the first connection.
    acknowledged_first: u64,
    charges: Vec<Charge>,
    audit: AuditReport,
}

/// A payer in this process on a home of the program, so that its events can be heard.
fn connect(town: &Town, escrow: &Node) -> Payer {
    connect_with(town, escrow, |_| ())
}

fn connect_with(town: &Town, escrow: &Node, change: impl FnOnce(&mut PayerTerms)) -> Payer {
    let home = town.path("payer");
    let config = PayerConfig::read(&home.join("config.toml")).unwrap();
    let mut terms = config.terms().unwrap();
    change(&mut terms);
    let options = PayerOptions {
        key: key_file::read(&home.join(key_file::KEY_FILE)).unwrap(),
        escrow: escrow.address().parse().unwrap(),
        terms,
        store: home.join("payer.redb"),
    };
    Payer::connect(options).unwrap()
}

/// Downloads a file; at `moment` acknowledged tickets something happens, once. `settle` comes before the accounts are read.
fn buy_over(
    payer: &Payer,
    url: &str,
    output: &Path,
    moment: u64,
    happen: impl FnOnce() + Send,
    settle: impl FnOnce(),
) -> Bought {
    let runtime = tokio::runtime::Handle::current();
    let happen = Mutex::new(Some(happen));
    let (first, is_first) = (AtomicU64::new(0), AtomicU64::new(1));
    let last = AtomicU64::new(0);
    let on_event = |event: PayerEvent| match event {
        PayerEvent::Acknowledged { tickets } if tickets <= last.swap(tickets, Ordering::Relaxed) => {
            panic!("tickets are counted over the whole purchase: {tickets}");
        }
        PayerEvent::Acknowledged { tickets } if is_first.load(Ordering::Relaxed) == 1 => {
            first.store(tickets, Ordering::Relaxed);
            if tickets >= moment
                && let Some(happen) = happen.lock().unwrap().take()
            {
                happen();
            }
        }
        PayerEvent::Reconnecting { attempt } => {
            println!(
                "moment {moment}: try {attempt} after {} acknowledged",
                first.load(Ordering::Relaxed)
            );
            is_first.store(0, Ordering::Relaxed);
        }
        _ => {}
    };
    let done = runtime.block_on(async {
        let order = payer
            .plan_get(&url.parse().unwrap(), Some(CEILING), output)
            .await
            .unwrap();
        payer.get(&order, &on_event).await.unwrap()
    });
    assert!(last.into_inner() <= done.tickets);
    assert!(happen.into_inner().unwrap().is_none(), "the moment never came");
    settle();
    runtime.block_on(async {
        let mut charges = Vec::new();
        let mut after = 0;
        loop {
            let page = payer.statement(after).await.unwrap();
            for entry in page.entries.as_slice() {
                after = entry.sequence;
                if let StatementKind::Charged(charge) = &entry.kind {
                    charges.push(**charge);
                }
            }
            if !page.more {
                break;
            }
        }
        let audit = payer.audit().await.unwrap();
        assert!(audit.is_clean(), "{audit:?}");
        Bought {
            done,
            acknowledged_first: first.into_inner(),
            charges,
            audit,
        }
    })
}

/// Runs a test once for each of its moments, side by side: most of their time is waiting for a peer that is dead.
fn at_each<T: Send + Sync + std::fmt::Debug + Copy>(moments: &[T], test: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        let runs: Vec<_> = moments
            .iter()
            .map(|moment| {
                let test = &test;
                scope.spawn(move || {
                    println!("moment {moment:?}");
                    let runtime = tokio::runtime::Builder::new_multi_thread()
                        .worker_threads(2)
                        .enable_all()
                        .build();
                    let runtime = runtime.unwrap();
                    let _inside = runtime.enter();
                    test(*moment);
                })
            })
            .collect();
        for run in runs {
            run.join().unwrap();
        }
    });
}
