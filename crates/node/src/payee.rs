//! The payee as a node: sells what a catalogue holds to whoever pays with tickets, and redeems the winners by itself.
//!
//! ```no_run
//! use std::path::PathBuf;
//! use tombola_node::payee::{Content, MemoryCatalog, Payee, PayeeOptions};
//! use tombola_node::{config::PayeeConfig, key_file};
//! # use tombola_core::{amount::Amount, quote::Service};
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let key = key_file::create(&PathBuf::from("payee.key"))?;
//! let config = PayeeConfig::default();
//! let options = PayeeOptions {
//!     key,
//!     listen: config.listen,
//!     escrow: "tombola://tom1...@escrow.example:7400".parse()?,
//!     terms: config.terms()?,
//!     store: PathBuf::from("payee.redb"),
//! };
//! let price = Amount::parse("0.0001", 9)?;
//! let poem = Content::from_bytes(price, 1_024, b"Roses are red ...".to_vec());
//! let payee = Payee::serve(options, MemoryCatalog::default().with(Service::new("/poem")?, poem)).await?;
//! println!("selling at {}", payee.address());
//! tokio::signal::ctrl_c().await?;
//! payee.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod backup;
mod catalog;
mod closed;
mod delivery;
mod errands;
mod peer;
mod redeemer;
mod shared;
mod status;
mod store;
mod stream;
#[cfg(test)]
mod tests;

pub use backup::Backup;
pub use catalog::{Catalog, Content, FileCatalog, MemoryCatalog, Source};
pub use status::{HEALTH_CODES, PayeeStatus};

use crate::clock;
use crate::config;
use crate::disk::StoreError;
use crate::escrow_client::{EscrowClient, EscrowError};
use crate::home::private_file;
use crate::reset_salt::{self, ResetSaltError};
use redeemer::Redeemer;
use shared::Shared;
use status::{PayeePulse, status};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::{Change, Loaded, PayeeStore};
use tokio::task::JoinHandle;
use tombola_core::amount::Timestamp;
use tombola_core::claim::Refusal;
use tombola_core::key::{HoldId, SecretKey, Signed};
use tombola_core::payee::{self as rules, HoldRow, WinnerRow};
use tombola_core::quote::{EpochSecret, Escrows};
use tombola_core::reject::{Code, Reject};
use tombola_net::{Address, ClientKey, Endpoint, NetError, TurnedAway};

/// How long a shutdown waits for streams to take their last frame.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// What a payee needs to run.
#[derive(Debug)]
pub struct PayeeOptions {
    /// The payee's account key: its identity towards payers and the escrow.
    pub key: SecretKey,
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The escrow whose holds it takes and where it redeems.
    pub escrow: Address,
    /// Prices and limits.
    pub terms: config::PayeeTerms,
    /// Its store file; made if it is not there.
    pub store: PathBuf,
}

/// A running payee. Dropping it without [`Payee::shutdown`] leaves its open books to be closed by its next start.
pub struct Payee {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    address: Address,
    redeemer: Arc<tokio::sync::Mutex<Redeemer>>,
    escrow: Arc<EscrowClient>,
    pulse: Arc<PayeePulse>,
    tasks: Vec<JoinHandle<()>>,
}

/// What redeeming on demand came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Redeemed {
    /// Claims that were paid.
    pub receipts: u64,
    /// Claims that were refused; the payee keeps the refusals.
    pub refusals: u64,
    /// Books whose winners still wait.
    pub unclaimed_books: u64,
}

impl Redeemed {
    /// Receipts and refusals so far.
    fn counts(shared: &Shared) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&shared.counters.receipts), count(&shared.counters.refusals))
    }

    fn since(before: (u64, u64), shared: &Shared) -> Self {
        let (receipts, refusals) = Self::counts(shared);
        let unclaimed_books = shared.rules().exposure().unclaimed_books;
        Self {
            receipts: receipts - before.0,
            refusals: refusals - before.1,
            unclaimed_books,
        }
    }
}

impl Payee {
    /// Opens the store, listens, and sells.
    ///
    /// # Errors
    /// [`PayeeError`] if the store, the socket or a limit is not usable.
    pub async fn serve(options: PayeeOptions, catalog: impl Catalog) -> Result<Self, PayeeError> {
        let shared = open(
            &options.key,
            &options.escrow,
            &options.terms,
            &options.store,
            Arc::new(catalog),
        )?;
        Self::start(options, shared)
    }

