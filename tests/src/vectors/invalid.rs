//! What must be refused, and with which code. All inputs are hex, so that other implementations can run it.

use super::sample::Sample;
use super::{File, crafted, run};
use serde_json::{Value, json};
use tombola_core::amount::Amount;
use tombola_core::book::Book;
use tombola_core::chain::Preimage;
use tombola_core::claim::Claim;
use tombola_core::codec::{MESSAGE_BYTES_MAX, encode};
use tombola_core::draw::Reveal;
use tombola_core::hold::Hold;
use tombola_core::key::{Signature, Signed};
use tombola_core::limits::{BOOK_LENGTH_MAX, ESCROWS_MAX, REDEEM_WINDOW_MIN_MS, SERVICE_BYTES_MAX};
use tombola_core::message::PayeeRequest;
use tombola_core::odds::Threshold;

pub(crate) fn all(sample: &Sample) -> File {
    let mut vectors = encodings(sample);
    vectors.extend(lengths_and_texts(sample));
    vectors.extend(keys(sample));
    vectors.extend(signatures(sample));
    vectors.extend(signed_objects(sample));
    vectors.extend(holds(sample));
    vectors.extend(odds());
    vectors.extend(claims(sample));
    vectors.extend(claim_proofs(sample));
    vectors.extend(super::opening::invalid(sample));
    vectors.extend(super::ledger::invalid(sample));
    vectors.extend(super::custody::invalid(sample));
    vectors.extend(super::precedence::all(sample));
    File::new(
        "What must be refused: run `operation` on the inputs and compare the code and both numbers. X-04 says what each \
         operation does.",
        vectors.into_iter().map(with_numbers).collect(),
    )
}

/// Adds the two numbers that the code names; the second implementation has them from the specification and must agree.
fn with_numbers(mut vector: Value) -> Value {
    let refused = run::invalid(&vector).expect_err("what must be refused is refused");
    vector["need"] = json!(refused.need.to_string());
    vector["has"] = json!(refused.has.to_string());
    vector
}

fn encodings(sample: &Sample) -> Vec<Value> {
    let hold = encode(&sample.signed_hold());
    let trailing = [&hold[..], &[0]].concat();
    let truncated = &hold[..hold.len() - 1];
    let info = encode(&PayeeRequest::Services { after: None });
    let mut option = info.clone();
    option[4] = 2;
    let quote = encode(&sample.quote);
    let mut unknown_request = info.clone();
    unknown_request[0] = 5;
    let mut far_request = info;
    far_request[3] = 0x80;
    vec![
        undecodable("a trailing byte", "E-02", "Signed<Hold>", &trailing),
        undecodable("the last byte is missing", "E-02", "Signed<Hold>", truncated),
        undecodable("no bytes at all", "E-02", "Quote", &[]),
        undecodable("a trailing quote", "E-02", "Quote", &[&quote[..], &quote[..]].concat()),
        undecodable("an unknown request", "E-03", "PayeeRequest", &unknown_request),
        undecodable("a request number over 2^31", "E-03", "PayeeRequest", &far_request),
        undecodable("Option byte 2", "E-03", "PayeeRequest", &option),
        undecodable("an unknown answer", "E-03", "EscrowAnswer", &[15, 0, 0, 0]),
        undecodable(
            "an unknown code",
            "X-01",
            "Reject",
            &[&[0xff, 0xff][..], &[0; 16]].concat(),
        ),
        undecodable("code 0", "X-01", "Reject", &[0; 18]),
        undecodable("a ticket of 35 bytes", "T-01", "Ticket", &[0; 35]),
        undecodable("a ticket of 37 bytes", "T-01", "Ticket", &[0; 37]),
    ]
}

