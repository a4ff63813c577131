//! What breaks two rules at once gets the code of the earlier one: the order of the rules is a part of the protocol.

use super::invalid::{claim_case, hold_shape};
use super::ledger::{claim_on, hold_request, release_of, top_up_of};
use super::opening::{Draft, ticket_case};
use super::run::text;
use super::sample::{Sample, list};
use serde_json::{Value, json};
use tombola_core::amount::{Amount, DAY_MS, MINUTE_MS};
use tombola_core::book::{Book, Ticket};
use tombola_core::chain::Preimage;
use tombola_core::claim::Claim;
use tombola_core::draw::{Commitment, Reveal};
use tombola_core::hold::Hold;
use tombola_core::key::{AccountKey, Signed};
use tombola_core::limits::{BOOK_LENGTH_MAX, EXPIRY_MARGIN_MS};
use tombola_core::message::HoldRequest;
use tombola_core::odds::Threshold;

pub(crate) fn all(sample: &Sample) -> Vec<Value> {
    let mut vectors = shapes(sample);
    vectors.extend(holds_asked_for(sample));
    vectors.extend(openings_before_the_book(sample));
    vectors.extend(openings_from_the_book_on(sample));
    vectors.extend(tickets(sample));
    vectors.extend(claims(sample));
    vectors.extend(records(sample));
    vectors
}

/// H-03, each rule with the one after it.
fn shapes(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, change: &dyn Fn(&mut Hold)| hold_shape(sample, name, code, change);
    vec![
        case("a hold for itself, faces from 0", "self_hold", &|h| {
            h.terms.payer = h.terms.payee;
            h.terms.face_value_min = Amount::ZERO;
        }),
        case("faces from 0, books of no ticket", "face_out_of_range", &|h| {
            h.terms.face_value_min = Amount::ZERO;
            h.terms.book_length_max = 0;
        }),
        case("books over the limit, expires as it opens", "book_too_long", &|h| {
            h.terms.book_length_max = BOOK_LENGTH_MAX + 1;
            h.terms.expires_at = h.terms.opened_at;
        }),
        case("expires as it opens, no redeem window", "time_out_of_range", &|h| {
            h.terms.expires_at = h.terms.opened_at;
            h.terms.redeem_by = h.terms.opened_at;
        }),
    ]
}

/// H-06, each rule with the one after it.
fn holds_asked_for(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, change: &dyn Fn(&mut HoldRequest)| hold_request(sample, name, code, change);
    let too_far = |asked: &mut HoldRequest| asked.redeem_by = sample.hold.terms.opened_at.plus_ms(400 * DAY_MS + 1);
    let mut crowded = case(
        "a flat fee over the payer's limit, a hold too many",
        "fee_too_high",
        &|a| {
            a.fee_max.flat.0 -= 1;
        },
    );
    crowded["open_holds"] = json!(1_000);
    let mut poor = case("a hold too many, over the balance", "busy", &|_| ());
    poor["open_holds"] = json!(1_000);
    poor["balance"] = json!("0");
    vec![
        case("a hold asked for by its payee, a face too small", "self_hold", &|a| {
            a.signer = a.payee;
            a.face_value_min = Amount(999);
        }),
        case("a face too small, redeemed too late", "face_out_of_range", &|a| {
            a.face_value_min = Amount(999);
            too_far(a);
        }),
        case("redeemed too late, a cap too small", "time_out_of_range", &|a| {
            too_far(a);
            a.cap = Amount(999);
        }),
        case(
            "a cap too small, a fee over the payer's limit",
            "cap_out_of_range",
            &|a| {
                a.cap = Amount(999);
                a.fee_max.ppm -= 1;
            },
        ),
        case("both parts of the fee over the payer's limit", "fee_too_high", &|a| {
            a.fee_max.flat.0 -= 1;
            a.fee_max.ppm -= 1;
        }),
        crowded,
        poor,
    ]
}

