//! Three parties in memory: payers, payees and an escrow on one virtual clock, with one seeded source of chance.
//!
//! Everything between two parties is a packet of encoded bytes that the [`Net`] may lose, repeat, reorder and delay. A
//! payee's disk keeps only what it was given time to keep, so that a crash loses the rest. The parties are the public
//! rules of core and ledger and nothing else; this driver plays the part of the node. It has no thread, no clock and no
//! sleep: the same seed gives the same run.

mod bank;
mod buyer;
mod net;
mod seller;

pub(crate) use bank::Bank;
pub(crate) use buyer::Buyer;
pub(crate) use net::{Event, Kind, Net, Party};
pub(crate) use seller::{DiskState, Seller};
pub(crate) use tombola_tests::dice::Dice;

use std::collections::BTreeMap;
use tombola_core::amount::{Amount, DAY_MS, MINUTE_MS, SECOND_MS, Timestamp};
use tombola_core::draw::Draw;
use tombola_core::hold::Hold;
use tombola_core::key::{AccountKey, BookId, Signed};
use tombola_core::message::{EscrowAnswer, EscrowCommand, StatementEntry, StatementKind};
use tombola_core::payer::audit_charge;
use tombola_ledger::audit::AuditReport;

/// Where the virtual clock starts.
pub(crate) const START: Timestamp = Timestamp(1_800_000_000_000);

/// What a world is like; the default is one payer, one payee and a perfect net.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) payers: usize,
    pub(crate) payees: usize,
    /// Packets lost, of 1,000.
    pub(crate) drop: u64,
    /// Packets that arrive twice, of 1,000.
    pub(crate) repeat: u64,
    /// A packet takes from 1 to this many ms, so packets overtake each other.
    pub(crate) delay_ms: u64,
    /// How long a payee's write takes.
    pub(crate) disk_ms: u64,
    pub(crate) price: Amount,
    pub(crate) face_value: Amount,
    /// Cap of a new hold, and by how much a top-up raises it.
    pub(crate) cap: Amount,
    /// The most that a payer sets aside for a payee.
    pub(crate) spend_max: Amount,
    pub(crate) book_length: u32,
    pub(crate) jump_max: u32,
    /// Books that a payer keeps open with a payee.
    pub(crate) books: usize,
    pub(crate) window: Amount,
    pub(crate) credit_units: u32,
    pub(crate) redeem_at_value: Amount,
    /// How long before the start a payee's store was made.
    pub(crate) store_age_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            payers: 1,
            payees: 1,
            drop: 0,
            repeat: 0,
            delay_ms: 1,
            disk_ms: 1,
            price: Amount(100),
            face_value: Amount(1_000),
            cap: Amount(20_000),
            spend_max: Amount(1_000_000),
            book_length: 256,
            jump_max: 256,
            books: 1,
            window: Amount(6_400),
            credit_units: 0,
            redeem_at_value: Amount(u64::MAX),
            store_age_ms: DAY_MS,
        }
    }
}