fn lengths_and_texts(sample: &Sample) -> Vec<Value> {
    let quote_of = |service: &[u8]| {
        let length = u64::try_from(service.len()).expect("a short text");
        [&[1, 0, 0, 0][..], &length.to_le_bytes()[..], service, &[0]].concat()
    };
    let mut endless = quote_of(b"tip");
    endless[4..12].copy_from_slice(&(1u64 << 40).to_le_bytes());
    let escrows = encode(&vec![sample.escrow.account(); ESCROWS_MAX + 1]);
    let quote = encode(&sample.quote);
    // The list of one escrow and the commitment are the last 8 + 32 + 32 bytes.
    let long_list = [&quote[..quote.len() - 72], &escrows[..], &quote[quote.len() - 32..]].concat();
    let too_large = json!({
        "name": "65,537 bytes",
        "clause": "N-04",
        "operation": "decode",
        "type": "Quote",
        "bytes": {"byte": "00", "count": MESSAGE_BYTES_MAX + 1},
        "code": "too_large",
    });
    vec![
        undecodable(
            "a service name over its limit",
            "E-06",
            "PayeeRequest",
            &quote_of(&[b'a'; SERVICE_BYTES_MAX + 1]),
        ),
        undecodable(
            "text that is not UTF-8",
            "E-06",
            "PayeeRequest",
            &quote_of(&[0xc3, 0x28]),
        ),
        undecodable(
            "text with a control character",
            "E-06",
            "PayeeRequest",
            &quote_of(b"a\x07b"),
        ),
        undecodable("a length of 2^40", "E-06", "PayeeRequest", &endless),
        undecodable("nine escrows in a quote", "E-06", "Quote", &long_list),
        too_large,
    ]
}

fn undecodable(name: &str, clause: &str, kind: &str, bytes: &[u8]) -> Value {
    json!({
        "name": name,
        "clause": clause,
        "operation": "decode",
        "type": kind,
        "bytes": hex::encode(bytes),
        "code": "malformed",
    })
}

fn keys(sample: &Sample) -> Vec<Value> {
    let bad = |name: &str, key: [u8; 32]| {
        json!({
            "name": name,
            "clause": "K-02",
            "operation": "check_key",
            "key": hex::encode(key),
            "code": "bad_key",
        })
    };
    let small = |n: usize| crafted::torsion(n).compress().to_bytes();
    vec![
        bad("the identity", crafted::identity()),
        bad("the identity with the sign bit set", crafted::negative_zero()),
        bad("a key of order 2", small(4)),
        bad("a key of order 4", small(2)),
        bad("a key of order 8", small(1)),
        bad(
            "a key with a torsion component",
            crafted::key_with_torsion(&sample.payer.account().0),
        ),
        bad("a key whose y is not reduced", crafted::key_not_reduced()),
        bad("a key that is not on the curve", crafted::key_off_curve()),
    ]
}

fn signatures(sample: &Sample) -> Vec<Value> {
    let message = b"tombola";
    let seed = *sample.payer.seed();
    let good = sample.payer.sign_bytes(message);
    let payer = sample.payer.account().0;
    let mut flipped = good.0;
    flipped[40] ^= 1;
    let case = |name: &str, key: [u8; 32], signature: [u8; 64], code: &str| {
        json!({
            "name": name,
            "clause": "K-04",
            "operation": "verify_bytes",
            "key": hex::encode(key),
            "message": hex::encode(message),
            "signature": hex::encode(signature),
            "code": code,
        })
    };
    let torsion = |n| crafted::torsion_in_r(&seed, message, n);
    let bad = "bad_signature";
    vec![
        case("one bit of s flipped", payer, flipped, bad),
        case("another's signature", payer, sample.payee.sign_bytes(message).0, bad),
        case("s is l too large", payer, crafted::s_not_reduced(&good.0), bad),
        case("R with a component of order 2", payer, torsion(4), bad),
        case("R with a component of order 4", payer, torsion(2), bad),
        case("R with a component of order 8", payer, torsion(1), bad),
        case("R is the identity", payer, crafted::small_order_r(&seed, message), bad),
        case(
            "R is the identity, not reduced",
            payer,
            crafted::small_order_r_not_reduced(&seed, message),
            bad,
        ),
        case(
            "the identity as key, R = B, s = 1",
            crafted::identity(),
            crafted::base_point_signature(),
            "bad_key",
        ),
        case("all zero", payer, [0; 64], bad),
    ]
}

