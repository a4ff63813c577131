//! A payer among peers that do not play by the rules.

mod false_escrow;
mod false_payee;

use super::{HoldFault, Payer, PayerError, PayerEvent, PayerOptions, Sent};
use crate::config::PayerConfig;
use crate::key_file;
use crate::loopback::{Loopback, LoopbackOptions};
use crate::payee::FileCatalog;
use false_escrow::FalseEscrow;
use false_payee::{FalsePayee, Lie, PRICE};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tombola_core::amount::Amount;
use tombola_core::reject::Code;
use tombola_net::{Address, NetError};

/// Two prices and a half: a payee may owe five.
const WINDOW: &str = "0.0025";
const OWED_MAX: u64 = 5;
/// Everything here is over long before this.
const PATIENCE: Duration = Duration::from_secs(120);
/// A payee that brings nothing for so long is away.
const SILENCE: Duration = Duration::from_secs(1);
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
        let mut nodes = Loopback::start(directory.path(), &options, catalog).await.unwrap();
        Arc::get_mut(&mut nodes.payer.inner).unwrap().silence_max = SILENCE;
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

    /// Downloads the song until the payee has been given up so often.
    async fn get_until_away(&self, times: u32) {
        let (away_in, mut away) = mpsc::unbounded_channel();
        let on_event = |event: PayerEvent| {
            if let PayerEvent::Reconnecting { .. } = event {
                // Nobody listens in the end.
                let _ = away_in.send(());
            }
        };
        let payer = &self.nodes.payer;
        let get = async {
            let order = payer.plan_get(&self.url(), Some(CEILING), &self.output()).await?;
            payer.get(&order, &on_event).await
        };
        let given_up = async {
            for _ in 0..times {
                away.recv().await;
            }
        };
        tokio::select! {
            got = get => panic!("{got:?}"),
            () = given_up => {}
            () = tokio::time::sleep(PATIENCE) => panic!("it waits on"),
        }
    }

    /// Pays for the song, without asking for it.
    async fn send(&self) -> Result<Sent, PayerError> {
        let payer = &self.nodes.payer;
        let order = payer.plan_payments(&self.url(), 10, Some(CEILING)).await?;
        let sent = tokio::time::timeout(PATIENCE, payer.send(&order, &|_| ())).await;
        sent.expect("it waits on")
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

/// It has been given up for what it owes.
fn refused(outcome: Result<(), PayerError>) {
    let most = u128::from(OWED_MAX * PRICE.0);
    match outcome {
        Err(PayerError::Undelivered { missing, limit }) => assert!(missing >= most && limit == most),
        other => panic!("{other:?}"),
    }
}

/// The checks: `Run::settle`, `Window::shortfall`, and the sidecar for a payer that was started again.
/// Spec: B-16.
#[tokio::test(flavor = "multi_thread")]
async fn a_payee_that_acknowledges_and_drops_the_connection_keeps_two_windows_at_most() {
    let mut world = World::start(Lie::KeepsThePay).await;
    refused(world.get(&world.nodes.payer).await);
    let loot = world.payee.loot();
    println!("{} tickets, {} units", loot.tickets(), loot.delivered);
    assert!(loot.delivered > 0 && loot.connections > 1);
    // What it acknowledged and delivered has worked off a sixteenth, by which it gets further.
    let worked_off = (loot.tickets() + loot.delivered).div_ceil(16);
    assert!(loot.tickets() <= loot.delivered + OWED_MAX + worked_off);
    // Asking again, in this process or another, gives it nothing more.
    refused(world.get(&world.nodes.payer).await);
    world.restart_payer().await;
    refused(world.get(&world.nodes.payer).await);
    assert_eq!(world.payee.loot().tickets(), loot.tickets());
    world.nodes.stop().await;
}

/// The check: `Window::ahead` in `Run`, so that not a whole window is paid ahead where less than one may still be owed.
/// Spec: B-16.
#[tokio::test(flavor = "multi_thread")]
async fn a_payee_that_delivers_nothing_is_paid_two_windows_and_not_a_ticket_more() {
    let world = World::start(Lie::KeepsAll).await;
    refused(world.get(&world.nodes.payer).await);
    let loot = world.payee.loot();
    assert_eq!((loot.tickets(), loot.delivered), (OWED_MAX, 0));
    world.nodes.stop().await;
}

/// The check: `Progress::within` around paying, and around what is delivered meanwhile.
/// Spec: W-02.
#[tokio::test(flavor = "multi_thread")]
async fn a_payee_that_acknowledges_and_delivers_nothing_is_not_waited_for() {
    let world = World::start(Lie::DeliversNothing).await;
    world.get_until_away(1).await;
    assert_eq!(world.payee.loot().delivered, 0);
    world.nodes.stop().await;
}

/// The check: `Progress::within` around what old books owe.
/// Spec: W-02.
#[tokio::test(flavor = "multi_thread")]
async fn a_payee_that_is_silent_about_what_it_owes_is_not_waited_for() {
    let world = World::start(Lie::KeepsTheRest).await;
    world.get_until_away(3).await;
    assert_eq!(world.payee.loot().asked_again, 2);
    world.nodes.stop().await;
}

/// The check: only news counts in `Spender::pay_all`.
/// Spec: W-02.
#[tokio::test(flavor = "multi_thread")]
async fn a_payee_that_says_nothing_new_again_and_again_is_not_waited_for() {
    let world = World::start(Lie::Mumbles).await;
    let given_up = world.send().await;
    assert_eq!(given_up, Err(PayerError::Net(NetError::TimedOut)));
    world.nodes.stop().await;
}

/// The check: `EXHAUSTED_MAX`.
/// Spec: B-11.
#[tokio::test(flavor = "multi_thread")]
async fn a_payee_that_asks_for_room_again_and_again_is_soon_left() {
    let mut world = World::start(Lie::AsksForRoom).await;
    // Not its silence is what ends this.
    Arc::get_mut(&mut world.nodes.payer.inner).unwrap().silence_max = PATIENCE;
    match world.send().await {
        Err(PayerError::PayeeRejected(reject)) => {
            assert_eq!((reject.code, reject.need), (Code::HoldExhausted, PRICE.0));
        }
        other => panic!("{other:?}"),
    }
    assert!(world.payee.loot().shown <= 16, "{}", world.payee.loot().shown);
    world.nodes.stop().await;
}

/// The checks: the lines at loss and at finding, `JournalRow::found`, that unknown is not clean, and that `Payer::luck`
/// takes no page twice.
/// Spec: S-01, S-02.
#[tokio::test(flavor = "multi_thread")]
async fn a_payee_that_denies_what_it_redeems_is_found_out() {
    let mut world = World::start(Lie::Denies).await;
    world.get(&world.nodes.payer).await.unwrap();
    world.payee.redeem_the_first(world.nodes.escrow.address()).await;
    let audit = world.nodes.payer.audit().await.unwrap();
    assert_eq!((audit.beyond.len(), audit.unknown, audit.lost), (1, 0, 0), "{audit:?}");
    assert!(
        !audit.is_clean() && audit.faults.is_empty() && audit.adds_up,
        "{audit:?}"
    );
    // Who asks at the same time gets the same page of the statement, and it counts once.
    let (one, other) = tokio::join!(world.nodes.payer.luck(), world.nodes.payer.luck());
    let luck = one.unwrap();
    assert_eq!((luck.luck.drawn, luck.luck.z), (audit.charged, audit.z), "{audit:?}");
    assert_eq!((luck.acknowledged, Ok(luck)), (audit.acknowledged, other));
    // A payer without its journal cannot say so, and does not call it clean.
    world.restart_payer().await;
    let audit = world.nodes.payer.audit().await.unwrap();
    assert_eq!((audit.beyond.len(), audit.unknown), (0, 1), "{audit:?}");
    assert!(!audit.is_clean());
    world.nodes.stop().await;
}

/// The checks: the line at loss, and `LastWord`: a payee may have drawn after it spoke, so it has denied nothing.
/// Spec: S-01, D-04.
#[tokio::test(flavor = "multi_thread")]
async fn a_payee_that_did_not_say_where_a_book_ended_is_not_accused() {
    let world = World::start(Lie::DeniesTooEarly).await;
    world.get(&world.nodes.payer).await.unwrap();
    let store = &world.nodes.payer.inner.store;
    store.flush().await.unwrap();
    let first = world.payee.loot().first.unwrap();
    let line = store.journal().unwrap().remove(&first).unwrap();
    assert!(line.acknowledged == Some(0) && line.in_flight > 0, "{line:?}");
    world.payee.redeem_the_first(world.nodes.escrow.address()).await;
    let audit = world.nodes.payer.audit().await.unwrap();
    assert_eq!((audit.beyond.len(), audit.unknown, audit.lost), (0, 0, 1), "{audit:?}");
    world.nodes.stop().await;
}

/// The checks: the line at opening, and `Spender::drop`.
/// Spec: S-01, D-04.
#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_that_was_dropped_finds_out_what_its_payee_denies() {
    let world = World::start(Lie::DeniesTheDead).await;
    let store = &world.nodes.payer.inner.store;
    let open = async {
        world.payee.asked().await;
        store.flush().await.unwrap();
        store.journal().unwrap()
    };
    // The purchase is dropped where it is: nothing more is written down of it but that it was lost.
    let open = tokio::select! {
        got = world.get(&world.nodes.payer) => panic!("{got:?}"),
        open = open => open,
    };
    let lines: Vec<_> = open.values().map(|row| row.acknowledged).collect();
    assert_eq!(lines, [None]);
    world.nodes.payer.inner.link(&world.payee.address).close().await;
    world.get(&world.nodes.payer).await.unwrap();
    world.payee.redeem_the_first(world.nodes.escrow.address()).await;
    let audit = world.nodes.payer.audit().await.unwrap();
    assert_eq!((audit.beyond.len(), audit.unknown), (1, 0), "{audit:?}");
    world.nodes.stop().await;
}

