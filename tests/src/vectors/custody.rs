//! What an escrow must refuse of payouts, splits, delegated signers and evidence.

use super::run::{amount, array, bytes, number, text};
use super::sample::{START, Sample, list};
use serde_json::{Value, json};
use tombola_core::amount::{Amount, Asset, HOUR_MS, Timestamp};
use tombola_core::codec::{decode, encode};
use tombola_core::escrow::delegation::{Promise, SignerRecord, accept, authorise};
use tombola_core::escrow::payout::{PayoutTerms, check_policy, withdraw};
use tombola_core::escrow::recovery::{check_phase, restore_hold, verify};
use tombola_core::escrow::split;
use tombola_core::hold::{Delegation, Hold};
use tombola_core::key::{AccountKey, Signed};
use tombola_core::message::{
    EscrowCommand, EscrowRequest, Evidence, HoldRequest, PayoutPolicy, Phase, Reference, Share, Shares,
};
use tombola_core::reject::Reject;

/// Runs one of the operations on an account's standing orders, its signers, or a lost ledger.
pub(crate) fn run(operation: &str, vector: &Value) -> Option<Result<(), Reject>> {
    let outcome = match operation {
        "withdraw" => {
            let (amount, balance) = (amount(vector, "amount"), amount(vector, "balance"));
            withdraw(amount, &reference(vector), balance, &payout_terms(vector))
        }
        "check_payout" => {
            let policy = PayoutPolicy {
                threshold: amount(vector, "threshold"),
                every_ms: number(vector, "every_ms"),
                destination: reference(vector),
            };
            check_policy(&policy, &payout_terms(vector))
        }
        "check_split" => decode::<Shares>(&bytes(vector, "shares"))
            .map_err(Reject::from)
            .and_then(|shares| split::check(&AccountKey(array(vector, "payee")), shares.as_slice())),
        "delegate" => delegate(vector),
        "delegated_hold" => delegated_hold(vector),
        "phase" => phase(vector),
        "resubmit" => resubmit(vector),
        _ => return None,
    };
    Some(outcome)
}

fn reference(vector: &Value) -> Reference {
    Reference::new(text(vector, "destination")).expect("a short destination")
}

fn payout_terms(vector: &Value) -> PayoutTerms {
    PayoutTerms {
        fee: amount(vector, "payout_fee"),
        min: amount(vector, "payout_min"),
    }
}

fn record(vector: &Value, name: &str) -> Result<Option<SignerRecord>, Reject> {
    if vector[name].is_null() {
        return Ok(None);
    }
    let signed: Signed<Delegation> = decode(&bytes(vector, name))?;
    Ok(Some(SignerRecord {
        delegation: Some(signed.body),
        committed: vector["committed"]
            .as_str()
            .map_or(Amount::ZERO, |_| amount(vector, "committed")),
    }))
}

fn delegate(vector: &Value) -> Result<(), Reject> {
    let given: Signed<Delegation> = decode(&bytes(vector, "delegation"))?;
    given.verify(&given.body.account.check()?)?;
    given.body.signer.check()?;
    let current = record(vector, "current")?;
    let escrow = AccountKey(array(vector, "escrow"));
    accept(&given.body, current.as_ref(), &escrow, 0).map(|_| ())
}

fn delegated_hold(vector: &Value) -> Result<(), Reject> {
    let asked: HoldRequest = decode(&bytes(vector, "request"))?;
    let record = record(vector, "delegation")?;
    let signer = AccountKey(array(vector, "signer"));
    let now = Timestamp(number(vector, "now"));
    authorise(&signer, &Promise::of_request(&asked), record.as_ref(), now)
}

fn phase(vector: &Value) -> Result<(), Reject> {
    let request: EscrowRequest = decode(&bytes(vector, "request"))?;
    let phase = match text(vector, "phase") {
        "open" => Phase::Open,
        "recovering" => Phase::Recovering,
        "draining" => Phase::Draining,
        other => panic!("no phase {other}"),
    };
    check_phase(&request.command, phase)
}

fn resubmit(vector: &Value) -> Result<(), Reject> {
    let evidence: Evidence = decode(&bytes(vector, "evidence"))?;
    let hold: Option<Signed<Hold>> = if vector["hold"].is_null() {
        None
    } else {
        Some(decode(&bytes(vector, "hold"))?)
    };
    let escrow = AccountKey(array(vector, "escrow")).check()?;
    verify(&evidence, hold.as_ref().map(|hold| &hold.body), &escrow, &Asset::USD)?;
    match &evidence {
        Evidence::Hold(shown) => {
            let restored_at = Timestamp(number(vector, "restored_at"));
            restore_hold(&shown.body, None, amount(vector, "balance"), restored_at).map(|_| ())
        }
        Evidence::Release(_) | Evidence::Receipt { .. } => Ok(()),
    }
}

