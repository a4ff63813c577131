//! Several stores on one database.

use super::{account, at, change, commit, event, get, mark, open, put, row};
use std::thread;
use tombola_ledger::row::Table;
use tombola_ledger::store::{Change, Reader, StoreFault};
use tombola_store::block_on::block_on;
use tombola_tests::postgres::Server;

#[test]
fn a_commit_from_another_version_changes_nothing() {
    let Some(store) = super::empty_store() else { return };
    put(&store, commit(0, b"1", vec![change(event(1), 0, b"a")])).unwrap();
    let gone = |before: u64| Change {
        key: event(1),
        before,
        after: None,
    };
    for wrong in [
        change(event(1), 0, b"b"),
        change(event(1), 2, b"b"),
        change(event(2), 1, b"b"),
        gone(0),
        gone(2),
    ] {
        let attempt = commit(1, b"2", vec![change(account(1), 0, b"c"), wrong.clone()]);
        assert_eq!(
            put(&store, attempt),
            Err(StoreFault::Conflict(Table::Events)),
            "{wrong:?}"
        );
        assert_eq!(get(&store, mark()), Some(row(1, b"1")));
        assert_eq!(get(&store, event(1)), Some(row(1, b"a")));
        assert_eq!(get(&store, account(1)), None);
    }
    put(&store, commit(1, b"2", vec![gone(1)])).unwrap();
    assert_eq!(get(&store, event(1)), None);
}

#[test]
fn a_commit_on_reads_that_changed_changes_nothing() {
    let Some(store) = super::empty_store() else { return };
    put(&store, commit(0, b"1", vec![change(event(1), 0, b"a")])).unwrap();
    for (key, version) in [(event(1), 0), (event(1), 2), (event(2), 1)] {
        let mut attempt = commit(1, b"2", Vec::new());
        attempt.reads = vec![(key, version)];
        assert_eq!(
            put(&store, attempt),
            Err(StoreFault::Conflict(Table::Events)),
            "{key:?}"
        );
        assert_eq!(get(&store, mark()), Some(row(1, b"1")));
    }
    let mut attempt = commit(1, b"2", Vec::new());
    attempt.reads = vec![(event(1), 1), (event(2), 0)];
    assert_eq!(put(&store, attempt), Ok(()));
}

/// A transaction that writes the row as it was: the server calls it a conflict (40001), the versions say it is none.
#[test]
fn a_commit_that_another_transaction_was_in_the_way_of_is_tried_again() {
    let Some(server) = Server::shared() else { return };
    let address = server.database();
    let name = super::name_of(&address);
    let store = open(&address).unwrap();
    put(&store, commit(0, b"1", vec![change(account(1), 0, b"a")])).unwrap();
    thread::scope(|scope| {
        let touch = "BEGIN; UPDATE tombola_accounts SET version = version; SELECT pg_sleep(1); COMMIT";
        let touching = scope.spawn(move || server.sql(name, touch));
        let is_asleep =
            format!("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = '{name}' AND wait_event = 'PgSleep'");
        while server.sql("postgres", &is_asleep).trim() != "1" {
            assert!(!touching.is_finished());
        }
        assert_eq!(put(&store, commit(1, b"2", vec![change(account(1), 1, b"b")])), Ok(()));
        touching.join().unwrap();
    });
    assert_eq!(get(&store, account(1)), Some(row(2, b"b")));
}

