//! What happens between a decision and its commit: another writer commits, or the server is lost. Whatever a decision
//! was made on, it stands only if that is still so.

use crate::meddled::{Fate, Meddled};
use crate::money::{collect, number, pay_out, set_payout, settle, withdraw};
use crate::rules::audited;
use crate::signers::{SIGNER, delegate, open as open_signed, top_up as top_up_signed};
use crate::splits::set_split;
use crate::stores::on_each_shared_store;
use crate::world::{FACE, FEE, START, TestBook, World, code, key};
use tombola_core::amount::{Amount, HOUR_MS};
use tombola_core::codec::{List, encode};
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::message::{ClaimAnswer, EscrowAnswer, EscrowCommand, HoldState};
use tombola_core::reject::Code;
use tombola_ledger::ledger::{LedgerFault, Outcome};
use tombola_ledger::query::pending_withdrawals;
use tombola_ledger::store::{Store, StoreFault};
use tombola_store::block_on::block_on;

on_each_shared_store! {
    a_claim_is_divided_by_the_split_that_was_set_before_its_commit
    a_signer_promises_nothing_that_was_revoked_before_its_commit
    money_that_left_before_the_commit_is_not_spent_again
    a_hold_that_ended_before_the_commit_pays_no_claim
    a_claim_that_another_writer_paid_before_the_commit_gets_its_receipt
    a_policy_that_ended_before_the_commit_pays_nothing_out
    what_another_writer_did_under_the_same_name_is_done_once
    credits_that_were_folded_before_the_commit_are_spent_once
    a_server_that_is_lost_while_a_batch_is_read_costs_nothing_but_time
    a_server_that_is_lost_in_a_commit_stops_the_ledger_and_opening_it_shows_what_became_of_it
    only_a_writer_whose_own_row_was_taken_over_is_fenced_off
}

/// A writer whose store can be meddled with, and a payer with money.
fn meddled<S: Store>(store: S) -> World<Meddled<S>> {
    World::funded(Meddled::new(store))
}

/// What happens before the next commit, by a writer that is started for it: each has a number of its own.
fn meanwhile<S: Store>(world: &World<Meddled<S>>, writer: u32, acts: impl FnOnce(&mut World<S>) + Send + 'static) {
    let now = world.now;
    world.ledger.store().between(move |store| {
        let mut other = World::open_as(writer, store).unwrap();
        other.now = now;
        acts(&mut other);
    });
}

/// Runs a part of a test, and says how many commits it tried after what was to happen had happened.
fn tries<S: Store, T>(world: &mut World<Meddled<S>>, part: impl FnOnce(&mut World<Meddled<S>>) -> T) -> (T, usize) {
    let before = world.ledger.store().commits();
    let result = part(world);
    assert!(world.ledger.store().is_over(), "nothing came in between");
    (result, world.ledger.store().commits() - before)
}

/// Spec: G-06, R-22.
fn a_claim_is_divided_by_the_split_that_was_set_before_its_commit<S: Store>(store: S) {
    let mut world = meddled(store);
    let hold = world.open_hold(100_000);
    let mut book = TestBook::sure(&hold.body, 1, 8);
    // They have accounts before: only the split itself can be in the way.
    world.deposit(5, 1, "five").unwrap();
    world.deposit(6, 1, "six").unwrap();
    // One that was not there, one that was another, and one that is gone.
    let splits: [&[(u8, u32)]; 3] = [&[(5, 500_000)], &[(6, 500_000)], &[]];
    for (writer, split, index, expected) in [
        (1, splits[0], 1, [494, 495, 1]),
        (2, splits[1], 2, [988, 495, 495]),
        (3, splits[2], 3, [1_976, 495, 495]),
    ] {
        meanwhile(&world, writer, |other| {
            assert!(matches!(set_split(other, 3, split), EscrowAnswer::SplitSet { .. }));
        });
        let claim = book.claim(index);
        let (receipt, tried) = tries(&mut world, |world| world.claim(claim).unwrap());
        assert_eq!((receipt.body.winners, tried), (index, 2));
        assert_eq!([3, 5, 6].map(|account| world.balance(account)), expected);
    }
    assert_eq!(audited(&world).findings, []);
}

