//! Workflows of an escrow: what is asked when, what the model answers, and the rows that it has after each deed.

use super::{FILE, carry_out, open};
use crate::conformance::all_rows;
use crate::money::{collect, number, set_payout, settle, withdraw as ask_to_withdraw};
use crate::signers::{SIGNER, delegate as ask_to_delegate, open as open_as, top_up};
use crate::world::{START, TestBook, World, config, secret};
use tombola_core::amount::{Amount, DAY_MS, HOUR_MS, SECOND_MS, Timestamp};
use tombola_core::codec::List;
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::hold::Release;
use tombola_core::key::Signed;
use tombola_core::message::{EscrowAnswer, EscrowCommand, Evidence};
use tombola_ledger::key::Key;
use tombola_ledger::ledger::{Command, Ledger, LedgerFault, Outcome};
use tombola_ledger::store::{Store, Stored};
use tombola_store::block_on::block_on;
use tombola_store::model::ModelStore;
use tombola_tests::disk::{Image, TestDisk};

/// From one sign of life to the next: less than what would be a gap of serving.
const SIGN_MS: u64 = 55 * SECOND_MS;

/// When something is done, and what.
pub(super) type Step = (Timestamp, Deed);

/// What a ledger is asked for: one commit at most.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    Commands(Vec<Command>),
    Expire,
    PayOut,
    /// Forgets so many rows at most.
    Prune(usize),
    /// The ledger lost what came after this.
    Recover(Timestamp),
    EndRecovery,
}

impl Deed {
    pub(super) async fn carry_out<S: Store>(
        &self,
        ledger: &mut Ledger<S>,
        at: Timestamp,
    ) -> Result<Vec<Outcome>, LedgerFault> {
        match self {
            Self::Commands(batch) => ledger.execute(batch.clone(), at).await,
            Self::Expire => ledger.expire_due(100, at).await,
            Self::PayOut => ledger.pay_out(100, at).await.map(|_| Vec::new()),
            Self::Prune(limit) => ledger.prune(*limit, at).await.map(|_| Vec::new()),
            Self::Recover(restored_at) => {
                ledger.begin_recovery(*restored_at);
                ledger.execute(Vec::new(), at).await
            }
            Self::EndRecovery => {
                ledger.end_recovery(at);
                ledger.execute(Vec::new(), at).await
            }
        }
    }

    /// Whether it is for the process and not for the store: the witness has whoever starts again do it again.
    pub(super) const fn is_of_the_process(&self) -> bool {
        matches!(self, Self::Recover(_) | Self::EndRecovery)
    }

    /// Whether the same again is answered the same; what was brought back is known the second time.
    pub(super) fn is_idempotent(&self) -> bool {
        let brings_back = |command: &Command| match command {
            Command::Request(request) => matches!(request.request().command, EscrowCommand::Resubmit { .. }),
            _ => false,
        };
        matches!(self, Self::Commands(batch) if !batch.iter().any(brings_back))
    }
}

/// A workflow as the model carries it out.
pub(super) struct Workflow {
    pub(super) name: &'static str,
    /// What the disk has before.
    pub(super) image: Image,
    pub(super) steps: Vec<Step>,
    /// Of each step.
    pub(super) outcomes: Vec<Vec<Outcome>>,
    /// Before the first step, and after each.
    pub(super) states: Vec<Vec<(Key, Stored)>>,
    /// So many of the first steps only bring the rest about, and nothing happens to the disk meanwhile.
    pub(super) quiet: usize,
}

/// A workflow that is being written down, on a model of its own.
struct Script {
    world: World<ModelStore>,
    steps: Vec<Step>,
}

impl Script {
    fn new() -> Self {
        let world = World::open(ModelStore::default()).unwrap();
        let steps = Vec::new();
        Self { world, steps }
    }

    /// All that was asked of the world so far.
    fn take(&mut self) -> Vec<Step> {
        self.note();
        std::mem::take(&mut self.steps)
    }

    fn note(&mut self) {
        let ran = std::mem::take(&mut self.world.ran);
        let steps = ran.into_iter().map(|(at, batch)| (at, Deed::Commands(batch)));
        self.steps.extend(steps);
    }

    fn act(&mut self, deed: Deed) {
        self.note();
        block_on(deed.carry_out(&mut self.world.ledger, self.world.now)).unwrap();
        self.steps.push((self.world.now, deed));
    }

