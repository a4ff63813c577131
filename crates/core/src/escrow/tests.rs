use super::*;
use crate::amount::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::claim::Head;
use crate::key::{BookId, HoldId, RequestId};

const NOW: Timestamp = Timestamp(1_000_000_000_000);

fn key(n: u8) -> AccountKey {
    AccountKey([n; 32])
}

fn config() -> EscrowConfig {
    EscrowConfig {
        escrow: key(1),
        asset: Asset::USD,
        name: Reference::default(),
        fee: Fee {
            flat: Amount(2),
            ppm: 10_000,
        },
        face_value_min: Amount(10),
        cap_min: Amount(100),
        writer: 0,
        payout_fee: Amount(25),
        payout_min: Amount(100),
        epoch: 0,
    }
}

fn request() -> HoldRequest {
    HoldRequest {
        signer: key(2),
        payee: key(3),
        face_value_min: Amount(10),
        face_value_max: Amount(1_000),
        book_length_max: 4_096,
        expires_at: NOW.plus_ms(DAY_MS),
        redeem_by: NOW.plus_ms(2 * DAY_MS),
        cap: Amount(5_000),
        fee_max: config().fee,
    }
}

const fn payer() -> PayerRecord {
    PayerRecord {
        account: AccountKey([2; 32]),
        balance: Amount(5_000),
        open_holds: 0,
        serial: 7,
    }
}

fn record(paid: u64) -> HoldRecord {
    HoldRecord {
        hold: open(&request(), &payer(), &config(), NOW).unwrap(),
        paid: Amount(paid),
        state: HoldState::Open,
    }
}

fn winnings(through: u32, winners: u32) -> Winnings {
    Winnings {
        book: BookId([5; 32]),
        through,
        preimage: Preimage([6; 32]),
        winners,
        gross: Amount(1_000 * u64::from(winners)),
        fee: Amount(12 * u64::from(winners)),
    }
}