/// The checks: `check_shown`, `check_status` and `check_cap` wherever a hold comes from, and `check_page`.
/// Spec: H-02, H-08, R-06, R-16.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_escrow_shows_is_believed_when_it_is_signed_and_as_it_was_asked() {
    let world = World::start(Lie::DeliversNothing).await;
    let key = |role: &str| key_file::read(&world.directory.path().join(role).join(key_file::KEY_FILE)).unwrap();
    let escrow = FalseEscrow::start(key("escrow"), world.nodes.escrow.address(), &key("payer"));
    let payer = Payer::connect(PayerOptions {
        key: key("payer"),
        escrow: escrow.address.clone(),
        terms: config().terms().unwrap(),
        store: world.directory.path().join("payer").join("another.redb"),
    })
    .unwrap();
    let order = payer.plan_payments(&world.url(), 10, Some(CEILING)).await.unwrap();
    let hold = payer.inner.hold_for(&order, &|_| ()).await.unwrap().hold;
    let id = hold.body.id();
    let more = Amount(hold.body.cap.0 + 1_000_000);
    let fault = |error: PayerError| match error {
        PayerError::FalseHold { hold, fault } => (hold == id, fault),
        other => panic!("{other:?}"),
    };
    let shown = async || {
        let of_status = fault(payer.inner.hold_status(id).await.unwrap_err());
        let of_balance = fault(payer.balance().await.unwrap_err());
        assert_eq!(of_status.1, of_balance.1);
        of_status.1
    };
    assert_eq!(payer.balance().await.unwrap().holds.len(), 1);
    escrow.tell(false_escrow::Lie::Unsigned);
    assert!(matches!(shown().await, HoldFault::Signature(_)));
    escrow.tell(false_escrow::Lie::Paid);
    assert!(matches!(shown().await, HoldFault::Paid { .. }));
    escrow.tell(false_escrow::Lie::Stranger);
    // Another payer's hold has another id.
    let balance = fault(payer.balance().await.unwrap_err());
    assert_eq!(balance, (false, HoldFault::Party));

    let (asked, given) = (more, Amount(more.0 + 1));
    // The second time the escrow has raised it already, and answers with the hold as it is.
    for lie in [false_escrow::Lie::Cap, false_escrow::Lie::StaleCap] {
        escrow.tell(lie);
        let raised = fault(payer.inner.top_up(&hold, more).await.unwrap_err());
        assert_eq!(raised, (true, HoldFault::Cap { asked, given }), "{lie:?}");
    }
    escrow.tell(false_escrow::Lie::None);
    let raised = payer.inner.top_up(&hold, more).await.unwrap();
    assert_eq!(raised.body.cap, more);
    escrow.tell(false_escrow::Lie::Unsigned);
    for (known, cap) in [(&hold, more), (&raised, Amount(more.0 + 1_000_000))] {
        let unsigned = fault(payer.inner.top_up(known, cap).await.unwrap_err());
        assert!(matches!(unsigned, (true, HoldFault::Signature(_))));
    }

    escrow.tell(false_escrow::Lie::None);
    payer.audit().await.unwrap();
    escrow.tell(false_escrow::Lie::FirstPage);
    let audit = tokio::time::timeout(PATIENCE, payer.audit())
        .await
        .expect("it reads on");
    assert!(
        matches!(audit, Err(PayerError::FalseStatement { sequence: 1, .. })),
        "{audit:?}"
    );
    payer.shutdown().await;
    world.nodes.stop().await;
}