/// Everybody.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) net: Net,
    pub(crate) bank: Bank,
    pub(crate) sellers: Vec<Seller>,
    pub(crate) buyers: Vec<Buyer>,
}

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        let mut net = Net::new(seed, options, START);
        let bank = Bank::new(&mut net);
        let sellers: Vec<Seller> = (0..options.payees).map(|n| Seller::new(n, &bank, &mut net)).collect();
        let payees: Vec<AccountKey> = sellers.iter().map(Seller::account).collect();
        let buyers = (0..options.payers).map(|n| Buyer::new(n, &payees, &mut net)).collect();
        Self {
            net,
            bank,
            sellers,
            buyers,
        }
    }

    /// A world whose payers all have money.
    pub(crate) fn funded(seed: u64, options: Options) -> Self {
        let mut world = Self::new(seed, options);
        for payer in 0..options.payers {
            world.deposit(payer, 10_000_000);
        }
        world
    }

    pub(crate) fn deposit(&mut self, payer: usize, amount: u64) {
        let account = self.buyers[payer].account();
        self.bank.deposit(account, Amount(amount), self.net.now);
    }

    /// Payer 0 opens its hold for payee 0.
    pub(crate) fn open_hold(&mut self) -> Signed<Hold> {
        self.buyers[0].open_hold(0, &mut self.net);
        self.drive();
        *self.buyers[0].hold(0).unwrap()
    }

    /// Payer 0 buys units of payee 0; they are paid when the world is driven.
    pub(crate) fn pay(&mut self, units: u64) {
        self.order(0, 0, units);
    }

    pub(crate) fn order(&mut self, payer: usize, payee: usize, units: u64) {
        self.buyers[payer].order(payee, units, &mut self.net);
    }

    /// Payers end their side of every book.
    pub(crate) fn finish(&mut self) {
        for buyer in &mut self.buyers {
            buyer.finish(&mut self.net);
        }
    }

    /// Runs until nothing is on its way.
    pub(crate) fn drive(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 1_000_000, "the parties never come to rest");
        }
    }

    /// The next thing that happens, if anything is on its way.
    pub(crate) fn step(&mut self) -> bool {
        let Some(event) = self.net.next() else { return false };
        self.happen(event);
        true
    }

    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Disk { payee, life } => self.sellers[payee].disk_done(life, &mut self.net),
            Event::Packet(packet) => match packet.to {
                Party::Escrow => self.bank.receive(packet, &mut self.net),
                Party::Payee(n) => self.sellers[n].receive(&packet, &mut self.net),
                Party::Payer(n) => self.buyers[n].receive(&packet, &mut self.net),
            },
        }
    }

    /// Lives on: time passes, timers fire, lost requests are asked again.
    pub(crate) fn live(&mut self, ms: u64) {
        self.live_by(SECOND_MS, ms);
    }

    /// Lives on where little happens, in larger steps.
    pub(crate) fn rest(&mut self, ms: u64) {
        self.live_by(20 * SECOND_MS, ms);
    }

    fn live_by(&mut self, step_ms: u64, ms: u64) {
        let until = self.net.now.plus_ms(ms);
        while self.net.now < until {
            let next = self.net.now.plus_ms(step_ms).min(until);
            while self.net.is_due(next) {
                self.step();
            }
            self.net.now = next;
            self.tick();
        }
        self.drive();
    }

    pub(crate) fn tick(&mut self) {
        self.bank.sign_of_life(self.net.now);
        for seller in &mut self.sellers {
            seller.tick(&mut self.net);
        }
        for buyer in &mut self.buyers {
            buyer.tick(&mut self.net);
        }
    }

    /// Kills a payee and starts it again from what its disk has kept. Its connections are gone.
    pub(crate) fn crash_payee(&mut self, payee: usize) {
        self.net.cut(Party::Payee(payee));
        self.sellers[payee].restart(&mut self.net);
        for buyer in &mut self.buyers {
            buyer.disconnected(payee, &mut self.net);
        }
    }

    /// Kills the escrow and opens its ledger again from the store.
    pub(crate) fn crash_escrow(&mut self) {
        self.net.cut(Party::Escrow);
        self.bank.restart(self.net.now);
    }

    /// The escrow hears nothing until it comes back.
    pub(crate) fn bank_goes_away(&mut self) {
        self.net.cut(Party::Escrow);
        self.net.is_escrow_away = true;
    }

    pub(crate) fn bank_comes_back(&mut self) {
        self.net.is_escrow_away = false;
    }

    /// Cuts all connections between a payer and a payee.
    pub(crate) fn disconnect(&mut self, payer: usize, payee: usize) {
        self.net.cut_between(Party::Payer(payer), Party::Payee(payee));
        self.buyers[payer].disconnected(payee, &mut self.net);
        let account = self.buyers[payer].account();
        self.sellers[payee].disconnected(&account, &mut self.net);
    }

    /// Asks the escrow at once, past the net.
    pub(crate) fn ask(&mut self, account: AccountKey, command: EscrowCommand) -> EscrowAnswer {
        self.bank.ask(account, account, command, self.net.now)
    }

    pub(crate) fn balance(&mut self, account: AccountKey) -> u64 {
        self.bank
            .account(account, self.net.now)
            .map_or(0, |state| state.balance.0)
    }

    pub(crate) fn statement(&mut self, account: AccountKey) -> Vec<StatementEntry> {
        let mut entries: Vec<StatementEntry> = Vec::new();
        loop {
            let after = entries.last().map_or(0, |entry| entry.sequence);
            match self.ask(account, EscrowCommand::Statement { after }) {
                EscrowAnswer::Statement(page) => {
                    let more = page.more;
                    entries.extend(page.entries.into_vec());
                    if !more {
                        return entries;
                    }
                }
                EscrowAnswer::Rejected(_) => return entries,
                other => panic!("{other:?}"),
            }
        }
    }

    /// What a payer was charged, by book, each charge audited against its own journal.
    pub(crate) fn charges(&mut self, payer: usize) -> BTreeMap<BookId, Charged> {
        let account = self.buyers[payer].account();
        let escrow = self.bank.account_key();
        let mut charges: BTreeMap<BookId, Charged> = BTreeMap::new();
        for entry in self.statement(account) {
            let StatementKind::Charged(charge) = entry.kind else {
                continue;
            };
            let id = charge.claim.book.body.id();
            let line = self.buyers[payer].journal.get(&id);
            let audited = audit_charge(&charge, &escrow, &account, line).unwrap();
            let sum = charges.entry(id).or_default();
            sum.amount += charge.amount.0;
            sum.through = sum.through.max(audited.through);
            sum.beyond = audited.beyond;
        }
        charges
    }

    /// The whole ledger replayed from its log, which must agree with every row.
    pub(crate) fn audit(&self) -> AuditReport {
        let report = self.bank.audit();
        assert!(report.conserved, "{report:?}");
        report
    }

    /// What must be true at any moment: no overdraft, money conserved, no winner refused.
    pub(crate) fn check(&mut self) {
        for buyer in &self.buyers {
            self.bank.check_account(buyer.account(), self.net.now);
        }
        assert_eq!(self.net.refusals, [], "a payee served a winner that is not paid");
    }

    /// The holds that a payee has taken a book on end by its release, those it never heard of by their expiry.
    pub(crate) fn end_holds(&mut self) {
        self.rest(15 * MINUTE_MS);
        for seller in &self.sellers {
            let open = seller.disk.holds.values().filter(|row| row.release.is_none());
            assert_eq!(open.count(), 0, "a hold without use is released");
        }
        self.net.now = self.net.now.plus_ms(4 * DAY_MS);
        self.rest(65 * MINUTE_MS);
        self.bank.expire_due(self.net.now);
    }

    /// What must be true when all is over: every acknowledged winner paid once, and nothing kept back.
    pub(crate) fn check_settled(&mut self) {
        self.check();
        let report = self.audit();
        assert_eq!(report.held, 0, "every hold is released or expired");
        for payer in 0..self.buyers.len() {
            let charges = self.charges(payer);
            for (id, opened) in self.net.opened.iter().filter(|(_, opened)| opened.payer == payer) {
                let charged = charges.get(id).copied().unwrap_or_default();
                let face = opened.book.face_value.0;
                let chain = self.buyers[payer].secret_of(id);
                let draw = Draw::new(id, &opened.reveal, opened.book.threshold);
                let winners = |through: u32| {
                    let mut chain = tombola_core::chain::Chain::new(chain, opened.book.length);
                    let wins = (1..=through).filter(|i| draw.wins(*i, &chain.preimage(*i).unwrap()));
                    u64::try_from(wins.count()).unwrap()
                };
                assert!(
                    charged.amount >= face * winners(opened.acknowledged),
                    "an acknowledged winner of {id} is not paid: {charged:?} {opened:?}"
                );
                assert_eq!(charged.amount, face * winners(charged.through), "{id} is paid once");
                let sent = self.buyers[payer].sent_of(id);
                assert!(charged.through <= sent, "{id} was charged beyond what was sent");
            }
        }
    }
}

/// What a book cost its payer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Charged {
    pub(crate) amount: u64,
    pub(crate) through: u32,
    pub(crate) beyond: Option<u32>,
}

#[test]
fn a_whole_payment_settles() {
    let mut world = World::funded(1, Options::default());
    world.open_hold();
    world.pay(1_000);
    world.drive();
    assert_eq!(world.buyers[0].paid(0), 1_000);
    assert_eq!(world.sellers[0].served, 1_000);
    world.finish();
    world.drive();
    world.rest(11 * MINUTE_MS);
    world.check_settled();
    let earned = world.balance(world.sellers[0].account());
    assert!(earned > 60_000, "about 100 winners of 1,000: {earned}");
}
