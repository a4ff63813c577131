//! A driver for tests: an escrow's ledger, three parties' keys, and a clock that only the test moves.

use std::collections::HashMap;
use tombola_core::amount::{Amount, Asset, DAY_MS, Timestamp};
use tombola_core::book::{Anchor, Book};
use tombola_core::chain::Chain;
use tombola_core::chain::Preimage;
use tombola_core::claim::{Claim, ClaimBatch, Receipt};
use tombola_core::codec::List;
use tombola_core::draw::{Draw, Reveal};
use tombola_core::escrow::EscrowConfig;
use tombola_core::hold::{Fee, Hold, Release};
use tombola_core::key::{AccountKey, BookId, HoldId, RequestId, SecretKey, Signed};
use tombola_core::message::{
    AccountState, ClaimAnswer, EscrowAnswer, EscrowCommand, EscrowRequest, HoldRequest, HoldStatus, Reference,
    RequestHeader,
};
use tombola_core::odds::Threshold;
use tombola_core::reject::Code;
use tombola_ledger::holds::HoldCache;
use tombola_ledger::key::Key;
use tombola_ledger::ledger::{Command, Ledger, LedgerFault, Outcome};
use tombola_ledger::row::{LogPlace, Row};
use tombola_ledger::store::{Change, Commit, Store, Stored};
use tombola_store::block_on::block_on;

pub(crate) const START: Timestamp = Timestamp(1_800_000_000_000);
pub(crate) const FACE: Amount = Amount(1_000);
/// Of each winner of `FACE`: 2 + 1 %.
pub(crate) const FEE: Amount = Amount(12);

pub(crate) fn config() -> EscrowConfig {
    EscrowConfig {
        escrow: secret(1).account(),
        asset: Asset::USD,
        name: Reference::new("test").unwrap(),
        fee: Fee {
            flat: Amount(2),
            ppm: 10_000,
        },
        face_value_min: Amount(10),
        cap_min: Amount(100),
        writer: 0,
        payout_fee: Amount(25),
        payout_min: Amount(100),
        epoch: 0,
    }
}

pub(crate) fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

pub(crate) fn key(n: u8) -> AccountKey {
    secret(n).account()
}

pub(crate) fn reference(text: &str) -> Reference {
    Reference::new(text).unwrap()
}

pub(crate) struct World<S: Store> {
    pub(crate) ledger: Ledger<S>,
    pub(crate) cache: HoldCache,
    pub(crate) now: Timestamp,
    /// Every batch that was run, and when, so that it can be run again elsewhere.
    pub(crate) ran: Vec<(Timestamp, Vec<Command>)>,
    next_id: u128,
}

/// Parties by number: 1 is the escrow, 2 a payer, 3 a payee.
impl<S: Store> World<S> {
    pub(crate) fn open(store: S) -> Result<Self, LedgerFault> {
        Self::open_as(0, store)
    }

    /// As one of several writers.
    pub(crate) fn open_as(writer: u32, store: S) -> Result<Self, LedgerFault> {
        let config = EscrowConfig { writer, ..config() };
        let mut world = Self::over(block_on(Ledger::open(store, config, START))?);
        world.next_id = u128::from(writer) << 64;
        Ok(world)
    }

    /// Over a ledger that is open.
    pub(crate) fn over(ledger: Ledger<S>) -> Self {
        Self {
            cache: HoldCache::new(config().escrow),
            ledger,
            now: START,
            ran: Vec::new(),
            next_id: 0,
        }
    }

    /// A payer with money.
    pub(crate) fn funded(store: S) -> Self {
        let mut world = Self::open(store).unwrap();
        world.deposit(2, 1_000_000, "first").unwrap();
        world
    }

    pub(crate) fn run(&mut self, batch: Vec<Command>) -> Vec<Outcome> {
        self.ran.push((self.now, batch.clone()));
        let outcomes = block_on(self.ledger.execute(batch, self.now)).unwrap();
        assert!(self.ledger.totals().is_conserved());
        outcomes
    }

    pub(crate) fn run_one(&mut self, command: Command) -> Outcome {
        self.run(vec![command]).remove(0)
    }

    pub(crate) fn deposit_command(account: u8, amount: u64, text: &str) -> Command {
        Command::Deposit {
            account: key(account).check().unwrap(),
            amount: Amount(amount),
            reference: reference(text),
        }
    }

