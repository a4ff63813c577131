//! Quotes, and the holds and books that they open.

use super::*;

/// Spec: B-04, B-05, Q-05.
#[test]
fn a_quote_opens_one_book() {
    let mut w = World::new();
    let hold = w.hold(10_000, |_| ());
    let (_, open) = w.issue(&hold, 10, 5);
    assert!(w.payee.open_book(open.clone(), NOW).is_ok());
    assert_eq!(w.code(open), Code::CommitmentReused);
}

/// Spec: B-04, Q-03.
#[test]
fn an_altered_or_stale_or_foreign_quote_opens_nothing() {
    let mut w = World::new();
    let hold = w.hold(10_000, |_| ());
    let (_, mut cheaper) = w.issue(&hold, 10, 5);
    cheaper.quote.terms.ticket_price = Amount(1);
    assert_eq!(w.code(cheaper), Code::QuoteAltered);
    let (_, late) = w.issue(&hold, 10, 5);
    let after = NOW.plus_ms(QUOTE_LIFE_MS + 1);
    assert_eq!(w.payee.open_book(late, after).unwrap_err().code, Code::QuoteExpired);
}

/// Spec: D-05, P-03, Q-01.
#[test]
fn a_tip_is_quoted_at_its_amount_and_a_service_within_the_face_values() {
    let mut w = World::new();
    let mut tip = |amount| {
        w.payee
            .quote(&Service::new("tip").unwrap(), Amount(amount), QuoteId([7; 16]), NOW)
    };
    for (amount, face_value_min) in [(1, 10), (10, 10), (100_000, 100_000), (100_001, 100_001)] {
        let terms = tip(amount).unwrap().terms;
        assert_eq!((terms.ticket_price.0, terms.face_value_min.0), (amount, face_value_min));
        assert_eq!(terms.expires_at, NOW.plus_ms(QUOTE_LIFE_MS));
    }
    assert_eq!(tip(0).unwrap_err().code, Code::BadTerms);
    let (file, id) = (Service::new("/file").unwrap(), QuoteId([8; 16]));
    let over = Reject::compared(Code::BadTerms, 100_000, 100_001);
    assert_eq!(w.payee.quote(&file, Amount(100_001), id, NOW).unwrap_err(), over);
}

/// Spec: Q-04.
#[test]
fn a_quote_outlives_its_epoch_but_not_by_two() {
    let mut w = World::new();
    let hold = w.hold(10_000, |_| ());
    let (_, open) = w.issue(&hold, 10, 5);
    w.payee.begin_epoch(EpochSecret::new([10; 32]));
    assert!(w.payee.open_book(open, NOW).is_ok());
    let (_, open) = w.issue(&hold, 10, 5);
    w.payee.begin_epoch(EpochSecret::new([11; 32]));
    w.payee.begin_epoch(EpochSecret::new([12; 32]));
    assert_eq!(w.code(open), Code::QuoteAltered);
}

/// Spec: B-04, C-03.
#[test]
fn a_hold_must_be_for_me_from_my_escrow_in_time_and_cheap_enough() {
    type Change = fn(&mut HoldTerms);
    let cases: [(Change, Code); 9] = [
        (
            |t| t.payee = SecretKey::from_seed(&[8; 32]).account(),
            Code::HoldNotForMe,
        ),
        (
            |t| t.escrow = SecretKey::from_seed(&[8; 32]).account(),
            Code::WrongEscrow,
        ),
        (|t| t.asset.decimals = 2, Code::WrongAsset),
        (|t| t.expires_at = NOW.plus_ms(MINUTE_MS - 1), Code::HoldExpired),
        (
            |t| t.redeem_by = t.expires_at.plus_ms(DAY_MS - 1),
            Code::RedeemWindowShort,
        ),
        (
            |t| t.redeem_by = t.opened_at.plus_ms(90 * DAY_MS + 1),
            Code::TimeOutOfRange,
        ),
        (|t| t.fee.flat = Amount(11), Code::FeeTooHigh),
        (|t| t.fee.ppm = 20_001, Code::FeeTooHigh),
        (|t| t.signer = t.payee, Code::SelfHold),
    ];
    for (change, code) in cases {
        let mut w = World::new();
        let good = w.hold(10_000, |_| ());
        let (_, mut open) = w.issue(&good, 10, 5);
        open.hold = w.hold(10_000, change);
        open.book.body.hold = open.hold.body.id();
        open.book = Signed::new(open.book.body, &w.payer);
        assert_eq!(w.code(open), code);
    }
}

