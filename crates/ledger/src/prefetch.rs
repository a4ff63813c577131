//! Loads what a batch will read, in three rounds for the whole batch rather than row by row.
//!
//! What is missed here is loaded when a decision asks for it, so this is about speed alone.

use crate::key::{HoldKey, Key};
use crate::ledger::Command;
use crate::request::{Proof, VerifiedRequest, hold_of};
use crate::row::HoldRow;
use crate::store::{Reader, Sharing, StoreFault};
use crate::view::View;
use tombola_core::key::{AccountKey, BookId, HoldId};
use tombola_core::message::EscrowCommand;

/// What commands name.
#[derive(Debug, Default)]
struct Named {
    keys: Vec<Key>,
    accounts: Vec<AccountKey>,
    /// Accounts to which something comes, of which the number is enough where credits go beside them.
    credited: Vec<AccountKey>,
    holds: Vec<HoldId>,
    /// Holds that may end, of which the lists of open and due ones are read.
    ending: Vec<HoldId>,
    books: Vec<(HoldId, BookId)>,
}

/// Loads the rows of all commands.
///
/// What is credited beside its account is not loaded with it: that row is everybody's, and loading it would tie the
/// batch to what others do with it.
pub(crate) async fn prefetch<R: Reader>(
    view: &mut View,
    reader: &R,
    sharing: Sharing,
    batch: &[Command],
) -> Result<(), StoreFault> {
    let mut named = Named::default();
    for command in batch {
        named.command(command);
    }
    let mut keys = std::mem::take(&mut named.keys);
    let accounts = named.accounts.iter().chain(&named.credited);
    keys.extend(accounts.map(Key::account_id));
    keys.extend(named.holds.iter().map(Key::hold_id));
    view.load(reader, &keys).await?;

    let mut keys = Vec::new();
    let credited: &[AccountKey] = match sharing {
        Sharing::Sole => &named.credited,
        Sharing::Shared => &[],
    };
    for account in named.accounts.iter().chain(credited) {
        keys.extend(view.peek::<u64>(Key::account_id(account)).copied().map(Key::account));
    }
    let place = |view: &View, hold: &HoldId| view.peek::<HoldKey>(Key::hold_id(hold)).copied();
    for hold in &named.holds {
        if let Some(hold) = place(view, hold) {
            keys.extend([Key::hold(hold), Key::account(hold.payer)]);
        }
    }
    for (hold, book) in &named.books {
        keys.extend(place(view, hold).map(|hold| Key::book(hold, book)));
    }
    view.load(reader, &keys).await?;

    let mut keys = Vec::new();
    for hold in &named.holds {
        let row = place(view, hold).and_then(|hold| view.peek::<HoldRow>(Key::hold(hold)));
        let Some(payee) = row.map(|row| row.payee) else {
            continue;
        };
        keys.push(Key::split(payee));
        if sharing == Sharing::Sole {
            keys.push(Key::account(payee));
        }
    }
    for id in &named.ending {
        if let Some(hold) = place(view, id)
            && let Some(row) = view.peek::<HoldRow>(Key::hold(hold))
        {
            keys.extend([Key::open_hold(hold), Key::due(row.hold.terms.redeem_by, hold)]);
        }
    }
    view.load(reader, &keys).await
}

impl Named {
    fn command(&mut self, command: &Command) {
        match command {
            Command::Deposit { account, reference, .. } => {
                self.credited.push(account.account());
                self.keys.push(Key::deposit(reference));
            }
            Command::Expire { hold } => self.end(*hold),
            Command::Settle { withdrawal, .. } => {
                self.keys
                    .extend([Key::withdrawal(*withdrawal), Key::pending_withdrawal(*withdrawal)]);
            }
            Command::CollectFees { account, reference, .. } => {
                self.credited.push(account.account());
                self.keys.push(Key::collection(reference));
            }
            Command::PayOut { account } => self.keys.extend([Key::account(*account), Key::payout(*account)]),
            Command::Fold { account, credits } => {
                self.keys.push(Key::account(*account));
                self.keys
                    .extend(credits.iter().map(|place| Key::credit(*account, *place)));
            }
            Command::RemoveWriter { writer } => self.keys.push(Key::totals(*writer)),
            Command::Request(request) => self.request(request),
        }
    }

    fn end(&mut self, hold: HoldId) {
        self.holds.push(hold);
        self.ending.push(hold);
    }

    fn request(&mut self, request: &VerifiedRequest) {
        let asked = request.request();
        if let Some(header) = asked.command.request() {
            self.keys.push(Key::answer(request.connection(), &header.id));
        }
        match &asked.command {
            EscrowCommand::OpenHold { hold, .. } => {
                self.accounts.push(asked.account);
                self.credited.push(hold.payee);
            }
            EscrowCommand::TopUpHold { hold, .. } => self.holds.push(*hold),
            EscrowCommand::Release(release) => self.end(release.body.hold),
            EscrowCommand::Transfer { to, .. } => {
                self.accounts.push(asked.account);
                self.credited.push(*to);
            }
            EscrowCommand::Claim { batch, .. } => {
                let Proof::Claims(proofs) = request.proof() else { return };
                for (claim, proof) in batch.claims.as_slice().iter().zip(proofs) {
                    self.holds.push(claim.book.body.hold);
                    if let Ok(winnings) = proof {
                        self.books.push((claim.book.body.hold, winnings.book));
                    }
                }
            }
            EscrowCommand::Delegate { .. }
            | EscrowCommand::Withdraw { .. }
            | EscrowCommand::SetPayout { .. }
            | EscrowCommand::SetSplit { .. } => self.accounts.push(asked.account),
            EscrowCommand::Resubmit { evidence } => {
                self.holds.extend(evidence.as_slice().iter().map(hold_of));
            }
            EscrowCommand::Info
            | EscrowCommand::Account { .. }
            | EscrowCommand::HoldStatus { .. }
            | EscrowCommand::Statement { .. }
            | EscrowCommand::Subscribe { .. } => {}
        }
    }
}
