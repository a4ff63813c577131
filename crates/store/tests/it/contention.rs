//! Many writers at once on one store: nobody waits for another, and nothing is lost, doubled or made on the way.

use crate::postgres::{name_of, open};
use crate::rules::audited;
use crate::stores::on_each_shared_store;
use crate::world::{FACE, FEE, START, TestBook, World, config};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tombola_core::claim::{Claim, Receipt};
use tombola_core::hold::Release;
use tombola_core::key::Signed;
use tombola_core::message::{ClaimAnswer, EscrowAnswer, EscrowCommand};
use tombola_core::reject::Code;
use tombola_ledger::audit::audit;
use tombola_ledger::query::writers;
use tombola_ledger::row::Totals;
use tombola_ledger::store::Store;
use tombola_store::block_on::block_on;
use tombola_tests::dice::{Dice, SEED, seed};
use tombola_tests::postgres::Server;

on_each_shared_store! {
    the_bank_keeps_its_total_while_everybody_moves_money
    one_claim_sent_64_times_through_two_writers_is_paid_once
    writers_that_fight_for_one_account_all_get_through
}

const WRITERS: u32 = 3;
const ACCOUNTS: u8 = 5;
/// Of each account, in the beginning.
const MONEY: u64 = 100_000;

/// A claim that other writers may come in between of.
fn claim<S: Store>(world: &mut World<S>, claim: Claim) -> Result<Signed<Receipt>, Code> {
    let command = world.claim_command(vec![claim]);
    match world.ask(3, command) {
        EscrowAnswer::Claimed { answers } => match answers.as_slice() {
            [ClaimAnswer::Receipt(receipt)] => Ok(*receipt),
            [ClaimAnswer::Refusal(refusal)] => Err(refusal.body.code),
            other => panic!("{other:?}"),
        },
        EscrowAnswer::Rejected(reject) => Err(reject.code),
        other => panic!("{other:?}"),
    }
}

/// Sums over all writers, as of one moment.
fn sums<S: Store>(store: &S) -> Totals {
    let snapshot = block_on(store.snapshot()).unwrap();
    let mut sum = Totals::EMPTY;
    for (_, totals) in block_on(writers(&snapshot)).unwrap() {
        sum.add(&totals);
    }
    sum
}

fn the_bank_keeps_its_total_while_everybody_moves_money<S: Store>(store: S) {
    let seed = seed();
    println!("{SEED}={seed}");
    let mut first = World::open(store.clone()).unwrap();
    for account in 2..2 + ACCOUNTS {
        first.deposit(account, MONEY, &format!("start {account}")).unwrap();
    }
    drop(first);
    let all = i128::from(MONEY) * i128::from(ACCOUNTS);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let bankers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = store.clone();
                scope.spawn(move || bank(writer, store, seed))
            })
            .collect();
        let reading = scope.spawn(|| {
            let mut looks = 0;
            while !is_over.load(Ordering::Acquire) {
                let sum = sums(&store);
                assert!(sum.is_conserved());
                assert_eq!(sum.deposits, all);
                assert_eq!(sum.balances + sum.held + sum.fees, all);
                let snapshot = block_on(store.snapshot()).unwrap();
                assert_eq!(block_on(audit(&snapshot, &config())).unwrap().findings, []);
                looks += 1;
            }
            looks
        });
        for banker in bankers {
            banker.join().unwrap();
        }
        is_over.store(true, Ordering::Release);
        assert!(reading.join().unwrap() > 0);
    });
    let world = World::open_as(WRITERS, store).unwrap();
    let report = audited(&world);
    assert_eq!(
        (report.findings, report.deposits),
        (vec![], u128::try_from(all).unwrap())
    );
}

/// Transfers, holds, claims and releases of one writer; every account is everybody's.
fn bank<S: Store>(writer: u32, store: S, seed: u64) {
    let mut world = World::open_as(writer, store).unwrap();
    let mut dice = Dice::new(seed ^ u64::from(writer));
    for round in 0..40u16 {
        let from = 2 + u8::try_from(dice.below(ACCOUNTS.into())).unwrap();
        let to = 2 + u8::try_from(dice.below(ACCOUNTS.into())).unwrap();
        match world.transfer(from, to, 1 + dice.below(MONEY / 4)) {
            Ok(()) | Err(Code::InsufficientFunds | Code::BadTerms | Code::Busy) => {}
            Err(other) => panic!("{other:?}"),
        }
        if round % 4 == 0
            && let Ok(hold) = world.open_hold_as(world.hold_request(5_000))
        {
            let book = u16::try_from(writer).unwrap() * 1_000 + round;
            let winners = TestBook::sure(&hold.body, book, 8).claim(1 + u32::from(round % 5));
            let paid = claim(&mut world, winners).map(|receipt| receipt.body.hold_paid_after);
            if let Ok(paid) = paid {
                let hold = hold.body.id();
                let release = Signed::new(Release { hold, paid }, &crate::world::secret(3));
                world.ask(3, EscrowCommand::Release(release));
            }
        }
        if dice.below(3) == 0 {
            world.fold();
        }
    }
    world.fold();
}

