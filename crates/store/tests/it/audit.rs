//! What an audit finds where one row of one table, or one event, is not what the rest of the log says.

use crate::rules::audited;
use crate::world::{FEE, TestBook, World, config, in_log, key, reference, secret, tamper};
use tombola_core::amount::{Amount, DAY_MS, HOUR_MS, Timestamp};
use tombola_core::codec::List;
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::hold::Delegation;
use tombola_core::key::Signed;
use tombola_core::message::{EscrowAnswer, EscrowCommand, PayoutPolicy, Share};
use tombola_ledger::audit::{Finding, Progress, audit_with};
use tombola_ledger::event::{Cause, Effect, Event};
use tombola_ledger::key::Key;
use tombola_ledger::ledger::{Command, Outcome};
use tombola_ledger::row::{LogPlace, Row, Table};
use tombola_ledger::store::{Change, Commit, Sharing, Store, Stored};
use tombola_store::block_on::block_on;
use tombola_store::model::ModelStore;

/// A ledger with at least one row in every table that its kind of store has.
fn full(sharing: Sharing) -> World<ModelStore> {
    let mut world = World::funded(ModelStore::new(sharing));
    world.deposit(3, 50_000, "third").unwrap();
    for (account, command) in [
        (2, set_payout(&mut world)),
        (3, set_split(&mut world)),
        (2, delegate(&mut world)),
        (2, withdraw(&mut world)),
        (2, withdraw(&mut world)),
    ] {
        let answer = world.ask(account, command);
        assert!(!matches!(answer, EscrowAnswer::Rejected(_)), "{answer:?}");
    }
    let (open, ended) = (world.open_hold(10_000), world.open_hold(10_000));
    world.claim(TestBook::sure(&open.body, 1, 8).claim(3)).unwrap();
    world.claim(TestBook::sure(&ended.body, 2, 8).claim(2)).unwrap();
    world.top_up(open.body.id(), 0, 20_000);
    world.release(ended.body.id(), 2_000);
    let numbers = rows(&world, Table::PendingWithdrawals);
    let settled = world.run_one(Command::Settle {
        withdrawal: numbers[0].last_number(),
        outcome: PayoutOutcome::Paid,
        reference: reference("wire"),
    });
    assert!(matches!(settled, Outcome::Settled { .. }));
    let collected = world.run_one(Command::CollectFees {
        account: key(7).check().unwrap(),
        amount: Amount(5),
        reference: reference("q1"),
    });
    assert!(matches!(collected, Outcome::FeesCollected { .. }));
    world
}

fn set_payout(world: &mut World<ModelStore>) -> EscrowCommand {
    let policy = Some(PayoutPolicy {
        threshold: Amount(1_000_000_000),
        every_ms: 0,
        destination: reference("iban"),
    });
    let request = world.header();
    EscrowCommand::SetPayout { request, policy }
}

fn set_split(world: &mut World<ModelStore>) -> EscrowCommand {
    let shares = List::new(vec![Share {
        account: key(5),
        ppm: 300_000,
    }]);
    let (request, shares) = (world.header(), shares.unwrap());
    EscrowCommand::SetSplit { request, shares }
}

fn delegate(world: &mut World<ModelStore>) -> EscrowCommand {
    let given = Delegation {
        escrow: key(1),
        account: key(2),
        signer: key(8),
        spend_max: Amount(1_000),
        face_value_max: Amount(1_000),
        payees: List::default(),
        expires_at: world.now.plus_ms(DAY_MS),
        serial: 1,
    };
    let (request, delegation) = (world.header(), Signed::new(given, &secret(2)));
    EscrowCommand::Delegate { request, delegation }
}

fn withdraw(world: &mut World<ModelStore>) -> EscrowCommand {
    EscrowCommand::Withdraw {
        request: world.header(),
        amount: Amount(1_000),
        destination: reference("bank"),
        reference: reference("mine"),
    }
}

fn rows(world: &World<ModelStore>, table: Table) -> Vec<Key> {
    let rows = world.ledger.store().rows();
    let keys = rows.into_iter().map(|(key, _)| key);
    keys.filter(|key| key.table() == table).collect()
}