fn signed_objects(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, kind: &str, object: Vec<u8>, key: [u8; 32]| {
        json!({
            "name": name,
            "clause": "E-04",
            "operation": "verify_object",
            "type": kind,
            "object": hex::encode(object),
            "key": hex::encode(key),
            "code": "bad_signature",
        })
    };
    let hold = sample.signed_hold();
    let escrow = sample.escrow.account().0;
    let untagged = Signed {
        body: sample.hold,
        signature: sample.escrow.sign_bytes(&encode(&sample.hold)),
    };
    let mut raised = hold;
    raised.body.cap = Amount(hold.body.cap.0 + 1);
    let release = encode(&sample.release());
    let wrong_tag = [&b"tombola/hold/v1\0\0\0\0\0\0\0\0\0"[..], &release[..]].concat();
    let wrong_tag = Signed {
        body: sample.release(),
        signature: sample.payee.sign_bytes(&wrong_tag),
    };
    let mut other_face = sample.signed_book();
    other_face.body.face_value = Amount(other_face.body.face_value.0 + 1);
    vec![
        case(
            "a hold signed without its tag",
            "Signed<Hold>",
            encode(&untagged),
            escrow,
        ),
        case("a hold whose cap was raised", "Signed<Hold>", encode(&raised), escrow),
        case(
            "a release signed under the tag of holds",
            "Signed<Release>",
            encode(&wrong_tag),
            sample.payee.account().0,
        ),
        case(
            "a book whose face value was changed",
            "Signed<Book>",
            encode(&other_face),
            sample.payer.account().0,
        ),
        case(
            "a receipt signed by the payee",
            "Signed<Receipt>",
            encode(&Signed::new(sample.receipt(), &sample.payee)),
            escrow,
        ),
    ]
}

/// The sample hold with a change that H-03 refuses.
pub(super) fn hold_shape(sample: &Sample, name: &str, code: &str, change: &dyn Fn(&mut Hold)) -> Value {
    let mut hold = sample.hold;
    change(&mut hold);
    json!({
        "name": name,
        "clause": "H-03",
        "operation": "check_hold",
        "hold": hex::encode(encode(&Signed::new(hold, &sample.escrow))),
        "code": code,
    })
}

fn holds(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, change: &dyn Fn(&mut Hold)| hold_shape(sample, name, code, change);
    let payee = sample.payee.account();
    vec![
        case("a hold of the payee for itself", "self_hold", &|h| {
            h.terms.payer = payee
        }),
        case("a hold whose signer is the payee", "self_hold", &|h| {
            h.terms.signer = payee
        }),
        case("faces from 0", "face_out_of_range", &|h| {
            h.terms.face_value_min = Amount::ZERO
        }),
        case("no face is in the range", "face_out_of_range", &|h| {
            h.terms.face_value_min = Amount(h.terms.face_value_max.0 + 1);
        }),
        case("books of no ticket", "book_too_long", &|h| h.terms.book_length_max = 0),
        case("books over the limit", "book_too_long", &|h| {
            h.terms.book_length_max = BOOK_LENGTH_MAX + 1;
        }),
        case("expires as it opens", "time_out_of_range", &|h| {
            h.terms.expires_at = h.terms.opened_at
        }),
        case("a redeem window of 24 h less 1 ms", "redeem_window_short", &|h| {
            h.terms.redeem_by = h.terms.expires_at.plus_ms(REDEEM_WINDOW_MIN_MS - 1);
        }),
    ]
}

fn odds() -> Vec<Value> {
    let pairs = [
        ("a price of 0", 0, 5),
        ("a price over the face value", 6, 5),
        ("a face value of 0", 1, 0),
    ];
    let case = |(name, price, face): (&str, u64, u64)| {
        json!({
            "name": name,
            "clause": "O-02",
            "operation": "threshold",
            "price": price.to_string(),
            "face_value": face.to_string(),
            "code": "bad_terms",
        })
    };
    pairs.map(case).into()
}

