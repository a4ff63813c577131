//! The audit: replays the log from zero, draws every ticket of every claim again, and compares what that gives with
//! every row of every table. It reads a snapshot, so it runs beside a live writer and disturbs nothing.

mod compare;
mod log;
mod replay;

use crate::key::Key;
use crate::query::writers;
use crate::row::{LogPlace, Table};
use crate::store::{Reader, StoreFault};
use replay::Replay;
use tombola_core::amount::Timestamp;
use tombola_core::escrow::EscrowConfig;

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AuditReport {
    /// Events replayed.
    pub events: u64,
    /// Rows compared, of all tables but the log itself.
    pub rows: u64,
    /// Accounts compared.
    pub accounts: u64,
    /// Holds compared.
    pub holds: u64,
    /// Books compared.
    pub books: u64,
    /// Money taken in.
    pub deposits: u128,
    /// What accounts can spend, credits that wait to be folded included.
    pub balances: u128,
    /// What open holds set aside and have not paid.
    pub held: u128,
    /// What the escrow kept and did not collect.
    pub fees: u128,
    /// What waits to be paid out.
    pub pending: u128,
    /// Money paid out.
    pub withdrawn: u128,
    /// Claims that paid something, each with every draw verified again.
    pub claims: u64,
    /// Winners that they paid.
    pub winners: u64,
    /// Whether nothing at all was found: deposits = balances + held + fees + pending + withdrawn, and every
    /// row is what the log says.
    pub conserved: bool,
    /// What does not agree; the first [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
}

/// Findings that a report keeps: one is enough to stop, more help to see a pattern.
pub const FINDINGS_MAX: usize = 100;

/// Something that does not agree, with the place of the event in its writer's log, or of the last one that was replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The log is broken before this height: a gap, another writer's event, a wrong previous head, or an event after
    /// its writer was removed.
    LogBroken(LogPlace),
    /// An event was decided on rows that no event of any writer made so.
    Order(LogPlace),
    /// The log ends elsewhere than the writer's totals say.
    LogEnd(LogPlace),
    /// Ledger time went back.
    TimeBack(LogPlace),
    /// An event's postings are not those of its effect, or do not sum to zero.
    Postings(LogPlace),
    /// A place went below zero.
    Overdraft(LogPlace),
    /// An event's effect does not follow from its command.
    Effect(LogPlace),
    /// A hold expired before `redeem_by + 5 min`. Spec: H-09.
    EarlyExpiry(LogPlace),
    /// A hold or a withdrawal has a number that was given out before, that is out of turn, or that is of another
    /// epoch. Spec: R-26.
    Number(LogPlace),
    /// A claim does not prove what it was paid.
    Claim(LogPlace),
    /// A row is not what the log says: it is another one, it is missing, or there should be none.
    Row {
        /// In which table.
        table: Table,
        /// Its key there.
        key: Key,
    },
    /// The sums are not what the log says.
    Totals,
}

impl Finding {
    /// About the row of a key.
    #[must_use]
    pub const fn row(key: Key) -> Self {
        let table = key.table();
        Self::Row { table, key }
    }
}

/// How far an audit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// Events replayed so far.
    pub events: u64,
    /// Of how many.
    pub of: u64,
}

/// Audits everything that a reader sees; give it a snapshot.
///
/// # Errors
/// [`StoreFault`] if the reader fails; what is merely wrong is a finding.
pub async fn audit<R: Reader>(reader: &R, config: &EscrowConfig) -> Result<AuditReport, StoreFault> {
    audit_with(reader, config, |_| ()).await
}

/// As [`audit`], and tells from time to time how far it is.
///
/// # Errors
/// As [`audit`].
pub async fn audit_with<R: Reader>(
    reader: &R,
    config: &EscrowConfig,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<AuditReport, StoreFault> {
    let writers = writers(reader).await?;
    let mut replay = Replay::new(config, &writers);
    log::replay_all(reader, &mut replay, &writers, &mut progress).await?;
    let now = writers.iter().map(|(_, totals)| totals.alive_at).max();
    let counts = compare::compare_all(reader, &mut replay, now.unwrap_or(Timestamp(0))).await?;
    Ok(replay.report(&writers, &counts))
}

/// Rows read at a time: a quarter of a megabyte of events.
const PAGE_ROWS: usize = 256;