/// Spec: B-04. Whoever is away for longer than a day asks for more than every hold has.
#[test]
fn a_payee_takes_no_hold_that_leaves_it_less_time_to_redeem_than_it_asks_for() {
    for (least, refused) in [(7 * DAY_MS, None), (7 * DAY_MS + 1, Some(Code::RedeemWindowShort))] {
        let mut w = World::with(|terms| terms.redeem_window_min_ms = least);
        let hold = w.hold(10_000, |_| ());
        let (_, open) = w.issue(&hold, 10, 5);
        let opened = w.payee.open_book(open, NOW);
        assert_eq!(opened.err().map(|reject| reject.code), refused);
    }
}

/// Spec: B-03, B-04.
#[test]
fn a_book_must_keep_to_quote_and_hold() {
    type Change = fn(&mut crate::book::Book);
    let cases: [(Change, Code); 7] = [
        (|b| b.hold = HoldId([0; 32]), Code::HoldMismatch),
        (
            |b| b.commitment = crate::draw::Commitment([0; 32]),
            Code::CommitmentMismatch,
        ),
        (|b| b.length = 0, Code::BookTooLong),
        (|b| b.length = 4_097, Code::BookTooLong),
        (|b| b.face_value = Amount(9), Code::FaceOutOfRange),
        (|b| b.face_value = Amount(100_001), Code::FaceOutOfRange),
        (|b| b.threshold.0 -= 1, Code::OddsTooLow),
    ];
    for (change, code) in cases {
        let mut w = World::new();
        let hold = w.hold(10_000, |_| ());
        let (_, mut open) = w.issue(&hold, 10, 5);
        change(&mut open.book.body);
        open.book = Signed::new(open.book.body, &w.payer);
        assert_eq!(w.code(open), code);
    }
}

/// Spec: B-04.
#[test]
fn only_the_holds_signer_signs_books_and_only_the_escrow_holds() {
    let mut w = World::new();
    let hold = w.hold(10_000, |_| ());
    let (_, mut open) = w.issue(&hold, 10, 5);
    open.book = Signed::new(open.book.body, &w.escrow);
    assert_eq!(w.code(open), Code::BadSignature);
    let (_, mut open) = w.issue(&hold, 10, 5);
    open.hold = Signed::new(open.hold.body, &w.payer);
    assert_eq!(w.code(open), Code::BadSignature);
}

/// Spec: P-06. Between the checks of a top-up anything may happen, as no lock is held while its signature is verified.
#[test]
fn a_hold_released_while_its_top_up_is_verified_is_not_raised() {
    let mut w = World::new();
    let hold = w.hold(10 * FACE.0, |_| ());
    let _ = w.open(&hold, FACE.0, 3).1.close(Reject::of(Code::BookFinished));
    let (raised, id) = (Amount(20 * FACE.0), hold.body.id());
    let raised = Hold {
        revision: 1,
        cap: raised,
        ..hold.body
    };
    let forged = w
        .payee
        .begin_present(&Signed::new(raised, &SecretKey::from_seed(&[9; 32])), NOW);
    assert_eq!(forged.unwrap().verify().unwrap_err().code, Code::BadSignature);
    let check = w.payee.begin_present(&Signed::new(raised, &w.escrow), NOW).unwrap();
    let ready = check.verify().unwrap();
    w.payee.holds.get_mut(&id).unwrap().row.release = Some(Signed::new(
        crate::hold::Release {
            hold: id,
            paid: Amount(0),
        },
        &SecretKey::from_seed(&[3; 32]),
    ));
    assert_eq!(w.payee.finish_present(ready, NOW).unwrap_err().code, Code::HoldReleased);
    assert_eq!(w.payee.hold(&id).unwrap().hold.body.revision, 0);
}

/// Spec: B-05, B-06.
#[test]
fn a_young_store_asks_the_escrow_about_old_holds_first() {
    let mut w = World::with(|terms| terms.asks_before = NOW);
    let hold = w.hold(1_000_000, |_| ());
    let (_, open) = w.issue(&hold, 10, 5);
    assert_eq!(w.code(open.clone()), Code::HoldUnchecked);
    assert_eq!(w.payee.tick(NOW), [Task::Check(Box::new(hold))]);
    let status = HoldStatus {
        hold,
        paid: Amount(5),
        state: HoldState::Open,
    };
    let row = w.payee.checked(&hold.body.id(), &status, NOW).unwrap();
    assert_eq!(row.unwrap().paid, Amount(5));
    assert!(w.payee.open_book(open, NOW).is_ok());
}

