//! Why a ledger cannot be opened or cannot go on.

use crate::row::FORMAT;
use crate::store::StoreFault;
use tombola_core::amount::{Asset, Timestamp};
use tombola_core::key::AccountKey;

/// Why a ledger cannot be opened or cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerFault {
    /// The store is of another escrow key, and a key is a network.
    #[error("the store belongs to escrow {stored}")]
    AnotherEscrow {
        /// Whose it is.
        stored: AccountKey,
    },
    /// The store counts another asset.
    #[error("the store counts {stored:?}")]
    AnotherAsset {
        /// What it counts.
        stored: Asset,
    },
    /// The store has a format that this version does not know.
    #[error("the store has format {stored}, this version reads {FORMAT}: use the version that wrote it")]
    AnotherFormat {
        /// Its format.
        stored: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// No such writer can be.
    #[error("writer {writer}: this store has writers 0 to {}", limit.saturating_sub(1))]
    WriterOutOfRange {
        /// The number given.
        writer: u32,
        /// Numbers are below this.
        limit: u32,
    },
    /// The operator declared this writer dead.
    #[error("writer {writer} was removed; start under another writer number")]
    WriterRemoved {
        /// Which.
        writer: u32,
    },
    /// A writer that shows signs of life is not dead.
    #[error("writer {writer} showed a sign of life {silent_ms} ms ago; stop it first and wait a minute")]
    WriterAlive {
        /// Which.
        writer: u32,
        /// How long ago, in ms.
        silent_ms: u64,
    },
    /// There is no such writer.
    #[error("there is no writer {writer}")]
    WriterUnknown {
        /// Which.
        writer: u32,
    },
    /// This machine's clock and the store's do not agree, so no deadline could be judged.
    #[error(
        "this machine's clock says {} ms and the database's {} ms since 1970: {apart_ms} ms apart, more than \
         {limit_ms}; set the clock, then start again",
        here.0, there.0
    )]
    ClockApart {
        /// What this machine's said.
        here: Timestamp,
        /// What the database's said.
        there: Timestamp,
        /// By how much they are apart, at least, in ms.
        apart_ms: u64,
        /// At most this, in ms.
        limit_ms: u64,
    },
    /// Another process is this writer now.
    #[error("another process was started as writer {writer}; this one stops")]
    Fenced {
        /// Which.
        writer: u32,
    },
    /// The store failed before.
    #[error("the ledger stopped after a fault; open it again")]
    Stopped,
}
