//! Nine workflows of an escrow on a disk that loses power, fails or fills up at each of its calls, and hangs at some.
//!
//! Each workflow runs on the model first, which says what every command answers and every row that it leaves. On the disk
//! each command's commit is there whole or not at all: the store that is opened again has exactly the rows of the model
//! after all commands that were answered, or after one more that was under way.

mod workflow;

use crate::conformance::all_rows;
use crate::rules::audited;
use crate::world::{START, World, config};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use tombola_ledger::key::Key;
use tombola_ledger::ledger::{Ledger, LedgerFault, Outcome};
use tombola_ledger::store::{Commit, Store, StoreFault};
use tombola_store::block_on::block_on;
use tombola_store::redb_store::RedbStore;
use tombola_tests::disk::{Fate, Fault, Image, TestDisk};
use workflow::{Deed, Workflow};

pub(crate) const FILE: &str = "ledger.redb";
const SEED: u64 = 1;
/// In how many ways each write is torn.
const TEARS: u64 = 4;
/// Every such torn image is broken once more while it is opened.
const TWICE: usize = 5;

/// What became of a workflow on a disk.
struct Run {
    /// After each deed that was answered, from the start: calls of the disk by then.
    told: Vec<usize>,
    /// Why it ended early.
    fault: Option<LedgerFault>,
}

pub(crate) fn open(disk: &TestDisk) -> Result<Ledger<RedbStore>, LedgerFault> {
    let store = RedbStore::open_on(|| disk.file(FILE))?;
    block_on(Ledger::open(store, config(), START))
}

fn carry_out(ledger: &mut Ledger<RedbStore>, (at, deed): &workflow::Step) -> Result<Vec<Outcome>, LedgerFault> {
    block_on(deed.carry_out(ledger, *at))
}

/// Runs a workflow until a deed fails. What the ledger does after that is nothing, whatever the disk would say.
fn run(workflow: &Workflow, disk: &TestDisk, count: &AtomicUsize) -> Run {
    let mut told = Vec::new();
    let mut ledger = match open(disk) {
        Ok(ledger) => ledger,
        Err(fault) => {
            return Run {
                told,
                fault: Some(fault),
            };
        }
    };
    for (n, step) in workflow.steps.iter().enumerate() {
        match carry_out(&mut ledger, step) {
            Ok(outcomes) => assert_eq!(outcomes, workflow.outcomes[n], "step {n} of {}", workflow.name),
            Err(fault) => {
                let calls = disk.calls_after_fault();
                let empty = Commit {
                    changes: Vec::new(),
                    reads: Vec::new(),
                    mark: Key::totals(0),
                };
                assert_eq!(block_on(ledger.store().commit(empty)), Err(StoreFault::Stopped));
                for step in &workflow.steps[n..] {
                    let later = carry_out(&mut ledger, step);
                    // What reads first is told by the store, and what decides by the ledger.
                    let is_stopped = matches!(
                        later,
                        Err(LedgerFault::Stopped | LedgerFault::Store(StoreFault::Stopped))
                    );
                    assert!(is_stopped, "{later:?}");
                }
                assert_eq!(disk.calls_after_fault(), calls, "nothing more is asked of the disk");
                return Run {
                    told,
                    fault: Some(fault),
                };
            }
        }
        told.push(disk.calls());
        count.store(told.len(), Ordering::Release);
    }
    Run { told, fault: None }
}

/// Opens what a disk has and compares it with the model; goes on with it once for each state.
struct Judge<'a> {
    workflow: &'a Workflow,
    gone_on_from: BTreeSet<usize>,
    images: usize,
}

impl<'a> Judge<'a> {
    const fn new(workflow: &'a Workflow) -> Self {
        Self {
            workflow,
            gone_on_from: BTreeSet::new(),
            images: 0,
        }
    }

