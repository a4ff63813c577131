//! Answers that change nothing, from any reader: on the writer's thread after a commit, or on others from the store.

use crate::draft::{Draft, blank};
use crate::event::{Captured, Cause, Effect, Event};
use crate::holds::{load_hold, load_row};
use crate::key::{HoldKey, Key};
use crate::row::{AccountRow, CreditRow, HoldRow, LogPlace, Record, Row, StatementRow, Table, Totals};
use crate::store::{Range, Reader, StoreFault, Stored};
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::claim::{Claim, Receipt};
use tombola_core::codec::List;
use tombola_core::escrow::EscrowConfig;
use tombola_core::key::{AccountKey, HoldId};
use tombola_core::limits::PAGE_ITEMS_MAX;
use tombola_core::message::{
    AccountState, Charge, EscrowAnswer, EscrowCommand, EscrowInfo, EscrowRequest, Evidence, HoldStatus, Phase, Redemption,
    STATEMENT_ITEMS_MAX, StatementEntry, StatementKind, StatementPage,
};
use tombola_core::reject::{Code, Reject};

/// What `Info` says and no row has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Ledger time.
    pub time: Timestamp,
    /// What the escrow does at present.
    pub phase: Phase,
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

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self::Reject(Reject::of(code))
    }
}

/// Answers `Info`, `Account`, `HoldStatus` and `Statement`; anything else is `not_offered`.
///
/// Authority was checked when the request was verified.
///
/// # Errors
/// [`StoreFault`] if the reader fails.
pub async fn answer<R: Reader>(
    reader: &R,
    config: &EscrowConfig,
    standing: &Standing,
    request: &EscrowRequest,
) -> Result<Draft, StoreFault> {
    let account = &request.account;
    let answer = match &request.command {
        EscrowCommand::Info => info(reader, config, standing).await,
        EscrowCommand::Account { holds_after } => account_state(reader, account, *holds_after).await,
        EscrowCommand::HoldStatus { hold } => hold_status(reader, account, hold).await,
        EscrowCommand::Statement { after } => statement(reader, config, account, *after).await,
        EscrowCommand::OpenHold { .. }
        | EscrowCommand::TopUpHold { .. }
        | EscrowCommand::Release(_)
        | EscrowCommand::Delegate { .. }
        | EscrowCommand::Claim { .. }
        | EscrowCommand::Transfer { .. }
        | EscrowCommand::Withdraw { .. }
        | EscrowCommand::Subscribe { .. }
        | EscrowCommand::SetPayout { .. }
        | EscrowCommand::SetSplit { .. }
        | EscrowCommand::Resubmit { .. } => Err(Code::NotOffered.into()),
    };
    match answer {
        Ok(answer) => Ok(Draft::new(answer)),
        Err(Failure::Reject(reject)) => Ok(Draft::new(EscrowAnswer::Rejected(reject))),
        Err(Failure::Fault(fault)) => Err(fault),
    }
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
    let place = |writer, height| LogPlace { writer, height };
    let last = Key::credit(row, place(u32::MAX, u64::MAX));
    let mut next = Some(Key::credit(row, place(0, 0)));
    while let Some(from) = next {
        let range = Range {
            from,
            to: Some(last),
            limit: CREDITS_PER_PAGE,
        };
        let page = reader.scan(&range).await?;
        for (key, stored) in &page {
            let credit: CreditRow = decode(*key, stored)?;
            account.balance = account.balance.checked_add(credit.amount).ok_or(StoreFault::Damaged)?;
            account.credits = account.credits.saturating_add(u128::from(credit.amount.0));
            account.entries = account.entries.saturating_add(1);
        }
        let full = page.last().filter(|_| page.len() >= CREDITS_PER_PAGE);
        next = full.and_then(|(key, _)| key.successor());
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

async fn account_state<R: Reader>(reader: &R, account: &AccountKey, after: u64) -> Result<EscrowAnswer, Failure> {
    let (row, account) = account_row(reader, account).await?;
    let open = |serial| Key::open_hold(HoldKey { payer: row, serial });
    let (page, more) = page(reader, open, after, PAGE_ITEMS_MAX).await?;
    let keys: Vec<Key> = page.iter().map(|(key, _)| Key::hold(key.last_hold())).collect();
    let mut holds = Vec::with_capacity(keys.len());
    for hold in load_all::<R, HoldRow>(reader, &keys).await? {
        holds.push(status_of(&hold));
    }
    Ok(EscrowAnswer::Account(AccountState {
        account: account.account,
        balance: account.balance,
        held: account.held,
        open_holds: account.open_holds,
        holds: List::new(holds).map_err(|_| StoreFault::Damaged)?,
        more,
        pending: Amount::ZERO,
        payout: None,
        shares: List::default(),
    }))
}

const fn status_of(hold: &HoldRow) -> HoldStatus {
    HoldStatus {
        hold: blank(hold.hold),
        paid: hold.paid,
        state: hold.state,
    }
}

/// To its parties only. Spec: R-08.
async fn hold_status<R: Reader>(reader: &R, account: &AccountKey, hold: &HoldId) -> Result<EscrowAnswer, Failure> {
    let hold = load_hold(reader, hold)
        .await?
        .ok_or_else(|| Failure::from(Code::HoldUnknown))?;
    let terms = &hold.hold.terms;
    if ![terms.payer, terms.payee, terms.signer].contains(account) {
        return Err(Code::Unauthorized.into());
    }
    Ok(EscrowAnswer::HoldStatus(status_of(&hold)))
}

/// A page of an account's history, made from the log. Spec: R-16.
async fn statement<R: Reader>(
    reader: &R,
    config: &EscrowConfig,
    account: &AccountKey,
    after: u64,
) -> Result<EscrowAnswer, Failure> {
    let (row, _) = account_row(reader, account).await?;
    let (page, more) = page(reader, |number| Key::statement(row, number), after, STATEMENT_ITEMS_MAX).await?;
    let mut notes = Vec::with_capacity(page.len());
    for (key, stored) in &page {
        notes.push((key.last_number(), decode::<StatementRow>(*key, stored)?));
    }
    let keys: Vec<Key> = notes.iter().map(|(_, note)| Key::event(note.place)).collect();
    let events = load_all::<R, Event>(reader, &keys).await?;
    let mut entries = Vec::with_capacity(events.len());
    for ((sequence, note), event) in notes.into_iter().zip(&events) {
        entries.push(StatementEntry {
            sequence,
            at: event.body.at,
            balance: note.balance,
            kind: entry_kind(reader, config, account, event).await?,
        });
    }
    Ok(EscrowAnswer::Statement(StatementPage {
        entries: List::new(entries).map_err(|_| StoreFault::Damaged)?,
        more,
    }))
}

/// An event as one of its accounts sees it.
async fn entry_kind<R: Reader>(
    reader: &R,
    config: &EscrowConfig,
    account: &AccountKey,
    event: &Event,
) -> Result<StatementKind, Failure> {
    let damaged = StoreFault::DamagedRow(Table::Events);
    Ok(match (&event.body.effect, &event.body.cause) {
        (Effect::Deposited, Cause::Deposit { amount, reference, .. }) => StatementKind::Deposited {
            amount: *amount,
            reference: reference.clone(),
        },
        (Effect::Opened { hold }, _) => StatementKind::Held {
            hold: Box::new(blank(*hold)),
            amount: hold.cap,
        },
        (Effect::Raised { hold, amount }, _) => StatementKind::Held {
            hold: Box::new(blank(*hold)),
            amount: *amount,
        },
        (
            Effect::Ended {
                hold,
                state,
                paid,
                returned,
            },
            _,
        ) => StatementKind::Returned {
            hold: *hold,
            paid: *paid,
            amount: *returned,
            state: *state,
        },
        (Effect::Captured(captured), cause) => {
            let receipt = captured.receipt(config.escrow, event.body.at, event.place(), event.head());
            let (claim, receipt) = match cause {
                Cause::Claim { claim, .. } => (claim, receipt),
                Cause::Evidence { piece } => match piece.as_ref() {
                    Evidence::Receipt { claim, receipt } => (claim, receipt.body),
                    Evidence::Hold(_) | Evidence::Release(_) => return Err(damaged.into()),
                },
                Cause::Deposit { .. } | Cause::Expire { .. } | Cause::Request { .. } | Cause::Fold { .. } => {
                    return Err(damaged.into());
                }
            };
            let charge = charge(reader, captured, claim, receipt).await?;
            if charge.hold.body.terms.payee == *account {
                StatementKind::Redeemed(Box::new(Redemption {
                    charge,
                    shares: List::default(),
                }))
            } else {
                StatementKind::Charged(Box::new(charge))
            }
        }
        (Effect::Transferred, Cause::Request { request, .. }) => {
            transfer_kind(account, request).ok_or(StoreFault::DamagedRow(Table::Events))?
        }
        (Effect::Deposited | Effect::Transferred | Effect::Folded { .. }, _) => {
            return Err(StoreFault::DamagedRow(Table::Events).into());
        }
    })
}

async fn charge<R: Reader>(
    reader: &R,
    captured: &Captured,
    claim: &Claim,
    receipt: Receipt,
) -> Result<Charge, Failure> {
    // From the log: the row of an old hold is pruned.
    let signed: Option<Event> = load_row(reader, Key::event(captured.signed_in)).await?;
    let (Some(Effect::Opened { hold }) | Some(Effect::Raised { hold, .. })) = signed.map(|event| event.body.effect)
    else {
        return Err(StoreFault::DamagedRow(Table::Events).into());
    };
    Ok(Charge {
        hold: blank(hold),
        claim: *claim,
        receipt: blank(receipt),
        amount: captured.amount,
    })
}

fn transfer_kind(account: &AccountKey, request: &EscrowRequest) -> Option<StatementKind> {
    let EscrowCommand::Transfer {
        to,
        amount,
        reference,
        book,
        ..
    } = &request.command
    else {
        return None;
    };
    let (amount, reference) = (*amount, reference.clone());
    Some(if request.account == *account {
        StatementKind::Sent {
            to: *to,
            amount,
            reference,
        }
    } else {
        StatementKind::Received {
            from: request.account,
            amount,
            reference,
            book: *book,
        }
    })
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
