//! W-01 to W-04 and W-13: a payer without its escrow or its payee, with a wrong clock, or dead.

use super::{escrow_options, open_hold_by, opening, quote, sure};
use crate::delivery::market::{Market, PRICE, UNIT, open_hold, read_to_end, request};
use crate::pair::World;
use tombola_core::amount::{Amount, DAY_MS, MINUTE_MS, SECOND_MS};
use tombola_core::key::RequestId;
use tombola_core::message::{EscrowAnswer, EscrowCommand, HoldState, Reference, RequestHeader};
use tombola_core::reject::Code;
use tombola_ledger::ledger::{Command, Ledger};
use tombola_node::escrow::Escrow;
use tombola_node::escrow_client::EscrowClient;
use tombola_node::key_file;
use tombola_node::payee::Payee;
use tombola_node::payer::{Order, Payer, PayerOptions};
use tombola_store::redb_store::RedbStore;

/// Ten payments for the song.
async fn plan(payer: &Payer, payee: &Payee) -> Order {
    let address = payee.address().clone().with_path("song");
    let planned = payer.plan_payments(&address, 10, Some(Amount(1_000_000_000)));
    planned.await.unwrap()
}

/// W-01, for what needs no escrow: a hold that is open pays on.
/// Spec: W-01.
#[tokio::test(flavor = "multi_thread")]
async fn w_01_a_payer_goes_on_paying_from_an_open_hold() {
    let market = Market::open().await;
    let content = market.sell("song", 20 * UNIT, 0);
    let connection = market.connect().await;
    market.book(&connection, "/song", 1).await.pay(1).await;
    let Market {
        nodes,
        directory: _directory,
        ..
    } = &market;
    let order = plan(&nodes.payer, &nodes.payee).await;
    nodes.payer.send(&order, &|_| ()).await.unwrap();
    let order = plan(&nodes.payer, &nodes.payee).await;
    assert!(order.hold_reused);
    // The escrow is gone for good; the plan names the hold.
    let market = stop_escrow(market).await;
    assert_eq!(market.payer.send(&order, &|_| ()).await.unwrap().tickets, 10);
    let status = market.payee.status().unwrap();
    assert_eq!((status.health, content.len()), ("selling", 20 * UNIT));
    assert!(status.exposure.liabilities >= PRICE.saturating_mul(10), "{status:?}");
    market.payer.shutdown().await;
}

/// What is left when the escrow has gone.
struct Without {
    payer: Payer,
    payee: Payee,
    _directory: tempfile::TempDir,
}

async fn stop_escrow(market: Market) -> Without {
    let Market {
        nodes,
        directory,
        client,
        ..
    } = market;
    client.close().await;
    nodes.escrow.shutdown().await;
    Without {
        payer: nodes.payer,
        payee: nodes.payee,
        _directory: directory,
    }
}

/// W-01, for what needs one: the same request id moves money once, however often it is repeated.
/// Spec: W-01.
#[test]
fn w_01_what_a_payer_asks_again_moves_money_once() {
    let mut world = World::funded(1, sure());
    world.bank_goes_away();
    world.pay(3);
    world.live(10 * SECOND_MS);
    assert_eq!(world.buyers[0].paid(0), 0, "there is no hold yet");
    world.bank_comes_back();
    world.live(10 * SECOND_MS);
    assert_eq!(world.buyers[0].paid(0), 3);
    let payer = world.buyers[0].account();
    let id = RequestId(world.net.dice.bytes());
    let open = open_hold_by(&world, id, world.net.now);
    let first = world.ask(payer, open.clone());
    let balance = world.balance(payer);
    world.crash_escrow();
    assert_eq!(world.ask(payer, open), first);
    assert_eq!(world.balance(payer), balance);
    world.check();
}

