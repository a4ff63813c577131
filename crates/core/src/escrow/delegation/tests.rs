use super::*;
use crate::amount::DAY_MS;
use crate::codec::List;
use crate::key::RequestId;
use crate::message::{Reference, RequestHeader};

const NOW: Timestamp = Timestamp(1_000_000_000_000);

fn key(n: u8) -> AccountKey {
    AccountKey([n; 32])
}

fn delegation(serial: u64) -> Delegation {
    Delegation {
        escrow: key(1),
        account: key(2),
        signer: key(4),
        spend_max: Amount(1_000),
        face_value_max: Amount(50),
        payees: List::new(vec![key(3)]).unwrap(),
        expires_at: NOW.plus_ms(DAY_MS),
        serial,
    }
}

fn record(delegation: Delegation, committed: u64) -> SignerRecord {
    SignerRecord {
        delegation: Some(delegation),
        committed: Amount(committed),
    }
}

fn promise(amount: u64) -> Promise {
    Promise {
        signer: key(4),
        payee: key(3),
        face_value_max: Amount(50),
        expires_at: NOW.plus_ms(DAY_MS),
        amount: Amount(amount),
    }
}

fn ask(record: Option<&SignerRecord>, promise: &Promise) -> Result<(), Reject> {
    authorise(&key(4), promise, record, NOW)
}

/// Spec: A-04.
#[test]
fn a_larger_serial_replaces_and_the_same_one_repeats() {
    let decide = |given: &Delegation, known: Option<&SignerRecord>| accept(given, known, &key(1), 3);
    let current = record(delegation(5), 0);
    assert_eq!(decide(&delegation(5), None), Ok(DelegationVerdict::Replace));
    assert_eq!(decide(&delegation(6), Some(&current)), Ok(DelegationVerdict::Replace));
    assert_eq!(decide(&delegation(5), Some(&current)), Ok(DelegationVerdict::Repeat));
    let stale = |given| Err(Reject::compared(Code::DelegationStale, 5, given));
    assert_eq!(decide(&delegation(4), Some(&current)), stale(4));
    let other = Delegation {
        spend_max: Amount(2_000),
        ..delegation(5)
    };
    assert_eq!(decide(&other, Some(&current)), stale(5), "one serial, two delegations");
    let by_hold = SignerRecord {
        delegation: None,
        committed: Amount(7),
    };
    assert_eq!(decide(&delegation(0), Some(&by_hold)), Ok(DelegationVerdict::Replace));
}

/// Spec: A-04.
#[test]
fn a_delegation_for_another_escrow_or_to_oneself_or_one_too_many_is_refused() {
    let elsewhere = accept(&delegation(1), None, &key(9), 0);
    assert_eq!(elsewhere, Err(Reject::of(Code::WrongEscrow)));
    let itself = Delegation {
        signer: key(2),
        ..delegation(1)
    };
    assert_eq!(accept(&itself, None, &key(1), 0), Err(Reject::of(Code::BadTerms)));
    let full = Err(Reject::compared(Code::Busy, 1_000, 1_000));
    assert_eq!(accept(&delegation(1), None, &key(1), 1_000), full);
    let known = record(delegation(0), 0);
    assert_eq!(
        accept(&delegation(1), Some(&known), &key(1), 1_000),
        Ok(DelegationVerdict::Replace),
        "a signer that is known takes no more room"
    );
}

/// Spec.
#[test]
fn a_signer_promises_up_to_its_limit_over_all_its_holds() {
    assert_eq!(ask(Some(&record(delegation(1), 400)), &promise(600)), Ok(()));
    assert_eq!(
        ask(Some(&record(delegation(1), 400)), &promise(601)),
        Err(Reject::compared(Code::OverSpendMax, 1_000, 1_001))
    );
    let unlimited = Delegation {
        spend_max: Amount(u64::MAX),
        ..delegation(1)
    };
    assert_eq!(
        ask(Some(&record(unlimited, u64::MAX)), &promise(1)),
        Err(Reject::compared(Code::OverSpendMax, u64::MAX, u64::MAX)),
        "a sum over an amount is over any limit"
    );
}

