//! The store that several escrow processes share, on PostgreSQL.
//!
//! # Tables, version 1
//!
//! One SQL table `tombola_NAME` for each [`Table`](tombola_ledger::row::Table), in the schema that new tables of the connection are made in, and
//! `tombola_schema`, which holds the version of all of them. They are made in one transaction when a database has none;
//! a newer version is refused ([`StoreFault::FileFormat`]), and so are tables with these names and other columns
//! ([`StoreFault::Foreign`]).
//!
//! | column | type | |
//! | --- | --- | --- |
//! | `home` | `BIGINT` | the first 8 bytes of the key, big-endian, the top bit flipped so that signed order is key order |
//! | `key` | `BYTEA` | the rest of the key |
//! | `version` | `BIGINT` | 1 when first written, larger with each change |
//! | `body` | `BYTEA` | the row, in the same bytes as in a file of [`RedbStore`](crate::redb_store::RedbStore) |
//!
//! The primary key is (`home`, `key`), and there is no other index. `home` is what a distributed engine shards by: the
//! row number of an account leads the keys of all that belongs to it.
//!
//! The statements are standard SQL and a few forms that PostgreSQL-compatible engines share: arrays by `UNNEST`, rows
//! compared in order, `UPDATE .. FROM`, `DELETE .. USING`. There are no triggers, no code in the server, no advisory
//! locks, no notifications, no sequences; a test checks every statement against the list of allowed forms. The tests
//! run on PostgreSQL 15. **CockroachDB, YugabyteDB and Citus were not run.** Settings that speed PostgreSQL's planner
//! up are sent to each engine and not insisted on.
//!
//! # Why a commit is all or nothing, and known to be
//!
//! 1. A commit is one `SERIALIZABLE` transaction. Each change names the version that it was made from; one statement
//!    for each table and kind of change takes all of its rows as arrays, and the number of rows that it met is compared
//!    with the number that it was given. One row short, and all is rolled back: [`StoreFault::Conflict`]. Rows that were
//!    only read are counted in the same way in the same transaction.
//! 2. All statements of a commit share one round trip; `COMMIT` is the second.
//! 3. Where the server says that transactions got in each other's way (40001, 40P01), the same commit is tried again, a
//!    bounded number of times, then given back as a conflict.
//! 4. `synchronous_commit` is set to `on` for each connection (or left at `remote_apply`), and a server with
//!    `fsync = off` is refused, so `COMMIT` is answered when it is on the disk of the server and of each synchronous
//!    standby. To lose nothing when a server is lost, name one in `synchronous_standby_names`.
//! 5. A connection that is lost before `COMMIT` was sent changed nothing, and the whole is sent again. One that is lost
//!    afterwards leaves the commit **in doubt**: the store finds a server that takes writes, locks the row that the
//!    commit names as its mark, which waits for the lost transaction to end, and reads it. The row is as the commit
//!    leaves it: committed. As the commit found it: not committed, sent again. Anything else: another incarnation of
//!    this writer took over, and the answer is a conflict on the mark's table. A server that does not answer for a
//!    third of the store's patience counts as lost. If no answer is found in time, the store stops. Patience
//!    begins when a server is first missed, so time in which the process itself was stopped is no part of it.
//! 6. After any fault but a conflict the store refuses every further commit until it is opened again.
//!
//! # Failover
//!
//! `postgres://user@a,b/db` names both servers; the first one that takes writes is used, at the start and whenever a
//! connection is lost. Reads are repeated, commits resolved as above, for as long as the store's patience lasts.
//!
//! # TLS
//!
//! `sslmode=disable`, `prefer` (the default) or `require`. Unlike in libpq, a certificate that a server shows is always
//! verified, name included, whatever the mode: by the roots in the PEM file `sslrootcert=`, or by those of the system.
//! `verify-ca` and `verify-full` are taken as `require`, and all three then mean `verify-full`. TLS 1.3 only; unix
//! sockets have none.

mod address;
mod batch;
mod commit;
mod password_file;
mod patience;
mod place;
mod read;
mod schema;
mod session;
pub mod statement;
mod trouble;
mod waiting;

pub use read::PostgresSnapshot;

use address::Address;
use commit::Writer;
use patience::Patience;
use read::{Readers, WhichRange, WhichRows};
use session::Session;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tombola_ledger::key::Key;
use tombola_ledger::store::{Commit, Range, Reader, Sharing, Store, StoreFault, Stored};
use trouble::Trouble;

/// How long a store waits for a server that takes writes once it misses one, unless it is told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A database that takes the rows of a ledger; clones share its connections.
///
/// Everything runs on the runtime that it was opened with, so its futures may be awaited anywhere, on threads without a
/// runtime as well.
#[derive(Clone)]
pub struct PostgresStore {
    shared: Arc<Shared>,
    runtime: Handle,
}

