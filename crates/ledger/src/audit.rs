//! The audit: replays the log from zero, draws every ticket of every claim again, and compares what that gives with
//! every row. It reads a snapshot, so it runs beside a live writer and disturbs nothing.

mod replay;

use crate::event::Event;
use crate::key::Key;
use crate::query::decode;
use crate::row::{AccountRow, HoldRow, Record, Table, Totals};
use crate::store::{Range, Reader, StoreFault};
use replay::Replay;
use tombola_core::escrow::EscrowConfig;

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AuditReport {
    /// Events replayed.
    pub events: u64,
    /// Accounts compared.
    pub accounts: u64,
    /// Holds compared.
    pub holds: u64,
    /// Books compared.
    pub books: u64,
    /// Money taken in.
    pub deposits: u128,
    /// What accounts can spend.
    pub balances: u128,
    /// What open holds set aside and have not paid.
    pub held: u128,
    /// What the escrow kept of winners.
    pub fees: u128,
    /// Claims that paid something, each with every draw verified again.
    pub claims: u64,
    /// Winners that they paid.
    pub winners: u64,
    /// Whether nothing at all was found: deposits = balances + held + fees, and every row is what the log says.
    pub conserved: bool,
    /// What does not agree; the first [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
}

/// Findings that a report keeps: one is enough to stop, more help to see a pattern.
pub const FINDINGS_MAX: usize = 100;

/// Something that does not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The log is broken before this height: a gap, another writer's event, or a wrong previous head.
    LogBroken {
        /// Height of the event.
        height: u64,
    },
    /// The log ends elsewhere than the totals say.
    LogEnd {
        /// Height that was replayed.
        height: u64,
    },
    /// Ledger time went back.
    TimeBack {
        /// Height of the event.
        height: u64,
    },
    /// An event's postings are not those of its effect, or do not sum to zero.
    Postings {
        /// Height of the event.
        height: u64,
    },
    /// A place went below zero.
    Overdraft {
        /// Height of the event.
        height: u64,
    },
    /// An event's effect does not follow from its command.
    Effect {
        /// Height of the event.
        height: u64,
    },
    /// A claim does not prove what it was paid.
    Claim {
        /// Height of the event.
        height: u64,
    },
    /// An account's row is not what the log says.
    Account {
        /// Its row.
        row: u64,
    },
    /// A hold's row is not what the log says.
    Hold {
        /// Its row.
        row: u64,
    },
    /// A book's row is not what the log says.
    Book {
        /// Row of its hold.
        hold: u64,
    },
    /// The sums are not what the log says.
    Totals,
}

/// Audits everything that a reader sees; give it a snapshot.
///
/// # Errors
/// [`StoreFault`] if the reader fails; what is merely wrong is a finding.
pub async fn audit<R: Reader>(reader: &R, config: &EscrowConfig) -> Result<AuditReport, StoreFault> {
    let mut replay = Replay::new(config);
    let mut next = Some(Key::event(1));
    while let Some(from) = next {
        let page = scan::<R, Event>(reader, from).await?;
        next = after(&page);
        for (key, event) in &page {
            replay.event(key.last_number(), event);
        }
    }
    let (mut accounts, mut holds, mut books) = (0u64, 0u64, 0u64);
    let mut next = Some(Key::account(0));
    while let Some(from) = next {
        let page = scan::<R, AccountRow>(reader, from).await?;
        next = after(&page);
        for (key, row) in &page {
            replay.compare_account(key.last_number(), row);
            accounts = accounts.saturating_add(1);
        }
    }
    let mut next = Some(Key::hold(0));
    while let Some(from) = next {
        let page = scan::<R, HoldRow>(reader, from).await?;
        next = after(&page);
        for (key, row) in &page {
            replay.compare_hold(key.last_number(), row);
            holds = holds.saturating_add(1);
        }
    }
    let mut next = Some(Key::from_bytes(Table::Books, &[]));
    while let Some(from) = next {
        let page = scan::<R, crate::row::BookRow>(reader, from).await?;
        next = after(&page);
        for (key, row) in &page {
            replay.compare_book(key.first_number(), row);
            books = books.saturating_add(1);
        }
    }
    let totals = crate::holds::load_row::<R, Totals>(reader, Key::totals()).await?;
    Ok(replay.report(&totals.unwrap_or(Totals::EMPTY), accounts, holds, books))
}

/// One page of a table from a key on.
async fn scan<R: Reader, T: Record + Clone>(reader: &R, from: Key) -> Result<Vec<(Key, T)>, StoreFault> {
    let range = Range {
        from,
        to: None,
        limit: PAGE_ROWS,
    };
    let mut rows = Vec::new();
    for (key, stored) in reader.scan(&range).await? {
        rows.push((key, decode(key, &stored)?));
    }
    Ok(rows)
}

/// Where the page after this one begins; none if this was the last.
fn after<T>(page: &[(Key, T)]) -> Option<Key> {
    let (last, _) = page.last().filter(|_| page.len() >= PAGE_ROWS)?;
    last.successor()
}

/// Rows read at a time: a quarter of a megabyte of events.
const PAGE_ROWS: usize = 256;
