//! Money out: withdrawals, payout policies, fees. Over each store.

use crate::conformance::all_rows;
use crate::rules::audited;
use crate::stores::on_each_store;
use crate::world::{FEE, TestBook, World, code, key, reference, tamper};
use tombola_core::amount::{Amount, DAY_MS, HOUR_MS};
use tombola_core::codec::encode;
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::message::{EscrowAnswer, EscrowCommand, PayoutPolicy, Phase, StatementKind};
use tombola_core::reject::Code;
use tombola_ledger::audit::Finding;
use tombola_ledger::key::Key;
use tombola_ledger::ledger::{Command, Outcome};
use tombola_ledger::query::{fee_report, pending_withdrawals};
use tombola_ledger::row::Row;
use tombola_ledger::store::Store;
use tombola_store::block_on::block_on;

on_each_store! {
    a_withdrawal_leaves_the_balance_and_is_paid_less_its_fee_once
    a_failed_withdrawal_comes_back_whole
    a_bad_withdrawal_changes_nothing
    an_unknown_or_settled_withdrawal_is_not_settled_again
    a_policy_pays_out_what_is_due
    a_round_looks_at_every_policy_however_few_at_a_time
    a_bad_policy_changes_nothing
    fees_are_collected_once_and_no_more_than_there_are
    an_audit_finds_what_was_tampered_with
}

pub(crate) fn withdraw<S: Store>(world: &mut World<S>, account: u8, amount: u64, to: &str) -> EscrowAnswer {
    let command = EscrowCommand::Withdraw {
        request: world.header(),
        amount: Amount(amount),
        destination: reference(to),
        reference: reference("mine"),
    };
    world.ask(account, command)
}

pub(crate) fn number(answer: &EscrowAnswer) -> u64 {
    match answer {
        EscrowAnswer::WithdrawalPending { withdrawal, .. } => *withdrawal,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn settle<S: Store>(
    world: &mut World<S>,
    withdrawal: u64,
    outcome: PayoutOutcome,
    text: &str,
) -> Result<Outcome, Code> {
    let reference = reference(text);
    match world.run_one(Command::Settle {
        withdrawal,
        outcome,
        reference,
    }) {
        Outcome::Rejected(reject) => Err(reject.code),
        settled => Ok(settled),
    }
}

fn kinds<S: Store>(world: &mut World<S>, account: u8) -> Vec<StatementKind> {
    match world.ask(account, EscrowCommand::Statement { after: 0 }) {
        EscrowAnswer::Statement(page) => page.entries.into_vec().into_iter().map(|entry| entry.kind).collect(),
        other => panic!("{other:?}"),
    }
}

/// Spec: G-07, R-20, R-23.
fn a_withdrawal_leaves_the_balance_and_is_paid_less_its_fee_once<S: Store>(store: S) {
    let mut world = World::funded(store);
    world.fold();
    let withdrawal = number(&withdraw(&mut world, 2, 1_000, "bank"));
    let state = world.account(2);
    assert_eq!((state.balance.0, state.pending.0), (999_000, 1_000));
    let waiting = block_on(pending_withdrawals(world.ledger.store(), 0, 10)).unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].withdrawal, waiting[0].account), (withdrawal, key(2)));
    assert_eq!(audited(&world).findings, []);
    let first = settle(&mut world, withdrawal, PayoutOutcome::Paid, "wire").unwrap();
    world.live(60_000);
    assert_eq!(settle(&mut world, withdrawal, PayoutOutcome::Paid, "wire"), Ok(first));
    let totals = *world.ledger.totals();
    assert_eq!((totals.pending, totals.withdrawn, totals.fees), (0, 975, 25));
    assert_eq!(world.account(2).pending.0, 0);
    let kinds = kinds(&mut world, 2);
    assert!(
        matches!(&kinds[1], StatementKind::Withdrawn { withdrawal: n, fee, .. } if (*n, fee.0) == (withdrawal, 25))
    );
    assert!(matches!(&kinds[2], StatementKind::WithdrawalPaid { reference, .. } if reference.as_str() == "wire"));
    assert_eq!(block_on(pending_withdrawals(world.ledger.store(), 0, 10)).unwrap(), []);
    let report = audited(&world);
    assert_eq!(report.findings, []);
    assert_eq!((report.pending, report.withdrawn), (0, 975));
}

/// Spec.
fn a_failed_withdrawal_comes_back_whole<S: Store>(store: S) {
    let mut world = World::funded(store);
    let withdrawal = number(&withdraw(&mut world, 2, 1_000_000, "bank"));
    assert_eq!(world.balance(2), 0);
    settle(&mut world, withdrawal, PayoutOutcome::Failed, "no such bank").unwrap();
    assert_eq!((world.balance(2), world.account(2).pending.0), (1_000_000, 0));
    let last = kinds(&mut world, 2).pop().unwrap();
    assert!(matches!(last, StatementKind::WithdrawalFailed { amount, .. } if amount.0 == 1_000_000));
    assert_eq!(audited(&world).findings, []);
}