/// B-04 up to the hold's own terms, each rule with the one after it.
fn openings_before_the_book(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, draft: Draft| draft.vector(sample, name, "B-04", code);
    let draft = || Draft::new(sample);
    let (payee, signer) = (sample.payee.account(), sample.signer.account());
    let mut expired = draft().at(sample.quote.terms.expires_at.plus_ms(1));
    expired.quote.commitment = Commitment([0x22; 32]);
    let mut altered = draft().hold(|h| h.terms.escrow = signer);
    altered.quote.commitment = Commitment([0x22; 32]);
    let last = sample.hold.terms.expires_at.minus_ms(EXPIRY_MARGIN_MS);
    let late = || {
        let late = last.plus_ms(1);
        draft().at(late).quote(|q| q.expires_at = late.plus_ms(MINUTE_MS))
    };
    let mut late_and_short = late();
    late_and_short.window_min_ms = 7 * DAY_MS + 1;
    let mut short_and_dear = draft();
    short_and_dear.window_min_ms = 7 * DAY_MS + 1;
    short_and_dear.fee_max.ppm -= 1;
    let used = draft();
    let mut again = case(
        "a second book on one quote, of another escrow",
        "commitment_reused",
        draft().hold(|h| h.terms.escrow = signer),
    );
    again["first"] = json!(text(&case("", "", used), "open"));
    vec![
        case("a quote expired and altered", "quote_expired", expired),
        case("a quote altered, a hold of another escrow", "quote_altered", altered),
        again,
        case(
            "a hold of another escrow and asset",
            "wrong_escrow",
            draft().hold(|h| {
                h.terms.escrow = signer;
                h.terms.asset.decimals = 6;
            }),
        ),
        case(
            "a hold of another asset for another payee",
            "wrong_asset",
            draft().hold(|h| {
                h.terms.asset.decimals = 6;
                h.terms.payee = signer;
            }),
        ),
        case(
            "a hold for another payee, of its own",
            "hold_not_for_me",
            draft().hold(|h| {
                h.terms.payee = signer;
                h.terms.payer = signer;
            }),
        ),
        case(
            "the payee's own hold, too late",
            "self_hold",
            late().hold(|h| h.terms.payer = payee),
        ),
        case("a hold too late, its window too short", "hold_expired", late_and_short),
        case(
            "a window too short, a fee too high",
            "redeem_window_short",
            short_and_dear,
        ),
    ]
}

/// B-04 from the hold's fee on, each rule with the one after it.
fn openings_from_the_book_on(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, draft: Draft| draft.vector(sample, name, "B-04", code);
    let draft = || Draft::new(sample);
    let face = sample.book.face_value;
    let other = Commitment([0x55; 32]);
    let mut dear = draft().book(|b| b.hold.0[0] ^= 1);
    dear.fee_max.flat = Amount(sample.hold.terms.fee.flat.0 - 1);
    let low = draft().book(|b| b.threshold = Threshold(b.threshold.0 - 1));
    let mut low_and_forged = case(
        "odds too low, a hold that the payer signed",
        "odds_too_low",
        low.clone(),
    );
    low_and_forged["open"] = json!(low.signed(&sample.payer, &sample.payer));
    let mut unchecked = draft();
    unchecked.store_since = unchecked.hold.terms.opened_at;
    let mut forged = unchecked.vector(
        sample,
        "a book that another signed, on a hold to be checked",
        "B-05",
        "bad_signature",
    );
    forged["open"] = json!(unchecked.signed(&sample.escrow, &sample.signer));
    let weak = AccountKey(super::crafted::identity());
    let weak = draft()
        .quote(|q| q.escrows = list(vec![weak]))
        .hold(|h| h.terms.escrow = weak);
    let mut weak_and_forged = case(
        "an escrow that is the identity, a book that another signed",
        "bad_key",
        weak.clone(),
    );
    weak_and_forged["open"] = json!(weak.signed(&sample.escrow, &sample.signer));
    vec![
        case("a fee too high, a book of another hold", "fee_too_high", dear),
        case(
            "a book of another hold, empty",
            "hold_mismatch",
            draft().book(|b| {
                b.hold.0[0] ^= 1;
                b.length = 0;
            }),
        ),
        case(
            "an empty book, a face under the hold's",
            "book_too_long",
            draft().book(|b| {
                b.length = 0;
                b.face_value = Amount(1);
            }),
        ),
        case(
            "a face under the hold's, on another commitment",
            "face_out_of_range",
            draft().book(|b| {
                b.face_value = Amount(1);
                b.commitment = other;
            }),
        ),
        case(
            "another commitment, over the quote's length",
            "commitment_mismatch",
            draft().quote(|q| q.book_length_max = 63).book(|b| b.commitment = other),
        ),
        case(
            "over the quote's length, over its faces",
            "book_too_long",
            draft().quote(|q| {
                q.book_length_max = 63;
                q.face_value_max = Amount(face.0 - 1);
            }),
        ),
        case(
            "under the quote's faces and the price",
            "face_out_of_range",
            draft().quote(|q| {
                q.face_value_min = Amount(face.0 + 1);
                q.ticket_price = Amount(face.0 + 1);
            }),
        ),
        case(
            "a face under the price, odds too low",
            "bad_terms",
            draft()
                .quote(|q| q.ticket_price = Amount(face.0 + 1))
                .book(|b| b.threshold = Threshold(0)),
        ),
        low_and_forged,
        weak_and_forged,
        forged,
    ]
}

