//! A server that says nothing more while its connections stay open: each wait for it has an end.

use super::proxy::Proxy;
use super::{commit, event, get, mark, put, row};
use std::time::Duration;
use tombola_ledger::store::{Store, StoreFault};
use tombola_store::block_on::block_on;
use tombola_store::postgres_store::PostgresStore;
use tombola_tests::postgres::Server;

/// A proxy before a new database, and the database's address through it.
fn proxied(server: &Server) -> (Proxy, String) {
    let proxy = Proxy::before(server.host());
    let through = format!("127.0.0.1:{}", proxy.port);
    let address = server.database().replace(&server.host(), &through);
    (proxy, address)
}

fn open(address: &str, patience: Duration) -> Result<PostgresStore, StoreFault> {
    block_on(PostgresStore::open_with_patience(address, super::runtime(), patience))
}

#[test]
fn a_server_silent_while_a_store_is_opened_is_unreachable() {
    let Some(server) = Server::shared() else { return };
    let patience = Duration::from_secs(1);
    for text in ["SHOW fsync", "SET enable_seqscan", "tombola_schema"] {
        let (proxy, address) = proxied(server);
        proxy.fall_silent_at(text, 1);
        let opened = open(&address, patience);
        assert!(proxy.has_fallen_silent(), "{text}");
        assert_eq!(opened.err(), Some(StoreFault::Unreachable), "{text}");
        assert!(open(&address, patience).is_ok(), "{text}");
    }
}

#[test]
fn a_connection_silent_before_its_first_commit_is_replaced() {
    let Some(server) = Server::shared() else { return };
    for text in ["SHOW synchronous_commit", "idle_in_transaction_session_timeout"] {
        let (proxy, address) = proxied(server);
        let store = open(&address, Duration::from_secs(6)).unwrap();
        proxy.fall_silent_at(text, 1);
        assert_eq!(put(&store, commit(0, b"1", Vec::new())), Ok(()), "{text}");
        assert!(proxy.has_fallen_silent(), "{text}");
        assert_eq!(get(&store, mark()), Some(row(1, b"1")), "{text}");
    }
}

/// More snapshots than there may be at once: one that is not let go of by its server makes room all the same.
#[test]
fn a_snapshot_whose_end_is_not_heard_makes_room_for_the_next() {
    const MORE_THAN_AT_ONCE: usize = 10;
    let Some(server) = Server::shared() else { return };
    let (proxy, address) = proxied(server);
    let store = open(&address, Duration::from_secs(6)).unwrap();
    put(&store, commit(0, b"1", vec![super::change(event(1), 0, b"a")])).unwrap();
    proxy.fall_silent_at("ROLLBACK", MORE_THAN_AT_ONCE);
    for _ in 0..MORE_THAN_AT_ONCE {
        let snapshot = block_on(store.snapshot()).unwrap();
        assert_eq!(get(&snapshot, mark()), Some(row(1, b"1")));
    }
    let last = block_on(store.snapshot()).unwrap();
    assert_eq!(get(&last, event(1)), Some(row(1, b"a")));
    assert!(proxy.has_fallen_silent());
}