    /// Listens and sells what is open.
    fn start(options: PayeeOptions, shared: Arc<Shared>) -> Result<Self, PayeeError> {
        let key = Arc::new(options.key);
        let escrow = Arc::new(EscrowClient::new(options.escrow, &key)?);
        let salt = reset_salt::read_or_make(&options.store.with_file_name(reset_salt::FILE))?;
        let endpoint = Endpoint::server(options.listen, &key, ClientKey::NotAsked, &salt)?;
        let bound = endpoint.local_addr()?;
        let address = Address::new(key.account(), bound.ip().to_string(), bound.port());
        let redeemer = Redeemer::new(Arc::clone(&shared), Arc::clone(&escrow), key);
        let redeemer = Arc::new(tokio::sync::Mutex::new(redeemer));
        let (pulse, beating) = status::watch(&shared);
        let tasks = vec![
            beating,
            tokio::spawn(accept(Arc::clone(&shared), endpoint.clone())),
            tokio::spawn(redeemer::run(Arc::clone(&redeemer), Arc::clone(&shared))),
        ];
        shared.work.notify_one();
        Ok(Self {
            shared,
            endpoint,
            address,
            redeemer,
            escrow,
            pulse,
            tasks,
        })
    }

    /// The address that payers need; with the host that it listens on.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Connections that stand or are being made.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Attempts to connect that were not let in since the start, by reason.
    #[must_use]
    pub fn connections_turned_away(&self) -> TurnedAway {
        self.endpoint.turned_away()
    }

    /// Closes every book that has winners, and claims all that is unclaimed.
    ///
    /// # Errors
    /// [`PayeeError::Escrow`] if the escrow cannot be reached: the payee goes on trying by itself.
    pub async fn redeem(&self) -> Result<Redeemed, PayeeError> {
        // The payee redeems by itself at the same time; whoever is first, it is counted here.
        let before = Redeemed::counts(&self.shared);
        for book in self.shared.winning_books() {
            self.shared.close(&book, Reject::of(Code::BookRedeemed));
            // On a disk that hangs the rest is claimed when it works again.
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.shared.handed_over(&book)).await;
        }
        self.redeemer.lock().await.redeem_now().await?;
        Ok(Redeemed::since(before, &self.shared))
    }

    /// Redeems what a stopped payee's store holds, without listening.
    ///
    /// # Errors
    /// [`PayeeError`] if the store cannot be opened or the escrow cannot be reached.
    pub async fn redeem_offline(options: PayeeOptions) -> Result<Redeemed, PayeeError> {
        let key = Arc::new(options.key);
        let catalog = Arc::new(MemoryCatalog::default());
        let shared = open(&key, &options.escrow, &options.terms, &options.store, catalog)?;
        let escrow = Arc::new(EscrowClient::new(options.escrow, &key)?);
        let mut redeemer = Redeemer::new(Arc::clone(&shared), Arc::clone(&escrow), key);
        let redeemed = redeemer.redeem_now().await;
        escrow.close().await;
        redeemed?;
        Ok(Redeemed::since((0, 0), &shared))
    }

    /// How a stopped payee stands, from its store alone.
    ///
    /// # Errors
    /// [`PayeeError`] if the store cannot be opened.
    pub fn status_offline(options: &PayeeOptions) -> Result<PayeeStatus, PayeeError> {
        let catalog = Arc::new(MemoryCatalog::default());
        status(&*open(
            &options.key,
            &options.escrow,
            &options.terms,
            &options.store,
            catalog,
        )?)
    }

    /// Refusals of the escrow, kept as evidence.
    ///
    /// # Errors
    /// [`PayeeError::Store`] if they cannot be read.
    pub fn refusals(&self) -> Result<Vec<Signed<Refusal>>, PayeeError> {
        Ok(self.shared.store.refusals()?)
    }

    /// Takes nothing new, closes every book with its last acknowledgement, redeems once more, and ends.
    pub async fn shutdown(self) {
        self.endpoint.refuse_new();
        self.shared.drain.send_replace(true);
        let drained = async {
            while !self.shared.open_books().is_empty() || !self.shared.winning_books().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
        // What cannot be redeemed now is durable and is redeemed after the next start.
        let last_round = async { self.redeemer.lock().await.redeem_now().await };
        if let Ok(Err(error)) = tokio::time::timeout(DRAIN_TIMEOUT, last_round).await {
            tracing::warn!(%error, "winners stay unclaimed until the next start");
        }
        self.endpoint.close(0, "shutting down");
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.endpoint.wait_idle()).await;
        self.escrow.close().await;
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
    }
}

