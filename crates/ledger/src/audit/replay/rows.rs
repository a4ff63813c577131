//! The rows that each table must have after a replay.

use super::Replay;
use crate::audit::compare::{Digest, Expected, Presence};
use crate::event::Place;
use crate::key::{HoldKey, Key};
use crate::row::{BookRow, CreditRow, FORMAT, Header, MAGIC, Row, SplitRow, Table};
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::escrow::payout::WithdrawalState;
use tombola_core::limits::{ANSWER_KEPT_MS, ENDED_KEPT_MS};
use tombola_core::message::HoldState;

impl Replay<'_> {
    /// The rows of a table; none for the log itself and for the sums, which are compared as they are replayed.
    pub(in crate::audit) fn expected(&self, table: Table, now: Timestamp) -> Option<Expected> {
        let mut rows = Expected::default();
        match table {
            Table::Totals | Table::Events => return None,
            Table::Header => rows.put(Key::header(), &Row::Header(self.header())),
            Table::AccountIds => {
                for (account, row) in self.accounts.ids() {
                    rows.put(Key::account_id(account), &Row::AccountIds(row));
                }
            }
            Table::Accounts => {
                for (row, account) in self.accounts.all() {
                    rows.put(Key::account(row), &Row::Accounts(account.row(self.balance(row))));
                }
            }
            Table::Statements => self.statements(&mut rows),
            Table::HoldIds | Table::Holds | Table::OpenHolds | Table::Due | Table::Ended => {
                self.hold_rows(&mut rows, table, now);
            }
            Table::Books => self.book_rows(&mut rows, now),
            Table::Answers | Table::AnswerAges => self.answer_rows(&mut rows, table, now),
            Table::Deposits => {
                for (key, row) in &self.deposits {
                    rows.put(*key, &Row::Deposits(*row));
                }
            }
            Table::Credits => {
                for ((account, place), sum) in &self.credits {
                    let amount = Amount(u64::try_from(*sum).unwrap_or(u64::MAX));
                    rows.put(Key::credit(*account, *place), &Row::Credits(CreditRow { amount }));
                }
            }
            Table::Withdrawals | Table::PendingWithdrawals | Table::SettledWithdrawals => {
                self.withdrawal_rows(&mut rows, table, now);
            }
            Table::Payouts => {
                for (account, row) in &self.money.payouts {
                    rows.put(Key::payout(*account), &Row::Payouts(row.clone()));
                }
            }
            Table::Splits => {
                for (account, splits) in &self.money.splits {
                    let shares = splits.last().cloned().unwrap_or_default();
                    rows.put(Key::split(*account), &Row::Splits(SplitRow { shares }));
                }
            }
            Table::Signers => {
                for ((account, signer), row) in &self.money.signers {
                    rows.put(Key::signer(*account, signer), &Row::Signers(row.clone()));
                }
            }
            Table::Collections => {
                for (key, row) in &self.money.collections {
                    rows.put(*key, &Row::Collections(*row));
                }
            }
        }
        Some(rows)
    }

    const fn header(&self) -> Header {
        Header {
            magic: MAGIC,
            format: FORMAT,
            escrow: self.config.escrow,
            asset: self.config.asset,
        }
    }

    fn statements(&self, rows: &mut Expected) {
        for (row, account) in self.accounts.all() {
            for (sequence, entry) in (1u64..).zip(&account.statement) {
                rows.put(Key::statement(row, sequence), &Row::Statements(*entry));
            }
        }
    }

    /// What a hold that ended long ago leaves behind may be gone. Spec: G-08.
    fn presence(&self, hold: HoldKey, now: Timestamp) -> Presence {
        let ended_at = self.ended.get(&hold).copied();
        forgettable(ended_at, now.minus_ms(ENDED_KEPT_MS))
    }

    fn hold_rows(&self, rows: &mut Expected, table: Table, now: Timestamp) {
        for (id, hold) in &self.holds {
            let (key, redeem_by) = (hold.key, hold.record.hold.terms.redeem_by);
            let is_open = hold.record.state == HoldState::Open;
            let presence = self.presence(key, now);
            let ended_at = self.ended.get(&key).copied();
            let (key, row) = match table {
                Table::HoldIds => (Key::hold_id(id), Row::HoldIds(key)),
                Table::OpenHolds if is_open => (Key::open_hold(key), Row::OpenHolds(())),
                Table::Due if is_open => (Key::due(redeem_by, key), Row::Due(())),
                Table::Ended if !is_open => (Key::ended(ended_at.unwrap_or(Timestamp(0)), key), Row::Ended(())),
                Table::Holds => {
                    let left = u64::try_from(self.place(Place::Hold(key))).unwrap_or(u64::MAX);
                    let row = hold.row(Amount(left), ended_at.unwrap_or(Timestamp(0)));
                    (Key::hold(key), Row::Holds(row))
                }
                _ => continue,
            };
            rows.put_as(key, Digest::of(&row), presence);
        }
    }

    fn book_rows(&self, rows: &mut Expected, now: Timestamp) {
        for ((hold, book), record) in &self.books {
            let row = Row::Books(BookRow {
                preimage: record.preimage,
                receipt: record.receipt,
            });
            rows.put_as(Key::book(*hold, book), Digest::of(&row), self.presence(*hold, now));
        }
    }

    /// Of an id that was used once more, long after its first answer was forgotten, the last answer counts.
    fn answer_rows(&self, rows: &mut Expected, table: Table, now: Timestamp) {
        for kept in &self.answers {
            let presence = forgettable(Some(kept.at), now.minus_ms(ANSWER_KEPT_MS));
            let (key, row) = match table {
                Table::Answers => (Key::answer(&kept.age.connection, &kept.age.request), kept.digest),
                _ => (
                    Key::answer_age(kept.at, kept.place),
                    Digest::of(&Row::AnswerAges(kept.age)),
                ),
            };
            rows.put_as(key, row, presence);
        }
    }

    fn withdrawal_rows(&self, rows: &mut Expected, table: Table, now: Timestamp) {
        for (number, row) in &self.money.withdrawals {
            let settled_at = match row.state {
                WithdrawalState::Pending => None,
                WithdrawalState::Paid | WithdrawalState::Failed => Some(row.settled_at),
            };
            let presence = forgettable(settled_at, now.minus_ms(ENDED_KEPT_MS));
            let (key, row) = match (table, settled_at) {
                (Table::Withdrawals, _) => (Key::withdrawal(*number), Row::Withdrawals(row.clone())),
                (Table::PendingWithdrawals, None) => (Key::pending_withdrawal(*number), Row::PendingWithdrawals(())),
                (Table::SettledWithdrawals, Some(at)) => {
                    (Key::settled_withdrawal(at, *number), Row::SettledWithdrawals(()))
                }
                _ => continue,
            };
            rows.put_as(key, Digest::of(&row), presence);
        }
    }
}

/// Whether what ended then may be gone, where all that ended before `limit` may.
fn forgettable(ended_at: Option<Timestamp>, limit: Timestamp) -> Presence {
    match ended_at {
        Some(at) if at <= limit => Presence::Forgettable,
        Some(_) | None => Presence::Needed,
    }
}