    fn check(&mut self, image: &Image, told: usize, what: &str) {
        let what = format!("{}, {what}", self.workflow.name);
        let ledger = open(&TestDisk::holding(image));
        let ledger = ledger.unwrap_or_else(|fault| panic!("{what}: {fault}"));
        let rows = all_rows(ledger.store());
        let states = &self.workflow.states;
        let found = (told..=told + 1).find(|n| states.get(*n) == Some(&rows));
        let Some(done) = found else {
            let whole = states.iter().position(|state| *state == rows);
            panic!("{what}: {told} deeds were told, the rows are those of {whole:?}");
        };
        self.images += 1;
        if self.gone_on_from.insert(done) {
            self.go_on(ledger, done, &what);
        }
    }

    /// The same, with another power cut, or an error, at each call of opening it.
    fn check_twice(&mut self, image: &Image, told: usize, what: &str) {
        let opened = TestDisk::holding(image);
        drop(open(&opened).unwrap_or_else(|fault| panic!("{what}: {fault}")));
        opened.each_power_cut(SEED, |cut| {
            let what = format!("{what}, and again at call {}, {:?}", cut.calls + 1, cut.fate);
            self.check(&cut.image, told, &what);
        });
        for call in 1..=opened.calls() {
            let disk = TestDisk::holding(image).failing(call, Fault::Error);
            match open(&disk) {
                Ok(_) | Err(LedgerFault::Store(StoreFault::Io(_))) => {}
                Err(fault) => panic!("{what}, EIO at call {call} of opening: {fault}"),
            }
            self.check(&disk.restarted(), told, &format!("{what}, and an error at call {call}"));
        }
    }

    /// What was under way is asked again, and then the rest: the answers are the model's.
    fn go_on(&self, ledger: Ledger<RedbStore>, done: usize, what: &str) {
        let mut world = World::over(ledger);
        assert_eq!(audited(&world).findings, [], "{what}");
        let mut is_like_the_model = true;
        let begun = &self.workflow.steps[..done.saturating_sub(1)];
        for step in begun.iter().filter(|(_, deed)| deed.is_of_the_process()) {
            carry_out(&mut world.ledger, step).unwrap();
        }
        for (n, step) in self.workflow.steps.iter().enumerate().skip(done.saturating_sub(1)) {
            let outcomes = carry_out(&mut world.ledger, step).unwrap();
            // Who serves anew must serve for an hour before anything expires.
            is_like_the_model &= !matches!(step.1, Deed::Expire);
            if is_like_the_model && (n >= done || step.1.is_idempotent()) {
                assert_eq!(outcomes, self.workflow.outcomes[n], "{what}: step {n} after a restart");
            }
        }
        let report = audited(&world);
        assert!(report.conserved && report.findings.is_empty(), "{what}: {report:?}");
    }
}

fn lose_power(workflow: &Workflow) -> usize {
    let disk = TestDisk::holding(&workflow.image);
    let done = run(workflow, &disk, &AtomicUsize::new(0));
    assert_eq!(done.fault, None);
    let quiet = workflow.quiet.checked_sub(1).map_or(0, |last| done.told[last]);
    let mut judge = Judge::new(workflow);
    let mut torn = 0;
    for seed in SEED..SEED + TEARS {
        disk.each_power_cut(seed, |cut| {
            if cut.calls < quiet || (seed > SEED && cut.fate != Fate::Torn) {
                return;
            }
            let told = done.told.iter().filter(|calls| **calls <= cut.calls).count();
            let what = format!("seed {seed}, call {}, {:?}", cut.calls + 1, cut.fate);
            judge.check(&cut.image, told, &what);
            if cut.fate == Fate::Torn {
                torn += 1;
                if torn % (TWICE * usize::try_from(TEARS).unwrap()) == 0 {
                    judge.check_twice(&cut.image, told, &what);
                }
            }
        });
    }
    // Some steps are refused and change nothing.
    let states = &workflow.states[workflow.quiet..];
    let differ = 1 + states.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(judge.gone_on_from.len() >= differ, "every state was found");
    judge.images
}

