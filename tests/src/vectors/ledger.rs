//! What an escrow must refuse by its records: claims, top-ups, releases, old and early requests.

use super::run::{amount, array, bytes, number, text};
use super::sample::{START, Sample};
use serde_json::{Value, json};
use tombola_core::amount::{Amount, DAY_MS, MINUTE_MS, Timestamp};
use tombola_core::claim::Claim;
use tombola_core::codec::{decode, encode};
use tombola_core::escrow::{HoldRecord, check_issued, judge, release, top_up};
use tombola_core::hold::{Hold, Release};
use tombola_core::key::{AccountKey, RequestId, Signed};
use tombola_core::message::{HoldState, RequestHeader};
use tombola_core::reject::Reject;

/// Runs one of the operations on records.
pub(crate) fn run(operation: &str, vector: &Value) -> Option<Result<(), Reject>> {
    let outcome = match operation {
        "judge_claim" => judge_claim(vector),
        "top_up" => record(vector).and_then(|hold| {
            let revision = u32::try_from(number(vector, "revision")).expect("a u32");
            top_up(&hold, revision, amount(vector, "cap"), amount(vector, "balance")).map(|_| ())
        }),
        "release" => record(vector).and_then(|hold| {
            let signed: Signed<Release> = decode(&bytes(vector, "release"))?;
            release(&signed.body, &hold).map(|_| ())
        }),
        "request_time" => {
            let request = RequestHeader {
                id: RequestId([0; 16]),
                issued_at: Timestamp(number(vector, "issued_at")),
            };
            check_issued(&request, Timestamp(number(vector, "now")))
        }
        _ => return None,
    };
    Some(outcome)
}

fn judge_claim(vector: &Value) -> Result<(), Reject> {
    let hold = record(vector)?;
    let claim: Claim = decode(&bytes(vector, "claim"))?;
    let won = claim.verify(&hold.hold).expect("the claim itself is good");
    judge(&won, &AccountKey(array(vector, "claimant")), None, &hold).map(|_| ())
}

fn record(vector: &Value) -> Result<HoldRecord, Reject> {
    let hold: Signed<Hold> = decode(&bytes(vector, "hold"))?;
    let state = match text(vector, "state") {
        "open" => HoldState::Open,
        "released" => HoldState::Released,
        "expired" => HoldState::Expired,
        other => panic!("no state {other}"),
    };
    Ok(HoldRecord {
        hold: hold.body,
        paid: amount(vector, "paid"),
        state,
    })
}

pub(crate) fn invalid(sample: &Sample) -> Vec<Value> {
    let mut vectors = claims(sample);
    vectors.extend(top_ups(sample));
    vectors.extend(releases(sample));
    vectors.extend(requests());
    vectors
}

/// The record of the sample hold, as inputs.
fn inputs(sample: &Sample, name: &str, clause: &str, operation: &str, code: &str) -> Value {
    json!({
        "name": name,
        "clause": clause,
        "operation": operation,
        "hold": hex::encode(encode(&sample.signed_hold())),
        "state": "open",
        "paid": "0",
        "code": code,
    })
}

fn claims(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, state: &str, paid: u64, claimant: AccountKey| {
        let mut vector = inputs(sample, name, "R-12", "judge_claim", code);
        vector["claim"] = json!(hex::encode(encode(&sample.claim())));
        vector["claimant"] = json!(hex::encode(claimant.0));
        vector["state"] = json!(state);
        vector["paid"] = json!(paid.to_string());
        vector
    };
    let (payee, payer) = (sample.payee.account(), sample.payer.account());
    let too_much = sample.hold.cap.0 - sample.receipt().gross.0 + 1;
    vec![
        case(
            "a claim over what is left in the hold",
            "claim_over_cap",
            "open",
            too_much,
            payee,
        ),
        case("a claim on a released hold", "hold_released", "released", 0, payee),
        case("a claim on an expired hold", "hold_expired", "expired", 0, payee),
        case("a claim by the payer", "wrong_payee", "open", 0, payer),
    ]
}

fn top_ups(sample: &Sample) -> Vec<Value> {
    let cap = sample.hold.cap.0;
    let case = |name: &str, code: &str, revision: u32, cap: u64, balance: u64| {
        let mut vector = inputs(sample, name, "H-08", "top_up", code);
        vector["revision"] = json!(revision);
        vector["cap"] = json!(cap.to_string());
        vector["balance"] = json!(balance.to_string());
        vector
    };
    let mut ended = case("a top-up of a released hold", "hold_released", 0, cap + 1, 1);
    ended["state"] = json!("released");
    vec![
        case("a top-up of another revision", "revision_stale", 1, cap + 1, 1),
        case("a top-up to the same cap", "cap_out_of_range", 0, cap, 1),
        case("a top-up to a smaller cap", "cap_out_of_range", 0, cap - 1, 1),
        case("a top-up over the balance", "insufficient_funds", 0, cap + 2, 1),
        ended,
    ]
}

fn releases(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, paid: Amount, state: &str| {
        let body = Release {
            paid,
            ..sample.release()
        };
        let mut vector = inputs(sample, name, "H-07", "release", code);
        vector["release"] = json!(hex::encode(encode(&Signed::new(body, &sample.payee))));
        vector["paid"] = json!(sample.release().paid);
        vector["state"] = json!(state);
        vector
    };
    let paid = sample.release().paid;
    let one_less = Amount(paid.0 - 1);
    vec![
        case(
            "a release of another sum than the ledger's",
            "release_mismatch",
            one_less,
            "open",
        ),
        case("a release of an expired hold", "hold_expired", paid, "expired"),
    ]
}

fn requests() -> Vec<Value> {
    let case = |name: &str, code: &str, issued_at: Timestamp| {
        json!({
            "name": name,
            "clause": "R-02",
            "operation": "request_time",
            "now": START,
            "issued_at": issued_at,
            "code": code,
        })
    };
    let (old, early) = (START.minus_ms(DAY_MS + 1), START.plus_ms(5 * MINUTE_MS + 1));
    vec![
        case("a request of 24 h and 1 ms ago", "request_expired", old),
        case("a request of 5 min and 1 ms ahead", "request_in_future", early),
    ]
}