pub(crate) fn invalid(sample: &Sample) -> Vec<Value> {
    let mut vectors = payouts();
    vectors.extend(splits(sample));
    vectors.extend(delegations(sample));
    vectors.extend(delegated_holds(sample));
    vectors.extend(phases(sample));
    vectors.extend(evidence(sample));
    vectors
}

fn payouts() -> Vec<Value> {
    let withdrawal = |name: &str, code: &str, amount: &str, destination: &str| {
        json!({
            "name": name, "clause": "R-20", "operation": "withdraw", "code": code,
            "amount": amount, "destination": destination, "balance": "500", "payout_fee": "25", "payout_min": "100",
        })
    };
    let policy = |name: &str, code: &str, threshold: &str, every_ms: u64| {
        json!({
            "name": name, "clause": "R-21", "operation": "check_payout", "code": code,
            "threshold": threshold, "every_ms": every_ms, "destination": "bank", "payout_fee": "25", "payout_min": "100",
        })
    };
    let mut dear = withdrawal(
        "a withdrawal of no more than its fee",
        "payout_too_small",
        "200",
        "bank",
    );
    dear["payout_fee"] = json!("200");
    vec![
        withdrawal("a withdrawal of nothing", "amount_zero", "0", "bank"),
        withdrawal("a withdrawal under the smallest", "payout_too_small", "99", "bank"),
        dear,
        withdrawal("a withdrawal to nowhere", "bad_terms", "100", ""),
        withdrawal("a withdrawal over the balance", "insufficient_funds", "501", "bank"),
        policy("a policy without threshold and schedule", "bad_terms", "0", 0),
        policy("a payout each hour less 1 ms", "time_out_of_range", "0", HOUR_MS - 1),
        policy("a threshold under the smallest payout", "payout_too_small", "99", 0),
    ]
}

fn splits(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, shares: &[(AccountKey, u32)]| {
        let shares = shares.iter().map(|(account, ppm)| Share {
            account: *account,
            ppm: *ppm,
        });
        let shares: Shares = list(shares.collect());
        json!({
            "name": name, "clause": "R-22", "operation": "check_split", "code": code,
            "payee": hex::encode(sample.payee.account().0), "shares": hex::encode(encode(&shares)),
        })
    };
    let (one, two) = (sample.payer.account(), sample.signer.account());
    vec![
        case("a share of nothing", "bad_terms", &[(one, 0)]),
        case(
            "a split to the payee itself",
            "split_to_self",
            &[(sample.payee.account(), 1)],
        ),
        case(
            "an account with two shares",
            "share_repeated",
            &[(one, 1), (two, 1), (one, 1)],
        ),
        case(
            "shares of 1 ppm over the whole",
            "shares_over",
            &[(one, 999_999), (two, 2)],
        ),
        case("a share of no key", "bad_key", &[(AccountKey([0xff; 32]), 1)]),
    ]
}

fn delegations(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, given: Delegation, by: &tombola_core::key::SecretKey| {
        json!({
            "name": name, "clause": "A-04", "operation": "delegate", "code": code,
            "escrow": hex::encode(sample.escrow.account().0),
            "delegation": hex::encode(encode(&Signed::new(given, by))),
            "current": hex::encode(encode(&Signed::new(sample.delegation(), &sample.payer))),
        })
    };
    let good = sample.delegation();
    let other = Delegation {
        spend_max: Amount(1),
        ..good.clone()
    };
    let elsewhere = Delegation {
        escrow: sample.payee.account(),
        ..good.clone()
    };
    let itself = Delegation {
        signer: sample.payer.account(),
        serial: 2,
        ..good.clone()
    };
    let next = Delegation { serial: 2, ..good };
    vec![
        case(
            "another delegation of the same serial",
            "delegation_stale",
            other,
            &sample.payer,
        ),
        case(
            "a delegation for another escrow",
            "wrong_escrow",
            elsewhere,
            &sample.payer,
        ),
        case("a delegation to the account itself", "bad_terms", itself, &sample.payer),
        case(
            "a delegation that the signer signed",
            "bad_signature",
            next,
            &sample.signer,
        ),
    ]
}