fn book(through: u32, winners: u32) -> BookRecord {
    let won = winnings(through, winners);
    BookRecord {
        preimage: won.preimage,
        receipt: Receipt {
            escrow: key(1),
            writer: 0,
            book: won.book,
            through,
            winners,
            gross: won.gross,
            fee: won.fee,
            hold_paid_after: won.gross,
            at: NOW,
            height: 3,
            head: Head([0; 32]),
        },
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, Reject>) -> (&'static str, u64, u64) {
    let reject = result.unwrap_err();
    (reject.code.name(), reject.need, reject.has)
}

fn opening(change: impl FnOnce(&mut HoldRequest)) -> Result<Hold, Reject> {
    let mut request = request();
    change(&mut request);
    open(&request, &payer(), &config(), NOW)
}

/// Spec: R-12.
#[test]
fn a_claim_takes_the_difference_to_what_its_book_was_paid() {
    let Ok(Verdict::Capture(first)) = judge(&winnings(10, 2), &key(3), None, &record(0)) else {
        panic!("paid")
    };
    assert_eq!((first.amount.0, first.fee.0, first.credit.0), (2_000, 24, 1_976));
    assert_eq!((first.winners, first.hold_paid_after.0), (2, 2_000));
    let Ok(Verdict::Capture(more)) = judge(&winnings(20, 5), &key(3), Some(&book(10, 2)), &record(2_000)) else {
        panic!("paid")
    };
    assert_eq!((more.amount.0, more.fee.0, more.winners), (3_000, 36, 3));
    assert_eq!(more.hold_paid_after.0, 5_000);
}

/// Spec: H-05, R-12.
#[test]
fn an_equal_or_smaller_through_repeats_the_last_receipt_even_after_the_end() {
    for state in [HoldState::Open, HoldState::Released, HoldState::Expired] {
        let hold = HoldRecord { state, ..record(2_000) };
        for through in [10, 9] {
            let verdict = judge(&winnings(through, 1), &key(3), Some(&book(10, 2)), &hold);
            assert_eq!(verdict, Ok(Verdict::Repeat(book(10, 2).receipt)));
        }
    }
}

/// Spec: R-12.
#[test]
fn a_claim_over_what_is_left_is_refused_whole_with_both_numbers() {
    let refused = judge(&winnings(10, 3), &key(3), None, &record(2_500));
    assert_eq!(code(refused), ("claim_over_cap", 3_000, 2_500));
    assert!(judge(&winnings(10, 2), &key(3), None, &record(3_000)).is_ok());
}

/// Spec: H-05, R-12.
#[test]
fn an_ended_hold_pays_no_new_winner_and_nobody_else_can_claim() {
    let ended = |state| HoldRecord { state, ..record(0) };
    let claim = |hold: &HoldRecord, who| judge(&winnings(10, 1), &key(who), None, hold);
    assert_eq!(code(claim(&ended(HoldState::Released), 3)).0, "hold_released");
    assert_eq!(code(claim(&ended(HoldState::Expired), 3)).0, "hold_expired");
    assert_eq!(code(claim(&record(0), 2)).0, "wrong_payee");
}

#[test]
fn fewer_winners_for_a_larger_through_are_not_the_same_chain() {
    let refused = judge(&winnings(20, 1), &key(3), Some(&book(10, 2)), &record(2_000));
    assert_eq!(code(refused).0, "chain_broken");
}

/// Spec: H-03, H-06.
#[test]
fn opening_a_hold_keeps_to_every_limit() {
    assert_eq!(code(opening(|r| r.payee = key(2))).0, "self_hold");
    assert_eq!(code(opening(|r| r.signer = key(3))).0, "self_hold");
    let delegated = opening(|r| (r.payee, r.signer) = (key(2), key(4)));
    assert_eq!(code(delegated).0, "self_hold", "whoever signs");
    assert_eq!(
        code(opening(|r| r.face_value_min = Amount(9))),
        ("face_out_of_range", 10, 9)
    );
    assert_eq!(
        code(opening(|r| r.face_value_max = Amount(9))),
        ("face_out_of_range", 9, 10)
    );
    assert_eq!(code(opening(|r| r.cap = Amount(99))), ("cap_out_of_range", 100, 99));
    assert_eq!(
        code(opening(|r| r.cap = Amount(5_001))),
        ("insufficient_funds", 5_001, 5_000)
    );
    assert_eq!(code(opening(|r| r.fee_max.flat = Amount(1))), ("fee_too_high", 1, 2));
    assert_eq!(
        code(opening(|r| r.fee_max.ppm = 9_999)),
        ("fee_too_high", 9_999, 10_000)
    );
    assert_eq!(code(opening(|r| r.book_length_max = 0)), ("book_too_long", 65_536, 0));
    assert_eq!(
        code(opening(|r| r.expires_at = NOW)),
        ("time_out_of_range", NOW.0, NOW.0)
    );
    assert_eq!(
        code(opening(|r| r.redeem_by = Timestamp(NOW.0 + 2 * DAY_MS - 1))),
        ("redeem_window_short", DAY_MS, DAY_MS - 1)
    );
    let latest = NOW.0 + HOLD_LIFE_MAX_MS;
    assert!(opening(|r| r.redeem_by = Timestamp(latest)).is_ok());
    assert_eq!(
        code(opening(|r| r.redeem_by = Timestamp(latest + 1))),
        ("time_out_of_range", latest, latest + 1)
    );
    let crowded = PayerRecord {
        open_holds: 1_000,
        ..payer()
    };
    assert_eq!(code(open(&request(), &crowded, &config(), NOW)), ("busy", 1_000, 1_000));
}

/// Spec: H-05, H-08.
#[test]
fn a_top_up_only_raises_the_current_revision() {
    let hold = record(0);
    let raised = top_up(&hold, 0, Amount(6_000), Amount(1_000)).unwrap();
    assert_eq!(
        (raised.amount.0, raised.hold.revision, raised.hold.cap.0),
        (1_000, 1, 6_000)
    );
    assert_eq!(raised.hold.id(), hold.hold.id());
    let refused = |revision, cap| code(top_up(&hold, revision, Amount(cap), Amount(1_000)));
    assert_eq!(refused(1, 6_000), ("revision_stale", 0, 1));
    let later = HoldRecord {
        hold: raised.hold,
        ..hold
    };
    let stale = top_up(&later, 0, Amount(7_000), Amount(1_000));
    assert_eq!(code(stale), ("revision_stale", 1, 0));
    assert_eq!(refused(0, 5_000), ("cap_out_of_range", 5_000, 5_000));
    assert_eq!(refused(0, 4_999), ("cap_out_of_range", 5_000, 4_999));
    assert_eq!(refused(0, 6_001), ("insufficient_funds", 1_001, 1_000));
    let released = HoldRecord {
        state: HoldState::Released,
        ..hold
    };
    assert_eq!(
        code(top_up(&released, 0, Amount(6_000), Amount(1_000))).0,
        "hold_released"
    );
}

/// Spec: H-07.
#[test]
fn a_release_must_agree_with_the_ledger_and_repeats() {
    let hold = record(2_000);
    let said = |paid| Release {
        hold: HoldId([0; 32]),
        paid: Amount(paid),
    };
    assert_eq!(release(&said(2_000), &hold), Ok(ReleaseVerdict::Return(Amount(3_000))));
    assert_eq!(code(release(&said(1_999), &hold)), ("release_mismatch", 2_000, 1_999));
    assert_eq!(code(release(&said(2_001), &hold)), ("release_mismatch", 2_000, 2_001));
    let ended = |state| HoldRecord { state, ..hold };
    assert_eq!(
        release(&said(2_000), &ended(HoldState::Released)),
        Ok(ReleaseVerdict::Repeat)
    );
    assert_eq!(
        code(release(&said(2_000), &ended(HoldState::Expired))).0,
        "hold_expired"
    );
}

/// Spec: H-09.
#[test]
fn a_hold_expires_after_its_grace_and_an_hour_of_service() {
    let hold = record(2_000);
    let due = NOW.0 + 2 * DAY_MS + 5 * MINUTE_MS;
    let mut served = Served::starting(Timestamp(due - HOUR_MS));
    for minute in 1..=60 {
        served.observe(Timestamp(due - HOUR_MS + minute * MINUTE_MS));
    }
    assert_eq!(expire(&hold, &served, Timestamp(due)), Ok(Amount(3_000)));
    assert_eq!(
        code(expire(&hold, &served, Timestamp(due - 1))),
        ("time_out_of_range", due, due - 1)
    );
    let late = Served::starting(Timestamp(due));
    assert_eq!(code(expire(&hold, &late, Timestamp(due))), ("busy", HOUR_MS, 0));
    served.observe(Timestamp(due + MINUTE_MS + 1));
    assert_eq!(
        code(expire(&hold, &served, Timestamp(due + MINUTE_MS + 1))),
        ("busy", HOUR_MS, 0)
    );
}

/// Spec: C-02.
#[test]
fn a_clock_that_steps_back_stops_ledger_time_and_serving() {
    assert_eq!(ledger_time(NOW, NOW.minus_ms(5)), NOW);
    assert_eq!(ledger_time(NOW, NOW.plus_ms(5)), NOW.plus_ms(5));
    let mut served = Served::starting(NOW);
    served.observe(NOW.minus_ms(5));
    assert_eq!(served.for_ms(), 0);
}

/// Spec: R-02.
#[test]
fn requests_are_neither_old_nor_ahead() {
    let issued = |at| {
        let request = RequestHeader {
            id: RequestId([0; 16]),
            issued_at: Timestamp(at),
        };
        check_issued(&request, NOW)
    };
    let (oldest, latest) = (NOW.0 - DAY_MS, NOW.0 + 5 * MINUTE_MS);
    assert!(issued(oldest).is_ok() && issued(latest).is_ok());
    assert_eq!(code(issued(oldest - 1)), ("request_expired", oldest, oldest - 1));
    assert_eq!(code(issued(latest + 1)), ("request_in_future", latest, latest + 1));
}

/// Spec: M-01, R-15, R-17.
#[test]
fn transfers_and_deposits_move_something_that_is_there() {
    let send = |to, amount| transfer(&key(2), &key(to), Amount(amount), Amount(10));
    assert!(send(3, 10).is_ok());
    assert_eq!(code(send(3, 11)), ("insufficient_funds", 11, 10));
    assert_eq!(code(send(3, 0)).0, "amount_zero");
    assert_eq!(code(send(2, 1)).0, "bad_terms");
    assert!(deposit(Amount(u64::MAX), Amount(0)).is_ok());
    assert_eq!(
        code(deposit(Amount(2), Amount(u64::MAX - 1))),
        ("supply_exceeded", 1, 2)
    );
    assert_eq!(code(deposit(Amount(0), Amount(0))).0, "amount_zero");
}