    pub(crate) fn deposit(&mut self, account: u8, amount: u64, text: &str) -> Result<u64, Code> {
        match self.run_one(Self::deposit_command(account, amount, text)) {
            Outcome::Deposited { place, .. } => Ok(place.height),
            Outcome::Rejected(reject) => Err(reject.code),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn header(&mut self) -> RequestHeader {
        self.next_id += 1;
        RequestHeader {
            id: RequestId(self.next_id.to_le_bytes()),
            issued_at: self.now,
        }
    }

    /// Verifies a request as a node does before the writer sees it.
    pub(crate) fn verified(&self, connection: u8, account: u8, command: EscrowCommand) -> Command {
        let request = EscrowRequest {
            account: key(account),
            command,
        };
        let verified = self.cache.verify(self.ledger.store(), key(connection), request);
        Command::Request(block_on(verified).unwrap())
    }

    pub(crate) fn ask_as(&mut self, connection: u8, account: u8, command: EscrowCommand) -> EscrowAnswer {
        let command = self.verified(connection, account, command);
        match self.run_one(command) {
            Outcome::Answer(draft) => draft.sign(&secret(1)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn ask(&mut self, account: u8, command: EscrowCommand) -> EscrowAnswer {
        self.ask_as(account, account, command)
    }

    pub(crate) fn hold_request(&self, cap: u64) -> HoldRequest {
        HoldRequest {
            signer: key(2),
            payee: key(3),
            face_value_min: Amount(10),
            face_value_max: FACE,
            book_length_max: 4_096,
            expires_at: self.now.plus_ms(DAY_MS),
            redeem_by: self.now.plus_ms(2 * DAY_MS),
            cap: Amount(cap),
            fee_max: config().fee,
        }
    }

    pub(crate) fn open_hold(&mut self, cap: u64) -> Signed<Hold> {
        let hold = self.hold_request(cap);
        self.open_hold_as(hold).unwrap()
    }

    pub(crate) fn open_hold_as(&mut self, hold: HoldRequest) -> Result<Signed<Hold>, Code> {
        let request = self.header();
        match self.ask(2, EscrowCommand::OpenHold { request, hold }) {
            EscrowAnswer::Hold(hold) => Ok(hold),
            other => Err(code(&other)),
        }
    }

    pub(crate) fn top_up(&mut self, hold: HoldId, revision: u32, cap: u64) -> EscrowAnswer {
        let request = self.header();
        let cap = Amount(cap);
        self.ask(
            2,
            EscrowCommand::TopUpHold {
                request,
                hold,
                revision,
                cap,
            },
        )
    }

    pub(crate) fn release(&mut self, hold: HoldId, paid: u64) -> EscrowAnswer {
        let paid = Amount(paid);
        let release = Signed::new(Release { hold, paid }, &secret(3));
        self.ask(3, EscrowCommand::Release(release))
    }

    pub(crate) fn claim_command(&self, claims: Vec<Claim>) -> EscrowCommand {
        EscrowCommand::Claim {
            batch: ClaimBatch {
                escrow: key(1),
                payee: key(3),
                claims: List::new(claims).unwrap(),
            },
            signature: None,
        }
    }

    pub(crate) fn claim_all(&mut self, claims: Vec<Claim>) -> Vec<ClaimAnswer> {
        let command = self.claim_command(claims);
        match self.ask(3, command) {
            EscrowAnswer::Claimed { answers } => answers.into_vec(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn claim(&mut self, claim: Claim) -> Result<Signed<Receipt>, Code> {
        match self.claim_all(vec![claim]).remove(0) {
            ClaimAnswer::Receipt(receipt) => Ok(receipt),
            ClaimAnswer::Refusal(refusal) => Err(refusal.body.code),
        }
    }

    pub(crate) fn status(&mut self, hold: HoldId) -> HoldStatus {
        match self.ask(2, EscrowCommand::HoldStatus { hold }) {
            EscrowAnswer::HoldStatus(status) => status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn account(&mut self, account: u8) -> AccountState {
        match self.ask(account, EscrowCommand::Account { holds_after: 0 }) {
            EscrowAnswer::Account(state) => state,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn balance(&mut self, account: u8) -> u64 {
        self.account(account).balance.0
    }

    /// What an account has, if there is one.
    pub(crate) fn balance_if_any(&mut self, account: u8) -> Option<u64> {
        match self.ask(account, EscrowCommand::Account { holds_after: 0 }) {
            EscrowAnswer::Account(state) => Some(state.balance.0),
            other => {
                assert_eq!(code(&other), Code::AccountUnknown);
                None
            }
        }
    }

    pub(crate) fn transfer(&mut self, from: u8, to: u8, amount: u64) -> Result<(), Code> {
        self.refund(from, to, amount, None)
    }

    /// A transfer that may name a book.
    pub(crate) fn refund(&mut self, from: u8, to: u8, amount: u64, book: Option<BookId>) -> Result<(), Code> {
        let command = EscrowCommand::Transfer {
            request: self.header(),
            to: key(to),
            amount: Amount(amount),
            reference: reference("t"),
            book,
        };
        match self.ask(from, command) {
            EscrowAnswer::Transferred(_) => Ok(()),
            other => Err(code(&other)),
        }
    }

    /// Folds all that this writer appended, as its node does in the background.
    pub(crate) fn fold(&mut self) {
        while block_on(self.ledger.fold(100, self.now)).unwrap() > 0 {}
    }

    /// Lives on for some time, with a sign of life every half minute.
    pub(crate) fn live(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        while self.now < until {
            self.now = self.now.plus_ms(30_000).min(until);
            self.run(Vec::new());
        }
    }
}

/// A payer's book and the payee's secret for it.
pub(crate) struct TestBook {
    book: Signed<Book>,
    reveal: Reveal,
    chain: Chain,
}

impl TestBook {
    /// Every ticket wins.
    pub(crate) fn sure(hold: &Hold, n: u16, length: u32) -> Self {
        Self::new(hold, n, length, Threshold::ALWAYS)
    }

    pub(crate) fn new(hold: &Hold, n: u16, length: u32, threshold: Threshold) -> Self {
        let mut seed = [9u8; 32];
        seed[..2].copy_from_slice(&n.to_le_bytes());
        let reveal = Reveal(seed);
        let chain = Chain::new(Preimage(seed), length);
        let signer = [2, 4, 8].into_iter().find(|n| key(*n) == hold.terms.signer);
        let signer = signer.unwrap();
        let body = Book {
            hold: hold.id(),
            commitment: reveal.commitment(),
            anchor: Anchor(chain.anchor().0),
            length,
            face_value: FACE,
            threshold,
        };
        Self {
            book: Signed::new(body, &secret(signer)),
            reveal,
            chain,
        }
    }

    pub(crate) fn id(&self) -> BookId {
        self.book.body.id()
    }

    pub(crate) fn claim(&mut self, through: u32) -> Claim {
        Claim {
            book: self.book,
            reveal: self.reveal,
            through,
            preimage: self.chain.preimage(through).unwrap(),
        }
    }

    /// All winning indices.
    pub(crate) fn winners(&mut self) -> Vec<u32> {
        let draw = Draw::new(&self.book.body.id(), &self.reveal, self.book.body.threshold);
        let length = self.chain.length();
        (1..=length)
            .filter(|index| draw.wins(*index, &self.chain.preimage(*index).unwrap()))
            .collect()
    }
}

pub(crate) fn code(answer: &EscrowAnswer) -> Code {
    match answer {
        EscrowAnswer::Rejected(reject) => reject.code,
        other => panic!("not refused: {other:?}"),
    }
}

/// Changes a row behind the ledger's back, or removes it.
pub(crate) fn tamper<S: Store>(world: &World<S>, key: Key, change: impl FnOnce(Row) -> Option<Row>) {
    let store = world.ledger.store();
    let stored = block_on(store.load(&[key])).unwrap().remove(0).unwrap();
    let row = Row::decode(key.table(), &stored.bytes).unwrap();
    let after = change(row).map(|row| Stored {
        version: stored.version + 1,
        bytes: row.encode(),
    });
    let changes = vec![Change {
        key,
        before: stored.version,
        after,
    }];
    let reads = Vec::new();
    block_on(store.commit(Commit {
        changes,
        reads,
        mark: key,
    }))
    .unwrap();
}

/// Deposits of the whole ledger by account, for comparing stores.
pub(crate) fn balances<S: Store>(world: &mut World<S>, accounts: &[u8]) -> HashMap<u8, Option<(u64, u64)>> {
    let mut all = HashMap::new();
    for account in accounts {
        let state = match world.ask(*account, EscrowCommand::Account { holds_after: 0 }) {
            EscrowAnswer::Account(state) => Some((state.balance.0, state.held.0)),
            _ => None,
        };
        all.insert(*account, state);
    }
    all
}

/// A height of the first writer's log.
pub(crate) const fn in_log(height: u64) -> LogPlace {
    LogPlace { writer: 0, height }
}
