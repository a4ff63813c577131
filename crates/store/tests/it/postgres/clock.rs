//! A writer whose clock is not the server's stops, with the batch that shows it.

use super::empty_store;
use crate::world::config;
use tombola_core::amount::{Amount, Timestamp};
use tombola_ledger::ledger::{Command, Ledger, LedgerFault};
use tombola_ledger::store::{Snapshot, Store};
use tombola_store::block_on::block_on;
use tombola_store::postgres_store::PostgresStore;

const LIMIT_MS: u64 = 5_000;

fn now(store: &PostgresStore) -> Timestamp {
    block_on(store.snapshot()).unwrap().clock().unwrap().at
}

fn ledger(store: &PostgresStore) -> Ledger<PostgresStore> {
    let mut ledger = block_on(Ledger::open(store.clone(), config(), now(store))).unwrap();
    ledger.limit_clock(LIMIT_MS);
    ledger
}

fn deposit() -> Vec<Command> {
    vec![Command::Deposit {
        account: crate::world::key(2).check().unwrap(),
        amount: Amount(5),
        reference: crate::world::reference("five"),
    }]
}

/// Spec: C-06.
#[test]
fn a_writer_off_the_servers_clock_stops_with_its_next_batch() {
    let Some(store) = empty_store() else { return };
    for (skew, is_ahead) in [(LIMIT_MS + 60_000, true), (LIMIT_MS + 60_000, false)] {
        let mut ledger = ledger(&store);
        let height = ledger.totals().height;
        let here = if is_ahead {
            now(&store).plus_ms(skew)
        } else {
            now(&store).minus_ms(skew)
        };
        let fault = block_on(ledger.execute(deposit(), here)).unwrap_err();
        let LedgerFault::ClockApart {
            here: told,
            there,
            apart_ms,
            limit_ms,
        } = fault
        else {
            panic!("{fault:?}")
        };
        assert_eq!((told, limit_ms), (here, LIMIT_MS));
        // The server's clock goes on between reading it here and there; what was waited for does not count.
        assert!(
            apart_ms > LIMIT_MS && apart_ms <= there.0.abs_diff(here.0),
            "{apart_ms}"
        );
        assert_eq!(
            block_on(ledger.execute(Vec::new(), now(&store))),
            Err(LedgerFault::Stopped)
        );
        assert_eq!(ledger.totals().height, height, "nothing of it was kept");
    }
}

/// Spec: C-06.
#[test]
fn a_writer_within_the_limit_works_and_an_unlimited_one_is_not_asked() {
    let Some(store) = empty_store() else { return };
    let mut ledger = ledger(&store);
    let early = now(&store).minus_ms(LIMIT_MS / 2);
    assert_eq!(block_on(ledger.execute(deposit(), early)).unwrap().len(), 1);
    let late = now(&store).plus_ms(LIMIT_MS / 2);
    assert_eq!(block_on(ledger.execute(deposit(), late)).unwrap().len(), 1);
    let mut unlimited = block_on(Ledger::open(store.clone(), config(), now(&store))).unwrap();
    let far = now(&store).plus_ms(100 * LIMIT_MS);
    assert_eq!(block_on(unlimited.execute(deposit(), far)).unwrap().len(), 1);
}
