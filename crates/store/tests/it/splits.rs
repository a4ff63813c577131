//! Splits: a payee's credits divided among accounts. Over each store.

use crate::conformance::all_rows;
use crate::rules::audited;
use crate::stores::on_each_store;
use crate::world::{TestBook, World, code, key, tamper};
use tombola_core::codec::List;
use tombola_core::message::{EscrowAnswer, EscrowCommand, Share, StatementKind};
use tombola_core::reject::Code;
use tombola_ledger::audit::Finding;
use tombola_ledger::key::Key;
use tombola_ledger::row::Row;
use tombola_ledger::store::Store;

on_each_store! {
    a_credit_is_divided_to_the_last_unit_and_shown_to_each
    a_payer_may_have_a_share_of_what_it_pays
    a_bad_split_changes_nothing
    an_audit_finds_another_split
}

pub(crate) fn set_split<S: Store>(world: &mut World<S>, account: u8, shares: &[(u8, u32)]) -> EscrowAnswer {
    let share = |(n, ppm): &(u8, u32)| Share {
        account: key(*n),
        ppm: *ppm,
    };
    let shares = List::new(shares.iter().map(share).collect()).unwrap();
    let request = world.header();
    world.ask(account, EscrowCommand::SetSplit { request, shares })
}

fn kinds<S: Store>(world: &mut World<S>, account: u8) -> Vec<StatementKind> {
    match world.ask(account, EscrowCommand::Statement { after: 0 }) {
        EscrowAnswer::Statement(page) => page.entries.into_vec().into_iter().map(|entry| entry.kind).collect(),
        other => panic!("{other:?}"),
    }
}

/// Spec.
fn a_credit_is_divided_to_the_last_unit_and_shown_to_each<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(100_000);
    let mut book = TestBook::sure(&hold.body, 1, 8);
    let set = set_split(&mut world, 3, &[(5, 700_000), (6, 200_001), (7, 1)]);
    assert!(matches!(set, EscrowAnswer::SplitSet { .. }));
    assert_eq!(world.account(3).shares.as_slice().len(), 3);
    let receipt = world.claim(book.claim(1)).unwrap();
    // 988: floor(691.6), floor(889.200988) - 691, the same again, and the rest.
    assert_eq!([3, 5, 6, 7].map(|account| world.balance(account)), [99, 691, 198, 0]);
    assert_eq!(receipt.body.gross.0 - receipt.body.fee.0, 988);
    world.fold();
    let StatementKind::Redeemed(redeemed) = kinds(&mut world, 3).remove(0) else {
        panic!()
    };
    let listed: Vec<u64> = redeemed.shares.as_slice().iter().map(|share| share.amount.0).collect();
    assert_eq!(listed, [691, 198, 0]);
    assert!(matches!(kinds(&mut world, 5).as_slice(),
        [StatementKind::Shared { payee, amount, .. }] if (*payee, amount.0) == (key(3), 691)));
    assert_eq!(kinds(&mut world, 7), []);
    // Nothing is left for the payee of the whole, and it is told all the same.
    set_split(&mut world, 3, &[(5, 1_000_000)]);
    world.claim(book.claim(2)).unwrap();
    world.fold();
    assert_eq!((world.balance(3), world.balance(5)), (99, 691 + 988));
    assert_eq!(kinds(&mut world, 3).len(), 2);
    set_split(&mut world, 3, &[]);
    world.claim(book.claim(3)).unwrap();
    assert_eq!(world.balance(3), 99 + 988);
    assert_eq!(audited(&world).findings, []);
}

fn a_payer_may_have_a_share_of_what_it_pays<S: Store>(store: S) {
    let mut world = World::funded(store);
    let hold = world.open_hold(100_000);
    set_split(&mut world, 3, &[(2, 500_000)]);
    world.claim(TestBook::sure(&hold.body, 1, 8).claim(1)).unwrap();
    world.fold();
    assert_eq!((world.balance(2), world.balance(3)), (900_494, 494));
    // The event changed the payer's row once, so the next one finds it as the log says.
    world.deposit(2, 1, "next").unwrap();
    let kinds = kinds(&mut world, 2);
    assert!(kinds.iter().any(|kind| matches!(kind, StatementKind::Charged(_))));
    assert!(kinds.iter().any(|kind| matches!(kind, StatementKind::Shared { .. })));
    assert_eq!(audited(&world).findings, []);
}

/// Spec: R-22.
fn a_bad_split_changes_nothing<S: Store>(store: S) {
    let mut world = World::funded(store);
    world.deposit(3, 5, "three").unwrap();
    let before = all_rows(world.ledger.store());
    for (account, shares, expected) in [
        (3, &[(5, 700_000), (6, 300_001)][..], Code::SharesOver),
        (3, &[(3, 1)][..], Code::SplitToSelf),
        (3, &[(5, 1), (5, 1)][..], Code::ShareRepeated),
        (3, &[(5, 0)][..], Code::BadTerms),
        (9, &[(5, 1)][..], Code::AccountUnknown),
    ] {
        assert_eq!(code(&set_split(&mut world, account, shares)), expected);
    }
    let shares = List::new(vec![Share {
        account: key(5),
        ppm: 1,
    }])
    .unwrap();
    let request = world.header();
    let stolen = EscrowCommand::SetSplit { request, shares };
    assert_eq!(code(&world.ask_as(2, 3, stolen)), Code::Unauthorized);
    assert_eq!(all_rows(world.ledger.store()), before);
}

/// Spec: G-07.
fn an_audit_finds_another_split<S: Store>(store: S) {
    let mut world = World::open(store).unwrap();
    world.deposit(3, 5, "three").unwrap();
    set_split(&mut world, 3, &[(5, 500_000)]);
    assert_eq!(audited(&world).findings, []);
    tamper(&world, Key::split(0), |row| {
        let Row::Splits(mut row) = row else { panic!() };
        row.shares[0].ppm += 1;
        Some(Row::Splits(row))
    });
    assert_eq!(audited(&world).findings, [Finding::row(Key::split(0))]);
}
