//! The payer as a node: keeps its deposit at one escrow and buys, tips and pays with tickets.
//!
//! ```no_run
//! use std::path::{Path, PathBuf};
//! use tombola_core::amount::Amount;
//! use tombola_node::payer::{Payer, PayerOptions};
//! use tombola_node::{config::PayerConfig, key_file};
//!
//! # async fn buy() -> Result<(), Box<dyn std::error::Error>> {
//! let options = PayerOptions {
//!     key: key_file::read(Path::new("payer.key"))?,
//!     escrow: "tombola://tom1...@escrow.example:7400".parse()?,
//!     terms: PayerConfig::default().terms()?,
//!     store: PathBuf::from("payer.redb"),
//! };
//! let payer = Payer::connect(options)?;
//! let address = "tombola://tom1...@payee.example:7401/poem".parse()?;
//! let order = payer.plan_get(&address, Some(Amount::parse("0.50", 9)?), Path::new("poem.txt")).await?;
//! println!("expected cost {:?}, at most {:?}", order.expected, order.worst);
//! payer.get(&order, &|_| ()).await?;
//! payer.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod audit;
mod download;
mod holds;
mod link;
mod luck;
mod order;
mod paying;
mod progress;
mod status;
mod store;
#[cfg(test)]
mod tests;

pub use audit::{AuditReport, AuditedCharge};
pub use download::Delivered;
pub use luck::PayerLuck;
pub use order::{Order, OrderKind, Sent};
pub use status::{PayerRates, WindowStatus};

use crate::clock;
use crate::config;
use crate::disk::StoreError;
use crate::escrow_client::{EscrowClient, EscrowError};
use crate::resubmit::Resubmitting;
use link::Link;
use luck::Charges;
use progress::SILENCE_MAX;
use status::PayerPulse;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::PayerStore;
use tombola_core::amount::Amount;
use tombola_core::key::{AccountKey, HoldId, SecretKey};
use tombola_core::message::{AccountState, EscrowAnswer, EscrowCommand, HoldStatus, StatementPage};
use tombola_core::payer::{PlanError, Shortfall};
use tombola_core::reject::Reject;
use tombola_net::{Address, Endpoint, NetError};

/// What a payer needs.
#[derive(Debug)]
pub struct PayerOptions {
    /// The payer's account key.
    pub key: SecretKey,
    /// The escrow that keeps its deposit.
    pub escrow: Address,
    /// Its limits.
    pub terms: config::PayerTerms,
    /// Its store file; made if it is not there.
    pub store: PathBuf,
}

/// A payer. Cheap to clone; all clones share connections, holds and windows.
#[derive(Clone)]
pub struct Payer {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) key: SecretKey,
    pub(crate) account: AccountKey,
    pub(crate) escrow: EscrowClient,
    pub(crate) terms: config::PayerTerms,
    pub(crate) store: PayerStore,
    /// Payees are not shown who pays: holds and books authorise a payment.
    endpoint: Endpoint,
    links: Mutex<HashMap<AccountKey, Arc<Link>>>,
    /// Holds that purchases are paying from now.
    pub(crate) leased: Mutex<HashSet<HoldId>>,
    pub(crate) resubmitting: tokio::sync::Mutex<Resubmitting>,
    /// How long a payee may bring nothing.
    pub(crate) silence_max: Duration,
    pub(crate) pulse: PayerPulse,
    /// What the statement has said of charges so far.
    charges: Arc<tokio::sync::Mutex<Charges>>,
}

/// What happens while a payer pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum PayerEvent {
    /// Part of the balance was set aside for the payee.
    HoldOpened {
        /// How much.
        cap: Amount,
    },
    /// An open hold is used again.
    HoldReused {
        /// What is left in it.
        left: Amount,
    },
    /// The hold was given more room.
    ToppedUp {
        /// Its cap now.
        cap: Amount,
    },
    /// The payee has drawn tickets.
    Acknowledged {
        /// How many in this purchase so far.
        tickets: u64,
    },
    /// Bytes of the purchase have arrived.
    Received {
        /// How many so far, those of an earlier try included.
        bytes: u64,
        /// How many there are.
        size: u64,
    },
    /// The hold needs a top-up and the escrow is away: it is asked again, and the purchase goes on when it answers.
    EscrowAway {
        /// How long it was waited for, in milliseconds.
        waited_ms: u64,
        /// How long it is waited for at most, in milliseconds.
        patience_ms: u64,
    },
    /// The payee went away; the purchase goes on when it is back.
    Reconnecting {
        /// Which try.
        attempt: u32,
    },
}

