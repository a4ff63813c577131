//! What must hold over every store.

use crate::stores::on_each_store;
use crate::world::{FACE, FEE, START, TestBook, World, code, config, key, secret};
use tombola_core::amount::{Amount, DAY_MS, HOUR_MS, MINUTE_MS};
use tombola_core::codec::encode;
use tombola_core::hold::Release;
use tombola_core::key::Signed;
use tombola_core::message::{ClaimAnswer, EscrowAnswer, EscrowCommand, HoldState, StatementKind};
use tombola_core::odds::Threshold;
use tombola_core::reject::Code;
use tombola_ledger::audit::{AuditReport, audit};
use tombola_ledger::ledger::{Command, Outcome};
use tombola_ledger::store::{Sharing, Store};
use tombola_store::block_on::block_on;

on_each_store! {
    redeeming_twice_pays_once_with_identical_bytes
    a_larger_through_pays_the_difference
    a_claim_over_the_cap_is_refused_whole_and_paid_after_a_top_up
    sixty_four_books_race_one_hold_and_take_no_more_than_its_cap
    only_the_payee_claims_by_its_connection_or_its_signature
    a_release_returns_the_rest_once
    an_expired_hold_returns_the_rest_and_still_repeats_receipts
    a_claim_is_paid_after_redeem_by_until_the_expiry_is_ordered
    no_hold_expires_without_an_hour_of_service
    the_same_deposit_reference_moves_money_once
    the_supply_is_bounded
    a_batch_sees_its_own_commands
    statements_carry_what_an_audit_needs
    open_holds_are_listed_in_pages
    an_audit_of_everything_finds_nothing
}

pub(crate) fn audited<S: Store>(world: &World<S>) -> AuditReport {
    let snapshot = block_on(world.ledger.store().snapshot()).unwrap();
    block_on(audit(&snapshot, &config())).unwrap()
}

/// Spec: R-12.
fn redeeming_twice_pays_once_with_identical_bytes<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(10_000);
    let claim = TestBook::sure(&hold.body, 1, 8).claim(3);
    let first = world.claim(claim).unwrap();
    first.verify(&key(1).check().unwrap()).unwrap();
    assert_eq!(
        (first.body.winners, first.body.gross.0, first.body.fee.0),
        (3, 3_000, 36)
    );
    assert_eq!(world.balance(3), 3 * (FACE.0 - FEE.0));
    world.live(MINUTE_MS);
    let height = world.ledger.totals().height;
    let again = world.claim_all(vec![claim, claim]);
    for answer in again {
        assert_eq!(encode(&answer), encode(&ClaimAnswer::Receipt(first)));
    }
    let smaller = TestBook::sure(&hold.body, 1, 8).claim(2);
    assert_eq!(world.claim(smaller), Ok(first));
    assert_eq!(world.balance(3), 3 * (FACE.0 - FEE.0));
    assert_eq!(world.ledger.totals().height, height);
}

/// Spec: R-12.
fn a_larger_through_pays_the_difference<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(100_000);
    let mut book = TestBook::new(&hold.body, 1, 40, Threshold(u64::MAX / 2));
    let winners = book.winners();
    assert!(winners.len() > 4);
    for (count, index) in (1u64..).zip(&winners) {
        let receipt = world.claim(book.claim(*index)).unwrap();
        assert_eq!(u64::from(receipt.body.winners), count);
        assert_eq!(receipt.body.gross.0, count * FACE.0);
        assert_eq!(receipt.body.hold_paid_after.0, count * FACE.0);
        assert_eq!(world.balance(3), count * (FACE.0 - FEE.0));
    }
    let loser = (1..=40).find(|index| !winners.contains(index)).unwrap();
    assert_eq!(world.claim(book.claim(loser)), Err(Code::ClaimDoesNotWin));
}

