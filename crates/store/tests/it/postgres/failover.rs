//! A primary that dies under load, and the standby that takes over.

use super::{at, change, commit, get, mark, open, put};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tombola_ledger::row::Table;
use tombola_ledger::store::{Range, Reader};
use tombola_store::block_on::block_on;
use tombola_tests::postgres::Cluster;
use tombola_tests::without::is_without;

/// Spec: W-16. Two writers commit without a pause; each counts its commits in its own row and leaves an event for each.
#[test]
fn a_killed_primary_loses_nothing_that_was_acknowledged() {
    const WRITERS: u64 = 2;
    const AFTER: u64 = 50;
    if is_without("postgres") {
        return;
    }
    let mut cluster = Cluster::primary_with_standby();
    let address = cluster.address("postgres");
    let acknowledged: Vec<AtomicU64> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
    let is_promoted = AtomicU64::new(u64::MAX);
    let wait_for = |is_so: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(2));
        }
    };
    thread::scope(|scope| {
        for (writer, count) in (0..WRITERS).zip(&acknowledged) {
            let (address, is_promoted) = (&address, &is_promoted);
            scope.spawn(move || {
                let store = open(address).unwrap();
                let mine = at(Table::Totals, &[writer]);
                for done in 0u64.. {
                    if done >= is_promoted.load(Ordering::SeqCst).saturating_add(AFTER) {
                        break;
                    }
                    let event = at(Table::Events, &[writer, done]);
                    let mut next = commit(0, &[], Vec::new());
                    next.changes = vec![change(mine, done, &done.to_le_bytes()), change(event, 0, &[1; 500])];
                    next.mark = mine;
                    // The only writer of these rows: whatever happens to servers, nothing conflicts and nothing fails.
                    put(&store, next).unwrap();
                    count.store(done + 1, Ordering::SeqCst);
                }
            });
        }
        wait_for(&|| acknowledged.iter().all(|count| count.load(Ordering::SeqCst) > 50));
        cluster.kill_primary();
        let at_kill = acknowledged
            .iter()
            .map(|count| count.load(Ordering::SeqCst))
            .max()
            .unwrap();
        cluster.promote();
        is_promoted.store(at_kill, Ordering::SeqCst);
    });
    let store = open(&cluster.address("postgres")).unwrap();
    for (writer, count) in (0..WRITERS).zip(&acknowledged) {
        let count = count.load(Ordering::SeqCst);
        let mine = at(Table::Totals, &[writer]);
        assert_eq!(get(&store, mine).unwrap().version, count);
        let event = |n: u64| at(Table::Events, &[writer, n]);
        let range = Range {
            from: event(0),
            to: Some(event(u64::MAX)),
            limit: usize::MAX,
        };
        let events = block_on(store.scan(&range)).unwrap();
        assert_eq!(u64::try_from(events.len()).unwrap(), count);
        assert!(
            events
                .iter()
                .zip(0..)
                .all(|((key, row), n)| *key == event(n) && row.version == 1)
        );
    }
    assert_eq!(
        get(&store, mark()).map(|row| row.version),
        acknowledged.first().map(|count| count.load(Ordering::SeqCst))
    );
}