/// Spec.
fn a_signer_promises_nothing_that_was_revoked_before_its_commit<S: Store>(store: S) {
    let mut world = meddled(store);
    delegate(&mut world, 1, |_| {});
    let hold = open_signed(&mut world, SIGNER, SIGNER, 1_000).unwrap();
    meanwhile(&world, 1, |other| {
        delegate(other, 2, |delegation| {
            delegation.payees = List::new(vec![key(5)]).unwrap()
        });
    });
    let (replaced, tried) = tries(&mut world, |world| open_signed(world, SIGNER, SIGNER, 500));
    assert_eq!((replaced, tried), (Err(Code::PayeeNotAllowed), 1));
    delegate(&mut world, 3, |delegation| delegation.spend_max = Amount(2_000));
    meanwhile(&world, 2, |other| {
        open_signed(other, SIGNER, SIGNER, 600).unwrap();
    });
    let (spent, _) = tries(&mut world, |world| top_up_signed(world, &hold, 1_500));
    assert_eq!(spent, Err(Code::OverSpendMax));
    meanwhile(&world, 3, |other| {
        delegate(other, 4, |delegation| delegation.spend_max = Amount::ZERO);
    });
    let (revoked, _) = tries(&mut world, |world| top_up_signed(world, &hold, 1_100));
    assert_eq!(revoked, Err(Code::DelegationRevoked));
    assert_eq!(world.account(2).held.0, 1_600);
    assert_eq!(audited(&world).findings, []);
}

/// Spec: G-06.
fn money_that_left_before_the_commit_is_not_spent_again<S: Store>(store: S) {
    let mut world = meddled(store);
    meanwhile(&world, 1, |other| other.transfer(2, 5, 300_000).unwrap());
    let (refused, tried) = tries(&mut world, |world| world.transfer(2, 4, 700_001));
    assert_eq!((refused, tried), (Err(Code::InsufficientFunds), 1));
    meanwhile(&world, 2, |other| {
        number(&withdraw(other, 2, 300_000, "bank"));
    });
    let (refused, _) = tries(&mut world, |world| world.open_hold_as(world.hold_request(400_001)));
    assert_eq!(refused.map(|_| ()), Err(Code::InsufficientFunds));
    meanwhile(&world, 3, |other| {
        other.open_hold(300_000);
    });
    let (refused, _) = tries(&mut world, |world| code(&withdraw(world, 2, 100_001, "bank")));
    assert_eq!(refused, Code::InsufficientFunds);
    // What is left is there for whoever asks anew.
    meanwhile(&world, 4, |other| other.transfer(2, 5, 50_000).unwrap());
    let (moved, tried) = tries(&mut world, |world| world.transfer(2, 4, 50_000));
    assert_eq!((moved, tried), (Ok(()), 2));
    let payer = world.account(2);
    assert_eq!((payer.balance.0, payer.held.0, payer.pending.0), (0, 300_000, 300_000));
    assert_eq!((world.balance(4), world.balance(5)), (50_000, 350_000));
    assert_eq!(audited(&world).findings, []);
}

/// Spec: H-07, R-12.
fn a_hold_that_ended_before_the_commit_pays_no_claim<S: Store>(store: S) {
    let mut world = meddled(store);
    let hold = world.open_hold(10_000).body;
    let id = hold.id();
    meanwhile(&world, 1, move |other| {
        assert!(matches!(other.release(id, 0), EscrowAnswer::Released { .. }));
    });
    let claim = TestBook::sure(&hold, 1, 8).claim(2);
    let (refused, tried) = tries(&mut world, |world| world.claim(claim));
    assert_eq!((refused, tried), (Err(Code::HoldReleased), 1));
    assert_eq!(world.status(id).state, HoldState::Released);
    assert_eq!(world.balance(2), 1_000_000);
    // And the other way round: what was paid before is not given back.
    let hold = world.open_hold(10_000).body;
    let id = hold.id();
    let claim = TestBook::sure(&hold, 2, 8).claim(3);
    meanwhile(&world, 2, move |other| {
        other.claim(claim).unwrap();
    });
    let (refused, _) = tries(&mut world, |world| code(&world.release(id, 0)));
    assert_eq!(refused, Code::ReleaseMismatch);
    assert_eq!((world.status(id).paid.0, world.balance(2)), (3_000, 990_000));
    assert_eq!(audited(&world).findings, []);
}

/// Spec: R-12.
fn a_claim_that_another_writer_paid_before_the_commit_gets_its_receipt<S: Store>(store: S) {
    let mut world = meddled(store);
    let hold = world.open_hold(5_000).body;
    let mut book = TestBook::sure(&hold, 1, 8);
    let (less, more) = (book.claim(2), book.claim(3));
    meanwhile(&world, 1, move |other| {
        assert_eq!(other.claim(more).unwrap().body.writer, 1);
    });
    let (receipt, _) = tries(&mut world, |world| world.claim(less).unwrap());
    assert_eq!((receipt.body.writer, receipt.body.through), (1, 3));
    // Another book took the room of this one.
    let (mine, theirs) = (book.claim(5), TestBook::sure(&hold, 2, 8).claim(1));
    meanwhile(&world, 2, move |other| {
        other.claim(theirs).unwrap();
    });
    let (answers, _) = tries(&mut world, |world| world.claim_all(vec![mine]));
    let [ClaimAnswer::Refusal(refusal)] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    assert_eq!((refusal.body.code, refusal.body.paid.0), (Code::ClaimOverCap, 4_000));
    assert_eq!(world.balance(3), 4 * (FACE.0 - FEE.0));
    assert_eq!(audited(&world).findings, []);
}