fn one_claim_sent_64_times_through_two_writers_is_paid_once<S: Store>(store: S) {
    let mut first = World::funded(store.clone());
    let hold = first.open_hold(10_000);
    let winners = TestBook::sure(&hold.body, 1, 8).claim(3);
    drop(first);
    let receipts: Vec<Signed<Receipt>> = thread::scope(|scope| {
        let senders: Vec<_> = (0..2)
            .map(|writer| {
                let store = store.clone();
                scope.spawn(move || {
                    let mut world = World::open_as(writer, store).unwrap();
                    let mut receipts = Vec::new();
                    for _ in 0..32 {
                        match claim(&mut world, winners) {
                            Ok(receipt) => receipts.push(receipt),
                            Err(code) => assert_eq!(code, Code::Busy),
                        }
                    }
                    receipts
                })
            })
            .collect();
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    });
    assert!(!receipts.is_empty());
    assert!(
        receipts.iter().all(|receipt| *receipt == receipts[0]),
        "one claim, one receipt"
    );
    let mut world = World::open_as(2, store).unwrap();
    assert_eq!(world.balance(3), 3 * (FACE.0 - FEE.0));
    let report = audited(&world);
    assert_eq!((report.findings, report.claims), (vec![], 1));
}

fn writers_that_fight_for_one_account_all_get_through<S: Store>(store: S) {
    drop(World::funded(store.clone()));
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = store.clone();
            scope.spawn(move || {
                let mut world = World::open_as(writer, store).unwrap();
                let mut moved = 0;
                // Each changes the same row, so all but one of any moment begin anew.
                while moved < 30 {
                    match world.transfer(2, 4, 10) {
                        Ok(()) => moved += 1,
                        Err(code) => assert_eq!(code, Code::Busy),
                    }
                }
            });
        }
    });
    let mut world = World::open_as(WRITERS, store).unwrap();
    let moved = u64::from(WRITERS) * 30 * 10;
    assert_eq!((world.balance(2), world.balance(4)), (1_000_000 - moved, moved));
    assert!(world.now >= START);
    assert_eq!(audited(&world).findings, []);
}

/// What PostgreSQL calls a serialization failure is tried again, and then decided anew, a bounded number of times.
///
/// Spec: G-06.
#[test]
fn a_storm_of_serialization_failures_ends_with_an_answer_to_every_command() {
    const MANY: u32 = 6;
    const EACH: u64 = 10;
    let Some(server) = Server::shared() else { return };
    let address = server.database();
    let database = name_of(&address);
    // Of this database alone the server's log has SQLSTATEs.
    let verbose = format!("ALTER DATABASE {database} SET log_error_verbosity = 'verbose'");
    server.sql("postgres", &verbose);
    let mut first = World::funded(open(&address).unwrap());
    let hold = first.open_hold(500_000);
    drop(first);
    let (moved, paid) = thread::scope(|scope| {
        let fighters: Vec<_> = (1..=MANY)
            .map(|writer| {
                let store = open(&address).unwrap();
                scope.spawn(move || {
                    let mut world = World::open_as(writer, store).unwrap();
                    let (mut moved, mut paid) = (0, 0);
                    for round in 0..EACH {
                        match world.transfer(2, 4, 10) {
                            Ok(()) => moved += 10,
                            Err(code) => assert_eq!(code, Code::Busy),
                        }
                        let book = u16::try_from(u64::from(writer) * EACH + round).unwrap();
                        match claim(&mut world, TestBook::sure(&hold.body, book, 8).claim(1)) {
                            Ok(_) => paid += FACE.0,
                            Err(code) => assert_eq!(code, Code::Busy),
                        }
                    }
                    (moved, paid)
                })
            })
            .collect();
        let fought = fighters.into_iter().map(|fighter| fighter.join().unwrap());
        fought.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    let mut world = World::open_as(MANY + 1, open(&address).unwrap()).unwrap();
    assert!(moved > 0 && paid > 0);
    assert_eq!((world.balance(2), world.balance(4)), (500_000 - moved, moved));
    assert_eq!(world.status(hold.body.id()).paid.0, paid);
    assert_eq!(audited(&world).findings, []);
    let log = server.log();
    let failures = log.lines().filter(|line| line.contains("ERROR:  40")).count();
    println!("{failures} failures, {moved} moved, {paid} paid");
    assert!(failures >= 20, "no storm, but {failures} failures");
}
