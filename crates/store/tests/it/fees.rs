//! Fees of a writer that was removed: whoever removed it collects them, once.

use crate::rules::audited;
use crate::stores::on_each_shared_store;
use crate::world::{FEE, TestBook, World, key, reference};
use tombola_core::amount::{Amount, HOUR_MS};
use tombola_core::reject::Code;
use tombola_ledger::audit::Finding;
use tombola_ledger::event::Effect;
use tombola_ledger::key::Key;
use tombola_ledger::ledger::{Command, LedgerFault, Outcome};
use tombola_ledger::query::{fee_report, writers};
use tombola_ledger::row::{LogPlace, Row};
use tombola_ledger::store::Store;
use tombola_store::block_on::block_on;

on_each_shared_store! {
    whoever_removes_a_writer_collects_its_fees_once
    fees_go_on_to_whoever_removes_the_remover
    what_a_removed_writer_writes_afterwards_is_refused
}

/// Five winners were paid through writer 0, which is dead; writer 1 removed it.
pub(crate) fn removed<S: Store>(store: S) -> World<S> {
    let mut dead = World::funded(store.clone());
    let mut alive = World::open_as(1, store).unwrap();
    let hold = dead.open_hold(100_000);
    dead.claim(TestBook::sure(&hold.body, 1, 8).claim(5)).unwrap();
    alive.claim(TestBook::sure(&hold.body, 2, 8).claim(2)).unwrap();
    assert_eq!(
        collect(&mut alive, 2 * FEE.0 + 1, "early"),
        Err(Code::InsufficientFunds)
    );
    alive.now = alive.now.plus_ms(HOUR_MS);
    block_on(alive.ledger.remove_writer(0, alive.now)).unwrap();
    alive
}

fn collect<S: Store>(world: &mut World<S>, amount: u64, name: &str) -> Result<u64, Code> {
    let command = Command::CollectFees {
        account: key(7).check().unwrap(),
        amount: Amount(amount),
        reference: reference(name),
    };
    match world.run_one(command) {
        Outcome::FeesCollected { amount, .. } => Ok(amount.0),
        Outcome::Rejected(reject) => Err(reject.code),
        other => panic!("{other:?}"),
    }
}

fn report<S: Store>(world: &World<S>, writer: u32) -> (i128, i128, i128) {
    let report = block_on(fee_report(world.ledger.store(), writer)).unwrap();
    (report.left, report.left_of_writer, report.collected)
}

/// Spec: G-07, G-13.
fn whoever_removes_a_writer_collects_its_fees_once<S: Store>(store: S) {
    let mut world = removed(store);
    let all = 7 * FEE.0;
    assert_eq!(report(&world, 1), (i128::from(all), i128::from(all), 0));
    assert_eq!(audited(&world).findings, []);
    let height = world.ledger.totals().height;
    block_on(world.ledger.remove_writer(0, world.now)).unwrap();
    assert_eq!(world.ledger.totals().height, height, "removing it again moves nothing");
    assert_eq!(collect(&mut world, all + 1, "more"), Err(Code::InsufficientFunds));
    assert_eq!(collect(&mut world, 6 * FEE.0, "q1"), Ok(6 * FEE.0));
    assert_eq!(audited(&world).findings, []);
    assert_eq!(collect(&mut world, FEE.0 + 1, "q2"), Err(Code::InsufficientFunds));
    assert_eq!(collect(&mut world, FEE.0, "q2"), Ok(FEE.0));
    world.fold();
    assert_eq!(world.balance(7), all);
    assert_eq!(report(&world, 1), (0, 0, i128::from(all)));
    assert_eq!(audited(&world).findings, []);
}

/// Spec: G-13.
fn fees_go_on_to_whoever_removes_the_remover<S: Store>(store: S) {
    let second = removed(store.clone());
    let mut third = World::open_as(2, store).unwrap();
    third.now = second.now.plus_ms(HOUR_MS);
    block_on(third.ledger.remove_writer(1, third.now)).unwrap();
    let all = 7 * FEE.0;
    assert_eq!(report(&third, 2), (i128::from(all), i128::from(all), 0));
    assert_eq!(audited(&third).findings, []);
    assert_eq!(collect(&mut third, all, "q1"), Ok(all));
    assert_eq!(audited(&third).findings, []);
}

/// Spec: G-13.
fn what_a_removed_writer_writes_afterwards_is_refused<S: Store>(store: S) {
    let mut paused = World::funded(store.clone());
    let mut alive = World::open_as(1, store.clone()).unwrap();
    alive.now = alive.now.plus_ms(HOUR_MS);
    let unknown = block_on(alive.ledger.remove_writer(5, alive.now));
    assert_eq!(unknown, Err(LedgerFault::WriterUnknown { writer: 5 }));
    let height = paused.ledger.totals().height;
    block_on(alive.ledger.remove_writer(0, alive.now)).unwrap();
    let batch = vec![World::<S>::deposit_command(2, 1, "late")];
    let late = block_on(paused.ledger.execute(batch, alive.now)).unwrap_err();
    assert_eq!(late, LedgerFault::Fenced { writer: 0 });
    // The log says where the removed one ended.
    let place = LogPlace { writer: 1, height: 1 };
    let stored = block_on(store.load(&[Key::event(place)])).unwrap().remove(0).unwrap();
    let Ok(Row::Events(event)) = Row::decode(tombola_ledger::row::Table::Events, &stored.bytes) else {
        panic!()
    };
    assert!(
        matches!(event.body.effect, Effect::WriterRemoved { writer: 0, height: last, .. } if last == height),
        "{event:?}"
    );
    // Whoever brings the removed one back to life behind the ledger's back is found out.
    let totals = block_on(writers(&store)).unwrap();
    assert!(totals[0].1.is_removed);
    crate::world::tamper(&alive, Key::totals(0), |row| {
        let Row::Totals(mut row) = row else { panic!() };
        row.is_removed = false;
        Some(Row::Totals(row))
    });
    assert_eq!(audited(&alive).findings, [Finding::Totals]);
}
