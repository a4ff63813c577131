//! Extracts of a log as files: whole and durable, or not there.

use super::EscrowNodeError;
use super::backup::{BackupError, beside, io, make_file, sync_directory};
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use tombola_core::claim::Head;
use tombola_core::codec::encode;
use tombola_core::key::{SecretKey, Signed};
use tombola_ledger::extract::{LogEnd, Start, bounds, encode_start, page};
use tombola_ledger::store::{Reader, Store};

/// What an extract has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ExtractReport {
    /// The file.
    pub path: PathBuf,
    /// Whose log.
    pub writer: u32,
    /// First height.
    pub from: u64,
    /// Last height.
    pub to: u64,
    /// Head after it.
    pub head: Head,
}

/// Writes an extract from a snapshot, with the escrow's signature over its end. Spec: G-09.
pub(super) async fn write<S: Store>(
    store: &S,
    key: &SecretKey,
    writer: u32,
    (from, to): (u64, u64),
    path: &Path,
) -> Result<ExtractReport, EscrowNodeError> {
    if path.exists() {
        return Err(BackupError::Exists { path: path.to_owned() }.into());
    }
    let snapshot = store.snapshot().await?;
    let (start, end) = bounds(&snapshot, key.account(), writer, from, to).await?;
    let unfinished = beside(path, "unfinished");
    let written = write_events(&snapshot, key, (&start, &end), &unfinished).await;
    // Unlike a rename, a link never replaces.
    let finished = written.and_then(|()| Ok(std::fs::hard_link(&unfinished, path).map_err(|error| io(path, &error))?));
    // Left behind, it would only be a stray file; the outcome is the one of the writing.
    let _ = std::fs::remove_file(&unfinished);
    finished?;
    sync_directory(path)?;
    Ok(ExtractReport {
        path: path.to_owned(),
        writer,
        from,
        to: end.height,
        head: end.head,
    })
}

async fn write_events<R: Reader>(
    snapshot: &R,
    key: &SecretKey,
    (start, end): (&Start, &LogEnd),
    path: &Path,
) -> Result<(), EscrowNodeError> {
    make_file(path)?;
    let failed = |error: std::io::Error| EscrowNodeError::Backup(io(path, &error));
    let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
    let mut file = BufWriter::new(file);
    file.write_all(&encode_start(start)).map_err(failed)?;
    let mut next = Some(start.first);
    while let Some(from) = next {
        let (bytes, after) = page(snapshot, start.writer, from, end.height).await?;
        file.write_all(&bytes).map_err(failed)?;
        next = after;
    }
    file.write_all(&encode(&Signed::new(*end, key))).map_err(failed)?;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)
}
