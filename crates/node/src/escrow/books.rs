//! The books of an escrow that is stopped: what its operator does in them alone.

use super::extract::{self, ExtractReport};
use super::reader::BooksReader;
use super::recovery::take_up;
use super::witness::{Keeper, WitnessError};
use super::{Deposited, EscrowNodeError, EscrowOptions, deposit_command, deposited, open_ledger};
use crate::clock;
use std::path::Path;
use tombola_core::amount::Amount;
use tombola_core::escrow::EscrowConfig;
use tombola_core::key::{AccountKey, SecretKey};
use tombola_core::message::Reference;
use tombola_ledger::ledger::Ledger;
use tombola_store::escrow_store::EscrowStore;

/// The books of an escrow that does not run. Where the store is a file, everything here blocks.
#[derive(Debug)]
pub struct EscrowBooks {
    pub(super) ledger: Ledger<EscrowStore>,
    config: EscrowConfig,
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
        let (mut ledger, _) = open_ledger(&options.store, config.clone()).await?;
        let witness = take_up(&mut ledger, config.writer, &options.witness, &options.key).await;
        let key = SecretKey::from_seed(&options.key.seed());
        Ok(Self {
            ledger,
            config,
            witness,
            key,
        })
    }

    /// What can be read in them.
    #[must_use]
    pub fn reader(&self) -> BooksReader {
        BooksReader::new(self.ledger.store(), &self.config)
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
}
