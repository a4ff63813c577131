//! `Account` and `HoldStatus`: how things stand, for the account itself and for its signers.

use super::{Asked, Failure, account_row, load_all, page};
use crate::decide::{judged_signer, share_of};
use crate::draft::blank;
use crate::holds::{load_hold, load_row};
use crate::key::{HoldKey, Key};
use crate::row::{AccountRow, HoldRow, PayoutRow, SignerRow, SplitRow};
use crate::store::{Range, Reader, StoreFault};
use tombola_core::amount::Amount;
use tombola_core::codec::List;
use tombola_core::escrow::delegation::{self, SignerRecord};
use tombola_core::key::HoldId;
use tombola_core::limits::{OPEN_HOLDS_PER_ACCOUNT_MAX, PAGE_ITEMS_MAX};
use tombola_core::message::{AccountState, EscrowAnswer, HoldStatus};
use tombola_core::reject::Code;

/// As whom a key asks about an account.
pub(super) enum Viewer {
    /// The account itself.
    Owner,
    /// A key that it delegated to, whatever became of that.
    Signer(SignerRecord),
}

impl<R: Reader> Asked<'_, R> {
    /// As whom the connection's key asks. Spec: A-06.
    pub(super) async fn viewer(&self) -> Result<Viewer, Failure> {
        if self.connection == self.account {
            return Ok(Viewer::Owner);
        }
        let unauthorized = || Failure::from(Code::Unauthorized);
        let row = load_row::<R, u64>(self.reader, Key::account_id(self.account)).await?;
        let key = Key::signer(row.ok_or_else(unauthorized)?, self.connection);
        let signer = load_row::<R, SignerRow>(self.reader, key).await?;
        let record = signer.as_ref().map(judged_signer);
        delegation::check_reader(record.as_ref())?;
        record.map(Viewer::Signer).ok_or_else(unauthorized)
    }

    /// Balance and open holds, and how many holds were read for it. Spec: R-06.
    pub(super) async fn account_state(&self, after: u64) -> Result<(EscrowAnswer, usize), Failure> {
        let viewer = self.viewer().await?;
        let (row, account) = account_row(self.reader, self.account).await?;
        match viewer {
            Viewer::Owner => self.owners_state(row, &account, after).await,
            Viewer::Signer(record) => self.signers_state(row, &account, &record, after).await,
        }
    }

    async fn owners_state(&self, row: u64, account: &AccountRow, after: u64) -> Result<(EscrowAnswer, usize), Failure> {
        let open = |serial| Key::open_hold(HoldKey { payer: row, serial });
        let (page, more) = page(self.reader, open, after, PAGE_ITEMS_MAX).await?;
        let keys: Vec<Key> = page.iter().map(|(key, _)| Key::hold(key.last_hold())).collect();
        let holds = load_all::<R, HoldRow>(self.reader, &keys).await?;
        let payout: Option<PayoutRow> = load_row(self.reader, Key::payout(row)).await?;
        let split: Option<SplitRow> = load_row(self.reader, Key::split(row)).await?;
        let shares = split.map_or_else(Vec::new, |split| split.shares.iter().map(share_of).collect());
        let state = AccountState {
            account: account.account,
            balance: account.balance,
            held: account.held,
            open_holds: account.open_holds,
            holds: List::new(holds.iter().map(status_of).collect()).map_err(|_| StoreFault::Damaged)?,
            more,
            pending: account.pending,
            payout: payout.and_then(|payout| payout.policy),
            shares: List::new(shares).map_err(|_| StoreFault::Damaged)?,
        };
        Ok((EscrowAnswer::Account(state), keys.len()))
    }

    /// Only what is the signer's. Spec: A-06.
    async fn signers_state(
        &self,
        row: u64,
        account: &AccountRow,
        record: &SignerRecord,
        after: u64,
    ) -> Result<(EscrowAnswer, usize), Failure> {
        let open = |serial| Key::open_hold(HoldKey { payer: row, serial });
        let range = Range {
            from: open(0),
            to: Some(open(u64::MAX)),
            limit: usize::try_from(OPEN_HOLDS_PER_ACCOUNT_MAX).unwrap_or(usize::MAX),
        };
        let found = self.reader.scan(&range).await?;
        let keys: Vec<Key> = found.iter().map(|(key, _)| Key::hold(key.last_hold())).collect();
        let mut holds = load_all::<R, HoldRow>(self.reader, &keys).await?;
        holds.retain(|hold| hold.hold.terms.signer == *self.connection);
        let held = Amount(holds.iter().fold(0, |sum, hold| hold.left.0.saturating_add(sum)));
        let open_holds = u32::try_from(holds.len()).unwrap_or(u32::MAX);
        holds.retain(|hold| hold.hold.terms.serial > after);
        let more = holds.len() > PAGE_ITEMS_MAX;
        holds.truncate(PAGE_ITEMS_MAX);
        let state = AccountState {
            account: account.account,
            balance: delegation::spendable(Some(record), account.balance, self.now),
            held,
            open_holds,
            holds: List::new(holds.iter().map(status_of).collect()).map_err(|_| StoreFault::Damaged)?,
            more,
            pending: Amount::ZERO,
            payout: None,
            shares: List::default(),
        };
        Ok((EscrowAnswer::Account(state), keys.len()))
    }

    /// To the parties of the hold only, and to its signer on the payer's account. Spec: R-08.
    pub(super) async fn hold_status(&self, hold: &HoldId) -> Result<EscrowAnswer, Failure> {
        let viewer = self.viewer().await?;
        let hold = load_hold(self.reader, hold).await?;
        let hold = hold.ok_or_else(|| Failure::from(Code::HoldUnknown))?;
        let terms = &hold.hold.terms;
        let may_see = match viewer {
            Viewer::Owner => [terms.payer, terms.payee, terms.signer].contains(self.account),
            Viewer::Signer(_) => (terms.payer, terms.signer) == (*self.account, *self.connection),
        };
        if !may_see {
            return Err(Code::Unauthorized.into());
        }
        Ok(EscrowAnswer::HoldStatus(status_of(&hold)))
    }
}

const fn status_of(hold: &HoldRow) -> HoldStatus {
    HoldStatus {
        hold: blank(hold.hold),
        paid: hold.paid,
        state: hold.state,
    }
}
