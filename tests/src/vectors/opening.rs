//! What a payee must refuse: openings and tickets, run through its state machine.

use super::run::{amount, array, bytes, number};
use super::sample::{EPOCH, START, Sample, list, threshold};
use serde_json::{Value, json};
use tombola_core::amount::{Amount, Asset, DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Timestamp};
use tombola_core::book::{Anchor, Book, Ticket};
use tombola_core::chain::{Chain, Preimage};
use tombola_core::codec::{decode, encode};
use tombola_core::draw::Commitment;
use tombola_core::hold::{Fee, Hold};
use tombola_core::key::{AccountKey, SecretKey, Signed};
use tombola_core::limits::{
    BOOK_LENGTH_DEFAULT, EXPIRY_MARGIN_MS, HOLD_CHECK_MS, OPENS_PER_SECOND_MAX, REDEEM_WINDOW_MIN_MS,
};
use tombola_core::message::{OpenBook, PayeeRequest};
use tombola_core::odds::Threshold;
use tombola_core::payee::{Payee, PayeeTerms, Taken};
use tombola_core::quote::{EpochSecret, Quote, QuoteTerms};
use tombola_core::reject::{Code, Reject};

/// When the sample book is opened: the sample quote has a minute left.
const OPENED: Timestamp = START.plus_ms(HOUR_MS);

/// Opens a book as a fresh payee of the vector's terms.
pub(crate) fn open(vector: &Value) -> Result<(), Reject> {
    let (mut payee, now) = fresh_payee(vector);
    if vector["first"].is_string() {
        payee
            .open_book(request(vector, "first")?, now)
            .expect("the first opening is good");
    }
    payee.open_book(request(vector, "open")?, now).map(|_| ())
}

/// Shows a hold to a payee, which may have opened a book on it before.
pub(crate) fn present(vector: &Value) -> Result<(), Reject> {
    let (mut payee, now) = fresh_payee(vector);
    if vector["first"].is_string() {
        payee
            .open_book(request(vector, "first")?, now)
            .expect("the first opening is good");
    }
    payee.present_hold(&decode(&bytes(vector, "hold"))?, now).map(|_| ())
}

/// Opens a book, takes good tickets, and then the one that must be refused.
pub(crate) fn take(vector: &Value) -> Result<(), Reject> {
    let (mut payee, now) = fresh_payee(vector);
    let opened = payee.open_book(request(vector, "first")?, now);
    let mut book = opened.expect("the opening is good").book;
    for record in vector["before"].as_array().expect("a list of records") {
        let ticket = Ticket::from_bytes(&array(record, "record"));
        let taken = book.take(&ticket, &mut payee, now);
        assert!(
            matches!(taken, Ok(Taken::Drawn | Taken::Repeat)),
            "the tickets before are good"
        );
    }
    let ticket = Ticket::from_bytes(&array(vector, "ticket"));
    match book.take(&ticket, &mut payee, Timestamp(number(vector, "ticket_at")))? {
        Taken::Exhausted { need, has } => Err(Reject::compared(Code::HoldExhausted, need.0, has.0)),
        Taken::Drawn | Taken::Repeat => Ok(()),
    }
}

fn request(vector: &Value, name: &str) -> Result<OpenBook, Reject> {
    match decode(&bytes(vector, name))? {
        PayeeRequest::OpenBook(open) => Ok(*open),
        other => panic!("{other:?} opens no book"),
    }
}

fn fresh_payee(vector: &Value) -> (Payee, Timestamp) {
    let terms = PayeeTerms {
        payee: AccountKey(array(vector, "payee")),
        asset: Asset::USD,
        escrows: list(vec![]),
        fee_max: Fee {
            flat: amount(vector, "fee_flat_max"),
            ppm: u32::try_from(number(vector, "fee_ppm_max")).expect("a u32"),
        },
        face_value_min: Amount(1),
        face_value_max: Amount(u64::MAX),
        book_length_max: BOOK_LENGTH_DEFAULT,
        jump_max: BOOK_LENGTH_DEFAULT,
        credit_units: 0,
        redeem_at_value: Amount(u64::MAX),
        redeem_window_min_ms: number(vector, "redeem_window_min_ms"),
        hold_life_max_ms: u64::MAX,
        opens_per_second_max: OPENS_PER_SECOND_MAX,
        asks_before: Timestamp(number(vector, "store_since")).plus_ms(HOLD_CHECK_MS),
    };
    let now = Timestamp(number(vector, "now"));
    let secret = EpochSecret::new(array(vector, "epoch_secret"));
    let payee = Payee::new(terms, secret, vec![], vec![], now).expect("an empty store");
    (payee, now)
}

