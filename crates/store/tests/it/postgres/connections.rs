//! Connections that are lost at the worst moment, and what a snapshot sees.

use super::proxy::{Cut, Proxy};
use super::{change, commit, event, get, mark, open, put, row};
use crate::world::World;
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;
use tombola_ledger::store::{Change, Commit, Range, Reader, Snapshot, Store, StoreFault};
use tombola_store::block_on::block_on;
use tombola_store::postgres_store::PostgresStore;
use tombola_tests::postgres::Server;

/// A store behind a proxy, another one that is not, and the proxy.
fn behind_a_proxy(server: &Server) -> (PostgresStore, PostgresStore, Proxy) {
    let address = server.database();
    let proxy = Proxy::before(server.host());
    let behind = address.replace(&server.host(), &format!("127.0.0.1:{}", proxy.port));
    let direct = open(&address).unwrap();
    (open(&behind).unwrap(), direct, proxy)
}

fn wait_until(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < super::PATIENCE);
        thread::sleep(Duration::from_millis(2));
    }
}

/// Commits while the proxy cuts the connection, lets `meanwhile` happen, and opens the way again.
fn commit_cut(
    cut: Cut,
    before: u64,
    meanwhile: impl FnOnce(&PostgresStore),
) -> Option<(Result<(), StoreFault>, PostgresStore)> {
    let server = Server::shared()?;
    let (store, direct, proxy) = behind_a_proxy(server);
    for version in 0..before {
        put(&store, commit(version, &[], Vec::new())).unwrap();
    }
    proxy.cut_and_close(cut);
    let outcome = thread::scope(|scope| {
        let wanted = commit(before, b"mine", vec![change(event(1), 0, b"event")]);
        let committing = scope.spawn(|| put(&store, wanted));
        wait_until(|| proxy.is_cut());
        meanwhile(&direct);
        proxy.open();
        committing.join().unwrap()
    });
    Some((outcome, direct))
}

#[test]
fn a_commit_whose_answer_was_lost_is_known_to_have_landed() {
    for before in [0, 1] {
        let landed = |direct: &PostgresStore| assert_eq!(get(direct, mark()), Some(row(before + 1, b"mine")));
        let Some((outcome, direct)) = commit_cut(Cut::AfterCommit, before, landed) else {
            return;
        };
        assert_eq!(outcome, Ok(()));
        assert_eq!(get(&direct, event(1)), Some(row(1, b"event")));
        assert_eq!(get(&direct, mark()), Some(row(before + 1, b"mine")));
    }
}

#[test]
fn a_commit_that_never_arrived_is_sent_again() {
    for before in [0, 1] {
        let Some((outcome, direct)) = commit_cut(Cut::BeforeCommit, before, |_| {}) else {
            return;
        };
        assert_eq!(outcome, Ok(()));
        assert_eq!(get(&direct, event(1)), Some(row(1, b"event")));
        assert_eq!(get(&direct, mark()), Some(row(before + 1, b"mine")));
    }
}

#[test]
fn a_commit_in_doubt_of_which_another_took_over_is_a_conflict() {
    for (cut, lost_at) in [(Cut::BeforeCommit, 1), (Cut::AfterCommit, 2)] {
        let overtake = |direct: &PostgresStore| put(direct, commit(lost_at, b"another", Vec::new())).unwrap();
        let Some((outcome, direct)) = commit_cut(cut, 1, overtake) else {
            return;
        };
        assert_eq!(outcome, Err(StoreFault::Conflict(mark().table())), "{cut:?}");
        assert_eq!(get(&direct, mark()), Some(row(lost_at + 1, b"another")));
    }
}

/// The lost transaction holds the row of the mark until the server gives up on it, which is before the store does.
#[test]
fn a_connection_that_falls_silent_is_given_up_in_time() {
    let Some(server) = Server::shared() else { return };
    for cut in [Cut::SilentBeforeCommit, Cut::SilentAfterCommit] {
        let proxy = Proxy::before(server.host());
        let behind = server
            .database()
            .replace(&server.host(), &format!("127.0.0.1:{}", proxy.port));
        let opened = PostgresStore::open_with_patience(&behind, super::runtime(), Duration::from_secs(9));
        let store = block_on(opened).unwrap();
        put(&store, commit(0, b"1", Vec::new())).unwrap();
        proxy.cut_and_close(cut);
        assert_eq!(put(&store, commit(1, b"2", Vec::new())), Ok(()), "{cut:?}");
        assert!(proxy.is_cut());
        assert_eq!(get(&store, mark()), Some(row(2, b"2")));
    }
}

