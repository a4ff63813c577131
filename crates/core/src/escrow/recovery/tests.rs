use super::super::{EscrowConfig, PayerRecord, open};
use super::*;
use crate::amount::DAY_MS;
use crate::book::{Anchor, Book};
use crate::chain::{Chain, Preimage};
use crate::claim::Head;
use crate::codec::List;
use crate::draw::Reveal;
use crate::hold::{Fee, HoldTerms, Release};
use crate::key::{AccountKey, RequestId, SecretKey};
use crate::message::{HoldRequest, HoldState, Reference, RequestHeader};
use crate::odds::Threshold;

const NOW: Timestamp = Timestamp(1_000_000_000_000);

fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn key(n: u8) -> AccountKey {
    secret(n).account()
}

fn hold(revision: u32, cap: u64) -> Hold {
    let terms = HoldTerms {
        escrow: key(1),
        asset: Asset::USD,
        payer: key(2),
        signer: key(2),
        payee: key(3),
        serial: 7,
        fee: Fee::default(),
        face_value_min: Amount(10),
        face_value_max: Amount(1_000),
        book_length_max: 4_096,
        opened_at: NOW,
        expires_at: NOW.plus_ms(DAY_MS),
        redeem_by: NOW.plus_ms(2 * DAY_MS),
    };
    Hold {
        terms,
        revision,
        cap: Amount(cap),
    }
}

fn record(revision: u32, cap: u64) -> HoldRecord {
    HoldRecord {
        hold: hold(revision, cap),
        paid: Amount::ZERO,
        state: HoldState::Open,
    }
}

/// A book of four sure winners of 1,000, claimed through one of them.
fn claim(through: u32) -> Claim {
    let reveal = Reveal([8; 32]);
    let mut chain = Chain::new(Preimage([9; 32]), 4);
    let book = Book {
        hold: hold(0, 0).id(),
        commitment: reveal.commitment(),
        anchor: Anchor(chain.anchor().0),
        length: 4,
        face_value: Amount(1_000),
        threshold: Threshold::ALWAYS,
    };
    Claim {
        book: Signed::new(book, &secret(2)),
        reveal,
        through,
        preimage: chain.preimage(through).unwrap(),
    }
}

fn receipt(through: u32) -> Receipt {
    let gross = Amount(1_000 * u64::from(through));
    Receipt {
        escrow: key(1),
        writer: 0,
        book: claim(through).book.body.id(),
        through,
        winners: through,
        gross,
        fee: Amount::ZERO,
        hold_paid_after: gross,
        at: NOW,
        height: 9,
        head: Head([7; 32]),
    }
}

fn shown(through: u32, receipt: Receipt) -> Evidence {
    Evidence::Receipt {
        claim: claim(through),
        receipt: Signed::new(receipt, &secret(1)),
    }
}

fn verified(evidence: &Evidence) -> Result<Proved, Reject> {
    let escrow = key(1).check().unwrap();
    verify(evidence, Some(&hold(0, 5_000)), &escrow, &Asset::USD)
}

fn commands() -> Vec<EscrowCommand> {
    let request = RequestHeader {
        id: RequestId([0; 16]),
        issued_at: NOW,
    };
    let reference = Reference::default();
    let terms = hold(0, 0).terms;
    let asked = HoldRequest {
        signer: terms.signer,
        payee: terms.payee,
        face_value_min: terms.face_value_min,
        face_value_max: terms.face_value_max,
        book_length_max: terms.book_length_max,
        expires_at: terms.expires_at,
        redeem_by: terms.redeem_by,
        cap: Amount(100),
        fee_max: terms.fee,
    };
    vec![
        EscrowCommand::OpenHold { request, hold: asked },
        EscrowCommand::TopUpHold {
            request,
            hold: hold(0, 0).id(),
            revision: 0,
            cap: Amount(1),
        },
        EscrowCommand::Transfer {
            request,
            to: key(3),
            amount: Amount(1),
            reference: reference.clone(),
            book: None,
        },
        EscrowCommand::Withdraw {
            request,
            amount: Amount(1),
            destination: reference.clone(),
            reference,
        },
        EscrowCommand::Statement { after: 0 },
        EscrowCommand::Resubmit {
            evidence: List::default(),
        },
    ]
}

