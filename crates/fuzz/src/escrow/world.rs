//! A ledger in memory, its parties' keys, and what they remember of it.

use super::ask::{Answered, Waiting};
use crate::input::Input;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use tombola_core::amount::{Amount, Asset, DAY_MS, HOUR_MS, Timestamp};
use tombola_core::claim::{Claim, Receipt};
use tombola_core::codec::encode;
use tombola_core::escrow::EscrowConfig;
use tombola_core::hold::{Fee, Hold};
use tombola_core::key::{AccountKey, BookId, HoldId, PublicKey, RequestId, SecretKey, Signed};
use tombola_core::message::{EscrowRequest, Reference, RequestHeader};
use tombola_ledger::audit::audit;
use tombola_ledger::extract::{bounds, encode_start, page};
use tombola_ledger::holds::HoldCache;
use tombola_ledger::key::Key;
use tombola_ledger::ledger::{Command, Ledger, Outcome};
use tombola_ledger::store::{Change, Commit, Store, Stored};
use tombola_store::block_on::block_on;
use tombola_store::model::ModelStore;

/// Parties by number: 0 is the escrow, 1 to 3 pay, 4 to 6 are paid, 7 is a signer.
pub(super) const PARTIES: usize = 8;
const START: Timestamp = Timestamp(1_800_000_000_000);

/// What a party keeps of a hold.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) hold: Hold,
    /// Gross of each book's last receipt.
    pub(super) books: BTreeMap<BookId, Receipt>,
    pub(super) claims: Vec<(Claim, Receipt)>,
}

/// See the module.
pub(crate) struct World {
    ledger: Ledger<ModelStore>,
    cache: HoldCache,
    config: EscrowConfig,
    pub(super) now: Timestamp,
    next_id: u64,
    pub(super) holds: Vec<Known>,
    pub(super) withdrawals: Vec<u64>,
    /// The last request, to be repeated.
    pub(super) last: Option<(usize, EscrowRequest)>,
    checkpoint: Vec<(Key, Stored)>,
    /// After a rollback nobody's memory is that of the ledger.
    is_whole: bool,
}

impl World {
    pub(super) fn new() -> Self {
        let config = EscrowConfig {
            escrow: account(0),
            asset: Asset::USD,
            name: Reference::new("fuzz").expect("short"),
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
        };
        Self {
            ledger: open(ModelStore::default(), &config, START),
            cache: HoldCache::new(config.escrow),
            config,
            now: START,
            next_id: 0,
            holds: Vec::new(),
            withdrawals: Vec::new(),
            last: None,
            checkpoint: Vec::new(),
            is_whole: true,
        }
    }

    pub(super) fn header(&mut self) -> RequestHeader {
        self.next_id += 1;
        RequestHeader {
            id: RequestId(u128::from(self.next_id).to_le_bytes()),
            issued_at: self.now,
        }
    }

    /// As a node verifies it before the writer sees it.
    pub(super) fn verified(&self, connection: usize, request: EscrowRequest) -> Command {
        let verified = self.cache.verify(self.ledger.store(), account(connection), request);
        Command::Request(block_on(verified).expect("the model does not fail"))
    }

    /// One commit; then what each command was answered is compared with what is known.
    pub(super) fn commit(&mut self, batch: Vec<Waiting>) {
        let (commands, asked): (Vec<_>, Vec<_>) = batch.into_iter().map(|w| (w.command, w.asked)).unzip();
        let outcomes = self.execute(commands);
        for (outcome, asked) in outcomes.into_iter().zip(asked) {
            match asked.answered(&outcome) {
                Answered::Opened(hold) => self.learn_hold(hold),
                Answered::Raised(hold) => self.raise(hold),
                Answered::Receipts(receipts) => receipts
                    .into_iter()
                    .for_each(|(claim, receipt)| self.paid(claim, receipt)),
                Answered::Withdrawal(number) => self.withdrawals.push(number),
                Answered::Other => {}
            }
        }
    }

    fn execute(&mut self, commands: Vec<Command>) -> Vec<Outcome> {
        let count = commands.len();
        let outcomes = block_on(self.ledger.execute(commands, self.now)).expect("the model does not fail");
        assert_eq!(outcomes.len(), count, "one outcome of each command");
        self.check_conserved();
        outcomes
    }

    fn check_conserved(&self) {
        let t = self.ledger.totals();
        let parts = [t.balances, t.held, t.fees, t.pending, t.withdrawn];
        assert!(parts.iter().all(|part| *part >= 0), "{t:?}");
        assert_eq!(t.deposits, parts.iter().sum::<i128>(), "{t:?}");
    }

    fn learn_hold(&mut self, hold: Hold) {
        if !self.holds.iter().any(|known| known.hold.id() == hold.id()) {
            let books = BTreeMap::new();
            self.holds.push(Known {
                hold,
                books,
                claims: Vec::new(),
            });
        }
    }

    fn raise(&mut self, hold: Hold) {
        let known = self.holds.iter_mut().find(|known| known.hold.id() == hold.id());
        let Some(known) = known else { return };
        if self.is_whole && hold.revision > known.hold.revision {
            assert_eq!(hold.terms, known.hold.terms, "a revision changes the cap only");
            assert!(hold.cap > known.hold.cap, "and only raises it");
        }
        // A repeated answer may show an earlier revision.
        if hold.revision > known.hold.revision {
            known.hold = hold;
        }
    }

