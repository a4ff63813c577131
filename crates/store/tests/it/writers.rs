//! Several writers on one store: what each may do while the others work, and that one audit covers all their logs.

use crate::money::set_payout;
use crate::rules::audited;
use crate::signers::delegate;
use crate::splits::set_split;
use crate::stores::on_each_shared_store;
use crate::world::{FACE, FEE, START, TestBook, World};
use tombola_core::amount::{HOUR_MS, MINUTE_MS};
use tombola_core::hold::Hold;
use tombola_core::message::{EscrowAnswer, EscrowCommand, StatementKind};
use tombola_core::reject::Code;
use tombola_ledger::ledger::{Command, LedgerFault, Outcome};
use tombola_ledger::store::Store;
use tombola_store::block_on::block_on;

on_each_shared_store! {
    claims_through_two_writers_are_paid_once_and_add_up
    the_same_claim_through_two_writers_is_paid_once
    a_payee_spends_what_two_writers_credited
    a_second_incarnation_fences_off_the_first
    no_hold_expires_while_another_writer_is_silent
    a_writer_that_slept_and_first_forgets_something_has_slept
    two_writers_that_make_the_same_account_agree_on_its_row
    a_deposit_reference_is_used_once_across_writers
    credits_of_a_dead_writer_are_folded_by_another
    when_one_writer_recovers_all_do_in_one_epoch
    while_one_writer_recovers_no_hold_expires_through_another
    an_audit_waits_for_the_accounts_that_another_writer_made
}

/// Spec: G-05, G-06.
fn claims_through_two_writers_are_paid_once_and_add_up<S: Store>(store: S) {
    let mut first = World::funded(store.clone());
    let mut second = World::open_as(1, store).unwrap();
    let hold = first.open_hold(100_000);
    let mut books: Vec<TestBook> = (0..20).map(|n| TestBook::sure(&hold.body, n, 8)).collect();
    for (number, book) in books.iter_mut().enumerate() {
        let world = if number % 3 == 0 { &mut first } else { &mut second };
        assert_eq!(
            world.claim(book.claim(2)).unwrap().body.writer,
            u32::from(number % 3 != 0)
        );
        // A larger through by the other writer pays the difference.
        let world = if number % 3 == 0 { &mut second } else { &mut first };
        assert_eq!(world.claim(book.claim(5)).unwrap().body.winners, 5);
    }
    let paid = 20 * 5 * (FACE.0 - FEE.0);
    assert_eq!((first.balance(3), second.balance(3)), (paid, paid));
    first.fold();
    let half = audited(&first);
    assert_eq!(half.findings, []);
    second.fold();
    let report = audited(&first);
    assert_eq!(report.findings, []);
    assert_eq!((report.claims, report.winners), (40, 100));
    assert_eq!(first.balance(3), paid);
    let mut entries = Vec::new();
    loop {
        let after = u64::try_from(entries.len()).unwrap();
        let EscrowAnswer::Statement(page) = first.ask(3, EscrowCommand::Statement { after }) else {
            panic!()
        };
        entries.extend(page.entries.as_slice().to_vec());
        if !page.more {
            break;
        }
    }
    assert!(
        entries
            .iter()
            .all(|entry| matches!(entry.kind, StatementKind::Redeemed(_)))
    );
    assert_eq!(entries.last().unwrap().balance.0, paid);
    assert_eq!(entries.len(), 40);
}

fn the_same_claim_through_two_writers_is_paid_once<S: Store>(store: S) {
    let mut first = World::funded(store.clone());
    let mut second = World::open_as(1, store).unwrap();
    let hold = first.open_hold(10_000);
    let claim = TestBook::sure(&hold.body, 1, 8).claim(3);
    let receipt = first.claim(claim).unwrap();
    assert_eq!(second.claim(claim), Ok(receipt));
    assert_eq!(second.balance(3), 3 * (FACE.0 - FEE.0));
    assert_eq!(audited(&second).findings, []);
}

/// Spec: G-06.
fn a_payee_spends_what_two_writers_credited<S: Store>(store: S) {
    let mut first = World::funded(store.clone());
    let mut second = World::open_as(1, store).unwrap();
    let hold = first.open_hold(100_000);
    first.claim(TestBook::sure(&hold.body, 1, 8).claim(3)).unwrap();
    second.claim(TestBook::sure(&hold.body, 2, 8).claim(3)).unwrap();
    let all = 6 * (FACE.0 - FEE.0);
    assert_eq!(first.transfer(3, 4, all), Ok(()), "what is not folded can be spent");
    assert_eq!(second.transfer(3, 4, 1), Err(Code::InsufficientFunds));
    assert_eq!((second.balance(3), second.balance(4)), (0, all));
    assert_eq!(audited(&second).findings, []);
    first.fold();
    second.fold();
    assert_eq!(audited(&second).findings, []);
}

