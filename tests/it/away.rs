//! The table of the spec's section 21: what each role does when another one is away, or its clock steps.
//!
//! Where hours pass or clocks step, the rules run on a virtual clock; where somebody is away, real nodes do. What kills
//! do to real processes is in `processes`.

use crate::delivery::market::{Market, PRICE, UNIT, open_hold, read_to_end, request};
use crate::pair::{Options, World};
use std::path::Path;
use tombola_core::amount::{Amount, DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use tombola_core::chain::Preimage;
use tombola_core::key::{AccountKey, QuoteId, RequestId};
use tombola_core::message::{EscrowAnswer, EscrowCommand, HoldRequest, HoldState, OpenBook, Reference, RequestHeader};
use tombola_core::payee::Health;
use tombola_core::payer::PayerBook;
use tombola_core::quote::{Quote, Service};
use tombola_core::reject::Code;
use tombola_ledger::ledger::{Command, Ledger};
use tombola_node::config::EscrowConfig;
use tombola_node::escrow::{Escrow, EscrowOptions};
use tombola_node::escrow_client::EscrowClient;
use tombola_node::key_file;
use tombola_store::redb_store::RedbStore;

/// A world in which every ticket wins.
fn sure() -> Options {
    Options {
        price: Amount(1_000),
        window: Amount(64_000),
        ..Options::default()
    }
}

fn quote(world: &mut World) -> Quote {
    let (id, now) = (QuoteId(world.net.dice.bytes()), world.net.now);
    let service = Service::new("/units").unwrap();
    world.sellers[0]
        .payee
        .quote(&service, world.net.options.price, id, now)
        .unwrap()
}

/// A book of payer 0 for a quote, as it comes to the payee.
fn opening(world: &mut World, quote: Quote) -> OpenBook {
    let hold = *world.buyers[0].hold(0).unwrap();
    let (face, secret) = (world.net.options.face_value, Preimage(world.net.dice.bytes()));
    let book = PayerBook::new(&hold.body, &quote, face, 10, secret, world.buyers[0].key()).unwrap();
    OpenBook {
        hold,
        quote,
        book: *book.signed(),
    }
}

fn hold_request(world: &World, payee: AccountKey) -> HoldRequest {
    let now = world.net.now;
    HoldRequest {
        signer: world.buyers[0].account(),
        payee,
        face_value_min: Amount(1_000),
        face_value_max: Amount(1_000),
        book_length_max: 256,
        expires_at: now.plus_ms(DAY_MS),
        redeem_by: now.plus_ms(3 * DAY_MS),
        cap: Amount(5_000),
        fee_max: tombola_core::hold::Fee {
            flat: Amount(10),
            ppm: 20_000,
        },
    }
}

fn escrow_options(home: &Path, listen: std::net::SocketAddr) -> EscrowOptions {
    let config = EscrowConfig::default();
    EscrowOptions {
        key: key_file::read(&home.join(key_file::KEY_FILE)).unwrap(),
        listen,
        terms: config.terms().unwrap(),
        name: config.name,
        store: home.join("escrow.redb").into(),
        witness: tombola_node::escrow::WitnessOptions::at(home.join("witness")),
    }
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
    let address = nodes.payee.address().clone().with_path("song");
    let order = nodes
        .payer
        .plan_payments(&address, 10, Some(Amount(1_000_000_000)))
        .await
        .unwrap();
    nodes.payer.send(&order, &|_| ()).await.unwrap();
    let order = nodes
        .payer
        .plan_payments(&address, 10, Some(Amount(1_000_000_000)))
        .await
        .unwrap();
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
    payer: tombola_node::payer::Payer,
    payee: tombola_node::payee::Payee,
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
    let (payee, id) = (world.sellers[0].account(), RequestId(world.net.dice.bytes()));
    let request = RequestHeader {
        id,
        issued_at: world.net.now,
    };
    let open = EscrowCommand::OpenHold {
        request,
        hold: hold_request(&world, payee),
    };
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

/// W-05 on real nodes: winners wait, and are redeemed when the escrow is back.
/// Spec: W-05.
#[tokio::test(flavor = "multi_thread")]
async fn w_05_a_payee_keeps_its_winners_until_the_escrow_is_back() {
    let market = Market::open().await;
    market.sell("song", 20 * UNIT, 0);
    let connection = market.connect().await;
    let mut line = market.book(&connection, "/song", 20).await;
    line.pay(2).await;
    let Market {
        nodes,
        directory,
        client,
        ..
    } = market;
    let listen = format!("127.0.0.1:{}", nodes.escrow.address().port).parse().unwrap();
    client.close().await;
    nodes.escrow.shutdown().await;
    line.pay(5).await;
    let status = nodes.payee.status().unwrap();
    assert_eq!(
        (status.health, status.exposure.liabilities),
        ("selling", PRICE.saturating_mul(7))
    );
    let escrow = Escrow::serve(escrow_options(&directory.path().join("escrow"), listen))
        .await
        .unwrap();
    let redeemed = nodes.payee.redeem().await.unwrap();
    assert_eq!((redeemed.receipts, redeemed.unclaimed_books), (1, 0));
    assert_eq!(nodes.payee.status().unwrap().winners_redeemed, 7);
    nodes.payer.shutdown().await;
    nodes.payee.shutdown().await;
    escrow.shutdown().await;
}

/// W-05, C-04: at half of the redeem window it stops selling, and goes on when it could redeem.
/// Spec: C-04, W-05.
#[test]
fn w_05_a_payee_that_cannot_redeem_in_time_stops_selling() {
    let mut world = World::funded(5, sure());
    world.pay(3);
    world.drive();
    world.bank_goes_away();
    world.finish();
    world.live(MINUTE_MS);
    assert_eq!(world.sellers[0].payee.health(), Health::Selling);
    let deadline = world.buyers[0].hold(0).unwrap().body.claim_deadline();
    world.net.now = deadline;
    world.tick();
    assert_eq!(world.sellers[0].payee.health(), Health::Overdue);
    let (service, id, now) = (Service::new("/units").unwrap(), QuoteId([1; 16]), world.net.now);
    let refused = world.sellers[0]
        .payee
        .quote(&service, Amount(1_000), id, now)
        .unwrap_err();
    assert_eq!(refused.code, Code::NotSelling);
    world.bank_comes_back();
    world.live(30 * SECOND_MS);
    assert_eq!(world.sellers[0].payee.health(), Health::Selling);
    world.check();
}

/// W-06: closes what is idle (`book_idle`), redeems, and gives the rest of the hold back after 10 min.
/// Spec: W-06.
#[test]
fn w_06_a_payee_whose_payer_is_away_redeems_and_releases() {
    let mut world = World::funded(6, sure());
    world.pay(4);
    world.drive();
    let payer = world.buyers[0].account();
    let before = world.balance(payer);
    let book = world.sellers[0].books.values().next().unwrap();
    assert!(
        !book.book.is_idle(world.net.now.plus_ms(MINUTE_MS - SECOND_MS)),
        "a minute has not passed"
    );
    world.live(2 * MINUTE_MS);
    assert!(
        world.net.rejects.iter().any(|reject| reject.code == Code::BookIdle),
        "{:?}",
        world.net.rejects
    );
    assert!(world.sellers[0].books.is_empty());
    let redeemed = world.balance(world.sellers[0].account());
    assert!(redeemed > 3_900, "four winners less fees: {redeemed}");
    assert_eq!(world.balance(payer), before, "the rest is still set aside");
    world.rest(11 * MINUTE_MS);
    assert_eq!(world.balance(payer), 10_000_000 - 4_000);
    world.check();
}

/// W-07: nothing that has expired opens again.
/// Spec: W-07.
#[test]
fn w_07_a_payees_time_stands_still_when_its_clock_steps_back() {
    let mut world = World::funded(7, sure());
    world.open_hold();
    let old = quote(&mut world);
    let (late, again) = (opening(&mut world, old.clone()), opening(&mut world, old));
    let now = world.net.now;
    let payee = &mut world.sellers[0].payee;
    payee.advance(now.plus_ms(2 * MINUTE_MS));
    for step in [0, MINUTE_MS, HOUR_MS] {
        let early = payee.open_book(late.clone(), now.minus_ms(step)).unwrap_err();
        assert_eq!(early.code, Code::QuoteExpired, "{step} ms back");
    }
    // A quote made while the clock is behind lives from the payee's time on, once.
    let fresh = quote(&mut world);
    assert!(fresh.terms.expires_at > again.quote.terms.expires_at);
    let good = opening(&mut world, fresh);
    let payee = &mut world.sellers[0].payee;
    payee.open_book(good.clone(), now).unwrap();
    assert_eq!(
        payee.open_book(good, now.minus_ms(HOUR_MS)).unwrap_err().code,
        Code::CommitmentReused
    );
}

/// W-08: sales pause and money is safe.
/// Spec: W-08.
#[test]
fn w_08_a_payee_whose_clock_steps_forward_claims_and_pauses() {
    let mut world = World::funded(8, sure());
    world.pay(2);
    world.drive();
    let right = world.net.now;
    // Past the expiry of the hold: its book is closed and its winners are claimed.
    world.net.now = right.plus_ms(DAY_MS + HOUR_MS);
    world.sellers[0].tick(&mut world.net);
    world.net.now = right;
    world.live(10 * SECOND_MS);
    let earned = world.balance(world.sellers[0].account());
    assert!(earned > 1_900, "both winners less fees: {earned}");
    let quote = quote(&mut world);
    let late = opening(&mut world, quote);
    let refused = world.sellers[0].payee.open_book(late, right).unwrap_err();
    assert_eq!(refused.code, Code::HoldExpired, "its time stays ahead");
    world.check();
    // A restart, with the clock set right, makes it good.
    world.crash_payee(0);
    world.pay(2);
    world.live(MINUTE_MS);
    assert_eq!(world.buyers[0].paid(0), 4);
    world.check();
}

/// W-09: until `redeem_by + 5 min`, and an hour of serving.
/// Spec: W-09.
#[test]
fn w_09_holds_of_a_payee_that_is_away_stay_whole_until_they_expire() {
    let mut world = World::funded(9, sure());
    let hold = world.open_hold();
    let (payer, redeem_by) = (world.buyers[0].account(), hold.body.terms.redeem_by);
    let before = world.balance(payer);
    world.net.now = redeem_by.minus_ms(2 * HOUR_MS);
    while world.net.now < redeem_by.plus_ms(4 * MINUTE_MS) {
        world.net.now = world.net.now.plus_ms(30 * SECOND_MS);
        world.bank.sign_of_life(world.net.now);
        assert_eq!(world.bank.expire_due(world.net.now), 0);
    }
    world.net.now = redeem_by.plus_ms(5 * MINUTE_MS);
    world.bank.sign_of_life(world.net.now.minus_ms(30 * SECOND_MS));
    assert_eq!(world.bank.expire_due(world.net.now), 1);
    assert_eq!(world.balance(payer), before + hold.body.cap.0);
    world.check();
}

/// W-10: a payee is paid whether its payer is there or not, and the rest comes back without the payer doing anything.
/// Spec: W-10.
#[test]
fn w_10_an_escrow_pays_claims_of_a_payer_that_is_away() {
    let mut world = World::funded(10, sure());
    world.pay(3);
    world.drive();
    world.disconnect(0, 0);
    world.live(10 * SECOND_MS);
    assert!(world.balance(world.sellers[0].account()) > 2_900);
    world.rest(15 * MINUTE_MS);
    assert_eq!(world.balance(world.buyers[0].account()), 10_000_000 - 3_000);
    world.check();
}

/// W-11.
/// Spec: W-11.
#[test]
fn w_11_ledger_time_stands_still_when_the_escrows_clock_steps_back() {
    let mut world = World::funded(11, sure());
    let hold = world.open_hold();
    let (payer, payee) = (world.buyers[0].account(), world.sellers[0].account());
    let right = world.net.now;
    world.net.now = right.minus_ms(10 * DAY_MS);
    let EscrowAnswer::Info(info) = world.ask(payer, EscrowCommand::Info) else {
        panic!()
    };
    assert!(
        info.time >= hold.body.terms.opened_at,
        "not before what happened already"
    );
    assert_eq!(world.bank.expire_due(world.net.now), 0);
    // A request of a party whose clock is right is good.
    let request = RequestHeader {
        id: RequestId([1; 16]),
        issued_at: right,
    };
    let mut wanted = hold_request(&world, payee);
    (wanted.expires_at, wanted.redeem_by) = (right.plus_ms(DAY_MS), right.plus_ms(3 * DAY_MS));
    let answer = world.ask(payer, EscrowCommand::OpenHold { request, hold: wanted });
    assert!(matches!(answer, EscrowAnswer::Hold(_)), "{answer:?}");
    world.check();
}

/// W-12.
/// Spec: W-12.
#[test]
fn w_12_when_the_escrows_clock_steps_forward_no_hold_expires_at_once() {
    let mut world = World::funded(12, sure());
    let hold = world.open_hold();
    let (payer, payee) = (world.buyers[0].account(), world.sellers[0].account());
    let right = world.net.now;
    for _ in 0..180 {
        world.net.now = world.net.now.plus_ms(30 * SECOND_MS);
        world.bank.sign_of_life(world.net.now);
    }
    world.net.now = hold.body.terms.redeem_by.plus_ms(HOUR_MS);
    world.bank.sign_of_life(world.net.now);
    let is_open = |world: &mut World| {
        world.bank.expire_due(world.net.now);
        let hold = hold.body.id();
        let answer = world.ask(payer, EscrowCommand::HoldStatus { hold });
        matches!(answer, EscrowAnswer::HoldStatus(status) if status.state == HoldState::Open)
    };
    assert!(is_open(&mut world), "the step is a gap in serving");
    // The right clock is now days behind: its requests are refused, and its claims are not.
    let request = RequestHeader {
        id: RequestId([1; 16]),
        issued_at: right,
    };
    let open = EscrowCommand::OpenHold {
        request,
        hold: hold_request(&world, payee),
    };
    match world.ask(payer, open) {
        EscrowAnswer::Rejected(reject) => assert_eq!(reject.code, Code::RequestExpired),
        other => panic!("{other:?}"),
    }
    for _ in 0..119 {
        world.net.now = world.net.now.plus_ms(30 * SECOND_MS);
        world.bank.sign_of_life(world.net.now);
        assert!(is_open(&mut world));
    }
    world.net.now = world.net.now.plus_ms(30 * SECOND_MS);
    assert!(!is_open(&mut world), "after an hour of serving");
    world.check();
}

/// W-13: chains die with the process; `Account` finds the hold, and the next purchase uses it. As processes:
/// `processes::payer`.
/// Spec: W-13.
#[tokio::test(flavor = "multi_thread")]
async fn w_13_a_payer_that_died_finds_its_holds_again() {
    let market = Market::open().await;
    market.sell("song", 50 * UNIT, 0);
    let nodes = &market.nodes;
    let address = nodes.payee.address().clone().with_path("song");
    let order = nodes
        .payer
        .plan_payments(&address, 10, Some(Amount(1_000_000_000)))
        .await
        .unwrap();
    assert!(!order.hold_reused);
    nodes.payer.send(&order, &|_| ()).await.unwrap();
    // Another process knows nothing but the key: what it finds, it finds at the escrow.
    let home = market.directory.path();
    let options = tombola_node::payer::PayerOptions {
        key: key_file::read(&home.join("payer").join(key_file::KEY_FILE)).unwrap(),
        escrow: nodes.escrow.address().clone(),
        terms: tombola_node::config::PayerConfig::default().terms().unwrap(),
        store: home.join("another.redb"),
    };
    let another = tombola_node::payer::Payer::connect(options).unwrap();
    let again = another
        .plan_payments(&address, 10, Some(Amount(1_000_000_000)))
        .await
        .unwrap();
    assert!(again.hold_reused);
    assert_eq!(another.send(&again, &|_| ()).await.unwrap().tickets, 10);
    assert_eq!(another.balance().await.unwrap().open_holds, 1);
    another.shutdown().await;
    market.stop().await;
}

/// W-14: every acknowledged winner is claimed after the restart. As processes: `processes::payee`.
/// Spec: W-14.
#[test]
fn w_14_a_payee_that_died_claims_what_it_acknowledged() {
    for seed in 14..24 {
        let mut world = World::funded(seed, Options { disk_ms: 3, ..sure() });
        world.pay(500);
        let moment = 20 + world.net.dice.below(200);
        while world.buyers[0].paid(0) < moment {
            assert!(world.step(), "seed {seed}");
        }
        let acknowledged = world.buyers[0].paid(0);
        world.crash_payee(0);
        world.live(30 * SECOND_MS);
        let charges = world.charges(0);
        let first: u64 = charges.values().map(|charged| charged.amount).sum();
        assert!(first >= acknowledged * 1_000, "seed {seed}: {first} for {acknowledged}");
        world.check();
    }
}

/// W-15: what was answered is durable, and what is asked again gets the same answer. As processes: `processes::escrow`.
/// Spec: W-15.
#[test]
fn w_15_an_escrow_that_died_repeats_what_it_answered() {
    let mut world = World::funded(15, sure());
    let (payer, payee) = (world.buyers[0].account(), world.sellers[0].account());
    let request = RequestHeader {
        id: RequestId([1; 16]),
        issued_at: world.net.now,
    };
    let open = EscrowCommand::OpenHold {
        request,
        hold: hold_request(&world, payee),
    };
    let first = world.ask(payer, open.clone());
    world.pay(5);
    world.drive();
    world.finish();
    world.live(10 * SECOND_MS);
    let (entries, earned) = (world.statement(payee), world.balance(payee));
    world.crash_escrow();
    assert_eq!(world.ask(payer, open), first);
    assert_eq!((world.statement(payee), world.balance(payee)), (entries, earned));
    world.audit();
    world.check();
}
