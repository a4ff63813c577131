//! A payee that is killed.

use super::{EVEN, PRICE, SURE, UNIT, WINDOW, at_each, buy_over, connect};
use std::sync::Mutex;
use tombola_core::amount::Amount;
use tombola_tests::process::{Offer, Signal, Town, atoms, number};

const UNITS: usize = 1_500;

/// Kills the payee at a moment of a download, starts it on the same home and port, and compares all accounts.
fn kill_and_compare(offer: Offer<'_>, moment: u64) {
    let town = Town::new();
    let escrow = town.escrow();
    let content = town.file("song", UNITS * UNIT - 100, moment);
    let node = town.payee("payee", &escrow, offer);
    let (url, socket) = (format!("{}/song", node.address()), node.socket());
    town.payer("payer", &escrow, "10");
    let payer = connect(&town, &escrow);
    let running = Mutex::new(Some(node));
    let kill = || {
        let mut running = running.lock().unwrap();
        running.take().unwrap().kill();
        *running = Some(town.run_payee("payee", &socket));
    };
    let redeem = || {
        let done = town.ask("payee", "redeem", "payee");
        assert_eq!(
            (number(&done, "refusals"), number(&done, "unclaimed_books")),
            (0, 0),
            "{done}"
        );
    };
    let output = town.path("song");
    let bought = buy_over(&payer, &url, &output, moment, kill, redeem);
    assert_eq!(std::fs::read(&output).unwrap(), content);

    let (paid, first) = (bought.done.tickets, bought.acknowledged_first);
    assert!(
        first >= moment && first < paid,
        "the kill came in the middle: {first} of {paid}"
    );
    let units = u64::try_from(UNITS).unwrap();
    let drawn: u64 = bought
        .charges
        .iter()
        .map(|charge| u64::from(charge.claim.through))
        .sum();
    println!("moment {moment}: {first} then, {paid} acknowledged, {drawn} claimed, for {units} units");
    assert!(paid <= units + WINDOW, "at most one window is paid again");
    let charged: u64 = bought.charges.iter().map(|charge| charge.amount.0).sum();
    let status = town.ask("payee", "status", "payee");
    let winners: u64 = bought
        .charges
        .iter()
        .map(|charge| u64::from(charge.receipt.body.winners))
        .sum();
    assert_eq!(number(&status, "winners_redeemed"), winners);
    assert_eq!(bought.audit.charged, Amount(charged));
    // Each book was charged once, to where the payee had drawn it: none that was acknowledged is missing.
    let is_first_whole = |slack: u64| {
        let throughs = bought.charges.iter().map(|charge| u64::from(charge.claim.through));
        throughs
            .into_iter()
            .any(|through| through + slack >= first && through <= first + WINDOW)
    };
    if offer.face_value_max == offer.price {
        assert!(drawn >= paid, "{drawn} tickets redeemed of {paid} acknowledged");
        assert!(drawn <= units + WINDOW, "{drawn} tickets redeemed for {units} units");
        assert_eq!((charged, winners), (drawn * PRICE, drawn));
        assert!(is_first_whole(0), "all of the first {first}");
    } else {
        // After the last winner all lose: that 60 do so at odds of 1:2 does not happen.
        assert!(is_first_whole(60), "all winners of the first {first}");
        assert_eq!(charged, winners * 2 * PRICE);
    }
    let fees: u64 = bought.charges.iter().map(|charge| charge.receipt.body.fee.0).sum();
    assert_eq!(atoms(&status, "redeemed") + fees, charged);
    assert_eq!(atoms(&status, "owed"), 0);
    tokio::runtime::Handle::current().block_on(payer.shutdown());
    assert_eq!(running.into_inner().unwrap().unwrap().end(Signal::TERM), 0);
    assert_eq!(town.ask("escrow", "audit", "escrow")["conserved"], true);
    assert_eq!(escrow.end(Signal::TERM), 0);
}

#[test]
fn killed_in_mid_stream_a_payee_redeems_every_winner_it_acknowledged() {
    at_each(&[1, 90, 400, 1_000], |moment| kill_and_compare(SURE, moment));
}

#[test]
fn killed_in_mid_stream_a_payee_redeems_every_winner_at_even_odds() {
    at_each(&[150, 800], |moment| kill_and_compare(EVEN, moment));
}