fn a_second_incarnation_fences_off_the_first<S: Store>(store: S) {
    let mut first = World::funded(store.clone());
    let mut second = World::open(store).unwrap();
    let batch = || vec![World::<S>::deposit_command(2, 1, "b")];
    let fenced = block_on(first.ledger.execute(batch(), START)).unwrap_err();
    assert_eq!(fenced, LedgerFault::Fenced { writer: 0 });
    assert_eq!(
        block_on(first.ledger.execute(batch(), START)),
        Err(LedgerFault::Stopped)
    );
    second.deposit(2, 1, "b").unwrap();
    assert_eq!(audited(&second).findings, []);
}

/// Spec: H-09.
fn no_hold_expires_while_another_writer_is_silent<S: Store>(store: S) {
    let mut first = World::funded(store.clone());
    let mut second = World::open_as(1, store.clone()).unwrap();
    let hold: Hold = first.open_hold(10_000).body;
    first.now = hold.terms.redeem_by.plus_ms(HOUR_MS);
    first.live(2 * HOUR_MS);
    let expire = |world: &mut World<S>| match world.run_one(Command::Expire { hold: hold.id() }) {
        Outcome::Expired { returned, .. } => Ok(returned.0),
        Outcome::Rejected(reject) => Err(reject.code),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        expire(&mut first),
        Err(Code::Busy),
        "the second writer shows no sign of life"
    );
    let alive = block_on(second.ledger.remove_writer(0, first.now));
    assert!(matches!(alive, Err(LedgerFault::WriterAlive { writer: 0, .. })));
    // Both serve for an hour.
    second.now = first.now;
    let until = first.now.plus_ms(HOUR_MS + MINUTE_MS);
    while first.now < until {
        first.live(30_000);
        second.live(30_000);
    }
    let before = block_on(first.ledger.expire_due(10, first.now)).unwrap();
    assert!(matches!(before.as_slice(), [Outcome::Expired { .. }]), "{before:?}");
    let other = first.open_hold_as(first.hold_request(10_000)).unwrap().body;
    first.now = other.terms.redeem_by.plus_ms(HOUR_MS);
    first.live(2 * HOUR_MS);
    assert_eq!(block_on(first.ledger.expire_due(10, first.now)).unwrap().len(), 1);
    assert!(first.status(other.id()).state == tombola_core::message::HoldState::Open);
    block_on(first.ledger.remove_writer(1, first.now)).unwrap();
    let after = block_on(first.ledger.expire_due(10, first.now)).unwrap();
    assert!(matches!(after.as_slice(), [Outcome::Expired { .. }]), "{after:?}");
    assert_eq!(
        World::open_as(1, store).map(|_| ()).unwrap_err(),
        LedgerFault::WriterRemoved { writer: 1 }
    );
    assert_eq!(audited(&first).findings, []);
}

/// Both serve without a gap, by as few signs of life as that takes.
fn serve_an_hour<S: Store>(first: &mut World<S>, second: &mut World<S>) {
    for _ in 0..=60 {
        for world in [&mut *first, &mut *second] {
            world.now = world.now.plus_ms(MINUTE_MS);
            world.run(Vec::new());
        }
    }
}

/// Spec: H-09.
fn a_writer_that_slept_and_first_forgets_something_has_slept<S: Store>(store: S) {
    let mut first = World::funded(store.clone());
    let mut second = World::open_as(1, store).unwrap();
    let hold = first.open_hold(10_000).body;
    first.now = hold.terms.redeem_by.plus_ms(HOUR_MS);
    second.now = first.now;
    // For an hour both serve; then the second sleeps, and what it does first is to forget an answer.
    serve_an_hour(&mut first, &mut second);
    first.live(10 * MINUTE_MS);
    second.now = first.now;
    assert_eq!(block_on(second.ledger.prune(10, second.now)), Ok(1));
    let expired = first.run_one(Command::Expire { hold: hold.id() });
    assert!(
        matches!(&expired, Outcome::Rejected(reject) if reject.code == Code::Busy),
        "{expired:?}"
    );
}

/// Spec: G-05.
fn two_writers_that_make_the_same_account_agree_on_its_row<S: Store>(store: S) {
    let mut first = World::funded(store.clone());
    let mut second = World::open_as(1, store).unwrap();
    for account in 4..20 {
        let (name, other) = (format!("a{account}"), format!("b{account}"));
        first.deposit(account, 5, &name).unwrap();
        second.deposit(account, 7, &other).unwrap();
        second.deposit(account + 100, 7, &format!("c{account}")).unwrap();
        assert_eq!(first.balance(account), 12);
    }
    first.fold();
    second.fold();
    let report = audited(&first);
    assert_eq!((report.findings, report.accounts), (vec![], 1 + 16 + 16));
}