/// Spec: H-08, R-12.
fn a_claim_over_the_cap_is_refused_whole_and_paid_after_a_top_up<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(2_500);
    let id = hold.body.id();
    let mut book = TestBook::sure(&hold.body, 1, 8);
    let answer = world.claim_all(vec![book.claim(3)]).remove(0);
    let ClaimAnswer::Refusal(refusal) = answer else {
        panic!("paid over the cap")
    };
    refusal.verify(&key(1).check().unwrap()).unwrap();
    let said = (refusal.body.code, refusal.body.cap.0, refusal.body.paid.0);
    assert_eq!(said, (Code::ClaimOverCap, 2_500, 0));
    assert_eq!((world.status(id).paid.0, world.balance(3)), (0, 0));
    let raised = world.top_up(id, 0, 3_000);
    let EscrowAnswer::Hold(raised) = raised else {
        panic!("{raised:?}")
    };
    assert_eq!((raised.body.revision, raised.body.cap.0), (1, 3_000));
    raised.verify(&key(1).check().unwrap()).unwrap();
    assert_eq!(world.claim(book.claim(3)).unwrap().body.gross.0, 3_000);
    assert_eq!(world.status(id).paid.0, 3_000);
    // A stale revision is answered with the current hold and changes nothing.
    assert_eq!(world.top_up(id, 0, 9_000), EscrowAnswer::RevisionStale(raised));
    assert_eq!(code(&world.top_up(id, 1, 2_999)), Code::CapOutOfRange);
    assert_eq!(code(&world.top_up(id, 1, 2_000_000)), Code::InsufficientFunds);
    // Nor does a refusal cost a book that was paid before its further winners.
    assert_eq!(world.claim(book.claim(4)), Err(Code::ClaimOverCap));
    assert!(matches!(world.top_up(id, 1, 4_000), EscrowAnswer::Hold(_)));
    assert_eq!(world.claim(book.claim(4)).unwrap().body.gross.0, 4_000);
}

/// Spec: R-12.
fn sixty_four_books_race_one_hold_and_take_no_more_than_its_cap<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(40_500);
    let claims: Vec<_> = (0..64).map(|n| TestBook::sure(&hold.body, n, 2).claim(1)).collect();
    let answers = world.claim_all(claims);
    let paid = answers.iter().filter(|a| matches!(a, ClaimAnswer::Receipt(_))).count();
    assert_eq!(paid, 40);
    assert_eq!(world.status(hold.body.id()).paid.0, 40_000);
    assert_eq!(world.balance(3), 40 * (FACE.0 - FEE.0));
    assert_eq!(world.account(2).held.0, 500);
    assert!(audited(&world).conserved);
}

/// Spec: R-10.
fn only_the_payee_claims_by_its_connection_or_its_signature<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(10_000);
    let claim = TestBook::sure(&hold.body, 1, 8).claim(1);
    let command = world.claim_command(vec![claim]);
    assert_eq!(code(&world.ask_as(2, 3, command.clone())), Code::WrongPayee);
    assert_eq!(code(&world.ask_as(2, 2, command.clone())), Code::WrongPayee);
    let EscrowCommand::Claim { batch, .. } = command else {
        unreachable!()
    };
    let signed = |n| EscrowCommand::Claim {
        batch: batch.clone(),
        signature: Some(Signed::new(batch.clone(), &secret(n)).signature),
    };
    assert_eq!(code(&world.ask_as(2, 3, signed(2))), Code::BadSignature);
    let mut theirs = batch.clone();
    theirs.payee = key(4);
    let stolen = EscrowCommand::Claim {
        batch: theirs,
        signature: None,
    };
    let EscrowAnswer::Claimed { answers } = world.ask(4, stolen) else {
        panic!("judged")
    };
    let ClaimAnswer::Refusal(refusal) = answers.as_slice()[0] else {
        panic!("stolen")
    };
    assert_eq!(refusal.body.code, Code::WrongPayee);
    assert_eq!(world.balance(3), 0);
    let paid = world.ask_as(2, 3, signed(3));
    assert!(matches!(paid, EscrowAnswer::Claimed { .. }));
    assert_eq!(world.balance(3), FACE.0 - FEE.0);
}