    /// Carries out what was asked since, beside the model, after what was asked `before`.
    fn finish(mut self, name: &'static str, before: &[Step], quiet: usize) -> Workflow {
        let steps = self.take();
        let disk = TestDisk::default();
        let model = ModelStore::default();
        let mut ledger = block_on(Ledger::open(model.clone(), config(), START)).unwrap();
        if !before.is_empty() {
            let mut ledger_on_disk = open(&disk).unwrap();
            for step in before {
                carry_out(&mut ledger_on_disk, step).unwrap();
                block_on(step.1.carry_out(&mut ledger, step.0)).unwrap();
            }
            drop(ledger_on_disk);
            ledger = block_on(Ledger::open(model, config(), START)).unwrap();
        }
        let mut states = vec![all_rows(ledger.store())];
        let mut outcomes = Vec::new();
        for (at, deed) in &steps {
            outcomes.push(block_on(deed.carry_out(&mut ledger, *at)).unwrap());
            states.push(all_rows(ledger.store()));
        }
        let image = disk.restarted();
        assert_eq!(image.contains_key(FILE), !before.is_empty());
        Workflow {
            name,
            image,
            steps,
            outcomes,
            states,
            quiet,
        }
    }
}

/// From an empty disk: money comes in, some of it twice, and goes from one to another.
pub(super) fn deposit() -> Workflow {
    let mut script = Script::new();
    let world = &mut script.world;
    world.deposit(2, 1_000_000, "first").unwrap();
    world.deposit(3, 500, "second").unwrap();
    let batch = ["third", "fourth", "first"].map(|text| World::<ModelStore>::deposit_command(2, 1_000_000, text));
    world.run(batch.to_vec());
    world.transfer(2, 4, 250_000).unwrap();
    script.finish("deposit", &[], 0)
}

fn funded() -> Script {
    let mut script = Script::new();
    script.world.deposit(2, 1_000_000, "first").unwrap();
    script
}

pub(super) fn hold() -> Workflow {
    let mut script = funded();
    let before = script.take();
    let world = &mut script.world;
    let hold = world.open_hold(10_000);
    world.top_up(hold.body.id(), 0, 20_000);
    // A revision that has passed is answered with the current one.
    world.top_up(hold.body.id(), 0, 30_000);
    world.open_hold(400);
    world.top_up(hold.body.id(), 1, 30_000);
    script.finish("hold", &before, 0)
}

pub(super) fn claim() -> Workflow {
    let mut script = funded();
    let hold = script.world.open_hold(50_000);
    let before = script.take();
    let world = &mut script.world;
    let mut books: Vec<TestBook> = (0..4).map(|n| TestBook::sure(&hold.body, n, 8)).collect();
    world.claim(books[0].claim(3)).unwrap();
    // A batch, of which one is cumulative and one was paid before.
    let batch = vec![
        books[1].claim(2),
        books[0].claim(5),
        books[0].claim(3),
        books[2].claim(8),
    ];
    world.claim_all(batch);
    world.claim(books[3].claim(1)).unwrap();
    world.claim(books[3].claim(7)).unwrap();
    script.finish("claim", &before, 0)
}

pub(super) fn release() -> Workflow {
    let mut script = funded();
    let [first, second] = [50_000, 900].map(|cap| script.world.open_hold(cap));
    let claim = TestBook::sure(&first.body, 1, 8).claim(4);
    script.world.claim(claim).unwrap();
    let before = script.take();
    let world = &mut script.world;
    world.release(second.body.id(), 0);
    // Refused: more was paid than that.
    world.release(first.body.id(), 3_000);
    world.release(first.body.id(), 4_000);
    // A release that is repeated, a claim after it, and the money on its way again.
    world.release(first.body.id(), 4_000);
    world.claim(claim).unwrap();
    world.open_hold(900_000);
    script.finish("release", &before, 0)
}

/// Holds expire after an hour of service, which nothing happens in; a month later all that has ended is forgotten.
pub(super) fn expire() -> Workflow {
    let mut script = funded();
    let world = &mut script.world;
    let holds = [5_000, 700, 9_000].map(|cap| world.open_hold(cap));
    world.claim(TestBook::sure(&holds[0].body, 1, 8).claim(2)).unwrap();
    let before = script.take();
    let world = &mut script.world;
    world.now = world.now.plus_ms(3 * DAY_MS);
    let until = world.now.plus_ms(HOUR_MS + SIGN_MS);
    while world.now < until {
        world.run(Vec::new());
        world.now = world.now.plus_ms(SIGN_MS);
    }
    script.note();
    let quiet = script.steps.len();
    script.act(Deed::Expire);
    script.world.deposit(2, 1, "second").unwrap();
    script.world.now = script.world.now.plus_ms(31 * DAY_MS);
    script.act(Deed::Prune(100));
    script.world.deposit(2, 1, "third").unwrap();
    script.finish("expire", &before, quiet)
}