fn delegated_holds(sample: &Sample) -> Vec<Value> {
    let good = HoldRequest {
        signer: sample.signer.account(),
        ..sample.hold_request()
    };
    let case = |name: &str, code: &str, asked: HoldRequest| {
        json!({
            "name": name, "clause": "A-05", "operation": "delegated_hold", "code": code,
            "signer": hex::encode(sample.signer.account().0),
            "delegation": hex::encode(encode(&Signed::new(sample.delegation(), &sample.payer))),
            "committed": "3000000000",
            "request": hex::encode(encode(&asked)),
            "now": START,
        })
    };
    let asked = |change: &dyn Fn(&mut HoldRequest)| {
        let mut asked = good;
        change(&mut asked);
        asked
    };
    let mut nobody = case("a hold by a key without a delegation", "unauthorized", good);
    nobody["delegation"] = Value::Null;
    let mut late = case("a hold on a delegation that has ended", "delegation_expired", good);
    late["now"] = json!(sample.delegation().expires_at.plus_ms(1));
    let revoked = Delegation {
        spend_max: Amount::ZERO,
        serial: 2,
        ..sample.delegation()
    };
    let mut ended = case("a hold on a delegation that was revoked", "delegation_revoked", good);
    ended["delegation"] = json!(hex::encode(encode(&Signed::new(revoked, &sample.payer))));
    vec![
        nobody,
        late,
        ended,
        case(
            "a hold for another signer",
            "unauthorized",
            asked(&|h| h.signer = sample.payer.account()),
        ),
        case(
            "a hold that outlives the delegation",
            "delegation_expired",
            asked(&|h| h.expires_at = h.expires_at.plus_ms(1)),
        ),
        case(
            "a hold for a payee that is not named",
            "payee_not_allowed",
            asked(&|h| h.payee = sample.escrow.account()),
        ),
        case(
            "a face over the delegation's",
            "face_out_of_range",
            asked(&|h| h.face_value_max = Amount(h.face_value_max.0 + 1)),
        ),
        case(
            "a hold over what the signer may spend",
            "over_spend_max",
            asked(&|h| h.cap = Amount(h.cap.0 + 1)),
        ),
    ]
}

fn phases(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, phase: &str, command: EscrowCommand| {
        let account = sample.payer.account();
        json!({
            "name": name, "clause": "R-24", "operation": "phase", "code": code,
            "phase": phase, "request": hex::encode(encode(&EscrowRequest { account, command })),
        })
    };
    let top_up = || EscrowCommand::TopUpHold {
        request: sample.request(),
        hold: sample.hold.id(),
        revision: 0,
        cap: Amount(3_000_000_000),
    };
    let transfer = EscrowCommand::Transfer {
        request: sample.request(),
        to: sample.payee.account(),
        amount: Amount(1),
        reference: Reference::default(),
        book: None,
    };
    let resubmit = EscrowCommand::Resubmit {
        evidence: list(vec![Evidence::Hold(sample.signed_hold())]),
    };
    vec![
        case(
            "a top-up while the escrow recovers",
            "recovering",
            "recovering",
            top_up(),
        ),
        case(
            "a transfer while the escrow recovers",
            "recovering",
            "recovering",
            transfer,
        ),
        case("a top-up while the escrow drains", "draining", "draining", top_up()),
        case(
            "evidence for an escrow that knows its ledger",
            "not_recovering",
            "open",
            resubmit,
        ),
    ]
}

fn evidence(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, evidence: &Evidence| {
        json!({
            "name": name, "clause": "R-25", "operation": "resubmit", "code": code,
            "escrow": hex::encode(sample.escrow.account().0),
            "evidence": hex::encode(encode(evidence)),
            "hold": hex::encode(encode(&sample.signed_hold())),
            "restored_at": START,
            "balance": sample.hold.cap,
        })
    };
    let hold = Evidence::Hold(sample.signed_hold());
    let mut old = case(
        "a hold of before the restored ledger's end",
        "resubmitted_too_old",
        &hold,
    );
    old["restored_at"] = json!(START.plus_ms(1));
    let mut poor = case("a lost hold over the payer's balance", "insufficient_funds", &hold);
    poor["balance"] = json!(Amount(sample.hold.cap.0 - 1));
    let forged = Evidence::Hold(Signed::new(sample.hold, &sample.payer));
    let mut foreign = sample.hold;
    foreign.terms.escrow = sample.payee.account();
    let foreign = Evidence::Hold(Signed::new(foreign, &sample.payee));
    let mut euros = sample.hold;
    euros.terms.asset = Asset::new("EUR", 2).expect("an asset");
    let euros = Evidence::Hold(Signed::new(euros, &sample.escrow));
    let release = Evidence::Release(Signed::new(sample.release(), &sample.payer));
    let mut unknown = case("a release of a hold that nobody showed", "hold_unknown", &release);
    unknown["hold"] = Value::Null;
    let mut other = sample.receipt();
    other.through -= 1;
    let mut more = sample.receipt();
    more.gross = Amount(more.gross.0 + 1);
    let receipt = |receipt| Evidence::Receipt {
        claim: sample.claim(),
        receipt: Signed::new(receipt, &sample.escrow),
    };
    let (other, more) = (receipt(other), receipt(more));
    vec![
        old,
        poor,
        case("a hold that the payer signed", "bad_signature", &forged),
        case("a hold of another escrow", "wrong_escrow", &foreign),
        case("a hold in another asset", "wrong_asset", &euros),
        case("a release that the payer signed", "bad_signature", &release),
        unknown,
        case(
            "a receipt for another index than the claim's",
            "receipt_mismatch",
            &other,
        ),
        case("a receipt for more than the claim wins", "receipt_mismatch", &more),
    ]
}