/// Spec: R-20.
fn a_bad_withdrawal_changes_nothing<S: Store>(store: S) {
    let mut world = World::funded(store);
    world.fold();
    let before = all_rows(world.ledger.store());
    for (account, amount, to, expected) in [
        (2, 1_000_001, "bank", Code::InsufficientFunds),
        (2, 99, "bank", Code::PayoutTooSmall),
        (2, 0, "bank", Code::AmountZero),
        (2, 500, "", Code::BadTerms),
        (9, 500, "bank", Code::AccountUnknown),
    ] {
        assert_eq!(code(&withdraw(&mut world, account, amount, to)), expected);
    }
    assert_eq!(all_rows(world.ledger.store()), before);
}

/// Spec: R-23.
fn an_unknown_or_settled_withdrawal_is_not_settled_again<S: Store>(store: S) {
    let mut world = World::funded(store);
    let withdrawal = number(&withdraw(&mut world, 2, 1_000, "bank"));
    settle(&mut world, withdrawal, PayoutOutcome::Paid, "wire").unwrap();
    let before = all_rows(world.ledger.store());
    let mut refused = |number, outcome, text| settle(&mut world, number, outcome, text).unwrap_err();
    assert_eq!(
        refused(withdrawal + 1, PayoutOutcome::Paid, "wire"),
        Code::WithdrawalUnknown
    );
    assert_eq!(
        refused(withdrawal, PayoutOutcome::Failed, "wire"),
        Code::WithdrawalSettled
    );
    assert_eq!(
        refused(withdrawal, PayoutOutcome::Paid, "other"),
        Code::WithdrawalSettled
    );
    assert_eq!(all_rows(world.ledger.store()), before);
}

pub(crate) fn set_payout<S: Store>(
    world: &mut World<S>,
    account: u8,
    threshold: u64,
    every_ms: u64,
    to: &str,
) -> EscrowAnswer {
    let policy = PayoutPolicy {
        threshold: Amount(threshold),
        every_ms,
        destination: reference(to),
    };
    let command = EscrowCommand::SetPayout {
        request: world.header(),
        policy: Some(policy),
    };
    world.ask(account, command)
}

pub(crate) fn pay_out<S: Store>(world: &mut World<S>) -> usize {
    block_on(world.ledger.pay_out(10, world.now)).unwrap()
}

/// Spec: R-21.
fn a_round_looks_at_every_policy_however_few_at_a_time<S: Store>(store: S) {
    let mut world = World::funded(store);
    for account in 3..8 {
        world.deposit(account, 2_000, &format!("for {account}")).unwrap();
        set_payout(&mut world, account, 1_000, 0, "iban");
    }
    let mut looks = Vec::new();
    loop {
        looks.push(block_on(world.ledger.pay_out(2, world.now)).unwrap());
        if world.ledger.is_round_of_policies_done() {
            break;
        }
    }
    assert_eq!(looks, [2, 2, 1]);
    assert!((3..8).all(|account| world.balance(account) == 0));
}

/// Spec.
fn a_policy_pays_out_what_is_due<S: Store>(store: S) {
    let mut world = World::funded(store);
    world.deposit(3, 999, "three").unwrap();
    assert!(matches!(
        set_payout(&mut world, 3, 1_000, DAY_MS, "iban"),
        EscrowAnswer::PayoutSet { .. }
    ));
    assert_eq!(world.account(3).payout.unwrap().threshold.0, 1_000);
    assert_eq!(pay_out(&mut world), 0);
    world.deposit(3, 6, "more").unwrap();
    world.ledger.set_phase(Phase::Recovering);
    assert_eq!(pay_out(&mut world), 0);
    world.ledger.set_phase(Phase::Open);
    assert_eq!(pay_out(&mut world), 1);
    assert_eq!((world.balance(3), world.account(3).pending.0), (0, 1_005));
    // A busy payee gets one payment an hour.
    world.deposit(3, 2_000, "again").unwrap();
    assert_eq!(pay_out(&mut world), 0);
    world.now = world.now.plus_ms(HOUR_MS);
    assert_eq!(pay_out(&mut world), 1);
    // And what is less than the threshold after a day.
    world.deposit(3, 100, "little").unwrap();
    world.now = world.now.plus_ms(DAY_MS - 1);
    assert_eq!(pay_out(&mut world), 0);
    world.now = world.now.plus_ms(1);
    assert_eq!(pay_out(&mut world), 1);
    let last = kinds(&mut world, 3).pop().unwrap();
    assert!(matches!(&last, StatementKind::Withdrawn { reference, destination, .. }
        if reference.as_str().is_empty() && destination.as_str() == "iban"));
    let request = world.header();
    world.ask(3, EscrowCommand::SetPayout { request, policy: None });
    world.deposit(3, 5_000, "kept").unwrap();
    world.now = world.now.plus_ms(DAY_MS);
    assert_eq!(pay_out(&mut world), 0);
    assert_eq!(audited(&world).findings, []);
}