/// Spec: H-07, R-09.
fn a_release_returns_the_rest_once<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(10_000);
    let id = hold.body.id();
    let mut book = TestBook::sure(&hold.body, 1, 8);
    world.claim(book.claim(2)).unwrap();
    let EscrowAnswer::Rejected(reject) = world.release(id, 1_000) else {
        panic!("released")
    };
    assert_eq!(
        (reject.code, reject.need, reject.has),
        (Code::ReleaseMismatch, 2_000, 1_000)
    );
    let forged = Signed::new(
        Release {
            hold: id,
            paid: Amount(2_000),
        },
        &secret(2),
    );
    assert_eq!(code(&world.ask(3, EscrowCommand::Release(forged))), Code::BadSignature);
    assert_eq!(code(&world.ask(2, EscrowCommand::Release(forged))), Code::Unauthorized);
    let first = world.release(id, 2_000);
    let expected = EscrowAnswer::Released {
        hold: id,
        returned: Amount(8_000),
        at: START,
    };
    assert_eq!(first, expected);
    assert_eq!((world.balance(2), world.account(2).held.0), (998_000, 0));
    world.live(MINUTE_MS);
    assert_eq!(encode(&world.release(id, 2_000)), encode(&first));
    assert_eq!(world.balance(2), 998_000);
    assert_eq!(code(&world.top_up(id, 0, 20_000)), Code::HoldReleased);
    assert_eq!(world.claim(book.claim(3)), Err(Code::HoldReleased));
    assert_eq!(world.account(2).open_holds, 0);
}

/// Spec: H-05, H-09.
fn an_expired_hold_returns_the_rest_and_still_repeats_receipts<S: Store>(store: S) {
    let mut world = World::funded(store);
    let holds: Vec<_> = (0..3).map(|_| world.open_hold(10_000)).collect();
    let mut book = TestBook::sure(&holds[0].body, 1, 8);
    let receipt = world.claim(book.claim(2)).unwrap();
    world.now = START.plus_ms(2 * DAY_MS + 5 * MINUTE_MS - HOUR_MS);
    world.run(Vec::new());
    world.live(HOUR_MS - 1);
    assert_eq!(block_on(world.ledger.expire_due(10, world.now)).unwrap(), []);
    world.live(1);
    // Bounded: two now, one later.
    for expected in [2, 1, 0] {
        let expired = block_on(world.ledger.expire_due(2, world.now)).unwrap();
        assert_eq!(expired.len(), expected);
        assert!(
            expired.iter().all(|o| matches!(o, Outcome::Expired { .. })),
            "{expired:?}"
        );
    }
    assert_eq!((world.balance(2), world.account(2).held.0), (998_000, 0));
    assert_eq!(world.status(holds[0].body.id()).state, HoldState::Expired);
    assert_eq!(world.claim(book.claim(2)), Ok(receipt));
    assert_eq!(world.claim(book.claim(3)), Err(Code::HoldExpired));
    let again = Command::Expire {
        hold: holds[0].body.id(),
    };
    assert!(matches!(world.run_one(again), Outcome::Rejected(r) if r.code == Code::HoldExpired));
    assert!(audited(&world).conserved);
}

/// Spec: H-05, H-09.
fn a_claim_is_paid_after_redeem_by_until_the_expiry_is_ordered<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(10_000);
    world.now = START.plus_ms(30 * DAY_MS);
    let claim = TestBook::sure(&hold.body, 1, 8).claim(2);
    assert_eq!(world.claim(claim).unwrap().body.gross.0, 2_000);
}