/// The mark is a new row, which nobody can lock: the store finds nothing, commits again, and meets itself.
#[test]
fn a_commit_that_lands_while_it_is_sent_again_is_one_commit() {
    let Some(server) = Server::shared() else { return };
    let proxy = Proxy::before(server.host());
    let address = server.database();
    let behind = address.replace(&server.host(), &format!("127.0.0.1:{}", proxy.port));
    let opened = PostgresStore::open_with_patience(&behind, super::runtime(), Duration::from_secs(12));
    let store = block_on(opened).unwrap();
    proxy.cut_and_close(Cut::Late);
    let name = super::name_of(&address);
    let is_waiting =
        format!("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = '{name}' AND wait_event_type = 'Lock'");
    thread::scope(|scope| {
        let committing = scope.spawn(|| put(&store, commit(0, b"1", vec![change(event(1), 0, b"a")])));
        wait_until(|| server.sql("postgres", &is_waiting).trim() == "1");
        proxy.let_through();
        assert_eq!(committing.join().unwrap(), Ok(()));
    });
    assert_eq!(get(&store, mark()), Some(row(1, b"1")));
    assert_eq!(get(&store, event(1)), Some(row(1, b"a")));
}

/// A store whose only thread can be made to stand still for longer than its patience, as a process does that is stopped
/// by SIGSTOP.
struct StandingStill {
    store: PostgresStore,
    thread: Runtime,
}

impl StandingStill {
    /// A server's turn is a third of it, and standing still begins within the first.
    const PATIENCE: Duration = Duration::from_secs(6);

    fn open(address: &str) -> Self {
        let mut thread = tokio::runtime::Builder::new_multi_thread();
        let thread = thread.worker_threads(1).enable_all().build().unwrap();
        let opened = PostgresStore::open_with_patience(address, thread.handle().clone(), Self::PATIENCE);
        let store = block_on(opened).unwrap();
        Self { store, thread }
    }

    fn stand_still(&self) {
        let longer = Self::PATIENCE + Duration::from_secs(2);
        let standing = self.thread.spawn(async move { thread::sleep(longer) });
        block_on(standing).unwrap();
    }
}

/// The server undoes meanwhile what had begun.
#[test]
fn a_store_that_stood_still_in_a_commit_goes_on() {
    let Some(server) = Server::shared() else { return };
    let proxy = Proxy::before(server.host());
    let behind = server
        .database()
        .replace(&server.host(), &format!("127.0.0.1:{}", proxy.port));
    let still = StandingStill::open(&behind);
    put(&still.store, commit(0, b"1", Vec::new())).unwrap();
    proxy.cut_and_close(Cut::SilentBeforeCommit);
    thread::scope(|scope| {
        let committing = scope.spawn(|| put(&still.store, commit(1, b"2", Vec::new())));
        wait_until(|| proxy.is_cut());
        still.stand_still();
        assert_eq!(committing.join().unwrap(), Ok(()));
    });
    assert_eq!(get(&still.store, mark()), Some(row(2, b"2")));
}

/// It waits for a table that somebody else has locked, and asks again.
#[test]
fn a_store_that_stood_still_in_a_read_goes_on() {
    let Some(server) = Server::shared() else { return };
    let address = server.database();
    let still = StandingStill::open(&address);
    put(&still.store, commit(0, b"1", Vec::new())).unwrap();
    let client = || {
        let (client, connection) = super::runtime()
            .block_on(tokio_postgres::connect(&address, NoTls))
            .unwrap();
        drop(super::runtime().spawn(connection));
        client
    };
    let (locking, watching) = (client(), client());
    let lock = format!(
        "BEGIN; LOCK TABLE tombola_{} IN ACCESS EXCLUSIVE MODE",
        mark().table().name()
    );
    super::runtime().block_on(locking.batch_execute(&lock)).unwrap();
    let waiting = || {
        let count =
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let row = super::runtime().block_on(watching.query_one(count, &[])).unwrap();
        row.get::<_, i64>(0)
    };
    thread::scope(|scope| {
        let reading = scope.spawn(|| block_on(still.store.load(&[mark()])));
        wait_until(|| waiting() > 0);
        let before = waiting();
        still.stand_still();
        // A server does not see that a client which waits for a lock has gone, so both count.
        wait_until(|| waiting() > before);
        super::runtime().block_on(locking.batch_execute("COMMIT")).unwrap();
        assert_eq!(reading.join().unwrap(), Ok(vec![Some(row(1, b"1"))]));
    });
}

