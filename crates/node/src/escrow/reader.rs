//! What an operator reads in the books.

use super::backup::{BackupError, BackupReport};
use super::{EscrowNodeError, blocking};
use std::path::{Path, PathBuf};
use tombola_core::amount::{Amount, Asset, Timestamp};
use tombola_core::escrow::EscrowConfig;
use tombola_core::key::AccountKey;
use tombola_ledger::audit::{self, AuditReport, Progress as AuditProgress};
use tombola_ledger::key::Key;
use tombola_ledger::query::{self, FeeReport, PendingWithdrawal};
use tombola_ledger::row::{AccountRow, Row, Table, Totals};
use tombola_ledger::store::{Range, Reader, Sharing, Store, StoreFault};
use tombola_store::block_on::block_on;
use tombola_store::escrow_store::EscrowStore;

/// An account as its row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct AccountSummary {
    /// Whose.
    pub account: AccountKey,
    /// What it can spend.
    pub balance: Amount,
    /// What its open holds set aside and have not paid.
    pub held: Amount,
    /// What its withdrawals that are not settled set aside.
    pub pending: Amount,
    /// How many of its holds are open.
    pub open_holds: u32,
    /// All that ever came in.
    pub credits: u128,
    /// All that ever went out.
    pub debits: u128,
    /// Entries of its statement.
    pub entries: u64,
}

impl From<AccountRow> for AccountSummary {
    fn from(row: AccountRow) -> Self {
        Self {
            account: row.account,
            balance: row.balance,
            held: row.held,
            pending: row.pending,
            open_holds: row.open_holds,
            credits: row.credits,
            debits: row.debits,
            entries: row.entries,
        }
    }
}

/// An escrow's sums as of its last commit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EscrowTotals {
    /// Its key.
    pub escrow: AccountKey,
    /// Its asset.
    pub asset: Asset,
    /// Ledger time of the last event.
    pub time: Timestamp,
    /// Events in the log.
    pub height: u64,
    /// Accounts.
    pub accounts: u64,
    /// Holds ever opened.
    pub holds: u64,
    /// Of these the ones that are open.
    pub open_holds: u64,
    /// When the next of them can expire; none if none is open.
    pub next_expiry: Option<Timestamp>,
    /// Money taken in.
    pub deposits: u128,
    /// What accounts can spend.
    pub balances: u128,
    /// What open holds set aside and have not paid.
    pub held: u128,
    /// What the escrow kept of winners and payouts and did not collect.
    pub fees: u128,
    /// What left balances to be paid out and is not settled.
    pub pending: u128,
    /// Money paid out.
    pub withdrawn: u128,
    /// Claims that paid something.
    pub claims: u64,
    /// Winners paid.
    pub winners: u64,
    /// Whether deposits = balances + held + fees + pending + withdrawn.
    pub conserved: bool,
}

/// One escrow process of a ledger, that serves or once did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct WriterSummary {
    /// Its number.
    pub writer: u32,
    /// Whether this process is it.
    pub is_this: bool,
    /// How often it was started.
    pub incarnation: u64,
    /// Whether the operator declared it dead.
    pub is_removed: bool,
    /// Since when it served without a gap, by its ledger time.
    pub served_since: Timestamp,
    /// When it last showed a sign of life, by its ledger time.
    pub alive_at: Timestamp,
    /// Events in its log.
    pub height: u64,
}

/// Reads the books from snapshots, away from the async threads: those of a running node, which it does not disturb, or
/// of a stopped one. It keeps their store open.
#[derive(Debug, Clone)]
pub struct BooksReader {
    store: EscrowStore,
    config: EscrowConfig,
}

impl BooksReader {
    pub(super) fn new(store: &EscrowStore, config: &EscrowConfig) -> Self {
        Self {
            store: store.clone(),
            config: config.clone(),
        }
    }

    /// Waits for a disk, or for a database, on a thread that may wait.
    async fn read<T, E>(
        &self,
        reading: impl AsyncFnOnce(Self) -> Result<T, E> + Send + 'static,
    ) -> Result<T, EscrowNodeError>
    where
        T: Send + 'static,
        E: Into<EscrowNodeError> + Send + 'static,
    {
        let reader = self.clone();
        blocking(move || block_on(reading(reader))).await?.map_err(Into::into)
    }

    /// One account, or nothing if the escrow has none of this key.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] if the store cannot be read.
    pub async fn account(&self, of: &AccountKey) -> Result<Option<AccountSummary>, EscrowNodeError> {
        let of = *of;
        let found = self.read(async move |reader| query::account(&reader.store, &of).await);
        Ok(found.await?.map(AccountSummary::from))
    }

