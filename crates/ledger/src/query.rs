//! Answers that change nothing, from any reader: on the writer's thread after a commit, or on others from the store.

mod account;
mod books;
mod statement;

pub use books::{FeeReport, PendingWithdrawal, fee_report, pending_withdrawals};

use crate::draft::Draft;
use crate::holds::load_row;
use crate::key::{HoldKey, Key};
use crate::pages::Pages;
use crate::row::{AccountRow, CreditRow, LogPlace, Record, Row, Table, Totals};
use crate::store::{Range, Reader, StoreFault, Stored};
use tombola_core::amount::Timestamp;
use tombola_core::escrow::EscrowConfig;
use tombola_core::key::AccountKey;
use tombola_core::limits::EXPIRE_GRACE_MS;
use tombola_core::message::{EscrowAnswer, EscrowCommand, EscrowInfo, EscrowRequest, Phase};
use tombola_core::reject::{Code, Reject};

/// What `Info` says and no row has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Ledger time.
    pub time: Timestamp,
    /// What the escrow does at present.
    pub phase: Phase,
}

/// A question about one account, and who asks it.
struct Asked<'a, R> {
    reader: &'a R,
    config: &'a EscrowConfig,
    now: Timestamp,
    connection: &'a AccountKey,
    account: &'a AccountKey,
}

/// Why a query has no answer.
enum Failure {
    Reject(Reject),
    Fault(StoreFault),
}

impl From<StoreFault> for Failure {
    fn from(fault: StoreFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Reject> for Failure {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self::Reject(Reject::of(code))
    }
}

/// An answer, and what it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What is said.
    pub draft: Draft,
    /// Holds and charges that were read for it, those that it does not show included.
    pub rows: usize,
}

/// Answers `Info`, `Account`, `HoldStatus`, `Statement`, and `Subscribe` with one page; anything else is `not_offered`.
///
/// `connection` is the key that asks: the account's own sees everything, a delegated signer what A-06 says, and
/// anybody else nothing. A subscription is one such question after another.
///
/// # Errors
/// [`StoreFault`] if the reader fails.
pub async fn answer<R: Reader>(
    reader: &R,
    config: &EscrowConfig,
    standing: &Standing,
    connection: &AccountKey,
    request: &EscrowRequest,
) -> Result<Answered, StoreFault> {
    let asked = Asked {
        reader,
        config,
        now: standing.time,
        connection,
        account: &request.account,
    };
    let answer = match &request.command {
        EscrowCommand::Info => info(reader, config, standing).await.map(|answer| (answer, 0)),
        EscrowCommand::Account { holds_after } => asked.account_state(*holds_after).await,
        EscrowCommand::HoldStatus { hold } => asked.hold_status(hold).await.map(|answer| (answer, 0)),
        EscrowCommand::Statement { after } | EscrowCommand::Subscribe { after } => asked.statement(*after).await,
        EscrowCommand::OpenHold { .. }
        | EscrowCommand::TopUpHold { .. }
        | EscrowCommand::Release(_)
        | EscrowCommand::Delegate { .. }
        | EscrowCommand::Claim { .. }
        | EscrowCommand::Transfer { .. }
        | EscrowCommand::Withdraw { .. }
        | EscrowCommand::SetPayout { .. }
        | EscrowCommand::SetSplit { .. }
        | EscrowCommand::Resubmit { .. } => Err(Code::NotOffered.into()),
    };
    let (answer, rows) = match answer {
        Ok(answered) => answered,
        Err(Failure::Reject(reject)) => (EscrowAnswer::Rejected(reject), 0),
        Err(Failure::Fault(fault)) => return Err(fault),
    };
    Ok(Answered {
        draft: Draft::new(answer),
        rows,
    })
}

async fn info<R: Reader>(reader: &R, config: &EscrowConfig, standing: &Standing) -> Result<EscrowAnswer, Failure> {
    let totals = load_row::<R, Totals>(reader, Key::totals(config.writer)).await?;
    let totals = totals.ok_or(StoreFault::DamagedRow(Table::Totals))?;
    Ok(EscrowAnswer::Info(EscrowInfo {
        escrow: config.escrow,
        asset: config.asset,
        name: config.name.clone(),
        time: standing.time.max(totals.time),
        phase: standing.phase,
        fee: config.fee,
        face_value_min: config.face_value_min,
        cap_min: config.cap_min,
        writer: config.writer,
        height: totals.height,
        head: totals.head,
        payout_fee: config.payout_fee,
        payout_min: config.payout_min,
    }))
}

