//! Accounts as the log says: their sums, their statements, what was deposited and moved, and the answers that are kept.

use super::Replay;
use crate::audit::Finding;
use crate::audit::compare::Digest;
use crate::draft::blank;
use crate::event::{Cause, Effect, Event, Place, Posting, ReadRow, moved};
use crate::key::Key;
use crate::row::{AccountRow, AnswerAge, AnswerRow, DepositRow, LogPlace, Row, Side, StatementRow, Totals};
use std::collections::HashMap;
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::key::AccountKey;
use tombola_core::message::{EscrowAnswer, EscrowCommand, EscrowRequest, TransferReceipt};

/// An account as the log says. Its balance is a place.
#[derive(Debug)]
pub(super) struct ReplayedAccount {
    account: AccountKey,
    held: i128,
    pending: i128,
    credits: u128,
    debits: u128,
    pub(super) open_holds: u32,
    pub(super) signers: u32,
    pub(super) serial: u64,
    pub(super) statement: Vec<StatementRow>,
}

impl ReplayedAccount {
    const fn new(account: AccountKey) -> Self {
        Self {
            account,
            held: 0,
            pending: 0,
            credits: 0,
            debits: 0,
            open_holds: 0,
            signers: 0,
            serial: 1,
            statement: Vec::new(),
        }
    }

    /// Its row, with this balance.
    pub(super) fn row(&self, balance: Amount) -> AccountRow {
        AccountRow {
            account: self.account,
            balance,
            held: amount(self.held),
            pending: amount(self.pending),
            credits: self.credits,
            debits: self.debits,
            open_holds: self.open_holds,
            signers: self.signers,
            serial: self.serial,
            entries: u64::try_from(self.statement.len()).unwrap_or(u64::MAX),
        }
    }
}

/// All accounts, by their rows and by their keys.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    ids: HashMap<AccountKey, u64>,
    rows: HashMap<u64, ReplayedAccount>,
}

impl Accounts {
    /// The row of an account that some event made.
    pub(super) fn row(&self, account: &AccountKey) -> Option<u64> {
        self.ids.get(account).copied()
    }

    pub(super) fn has(&self, row: u64) -> bool {
        self.rows.contains_key(&row)
    }

    pub(super) fn get(&self, row: u64) -> Option<&ReplayedAccount> {
        self.rows.get(&row)
    }

    pub(super) fn get_mut(&mut self, row: u64) -> Option<&mut ReplayedAccount> {
        self.rows.get_mut(&row)
    }

    /// Row numbers by key.
    pub(super) fn ids(&self) -> impl Iterator<Item = (&AccountKey, u64)> {
        self.ids.iter().map(|(account, row)| (account, *row))
    }

    /// Accounts by row number.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &ReplayedAccount)> {
        self.rows.iter().map(|(row, account)| (*row, account))
    }

    /// Moves money into or out of the account's open holds.
    pub(super) fn hold_back(&mut self, row: u64, delta: i128) {
        if let Some(account) = self.rows.get_mut(&row) {
            account.held = account.held.saturating_add(delta);
        }
    }

    /// Moves money into or out of the account's withdrawals.
    pub(super) fn set_aside(&mut self, row: u64, delta: i128) {
        if let Some(account) = self.rows.get_mut(&row) {
            account.pending = account.pending.saturating_add(delta);
        }
    }

    fn make(&mut self, account: AccountKey, row: u64) -> bool {
        let is_new = self.ids.insert(account, row).is_none();
        self.rows.insert(row, ReplayedAccount::new(account)).is_none() && is_new
    }
}

/// What an event books: its postings, and whom it shows in whose statement.
#[derive(Debug, Default)]
pub(super) struct Booking {
    pub(super) postings: Vec<Posting>,
    /// The account that it changed by its own or an operator's doing, and what that account was debited.
    own: Option<(u64, Amount)>,
    /// Whom it credited with what, folded or not.
    credits: Vec<(u64, Amount)>,
}

