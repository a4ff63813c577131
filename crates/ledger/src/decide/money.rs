//! Deposits and transfers.

use super::{Decided, Work};
use crate::event::{Cause, Effect, Place, ReadRow, moved};
use crate::key::Key;
use crate::ledger::Outcome;
use crate::request::VerifiedRequest;
use crate::row::{DepositRow, Row, WRITERS_MAX};
use crate::store::Sharing;
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
        let found = self.account_number(&account)?;
        if let Some(before) = before {
            if before.account != account || before.amount != amount {
                return Err(Reject::compared(Code::ReferenceReused, before.amount.0, amount.0).into());
            }
            return Ok(deposited(&before));
        }
        escrow::deposit(amount, self.supply())?;
        let read = match found {
            Some(row) => self.check_creditable(row)?,
            None => None,
        };
        let reads = self.reads(read.as_slice());
        let row = self.ensure_account(&account, found);
        let cause = Cause::Deposit {
            account,
            amount,
            reference: reference.clone(),
        };
        let postings = moved(Place::Outside, self.credited(row), amount).to_vec();
        let body = self.event_body(cause, Effect::Deposited, postings, reads);
        let logged = self.book(body, &[], &[(row, amount)]);
        let entry = DepositRow {
            account,
            amount,
            at: self.now,
            place: logged.place,
        };
        self.view.put(key, Row::Deposits(entry));
        Ok(deposited(&entry))
    }

    /// What counts towards the limit of all money: it fits in one amount, so no account can overflow. Each of several
    /// writers has an equal part of it, and none needs to ask the others.
    fn supply(&self) -> Amount {
        let inside = self.totals.deposits.saturating_sub(self.totals.withdrawn);
        let own = u64::try_from(inside.max(0)).unwrap_or(u64::MAX);
        let others = match self.sharing {
            Sharing::Sole => 0,
            Sharing::Shared => u64::MAX.saturating_sub(u64::MAX >> WRITERS_MAX.ilog2()),
        };
        Amount(own.saturating_add(others))
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
        let found = self.account_number(to)?;
        escrow::transfer(from, to, amount, sender.balance)?;
        let mut read = vec![ReadRow::Account(from_row)];
        if let Some(row) = found {
            read.extend(self.check_creditable(row)?);
        }
        let reads = self.reads(&read);
        let to_row = self.ensure_account(to, found);
        self.debit(from_row, amount);
        let cause = Cause::Request {
            connection: *request.connection(),
            request: Box::new(request.request().clone()),
        };
        let postings = moved(Place::Account(from_row), self.credited(to_row), amount).to_vec();
        let body = self.event_body(cause, Effect::Transferred, postings, reads);
        let logged = self.book(body, &[from_row], &[(to_row, amount)]);
        Ok(EscrowAnswer::Transferred(TransferReceipt {
            from: *from,
            to: *to,
            amount,
            reference: reference.clone(),
            at: self.now,
            height: logged.place.height,
            head: logged.head,
        }))
    }
}

fn deposited(row: &DepositRow) -> Decided {
    Decided::Outcome(Outcome::Deposited {
        account: row.account,
        amount: row.amount,
        at: row.at,
        place: row.place,
    })
}
