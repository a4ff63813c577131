//! The escrow as a node: keeps deposits, grants holds, and redeems winning tickets, over QUIC.
//!
//! ```no_run
//! use std::path::{Path, PathBuf};
//! use tombola_core::{amount::Amount, key::AccountKey, message::Reference};
//! use tombola_node::config::EscrowConfig;
//! use tombola_node::escrow::{Escrow, EscrowOptions, WitnessOptions};
//! use tombola_node::key_file;
//!
//! # async fn serve(payer: AccountKey) -> Result<(), Box<dyn std::error::Error>> {
//! let config = EscrowConfig::default();
//! let options = EscrowOptions {
//!     key: key_file::read(Path::new("escrow.pem"))?,
//!     listen: config.listen,
//!     terms: config.terms()?,
//!     name: config.name,
//!     store: PathBuf::from("escrow.redb").into(),
//!     witness: WitnessOptions::at("/mnt/other-disk/escrow.witness"),
//! };
//! let escrow = Escrow::serve(options).await?;
//! println!("serving at {}", escrow.address());
//! escrow.deposit(&payer, Amount::parse("10", 9)?, &Reference::new("invoice 7")?).await?;
//! tokio::select! {
//!     fault = escrow.failed() => eprintln!("{fault}"),
//!     _ = tokio::signal::ctrl_c() => {}
//! }
//! escrow.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! A request passes four stations: its stream, where it is read and bounded; all cores, where its signatures and draws
//! are verified; the writer's thread, which decides and commits many requests at once; and all cores again, where its
//! answer is signed. Only what is durable is answered. After a fault of the store nothing is known to be durable, so
//! the escrow promises nothing more: mutating requests get `unavailable`, and [`Escrow::failed`] tells the process to end.

mod backup;
mod books;
mod budget;
mod cores;
mod crowd;
mod examine;
mod extract;
mod operator;
mod place;
mod reader;
mod recovery;
mod serve;
mod shared;
mod status;
mod subscribe;
#[cfg(test)]
mod tests;
mod watched;
mod witness;
mod writer;

pub use backup::{BackupError, BackupReport, OverNewer, restore};
pub use books::EscrowBooks;
pub use operator::{FeesCollected, Settled};
pub use place::{CLOCK_APART_MAX_MS, DatabasePlace, StorePlace};
pub use reader::{AccountSummary, BooksReader, EscrowTotals, WriterSummary};

pub use examine::{Examined, examine};
pub use extract::ExtractReport;
pub use status::{EscrowStatus, JumpSummary};
pub use witness::{Consent, WitnessError, WitnessOptions};

use crate::config;
use crate::reset_salt::{self, ResetSaltError};
use place::check_clock;
use recovery::{Witnessing, take_up};
use serve::serve_connection;
use shared::Shared;
use status::EscrowPulse;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::codec::DecodeError;
use tombola_core::escrow as rules;
use tombola_core::key::{AccountKey, SecretKey};
use tombola_core::message::Reference;
use tombola_core::reject::{Code, Reject};
use tombola_ledger::extract::ExtractError;
use tombola_ledger::ledger::{Command, Ledger, LedgerFault, Outcome};
use tombola_ledger::store::{DiskFault, Store, StoreFault};
use tombola_net::{Address, ClientKey, Endpoint, NetError};
use tombola_store::block_on::block_on;
use tombola_store::escrow_store::EscrowStore;
use watched::WatchedClock;

/// How long a shutdown waits for what has begun, and then for the last goodbye.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What an escrow needs to run.
#[derive(Debug)]
pub struct EscrowOptions {
    /// The escrow's key, which is the network id.
    pub key: SecretKey,
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Fees and limits.
    pub terms: config::EscrowTerms,
    /// A name for people.
    pub name: String,
    /// Where its ledger is.
    pub store: StorePlace,
    /// Its witness: a small file that knows how far the ledger came. Better not on the disk of the store.
    pub witness: WitnessOptions,
}

impl EscrowOptions {
    /// Beside its store; a process that shares a database has its witness to itself.
    fn salt_file(&self) -> PathBuf {
        match &self.store {
            StorePlace::File(store) => store.with_file_name(reset_salt::FILE),
            StorePlace::Database(_) => self.witness.path.with_file_name(reset_salt::FILE),
        }
    }

    /// What the ledger is told of it.
    fn rules(&self) -> Result<rules::EscrowConfig, EscrowNodeError> {
        Ok(rules::EscrowConfig {
            escrow: self.key.account(),
            asset: self.terms.asset,
            name: Reference::new(self.name.as_str()).map_err(EscrowNodeError::Name)?,
            fee: self.terms.fee,
            face_value_min: self.terms.face_value_min,
            cap_min: self.terms.cap_min,
            writer: self.store.writer(),
            payout_fee: self.terms.payout_fee,
            payout_min: self.terms.payout_min,
            epoch: 0,
        })
    }
}