/// Writes bytes behind the ledger's back; none removes the row.
fn write(world: &World<ModelStore>, key: Key, bytes: Option<Vec<u8>>) {
    let store = world.ledger.store();
    let before = block_on(tombola_ledger::store::Reader::load(store, &[key]))
        .unwrap()
        .remove(0);
    let before = before.map_or(0, |stored| stored.version);
    let after = bytes.map(|bytes| Stored {
        version: before + 1,
        bytes,
    });
    let commit = Commit {
        changes: vec![Change { key, before, after }],
        reads: Vec::new(),
        mark: key,
    };
    block_on(store.commit(commit)).unwrap();
}

/// The tables that an audit compares row by row; the log is replayed instead, and sums are findings of their own.
fn compared() -> impl Iterator<Item = Table> {
    let tables = Table::ALL.iter().copied();
    tables.filter(|table| !matches!(table, Table::Events | Table::Totals))
}

/// Spec: G-05, G-08.
#[test]
fn every_row_of_every_table_is_compared_with_the_log() {
    let mut seen = 0;
    for sharing in [Sharing::Sole, Sharing::Shared] {
        let world = full(sharing);
        assert_eq!(audited(&world).findings, [], "{sharing:?}");
        for table in compared() {
            for key in rows(&world, table) {
                seen += 1;
                let stored = world.ledger.store().rows();
                let bytes = &stored.iter().find(|(found, _)| *found == key).unwrap().1.bytes;
                // Some byte in the middle of the row, or a byte where there is none.
                let mut changed = bytes.clone();
                let middle = changed.len() / 2;
                match changed.get_mut(middle) {
                    Some(byte) => *byte ^= 1,
                    None => changed.push(0),
                }
                write(&world, key, Some(changed));
                assert_eq!(audited(&world).findings, [Finding::row(key)], "changed");
                write(&world, key, None);
                assert_eq!(audited(&world).findings, [Finding::row(key)], "missing");
                write(&world, key, Some(bytes.clone()));
                assert_eq!(audited(&world).findings, []);
            }
        }
    }
    assert!(seen > 80, "{seen}");
}

/// Spec: G-05.
#[test]
fn a_row_that_no_event_made_is_found_in_any_table() {
    for table in compared() {
        let world = full(Sharing::Shared);
        assert_ne!(rows(&world, table), [], "{table:?} is in the test");
        let stray = rows(&world, table).pop().unwrap().successor().unwrap();
        write(&world, stray, Some(vec![7]));
        assert_eq!(audited(&world).findings, [Finding::row(stray)], "{table:?}");
    }
    let world = full(Sharing::Shared);
    let stray = Key::event(LogPlace { writer: 9, height: 4 });
    write(&world, stray, Some(vec![7]));
    assert_eq!(audited(&world).findings, [Finding::row(stray)]);
}

/// Spec: G-05.
#[test]
fn an_audit_tells_how_far_it_is() {
    let mut world = World::funded(ModelStore::default());
    for n in 0..2_500 {
        world.deposit(3, 1, &n.to_string()).unwrap();
    }
    let mut told: Vec<Progress> = Vec::new();
    let snapshot = block_on(world.ledger.store().snapshot()).unwrap();
    let report = block_on(audit_with(&snapshot, &config(), |progress| told.push(progress))).unwrap();
    let told: Vec<(u64, u64)> = told.iter().map(|progress| (progress.events, progress.of)).collect();
    assert_eq!(told, [(1_024, 2_501), (2_048, 2_501), (2_501, 2_501)]);
    assert_eq!((report.events, report.conserved), (2_501, true));
}

/// The event at a height of the one writer, changed; what follows in the log is broken, and that is found too.
fn with_event(world: &World<ModelStore>, height: u64, change: impl FnOnce(&mut Event)) -> Vec<Finding> {
    tamper(world, Key::event(LogPlace { writer: 0, height }), |row| {
        let Row::Events(mut event) = row else { panic!() };
        change(&mut event);
        Some(Row::Events(event))
    });
    audited(world).findings
}

/// Spec: H-09.
#[test]
fn a_hold_that_expired_too_early_is_found() {
    let mut world = World::funded(ModelStore::default());
    let hold = world.open_hold(10_000).body;
    world.now = hold.terms.redeem_by.plus_ms(HOUR_MS);
    world.live(2 * HOUR_MS);
    let expired = world.run_one(Command::Expire { hold: hold.id() });
    assert!(matches!(expired, Outcome::Expired { .. }));
    assert_eq!(audited(&world).findings, []);
    let early = Finding::EarlyExpiry(in_log(3));
    let at = |world: &World<ModelStore>, at: Timestamp| with_event(world, 3, |event| event.body.at = at);
    let earliest = hold.terms.redeem_by.plus_ms(5 * 60_000);
    assert!(!at(&world, earliest).contains(&early));
    assert!(at(&world, earliest.minus_ms(1)).contains(&early));
}