    /// A receipt pays what was drawn, once, and no more than the hold has.
    fn paid(&mut self, claim: Claim, receipt: Receipt) {
        let known = self
            .holds
            .iter_mut()
            .find(|known| known.hold.id() == claim.book.body.hold);
        let known = known.expect("a receipt is for a hold that was opened");
        let won = claim.verify(&known.hold).expect("what was paid does verify");
        assert_eq!(receipt.book, won.book);
        assert!(receipt.through >= won.through, "at least what was claimed");
        let before = known.books.insert(receipt.book, receipt);
        if receipt.through == won.through {
            assert_eq!((receipt.winners, receipt.gross), (won.winners, won.gross));
            known.claims.push((claim, receipt));
        }
        if !self.is_whole {
            return;
        }
        if let Some(before) = before {
            assert!(receipt.through >= before.through, "what was paid stays paid");
            let is_same = receipt == before;
            assert_eq!(
                is_same,
                receipt.through == before.through,
                "a repeat is the same receipt"
            );
        }
        let paid: u64 = known.books.values().map(|receipt| receipt.gross.0).sum();
        let last = known.books.values().map(|receipt| receipt.hold_paid_after.0).max();
        assert_eq!(last, Some(paid), "a hold has paid what its books were paid");
        assert!(paid <= known.hold.cap.0, "and no more than it had");
    }

    /// What a node does from time to time, and what becomes of it.
    pub(super) fn live(&mut self, what: u8, input: &mut Input<'_>) {
        let fine = "the model does not fail";
        match what % 9 {
            0 => self.now = self.now.plus_ms(input.pick(&[1, 30_000, HOUR_MS, DAY_MS, 30 * DAY_MS])),
            1 => drop(block_on(self.ledger.expire_due(100, self.now)).expect(fine)),
            2 => drop(block_on(self.ledger.prune(100, self.now)).expect(fine)),
            3 => drop(block_on(self.ledger.pay_out(100, self.now)).expect(fine)),
            4 => self.serve(),
            5 => self.reopen(self.ledger.store().clone()),
            6 => self.checkpoint = self.ledger.store().rows(),
            7 => self.roll_back(),
            _ => {
                self.ledger.end_recovery(self.now);
                self.execute(Vec::new());
            }
        }
        self.check_conserved();
    }

    /// Serves for longer than an hour without a gap, so that holds may expire.
    fn serve(&mut self) {
        for _ in 0..130 {
            self.now = self.now.plus_ms(30_000);
            self.execute(Vec::new());
        }
    }

    fn reopen(&mut self, store: ModelStore) {
        self.ledger = open(store, &self.config, self.now);
        self.cache = HoldCache::new(self.config.escrow);
    }

    /// The store is lost, and a copy of an earlier time takes its place.
    fn roll_back(&mut self) {
        if self.checkpoint.is_empty() {
            return;
        }
        let store = ModelStore::default();
        let changes = self.checkpoint.iter().map(|(key, stored)| Change {
            key: *key,
            before: 0,
            after: Some(stored.clone()),
        });
        let commit = Commit {
            changes: changes.collect(),
            reads: Vec::new(),
            mark: Key::header(),
        };
        block_on(store.commit(commit)).expect("an empty store takes all");
        self.config.epoch += 1;
        self.reopen(store);
        let restored_at = self.ledger.totals().time;
        self.ledger.begin_recovery(restored_at);
        self.ledger.set_epoch(self.config.epoch);
        self.is_whole = false;
        self.execute(Vec::new());
    }

    /// Replays the log and compares every row.
    pub(super) fn audit(&self) {
        let snapshot = block_on(self.ledger.store().snapshot()).expect("the model does not fail");
        let report = block_on(audit(&snapshot, &self.config)).expect("the model does not fail");
        assert_eq!(report.findings, [], "{report:?}");
        assert!(report.conserved);
    }

    /// A part of the log as a file.
    pub(crate) fn extract(&self, from: u64, to: u64) -> Vec<u8> {
        let store = self.ledger.store();
        let (start, end) = block_on(bounds(store, self.config.escrow, 0, from, to)).expect("the log has them");
        let (events, next) = block_on(page(store, 0, from, end.height)).expect("the model does not fail");
        assert_eq!(next, None, "a short log is one page");
        [encode_start(&start), events, encode(&Signed::new(end, secret(0)))].concat()
    }

    pub(super) fn hold(&self, input: &mut Input<'_>) -> Option<&Known> {
        self.holds.get(input.below(self.holds.len()))
    }

    pub(super) fn paid_of(&self, hold: &HoldId) -> u64 {
        let known = self.holds.iter().find(|known| known.hold.id() == *hold);
        known.map_or(0, |known| known.books.values().map(|receipt| receipt.gross.0).sum())
    }
}

fn open(store: ModelStore, config: &EscrowConfig, now: Timestamp) -> Ledger<ModelStore> {
    block_on(Ledger::open(store, config.clone(), now)).expect("the model does not fail")
}

pub(super) fn secret(party: usize) -> &'static SecretKey {
    static SECRETS: OnceLock<Vec<SecretKey>> = OnceLock::new();
    let make = |n: usize| SecretKey::from_seed(&[u8::try_from(n + 1).unwrap_or(u8::MAX); 32]);
    &SECRETS.get_or_init(|| (0..PARTIES).map(make).collect())[party % PARTIES]
}

pub(super) fn account(party: usize) -> AccountKey {
    public(party).account()
}

/// Checked once: a check costs as much as a signature.
pub(super) fn public(party: usize) -> PublicKey {
    static KEYS: OnceLock<Vec<PublicKey>> = OnceLock::new();
    let make = |n: usize| secret(n).account().check().expect("own keys are keys");
    KEYS.get_or_init(|| (0..PARTIES).map(make).collect())[party % PARTIES]
}