/// A running escrow. Dropping it without [`Escrow::shutdown`] cuts off what has begun; what was answered is durable.
#[derive(Debug)]
pub struct Escrow {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    address: Address,
    accepting: JoinHandle<()>,
    writing: std::thread::JoinHandle<()>,
    witnessing: Witnessing,
    pulse: Arc<EscrowPulse>,
    beating: JoinHandle<()>,
    /// Ends when the last request that has begun is answered.
    begun: mpsc::Receiver<()>,
}

/// A deposit that is durable.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Deposited {
    /// Whose account.
    pub account: AccountKey,
    /// How much.
    pub amount: Amount,
    /// As given; the same reference moves money once.
    pub reference: Reference,
    /// Ledger time.
    pub at: Timestamp,
    /// Height of the event in the log; the same for each repeat.
    pub height: u64,
}

impl Escrow {
    /// Opens the store, listens, and serves.
    ///
    /// # Errors
    /// [`EscrowNodeError`] if name, store or socket cannot be used.
    pub async fn serve(options: EscrowOptions) -> Result<Self, EscrowNodeError> {
        let rules = options.rules()?;
        let (mut ledger, mut clock) = open_ledger(&options.store, rules.clone()).await?;
        watched::compare(clock.now(), ledger.totals().time);
        let keeper = take_up(&mut ledger, rules.writer, &options.witness, &options.key).await?;
        let salt = reset_salt::read_or_make(&options.salt_file())?;
        let endpoint = Endpoint::server(options.listen, &options.key, ClientKey::Required, &salt)?;
        let bound = endpoint.local_addr()?;
        let address = Address::new(options.key.account(), bound.ip().to_string(), bound.port());
        let (shared, jobs) = Shared::new(options.key, rules, &ledger);
        let shared = Arc::new(shared);
        let (writer, door) = (Arc::clone(&shared), endpoint.clone());
        let writing = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || writer::run(ledger, clock, &jobs, &writer, door))
            .map_err(|error| StoreFault::Io(DiskFault::from(&error)))?;
        let witnessing = Witnessing::start(keeper, Arc::clone(&shared));
        let (pulse, beating) = status::watch(&shared);
        let (beginning, begun) = mpsc::channel(1);
        let accepting = tokio::spawn(accept(Arc::clone(&shared), endpoint.clone(), beginning));
        Ok(Self {
            shared,
            endpoint,
            address,
            accepting,
            writing,
            witnessing,
            pulse,
            beating,
            begun,
        })
    }

    /// The address that payers and payees need; with the host that it listens on.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// What can be read in its books.
    #[must_use]
    pub fn reader(&self) -> BooksReader {
        BooksReader::new(&self.shared.store, &self.shared.config)
    }

    /// Books money that the operator took in. The same reference moves money once and is answered the same.
    ///
    /// # Errors
    /// [`EscrowNodeError::Rejected`] with `bad_key`, `amount_zero`, `supply_exceeded`, `reference_reused`, `busy` or
    /// `unavailable`.
    pub async fn deposit(
        &self,
        account: &AccountKey,
        amount: Amount,
        reference: &Reference,
    ) -> Result<Deposited, EscrowNodeError> {
        let command = deposit_command(account, amount, reference)?;
        let outcomes = self.shared.submit(vec![command]).await?;
        deposited(outcomes, reference)
    }

    /// Declares another writer dead, so that expiry waits for it no more, and makes its fees this one's to collect. It
    /// cannot be started again.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] with [`LedgerFault::WriterAlive`] or [`LedgerFault::WriterUnknown`], or with a
    /// conflict where it showed a sign of life just now; `busy` or `unavailable`.
    pub async fn remove_writer(&self, writer: u32) -> Result<(), EscrowNodeError> {
        Ok(self.shared.remove_writer(writer).await??)
    }

    /// Writes an extract of a writer's log into a new file, with the escrow's signature over its end. Spec: G-09.
    ///
    /// # Errors
    /// [`EscrowNodeError::Backup`], [`EscrowNodeError::Extract`].
    pub async fn extract(
        &self,
        writer: u32,
        heights: (u64, u64),
        path: PathBuf,
    ) -> Result<ExtractReport, EscrowNodeError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || block_on(extract::write(&shared.store, &shared.key, writer, heights, &path))).await?
    }

    /// Ends a recovery: what parties have not resubmitted is lost for good, and new holds are opened again. It changes
    /// nothing where there is none. Spec: R-24.
    ///
    /// # Errors
    /// [`EscrowNodeError::Witness`] if the witness cannot be written: then the recovery goes on.
    pub async fn end_recovery(&self) -> Result<(), EscrowNodeError> {
        // Durable first: an escrow that is started again must not go back to recovering once it has opened a hold.
        self.witnessing.end_recovery().await?;
        self.shared.state.end_recovery();
        self.shared.submit(Vec::new()).await?;
        Ok(())
    }

    /// Waits until the ledger has stopped after a fault. The process is to end with an error then: what the last
    /// commit did is decided by opening the store again.
    pub async fn failed(&self) -> LedgerFault {
        self.shared.state.failed().await
    }

    /// Takes no new connection and no new request, answers what has begun, and ends.
    pub async fn shutdown(mut self) {
        self.endpoint.refuse_new();
        self.shared.state.drain();
        if timeout(DRAIN_TIMEOUT, self.begun.recv()).await.is_err() {
            tracing::warn!("some requests were not answered in time; their clients will repeat them");
        }
        self.shared.close_queue();
        let writing = self.writing;
        // A writer that panicked has said so already.
        let _ = blocking(move || writing.join().is_ok()).await;
        self.witnessing.finish().await;
        self.endpoint.close(0, "shutting down");
        let _ = timeout(DRAIN_TIMEOUT, self.endpoint.wait_idle()).await;
        for task in [self.accepting, self.beating] {
            task.abort();
            let _ = task.await;
        }
    }
}