/// Spec: H-06, R-26.
#[test]
fn a_hold_that_is_not_what_was_asked_for_is_found() {
    let made = || {
        let mut world = World::funded(ModelStore::default());
        world.open_hold(10_000);
        world.open_hold(10_000);
        world
    };
    let found = |change: &dyn Fn(&mut tombola_core::hold::Hold)| {
        let mut world = made();
        let findings = with_event(&world, 3, |event| {
            let Effect::Opened { hold } = &mut event.body.effect else {
                panic!()
            };
            change(hold);
        });
        world.now = world.now.plus_ms(1);
        findings
    };
    let effect = Finding::Effect(in_log(3));
    assert!(!found(&|_| ()).contains(&effect));
    assert!(found(&|hold| hold.terms.face_value_max.0 += 1).contains(&effect));
    assert!(found(&|hold| hold.terms.face_value_min.0 -= 1).contains(&effect));
    assert!(
        found(&|hold| hold.terms.fee.flat.0 += 1).contains(&effect),
        "more than fee_max"
    );
    assert!(found(&|hold| hold.terms.book_length_max += 1).contains(&effect));
    assert!(found(&|hold| hold.terms.redeem_by.0 += 1).contains(&effect));
    assert!(found(&|hold| hold.terms.opened_at.0 += 1).contains(&effect));
    assert!(found(&|hold| hold.cap.0 += 1).contains(&effect));
    let number = Finding::Number(in_log(3));
    assert!(!found(&|hold| hold.cap.0 += 1).contains(&number));
    assert!(
        found(&|hold| hold.terms.serial = 1).contains(&number),
        "given out before"
    );
    assert!(found(&|hold| hold.terms.serial = 3).contains(&number), "out of turn");
    assert!(
        found(&|hold| hold.terms.serial = (1 << 40) | 1).contains(&number),
        "no writer is in that epoch"
    );
}

/// Spec.
#[test]
fn a_withdrawal_of_another_epoch_is_found() {
    let mut world = World::funded(ModelStore::default());
    let command = withdraw(&mut world);
    world.ask(2, command);
    let findings = with_event(&world, 2, |event| {
        let Effect::Withdrawn { withdrawal, .. } = &mut event.body.effect else {
            panic!()
        };
        *withdrawal |= 1 << 46;
    });
    assert!(findings.contains(&Finding::Number(in_log(2))), "{findings:?}");
}

/// Spec: G-07.
#[test]
fn more_fees_than_a_writer_had_are_found() {
    let world = full(Sharing::Sole);
    let height = world.ledger.totals().height;
    let findings = |amount: u64| {
        with_event(&world, height, |event| {
            let Cause::Collect { amount: collected, .. } = &mut event.body.cause else {
                panic!()
            };
            *collected = Amount(amount);
            for posting in &mut event.body.postings {
                posting.delta = posting.delta.signum() * i128::from(amount);
            }
        })
    };
    let effect = Finding::Effect(in_log(height));
    // Five winners' fees, and that of a payout.
    let all = 5 * FEE.0 + config().payout_fee.0;
    assert!(!findings(all).contains(&effect));
    assert!(findings(all + 1).contains(&effect));
}

/// Spec: G-13.
#[test]
fn fees_that_a_removed_writer_did_not_have_are_found() {
    let mut world = crate::fees::removed(ModelStore::new(Sharing::Shared));
    assert_eq!(audited(&world).findings, []);
    let height = world.ledger.totals().height;
    let place = LogPlace { writer: 1, height };
    tamper(&world, Key::event(place), |row| {
        let Row::Events(mut event) = row else { panic!() };
        assert!(matches!(event.body.cause, Cause::RemoveWriter { writer: 0 }));
        let Effect::WriterRemoved { fees, .. } = &mut event.body.effect else {
            panic!()
        };
        fees.0 += 1;
        Some(Row::Events(event))
    });
    let findings = audited(&world).findings;
    assert!(findings.contains(&Finding::Effect(place)), "{findings:?}");
    world.now = world.now.plus_ms(1);
}