/// Spec: H-10, R-24.
#[test]
fn a_recovering_escrow_promises_nothing_new_and_only_it_takes_evidence() {
    let in_phase = |phase| -> Vec<Option<Code>> {
        let commands = commands();
        let codes = commands.iter().map(|c| check_phase(c, phase).err().map(|r| r.code));
        codes.collect()
    };
    let (recovering, draining) = (Some(Code::Recovering), Some(Code::Draining));
    let (open, other) = (None, Some(Code::NotRecovering));
    assert_eq!(in_phase(Phase::Open), [open, open, open, open, open, other]);
    assert_eq!(
        in_phase(Phase::Recovering),
        [recovering, recovering, recovering, recovering, None, None]
    );
    assert_eq!(in_phase(Phase::Draining), [draining, draining, None, None, None, other]);
    assert!(Code::Recovering.is_retryable());
}

/// Spec: R-26.
#[test]
fn serials_of_an_epoch_are_over_all_of_the_one_before() {
    assert_eq!((next_serial(1, 0), next_serial(7, 0)), (1, 7));
    assert_eq!(next_serial(7, 1), (1 << 40) + 1);
    assert_eq!(next_serial((1 << 40) + 5, 1), (1 << 40) + 5);
    assert_eq!(next_serial((1 << 40) + 5, 2), (2 << 40) + 1);
    assert_eq!(next_serial(1, EPOCH_MAX) >> 40, u64::from(EPOCH_MAX));
    let config = EscrowConfig {
        escrow: key(1),
        asset: Asset::USD,
        name: Reference::default(),
        fee: Fee::default(),
        face_value_min: Amount(10),
        cap_min: Amount(100),
        writer: 0,
        payout_fee: Amount::ZERO,
        payout_min: Amount::ZERO,
        epoch: 3,
    };
    let payer = PayerRecord {
        account: key(2),
        balance: Amount(5_000),
        open_holds: 0,
        serial: 7,
    };
    let Some(EscrowCommand::OpenHold { hold: asked, .. }) = commands().into_iter().next() else {
        panic!("the first command opens a hold")
    };
    assert_eq!(open(&asked, &payer, &config, NOW).unwrap().terms.serial, (3 << 40) + 1);
}

/// Spec: R-25.
#[test]
fn evidence_bears_the_escrows_signature_or_its_payees() {
    let escrow = key(1).check().unwrap();
    let check = |evidence, known| verify(&evidence, known, &escrow, &Asset::USD).map_err(|r| r.code);
    let held = hold(0, 5_000);
    assert_eq!(
        check(Evidence::Hold(Signed::new(held, &secret(1))), None),
        Ok(Proved::Hold)
    );
    let forged = Evidence::Hold(Signed::new(held, &secret(2)));
    assert_eq!(check(forged, None), Err(Code::BadSignature));
    let mut foreign = held;
    foreign.terms.escrow = key(9);
    let foreign = Evidence::Hold(Signed::new(foreign, &secret(9)));
    assert_eq!(check(foreign, None), Err(Code::WrongEscrow));
    let mut euros = held;
    euros.terms.asset = Asset::new("EUR", 2).unwrap();
    let euros = Evidence::Hold(Signed::new(euros, &secret(1)));
    assert_eq!(check(euros, None), Err(Code::WrongAsset));
    let release = Release {
        hold: held.id(),
        paid: Amount(5),
    };
    let released = Evidence::Release(Signed::new(release, &secret(3)));
    assert_eq!(check(released, Some(&held)), Ok(Proved::Release));
    assert_eq!(check(released, None), Err(Code::HoldUnknown));
    let by_payer = Evidence::Release(Signed::new(release, &secret(2)));
    assert_eq!(check(by_payer, Some(&held)), Err(Code::BadSignature));
}

