//! An escrow that keeps its books in memory and gives whoever asks what it asks for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tombola_core::amount::{Amount, Asset};
use tombola_core::claim::Head;
use tombola_core::codec::List;
use tombola_core::hold::{Fee, Hold, HoldTerms};
use tombola_core::key::{AccountKey, HoldId, SecretKey, Signed};
use tombola_core::message::{
    AccountState, EscrowAnswer, EscrowCommand, EscrowInfo, EscrowRequest, HoldRequest, HoldState, HoldStatus, Phase,
    Reference, Shares, StatementEntry, StatementKind, StatementPage,
};
use tombola_core::reject::{Code, Reject};
use tombola_node::clock;

const DEPOSIT: Amount = Amount(1_000_000_000_000);

pub(super) struct Bank {
    key: SecretKey,
    holds: Mutex<Vec<HoldStatus>>,
}

impl Bank {
    pub(super) const fn new(key: SecretKey) -> Self {
        Self {
            key,
            holds: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn sign(&self, hold: Hold) -> Signed<Hold> {
        Signed::new(hold, &self.key)
    }

    pub(super) fn answer(&self, EscrowRequest { account, command }: EscrowRequest) -> EscrowAnswer {
        match command {
            EscrowCommand::Info => EscrowAnswer::Info(self.info()),
            EscrowCommand::Account { holds_after } => EscrowAnswer::Account(self.account(account, holds_after)),
            EscrowCommand::OpenHold { hold, .. } => EscrowAnswer::Hold(self.open(account, &hold)),
            EscrowCommand::TopUpHold { hold, cap, .. } => self.find(&hold, |status| {
                let body = status.hold.body;
                let revision = body.revision.saturating_add(1);
                status.hold = self.sign(Hold { revision, cap, ..body });
                EscrowAnswer::Hold(status.hold)
            }),
            EscrowCommand::HoldStatus { hold } => self.find(&hold, |status| EscrowAnswer::HoldStatus(*status)),
            EscrowCommand::Statement { after } | EscrowCommand::Subscribe { after } => {
                EscrowAnswer::Statement(statement(after))
            }
            EscrowCommand::Release(_)
            | EscrowCommand::Delegate { .. }
            | EscrowCommand::Claim { .. }
            | EscrowCommand::Transfer { .. }
            | EscrowCommand::Withdraw { .. }
            | EscrowCommand::SetPayout { .. }
            | EscrowCommand::SetSplit { .. }
            | EscrowCommand::Resubmit { .. } => EscrowAnswer::Rejected(Reject::of(Code::Unavailable)),
        }
    }

    fn info(&self) -> EscrowInfo {
        EscrowInfo {
            escrow: self.key.account(),
            asset: Asset::USD,
            name: Reference::new("bank").expect("a short name"),
            time: clock::now(),
            phase: Phase::Open,
            fee: Fee::default(),
            face_value_min: Amount(1),
            cap_min: Amount(1),
            writer: 0,
            height: 0,
            head: Head([0; 32]),
            payout_fee: Amount::ZERO,
            payout_min: Amount(1),
        }
    }

    fn account(&self, account: AccountKey, after: u64) -> AccountState {
        let holds = self.holds();
        let page = holds.iter().filter(|status| status.hold.body.terms.serial > after);
        AccountState {
            account,
            balance: DEPOSIT,
            held: Amount::ZERO,
            open_holds: u32::try_from(holds.len()).expect("a few"),
            holds: List::new(page.copied().collect()).expect("a few"),
            more: false,
            pending: Amount::ZERO,
            payout: None,
            shares: Shares::default(),
        }
    }

    fn open(&self, payer: AccountKey, asked: &HoldRequest) -> Signed<Hold> {
        let mut holds = self.holds();
        let terms = HoldTerms {
            escrow: self.key.account(),
            asset: Asset::USD,
            payer,
            signer: asked.signer,
            payee: asked.payee,
            serial: u64::try_from(holds.len()).expect("a few").saturating_add(1),
            fee: Fee::default(),
            face_value_min: asked.face_value_min,
            face_value_max: asked.face_value_max,
            book_length_max: asked.book_length_max,
            opened_at: clock::now(),
            expires_at: asked.expires_at,
            redeem_by: asked.redeem_by,
        };
        let hold = self.sign(Hold {
            terms,
            revision: 0,
            cap: asked.cap,
        });
        holds.push(HoldStatus {
            hold,
            paid: Amount::ZERO,
            state: HoldState::Open,
        });
        hold
    }

    fn find(&self, hold: &HoldId, answer: impl FnOnce(&mut HoldStatus) -> EscrowAnswer) -> EscrowAnswer {
        let mut holds = self.holds();
        let known = holds.iter_mut().find(|status| status.hold.body.id() == *hold);
        known.map_or(EscrowAnswer::Rejected(Reject::of(Code::HoldUnknown)), answer)
    }

    fn holds(&self) -> MutexGuard<'_, Vec<HoldStatus>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The deposit, of which all else follows.
fn statement(after: u64) -> StatementPage {
    let deposit = StatementEntry {
        sequence: 1,
        at: clock::now(),
        balance: DEPOSIT,
        kind: StatementKind::Deposited {
            amount: DEPOSIT,
            reference: Reference::new("deposit").expect("a short text"),
        },
    };
    let entries = if after == 0 { vec![deposit] } else { Vec::new() };
    StatementPage {
        entries: List::new(entries).expect("one"),
        more: false,
    }
}