/// Spec.
fn a_policy_that_ended_before_the_commit_pays_nothing_out<S: Store>(store: S) {
    let mut world = meddled(store);
    set_payout(&mut world, 2, 1_000, HOUR_MS, "iban");
    meanwhile(&world, 1, |other| {
        let request = other.header();
        let ended = other.ask(2, EscrowCommand::SetPayout { request, policy: None });
        assert!(matches!(ended, EscrowAnswer::PayoutSet { .. }));
    });
    let (paid, _) = tries(&mut world, pay_out);
    assert_eq!((paid, world.balance(2), world.account(2).pending.0), (0, 1_000_000, 0));
    set_payout(&mut world, 2, 1_000, HOUR_MS, "iban");
    meanwhile(&world, 2, |other| {
        set_payout(other, 2, 1_000, HOUR_MS, "another");
    });
    let (paid, _) = tries(&mut world, pay_out);
    let waiting = block_on(pending_withdrawals(world.ledger.store(), 0, 10)).unwrap();
    assert_eq!((paid, waiting[0].destination.as_str()), (1, "another"));
    // What was said of a withdrawal stands.
    let withdrawal = waiting[0].withdrawal;
    meanwhile(&world, 3, move |other| {
        settle(other, withdrawal, PayoutOutcome::Failed, "closed").unwrap();
    });
    let (settled, _) = tries(&mut world, |world| {
        settle(world, withdrawal, PayoutOutcome::Paid, "wire")
    });
    assert_eq!(settled.unwrap_err(), Code::WithdrawalSettled);
    assert_eq!(world.balance(2), 1_000_000);
    assert_eq!(audited(&world).findings, []);
}

/// Spec, G-07.
fn what_another_writer_did_under_the_same_name_is_done_once<S: Store>(store: S) {
    let mut world = meddled(store);
    meanwhile(&world, 1, |other| {
        other.deposit(4, 70, "same").unwrap();
    });
    let deposit = World::<Meddled<S>>::deposit_command(4, 70, "same");
    let (outcome, _) = tries(&mut world, |world| world.run_one(deposit));
    assert!(
        matches!(outcome, Outcome::Deposited { place, .. } if place.writer == 1),
        "{outcome:?}"
    );
    meanwhile(&world, 2, |other| {
        other.deposit(4, 70, "reused").unwrap();
    });
    let (reused, _) = tries(&mut world, |world| world.deposit(4, 71, "reused"));
    assert_eq!(reused, Err(Code::ReferenceReused));
    // One request that came in on two connections of the same key.
    let asked = EscrowCommand::Transfer {
        request: world.header(),
        to: key(6),
        amount: Amount(50),
        reference: crate::world::reference("once"),
        book: None,
    };
    let again = asked.clone();
    let (said, heard) = std::sync::mpsc::channel();
    meanwhile(&world, 3, move |other| said.send(encode(&other.ask(2, again))).unwrap());
    let (answer, _) = tries(&mut world, |world| encode(&world.ask(2, asked)));
    assert_eq!((answer, world.balance(6)), (heard.recv().unwrap(), 50));
    // An account that both make has one row.
    meanwhile(&world, 4, |other| {
        other.deposit(7, 5, "theirs").unwrap();
    });
    let (made, tried) = tries(&mut world, |world| world.deposit(7, 6, "ours").is_ok());
    assert_eq!((made, tried, world.balance(7), world.balance(4)), (true, 2, 11, 140));
    assert_eq!(collect(&mut world, 7, 1, "none"), Err(Code::InsufficientFunds));
    assert_eq!(audited(&world).findings, []);
}

/// Spec: G-06.
fn credits_that_were_folded_before_the_commit_are_spent_once<S: Store>(store: S) {
    let mut world = meddled(store);
    world.deposit(4, 100, "credit").unwrap();
    meanwhile(&world, 1, |other| other.transfer(4, 5, 60).unwrap());
    let (spent, _) = tries(&mut world, |world| world.transfer(4, 6, 60));
    assert_eq!(spent, Err(Code::InsufficientFunds));
    world.deposit(4, 60, "more").unwrap();
    meanwhile(&world, 2, |other| other.transfer(4, 5, 70).unwrap());
    let (folded, _) = tries(&mut world, |world| block_on(world.ledger.fold(10, world.now)).unwrap());
    assert!(folded <= 3, "{folded}");
    assert_eq!(
        [4, 5, 6].map(|account| world.balance_if_any(account)),
        [Some(30), Some(130), None]
    );
    world.fold();
    assert_eq!(audited(&world).findings, []);
}

