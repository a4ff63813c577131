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
use tombola_ledger::audit::{self, AuditReport};
use tombola_ledger::key::Key;
use tombola_ledger::ledger::Ledger;
use tombola_ledger::query;
use tombola_ledger::row::{AccountRow, Row, Table, Totals};
use tombola_ledger::store::{Range, Reader, Store, StoreFault};
use tombola_store::block_on::block_on;
use tombola_store::redb_store::RedbStore;

/// An account as its row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct AccountSummary {
    /// Whose.
    pub account: AccountKey,
    /// What it can spend.
    pub balance: Amount,
    /// What its open holds set aside and have not paid.
    pub held: Amount,
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
    pub deposits: i128,
    /// What accounts can spend.
    pub balances: i128,
    /// What open holds set aside and have not paid.
    pub held: i128,
    /// What the escrow kept of winners.
    pub fees: i128,
    /// Claims that paid something.
    pub claims: u64,
    /// Winners paid.
    pub winners: u64,
    /// Whether deposits = balances + held + fees.
    pub conserved: bool,
}

/// The books of an escrow that does not run. Everything here blocks.
#[derive(Debug)]
pub struct EscrowBooks {
    ledger: Ledger<RedbStore>,
    config: EscrowConfig,
    /// What beginning to change something shows; reading is allowed in any case.
    witness: Result<Keeper, WitnessError>,
    key: SecretKey,
}

impl EscrowBooks {
    /// Opens the store alone; nobody else can while this lives.
    ///
    /// # Errors
    /// [`EscrowNodeError`] if name or store cannot be used.
    pub fn open(options: &EscrowOptions) -> Result<Self, EscrowNodeError> {
        let config = options.rules()?;
        let mut ledger = open_ledger(options.store.clone(), config.clone())?;
        let witness = block_on(take_up(&mut ledger, config.writer, &options.witness, &options.key));
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
    pub fn deposit(
        &mut self,
        account: &AccountKey,
        amount: Amount,
        reference: &Reference,
    ) -> Result<Deposited, EscrowNodeError> {
        let command = deposit_command(account, amount, reference)?;
        self.may_change()?;
        let outcomes = block_on(self.ledger.execute(vec![command], clock::now()))?;
        self.witness_change()?;
        deposited(outcomes, reference)
    }

    /// Before anything is changed: nothing may be added to a store that lost its end.
    ///
    /// # Errors
    /// [`EscrowNodeError::Witness`].
    fn may_change(&self) -> Result<(), EscrowNodeError> {
        self.witness.as_ref().map(drop).map_err(|error| error.clone().into())
    }

    /// After something was changed.
    ///
    /// # Errors
    /// [`EscrowNodeError::Witness`]: the change is durable, and nothing would tell if it were lost.
    fn witness_change(&mut self) -> Result<(), EscrowNodeError> {
        match &mut self.witness {
            Ok(keeper) => Ok(keeper.write(self.ledger.totals())?),
            Err(error) => Err(error.clone().into()),
        }
    }

    /// Writes an extract of a writer's log into a new file. Spec: G-07.
    ///
    /// # Errors
    /// As [`super::Escrow::extract`].
    pub fn extract(&self, writer: u32, heights: (u64, u64), path: &Path) -> Result<ExtractReport, EscrowNodeError> {
        block_on(extract::write(self.ledger.store(), &self.key, writer, heights, path))
    }

    /// Copies the ledger into a new file.
    ///
    /// # Errors
    /// [`EscrowNodeError::Backup`].
    pub fn backup(&self, path: &Path) -> Result<BackupReport, EscrowNodeError> {
        Ok(block_on(backup(self.ledger.store(), path))?)
    }

    /// One account, or nothing if the escrow has none of this key.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] if the store cannot be read.
    pub fn account(&self, of: &AccountKey) -> Result<Option<AccountSummary>, EscrowNodeError> {
        Ok(account(self.ledger.store(), of)?)
    }

    /// Accounts in the order in which they came, from a row on, at most `limit`; and the row of the next page.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] if the store cannot be read.
    pub fn accounts(&self, from: u64, limit: usize) -> Result<(Vec<AccountSummary>, Option<u64>), EscrowNodeError> {
        Ok(accounts(self.ledger.store(), from, limit)?)
    }

    /// Replays the whole log and draws every claimed ticket again.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] if the store cannot be read; what does not agree is in the report.
    pub fn audit(&self) -> Result<AuditReport, EscrowNodeError> {
        Ok(audit(self.ledger.store(), &self.config)?)
    }

    /// The sums.
    ///
    /// # Errors
    /// [`EscrowNodeError::Ledger`] if the store cannot be read.
    pub fn totals(&self) -> Result<EscrowTotals, EscrowNodeError> {
        Ok(totals(self.ledger.store(), &self.config)?)
    }
}

pub(super) fn account(store: &RedbStore, account: &AccountKey) -> Result<Option<AccountSummary>, StoreFault> {
    Ok(block_on(query::account(store, account))?.map(AccountSummary::from))
}

pub(super) fn accounts(
    store: &RedbStore,
    from: u64,
    limit: usize,
) -> Result<(Vec<AccountSummary>, Option<u64>), StoreFault> {
    let range = Range {
        from: Key::account(from),
        to: None,
        limit: limit.saturating_add(1),
    };
    let mut rows = block_on(store.scan(&range))?;
    let next = (rows.len() > limit).then(|| rows.pop()).flatten();
    let mut page = Vec::with_capacity(rows.len());
    for (key, stored) in &rows {
        let Ok(Row::Accounts(mut account)) = Row::decode(Table::Accounts, &stored.bytes) else {
            return Err(StoreFault::DamagedRow(Table::Accounts));
        };
        block_on(query::add_credits(store, key.last_number(), &mut account))?;
        page.push(account.into());
    }
    Ok((page, next.map(|(key, _)| key.last_number())))
}

pub(super) async fn backup(store: &RedbStore, path: &Path) -> Result<BackupReport, BackupError> {
    super::backup::backup(&store.snapshot().await?, path).await
}

pub(super) fn audit(store: &RedbStore, config: &EscrowConfig) -> Result<AuditReport, StoreFault> {
    let snapshot = block_on(store.snapshot())?;
    block_on(audit::audit(&snapshot, config))
}

pub(super) fn totals(store: &RedbStore, config: &EscrowConfig) -> Result<EscrowTotals, StoreFault> {
    let mut totals = Totals::EMPTY;
    for (_, writer) in block_on(query::writers(store))? {
        totals.add(&writer);
    }
    Ok(EscrowTotals {
        escrow: config.escrow,
        asset: config.asset,
        time: totals.time,
        height: totals.height,
        accounts: totals.accounts,
        holds: totals.holds,
        deposits: totals.deposits,
        balances: totals.balances,
        held: totals.held,
        fees: totals.fees,
        claims: totals.claims,
        winners: totals.winners,
        conserved: totals.is_conserved(),
    })
}