impl Booking {
    /// Of an event that is in nobody's statement.
    pub(super) const fn of(postings: Vec<Posting>) -> Self {
        Self {
            postings,
            own: None,
            credits: Vec::new(),
        }
    }

    /// Of an event that changed an account and moved only what is its own.
    pub(super) fn own(row: u64, postings: impl Into<Vec<Posting>>) -> Self {
        Self::of(postings.into()).debit(row, Amount::ZERO)
    }

    /// The same, and an account was debited.
    pub(super) const fn debit(mut self, row: u64, amount: Amount) -> Self {
        self.own = Some((row, amount));
        self
    }

    /// The same, and accounts were credited.
    pub(super) fn credit(mut self, credits: impl Into<Vec<(u64, Amount)>>) -> Self {
        self.credits = credits.into();
        self
    }
}

/// An answer that must be kept for two days.
#[derive(Debug)]
pub(super) struct KeptAnswer {
    pub(super) at: Timestamp,
    pub(super) place: LogPlace,
    pub(super) age: AnswerAge,
    pub(super) digest: Digest,
}

impl Replay<'_> {
    /// The row of an account that some event made.
    pub(super) fn account(&self, account: &AccountKey) -> Option<u64> {
        self.accounts.row(account)
    }

    /// What an account can spend.
    pub(super) fn balance(&self, row: u64) -> Amount {
        amount(self.places.get(&Place::Account(row)).copied().unwrap_or(0))
    }

    /// Takes note of the accounts that an event made: they are numbered by their writer, without a gap.
    pub(super) fn create(&mut self, event: &Event, log: &Totals) {
        let mut log = *log;
        for (account, row) in &event.body.created {
            let is_next = *row == log.next_account(event.writer);
            log.accounts = log.accounts.saturating_add(1);
            let is_new = self.accounts.make(*account, *row);
            self.versions.insert(ReadRow::Account(*row), 1);
            self.check(is_next && is_new, Finding::Effect(event.place()));
        }
        if let Some(entry) = self.logs.get_mut(&event.writer) {
            entry.accounts = log.accounts;
        }
    }

    /// Where an event put a credit: into the account, or beside it.
    pub(super) fn credited(event: &Event, row: u64) -> Place {
        let beside = Place::Credit(row);
        if event.body.postings.iter().any(|posting| posting.place == beside) {
            beside
        } else {
            Place::Account(row)
        }
    }

    pub(super) fn deposited(&mut self, event: &Event) -> Option<Booking> {
        let Cause::Deposit {
            account,
            amount,
            reference,
        } = &event.body.cause
        else {
            return None;
        };
        let row = self.account(account)?;
        let entry = DepositRow {
            account: *account,
            amount: *amount,
            at: event.body.at,
            place: event.place(),
        };
        let before = self.deposits.insert(Key::deposit(reference), entry);
        let postings = moved(Place::Outside, Self::credited(event, row), *amount).to_vec();
        let booking = Booking::of(postings).credit([(row, *amount)]);
        before.is_none().then_some(booking)
    }

    pub(super) fn transferred(&self, event: &Event, request: &EscrowRequest) -> Option<Booking> {
        let EscrowCommand::Transfer { to, amount, .. } = &request.command else {
            return None;
        };
        let (from, to) = (self.account(&request.account)?, self.account(to)?);
        let postings = moved(Place::Account(from), Self::credited(event, to), *amount).to_vec();
        Some(Booking::of(postings).debit(from, *amount).credit([(to, *amount)]))
    }

    /// Entries of the statement come with the fold, each with the balance at its own credit.
    pub(super) fn folded(&mut self, row: u64, credits: &[LogPlace], named: &AccountKey) -> Option<Booking> {
        let before = self.places.get(&Place::Account(row)).copied().unwrap_or(0);
        let mut sum = 0i128;
        for place in credits {
            let credit = self.credits.remove(&(row, *place))?;
            sum = sum.checked_add(credit)?;
            let balance = amount(before.saturating_add(sum));
            let account = self.accounts.get_mut(row)?;
            account.credits = account.credits.saturating_add(u128::try_from(credit).ok()?);
            account.statement.push(StatementRow {
                place: *place,
                balance,
                side: Side::Credited,
            });
        }
        let sum = u64::try_from(sum).ok().map(Amount)?;
        let is_right = self.account(named) == Some(row);
        is_right.then(|| Booking::of(moved(Place::Credit(row), Place::Account(row), sum).to_vec()))
    }

    /// Writes an event into statements: first those that it credited, then the one of who did it.
    pub(super) fn note(&mut self, event: &Event, booking: &Booking) {
        for (row, credit) in &booking.credits {
            if Self::credited(event, *row) != Place::Account(*row) {
                continue;
            }
            let balance = self.balance(*row);
            if let Some(account) = self.accounts.get_mut(*row) {
                account.credits = account.credits.saturating_add(u128::from(credit.0));
                account.statement.push(StatementRow {
                    place: event.place(),
                    balance,
                    side: Side::Credited,
                });
            }
        }
        let Some((row, debit)) = booking.own else { return };
        let balance = self.balance(row);
        if let Some(account) = self.accounts.get_mut(row) {
            account.debits = account.debits.saturating_add(u128::from(debit.0));
            account.statement.push(StatementRow {
                place: event.place(),
                balance,
                side: Side::Own,
            });
        }
    }

    /// Takes note of the answer that a request was given and that is kept for its repeats. Spec: R-02.
    pub(super) fn keep_answer(&mut self, event: &Event) {
        let Cause::Request { connection, request } = &event.body.cause else {
            return;
        };
        let (Some(header), Some(answer)) = (request.command.request(), answer_of(event, request)) else {
            return;
        };
        self.answers.push(KeptAnswer {
            at: event.body.at,
            place: event.place(),
            age: AnswerAge {
                connection: *connection,
                request: header.id,
            },
            digest: Digest::of(&Row::Answers(AnswerRow {
                hash: request.hash(),
                answer,
            })),
        });
    }
}