/// An opening before it is signed; tests change one thing of it.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) hold: Hold,
    pub(super) quote: Quote,
    book: Book,
    now: Timestamp,
    pub(super) fee_max: Fee,
    pub(super) window_min_ms: u64,
    pub(super) store_since: Timestamp,
}

impl Draft {
    pub(super) fn new(sample: &Sample) -> Self {
        Self {
            hold: sample.hold,
            quote: sample.quote.clone(),
            book: sample.book,
            now: OPENED,
            fee_max: sample.hold.terms.fee,
            window_min_ms: REDEEM_WINDOW_MIN_MS,
            store_since: START.minus_ms(DAY_MS),
        }
    }

    /// Changes the hold; the book goes with it.
    pub(super) fn hold(mut self, change: impl FnOnce(&mut Hold)) -> Self {
        change(&mut self.hold);
        self.book.hold = self.hold.id();
        self
    }

    /// Makes another quote of the payee; the book goes with it.
    pub(super) fn quote(mut self, change: impl FnOnce(&mut QuoteTerms)) -> Self {
        change(&mut self.quote.terms);
        self.quote = EpochSecret::new(EPOCH).quote(self.quote.terms);
        self.book.commitment = self.quote.commitment;
        self
    }

    pub(super) fn book(mut self, change: impl FnOnce(&mut Book)) -> Self {
        change(&mut self.book);
        self
    }

    pub(super) fn at(mut self, now: Timestamp) -> Self {
        self.now = now;
        self
    }

    pub(super) fn signed(&self, hold_key: &SecretKey, book_key: &SecretKey) -> String {
        let open = OpenBook {
            hold: Signed::new(self.hold, hold_key),
            quote: self.quote.clone(),
            book: Signed::new(self.book, book_key),
        };
        hex::encode(encode(&PayeeRequest::OpenBook(Box::new(open))))
    }

    pub(super) fn vector(&self, sample: &Sample, name: &str, clause: &str, code: &str) -> Value {
        json!({
            "name": name,
            "clause": clause,
            "operation": "open_book",
            "payee": hex::encode(sample.payee.account().0),
            "epoch_secret": hex::encode(EPOCH),
            "fee_flat_max": self.fee_max.flat,
            "fee_ppm_max": self.fee_max.ppm,
            "redeem_window_min_ms": self.window_min_ms,
            "store_since": self.store_since,
            "now": self.now,
            "open": self.signed(&sample.escrow, &sample.payer),
            "code": code,
        })
    }
}

pub(crate) fn invalid(sample: &Sample) -> Vec<Value> {
    let mut vectors = quotes(sample);
    vectors.extend(holds(sample));
    vectors.extend(books(sample));
    vectors.extend(signatures(sample));
    vectors.extend(registering(sample));
    vectors.extend(presenting(sample));
    vectors.extend(tickets(sample));
    vectors
}

fn quotes(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, draft: Draft| draft.vector(sample, name, "B-04", code);
    let draft = || Draft::new(sample);
    let expires_at = sample.quote.terms.expires_at;
    let mut cheaper = draft();
    cheaper.quote.terms.ticket_price = Amount(sample.quote.terms.ticket_price.0 - 1);
    let mut longer = draft();
    longer.quote.terms.expires_at = expires_at.plus_ms(MINUTE_MS);
    let mut recommitted = draft();
    recommitted.quote.commitment = Commitment([0x22; 32]);
    recommitted.book.commitment = recommitted.quote.commitment;
    let used = draft();
    let mut again = used.vector(sample, "a second book on one quote", "Q-05", "commitment_reused");
    again["first"] = again["open"].clone();
    let other_chain = used.clone().book(|b| b.anchor = Anchor([0x44; 32]));
    again["open"] = json!(other_chain.signed(&sample.escrow, &sample.payer));
    let mut same = used.vector(sample, "the same book again", "Q-05", "commitment_reused");
    same["first"] = same["open"].clone();
    vec![
        case("an expired quote", "quote_expired", draft().at(expires_at.plus_ms(1))),
        case("a quote with a lower price", "quote_altered", cheaper),
        case("a quote with a later expiry", "quote_altered", longer),
        case("a quote with another commitment", "quote_altered", recommitted),
        again,
        same,
    ]
}