/// W-02. The same with a payee that was killed is in `processes::payee`.
/// Spec: W-02.
#[tokio::test(flavor = "multi_thread")]
async fn w_02_a_payer_that_lost_its_payee_gets_what_it_paid_for() {
    let market = Market::open().await;
    let content = market.sell("song", 10 * UNIT, 0);
    let connection = market.connect().await;
    let mut lost = market.book(&connection, "/song", 10).await;
    lost.pay(6).await;
    connection.close(0, "gone");
    let connection = market.connect().await;
    let (header, units) = request(&connection, "/song", 0, Some(lost.id()), Some(lost.bearer()))
        .await
        .unwrap();
    assert_eq!((header.through, read_to_end(units).await.unwrap().len()), (6, 6 * UNIT));
    let mut next = market.book(&connection, "/song", 4).await;
    assert_eq!(
        next.book.signed().body.hold,
        lost.book.signed().body.hold,
        "on the same hold"
    );
    next.pay(4).await;
    let (_, units) = request(&connection, "/song", 6, Some(next.id()), None).await.unwrap();
    assert_eq!(read_to_end(units).await.unwrap(), content[6 * UNIT..]);
    market.stop().await;
}

/// W-02, the window: what was in flight stays counted.
/// Spec: W-02.
#[test]
fn w_02_what_was_in_flight_stays_in_the_window() {
    let mut world = World::funded(2, sure());
    world.pay(1_000);
    while world.buyers[0].window(0).in_flight().0 < 8 {
        assert!(world.step());
    }
    world.disconnect(0, 0);
    assert!(world.buyers[0].window(0).lost_value() > 0);
}

/// W-03, at the payee: what has expired is refused, whatever the payer's clock says.
/// Spec: W-03.
#[test]
fn w_03_a_payee_refuses_what_has_expired() {
    let mut world = World::funded(3, sure());
    world.open_hold();
    let old = quote(&mut world);
    let late = opening(&mut world, old);
    let now = world.net.now.plus_ms(MINUTE_MS + 1);
    assert_eq!(
        world.sellers[0].payee.open_book(late, now).unwrap_err().code,
        Code::QuoteExpired
    );
    world.net.now = world.net.now.plus_ms(DAY_MS);
    let fresh = quote(&mut world);
    let late = opening(&mut world, fresh);
    let now = world.net.now;
    assert_eq!(
        world.sellers[0].payee.open_book(late, now).unwrap_err().code,
        Code::HoldExpired
    );
}

/// W-03 and C-05, at the escrow: a payer whose clock is a month behind has its requests accepted, as their time is not its own.
/// Spec: C-05, W-03.
#[tokio::test(flavor = "multi_thread")]
async fn w_03_request_times_come_from_the_escrow() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    key_file::create(&home.join(key_file::KEY_FILE)).unwrap();
    let payer = tombola_core::key::SecretKey::from_seed(&[7; 32]);
    let ahead = tombola_node::clock::now().plus_ms(30 * DAY_MS);
    let mut options = escrow_options(home, ([127, 0, 0, 1], 0).into());
    // The ledger below was filled without a witness.
    options.witness.consent = tombola_node::escrow::Consent::NewWitness;
    {
        let config = tombola_core::escrow::EscrowConfig {
            escrow: options.key.account(),
            asset: options.terms.asset,
            name: Reference::new(options.name.as_str()).unwrap(),
            fee: options.terms.fee,
            face_value_min: options.terms.face_value_min,
            cap_min: options.terms.cap_min,
            writer: 0,
            payout_fee: Amount::ZERO,
            payout_min: Amount::ZERO,
            epoch: 0,
        };
        let store = RedbStore::open(home.join("escrow.redb")).unwrap();
        let mut ledger = Ledger::open(store, config, ahead).await.unwrap();
        let account = payer.account().check().unwrap();
        let reference = Reference::new("first").unwrap();
        let deposit = Command::Deposit {
            account,
            amount: Amount(10_000_000_000),
            reference,
        };
        ledger.execute(vec![deposit], ahead).await.unwrap();
    }
    let escrow = Escrow::serve(options).await.unwrap();
    let client = EscrowClient::new(escrow.address().clone(), &payer).unwrap();
    let time = client.time().await.unwrap();
    assert!(time >= ahead, "ledger time does not run backwards (W-11)");
    let transfer = |request| EscrowCommand::Transfer {
        request,
        to: tombola_core::key::SecretKey::from_seed(&[3; 32]).account(),
        amount: Amount(1),
        reference: Reference::new("r").unwrap(),
        book: None,
    };
    let own = RequestHeader {
        id: RequestId([1; 16]),
        issued_at: tombola_node::clock::now(),
    };
    let refused = client.request(transfer(own)).await.unwrap_err();
    let code = |error| match error {
        tombola_node::escrow_client::EscrowError::Rejected(reject) => reject.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(refused), Code::RequestExpired);
    let request = client.request_header().await.unwrap();
    assert!(matches!(
        client.request(transfer(request)).await.unwrap(),
        EscrowAnswer::Transferred(_)
    ));
    client.close().await;
    escrow.shutdown().await;
}