/// Spec: A-05.
#[test]
fn a_signer_keeps_to_the_payees_faces_and_times_of_its_delegation() {
    let given = record(delegation(1), 0);
    let other_payee = Promise {
        payee: key(5),
        ..promise(1)
    };
    assert_eq!(ask(Some(&given), &other_payee), Err(Reject::of(Code::PayeeNotAllowed)));
    let to_anyone = Delegation {
        payees: List::default(),
        ..delegation(1)
    };
    assert_eq!(ask(Some(&record(to_anyone, 0)), &other_payee), Ok(()));
    let large = Promise {
        face_value_max: Amount(51),
        ..promise(1)
    };
    assert_eq!(
        ask(Some(&given), &large),
        Err(Reject::compared(Code::FaceOutOfRange, 50, 51))
    );
    let end = NOW.plus_ms(DAY_MS);
    let long = Promise {
        expires_at: end.plus_ms(1),
        ..promise(1)
    };
    assert_eq!(
        ask(Some(&given), &long),
        Err(Reject::compared(Code::DelegationExpired, end.0 + 1, end.0))
    );
    assert_eq!(authorise(&key(4), &promise(1), Some(&given), end), Ok(()));
    assert_eq!(
        authorise(&key(4), &promise(1), Some(&given), end.plus_ms(1)),
        Err(Reject::compared(Code::DelegationExpired, end.0 + 1, end.0))
    );
}

/// Spec: A-05.
#[test]
fn nobody_promises_without_a_delegation_of_its_own() {
    let unauthorized = Err(Reject::of(Code::Unauthorized));
    assert_eq!(ask(None, &promise(1)), unauthorized);
    let by_hold = SignerRecord {
        delegation: None,
        committed: Amount::ZERO,
    };
    assert_eq!(ask(Some(&by_hold), &promise(1)), unauthorized);
    let for_another = Promise {
        signer: key(2),
        ..promise(1)
    };
    assert_eq!(ask(Some(&record(delegation(1), 0)), &for_another), unauthorized);
    let revoked = Delegation {
        spend_max: Amount::ZERO,
        ..delegation(2)
    };
    let revoked = record(revoked, 300);
    assert_eq!(
        ask(Some(&revoked), &promise(1)),
        Err(Reject::of(Code::DelegationRevoked))
    );
    assert_eq!(check_reader(Some(&revoked)), Ok(()), "its books go on");
    assert_eq!(
        (check_reader(None), check_reader(Some(&by_hold))),
        (unauthorized, unauthorized)
    );
}

/// Spec: A-06.
#[test]
fn a_signer_is_shown_what_it_can_still_promise() {
    let given = record(delegation(1), 400);
    let shown = |balance, now| spendable(Some(&given), Amount(balance), now).0;
    assert_eq!((shown(5_000, NOW), shown(100, NOW)), (600, 100));
    assert_eq!(shown(5_000, NOW.plus_ms(DAY_MS + 1)), 0);
    assert_eq!(spendable(None, Amount(5_000), NOW), Amount::ZERO);
}

/// Spec: A-01.
#[test]
fn a_signer_moves_no_money_but_into_holds() {
    let request = RequestHeader {
        id: RequestId([0; 16]),
        issued_at: NOW,
    };
    let withdraw = EscrowCommand::Withdraw {
        request,
        amount: Amount(1),
        destination: Reference::default(),
        reference: Reference::default(),
    };
    let split = EscrowCommand::SetSplit {
        request,
        shares: List::default(),
    };
    let payout = EscrowCommand::SetPayout { request, policy: None };
    let transfer = EscrowCommand::Transfer {
        request,
        to: key(3),
        amount: Amount(1),
        reference: Reference::default(),
        book: None,
    };
    for command in [withdraw, split, payout, transfer] {
        assert_eq!(check_command(&command), Err(Reject::of(Code::Unauthorized)));
    }
    assert_eq!(check_command(&EscrowCommand::Statement { after: 0 }), Ok(()));
}

/// Spec.
#[test]
fn a_top_up_promises_what_it_adds() {
    let terms = crate::hold::HoldTerms {
        escrow: key(1),
        asset: crate::amount::Asset::USD,
        payer: key(2),
        signer: key(4),
        payee: key(3),
        serial: 1,
        fee: crate::hold::Fee::default(),
        face_value_min: Amount(10),
        face_value_max: Amount(50),
        book_length_max: 10,
        opened_at: NOW,
        expires_at: NOW.plus_ms(DAY_MS),
        redeem_by: NOW.plus_ms(3 * DAY_MS),
    };
    let hold = crate::hold::Hold {
        terms,
        revision: 0,
        cap: Amount(700),
    };
    assert_eq!(Promise::of_top_up(&hold, Amount(1_000)), promise(300));
    let request = HoldRequest {
        signer: terms.signer,
        payee: terms.payee,
        face_value_min: terms.face_value_min,
        face_value_max: terms.face_value_max,
        book_length_max: terms.book_length_max,
        expires_at: terms.expires_at,
        redeem_by: terms.redeem_by,
        cap: hold.cap,
        fee_max: terms.fee,
    };
    assert_eq!(Promise::of_request(&request), promise(700));
}