impl Payer {
    /// Opens the store; connections are made when they are needed.
    ///
    /// # Errors
    /// [`PayerError`] if the store or a socket is not usable.
    pub fn connect(options: PayerOptions) -> Result<Self, PayerError> {
        crate::home::private_file(&options.store).map_err(|error| PayerError::File {
            path: options.store.clone(),
            kind: error.kind(),
        })?;
        let store = PayerStore::open(&options.store, clock::now())?;
        let account = options.terms.account.unwrap_or_else(|| options.key.account());
        let escrow = EscrowClient::of_account(options.escrow, &options.key, account)?;
        let inner = Inner {
            account,
            key: options.key,
            escrow,
            terms: options.terms,
            store,
            endpoint: Endpoint::client(None)?,
            links: Mutex::new(HashMap::new()),
            leased: Mutex::new(HashSet::new()),
            resubmitting: tokio::sync::Mutex::default(),
            silence_max: SILENCE_MAX,
            pulse: PayerPulse::start(),
            charges: Arc::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The payer's account, which is another one than its key's where that is a delegated signer.
    #[must_use]
    pub fn account(&self) -> AccountKey {
        self.inner.account
    }

    /// Balance and all open holds, as the escrow has them.
    ///
    /// # Errors
    /// [`PayerError::Escrow`].
    pub async fn balance(&self) -> Result<PayerBalance, PayerError> {
        self.inner.balance().await
    }

    /// A page of the account's history after a sequence number.
    ///
    /// # Errors
    /// [`PayerError::Escrow`].
    pub async fn statement(&self, after: u64) -> Result<StatementPage, PayerError> {
        match self.inner.escrow.request(EscrowCommand::Statement { after }).await? {
            EscrowAnswer::Statement(page) => check_page(after, page),
            _ => Err(PayerError::Unintelligible),
        }
    }

    /// UDP payload bytes exchanged with a payee on the present connection: (sent, received).
    pub async fn udp_bytes(&self, payee: &Address) -> (u64, u64) {
        self.inner.link(payee).udp_bytes().await
    }

    /// Says goodbye to everyone and makes the journal durable.
    pub async fn shutdown(&self) {
        let links: Vec<_> = self
            .inner
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
            .collect();
        for (_, link) in links {
            link.close().await;
        }
        self.inner.endpoint.close(0, "done");
        self.inner.endpoint.wait_idle().await;
        self.inner.escrow.close().await;
        if let Err(error) = self.inner.store.flush().await {
            tracing::warn!(%error, "the journal may lack lines: the audit will say unknown there");
        }
    }
}

impl Inner {
    pub(crate) fn link(&self, address: &Address) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let link = links.entry(address.key);
        let link = link.or_insert_with(|| Arc::new(Link::new(self.endpoint.clone(), address.clone())));
        // A payee that has moved is reached at its new place; what it owes stays counted by its key.
        link.move_to(address);
        Arc::clone(link)
    }

    pub(crate) async fn account_page(&self, holds_after: u64) -> Result<AccountState, PayerError> {
        self.resubmit().await?;
        match self.escrow.request(EscrowCommand::Account { holds_after }).await? {
            EscrowAnswer::Account(state) => Ok(state),
            _ => Err(PayerError::Unintelligible),
        }
    }
}

/// A statement goes forward: whoever reads it to its end comes to it.
fn check_page(after: u64, page: StatementPage) -> Result<StatementPage, PayerError> {
    let mut last = after;
    for entry in page.entries.as_slice() {
        let sequence = entry.sequence;
        if sequence <= last {
            return Err(PayerError::FalseStatement { after: last, sequence });
        }
        last = sequence;
    }
    Ok(page)
}

/// What is wrong with a hold that an escrow shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HoldFault {
    /// The signature does not verify.
    #[error("it is not signed by the escrow: {0}")]
    Signature(Reject),
    /// It is another payer's, or another escrow's.
    #[error("it is another account's")]
    Party,
    /// It has another payee, another signer or other faces than it was opened with.
    #[error("it is not what was asked for")]
    Terms,
    /// It was opened or topped up with another cap.
    #[error("its cap is {given:?}, and {asked:?} was asked for")]
    Cap {
        /// What this payer asked for.
        asked: Amount,
        /// What it was given.
        given: Amount,
    },
    /// It has paid more than it sets aside.
    #[error("it has paid {paid:?} of {cap:?}")]
    Paid {
        /// By the escrow's word.
        paid: Amount,
        /// As it is signed.
        cap: Amount,
    },
}