struct Shared {
    address: Address,
    patience: Duration,
    writer: tokio::sync::Mutex<Writer>,
    readers: Readers,
}

impl PostgresStore {
    /// Opens the database of an address, `postgres://user:password@host:port/database?parameters`, and makes the
    /// ledger's tables where there are none.
    ///
    /// # Errors
    /// [`StoreFault::Address`], [`StoreFault::Unreachable`], [`StoreFault::Untrusted`], [`StoreFault::NotDurable`],
    /// [`StoreFault::Foreign`], [`StoreFault::FileFormat`], [`StoreFault::Server`].
    pub async fn open(address: &str, runtime: Handle) -> Result<Self, StoreFault> {
        Self::open_with_patience(address, runtime, PATIENCE).await
    }

    /// As [`Self::open`], waiting so long for a server that takes writes, later, when a connection is lost.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with_patience(address: &str, runtime: Handle, patience: Duration) -> Result<Self, StoreFault> {
        let address = Address::parse(address)?;
        let shared = spawned(&runtime, Shared::open(address, patience)).await?;
        let shared = Arc::new(shared);
        Ok(Self { shared, runtime })
    }
}

impl Shared {
    async fn open(address: Address, patience: Duration) -> Result<Self, StoreFault> {
        let session = address.connect().await.map_err(Trouble::fault)?;
        let mut waiting = Patience::new(patience);
        waiting.whole(session.settle()).await?.map_err(Trouble::fault)??;
        waiting
            .whole(schema::prepare(&session))
            .await?
            .map_err(Trouble::fault)??;
        // It makes the first reader; the writer connects when it first commits.
        let readers = Readers::default();
        readers.keep(session);
        Ok(Self {
            address,
            patience,
            writer: tokio::sync::Mutex::default(),
            readers,
        })
    }

    /// Patience with the servers, beginning now.
    fn patience(&self) -> Patience {
        Patience::new(self.patience)
    }

    /// After how long a server undoes what we began and left: later than we give it up, so that nothing is undone that
    /// only took its time, and early enough to try again.
    fn abandoned_after(&self) -> Duration {
        self.patience.checked_div(2).unwrap_or_default()
    }

    /// A connection to a server that takes writes, as soon as there is one.
    async fn connect(&self, patience: &mut Patience) -> Result<Session, StoreFault> {
        loop {
            // Hosts that do not answer are tried one after another, so a login has no turn but a limit of its own.
            match patience.whole(self.address.connect()).await? {
                Ok(session) => match patience.turn(session.settle()).await {
                    Some(Ok(settled)) => return settled.map(|()| session),
                    Some(Err(Trouble::Lost)) | None => patience.pause().await?,
                    Some(Err(trouble)) => return Err(trouble.fault()),
                },
                Err(Trouble::Lost) => patience.pause().await?,
                Err(trouble) => return Err(trouble.fault()),
            }
        }
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address has a password in it.
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

impl Reader for PostgresStore {
    async fn load(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreFault> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let (shared, job) = (Arc::clone(&self.shared), WhichRows(keys.to_vec()));
        spawned(&self.runtime, async move { shared.read(&job).await }).await
    }

    async fn scan(&self, range: &Range) -> Result<Vec<(Key, Stored)>, StoreFault> {
        let (shared, job) = (Arc::clone(&self.shared), WhichRange(*range));
        spawned(&self.runtime, async move { shared.read(&job).await }).await
    }
}

impl Store for PostgresStore {
    type Snapshot = PostgresSnapshot;

    fn sharing(&self) -> Sharing {
        Sharing::Shared
    }

    async fn snapshot(&self) -> Result<PostgresSnapshot, StoreFault> {
        let (shared, runtime) = (Arc::clone(&self.shared), self.runtime.clone());
        let places = Arc::clone(&shared.readers.snapshots);
        spawned(&self.runtime, PostgresSnapshot::begin(shared, runtime, places)).await
    }

    async fn snapshot_to_write(&self) -> Result<PostgresSnapshot, StoreFault> {
        let (shared, runtime) = (Arc::clone(&self.shared), self.runtime.clone());
        let places = Arc::clone(&shared.readers.snapshots_to_write);
        spawned(&self.runtime, PostgresSnapshot::begin(shared, runtime, places)).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreFault> {
        let shared = Arc::clone(&self.shared);
        // On a task of its own it comes to its end even if nobody waits for it any more.
        spawned(&self.runtime, async move {
            shared.writer.lock().await.commit(&shared, &commit).await
        })
        .await
    }
}

/// Runs on the runtime, whose timers and sockets it needs, wherever it is awaited.
async fn spawned<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = Result<T, StoreFault>> + Send + 'static,
) -> Result<T, StoreFault> {
    // It ends without an answer only when the runtime shuts down.
    runtime.spawn(work).await.unwrap_or(Err(StoreFault::Stopped))
}
