//! The store on a real PostgreSQL server: what it refuses, what it does when connections and servers die.

mod clock;
mod connections;
mod failover;
mod opening;
mod proxy;
mod races;
mod silence;
mod statements;

use std::sync::OnceLock;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tombola_ledger::key::Key;
use tombola_ledger::row::Table;
use tombola_ledger::store::{Change, Commit, Reader, Store, StoreFault, Stored};
use tombola_store::block_on::block_on;
use tombola_store::postgres_store::PostgresStore;
use tombola_tests::postgres::Server;

/// The runtime of all stores of these tests; the tests themselves are on threads without one, as the writer is.
pub(crate) fn runtime() -> Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let make = || {
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    };
    RUNTIME.get_or_init(make).handle().clone()
}

/// Longer than a busy machine takes for what must happen, short enough for what must not.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn open(address: &str) -> Result<PostgresStore, StoreFault> {
    block_on(PostgresStore::open_with_patience(address, runtime(), PATIENCE))
}

/// The name of the database of an address.
pub(crate) fn name_of(address: &str) -> &str {
    let name = address.rsplit('/').next().unwrap();
    name.split('?').next().unwrap()
}

/// A store in a new database of the shared server; none where these tests are left out.
pub(crate) fn empty_store() -> Option<PostgresStore> {
    let server = Server::shared()?;
    Some(open(&server.database()).unwrap())
}

/// The row that every commit of these tests changes.
fn mark() -> Key {
    at(Table::Totals, &[0])
}

/// A key of these numbers; the store does not care what they mean.
fn at(table: Table, numbers: &[u64]) -> Key {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    Key::from_bytes(table, &bytes)
}

fn event(number: u64) -> Key {
    at(Table::Events, &[number])
}

fn account(number: u64) -> Key {
    at(Table::Accounts, &[number])
}

fn row(version: u64, body: &[u8]) -> Stored {
    Stored {
        version,
        bytes: body.to_vec(),
    }
}

fn change(key: Key, before: u64, body: &[u8]) -> Change {
    Change {
        key,
        before,
        after: Some(row(before + 1, body)),
    }
}

/// Changes the mark from `before`, and these rows with it.
fn commit(before: u64, body: &[u8], others: Vec<Change>) -> Commit {
    let mut changes = others;
    changes.push(change(mark(), before, body));
    changes.sort_unstable_by_key(|change| change.key);
    Commit {
        changes,
        reads: Vec::new(),
        mark: mark(),
    }
}

fn put(store: &PostgresStore, commit: Commit) -> Result<(), StoreFault> {
    block_on(store.commit(commit))
}

fn get<R: Reader>(reader: &R, key: Key) -> Option<Stored> {
    block_on(reader.load(&[key])).unwrap().remove(0)
}
