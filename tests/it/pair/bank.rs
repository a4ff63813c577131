//! The escrow: a ledger on the model store, asked over the net or directly.

use super::net::{Kind, Net, Packet, Party};
use tombola_core::amount::{Amount, Asset, Timestamp};
use tombola_core::codec::{decode, encode};
use tombola_core::escrow::EscrowConfig;
use tombola_core::hold::Fee;
use tombola_core::key::{AccountKey, SecretKey};
use tombola_core::message::{AccountState, EscrowAnswer, EscrowCommand, EscrowRequest, HoldState, Reference};
use tombola_ledger::audit::{AuditReport, audit};

use tombola_ledger::holds::HoldCache;
use tombola_ledger::ledger::{Command, Ledger, Outcome};
use tombola_ledger::query;
use tombola_ledger::store::Store;
use tombola_store::block_on::block_on;
use tombola_store::model::ModelStore;

#[derive(Debug)]
pub(crate) struct Bank {
    key: SecretKey,
    config: EscrowConfig,
    store: ModelStore,
    ledger: Ledger<ModelStore>,
    cache: HoldCache,
    deposits: u64,
    accounts: Vec<AccountKey>,
}

impl Bank {
    pub(crate) fn new(net: &mut Net) -> Self {
        let key = SecretKey::from_seed(&net.dice.bytes());
        let config = EscrowConfig {
            escrow: key.account(),
            asset: Asset::USD,
            name: Reference::new("pair").unwrap(),
            fee: Fee {
                flat: Amount(1),
                ppm: 10_000,
            },
            face_value_min: Amount(10),
            cap_min: Amount(100),
            writer: 0,
            payout_fee: Amount::ZERO,
            payout_min: Amount::ZERO,
            epoch: 0,
        };
        let store = ModelStore::default();
        let ledger = block_on(Ledger::open(store.clone(), config.clone(), net.now)).unwrap();
        Self {
            cache: HoldCache::new(key.account()),
            key,
            config,
            store,
            ledger,
            deposits: 0,
            accounts: Vec::new(),
        }
    }

    pub(crate) fn account_key(&self) -> AccountKey {
        self.config.escrow
    }

    /// What only a lying escrow would sign.
    pub(crate) fn key(&self) -> &SecretKey {
        &self.key
    }

    /// Moves the money in again under the last reference.
    pub(crate) fn repeat_deposit(&mut self, account: AccountKey, amount: Amount, now: Timestamp) {
        self.deposits -= 1;
        self.deposit(account, amount, now);
    }

    /// The process dies and another one opens the store.
    pub(crate) fn restart(&mut self, now: Timestamp) {
        self.cache = HoldCache::new(self.config.escrow);
        self.ledger = block_on(Ledger::open(self.store.clone(), self.config.clone(), now)).unwrap();
    }

    pub(crate) fn deposit(&mut self, account: AccountKey, amount: Amount, now: Timestamp) {
        self.deposits += 1;
        self.accounts.push(account);
        let command = Command::Deposit {
            account: account.check().unwrap(),
            amount,
            reference: Reference::new(format!("deposit {}", self.deposits)).unwrap(),
        };
        let outcome = self.execute(vec![command], now).remove(0);
        assert!(matches!(outcome, Outcome::Deposited { .. }), "{outcome:?}");
    }

    /// One commit, after which the money is all there.
    fn execute(&mut self, batch: Vec<Command>, now: Timestamp) -> Vec<Outcome> {
        let outcomes = block_on(self.ledger.execute(batch, now)).unwrap();
        let totals = self.ledger.totals();
        assert_eq!(totals.deposits, totals.balances + totals.held + totals.fees);
        outcomes
    }

    pub(crate) fn sign_of_life(&mut self, now: Timestamp) {
        self.execute(Vec::new(), now);
    }

    /// Expires what is due.
    pub(crate) fn expire_due(&mut self, now: Timestamp) -> usize {
        block_on(self.ledger.expire_due(100, now)).unwrap().len()
    }

    pub(crate) fn ask(
        &mut self,
        connection: AccountKey,
        account: AccountKey,
        command: EscrowCommand,
        now: Timestamp,
    ) -> EscrowAnswer {
        let request = EscrowRequest { account, command };
        decode(&self.answer(connection, &encode(&request), now)).unwrap()
    }

    fn answer(&mut self, connection: AccountKey, bytes: &[u8], now: Timestamp) -> Vec<u8> {
        let request = decode::<EscrowRequest>(bytes).unwrap();
        let verified = block_on(self.cache.verify(self.ledger.store(), connection, request)).unwrap();
        let outcome = self.execute(vec![Command::Request(verified)], now).remove(0);
        let Outcome::Answer(draft) = outcome else {
            panic!("{outcome:?}")
        };
        encode(&draft.sign(&self.key))
    }

    /// Parties ask on connections of their own keys, so whom a request names is who asks.
    pub(crate) fn receive(&mut self, packet: Packet, net: &mut Net) {
        let connection = decode::<EscrowRequest>(&packet.bytes).unwrap().account;
        let bytes = self.answer(connection, &packet.bytes, net.now);
        net.send(Packet {
            from: Party::Escrow,
            to: packet.from,
            stream: packet.stream,
            kind: Kind::Answer,
            bytes,
        });
    }

    pub(crate) fn account(&mut self, account: AccountKey, now: Timestamp) -> Option<AccountState> {
        match self.ask(account, account, EscrowCommand::Account { holds_after: 0 }, now) {
            EscrowAnswer::Account(state) => Some(state),
            EscrowAnswer::Rejected(_) => None,
            other => panic!("{other:?}"),
        }
    }

    /// balance + sum(cap - paid of its open holds) = credits - debits.
    pub(crate) fn check_account(&mut self, account: AccountKey, now: Timestamp) {
        let Some(state) = self.account(account, now) else {
            return;
        };
        assert!(!state.more, "one page of holds");
        let open = state
            .holds
            .as_slice()
            .iter()
            .filter(|hold| hold.state == HoldState::Open);
        let held: u64 = open.map(|hold| hold.hold.body.cap.0 - hold.paid.0).sum();
        let row = block_on(query::account(self.ledger.store(), &account))
            .unwrap()
            .unwrap();
        let owned = u128::from(state.balance.0) + u128::from(held);
        assert_eq!(
            owned,
            row.credits - row.debits,
            "balance and holds are what came in less what went out"
        );
        assert_eq!(state.held.0, held);
    }

    pub(crate) fn audit(&self) -> AuditReport {
        block_on(audit(&block_on(self.store.snapshot()).unwrap(), &self.config)).unwrap()
    }
}
