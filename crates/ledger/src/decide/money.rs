//! Deposits and transfers.

use super::{Decided, Work};
use crate::event::{Cause, Effect, Place, ReadRow, moved};
use crate::key::Key;
use crate::ledger::Outcome;
use crate::request::VerifiedRequest;
use crate::row::{DepositRow, Row};
use crate::view::Stop;
use tombola_core::amount::Amount;
use tombola_core::escrow;
use tombola_core::key::AccountKey;
use tombola_core::message::{EscrowAnswer, Reference, TransferReceipt};
use tombola_core::reject::{Code, Reject};

impl Work<'_> {
    /// Takes money in, once for each reference. Spec: R-17.
    pub(super) fn deposit(
        &mut self,
        account: AccountKey,
        amount: Amount,
        reference: &Reference,
    ) -> Result<Decided, Stop> {
        let key = Key::deposit(reference);
        let before = self.view.find::<DepositRow>(key)?.copied();
        let found = self.account_row(&account)?;
        if let Some(before) = before {
            if before.account != account || before.amount != amount {
                return Err(Reject::compared(Code::ReferenceReused, before.amount.0, amount.0).into());
            }
            return Ok(deposited(&before));
        }
        // All money together fits in an amount, so the sum of what came in does.
        let deposits = u64::try_from(self.totals.deposits).map_or(Amount(u64::MAX), Amount);
        escrow::deposit(amount, deposits)?;
        let row = self.ensure_account(&account, found);
        let reads = found.map_or_else(Vec::new, |_| self.reads(&[ReadRow::Account(row)]));
        self.credit(row, amount);
        let cause = Cause::Deposit {
            account,
            amount,
            reference: reference.clone(),
        };
        let postings = moved(Place::Outside, Place::Account(row), amount).to_vec();
        let logged = self.book(self.event_body(cause, Effect::Deposited, postings, reads), &[row]);
        let entry = DepositRow {
            account,
            amount,
            at: self.now,
            height: logged.height,
        };
        self.view.put(key, Row::Deposits(entry));
        Ok(deposited(&entry))
    }

    /// Moves money to another account, which is made if there is none. Spec: R-15.
    pub(super) fn transfer(
        &mut self,
        request: &VerifiedRequest,
        from: &AccountKey,
        to: &AccountKey,
        amount: Amount,
        reference: &Reference,
    ) -> Result<EscrowAnswer, Stop> {
        let unknown = Reject::of(Code::AccountUnknown);
        let (from_row, sender) = self.account_row(from)?.ok_or(Stop::No(unknown))?;
        let found = self.account_row(to)?;
        escrow::transfer(from, to, amount, sender.balance)?;
        let to_row = self.ensure_account(to, found);
        let reads = self.reads(&[ReadRow::Account(from_row), ReadRow::Account(to_row)]);
        self.debit(from_row, amount);
        self.credit(to_row, amount);
        let cause = Cause::Request {
            connection: *request.connection(),
            request: Box::new(request.request().clone()),
        };
        let postings = moved(Place::Account(from_row), Place::Account(to_row), amount).to_vec();
        let body = self.event_body(cause, Effect::Transferred, postings, reads);
        let logged = self.book(body, &[from_row, to_row]);
        Ok(EscrowAnswer::Transferred(TransferReceipt {
            from: *from,
            to: *to,
            amount,
            reference: reference.clone(),
            at: self.now,
            height: logged.height,
            head: logged.head,
        }))
    }
}

fn deposited(row: &DepositRow) -> Decided {
    Decided::Outcome(Outcome::Deposited {
        account: row.account,
        amount: row.amount,
        at: row.at,
        height: row.height,
    })
}