fn fail(workflow: &Workflow, fault: Fault) -> usize {
    let expected = match fault {
        Fault::Error => std::io::Error::from_raw_os_error(5).kind(),
        Fault::Full | Fault::Stall => ErrorKind::StorageFull,
    };
    let mut judge = Judge::new(workflow);
    let whole = TestDisk::holding(&workflow.image);
    let done = run(workflow, &whole, &AtomicUsize::new(0));
    let quiet = workflow.quiet.checked_sub(1).map_or(0, |last| done.told[last]);
    for call in quiet + 1..=whole.calls() {
        let disk = TestDisk::holding(&workflow.image).failing(call, fault);
        let run = run(workflow, &disk, &AtomicUsize::new(0));
        let what = format!("{fault:?} at call {call}");
        assert!(disk.has_failed(), "{what}");
        match run.fault {
            Some(LedgerFault::Store(StoreFault::Io(disk))) => assert_eq!(disk.kind(), expected, "{what}"),
            Some(other) => panic!("{what}: {other}"),
            // redb does without some writes, such as those when it closes.
            None => assert_eq!(run.told.len(), workflow.steps.len(), "{what}"),
        }
        let told = run.told.len();
        judge.check(&disk.restarted(), told, &format!("{what}, restarted"));
        for fate in [Fate::Dropped, Fate::Torn] {
            let seed = SEED ^ u64::try_from(call).unwrap();
            judge.check(&disk.power_cut(fate, seed), told, &format!("{what}, then {fate:?}"));
        }
    }
    judge.images
}

/// A disk that hangs in a call: nothing that waits for it is told, and when it goes on all is as if it never had.
fn hang(workflow: &Workflow) {
    let whole = TestDisk::holding(&workflow.image);
    let done = run(workflow, &whole, &AtomicUsize::new(0));
    let quiet = workflow.quiet.checked_sub(1).map_or(0, |last| done.told[last]);
    for call in (quiet + 1..=whole.calls()).step_by(7) {
        let disk = TestDisk::holding(&workflow.image).failing(call, Fault::Stall);
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let running = scope.spawn(|| run(workflow, &disk, &count));
            disk.wait_until_stalled();
            let told = done.told.iter().filter(|calls| **calls < call).count();
            assert_eq!(count.load(Ordering::Acquire), told, "{} at call {call}", workflow.name);
            disk.resume();
            let run = running.join().unwrap();
            assert_eq!((run.fault, run.told), (None, done.told.clone()));
        });
    }
}

fn survives_everything(workflow: &Workflow) {
    let cuts = lose_power(workflow);
    let errors = fail(workflow, Fault::Error);
    let full = fail(workflow, Fault::Full);
    hang(workflow);
    println!(
        "{}: opened {cuts} times after power cuts, {errors} after EIO, {full} after ENOSPC",
        workflow.name
    );
}

/// Spec. The store is made on the way.
#[test]
fn deposits_and_transfers_are_whole_or_absent_whatever_the_disk_does() {
    survives_everything(&workflow::deposit());
}

/// Spec: H-08.
#[test]
fn a_hold_is_opened_and_topped_up_whole_or_not_at_all_whatever_the_disk_does() {
    survives_everything(&workflow::hold());
}

/// Spec: R-12.
#[test]
fn claims_are_paid_once_and_with_their_receipts_whatever_the_disk_does() {
    survives_everything(&workflow::claim());
}

/// Spec: H-07.
#[test]
fn a_release_returns_the_rest_once_whatever_the_disk_does() {
    survives_everything(&workflow::release());
}

/// Spec: H-09, G-08.
#[test]
fn expiring_and_forgetting_are_whole_or_absent_whatever_the_disk_does() {
    survives_everything(&workflow::expire());
}

/// Spec.
#[test]
fn withdrawals_are_asked_and_settled_once_whatever_the_disk_does() {
    survives_everything(&workflow::withdraw());
}

/// Spec: R-02.
#[test]
fn kept_answers_are_repeated_and_then_forgotten_whatever_the_disk_does() {
    survives_everything(&workflow::forget());
}

/// Spec.
#[test]
fn what_parties_bring_back_is_restored_once_whatever_the_disk_does() {
    survives_everything(&workflow::recover());
}

/// Spec.
#[test]
fn a_delegation_is_there_whole_or_absent_whatever_the_disk_does() {
    survives_everything(&workflow::delegate());
}