/// Spec: R-21.
fn a_bad_policy_changes_nothing<S: Store>(store: S) {
    let mut world = World::funded(store);
    let before = all_rows(world.ledger.store());
    for (account, threshold, every_ms, to, expected) in [
        (2, 0, 0, "iban", Code::BadTerms),
        (2, 99, 0, "iban", Code::PayoutTooSmall),
        (2, 0, HOUR_MS - 1, "iban", Code::TimeOutOfRange),
        (2, 500, 0, "", Code::BadTerms),
        (9, 500, 0, "iban", Code::AccountUnknown),
    ] {
        assert_eq!(
            code(&set_payout(&mut world, account, threshold, every_ms, to)),
            expected
        );
    }
    assert_eq!(all_rows(world.ledger.store()), before);
}

pub(crate) fn collect<S: Store>(world: &mut World<S>, account: u8, amount: u64, text: &str) -> Result<Vec<u8>, Code> {
    match world.run_one(Command::CollectFees {
        account: key(account).check().unwrap(),
        amount: Amount(amount),
        reference: reference(text),
    }) {
        Outcome::FeesCollected {
            account, amount, at, ..
        } => Ok(encode(&(account, amount, at))),
        Outcome::Rejected(reject) => Err(reject.code),
        other => panic!("{other:?}"),
    }
}

/// Spec: G-07.
fn fees_are_collected_once_and_no_more_than_there_are<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(100_000);
    world.claim(TestBook::sure(&hold.body, 1, 64).claim(10)).unwrap();
    let withdrawal = number(&withdraw(&mut world, 2, 1_000, "bank"));
    settle(&mut world, withdrawal, PayoutOutcome::Paid, "wire").unwrap();
    let all = 10 * FEE.0 + 25;
    assert_eq!(collect(&mut world, 7, all + 1, "q1"), Err(Code::InsufficientFunds));
    let first = collect(&mut world, 7, 100, "q1").unwrap();
    assert_eq!(collect(&mut world, 7, 100, "q1"), Ok(first));
    assert_eq!(world.balance(7), 100);
    let before = all_rows(world.ledger.store());
    assert_eq!(collect(&mut world, 7, 101, "q1"), Err(Code::ReferenceReused));
    assert_eq!(collect(&mut world, 8, 100, "q1"), Err(Code::ReferenceReused));
    assert_eq!(collect(&mut world, 7, 0, "q2"), Err(Code::AmountZero));
    assert_eq!(collect(&mut world, 7, all - 99, "q2"), Err(Code::InsufficientFunds));
    assert_eq!(all_rows(world.ledger.store()), before);
    let report = block_on(fee_report(world.ledger.store(), 0)).unwrap();
    assert_eq!((report.winners, report.payouts, report.collected), (120, 25, 100));
    assert_eq!((report.left, report.left_of_writer), (45, 45));
    world.fold();
    assert!(matches!(&kinds(&mut world, 7)[0], StatementKind::Received { from, .. } if *from == key(1)));
    assert_eq!(audited(&world).findings, []);
}

/// Spec: G-05, G-07.
fn an_audit_finds_what_was_tampered_with<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(100_000);
    world.claim(TestBook::sure(&hold.body, 1, 64).claim(10)).unwrap();
    let pending = number(&withdraw(&mut world, 2, 1_000, "bank"));
    let paid = number(&withdraw(&mut world, 2, 2_000, "bank"));
    settle(&mut world, paid, PayoutOutcome::Paid, "wire").unwrap();
    set_payout(&mut world, 2, 1_000_000_000, 0, "iban");
    collect(&mut world, 7, 100, "q1").unwrap();
    assert_eq!(audited(&world).findings, []);
    tamper(&world, Key::withdrawal(pending), |row| {
        let Row::Withdrawals(mut row) = row else { panic!() };
        row.destination = reference("thief");
        Some(Row::Withdrawals(row))
    });
    assert_eq!(audited(&world).findings, [Finding::row(Key::withdrawal(pending))]);
    tamper(&world, Key::settled_withdrawal(world.now, paid), |_| None);
    assert!(
        audited(&world)
            .findings
            .contains(&Finding::row(Key::settled_withdrawal(world.now, paid)))
    );
    tamper(&world, Key::pending_withdrawal(pending), |_| None);
    assert_eq!(audited(&world).findings.len(), 3);
    tamper(&world, Key::payout(0), |row| {
        let Row::Payouts(mut row) = row else { panic!() };
        row.policy.as_mut().unwrap().destination = reference("thief");
        Some(Row::Payouts(row))
    });
    assert!(audited(&world).findings.contains(&Finding::row(Key::payout(0))));
    tamper(&world, Key::collection(&reference("q1")), |_| None);
    let missing = Finding::row(Key::collection(&reference("q1")));
    assert!(audited(&world).findings.contains(&missing));
}