/// Spec: G-06.
fn a_server_that_is_lost_while_a_batch_is_read_costs_nothing_but_time<S: Store>(store: S) {
    let mut world = meddled(store);
    let hold = world.open_hold(100_000).body;
    world.deposit(3, 5, "three").unwrap();
    let mut lost = 0;
    // One read after another, until a batch makes fewer reads than that.
    for round in 0u16.. {
        world.ledger.store().lose_read(usize::from(round));
        let before = world.ledger.store().commits();
        let claim = TestBook::sure(&hold, round, 8).claim(1);
        world.claim(claim).unwrap();
        assert_eq!(
            world.ledger.store().commits() - before,
            1,
            "what was not sent is decided anew"
        );
        if !world.ledger.store().is_over() {
            break;
        }
        lost += 1;
    }
    assert!(
        lost >= 4,
        "writers, names, rows and splits are read one after another: {lost}"
    );
    assert_eq!(world.balance(3), 5 + (lost + 1) * (FACE.0 - FEE.0));
    assert_eq!(audited(&world).findings, []);
}

/// Spec: G-04, G-06.
fn a_server_that_is_lost_in_a_commit_stops_the_ledger_and_opening_it_shows_what_became_of_it<S: Store>(store: S) {
    drop(World::funded(store.clone()));
    for (fate, balance) in [(Fate::Lost, 1_000_000), (Fate::Landed, 1_000_007)] {
        let mut world = World::open(Meddled::new(store.clone())).unwrap();
        world.ledger.store().lose_commit(fate);
        let before = world.ledger.store().commits();
        let batch = || vec![World::<Meddled<S>>::deposit_command(2, 7, "doubtful")];
        let unknown = block_on(world.ledger.execute(batch(), START)).unwrap_err();
        assert_eq!(unknown, LedgerFault::Store(StoreFault::Unreachable));
        // It neither tries again by itself nor goes on.
        assert_eq!(
            block_on(world.ledger.execute(batch(), START)),
            Err(LedgerFault::Stopped)
        );
        assert_eq!(
            block_on(world.ledger.execute(Vec::new(), START)),
            Err(LedgerFault::Stopped)
        );
        assert_eq!(block_on(world.ledger.prune(10, START)), Err(LedgerFault::Stopped));
        assert_eq!(world.ledger.store().commits() - before, 1);
        let mut opened = World::open(store.clone()).unwrap();
        assert_eq!(opened.balance(2), balance, "{fate:?}");
        assert_eq!(audited(&opened).findings, []);
    }
    let mut opened = World::open(store).unwrap();
    opened.deposit(2, 7, "doubtful").unwrap();
    assert_eq!(opened.balance(2), 1_000_007, "the same reference moves money once");
}

/// Spec: G-06, H-09.
fn only_a_writer_whose_own_row_was_taken_over_is_fenced_off<S: Store>(store: S) {
    let mut world = meddled(store.clone());
    drop(World::open_as(1, store.clone()).unwrap());
    // The writer that is to be removed shows a sign of life just then.
    world.now = world.now.plus_ms(HOUR_MS);
    meanwhile(&world, 1, |other| {
        other.run(Vec::new());
    });
    let alive = block_on(world.ledger.remove_writer(1, world.now));
    world.deposit(2, 1, "alive").unwrap();
    assert!(
        matches!(alive, Err(LedgerFault::WriterAlive { writer: 1, .. })),
        "{alive:?}"
    );
    // Removed by another, it is not the remover that is fenced off.
    world.now = world.now.plus_ms(HOUR_MS);
    meanwhile(&world, 2, |other| {
        block_on(other.ledger.remove_writer(1, other.now)).unwrap()
    });
    assert_eq!(block_on(world.ledger.remove_writer(1, world.now)), Ok(()));
    world.deposit(2, 1, "still alive").unwrap();
    // Its own row is taken over.
    meanwhile(&world, 0, |_| {});
    let batch = vec![World::<Meddled<S>>::deposit_command(2, 1, "late")];
    let fenced = block_on(world.ledger.execute(batch, world.now));
    assert_eq!(fenced, Err(LedgerFault::Fenced { writer: 0 }));
    let mut second = World::open(store).unwrap();
    assert_eq!(second.balance(2), 1_000_002);
    assert_eq!(audited(&second).findings, []);
}