fn holds(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, draft: Draft| draft.vector(sample, name, "B-04", code);
    let draft = || Draft::new(sample);
    let (payee, signer) = (sample.payee.account(), sample.signer.account());
    let last = sample.hold.terms.expires_at.minus_ms(EXPIRY_MARGIN_MS);
    let late = last.plus_ms(1);
    let late = draft().at(late).quote(|q| q.expires_at = late.plus_ms(MINUTE_MS));
    let mut stricter_fee = draft();
    stricter_fee.fee_max.flat = Amount(sample.hold.terms.fee.flat.0 - 1);
    let mut stricter_share = draft();
    stricter_share.fee_max.ppm -= 1;
    let mut stricter_window = draft();
    stricter_window.window_min_ms = 7 * DAY_MS + 1;
    vec![
        case(
            "a hold of another escrow",
            "wrong_escrow",
            draft().hold(|h| h.terms.escrow = signer),
        ),
        case(
            "a hold of another asset",
            "wrong_asset",
            draft().hold(|h| h.terms.asset.decimals = 6),
        ),
        case(
            "a hold for another payee",
            "hold_not_for_me",
            draft().hold(|h| h.terms.payee = signer),
        ),
        case(
            "the payee's own hold",
            "self_hold",
            draft().hold(|h| h.terms.payer = payee),
        ),
        case(
            "a hold that the payee signs for",
            "self_hold",
            draft().hold(|h| h.terms.signer = payee),
        ),
        case("a hold 60 s less 1 ms before its expiry", "hold_expired", late),
        case(
            "a redeem window under the protocol's",
            "redeem_window_short",
            draft().hold(|h| h.terms.redeem_by = h.terms.expires_at.plus_ms(DAY_MS - 1)),
        ),
        case(
            "a redeem window under the payee's",
            "redeem_window_short",
            stricter_window,
        ),
        case("a flat fee over the payee's limit", "fee_too_high", stricter_fee),
        case("a share over the payee's limit", "fee_too_high", stricter_share),
    ]
}

fn books(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, draft: Draft| draft.vector(sample, name, "B-04", code);
    let draft = || Draft::new(sample);
    let face = sample.book.face_value;
    vec![
        case(
            "a book of another hold",
            "hold_mismatch",
            draft().book(|b| b.hold.0[0] ^= 1),
        ),
        case("an empty book", "book_too_long", draft().book(|b| b.length = 0)),
        case(
            "a book over the hold's length",
            "book_too_long",
            draft().hold(|h| h.terms.book_length_max = 63),
        ),
        case(
            "a book over the quote's length",
            "book_too_long",
            draft().quote(|q| q.book_length_max = 63),
        ),
        case(
            "a face value under the hold's",
            "face_out_of_range",
            draft().hold(|h| h.terms.face_value_min = Amount(face.0 + 1)),
        ),
        case(
            "a face value over the quote's",
            "face_out_of_range",
            draft().quote(|q| q.face_value_max = Amount(face.0 - 1)),
        ),
        case(
            "a face value under the quote's",
            "face_out_of_range",
            draft().quote(|q| q.face_value_min = Amount(face.0 + 1)),
        ),
        case(
            "a book on another commitment",
            "commitment_mismatch",
            draft().book(|b| b.commitment = Commitment([0x55; 32])),
        ),
        case(
            "a face value under the price",
            "bad_terms",
            draft().quote(|q| q.ticket_price = Amount(face.0 + 1)),
        ),
        case(
            "odds one step too low",
            "odds_too_low",
            draft().book(|b| b.threshold = Threshold(threshold(100_000, 1_000_000).0 - 1)),
        ),
    ]
}

fn signatures(sample: &Sample) -> Vec<Value> {
    let case = |name: &str, code: &str, draft: &Draft, hold_key: &SecretKey, book_key: &SecretKey| {
        let mut vector = draft.vector(sample, name, "B-04", code);
        vector["open"] = json!(draft.signed(hold_key, book_key));
        vector
    };
    let draft = Draft::new(sample);
    let weak = AccountKey(super::crafted::identity());
    let weak_signer = draft.clone().hold(|h| h.terms.signer = weak);
    let weak_escrow = draft
        .clone()
        .quote(|q| q.escrows = list(vec![weak]))
        .hold(|h| h.terms.escrow = weak);
    let (escrow, payer, signer) = (&sample.escrow, &sample.payer, &sample.signer);
    vec![
        case("a hold that the payer signed", "bad_signature", &draft, payer, payer),
        case(
            "a book that the hold's signer did not sign",
            "bad_signature",
            &draft,
            escrow,
            signer,
        ),
        case(
            "a hold whose signer is the identity",
            "bad_key",
            &weak_signer,
            escrow,
            payer,
        ),
        case("an escrow that is the identity", "bad_key", &weak_escrow, escrow, payer),
    ]
}

