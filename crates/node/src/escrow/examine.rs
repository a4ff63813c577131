//! Looking at the store of a stopped escrow without taking it up: no sign of life, no event, no witness written.

use super::place::check_clock;
use super::reader::{BooksReader, EscrowTotals};
use super::recovery;
use super::witness::{WitnessError, check};
use super::{EscrowNodeError, EscrowOptions};
use tombola_ledger::ledger::{LedgerFault, check_store};

/// What a store and its witness say.
#[derive(Debug)]
pub struct Examined {
    /// The sums of the ledger.
    pub totals: EscrowTotals,
    /// Whether the store is what its witness has seen.
    pub witness: Result<(), WitnessError>,
    /// Whether this machine's clock agrees with a database's.
    pub clock: Result<(), LedgerFault>,
}

/// Looks at the store of an escrow that does not run. Blocks where it is a file; the file must be there.
///
/// # Errors
/// [`EscrowNodeError`] if the store cannot be opened or read.
pub async fn examine(options: &EscrowOptions) -> Result<Examined, EscrowNodeError> {
    let config = options.rules()?;
    let store = options.store.open().await?;
    check_store(&store, &config).await?;
    let totals = BooksReader::new(&store, &config).totals().await?;
    let own = recovery::totals(&store, config.writer).await?;
    let witness = check(&store, &own, &options.witness, config.writer, &options.key).await;
    Ok(Examined {
        totals,
        witness: witness.map(drop),
        clock: check_clock(&store).await,
    })
}
