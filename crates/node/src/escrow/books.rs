//! What an operator reads and does in the books: beside a running node from a snapshot, or alone on a stopped one's store.

use super::backup::{BackupError, BackupReport};
use super::extract::{self, ExtractReport};
use super::recovery::take_up;
use super::witness::{Keeper, WitnessError};
use super::{Deposited, EscrowNodeError, EscrowOptions, deposit_command, deposited, open_ledger};
use crate::clock;
use std::path::Path;
use tombola_core::amount::{Amount, Asset, Timestamp};
use tombola_core::escrow::EscrowConfig;
use tombola_core::key::{AccountKey, SecretKey};
use tombola_core::message::Reference;
use tombola_ledger::audit::{self, AuditReport, Progress as AuditProgress};
use tombola_ledger::key::Key;
use tombola_ledger::ledger::Ledger;
use tombola_ledger::query;
use tombola_ledger::row::{AccountRow, Row, Table, Totals};
use tombola_ledger::store::{Range, Reader, Sharing, Store, StoreFault};
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

/// The books of an escrow that does not run. Where the store is a file, everything here blocks.
#[derive(Debug)]
pub struct EscrowBooks {
    pub(super) ledger: Ledger<EscrowStore>,
    pub(super) config: EscrowConfig,
    /// What beginning to change something shows; reading is allowed in any case.
    witness: Result<Keeper, WitnessError>,
    key: SecretKey,
}

impl EscrowBooks {
    /// Opens the store as the escrow's writer; nobody else can be that while this lives.
    ///
    /// # Errors
    /// [`EscrowNodeError`] if name or store cannot be used.
    pub async fn open(options: &EscrowOptions) -> Result<Self, EscrowNodeError> {
        let config = options.rules()?;
        let mut ledger = open_ledger(&options.store, config.clone()).await?;
        let witness = take_up(&mut ledger, config.writer, &options.witness, &options.key).await;
        let key = SecretKey::from_seed(&options.key.seed());
        Ok(Self {
            ledger,
            config,
            witness,
            key,
        })
    }

    /// Books money that the operator took in. The same reference moves money once and is answered the same.
    ///
    /// # Errors
    /// As [`super::Escrow::deposit`].
    pub async fn deposit(
        &mut self,
        account: &AccountKey,
        amount: Amount,
        reference: &Reference,
    ) -> Result<Deposited, EscrowNodeError> {
        let command = deposit_command(account, amount, reference)?;
        self.may_change()?;
        let outcomes = self.ledger.execute(vec![command], clock::now()).await?;
        self.witness_change()?;
        deposited(outcomes, reference)
    }

    /// Before anything is changed: nothing may be added to a store that lost its end.
    ///
    /// # Errors
    /// [`EscrowNodeError::Witness`].
    pub(super) fn may_change(&self) -> Result<(), EscrowNodeError> {
        self.witness.as_ref().map(drop).map_err(|error| error.clone().into())
    }

    /// After something was changed.
    ///
    /// # Errors
    /// [`EscrowNodeError::Witness`]: the change is durable, and nothing would tell if it were lost.
    pub(super) fn witness_change(&mut self) -> Result<(), EscrowNodeError> {
        match &mut self.witness {
            Ok(keeper) => Ok(keeper.write(self.ledger.totals())?),
            Err(error) => Err(error.clone().into()),
        }
    }

    /// Writes an extract of a writer's log into a new file. Spec: G-09.
    ///
    /// # Errors
    /// As [`super::Escrow::extract`].
    pub async fn extract(
        &self,
        writer: u32,
        heights: (u64, u64),
        path: &Path,
    ) -> Result<ExtractReport, EscrowNodeError> {
        extract::write(self.ledger.store(), &self.key, writer, heights, path).await
    }

    /// Copies the ledger into a new file.
    ///
    /// # Errors
    /// [`EscrowNodeError::Backup`].
    pub async fn backup(&self, path: &Path) -> Result<BackupReport, EscrowNodeError> {
        Ok(backup(self.ledger.store(), path).await?)
    }

    /// One account, or nothing if the escrow has none of this key.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] if the store cannot be read.
    pub async fn account(&self, of: &AccountKey) -> Result<Option<AccountSummary>, EscrowNodeError> {
        Ok(account(self.ledger.store(), of).await?)
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
        Ok(accounts(self.ledger.store(), from, limit).await?)
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
    pub async fn audit_with(&self, progress: impl FnMut(AuditProgress) + Send) -> Result<AuditReport, EscrowNodeError> {
        Ok(audit(self.ledger.store(), &self.config, progress).await?)
    }

    /// Every writer that the ledger ever had.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] if the store cannot be read.
    pub async fn writers(&self) -> Result<Vec<WriterSummary>, EscrowNodeError> {
        Ok(writers(self.ledger.store(), self.config.writer).await?)
    }

    /// Declares another writer dead, so that expiry waits for it no more, and makes its fees this one's to collect. It
    /// cannot be started again.
    ///
    /// # Errors
    /// As [`super::Escrow::remove_writer`].
    pub async fn remove_writer(&mut self, writer: u32) -> Result<(), EscrowNodeError> {
        self.may_change()?;
        self.ledger.remove_writer(writer, clock::now()).await?;
        self.witness_change()
    }

    /// The sums.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] if the store cannot be read.
    pub async fn totals(&self) -> Result<EscrowTotals, EscrowNodeError> {
        Ok(totals(self.ledger.store(), &self.config).await?)
    }
}

pub(super) async fn account(store: &EscrowStore, account: &AccountKey) -> Result<Option<AccountSummary>, StoreFault> {
    Ok(query::account(store, account).await?.map(AccountSummary::from))
}

pub(super) async fn accounts(
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

pub(super) async fn backup(store: &EscrowStore, path: &Path) -> Result<BackupReport, BackupError> {
    if store.sharing() == Sharing::Shared {
        return Err(BackupError::Database);
    }
    super::backup::backup(&store.snapshot().await?, path).await
}

pub(super) async fn audit(
    store: &EscrowStore,
    config: &EscrowConfig,
    progress: impl FnMut(AuditProgress) + Send,
) -> Result<AuditReport, StoreFault> {
    let snapshot = store.snapshot().await?;
    audit::audit_with(&snapshot, config, progress).await
}

pub(super) async fn writers(store: &EscrowStore, own: u32) -> Result<Vec<WriterSummary>, StoreFault> {
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

pub(super) async fn totals(store: &EscrowStore, config: &EscrowConfig) -> Result<EscrowTotals, StoreFault> {
    let mut totals = Totals::EMPTY;
    for (_, writer) in query::writers(store).await? {
        totals.add(&writer);
    }
    Ok(EscrowTotals {
        escrow: config.escrow,
        asset: config.asset,
        time: totals.time,
        height: totals.height,
        accounts: totals.accounts,
        holds: totals.holds,
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