fn registering(sample: &Sample) -> Vec<Value> {
    let mut restored = Draft::new(sample);
    restored.store_since = restored.hold.terms.opened_at;
    vec![restored.vector(
        sample,
        "a hold opened before the store was restored",
        "B-06",
        "hold_unchecked",
    )]
}

fn presenting(sample: &Sample) -> Vec<Value> {
    let raised = Hold {
        revision: 1,
        cap: Amount(sample.hold.cap.0 + 1),
        ..sample.hold
    };
    let case = |name: &str, code: &str, key: &SecretKey| {
        let mut vector = Draft::new(sample).vector(sample, name, "P-06", code);
        vector["operation"] = json!("present_hold");
        vector["hold"] = json!(hex::encode(encode(&Signed::new(raised, key))));
        let first = vector.as_object_mut().expect("a vector is an object").remove("open");
        (vector, first)
    };
    let (unknown, _) = case("a topped-up hold that has no book", "hold_unknown", &sample.escrow);
    let (mut forged, first) = case("a topped-up hold that the payer signed", "bad_signature", &sample.payer);
    forged["first"] = json!(first);
    vec![unknown, forged]
}

fn tickets(sample: &Sample) -> Vec<Value> {
    let draft = Draft::new(sample);
    let case = |name: &str, code: &str, before: &[u32], ticket: Ticket| {
        ticket_case(sample, &draft, name, code, before, ticket)
    };
    let mut other = Chain::new(Preimage([0x5b; 32]), sample.book.length);
    let foreign = |chain: &mut Chain, index| Ticket {
        index,
        preimage: chain.preimage(index).expect("an index of the chain"),
    };
    let off_by_one = Ticket {
        index: 4,
        ..sample.ticket(5)
    };
    let short_jumps = draft.clone().quote(|q| q.jump_max = 8);
    let last = sample.hold.terms.expires_at.minus_ms(EXPIRY_MARGIN_MS);
    let mut late = case(
        "a ticket too close to the hold's expiry",
        "hold_expired",
        &[1],
        sample.ticket(2),
    );
    late["ticket_at"] = json!(last.plus_ms(1));
    vec![
        case(
            "index 0",
            "index_zero",
            &[1],
            Ticket {
                index: 0,
                ..sample.ticket(1)
            },
        ),
        case(
            "an index past the end",
            "index_past_end",
            &[1],
            Ticket {
                index: sample.book.length + 1,
                ..sample.ticket(1)
            },
        ),
        case(
            "the preimage of another chain",
            "chain_broken",
            &[],
            foreign(&mut other, 1),
        ),
        case(
            "a jump to another chain",
            "chain_broken",
            &[1, 2],
            foreign(&mut other, 20),
        ),
        case("a preimage under another index", "chain_broken", &[3], off_by_one),
        ticket_case(
            sample,
            &short_jumps,
            "a jump of 9 where 8 are allowed",
            "jump_too_long",
            &[8, 16],
            sample.ticket(25),
        ),
        late,
        exhausted(sample),
    ]
}

/// A hold with room for one winner: the ticket after it is kept, not drawn.
fn exhausted(sample: &Sample) -> Value {
    let draft = Draft::new(sample)
        .hold(|h| h.cap = sample.book.face_value)
        .book(|b| b.threshold = Threshold::ALWAYS);
    let name = "a ticket without room for a winner";
    let mut vector = ticket_case(sample, &draft, name, "hold_exhausted", &[1], sample.ticket(2));
    vector["clause"] = json!("B-11");
    vector
}

pub(super) fn ticket_case(
    sample: &Sample,
    draft: &Draft,
    name: &str,
    code: &str,
    before: &[u32],
    ticket: Ticket,
) -> Value {
    let records = before.iter().map(|index| sample.ticket(*index));
    let records: Vec<Value> = records
        .map(|ticket| json!({"record": hex::encode(ticket.to_bytes())}))
        .collect();
    let mut vector = draft.vector(sample, name, "B-07", code);
    vector["operation"] = json!("take_ticket");
    vector["first"] = vector["open"].take();
    vector["before"] = json!(records);
    vector["ticket"] = json!(hex::encode(ticket.to_bytes()));
    vector["ticket_at"] = json!(draft.now.plus_ms(SECOND_MS));
    vector.as_object_mut().expect("a vector is an object").remove("open");
    vector
}