fn claims(sample: &Sample) -> Vec<Value> {
    let good = sample.claim();
    let resigned = |change: &dyn Fn(&mut Book)| {
        let mut book = sample.book;
        change(&mut book);
        Claim {
            book: Signed::new(book, &sample.payer),
            ..good
        }
    };
    let case = |name: &str, code: &str, claim: Claim| claim_case(sample, name, code, &sample.hold, &claim);
    let mut small_faces = sample.hold;
    small_faces.terms.face_value_max = Amount(sample.book.face_value.0 - 1);
    let on_small_faces = resigned(&|b| b.hold = small_faces.id());
    let mut short_books = sample.hold;
    short_books.terms.book_length_max = sample.book.length - 1;
    let on_short_books = resigned(&|b| b.hold = short_books.id());
    vec![
        case(
            "a book of another hold",
            "hold_mismatch",
            resigned(&|b| b.hold.0[0] ^= 1),
        ),
        case("an empty book", "book_too_long", resigned(&|b| b.length = 0)),
        claim_case(
            sample,
            "a book over the hold's length",
            "book_too_long",
            &short_books,
            &on_short_books,
        ),
        claim_case(
            sample,
            "a face over the hold's range",
            "face_out_of_range",
            &small_faces,
            &on_small_faces,
        ),
        case(
            "a face under the hold's range",
            "face_out_of_range",
            resigned(&|b| b.face_value = Amount(sample.hold.terms.face_value_min.0 - 1)),
        ),
        case("a claim through index 0", "index_zero", Claim { through: 0, ..good }),
        case(
            "a claim past the end of its book",
            "index_past_end",
            Claim {
                through: sample.book.length + 1,
                ..good
            },
        ),
        case(
            "a claim with another reveal",
            "commitment_mismatch",
            Claim {
                reveal: Reveal([0x11; 32]),
                ..good
            },
        ),
    ]
}

fn claim_proofs(sample: &Sample) -> Vec<Value> {
    let good = sample.claim();
    let case = |name: &str, code: &str, claim: Claim| claim_case(sample, name, code, &sample.hold, &claim);
    let losing = (1..=sample.book.length).find(|index| !sample.winners().contains(index));
    let losing = sample.ticket(losing.expect("the sample book has losers"));
    let mut book_by_payee = good;
    book_by_payee.book = Signed::new(sample.book, &sample.payee);
    let mut torsion = good;
    torsion.book.signature = crafted_book_signature(sample);
    let mut always = sample.book;
    always.threshold = Threshold::ALWAYS;
    let off_chain = Claim {
        book: Signed::new(always, &sample.payer),
        preimage: Preimage([0x33; 32]),
        ..good
    };
    let mut rich = sample.hold;
    rich.terms.face_value_max = Amount(u64::MAX);
    let mut huge = always;
    huge.hold = rich.id();
    huge.face_value = Amount(u64::MAX);
    let over = Claim {
        book: Signed::new(huge, &sample.payer),
        ..good
    };
    vec![
        case(
            "a claim whose top index does not win",
            "claim_does_not_win",
            Claim {
                through: losing.index,
                preimage: losing.preimage,
                ..good
            },
        ),
        case(
            "a claim of a book that the payee signed",
            "bad_signature",
            book_by_payee,
        ),
        case("a claim of a book with torsion in R", "bad_signature", torsion),
        case("a claim off its book's chain", "chain_broken", off_chain),
        claim_case(sample, "winners worth over 2^64", "claim_over_cap", &rich, &over),
    ]
}

/// The payer's own signature on the sample book, with a component of order 8 in R.
fn crafted_book_signature(sample: &Sample) -> Signature {
    let covered = tombola_core::codec::tagged_bytes(<Book as tombola_core::key::Tagged>::TAG, &sample.book);
    Signature(crafted::torsion_in_r(&sample.payer.seed(), &covered, 1))
}

pub(super) fn claim_case(sample: &Sample, name: &str, code: &str, hold: &Hold, claim: &Claim) -> Value {
    json!({
        "name": name,
        "clause": "R-11",
        "operation": "verify_claim",
        "hold": hex::encode(encode(&Signed::new(*hold, &sample.escrow))),
        "claim": hex::encode(encode(claim)),
        "code": code,
    })
}