/// Spec: R-25.
#[test]
fn a_receipt_counts_with_the_claim_it_answered_and_no_other() {
    let Ok(Proved::Receipt(won)) = verified(&shown(2, receipt(2))) else {
        panic!("a good receipt")
    };
    assert_eq!((won.through, won.gross.0), (2, 2_000));
    let mismatch = |evidence: &Evidence| verified(evidence).unwrap_err();
    assert_eq!(
        mismatch(&shown(3, receipt(2))),
        Reject::compared(Code::ReceiptMismatch, 2, 3)
    );
    let other_book = Receipt {
        book: crate::key::BookId([5; 32]),
        ..receipt(2)
    };
    let other_sum = Receipt {
        gross: Amount(2_001),
        ..receipt(2)
    };
    for wrong in [other_book, other_sum] {
        assert_eq!(mismatch(&shown(2, wrong)).code, Code::ReceiptMismatch);
    }
    let foreign = Receipt {
        escrow: key(9),
        ..receipt(2)
    };
    assert_eq!(mismatch(&shown(2, foreign)).code, Code::WrongEscrow);
    let by_payee = Evidence::Receipt {
        claim: claim(2),
        receipt: Signed::new(receipt(2), &secret(3)),
    };
    assert_eq!(mismatch(&by_payee).code, Code::BadSignature);
    let mut off_chain = claim(2);
    off_chain.preimage = Preimage([1; 32]);
    let off_chain = Evidence::Receipt {
        claim: off_chain,
        receipt: Signed::new(receipt(2), &secret(1)),
    };
    assert_eq!(mismatch(&off_chain).code, Code::ChainBroken);
}

/// Spec: R-25.
#[test]
fn a_lost_hold_counts_if_the_ledger_ended_before_it_and_its_payer_has_the_money() {
    let lost = hold(3, 5_000);
    let restore = |balance, restored_at| restore_hold(&lost, None, Amount(balance), Timestamp(restored_at));
    assert_eq!(restore(5_000, NOW.0), Ok(HoldVerdict::Restore(lost)));
    assert_eq!(
        restore(5_000, NOW.0 + 1),
        Err(Reject::compared(Code::ResubmittedTooOld, NOW.0 + 1, NOW.0))
    );
    assert_eq!(
        restore(4_999, NOW.0),
        Err(Reject::compared(Code::InsufficientFunds, 5_000, 4_999))
    );
}

#[test]
fn a_lost_top_up_raises_its_hold_by_the_difference() {
    let known = record(1, 3_000);
    let restore = |shown: Hold, known: &HoldRecord, balance| {
        restore_hold(&shown, Some(known), Amount(balance), NOW.plus_ms(DAY_MS))
    };
    let raised = HoldVerdict::Raise(TopUp {
        hold: hold(3, 5_000),
        amount: Amount(2_000),
    });
    assert_eq!(restore(hold(3, 5_000), &known, 2_000), Ok(raised));
    assert_eq!(
        restore(hold(3, 5_000), &known, 1_999),
        Err(Reject::compared(Code::InsufficientFunds, 2_000, 1_999))
    );
    for old in [hold(1, 3_000), hold(0, 1_000), hold(2, 2_999)] {
        assert_eq!(restore(old, &known, 0), Ok(HoldVerdict::Known));
    }
    for (state, code) in [
        (HoldState::Released, Code::HoldReleased),
        (HoldState::Expired, Code::HoldExpired),
    ] {
        let ended = HoldRecord { state, ..known };
        assert_eq!(restore(hold(3, 5_000), &ended, 2_000), Err(Reject::of(code)));
        assert_eq!(restore(hold(1, 3_000), &ended, 0), Ok(HoldVerdict::Known));
    }
}

/// Spec: R-25.
#[test]
fn lost_receipts_pay_their_books_again_once() {
    let Ok(Proved::Receipt(won)) = verified(&shown(3, receipt(3))) else {
        panic!("a good receipt")
    };
    let before = BookRecord {
        preimage: claim(1).preimage,
        receipt: receipt(1),
    };
    let hold = HoldRecord {
        paid: Amount(1_000),
        ..record(0, 5_000)
    };
    let Ok(Verdict::Capture(capture)) = restore_receipt(&won, Some(&before), &hold) else {
        panic!("the difference")
    };
    assert_eq!((capture.amount.0, capture.hold_paid_after.0), (2_000, 3_000));
    let after = BookRecord {
        preimage: won.preimage,
        receipt: receipt(3),
    };
    assert_eq!(
        restore_receipt(&won, Some(&after), &hold),
        Ok(Verdict::Repeat(receipt(3)))
    );
    assert_eq!(
        restore_receipt(&won, None, &record(0, 2_999)),
        Err(Reject::compared(Code::ClaimOverCap, 3_000, 2_999)),
        "the top-up comes first"
    );
}