/// B-07, each rule with the one after it.
fn tickets(sample: &Sample) -> Vec<Value> {
    let draft = Draft::new(sample).quote(|q| q.jump_max = 8);
    let foreign = |index| Ticket {
        index,
        preimage: Preimage([0x33; 32]),
    };
    let case = |name: &str, code: &str, ticket| ticket_case(sample, &draft, name, code, &[1], ticket);
    let late = |mut vector: Value| {
        let last = sample.hold.terms.expires_at.minus_ms(EXPIRY_MARGIN_MS);
        vector["ticket_at"] = json!(last.plus_ms(1));
        vector
    };
    vec![
        late(case(
            "past the end, too late",
            "index_past_end",
            foreign(sample.book.length + 1),
        )),
        late(case("too late, a jump too far", "hold_expired", sample.ticket(10))),
        case("a jump too far, off the chain", "jump_too_long", foreign(10)),
    ]
}

/// R-11, each rule with the one after it.
fn claims(sample: &Sample) -> Vec<Value> {
    let good = sample.claim();
    let case = |name: &str, code: &str, claim: Claim| claim_case(sample, name, code, &sample.hold, &claim);
    let reveal = Reveal([0x11; 32]);
    let by_payee = |book: Book| Signed::new(book, &sample.payee);
    let losing = (1..=sample.book.length).find(|index| !sample.winners().contains(index));
    let losing = sample.ticket(losing.expect("the sample book has losers"));
    let mut always = sample.book;
    always.threshold = Threshold::ALWAYS;
    vec![
        case(
            "a claim through index 0 of another hold's book",
            "hold_mismatch",
            Claim {
                book: {
                    let mut book = sample.book;
                    book.hold.0[0] ^= 1;
                    Signed::new(book, &sample.payer)
                },
                through: 0,
                ..good
            },
        ),
        case(
            "a claim through index 0 with another reveal",
            "index_zero",
            Claim {
                through: 0,
                reveal,
                ..good
            },
        ),
        case(
            "a claim past the end with another reveal",
            "index_past_end",
            Claim {
                through: sample.book.length + 1,
                reveal,
                ..good
            },
        ),
        case(
            "a claim with another reveal that does not win",
            "commitment_mismatch",
            Claim {
                reveal,
                through: losing.index,
                preimage: losing.preimage,
                ..good
            },
        ),
        case(
            "a claim that does not win, of a book that the payee signed",
            "claim_does_not_win",
            Claim {
                book: by_payee(sample.book),
                through: losing.index,
                preimage: losing.preimage,
                ..good
            },
        ),
        case(
            "a claim off its chain, of a book that the payee signed",
            "bad_signature",
            Claim {
                book: by_payee(always),
                preimage: Preimage([0x33; 32]),
                ..good
            },
        ),
    ]
}

/// R-12, H-08 and H-07.
fn records(sample: &Sample) -> Vec<Value> {
    let (payee, payer) = (sample.payee.account(), sample.payer.account());
    let cap = sample.hold.cap.0;
    let paid = sample.release().paid;
    vec![
        claim_on(
            sample,
            "a claim by the payer on a released hold",
            "wrong_payee",
            "released",
            0,
            payer,
        ),
        claim_on(
            sample,
            "a claim over the cap of an expired hold",
            "hold_expired",
            "expired",
            cap,
            payee,
        ),
        top_up_of(
            sample,
            "a top-up of a released hold in another revision",
            "hold_released",
            "released",
            (1, cap + 1, 1),
        ),
        top_up_of(
            sample,
            "a top-up of another revision to the same cap",
            "revision_stale",
            "open",
            (1, cap, 1),
        ),
        release_of(
            sample,
            "a release of another sum on an expired hold",
            "release_mismatch",
            Amount(paid.0 - 1),
            "expired",
        ),
    ]
}
