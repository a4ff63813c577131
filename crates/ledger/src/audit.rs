//! The audit: replays the log from zero, draws every ticket of every claim again, and compares what that gives with
//! every row. It reads a snapshot, so it runs beside a live writer and disturbs nothing.

mod replay;

use crate::event::Event;
use crate::key::{HoldKey, Key};
use crate::query::{decode, writers};
use crate::row::{
    AccountRow, BookRow, CollectionRow, CreditRow, HoldRow, LogPlace, PayoutRow, Record, SignerRow, SplitRow, Table,
    Totals, WithdrawalRow,
};
use crate::store::{Range, Reader, StoreFault};
use replay::Replay;
use std::collections::VecDeque;
use tombola_core::amount::Timestamp;
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

/// Something that does not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The log is broken before this height: a gap, another writer's event, or a wrong previous head.
    LogBroken {
        /// Height of the event.
        height: u64,
    },
    /// An event was decided on rows that no event of any writer made so.
    Order {
        /// Height of the event.
        height: u64,
    },
    /// The log ends elsewhere than the writer's totals say.
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
        /// Where it is.
        hold: HoldKey,
    },
    /// A book's row is not what the log says.
    Book {
        /// Its hold.
        hold: HoldKey,
    },
    /// A credit that waits to be folded is not what the log says.
    Credit {
        /// Row of its account.
        account: u64,
    },
    /// A withdrawal's row, or its place among pending and settled ones, is not what the log says.
    Withdrawal {
        /// Its number.
        withdrawal: u64,
    },
    /// A payout policy is not what the log says.
    Payout {
        /// Row of its account.
        account: u64,
    },
    /// A split is not what the log says.
    Split {
        /// Row of its payee's account.
        account: u64,
    },
    /// A signer's row is not what the log says.
    Signer {
        /// Row of its account.
        account: u64,
    },
    /// A collection of fees is not what the log says.
    Collection {
        /// Height of its event.
        height: u64,
    },
    /// The sums are not what the log says.
    Totals,
}

/// Audits everything that a reader sees; give it a snapshot.
///
/// # Errors
/// [`StoreFault`] if the reader fails; what is merely wrong is a finding.
pub async fn audit<R: Reader>(reader: &R, config: &EscrowConfig) -> Result<AuditReport, StoreFault> {
    let writers = writers(reader).await?;
    let mut replay = Replay::new(config, writers.iter().map(|(writer, _)| *writer));
    replay_all(reader, &mut replay, &writers).await?;
    let counts = Counts {
        accounts: each(reader, Table::Accounts, |key, row: &AccountRow| {
            replay.compare_account(key.last_number(), row);
        })
        .await?,
        holds: each(reader, Table::Holds, |key, row: &HoldRow| {
            replay.compare_hold(key.last_hold(), row)
        })
        .await?,
        books: each(reader, Table::Books, |key, row: &BookRow| {
            replay.compare_book(key.first_hold(), row)
        })
        .await?,
        credits: each(reader, Table::Credits, |key, row: &CreditRow| {
            replay.compare_credit(key.first_number(), key.last_place(), row);
        })
        .await?,
    };
    compare_money(reader, &mut replay).await?;
    Ok(replay.report(&writers, &counts))
}

/// Compares the rows of withdrawals, policies, splits, signers and collected fees.
async fn compare_money<R: Reader>(reader: &R, replay: &mut Replay<'_>) -> Result<(), StoreFault> {
    each(reader, Table::Withdrawals, |key, row: &WithdrawalRow| {
        replay.compare_withdrawal(key.last_number(), row);
    })
    .await?;
    each(reader, Table::PendingWithdrawals, |key, (): &()| {
        replay.compare_listed(key.last_number(), None);
    })
    .await?;
    each(reader, Table::SettledWithdrawals, |key, (): &()| {
        replay.compare_listed(key.last_number(), Some(Timestamp(key.first_number())));
    })
    .await?;
    each(reader, Table::Payouts, |key, row: &PayoutRow| {
        replay.compare_payout(key.last_number(), row);
    })
    .await?;
    each(reader, Table::Splits, |key, row: &SplitRow| {
        replay.compare_split(key.last_number(), row);
    })
    .await?;
    each(reader, Table::Signers, |key, row: &SignerRow| {
        replay.compare_signer(key.first_number(), key.last_account(), row);
    })
    .await?;
    each(reader, Table::Collections, |key, row: &CollectionRow| {
        replay.compare_collection(key, row);
    })
    .await?;
    Ok(())
}

/// Shows every row of a table, page by page; says how many there are.
async fn each<R: Reader, T: Record + Clone>(
    reader: &R,
    table: Table,
    mut compare: impl FnMut(Key, &T),
) -> Result<u64, StoreFault> {
    let mut count = 0u64;
    let mut next = Some(Key::from_bytes(table, &[0; 8]));
    while let Some(from) = next {
        let page = scan::<R, T>(reader, from).await?;
        next = after(&page);
        for (key, row) in &page {
            compare(*key, row);
            count = count.saturating_add(1);
        }
    }
    Ok(count)
}

/// Rows that were compared.
#[derive(Debug)]
struct Counts {
    accounts: u64,
    holds: u64,
    books: u64,
    credits: u64,
}

/// Replays the logs of all writers, each event after those that made the rows it was decided on. Spec: G-05.
async fn replay_all<R: Reader>(
    reader: &R,
    replay: &mut Replay<'_>,
    writers: &[(u32, Totals)],
) -> Result<(), StoreFault> {
    let mut logs: Vec<Log> = writers.iter().map(|(writer, _)| Log::of(*writer)).collect();
    loop {
        let (mut waiting, mut is_stuck) = (None, true);
        for (index, log) in logs.iter_mut().enumerate() {
            while let Some(event) = log.first(reader).await? {
                if !replay.is_ready(event) {
                    waiting = waiting.or(Some(index));
                    break;
                }
                replay.event(event);
                log.pass();
                is_stuck = false;
            }
        }
        let Some(index) = waiting else { return Ok(()) };
        if is_stuck && let Some(log) = logs.get_mut(index) {
            // Nothing can come before it, so its rows were not as it says.
            if let Some(event) = log.first(reader).await? {
                replay.find(Finding::Order { height: event.height });
                replay.event(event);
            }
            log.pass();
        }
    }
}

/// One writer's log, read page by page.
#[derive(Debug)]
struct Log {
    writer: u32,
    page: VecDeque<Event>,
    next: Option<Key>,
}

impl Log {
    fn of(writer: u32) -> Self {
        let next = Some(Key::event(LogPlace { writer, height: 1 }));
        let page = VecDeque::new();
        Self { writer, page, next }
    }

    /// The event that is next, if there is one.
    async fn first<R: Reader>(&mut self, reader: &R) -> Result<Option<&Event>, StoreFault> {
        if self.page.is_empty()
            && let Some(from) = self.next.take()
        {
            let last = LogPlace {
                writer: self.writer,
                height: u64::MAX,
            };
            let range = Range {
                from,
                to: Some(Key::event(last)),
                limit: PAGE_ROWS,
            };
            for (key, stored) in reader.scan(&range).await? {
                let mut event: Event = decode(key, &stored)?;
                // Found elsewhere than it says: as a gap.
                if event.place() != key.last_place() {
                    event.height = 0;
                }
                self.next = key.successor();
                self.page.push_back(event);
            }
        }
        Ok(self.page.front())
    }

    fn pass(&mut self) {
        self.page.pop_front();
    }
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