/// Spec: H-09.
fn no_hold_expires_without_an_hour_of_service<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(10_000).body.id();
    let expire = |world: &mut World<S>| match world.run_one(Command::Expire { hold }) {
        Outcome::Rejected(reject) => Err(reject.code),
        Outcome::Expired { returned, .. } => Ok(returned.0),
        other => panic!("{other:?}"),
    };
    assert_eq!(expire(&mut world), Err(Code::TimeOutOfRange));
    world.now = START.plus_ms(3 * DAY_MS);
    assert_eq!(expire(&mut world), Err(Code::Busy));
    world.live(HOUR_MS / 2);
    // A gap starts the hour anew.
    world.now = world.now.plus_ms(2 * MINUTE_MS);
    world.run(Vec::new());
    world.live(HOUR_MS - 1);
    assert_eq!(expire(&mut world), Err(Code::Busy));
    world.live(1);
    assert_eq!(expire(&mut world), Ok(10_000));
}

/// Spec: R-17.
fn the_same_deposit_reference_moves_money_once<S: Store>(store: S) {
    let mut world = World::open(store).unwrap();
    let first = world.deposit(2, 500, "a").unwrap();
    assert_eq!(world.deposit(2, 500, "a"), Ok(first));
    assert_eq!(world.balance(2), 500);
    assert_eq!(world.deposit(2, 501, "a"), Err(Code::ReferenceReused));
    assert_eq!(world.deposit(3, 500, "a"), Err(Code::ReferenceReused));
    assert_eq!(world.deposit(2, 0, "b"), Err(Code::AmountZero));
    assert!(world.deposit(2, 500, "b").unwrap() > first);
    assert_eq!(world.balance(2), 1_000);
}

/// Spec: M-01, R-17.
fn the_supply_is_bounded<S: Store>(store: S) {
    let all = match store.sharing() {
        Sharing::Sole => u64::MAX,
        // Each of the writers has an equal part.
        Sharing::Shared => u64::MAX / 64,
    };
    let mut world = World::open(store).unwrap();
    world.deposit(2, all - 10, "a").unwrap();
    assert_eq!(world.deposit(3, 11, "b"), Err(Code::SupplyExceeded));
    world.deposit(3, 10, "b").unwrap();
    assert_eq!(world.ledger.totals().deposits, i128::from(all));
}

fn a_batch_sees_its_own_commands<S: Store>(store: S) {
    let mut world = World::open(store).unwrap();
    let (first, second) = (world.header(), world.header());
    let hold = world.hold_request(600);
    let open = |request| EscrowCommand::OpenHold { request, hold };
    let batch = vec![
        World::<S>::deposit_command(2, 1_000, "a"),
        world.verified(2, 2, open(first)),
        world.verified(2, 2, open(second)),
        World::<S>::deposit_command(2, 1_000, "a"),
        world.verified(2, 2, EscrowCommand::Account { holds_after: 0 }),
    ];
    let outcomes = world.run(batch);
    assert_eq!(outcomes[0], outcomes[3]);
    let answer = |n: usize| match &outcomes[n] {
        Outcome::Answer(draft) => draft.unsigned().clone(),
        other => panic!("{other:?}"),
    };
    assert!(matches!(answer(1), EscrowAnswer::Hold(_)));
    assert_eq!(code(&answer(2)), Code::InsufficientFunds);
    let EscrowAnswer::Account(state) = answer(4) else {
        panic!()
    };
    assert_eq!((state.balance.0, state.held.0, state.open_holds), (400, 600, 1));
}