async fn accept(shared: Arc<Shared>, endpoint: Endpoint, beginning: mpsc::Sender<()>) {
    while let Some(incoming) = endpoint.accept().await {
        let (shared, beginning) = (Arc::clone(&shared), beginning.clone());
        tokio::spawn(async move {
            match incoming.establish().await {
                Ok(connection) => serve_connection(shared, connection, beginning).await,
                Err(error) => tracing::debug!(%error, "a connection was not established"),
            }
        });
    }
}

/// Opens the ledger, away from the async threads where the store is a file.
async fn open_ledger(
    place: &StorePlace,
    config: rules::EscrowConfig,
) -> Result<(Ledger<EscrowStore>, WatchedClock), EscrowNodeError> {
    let place = place.clone();
    let opening = async move {
        let store = place.open().await?;
        check_clock(&store).await?;
        let mut clock = WatchedClock::start(store.sharing());
        let now = clock.now();
        let mut ledger = Ledger::open(store, config, now).await?;
        ledger.limit_clock(CLOCK_APART_MAX_MS);
        Ok::<_, LedgerFault>((ledger, clock))
    };
    let runtime = Handle::current();
    // Opening a database spawns on the runtime.
    Ok(blocking(move || runtime.block_on(opening)).await??)
}

fn deposit_command(account: &AccountKey, amount: Amount, reference: &Reference) -> Result<Command, Reject> {
    Ok(Command::Deposit {
        account: account.check()?,
        amount,
        reference: reference.clone(),
    })
}

fn deposited(outcomes: Vec<Outcome>, reference: &Reference) -> Result<Deposited, EscrowNodeError> {
    expect_one(outcomes, |outcome| {
        let Outcome::Deposited {
            account,
            amount,
            at,
            place,
        } = outcome
        else {
            return None;
        };
        Some(Deposited {
            account,
            amount,
            reference: reference.clone(),
            at,
            height: place.height,
        })
    })
}

/// What became of the only command of a batch, where it is of the kind that the command has; `unavailable` where the
/// ledger stopped before it said anything.
fn expect_one<T>(outcomes: Vec<Outcome>, expected: impl FnOnce(Outcome) -> Option<T>) -> Result<T, EscrowNodeError> {
    match outcomes.into_iter().next() {
        Some(Outcome::Rejected(reject)) => Err(reject.into()),
        outcome => outcome
            .and_then(expected)
            .ok_or_else(|| Reject::of(Code::Unavailable).into()),
    }
}

/// Runs what waits for a disk off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, EscrowNodeError> {
    // Only a bug in the work, or a runtime that ends, keeps its result away.
    let result = tokio::task::spawn_blocking(work).await;
    result.map_err(|_| Reject::of(Code::Unavailable).into())
}

/// Why an escrow cannot run, or did not do what its operator asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EscrowNodeError {
    /// A backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// An extract of a log.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// Its ledger or the store below.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
    /// Its name is too long or has control characters.
    #[error("the escrow's name: {0}")]
    Name(DecodeError),
    /// Its socket.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The salt of its reset tokens.
    #[error(transparent)]
    ResetSalt(#[from] ResetSaltError),
    /// The ledger's rules say no.
    #[error(transparent)]
    Rejected(#[from] Reject),
    /// Its witness.
    #[error(transparent)]
    Witness(#[from] WitnessError),
}

impl From<StoreFault> for EscrowNodeError {
    fn from(fault: StoreFault) -> Self {
        Self::Ledger(fault.into())
    }
}