/// Two transactions that wait for each other: the server ends ours (40P01), as the other is told to wait for an hour.
#[test]
fn a_commit_that_a_deadlock_ended_is_tried_again() {
    let Some(server) = Server::shared() else { return };
    let address = server.database();
    let name = super::name_of(&address);
    let store = open(&address).unwrap();
    let first = vec![change(account(1), 0, b"a"), change(event(1), 0, b"e")];
    put(&store, commit(0, b"1", first)).unwrap();
    thread::scope(|scope| {
        // Ours takes the account and then waits for the event; then the other asks for the account.
        let cross = "BEGIN; SET LOCAL deadlock_timeout = '1h'; UPDATE tombola_events SET version = version;
            DO $$ BEGIN WHILE NOT EXISTS (SELECT 1 FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock')
            LOOP PERFORM pg_stat_clear_snapshot(); PERFORM pg_sleep(0.01); END LOOP; END $$;
            UPDATE tombola_accounts SET version = version; COMMIT";
        let crossing = scope.spawn(move || server.sql(name, cross));
        let is_asleep =
            format!("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = '{name}' AND wait_event = 'PgSleep'");
        while server.sql("postgres", &is_asleep).trim() != "1" {
            assert!(!crossing.is_finished());
        }
        let second = vec![change(account(1), 1, b"b"), change(event(1), 1, b"f")];
        assert_eq!(put(&store, commit(1, b"2", second)), Ok(()));
        crossing.join().unwrap();
    });
    assert_eq!(get(&store, account(1)), Some(row(2, b"b")));
    assert_eq!(get(&store, event(1)), Some(row(2, b"f")));
    // A session's counts are added when it ends. A try that comes too early meets the same deadlock once more.
    drop(store);
    let deadlocks = format!("SELECT deadlocks FROM pg_stat_database WHERE datname = '{name}'");
    while server.sql("postgres", &deadlocks).trim() == "0" {}
}

#[test]
fn of_several_conflicts_the_one_on_the_mark_is_told() {
    let Some(store) = super::empty_store() else { return };
    put(&store, commit(0, b"1", vec![change(account(1), 0, b"a")])).unwrap();
    let mut stale = commit(0, b"2", vec![change(event(1), 3, b"a")]);
    stale.reads = vec![(account(1), 0)];
    assert_eq!(put(&store, stale), Err(StoreFault::Conflict(mark().table())));
}

/// One row, several processes: each addition is made from what the last one left.
#[test]
fn racing_stores_lose_no_change_of_a_shared_row() {
    const STORES: u64 = 4;
    const EACH: u64 = 40;
    let Some(server) = Server::shared() else { return };
    let address = server.database();
    let shared = account(9);
    thread::scope(|scope| {
        for store in 0..STORES {
            let address = &address;
            scope.spawn(move || {
                let store_number = store;
                let store = open(address).unwrap();
                let mine = at(Table::Totals, &[store_number + 1]);
                for done in 0..EACH {
                    loop {
                        let rows = block_on(store.load(&[shared])).unwrap();
                        let (before, sum) = rows[0].as_ref().map_or((0, 0), |row| (row.version, row.bytes[0]));
                        let mut attempt = commit(0, &[], Vec::new());
                        attempt.changes = vec![change(mine, done, &[]), change(shared, before, &[sum + 1])];
                        attempt.mark = mine;
                        match put(&store, attempt) {
                            Ok(()) => break,
                            Err(StoreFault::Conflict(_)) => {}
                            Err(fault) => panic!("{fault}"),
                        }
                    }
                }
            });
        }
    });
    let store = open(&address).unwrap();
    let total = STORES * EACH;
    assert_eq!(get(&store, shared), Some(row(total, &[u8::try_from(total).unwrap()])));
}

/// Each reads what the other writes. One at a time both may, both together never: that is what `reads` are for.
#[test]
fn two_stores_never_decide_on_what_the_other_is_changing() {
    let Some(server) = Server::shared() else { return };
    let address = server.database();
    let stores = [open(&address).unwrap(), open(&address).unwrap()];
    for round in 0..30u64 {
        let keys = [account(2 * round), account(2 * round + 1)];
        let outcomes = thread::scope(|scope| {
            let run = |me: usize| {
                let (store, keys) = (&stores[me], &keys);
                scope.spawn(move || {
                    let mark = at(Table::Totals, &[u64::try_from(me + 1).unwrap()]);
                    let version = get(store, mark).map_or(0, |row| row.version);
                    let mut attempt = commit(0, &[], Vec::new());
                    attempt.changes = vec![change(mark, version, &[]), change(keys[me], 0, b"took")];
                    attempt.reads = vec![(keys[1 - me], 0)];
                    attempt.mark = mark;
                    put(store, attempt)
                })
            };
            let racing = [run(0), run(1)];
            racing.map(|thread| thread.join().unwrap())
        });
        assert!(
            outcomes.iter().filter(|outcome| outcome.is_ok()).count() <= 1,
            "{outcomes:?}"
        );
    }
}