/// What an accepted request was answered, its signatures blank.
fn answer_of(event: &Event, request: &EscrowRequest) -> Option<EscrowAnswer> {
    let at = event.body.at;
    Some(match &event.body.effect {
        Effect::Opened { hold } | Effect::Raised { hold, .. } => EscrowAnswer::Hold(blank(*hold)),
        Effect::Transferred => {
            let EscrowCommand::Transfer {
                to, amount, reference, ..
            } = &request.command
            else {
                return None;
            };
            EscrowAnswer::Transferred(TransferReceipt {
                from: request.account,
                to: *to,
                amount: *amount,
                reference: reference.clone(),
                at,
                height: event.height,
                head: event.head(),
            })
        }
        Effect::Withdrawn { withdrawal, fee, .. } => EscrowAnswer::WithdrawalPending {
            withdrawal: *withdrawal,
            at,
            fee: *fee,
        },
        Effect::PayoutSet => EscrowAnswer::PayoutSet { at },
        Effect::SplitSet => EscrowAnswer::SplitSet { at },
        Effect::Delegated => {
            let EscrowCommand::Delegate { delegation, .. } = &request.command else {
                return None;
            };
            let serial = delegation.body.serial;
            EscrowAnswer::Delegated { serial }
        }
        Effect::Deposited
        | Effect::Ended { .. }
        | Effect::Captured(_)
        | Effect::Folded { .. }
        | Effect::Settled { .. }
        | Effect::Collected
        | Effect::WriterRemoved { .. } => return None,
    })
}

/// As a row has it; what is out of range was found when it was booked.
fn amount(sum: i128) -> Amount {
    Amount(u64::try_from(sum.max(0)).unwrap_or(u64::MAX))
}