    /// Accounts in the order in which they came, from a row on, at most `limit`; and the row of the next page.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] if the store cannot be read.
    pub async fn accounts(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<(Vec<AccountSummary>, Option<u64>), EscrowNodeError> {
        self.read(async move |reader| accounts(&reader.store, from, limit).await)
            .await
    }

    /// Replays the whole log and draws every claimed ticket again.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] if the store cannot be read; what does not agree is in the report.
    pub async fn audit(&self) -> Result<AuditReport, EscrowNodeError> {
        self.audit_with(|_| ()).await
    }

    /// As [`Self::audit`], and tells from time to time how far it is.
    ///
    /// # Errors
    /// As [`Self::audit`].
    pub async fn audit_with(
        &self,
        progress: impl FnMut(AuditProgress) + Send + 'static,
    ) -> Result<AuditReport, EscrowNodeError> {
        let audit = async move |reader: Self| {
            let snapshot = reader.store.snapshot().await?;
            audit::audit_with(&snapshot, &reader.config, progress).await
        };
        self.read(audit).await
    }

    /// Copies the ledger as it is at this moment into a new file.
    ///
    /// # Errors
    /// [`EscrowNodeError::Backup`].
    pub async fn backup(&self, path: PathBuf) -> Result<BackupReport, EscrowNodeError> {
        self.read(async move |reader| backup(&reader.store, &path).await).await
    }

    /// What the fees of all writers came to.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] if the store cannot be read.
    pub async fn fees(&self) -> Result<FeeReport, EscrowNodeError> {
        self.read(async |reader| query::fee_report(&reader.store, reader.config.writer).await)
            .await
    }

    /// Withdrawals that wait to be paid out with a larger number than `after`, at most `limit`, by number.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] if the store cannot be read.
    pub async fn pending_withdrawals(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<PendingWithdrawal>, EscrowNodeError> {
        self.read(async move |reader| query::pending_withdrawals(&reader.store, after, limit).await)
            .await
    }

    /// The sums.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] if the store cannot be read.
    pub async fn totals(&self) -> Result<EscrowTotals, EscrowNodeError> {
        self.read(async |reader| totals(&reader.store, &reader.config).await)
            .await
    }

    /// Every writer that the ledger ever had.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] if the store cannot be read.
    pub async fn writers(&self) -> Result<Vec<WriterSummary>, EscrowNodeError> {
        self.read(async |reader| writers(&reader.store, reader.config.writer).await)
            .await
    }
}

async fn accounts(
    store: &EscrowStore,
    from: u64,
    limit: usize,
) -> Result<(Vec<AccountSummary>, Option<u64>), StoreFault> {
    let range = Range {
        from: Key::account(from),
        to: None,
        limit: limit.saturating_add(1),
    };
    let mut rows = store.scan(&range).await?;
    let next = (rows.len() > limit).then(|| rows.pop()).flatten();
    let mut page = Vec::with_capacity(rows.len());
    for (key, stored) in &rows {
        let Ok(Row::Accounts(mut account)) = Row::decode(Table::Accounts, &stored.bytes) else {
            return Err(StoreFault::DamagedRow(Table::Accounts));
        };
        query::add_credits(store, key.last_number(), &mut account).await?;
        page.push(account.into());
    }
    Ok((page, next.map(|(key, _)| key.last_number())))
}

async fn backup(store: &EscrowStore, path: &Path) -> Result<BackupReport, BackupError> {
    if store.sharing() == Sharing::Shared {
        return Err(BackupError::Database);
    }
    super::backup::backup(&store.snapshot().await?, path).await
}

async fn writers(store: &EscrowStore, own: u32) -> Result<Vec<WriterSummary>, StoreFault> {
    let summary = |(writer, totals): (u32, Totals)| WriterSummary {
        writer,
        is_this: writer == own,
        incarnation: totals.incarnation,
        is_removed: totals.is_removed,
        served_since: totals.served_since,
        alive_at: totals.alive_at,
        height: totals.height,
    };
    Ok(query::writers(store).await?.into_iter().map(summary).collect())
}

async fn totals(store: &EscrowStore, config: &EscrowConfig) -> Result<EscrowTotals, StoreFault> {
    let moment = store.snapshot().await?;
    let mut totals = Totals::EMPTY;
    for (_, writer) in query::writers(&moment).await? {
        totals.add(&writer);
    }
    Ok(EscrowTotals {
        escrow: config.escrow,
        asset: config.asset,
        time: totals.time,
        height: totals.height,
        accounts: totals.accounts,
        holds: totals.holds,
        open_holds: totals.holds.saturating_sub(totals.ended),
        next_expiry: query::next_expiry(&moment).await?,
        deposits: whole(totals.deposits)?,
        balances: whole(totals.balances)?,
        held: whole(totals.held)?,
        fees: whole(totals.fees)?,
        pending: whole(totals.pending)?,
        withdrawn: whole(totals.withdrawn)?,
        claims: totals.claims,
        winners: totals.winners,
        conserved: totals.is_conserved(),
    })
}

/// A sum over all writers, which is never negative.
fn whole(sum: i128) -> Result<u128, StoreFault> {
    u128::try_from(sum).map_err(|_| StoreFault::DamagedRow(Table::Totals))
}