/// Every writer that there ever was, with its sums.
///
/// # Errors
/// [`StoreFault`] if the reader fails.
pub async fn writers<R: Reader>(reader: &R) -> Result<Vec<(u32, Totals)>, StoreFault> {
    let range = Range {
        from: Key::totals(0),
        to: Some(Key::totals(u32::MAX)),
        limit: usize::MAX,
    };
    let mut writers = Vec::new();
    for (key, stored) in reader.scan(&range).await? {
        let writer = u32::try_from(key.last_number()).map_err(|_| StoreFault::DamagedRow(Table::Totals))?;
        writers.push((writer, decode(key, &stored)?));
    }
    Ok(writers)
}

/// When the next open hold can expire at the earliest; none if none is open. Spec: H-09.
///
/// # Errors
/// [`StoreFault`] if the reader fails.
pub async fn next_expiry<R: Reader>(reader: &R) -> Result<Option<Timestamp>, StoreFault> {
    let range = Range {
        from: Key::due(Timestamp(0), HoldKey { payer: 0, serial: 0 }),
        to: None,
        limit: 1,
    };
    let first = reader.scan(&range).await?.into_iter().next();
    Ok(first.map(|(key, _)| Timestamp(key.first_number()).plus_ms(EXPIRE_GRACE_MS)))
}

/// An account with what waits to be folded into it.
async fn account_row<R: Reader>(reader: &R, account: &AccountKey) -> Result<(u64, AccountRow), Failure> {
    let row = load_row::<R, u64>(reader, Key::account_id(account)).await?;
    let row = row.ok_or_else(|| Failure::from(Code::AccountUnknown))?;
    let account = load_row(reader, Key::account(row)).await?;
    let mut account: AccountRow = account.ok_or(StoreFault::DamagedRow(Table::Accounts))?;
    add_credits(reader, row, &mut account).await?;
    Ok((row, account))
}

/// Adds what several writers appended to an account and nobody folded yet.
///
/// # Errors
/// [`StoreFault`] if the reader fails.
pub async fn add_credits<R: Reader>(reader: &R, row: u64, account: &mut AccountRow) -> Result<(), StoreFault> {
    let place = |writer, height| Key::credit(row, LogPlace { writer, height });
    let mut pages = Pages::of(Range {
        from: place(0, 0),
        to: Some(place(u32::MAX, u64::MAX)),
        limit: CREDITS_PER_PAGE,
    });
    while let Some(page) = pages.next(reader).await? {
        for (key, stored) in &page {
            let credit: CreditRow = decode(*key, stored)?;
            account.balance = account.balance.checked_add(credit.amount).ok_or(StoreFault::Damaged)?;
            account.credits = account.credits.saturating_add(u128::from(credit.amount.0));
            account.entries = account.entries.saturating_add(1);
        }
    }
    Ok(())
}

/// Credits read at a time.
const CREDITS_PER_PAGE: usize = 1_024;

/// The account as its row says, for tools that work beside the protocol.
///
/// # Errors
/// [`StoreFault`] if the reader fails.
pub async fn account<R: Reader>(reader: &R, account: &AccountKey) -> Result<Option<AccountRow>, StoreFault> {
    match account_row(reader, account).await {
        Ok((_, account)) => Ok(Some(account)),
        Err(Failure::Reject(_)) => Ok(None),
        Err(Failure::Fault(fault)) => Err(fault),
    }
}

/// Rows of one account after a number, at most `limit`, and whether there are more.
async fn page<R: Reader>(
    reader: &R,
    key: impl Fn(u64) -> Key,
    after: u64,
    limit: usize,
) -> Result<(Vec<(Key, Stored)>, bool), StoreFault> {
    let Some(from) = after.checked_add(1) else {
        return Ok((Vec::new(), false));
    };
    let range = Range {
        from: key(from),
        to: Some(key(u64::MAX)),
        limit: limit.saturating_add(1),
    };
    let mut rows = reader.scan(&range).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    Ok((rows, more))
}

/// Rows that must all be there, in their order.
async fn load_all<R: Reader, T: Record + Clone>(reader: &R, keys: &[Key]) -> Result<Vec<T>, StoreFault> {
    let stored = reader.load(keys).await?;
    let mut rows = Vec::with_capacity(keys.len());
    for (key, stored) in keys.iter().zip(stored) {
        rows.push(decode(
            *key,
            &stored.ok_or_else(|| StoreFault::DamagedRow(key.table()))?,
        )?);
    }
    Ok(rows)
}

pub(crate) fn decode<T: Record + Clone>(key: Key, stored: &Stored) -> Result<T, StoreFault> {
    let damaged = StoreFault::DamagedRow(key.table());
    let row = Row::decode(key.table(), &stored.bytes).map_err(|_| damaged)?;
    T::of(&row).cloned().ok_or(damaged)
}