fn a_deposit_reference_is_used_once_across_writers<S: Store>(store: S) {
    let mut first = World::open(store.clone()).unwrap();
    let mut second = World::open_as(1, store).unwrap();
    let height = first.deposit(2, 5, "same").unwrap();
    assert_eq!(second.deposit(2, 5, "same"), Ok(height));
    assert_eq!(second.deposit(2, 6, "same"), Err(Code::ReferenceReused));
    assert_eq!(second.balance(2), 5);
}

fn credits_of_a_dead_writer_are_folded_by_another<S: Store>(store: S) {
    let mut dead = World::funded(store.clone());
    let mut alive = World::open_as(1, store).unwrap();
    let hold = dead.open_hold(100_000);
    for book in 0..5 {
        dead.claim(TestBook::sure(&hold.body, book, 8).claim(1)).unwrap();
    }
    alive.claim(TestBook::sure(&hold.body, 9, 8).claim(1)).unwrap();
    let fold = |world: &mut World<S>| block_on(world.ledger.fold(2, world.now)).unwrap();
    assert_eq!(
        (fold(&mut alive), fold(&mut alive)),
        (1, 0),
        "a living writer folds its own"
    );
    alive.now = alive.now.plus_ms(HOUR_MS);
    assert_eq!((fold(&mut alive), fold(&mut alive)), (2, 2), "past a full page");
    alive.fold();
    assert_eq!(alive.balance(3), 6 * (FACE.0 - FEE.0));
    let report = audited(&alive);
    assert_eq!(report.findings, []);
    let EscrowAnswer::Statement(page) = alive.ask(3, EscrowCommand::Statement { after: 0 }) else {
        panic!()
    };
    assert_eq!(page.entries.as_slice().len(), 6);
}

fn when_one_writer_recovers_all_do_in_one_epoch<S: Store>(store: S) {
    let mut first = World::funded(store.clone());
    let mut second = World::open_as(1, store.clone()).unwrap();
    let before = first.open_hold(1_000).body;
    first.ledger.set_epoch(1);
    first.ledger.begin_recovery(before.terms.opened_at);
    first.run(Vec::new());
    let refused = second.open_hold_as(second.hold_request(1_000));
    assert_eq!(refused, Err(Code::Recovering));
    let mut third = World::open_as(2, store).unwrap();
    assert_eq!(third.open_hold_as(third.hold_request(1_000)), Err(Code::Recovering));
    first.ledger.end_recovery(START);
    first.run(Vec::new());
    let after = second.open_hold(1_000).body;
    assert_eq!(
        after.terms.serial >> 40,
        1,
        "every writer gives out serials of the new epoch"
    );
    assert!(before.terms.serial >> 40 == 0);
    assert_eq!(audited(&second).findings, []);
}

/// Spec: R-24.
fn while_one_writer_recovers_no_hold_expires_through_another<S: Store>(store: S) {
    let mut first = World::funded(store.clone());
    let mut second = World::open_as(1, store).unwrap();
    let hold = first.open_hold(10_000).body;
    first.now = hold.terms.redeem_by.plus_ms(HOUR_MS);
    second.now = first.now;
    serve_an_hour(&mut first, &mut second);
    first.ledger.begin_recovery(hold.terms.opened_at);
    first.run(Vec::new());
    let refused = block_on(second.ledger.expire_due(10, second.now)).unwrap();
    assert!(
        matches!(refused.as_slice(), [Outcome::Rejected(reject)] if reject.code == Code::Recovering),
        "{refused:?}"
    );
    assert_eq!(block_on(second.ledger.expire_due(10, second.now)), Ok(Vec::new()));
}

/// Spec: G-05, G-07.
fn an_audit_waits_for_the_accounts_that_another_writer_made<S: Store>(store: S) {
    let mut first = World::open(store.clone()).unwrap();
    let mut second = World::open_as(1, store).unwrap();
    for account in [2, 3, 4] {
        second.deposit(account, 500, &account.to_string()).unwrap();
    }
    set_payout(&mut first, 4, 1_000, HOUR_MS, "iban");
    assert_eq!(audited(&second).findings, []);
    set_split(&mut first, 3, &[(4, 500_000)]);
    assert_eq!(audited(&second).findings, []);
    delegate(&mut first, 1, |_| {});
    assert_eq!(audited(&second).findings, []);
}