fn open(
    key: &SecretKey,
    escrow: &Address,
    terms: &config::PayeeTerms,
    path: &Path,
    catalog: Arc<dyn Catalog>,
) -> Result<Arc<Shared>, PayeeError> {
    private_file(path).map_err(|error| backup::file_error(path, error.kind()))?;
    let (store, loaded) = PayeeStore::open(path, clock::now())?;
    share(key, escrow, terms, store, loaded, catalog)
}

/// What streams share, from what the store had.
fn share(
    key: &SecretKey,
    escrow: &Address,
    terms: &config::PayeeTerms,
    store: PayeeStore,
    loaded: Loaded,
    catalog: Arc<dyn Catalog>,
) -> Result<Arc<Shared>, PayeeError> {
    let terms = rules::PayeeTerms {
        payee: key.account(),
        asset: terms.asset,
        escrows: Escrows::new(vec![escrow.key]).map_err(Reject::from)?,
        fee_max: terms.fee_max,
        face_value_min: terms.face_value_min,
        face_value_max: terms.face_value_max,
        book_length_max: terms.book_length_max,
        jump_max: terms.jump_max,
        credit_units: terms.credit_units,
        redeem_at_value: terms.redeem_at_value,
        redeem_window_min_ms: terms.redeem_window_min_ms,
        hold_life_max_ms: terms.hold_life_max_ms,
        opens_per_second_max: terms.opens_per_second,
        asks_before: loaded.asks_before,
    };
    let secret = EpochSecret::new(clock::random());
    let winners = claimable(&store, &loaded.holds, loaded.winners);
    let rules = rules::Payee::new(terms, secret, loaded.holds, winners, clock::now())?;
    Ok(Arc::new(Shared::new(rules, store, catalog)))
}

/// Winners that have their hold. One without can be claimed no more: an older program forgot the hold after a final
/// refusal, and left the winner. It becomes evidence, and is no reason not to start.
fn claimable(store: &PayeeStore, holds: &[HoldRow], winners: Vec<WinnerRow>) -> Vec<WinnerRow> {
    let known: BTreeSet<HoldId> = holds.iter().map(|row| row.hold.body.id()).collect();
    let has_hold = |row: &WinnerRow| known.contains(&row.claim.book.body.hold);
    let (claimable, orphans): (Vec<_>, Vec<_>) = winners.into_iter().partition(has_hold);
    let ends: Vec<Change> = orphans
        .iter()
        .map(|row| {
            let (book, hold) = (row.claim.book.body.id(), row.claim.book.body.hold);
            tracing::error!(%book, %hold, winners = row.winners, "a winner without its hold is kept, and not claimed");
            Change::End(book)
        })
        .collect();
    // If this is not written the next start does it.
    let _ = (!ends.is_empty()).then(|| store.enqueue(ends));
    claimable
}

async fn accept(shared: Arc<Shared>, endpoint: Endpoint) {
    let numbers = AtomicU64::new(0);
    while let Some(incoming) = endpoint.accept().await {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            match incoming.establish().await {
                Ok(connection) => stream::serve_connection(shared, connection, number).await,
                Err(error) => tracing::debug!(%error, "a connection was not established"),
            }
        });
    }
}

/// Why a payee cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayeeError {
    /// Its store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its socket.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Its escrow.
    #[error(transparent)]
    Escrow(#[from] EscrowError),
    /// The salt of its reset tokens.
    #[error(transparent)]
    ResetSalt(#[from] ResetSaltError),
    /// A file could not be read or written.
    #[error("{}: {kind}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        kind: std::io::ErrorKind,
    },
    /// Only what a backup wrote is restored: a store that was copied does not know that it is old.
    #[error("{} is not a backup of a payee's store", path.display())]
    NotABackup {
        /// The file.
        path: PathBuf,
    },
    /// A store is there, and what it knows since the backup would be lost.
    #[error("{} is there already and may be newer than the backup, which was made at {} ms", path.display(), backup_at.0)]
    StoreExists {
        /// The store.
        path: PathBuf,
        /// When the backup was made.
        backup_at: Timestamp,
    },
    /// A row or limit that the rules refuse.
    #[error(transparent)]
    Rules(#[from] Reject),
}