/// W-04: the times of a payer's holds are the escrow's, so a hold that it opens is good whatever its clock says.
/// Spec: W-04.
#[tokio::test(flavor = "multi_thread")]
async fn w_04_a_payer_judges_holds_by_the_escrows_time() {
    let market = Market::open().await;
    let info = market.client.info().await.unwrap();
    let hold = open_hold(&market.client, &market.nodes, Amount(100_000_000)).await;
    assert!(hold.body.terms.opened_at >= info.time);
    let status = market
        .client
        .request(EscrowCommand::HoldStatus { hold: hold.body.id() })
        .await
        .unwrap();
    // Nobody but payee and escrow can end it.
    assert!(matches!(status, EscrowAnswer::HoldStatus(status) if status.state == HoldState::Open));
    let release = tombola_core::hold::Release {
        hold: hold.body.id(),
        paid: Amount(0),
    };
    let forged = tombola_core::key::Signed::new(release, &tombola_core::key::SecretKey::from_seed(&[7; 32]));
    assert!(market.client.request(EscrowCommand::Release(forged)).await.is_err());
    market.stop().await;
}

/// W-13: chains die with the process; `Account` finds the hold, and the next purchase uses it. As processes:
/// `processes::payer`.
/// Spec: W-13.
#[tokio::test(flavor = "multi_thread")]
async fn w_13_a_payer_that_died_finds_its_holds_again() {
    let market = Market::open().await;
    market.sell("song", 50 * UNIT, 0);
    let nodes = &market.nodes;
    let order = plan(&nodes.payer, &nodes.payee).await;
    assert!(!order.hold_reused);
    nodes.payer.send(&order, &|_| ()).await.unwrap();
    // Another process knows nothing but the key: what it finds, it finds at the escrow.
    let home = market.directory.path();
    let options = PayerOptions {
        key: key_file::read(&home.join("payer").join(key_file::KEY_FILE)).unwrap(),
        escrow: nodes.escrow.address().clone(),
        terms: tombola_node::config::PayerConfig::default().terms().unwrap(),
        store: home.join("another.redb"),
    };
    let another = Payer::connect(options).unwrap();
    let again = plan(&another, &nodes.payee).await;
    assert!(again.hold_reused);
    assert_eq!(another.send(&again, &|_| ()).await.unwrap().tickets, 10);
    assert_eq!(another.balance().await.unwrap().holds.len(), 1);
    another.shutdown().await;
    market.stop().await;
}

/// An account's state shows 100 holds at a time.
#[tokio::test(flavor = "multi_thread")]
async fn a_payer_sees_all_of_its_holds_however_many() {
    let market = Market::open().await;
    let key = key_file::read(&market.directory.path().join("payer").join(key_file::KEY_FILE)).unwrap();
    let client = EscrowClient::new(market.nodes.escrow.address().clone(), &key).unwrap();
    let mut opened = Vec::new();
    for _ in 0..205 {
        let hold = open_hold(&client, &market.nodes, Amount(1_000_000)).await;
        opened.push(hold.body.id());
    }
    let balance = market.nodes.payer.balance().await.unwrap();
    let found: Vec<_> = balance.holds.iter().map(|status| status.hold.body.id()).collect();
    assert!(found == opened, "{} of {}", found.len(), opened.len());
    let left = balance.holds.iter().map(|status| status.hold.body.cap);
    assert_eq!(tombola_core::amount::sum(left), u128::from(balance.account.held.0));
    client.close().await;
    market.stop().await;
}
