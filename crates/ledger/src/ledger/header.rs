//! The header of a store: whose it is, written once and checked at each opening.

use super::{LedgerFault, decode_as};
use crate::key::Key;
use crate::row::{FORMAT, Header, MAGIC, Row, Table};
use crate::store::{Change, Commit, Reader, Store, StoreFault, Stored};
use tombola_core::escrow::EscrowConfig;

/// Whether a store is one that this escrow can go on with; one without a header is new.
///
/// # Errors
/// [`LedgerFault::AnotherFormat`], [`LedgerFault::AnotherEscrow`], [`LedgerFault::AnotherAsset`], [`LedgerFault::Store`].
pub async fn check_store<R: Reader>(store: &R, config: &EscrowConfig) -> Result<(), LedgerFault> {
    match store.load(&[Key::header()]).await?.pop().flatten() {
        Some(header) => check_header(&header, config),
        None => Ok(()),
    }
}

pub(super) fn check_header(stored: &Stored, config: &EscrowConfig) -> Result<(), LedgerFault> {
    // Magic and format are read first: a newer header may well be longer.
    let (magic, rest) = stored.bytes.split_first_chunk::<8>().ok_or(StoreFault::Foreign)?;
    if *magic != MAGIC {
        return Err(StoreFault::Foreign.into());
    }
    let (format, _) = rest.split_first_chunk::<4>().ok_or(StoreFault::Foreign)?;
    let stored_format = u32::from_le_bytes(*format);
    if stored_format != FORMAT {
        return Err(LedgerFault::AnotherFormat { stored: stored_format });
    }
    let header = decode_as::<Header>(Table::Header, stored)?;
    if header.escrow != config.escrow {
        let stored = header.escrow;
        return Err(LedgerFault::AnotherEscrow { stored });
    }
    if header.asset != config.asset {
        let stored = header.asset;
        return Err(LedgerFault::AnotherAsset { stored });
    }
    Ok(())
}

pub(super) async fn write_header<S: Store>(store: &S, config: &EscrowConfig) -> Result<(), LedgerFault> {
    let header = Header {
        magic: MAGIC,
        format: FORMAT,
        escrow: config.escrow,
        asset: config.asset,
    };
    let change = Change {
        key: Key::header(),
        before: 0,
        after: Some(Stored {
            version: 1,
            bytes: Row::Header(header).encode(),
        }),
    };
    let commit = Commit {
        changes: vec![change],
        reads: Vec::new(),
        mark: Key::header(),
    };
    match store.commit(commit).await {
        // Another writer of the same ledger was faster.
        Err(StoreFault::Conflict(_)) => {
            let header = store.load(&[Key::header()]).await?.pop().flatten();
            check_header(&header.ok_or(StoreFault::Foreign)?, config)
        }
        other => Ok(other?),
    }
}
