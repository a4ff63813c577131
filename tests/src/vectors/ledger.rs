//! What an escrow must refuse by its records: claims, top-ups, releases, old and early requests.

use super::run::{amount, array, bytes, number, text};
use super::sample::{START, Sample};
use serde_json::{Value, json};
use tombola_core::amount::{Amount, Asset, DAY_MS, MINUTE_MS, Timestamp};
use tombola_core::claim::Claim;
use tombola_core::codec::{decode, encode};
use tombola_core::escrow::{EscrowConfig, HoldRecord, PayerRecord, check_issued, judge, open, release, top_up};
use tombola_core::hold::{Fee, Hold, Release};
use tombola_core::key::{AccountKey, RequestId, Signed};
use tombola_core::limits::OPEN_HOLDS_PER_ACCOUNT_MAX;
use tombola_core::message::{HoldRequest, HoldState, Reference, RequestHeader};
use tombola_core::reject::Reject;

/// Runs one of the operations on records.
pub(crate) fn run(operation: &str, vector: &Value) -> Option<Result<(), Reject>> {
    let outcome = match operation {
        "judge_claim" => judge_claim(vector),
        "open_hold" => open_hold(vector),
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

fn open_hold(vector: &Value) -> Result<(), Reject> {
    let small = |name| u32::try_from(number(vector, name)).expect("a u32");
    let payer = PayerRecord {
        account: AccountKey(array(vector, "payer")),
        balance: amount(vector, "balance"),
        open_holds: small("open_holds"),
        serial: 1,
    };
    let config = EscrowConfig {
        escrow: AccountKey(array(vector, "escrow")),
        asset: Asset::USD,
        name: Reference::default(),
        fee: Fee {
            flat: amount(vector, "fee_flat"),
            ppm: small("fee_ppm"),
        },
        face_value_min: amount(vector, "face_value_min"),
        cap_min: amount(vector, "cap_min"),
        writer: 0,
        payout_fee: Amount::ZERO,
        payout_min: Amount::ZERO,
        epoch: 0,
    };
    let asked: HoldRequest = decode(&bytes(vector, "request"))?;
    open(&asked, &payer, &config, Timestamp(number(vector, "now"))).map(|_| ())
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
    vectors.extend(hold_requests(sample));
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

/// A claim that is good by itself, on the sample hold in a state.
pub(super) fn claim_on(sample: &Sample, name: &str, code: &str, state: &str, paid: u64, claimant: AccountKey) -> Value {
    let mut vector = inputs(sample, name, "R-12", "judge_claim", code);
    vector["claim"] = json!(hex::encode(encode(&sample.claim())));
    vector["claimant"] = json!(hex::encode(claimant.0));
    vector["state"] = json!(state);
    vector["paid"] = json!(paid.to_string());
    vector
}

fn claims(sample: &Sample) -> Vec<Value> {
    let case = |name, code, state, paid, claimant| claim_on(sample, name, code, state, paid, claimant);
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

/// A top-up of the sample hold in a state: revision, cap and balance.
pub(super) fn top_up_of(
    sample: &Sample,
    name: &str,
    code: &str,
    state: &str,
    (revision, cap, balance): (u32, u64, u64),
) -> Value {
    let mut vector = inputs(sample, name, "H-08", "top_up", code);
    vector["state"] = json!(state);
    vector["revision"] = json!(revision);
    vector["cap"] = json!(cap.to_string());
    vector["balance"] = json!(balance.to_string());
    vector
}

fn top_ups(sample: &Sample) -> Vec<Value> {
    let cap = sample.hold.cap.0;
    let case = |name, code, state, numbers| top_up_of(sample, name, code, state, numbers);
    vec![
        case(
            "a top-up of another revision",
            "revision_stale",
            "open",
            (1, cap + 1, 1),
        ),
        case("a top-up to the same cap", "cap_out_of_range", "open", (0, cap, 1)),
        case("a top-up to a smaller cap", "cap_out_of_range", "open", (0, cap - 1, 1)),
        case(
            "a top-up over the balance",
            "insufficient_funds",
            "open",
            (0, cap + 2, 1),
        ),
        case(
            "a top-up of a released hold",
            "hold_released",
            "released",
            (0, cap + 1, 1),
        ),
    ]
}

/// A release of the sample hold in a state.
pub(super) fn release_of(sample: &Sample, name: &str, code: &str, paid: Amount, state: &str) -> Value {
    let body = Release {
        paid,
        ..sample.release()
    };
    let mut vector = inputs(sample, name, "H-07", "release", code);
    vector["release"] = json!(hex::encode(encode(&Signed::new(body, &sample.payee))));
    vector["paid"] = json!(sample.release().paid);
    vector["state"] = json!(state);
    vector
}

fn releases(sample: &Sample) -> Vec<Value> {
    let case = |name, code, paid, state| release_of(sample, name, code, paid, state);
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

/// The sample hold asked for with a change, by a payer that can just afford it.
pub(super) fn hold_request(sample: &Sample, name: &str, code: &str, change: &dyn Fn(&mut HoldRequest)) -> Value {
    let terms = &sample.hold.terms;
    let mut asked = sample.hold_request();
    change(&mut asked);
    json!({
        "name": name,
        "clause": "H-06",
        "operation": "open_hold",
        "request": hex::encode(encode(&asked)),
        "payer": hex::encode(terms.payer.0),
        "escrow": hex::encode(terms.escrow.0),
        "fee_flat": terms.fee.flat,
        "fee_ppm": terms.fee.ppm,
        "face_value_min": terms.face_value_min,
        "cap_min": "1000",
        "open_holds": 0,
        "balance": sample.hold.cap,
        "now": terms.opened_at,
        "code": code,
    })
}

fn hold_requests(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, change: &dyn Fn(&mut HoldRequest)| hold_request(sample, name, code, change);
    let mut many = case("one open hold more than an account may have", "busy", &|_| ());
    many["open_holds"] = json!(OPEN_HOLDS_PER_ACCOUNT_MAX);
    let mut of_nothing = case("a hold of nothing where any cap will do", "cap_out_of_range", &|a| {
        a.cap = Amount::ZERO;
    });
    of_nothing["cap_min"] = json!("0");
    let mut poor = case("a hold over the balance", "insufficient_funds", &|_| ());
    poor["balance"] = json!(Amount(sample.hold.cap.0 - 1));
    let terms = sample.hold.terms;
    vec![
        case("a hold with a face under the escrow's", "face_out_of_range", &|a| {
            a.face_value_min = Amount(terms.face_value_min.0 - 1);
        }),
        case("a hold for longer than 400 days", "time_out_of_range", &|a| {
            a.redeem_by = terms.opened_at.plus_ms(400 * DAY_MS + 1);
        }),
        case("a hold under the escrow's smallest", "cap_out_of_range", &|a| {
            a.cap = Amount(999)
        }),
        of_nothing,
        case("a hold at a flat fee over the payer's limit", "fee_too_high", &|a| {
            a.fee_max.flat.0 -= 1;
        }),
        case("a hold at a share over the payer's limit", "fee_too_high", &|a| {
            a.fee_max.ppm -= 1
        }),
        many,
        poor,
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
