//! Delegated signers: what they may promise and see. Over each store.

use crate::conformance::all_rows;
use crate::rules::audited;
use crate::stores::on_each_store;
use crate::world::{FACE, World, code, key, secret, tamper};
use tombola_core::amount::{Amount, DAY_MS};
use tombola_core::codec::List;
use tombola_core::hold::{Delegation, Hold};
use tombola_core::key::Signed;
use tombola_core::message::{AccountState, EscrowAnswer, EscrowCommand, StatementKind};
use tombola_core::reject::Code;
use tombola_ledger::audit::Finding;
use tombola_ledger::key::Key;
use tombola_ledger::row::Row;
use tombola_ledger::store::Store;

/// The signer of these tests; 2 is the account.
pub(crate) const SIGNER: u8 = 4;

on_each_store! {
    a_signer_promises_within_its_delegation_and_no_more
    what_a_delegation_does_not_allow_changes_nothing
    a_revoked_expired_or_older_delegation_is_no_good
    a_signer_sees_only_its_own
    a_bad_delegation_changes_nothing
    an_audit_finds_another_sum
}

pub(crate) fn delegation<S: Store>(world: &World<S>, serial: u64, change: impl FnOnce(&mut Delegation)) -> Delegation {
    let mut delegation = Delegation {
        escrow: key(1),
        account: key(2),
        signer: key(SIGNER),
        spend_max: Amount(10_000),
        face_value_max: FACE,
        payees: List::default(),
        expires_at: world.now.plus_ms(10 * DAY_MS),
        serial,
    };
    change(&mut delegation);
    delegation
}

pub(crate) fn delegate<S: Store>(
    world: &mut World<S>,
    serial: u64,
    change: impl FnOnce(&mut Delegation),
) -> EscrowAnswer {
    let body = delegation(world, serial, change);
    let delegation = Signed::new(body, &secret(2));
    let request = world.header();
    // Whoever brings it.
    world.ask_as(SIGNER, 2, EscrowCommand::Delegate { request, delegation })
}

pub(crate) fn open<S: Store>(world: &mut World<S>, connection: u8, signer: u8, cap: u64) -> Result<Hold, Code> {
    let mut hold = world.hold_request(cap);
    hold.signer = key(signer);
    let request = world.header();
    match world.ask_as(connection, 2, EscrowCommand::OpenHold { request, hold }) {
        EscrowAnswer::Hold(hold) => Ok(hold.body),
        other => Err(code(&other)),
    }
}

pub(crate) fn top_up<S: Store>(world: &mut World<S>, hold: &Hold, cap: u64) -> Result<Hold, Code> {
    let command = EscrowCommand::TopUpHold {
        request: world.header(),
        hold: hold.id(),
        revision: hold.revision,
        cap: Amount(cap),
    };
    match world.ask_as(SIGNER, 2, command) {
        EscrowAnswer::Hold(hold) => Ok(hold.body),
        other => Err(code(&other)),
    }
}

fn seen<S: Store>(world: &mut World<S>) -> AccountState {
    match world.ask_as(SIGNER, 2, EscrowCommand::Account { holds_after: 0 }) {
        EscrowAnswer::Account(state) => state,
        other => panic!("{other:?}"),
    }
}

/// Spec.
fn a_signer_promises_within_its_delegation_and_no_more<S: Store>(store: S) {
    let mut world = World::funded(store);
    assert_eq!(open(&mut world, SIGNER, SIGNER, 500), Err(Code::Unauthorized));
    assert_eq!(delegate(&mut world, 1, |_| {}), EscrowAnswer::Delegated { serial: 1 });
    let hold = open(&mut world, SIGNER, SIGNER, 6_000).unwrap();
    assert_eq!(open(&mut world, SIGNER, SIGNER, 4_001), Err(Code::OverSpendMax));
    assert_eq!(top_up(&mut world, &hold, 10_001), Err(Code::OverSpendMax));
    let hold = top_up(&mut world, &hold, 10_000).unwrap();
    assert_eq!(open(&mut world, SIGNER, SIGNER, 100), Err(Code::OverSpendMax));
    // What an ended hold has not paid is the signer's again.
    world.release(hold.id(), 0);
    open(&mut world, SIGNER, SIGNER, 10_000).unwrap();
    // The account itself goes beyond, and it counts all the same.
    open(&mut world, 2, SIGNER, 5_000).unwrap();
    delegate(&mut world, 2, |delegation| delegation.spend_max = Amount(15_099));
    assert_eq!(open(&mut world, SIGNER, SIGNER, 100), Err(Code::OverSpendMax));
    delegate(&mut world, 3, |delegation| delegation.spend_max = Amount(15_100));
    open(&mut world, SIGNER, SIGNER, 100).unwrap();
    assert_eq!(audited(&world).findings, []);
}