/// Spec: B-05, B-06.
#[test]
fn a_hold_that_ended_at_the_escrow_opens_nothing() {
    let mut w = World::with(|terms| terms.asks_before = NOW);
    let hold = w.hold(1_000_000, |_| ());
    let (_, open) = w.issue(&hold, 10, 5);
    assert_eq!(w.code(open.clone()), Code::HoldUnchecked);
    let status = HoldStatus {
        hold,
        paid: Amount(5),
        state: HoldState::Released,
    };
    w.payee.checked(&hold.body.id(), &status, NOW).unwrap();
    assert_eq!(w.code(open), Code::HoldReleased);
}

/// Spec: B-05, B-06. A restored store does not know that its hold was released in the life that it lost.
#[test]
fn a_hold_that_ended_at_the_escrow_opens_nothing_after_a_restart_either() {
    let mut w = World::new();
    let hold = w.hold(1_000_000, |_| ());
    let id = hold.body.id();
    let restored = HoldRow {
        hold,
        paid: Amount(0),
        checked_at: HoldRow::MUST_ASK,
        release: None,
    };
    w.restart_with(vec![restored], vec![]);
    let status = |state| HoldStatus {
        hold,
        paid: Amount(5),
        state,
    };
    for _ in 0..2 {
        assert_eq!(
            w.payee.tick(NOW),
            [Task::Check(Box::new(hold))],
            "asked about before any payer comes"
        );
        let (_, open) = w.issue(&hold, 10, 5);
        assert_eq!(w.code(open.clone()), Code::HoldUnchecked);
        let row = w.payee.checked(&id, &status(HoldState::Released), NOW).unwrap();
        assert_eq!(w.code(open), Code::HoldReleased);
        w.restart_with(vec![row.unwrap()], vec![]);
    }
    let row = w.payee.checked(&id, &status(HoldState::Open), NOW).unwrap();
    w.restart_with(vec![row.unwrap()], vec![]);
    let (_, open) = w.issue(&hold, 10, 5);
    assert!(
        w.payee.open_book(open, NOW).is_ok(),
        "what was answered outlives a restart"
    );
}

/// Spec: B-06. What is sold on must be signed: an escrow that answers with a cap it did not sign is not believed.
#[test]
fn an_answer_about_a_hold_counts_only_if_the_escrow_signed_that_very_hold() {
    let mut w = World::with(|terms| terms.asks_before = NOW);
    let hold = w.hold(2 * FACE.0, |_| ());
    let other = w.hold(2 * FACE.0, |terms| terms.serial = 2);
    let id = hold.body.id();
    let (_, open) = w.issue(&hold, 10, 5);
    assert_eq!(w.code(open.clone()), Code::HoldUnchecked);
    let status = |hold| HoldStatus {
        hold,
        paid: Amount(5),
        state: HoldState::Open,
    };
    let raised = Hold {
        revision: 1,
        cap: Amount(1_000 * FACE.0),
        ..hold.body
    };
    let forged = Signed::new(raised, &SecretKey::from_seed(&[9; 32]));
    let refused = |w: &mut World, hold| w.payee.checked(&id, &status(hold), NOW).unwrap_err().code;
    assert_eq!(refused(&mut w, forged), Code::BadSignature);
    assert_eq!(refused(&mut w, other), Code::HoldMismatch);
    assert_eq!(w.payee.hold(&id), None, "nothing was learned");
    assert_eq!(
        w.payee.tick(NOW),
        [Task::Check(Box::new(hold))],
        "and it is asked again"
    );

    w.payee.checked(&id, &status(hold), NOW).unwrap();
    assert!(w.payee.open_book(open, NOW).is_ok());
    let row = *w.payee.hold(&id).unwrap();
    assert_eq!(refused(&mut w, forged), Code::BadSignature);
    assert_eq!(w.payee.hold(&id), Some(&row), "nor is a known hold raised");
    let signed = Signed::new(raised, &w.escrow);
    w.payee.checked(&id, &status(signed), NOW).unwrap();
    assert_eq!(w.payee.hold(&id).unwrap().hold, signed);
}

/// Spec: C-02.
#[test]
fn time_that_steps_back_opens_nothing_again() {
    let mut w = World::new();
    let hold = w.hold(10_000, |_| ());
    let (_, open) = w.issue(&hold, 10, 5);
    w.payee.advance(NOW.plus_ms(QUOTE_LIFE_MS + 1));
    assert_eq!(w.payee.open_book(open, NOW).unwrap_err().code, Code::QuoteExpired);
}