#[test]
fn a_store_that_finds_no_server_in_time_stops() {
    let Some(server) = Server::shared() else { return };
    let proxy = Proxy::before(server.host());
    let behind = server
        .database()
        .replace(&server.host(), &format!("127.0.0.1:{}", proxy.port));
    let patience = Duration::from_secs(2);
    let opened = PostgresStore::open_with_patience(&behind, super::runtime(), patience);
    let store = block_on(opened).unwrap();
    proxy.cut_and_close(Cut::AfterCommit);
    assert_eq!(put(&store, commit(0, b"1", Vec::new())), Err(StoreFault::Unreachable));
    proxy.open();
    assert_eq!(put(&store, commit(0, b"1", Vec::new())), Err(StoreFault::Stopped));
    // Reading goes on, and opening the store again decides.
    assert_eq!(get(&store, mark()), Some(row(1, b"1")));
}

#[test]
fn killed_connections_are_replaced() {
    let Some(server) = Server::shared() else { return };
    let address = server.database();
    let name = super::name_of(&address);
    let store = open(&address).unwrap();
    let snapshot = block_on(store.snapshot()).unwrap();
    for version in 0..5 {
        put(&store, commit(version, &[], Vec::new())).unwrap();
        assert_eq!(get(&store, mark()).unwrap().version, version + 1);
        let kill = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        assert!(server.sql("postgres", &kill).lines().count() >= 2);
    }
    assert_eq!(block_on(snapshot.load(&[mark()])), Err(StoreFault::Unreachable));
}

#[test]
fn for_a_snapshot_time_stands_still() {
    let Some(store) = super::empty_store() else { return };
    put(&store, commit(0, b"1", vec![change(event(1), 0, b"a")])).unwrap();
    let snapshot = block_on(store.snapshot()).unwrap();
    // It was not read from before the next commit.
    let gone = Change {
        key: event(1),
        before: 1,
        after: None,
    };
    put(&store, commit(1, b"2", vec![gone, change(event(2), 0, b"b")])).unwrap();
    let range = Range {
        from: event(0),
        to: None,
        limit: 10,
    };
    let seen = block_on(snapshot.scan(&range)).unwrap();
    assert_eq!(seen, [(event(1), row(1, b"a"))]);
    assert_eq!(get(&snapshot, mark()), Some(row(1, b"1")));
    assert_eq!(block_on(store.scan(&range)).unwrap(), [(event(2), row(1, b"b"))]);
    // More of them than there may be at once, one after another, and some together.
    for _ in 0..20 {
        let two = [(); 2].map(|()| block_on(store.snapshot()).unwrap());
        assert!(two.iter().all(|snapshot| get(snapshot, mark()) == Some(row(2, b"2"))));
    }
}

/// As many as there may be at once, all of them held while a ledger decides by a snapshot of its own and commits.
#[test]
fn a_writer_waits_for_no_reader_however_many_snapshots_are_open() {
    const READ_AT_ONCE: usize = 8;
    let Some(server) = Server::shared() else { return };
    let patience = Duration::from_secs(6);
    let store = block_on(PostgresStore::open_with_patience(
        &server.database(),
        super::runtime(),
        patience,
    ));
    let store = store.unwrap();
    let mut world = World::open(store.clone()).unwrap();
    let reading = [(); READ_AT_ONCE].map(|()| block_on(store.snapshot()).unwrap());
    let one_more = block_on(store.snapshot()).map(drop);
    assert_eq!(
        one_more,
        Err(StoreFault::Unreachable),
        "there is room for another reader"
    );
    for n in 1..=5 {
        world.deposit(2, 10, &format!("deposit {n}")).unwrap();
    }
    assert_eq!(world.balance(2), 50);
    drop(reading);
}

#[test]
fn a_load_sees_one_moment_and_keeps_the_order_it_was_asked_in() {
    let Some(store) = super::empty_store() else { return };
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for version in 0..100 {
                let event = change(event(7), version, &[]);
                put(&store, commit(version, &[], vec![event])).unwrap();
            }
        });
        let keys = [event(7), mark(), event(8), event(7)];
        while !writer.is_finished() {
            let rows = block_on(store.load(&keys)).unwrap();
            let versions: Vec<u64> = rows
                .iter()
                .map(|row| row.as_ref().map_or(0, |row| row.version))
                .collect();
            assert_eq!(versions, [versions[0], versions[0], 0, versions[0]]);
        }
    });
}

#[test]
fn the_clock_is_the_servers_and_moves() {
    let Some(store) = super::empty_store() else { return };
    let now = || block_on(store.snapshot()).unwrap().clock().unwrap().at.0;
    let outside = || u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let (before, first) = (outside(), now());
    assert!(first + 1 >= before, "{first} {before}");
    wait_until(|| now() > first);
    assert!(now() <= outside() + 1);
}

#[test]
fn an_empty_commit_has_no_mark_and_is_refused() {
    let Some(store) = super::empty_store() else { return };
    let empty = Commit {
        changes: Vec::new(),
        reads: Vec::new(),
        mark: mark(),
    };
    assert_eq!(put(&store, empty), Err(StoreFault::Damaged));
}