impl From<Shortfall> for PayerError {
    fn from(Shortfall { missing, limit }: Shortfall) -> Self {
        Self::Undelivered { missing, limit }
    }
}

/// What a payer has at its escrow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayerBalance {
    /// The account; of its holds it has the first page only.
    pub account: AccountState,
    /// All open holds, oldest first.
    pub holds: Vec<HoldStatus>,
}

/// Why a payer could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayerError {
    /// The ceiling is reached; what has arrived is kept.
    #[error("the spending ceiling is reached: the next winner needs {need:?}, the hold has {has:?} left")]
    Ceiling {
        /// One face value.
        need: Amount,
        /// Room in the hold.
        has: Amount,
        /// Bytes that have arrived.
        received: u64,
        /// Bytes in all.
        size: u64,
    },
    /// What arrived is not what the payee announced.
    #[error("the content does not match the payee's announcement; the partial file is kept")]
    ContentMismatch,
    /// The escrow said no or is away.
    #[error(transparent)]
    Escrow(#[from] EscrowError),
    /// The escrow shows a hold that does not hold.
    #[error("the escrow shows hold {hold}, and {fault}")]
    FalseHold {
        /// Which.
        hold: HoldId,
        /// What is wrong with it.
        fault: HoldFault,
    },
    /// The escrow's statement goes back.
    #[error("the escrow's statement goes back: after entry {after} comes {sequence}")]
    FalseStatement {
        /// The entry before, or the one that was asked after.
        after: u64,
        /// What came.
        sequence: u64,
    },
    /// A file could not be read or written.
    #[error("{path}: {kind}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        kind: std::io::ErrorKind,
    },
    /// The payee is away.
    #[error("the payee cannot be reached: {0}")]
    Net(#[from] NetError),
    /// The payee said no.
    #[error("the payee refused: {0}")]
    PayeeRejected(Reject),
    /// The purchase cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// This payer's own rules refuse.
    #[error("refused here: {0}")]
    Refused(#[from] Reject),
    /// The payee does not take holds of this payer's escrow.
    #[error("the payee does not take holds of escrow {escrow}")]
    NoCommonEscrow {
        /// The payer's escrow.
        escrow: AccountKey,
    },
    /// The payer's own store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The other side answered what is no answer.
    #[error("the other side gave an answer that does not fit; is it a newer version?")]
    Unintelligible,
    /// Another purchase is writing the same file.
    #[error("{path} is being downloaded by another purchase")]
    InUse {
        /// The partial file.
        path: PathBuf,
    },
    /// The payee keeps closing books on tickets that it was given, or keeps none of them.
    #[error("the payee closes books without drawing what it was given; {undrawn} atomic units' worth is undrawn")]
    Undrawn {
        /// Expected value of the tickets in question.
        undrawn: u128,
    },
    /// The payee keeps what it was paid for, over however many connections.
    #[error(
        "the payee has taken {missing} atomic units' worth of tickets without delivering or acknowledging them, and the \
         limit is {limit}, two windows; buy elsewhere, or raise window_value if you trust this payee with more"
    )]
    Undelivered {
        /// Expected value of the tickets in question.
        missing: u128,
        /// Two windows.
        limit: u128,
    },
    /// The file is already complete.
    #[error("{path} exists and is not overwritten")]
    Exists {
        /// The output file.
        path: PathBuf,
    },
}
