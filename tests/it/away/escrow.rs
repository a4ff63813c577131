//! W-09 to W-12 and W-15: an escrow without payee or payer, with a wrong clock, or dead.

use super::{hold_request, open_hold_by, sure};
use crate::pair::World;
use tombola_core::amount::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};
use tombola_core::key::RequestId;
use tombola_core::message::{EscrowAnswer, EscrowCommand, HoldState, RequestHeader};
use tombola_core::reject::Code;

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
    let (payer, right) = (world.buyers[0].account(), world.net.now);
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
    let open = open_hold_by(&world, RequestId([1; 16]), right);
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

/// W-15: what was answered is durable, and what is asked again gets the same answer. As processes: `processes::escrow`.
/// Spec: W-15.
#[test]
fn w_15_an_escrow_that_died_repeats_what_it_answered() {
    let mut world = World::funded(15, sure());
    let (payer, payee) = (world.buyers[0].account(), world.sellers[0].account());
    let open = open_hold_by(&world, RequestId([1; 16]), world.net.now);
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
