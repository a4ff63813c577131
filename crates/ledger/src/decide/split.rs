//! Splits: among whom a payee's credits are divided, and what each gets of one.

use super::Work;
use super::hold::cause_of;
use crate::event::{Effect, ReadRow};
use crate::key::Key;
use crate::request::VerifiedRequest;
use crate::row::{AccountRow, Row, ShareRow, SplitRow};
use crate::view::Stop;
use tombola_core::amount::Amount;
use tombola_core::codec::List;
use tombola_core::escrow::split;
use tombola_core::limits::SHARES_MAX;
use tombola_core::message::{EscrowAnswer, Share, SharePaid};
use tombola_core::reject::{Code, Reject};

/// A payee's credit, divided.
#[derive(Debug)]
pub(super) struct Divided {
    /// What the payee keeps.
    pub(super) kept: Amount,
    /// What others get, with their rows; an amount may be 0.
    pub(super) shares: Vec<(u64, SharePaid)>,
    /// Version of the split; 0 if there is none.
    pub(super) version: u64,
}

impl Divided {
    /// As the event and the payee's statement list it.
    pub(super) fn listed(&self) -> List<SharePaid, SHARES_MAX> {
        let shares = self.shares.iter().map(|(_, share)| *share).collect();
        // As many as the split has, which came in such a list.
        List::new(shares).unwrap_or_default()
    }

    /// What moves: shares that came to nothing move nothing.
    pub(super) fn credits(&self) -> impl Iterator<Item = (u64, Amount)> {
        let moving = self.shares.iter().filter(|(_, share)| !share.amount.is_zero());
        moving.map(|(row, share)| (*row, share.amount))
    }
}

impl Work<'_> {
    /// Sets a split, or ends it; its accounts are made at once, so that a claim finds them. Spec: R-22.
    pub(super) fn set_split(&mut self, request: &VerifiedRequest, shares: &[Share]) -> Result<EscrowAnswer, Stop> {
        let unknown = Reject::of(Code::AccountUnknown);
        let (row, _) = self.account_row(&request.request().account)?.ok_or(Stop::No(unknown))?;
        let mut found = Vec::with_capacity(shares.len());
        for share in shares {
            found.push(self.account_number(&share.account)?);
        }
        self.view.find::<SplitRow>(Key::split(row))?;
        let reads = self.reads(&[ReadRow::Split(row)]);
        let mut rows = Vec::with_capacity(shares.len());
        for (share, found) in shares.iter().zip(found) {
            rows.push(ShareRow {
                account: share.account,
                row: self.ensure_account(&share.account, found),
                ppm: share.ppm,
            });
        }
        self.view.put(Key::split(row), Row::Splits(SplitRow { shares: rows }));
        let body = self.event_body(cause_of(request), Effect::SplitSet, Vec::new(), reads);
        self.book(body, &[], &[]);
        Ok(EscrowAnswer::SplitSet { at: self.now })
    }

    /// Divides a payee's credit by the split in force; loads what that needs. Spec: R-22.
    pub(super) fn divided(&self, payee: u64, credit: Amount) -> Result<Divided, Stop> {
        let key = Key::split(payee);
        let none = Vec::new();
        let rows = self.view.find::<SplitRow>(key)?.map_or(&none, |split| &split.shares);
        let shares: Vec<Share> = rows.iter().map(share_of).collect();
        let division = split::divide(credit, &shares);
        let divided = Divided {
            kept: division.kept,
            shares: rows.iter().map(|share| share.row).zip(division.shares).collect(),
            version: self.view.version(key),
        };
        for (row, _) in divided.credits() {
            if let Some(ReadRow::Account(row)) = self.check_creditable(row)? {
                self.view.need::<AccountRow>(Key::account(row))?;
            }
        }
        Ok(divided)
    }
}

/// As the rules and `Account` show it.
pub(crate) const fn share_of(row: &ShareRow) -> Share {
    Share {
        account: row.account,
        ppm: row.ppm,
    }
}
