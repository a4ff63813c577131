//! What is forgotten after a month, a few rows at a time. Over each store.

use crate::conformance::all_rows;
use crate::rules::audited;
use crate::stores::on_each_store;
use crate::world::{TestBook, World, code, reference, tamper};
use tombola_core::amount::{Amount, DAY_MS};
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::message::{EscrowAnswer, EscrowCommand, StatementKind};
use tombola_core::reject::Code;
use tombola_ledger::key::{HoldKey, Key};
use tombola_ledger::ledger::{Command, Outcome};
use tombola_ledger::row::Table;
use tombola_ledger::store::Store;
use tombola_store::block_on::block_on;

on_each_store! {
    an_ended_hold_is_forgotten_after_a_month_and_still_in_the_statement
    a_settled_withdrawal_is_forgotten_after_a_month
    a_row_that_goes_too_early_is_found
}

fn prune<S: Store>(world: &mut World<S>, limit: usize) -> usize {
    block_on(world.ledger.prune(limit, world.now)).unwrap()
}

fn count<S: Store>(world: &World<S>, table: Table) -> usize {
    let rows = all_rows(world.ledger.store());
    rows.iter().filter(|(key, _)| key.table() == table).count()
}

/// Spec: G-08.
fn an_ended_hold_is_forgotten_after_a_month_and_still_in_the_statement<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(10_000);
    let kept = world.open_hold(500);
    let mut claims = Vec::new();
    for n in 0..3 {
        let claim = TestBook::sure(&hold.body, n, 8).claim(1);
        world.claim(claim).unwrap();
        claims.push(claim);
    }
    world.release(hold.body.id(), 3_000);
    world.now = world.now.plus_ms(30 * DAY_MS - 1);
    while prune(&mut world, 100) > 0 {}
    assert_eq!((count(&world, Table::Holds), count(&world, Table::Books)), (2, 3));
    world.claim(claims[0]).unwrap();
    world.now = world.now.plus_ms(1);
    assert_eq!(prune(&mut world, 2), 2, "a bounded number at a time");
    assert_eq!((count(&world, Table::Holds), count(&world, Table::Books)), (2, 1));
    assert_eq!(audited(&world).findings, []);
    assert_eq!([prune(&mut world, 2), prune(&mut world, 2)], [2, 0]);
    assert_eq!((count(&world, Table::Holds), count(&world, Table::Books)), (1, 0));
    assert_eq!((count(&world, Table::HoldIds), count(&world, Table::Ended)), (1, 0));
    assert_eq!(world.claim(claims[0]), Err(Code::HoldUnknown));
    let hold_status = EscrowCommand::HoldStatus { hold: hold.body.id() };
    assert_eq!(code(&world.ask(2, hold_status)), Code::HoldUnknown);
    assert_eq!(world.status(kept.body.id()).hold, kept);
    let EscrowAnswer::Statement(page) = world.ask(2, EscrowCommand::Statement { after: 0 }) else {
        panic!()
    };
    let charged = page.entries.as_slice().iter();
    let charged = charged.filter(|entry| matches!(&entry.kind, StatementKind::Charged(charge) if charge.hold == hold));
    assert_eq!(charged.count(), 3);
    assert_eq!(audited(&world).findings, []);
}

/// Spec: G-08.
fn a_settled_withdrawal_is_forgotten_after_a_month<S: Store>(store: S) {
    let mut world = World::funded(store);
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let command = EscrowCommand::Withdraw {
            request: world.header(),
            amount: Amount(1_000),
            destination: reference("bank"),
            reference: reference("mine"),
        };
        let EscrowAnswer::WithdrawalPending { withdrawal, .. } = world.ask(2, command) else {
            panic!()
        };
        numbers.push(withdrawal);
    }
    let settle = |withdrawal| Command::Settle {
        withdrawal,
        outcome: PayoutOutcome::Paid,
        reference: reference("wire"),
    };
    world.run_one(settle(numbers[0]));
    world.now = world.now.plus_ms(30 * DAY_MS);
    while prune(&mut world, 100) > 0 {}
    assert_eq!(count(&world, Table::Withdrawals), 1);
    assert_eq!(count(&world, Table::SettledWithdrawals), 0);
    let again = world.run_one(settle(numbers[0]));
    assert!(matches!(again, Outcome::Rejected(reject) if reject.code == Code::WithdrawalUnknown));
    assert!(matches!(world.run_one(settle(numbers[1])), Outcome::Settled { .. }));
    assert_eq!(audited(&world).findings, []);
}

/// Spec: G-08.
fn a_row_that_goes_too_early_is_found<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(10_000);
    world.claim(TestBook::sure(&hold.body, 1, 8).claim(1)).unwrap();
    world.release(hold.body.id(), 1_000);
    let place = HoldKey {
        payer: 0,
        serial: hold.body.terms.serial,
    };
    world.now = world.now.plus_ms(30 * DAY_MS - 1);
    world.run(Vec::new());
    world.deposit(2, 1, "later").unwrap();
    tamper(&world, Key::hold(place), |_| None);
    assert_eq!(audited(&world).findings.len(), 1);
}
