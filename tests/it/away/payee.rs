//! W-05 to W-08 and W-14: a payee without its escrow or its payer, with a wrong clock, or dead.

use super::{escrow_options, opening, quote, sure};
use crate::delivery::market::{Market, PRICE, UNIT};
use crate::pair::{Options, World};
use tombola_core::amount::{Amount, DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use tombola_core::key::QuoteId;
use tombola_core::payee::Health;
use tombola_core::quote::Service;
use tombola_core::reject::Code;
use tombola_node::escrow::Escrow;

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