/// Spec: R-16.
fn statements_carry_what_an_audit_needs<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(100_000);
    let id = hold.body.id();
    let mut book = TestBook::sure(&hold.body, 1, 64);
    let receipts: Vec<_> = (1..=60).map(|n| world.claim(book.claim(n)).unwrap()).collect();
    world.release(id, 60_000);
    let mut entries = Vec::new();
    loop {
        let after = u64::try_from(entries.len()).unwrap();
        let EscrowAnswer::Statement(page) = world.ask(2, EscrowCommand::Statement { after }) else {
            panic!()
        };
        let size = encode(&EscrowAnswer::Statement(page.clone())).len();
        assert!(size <= tombola_core::codec::MESSAGE_BYTES_MAX, "{size}");
        entries.extend(page.entries.into_vec());
        if !page.more {
            break;
        }
    }
    assert_eq!(entries.len(), 63);
    assert!(entries.iter().zip(1..).all(|(entry, n)| entry.sequence == n));
    assert!(matches!(&entries[0].kind, StatementKind::Deposited { amount, .. } if amount.0 == 1_000_000));
    assert!(matches!(&entries[1].kind, StatementKind::Held { hold: held, .. } if **held == hold));
    for (entry, receipt) in entries[2..62].iter().zip(&receipts) {
        let StatementKind::Charged(charge) = &entry.kind else {
            panic!("{entry:?}")
        };
        assert_eq!((charge.receipt, charge.hold, charge.amount), (*receipt, hold, FACE));
        assert_eq!(
            charge.claim.verify(&charge.hold.body).unwrap().through,
            receipt.body.through
        );
    }
    let last = &entries[62];
    assert!(matches!(
        last.kind,
        StatementKind::Returned {
            state: HoldState::Released,
            ..
        }
    ));
    assert_eq!(last.balance.0, 940_000);
    world.fold();
    let EscrowAnswer::Statement(page) = world.ask(3, EscrowCommand::Statement { after: 59 }) else {
        panic!()
    };
    let [entry] = page.entries.as_slice() else { panic!() };
    assert!(matches!(&entry.kind, StatementKind::Redeemed(redeemed) if redeemed.charge.receipt == receipts[59]));
    assert_eq!(entry.balance.0, 60 * (FACE.0 - FEE.0));
}

/// Spec: R-06.
fn open_holds_are_listed_in_pages<S: Store>(store: S) {
    let mut world = World::funded(store);
    let holds: Vec<_> = (0..103).map(|_| world.open_hold(200)).collect();
    world.release(holds[0].body.id(), 0);
    let EscrowAnswer::Account(first) = world.ask(2, EscrowCommand::Account { holds_after: 0 }) else {
        panic!()
    };
    assert_eq!(
        (first.open_holds, first.holds.as_slice().len(), first.more),
        (102, 100, true)
    );
    assert_eq!(first.holds.as_slice()[0].hold, holds[1]);
    let holds_after = first.holds.as_slice()[99].hold.body.terms.serial;
    let EscrowAnswer::Account(rest) = world.ask(2, EscrowCommand::Account { holds_after }) else {
        panic!()
    };
    assert_eq!((rest.holds.as_slice().len(), rest.more), (2, false));
}

/// Spec: G-04, G-05.
fn an_audit_of_everything_finds_nothing<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(10_000);
    let id = hold.body.id();
    let mut book = TestBook::new(&hold.body, 1, 64, Threshold(u64::MAX / 8));
    for winner in book.winners().into_iter().take(6) {
        world.claim(book.claim(winner)).unwrap();
    }
    world.top_up(id, 0, 20_000);
    let paid = world.status(id).paid.0;
    world.release(id, paid);
    let other = world.open_hold(5_000).body.id();
    world.now = START.plus_ms(3 * DAY_MS);
    world.live(HOUR_MS + MINUTE_MS);
    assert!(matches!(
        world.run_one(Command::Expire { hold: other }),
        Outcome::Expired { .. }
    ));
    let report = audited(&world);
    assert_eq!(report.findings, []);
    assert!(report.conserved);
    assert_eq!((report.claims, report.winners), (6, 6));
    assert_eq!((report.deposits, report.held, report.fees), (1_000_000, 0, 72));
    assert_eq!(report.balances, 1_000_000 - 72);
    assert_eq!((report.accounts, report.holds, report.books), (2, 2, 1));
    assert_eq!(report.events, world.ledger.totals().height);
}