pub(super) fn withdraw() -> Workflow {
    let mut script = funded();
    let hold = script.world.open_hold(50_000);
    let claim = TestBook::sure(&hold.body, 1, 8).claim(8);
    script.world.claim(claim).unwrap();
    let before = script.take();
    let world = &mut script.world;
    let first = number(&ask_to_withdraw(world, 2, 1_000, "bank"));
    let second = number(&ask_to_withdraw(world, 2, 5_000, "bank"));
    settle(world, first, PayoutOutcome::Paid, "wire").unwrap();
    settle(world, second, PayoutOutcome::Failed, "no such bank").unwrap();
    set_payout(world, 3, 1_000, DAY_MS, "iban");
    script.act(Deed::PayOut);
    collect(&mut script.world, 4, 20, "fees").unwrap();
    script.finish("withdraw", &before, 0)
}

/// What was answered is kept for two days and then forgotten, a few rows at a time; who asks again meanwhile gets the same
/// answer, and who asks too late is refused.
pub(super) fn forget() -> Workflow {
    let mut script = funded();
    let before = script.take();
    let world = &mut script.world;
    let transfer = |world: &mut World<ModelStore>| EscrowCommand::Transfer {
        request: world.header(),
        to: crate::world::key(4),
        amount: Amount(70),
        reference: crate::world::reference("rent"),
        book: None,
    };
    let [first, second, third] = [(); 3].map(|()| transfer(world));
    world.ask(2, first.clone());
    world.ask(2, second);
    world.ask(2, first.clone());
    world.now = world.now.plus_ms(2 * DAY_MS + 1);
    script.act(Deed::Prune(1));
    script.act(Deed::Prune(1));
    let world = &mut script.world;
    world.ask(2, first);
    // Asked two days ago, and it comes only now.
    world.ask(2, third);
    script.act(Deed::Prune(1));
    let late = transfer(&mut script.world);
    script.world.ask(2, late);
    script.finish("forget", &before, 0)
}

/// A ledger without its end: parties bring back a hold, its top-up, a receipt and a release, and business goes on.
pub(super) fn recover() -> Workflow {
    let mut lost = World::funded(ModelStore::default());
    let [hold, ended] = [10_000, 700].map(|cap| lost.open_hold(cap));
    let EscrowAnswer::Hold(raised) = lost.top_up(hold.body.id(), 0, 20_000) else {
        panic!("raised")
    };
    let claim = TestBook::sure(&hold.body, 1, 16).claim(12);
    let receipt = lost.claim(claim).unwrap();
    let release = Release {
        hold: ended.body.id(),
        paid: Amount(0),
    };
    let release = Signed::new(release, &secret(3));
    lost.ask(3, EscrowCommand::Release(release));

    let mut script = funded();
    let before = script.take();
    script.act(Deed::Recover(START));
    let mut resubmit = |pieces: Vec<Evidence>| {
        let evidence = List::new(pieces).unwrap();
        script.world.ask(9, EscrowCommand::Resubmit { evidence });
    };
    resubmit(vec![Evidence::Hold(hold), Evidence::Hold(ended)]);
    resubmit(vec![Evidence::Hold(raised), Evidence::Receipt { claim, receipt }]);
    resubmit(vec![Evidence::Release(release), Evidence::Receipt { claim, receipt }]);
    script.world.claim(claim).unwrap();
    script.act(Deed::EndRecovery);
    script.world.open_hold(900);
    script.finish("recover", &before, 0)
}

/// A signer is let in, promises, is refused what goes beyond, gets more room, and is shut out.
pub(super) fn delegate() -> Workflow {
    let mut script = funded();
    let before = script.take();
    let world = &mut script.world;
    ask_to_delegate(world, 1, |_| {});
    let hold = open_as(world, SIGNER, SIGNER, 6_000).unwrap();
    open_as(world, SIGNER, SIGNER, 4_001).unwrap_err();
    top_up(world, &hold, 10_000).unwrap();
    ask_to_delegate(world, 2, |delegation| delegation.spend_max = Amount(0));
    open_as(world, SIGNER, SIGNER, 100).unwrap_err();
    script.finish("delegate", &before, 0)
}
