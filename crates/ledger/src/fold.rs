//! Which credits are folded when: those of a writer in the background, and all of an account before it is found short.

use crate::decide::Work;
use crate::key::Key;
use crate::ledger::{Command, LedgerFault, Outcome, settle};
use crate::pages::Pages;
use crate::row::LogPlace;
use crate::store::{Range, Reader, StoreFault};
use tombola_core::key::AccountKey;

/// Credits that one event folds at most: 6 KiB of places in the log.
const FOLD_CREDITS_MAX: usize = 512;

/// Commands that fold these credits, which are in the order of their accounts.
pub(crate) fn commands<'a>(credits: impl Iterator<Item = &'a Key>) -> Vec<Command> {
    let mut batch: Vec<(u64, Vec<LogPlace>)> = Vec::new();
    for key in credits {
        let (account, place) = (key.first_number(), key.last_place());
        match batch.last_mut() {
            Some((last, places)) if *last == account && places.len() < FOLD_CREDITS_MAX => places.push(place),
            _ => batch.push((account, vec![place])),
        }
    }
    let command = |(account, credits)| Command::Fold { account, credits };
    batch.into_iter().map(command).collect()
}

/// Credits that wait, but for those of some writers, at most `limit`; in the order of their accounts.
///
/// # Errors
/// [`StoreFault`] if the reader fails.
pub(crate) async fn credits_but_of<R: Reader>(
    reader: &R,
    others: &[u32],
    limit: usize,
) -> Result<Vec<Key>, StoreFault> {
    let mut found: Vec<Key> = Vec::new();
    let mut pages = Pages::of(Range {
        from: Key::credit(0, LogPlace { writer: 0, height: 0 }),
        to: None,
        limit,
    });
    while let Some(page) = pages.next(reader).await? {
        let keys = page.iter().map(|(key, _)| *key);
        found.extend(keys.filter(|key| !others.contains(&key.last_place().writer)));
        if found.len() >= limit {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// How many credits an outcome folded.
pub(crate) const fn count(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Folded { credits } => *credits,
        _ => 0,
    }
}

/// Folds what waits for the account that a request is about; says whether there was anything.
pub(crate) async fn waiting<R: Reader>(
    work: &mut Work<'_>,
    reader: &R,
    command: &Command,
) -> Result<bool, LedgerFault> {
    let row = match command {
        Command::Request(request) => {
            let key = Key::account_id(&request.request().account);
            work.view.load(reader, &[key]).await?;
            work.view.peek::<u64>(key).copied()
        }
        Command::PayOut { account } => Some(*account),
        Command::Deposit { .. }
        | Command::Expire { .. }
        | Command::Settle { .. }
        | Command::CollectFees { .. }
        | Command::RemoveWriter { .. }
        | Command::Fold { .. } => None,
    };
    match row {
        Some(row) => waiting_of(work, reader, row).await,
        None => Ok(false),
    }
}

/// As [`waiting`], for a payer whose lost hold is shown, whoever shows it.
pub(crate) async fn waiting_of_payer<R: Reader>(
    work: &mut Work<'_>,
    reader: &R,
    payer: &AccountKey,
) -> Result<bool, LedgerFault> {
    let key = Key::account_id(payer);
    work.view.load(reader, &[key]).await?;
    match work.view.peek::<u64>(key).copied() {
        Some(row) => waiting_of(work, reader, row).await,
        None => Ok(false),
    }
}

async fn waiting_of<R: Reader>(work: &mut Work<'_>, reader: &R, row: u64) -> Result<bool, LedgerFault> {
    let place = |writer, height| Key::credit(row, LogPlace { writer, height });
    let mut keys: Vec<Key> = Vec::new();
    let mut pages = Pages::of(Range {
        from: place(0, 0),
        to: Some(place(u32::MAX, u64::MAX)),
        limit: FOLD_CREDITS_MAX,
    });
    while let Some(page) = pages.next(reader).await? {
        keys.extend(page.iter().map(|(key, _)| *key));
    }
    work.view.load(reader, &keys).await?;
    keys.extend(work.view.new_credits(row));
    keys.sort_unstable();
    let mut folded = 0usize;
    for command in commands(keys.iter()) {
        if let Ok(decided) = settle(work, reader, |work| work.command(&command)).await? {
            folded = folded.saturating_add(count(&decided.into_outcome()));
        }
    }
    Ok(folded > 0)
}