/// Spec: A-05.
fn what_a_delegation_does_not_allow_changes_nothing<S: Store>(store: S) {
    let mut world = World::funded(store);
    world.fold();
    let own = open(&mut world, 2, 2, 500).unwrap();
    delegate(&mut world, 1, |delegation| {
        delegation.face_value_max = Amount(FACE.0 - 1);
    });
    let before = all_rows(world.ledger.store());
    assert_eq!(open(&mut world, SIGNER, SIGNER, 500), Err(Code::FaceOutOfRange));
    assert_eq!(open(&mut world, SIGNER, 2, 500), Err(Code::Unauthorized));
    assert_eq!(top_up(&mut world, &own, 600), Err(Code::Unauthorized));
    let request = world.header();
    let transfer = EscrowCommand::Transfer {
        request,
        to: key(SIGNER),
        amount: Amount(1),
        reference: crate::world::reference("t"),
        book: None,
    };
    let withdraw = EscrowCommand::Withdraw {
        request,
        amount: Amount(100),
        destination: crate::world::reference("bank"),
        reference: crate::world::reference("t"),
    };
    let payout = EscrowCommand::SetPayout { request, policy: None };
    for command in [transfer, withdraw, payout] {
        assert_eq!(code(&world.ask_as(SIGNER, 2, command)), Code::Unauthorized);
    }
    assert_eq!(all_rows(world.ledger.store()), before);
    delegate(&mut world, 2, |delegation| {
        delegation.payees = List::new(vec![key(5)]).unwrap();
    });
    assert_eq!(open(&mut world, SIGNER, SIGNER, 500), Err(Code::PayeeNotAllowed));
    delegate(&mut world, 3, |delegation| {
        delegation.expires_at = delegation.expires_at.minus_ms(10 * DAY_MS);
    });
    assert_eq!(open(&mut world, SIGNER, SIGNER, 500), Err(Code::DelegationExpired));
    assert_eq!(audited(&world).findings, []);
}

/// Spec.
fn a_revoked_expired_or_older_delegation_is_no_good<S: Store>(store: S) {
    let mut world = World::funded(store);
    delegate(&mut world, 5, |_| {});
    open(&mut world, SIGNER, SIGNER, 500).unwrap();
    assert_eq!(code(&delegate(&mut world, 4, |_| {})), Code::DelegationStale);
    delegate(&mut world, 6, |delegation| delegation.spend_max = Amount::ZERO);
    assert_eq!(open(&mut world, SIGNER, SIGNER, 500), Err(Code::DelegationRevoked));
    assert_eq!(code(&delegate(&mut world, 5, |_| {})), Code::DelegationStale);
    assert_eq!(seen(&mut world).balance.0, 0);
    delegate(&mut world, 7, |_| {});
    assert_eq!(seen(&mut world).balance.0, 9_500);
    world.now = world.now.plus_ms(10 * DAY_MS + 1);
    assert_eq!(open(&mut world, SIGNER, SIGNER, 500), Err(Code::DelegationExpired));
    assert_eq!(audited(&world).findings, []);
}

/// Spec: A-06.
fn a_signer_sees_only_its_own<S: Store>(store: S) {
    let mut world = World::funded(store);
    world.fold();
    let own = open(&mut world, 2, 2, 700).unwrap();
    delegate(&mut world, 1, |_| {});
    let theirs = open(&mut world, SIGNER, SIGNER, 500).unwrap();
    let state = seen(&mut world);
    assert_eq!((state.balance.0, state.held.0, state.open_holds), (9_500, 500, 1));
    assert_eq!(state.holds.as_slice()[0].hold.body, theirs);
    let mut status = |hold: &Hold| world.ask_as(SIGNER, 2, EscrowCommand::HoldStatus { hold: hold.id() });
    assert!(matches!(status(&theirs), EscrowAnswer::HoldStatus(_)));
    assert_eq!(code(&status(&own)), Code::Unauthorized);
    world.release(theirs.id(), 0);
    let EscrowAnswer::Statement(page) = world.ask_as(SIGNER, 2, EscrowCommand::Statement { after: 0 }) else {
        panic!()
    };
    let entries = page.entries.as_slice();
    assert!(entries.iter().all(|entry| entry.balance.is_zero()));
    let [deposit, first, second, returned] = entries else {
        panic!("{entries:?}")
    };
    assert_eq!(
        (&deposit.kind, &first.kind),
        (&StatementKind::Private, &StatementKind::Private)
    );
    assert!(matches!(second.kind, StatementKind::Held { .. }));
    assert!(matches!(returned.kind, StatementKind::Returned { .. }));
    let stranger = world.ask_as(5, 2, EscrowCommand::Subscribe { after: 0 });
    assert_eq!(code(&stranger), Code::Unauthorized);
}

/// Spec: A-04.
fn a_bad_delegation_changes_nothing<S: Store>(store: S) {
    let mut world = World::funded(store);
    let before = all_rows(world.ledger.store());
    assert_eq!(code(&delegate(&mut world, 1, |d| d.escrow = key(9))), Code::WrongEscrow);
    assert_eq!(code(&delegate(&mut world, 1, |d| d.signer = key(2))), Code::BadTerms);
    assert_eq!(
        code(&delegate(&mut world, 1, |d| d.account = key(9))),
        Code::Unauthorized
    );
    let forged = Signed::new(delegation(&world, 1, |_| {}), &secret(SIGNER));
    let request = world.header();
    let command = EscrowCommand::Delegate {
        request,
        delegation: forged,
    };
    assert_eq!(code(&world.ask_as(SIGNER, 2, command)), Code::BadSignature);
    assert_eq!(all_rows(world.ledger.store()), before);
}

/// Spec: G-07.
fn an_audit_finds_another_sum<S: Store>(store: S) {
    let mut world = World::funded(store);
    delegate(&mut world, 1, |_| {});
    open(&mut world, SIGNER, SIGNER, 500).unwrap();
    tamper(&world, Key::signer(0, &key(SIGNER)), |row| {
        let Row::Signers(mut row) = row else { panic!() };
        row.committed -= 1;
        Some(Row::Signers(row))
    });
    assert_eq!(audited(&world).findings, [Finding::row(Key::signer(0, &key(SIGNER)))]);
}
