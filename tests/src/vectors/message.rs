//! Vectors of every message on the wire.

use super::File;
use super::run::typed;
use super::sample::{START, Sample, list, service};
use serde_json::{Value, json};
use tombola_core::amount::{Amount, Asset, DAY_MS, HOUR_MS, Timestamp};
use tombola_core::claim::Head;
use tombola_core::hold::Fee;
use tombola_core::message::{
    AccountState, BookFrame, Charge, ClaimAnswer, ContentHash, EscrowAnswer, EscrowCommand, EscrowInfo, EscrowRequest,
    HoldState, HoldStatus, OpenBook, PayeeAnswer, PayeeRequest, Phase, Reference, ResponseHeader, ServiceOffer,
    StatementEntry, StatementKind, StatementPage, TransferReceipt,
};
use tombola_core::reject::{Code, Reject};

pub(crate) fn payee(sample: &Sample) -> File {
    let mut vectors = payee_requests(sample);
    vectors.extend(payee_answers(sample));
    vectors.extend(book_frames(sample));
    vectors.push(named("a ticket record", typed("Ticket", &sample.ticket(7))));
    File::new(
        "Every message between payer and payee, and a ticket record. P-01 to P-05, T-01.",
        vectors,
    )
}

fn payee_requests(sample: &Sample) -> Vec<Value> {
    let file = service("/song.ogg");
    let open = OpenBook {
        hold: sample.signed_hold(),
        quote: sample.quote.clone(),
        book: sample.signed_book(),
    };
    let requests = [
        ("the first page of services", PayeeRequest::Services { after: None }),
        (
            "the next page of services",
            PayeeRequest::Services {
                after: Some(file.clone()),
            },
        ),
        (
            "a quote for a file",
            PayeeRequest::Quote {
                service: file.clone(),
                price: None,
            },
        ),
        (
            "a quote for a tip",
            PayeeRequest::Quote {
                service: service("tip"),
                price: Some(Amount(50_000_000)),
            },
        ),
        ("open a book", PayeeRequest::OpenBook(Box::new(open))),
        (
            "present a hold",
            PayeeRequest::PresentHold {
                hold: sample.signed_hold(),
            },
        ),
        (
            "a request for the header",
            PayeeRequest::Request {
                service: file.clone(),
                from_unit: 0,
                book: None,
                ticket: None,
            },
        ),
        (
            "a request with its ticket",
            PayeeRequest::Request {
                service: file,
                from_unit: 3,
                book: Some(sample.book.id()),
                ticket: Some(sample.ticket(4)),
            },
        ),
    ];
    requests
        .into_iter()
        .map(|(name, request)| named(name, typed("PayeeRequest", &request)))
        .collect()
}

fn payee_answers(sample: &Sample) -> Vec<Value> {
    let offer = ServiceOffer {
        service: service("/song.ogg"),
        asset: Asset::USD,
        ticket_price: Amount(100_000),
        unit_bytes: 65_536,
        size: 4_000_000,
    };
    let header = ResponseHeader {
        size: 4_000_000,
        units: 62,
        unit_bytes: 65_536,
        content_hash: ContentHash([0xc0; 32]),
        through: 4,
    };
    let answers = [
        (
            "rejected",
            PayeeAnswer::Rejected(Reject::compared(Code::UnitOutOfRange, 62, 62)),
        ),
        (
            "services",
            PayeeAnswer::Services {
                services: list(vec![offer]),
                more: false,
            },
        ),
        ("a quote", PayeeAnswer::Quote(sample.quote.clone())),
        (
            "the state of a hold",
            PayeeAnswer::HoldState {
                revision: 1,
                room: Amount(1_900_000_000),
            },
        ),
        ("a response", PayeeAnswer::Response(header)),
    ];
    answers
        .into_iter()
        .map(|(name, answer)| named(name, typed("PayeeAnswer", &answer)))
        .collect()
}

fn book_frames(sample: &Sample) -> Vec<Value> {
    let next_quote = Some(sample.quote.clone());
    let closed = |code, next_quote| BookFrame::Closed {
        through: 64,
        reject: Reject::of(code),
        next_quote,
    };
    let frames = [
        (
            "the book is open",
            BookFrame::Ack {
                through: 0,
                next_quote: None,
            },
        ),
        (
            "all up to 7 is drawn",
            BookFrame::Ack {
                through: 7,
                next_quote: None,
            },
        ),
        (
            "an ack with the next quote",
            BookFrame::Ack {
                through: 32,
                next_quote: next_quote.clone(),
            },
        ),
        (
            "no room for a winner",
            BookFrame::Exhausted {
                through: 9,
                need: Amount(100_000_000),
                has: Amount(40_000_000),
            },
        ),
        ("closed at its end", closed(Code::BookComplete, next_quote)),
        ("closed when idle", closed(Code::BookIdle, None)),
    ];
    frames
        .into_iter()
        .map(|(name, frame)| named(name, typed("BookFrame", &frame)))
        .collect()
}

pub(crate) fn escrow(sample: &Sample) -> File {
    let mut vectors = escrow_requests(sample);
    vectors.extend(escrow_answers(sample));
    vectors.extend(statement_entries(sample));
    File::new(
        "Every message between a party and its escrow, and every kind of statement entry. R-01 to R-25.",
        vectors,
    )
}

fn escrow_requests(sample: &Sample) -> Vec<Value> {
    let payer = sample.payer.account();
    let payee = sample.payee.account();
    let commands = reading_commands(sample).into_iter().chain(changing_commands(sample));
    let commands = commands.chain(super::money::commands(sample));
    commands
        .map(|(name, command)| {
            let account = match command {
                EscrowCommand::Release(_) | EscrowCommand::Claim { .. } | EscrowCommand::SetSplit { .. } => payee,
                _ => payer,
            };
            let request = EscrowRequest { account, command };
            let mut vector = named(name, typed("EscrowRequest", &request));
            vector["request_hash"] = json!(request.hash());
            vector
        })
        .collect()
}

fn reading_commands(sample: &Sample) -> Vec<(&'static str, EscrowCommand)> {
    vec![
        ("info", EscrowCommand::Info),
        ("account", EscrowCommand::Account { holds_after: 0 }),
        ("hold status", EscrowCommand::HoldStatus { hold: sample.hold.id() }),
        ("statement", EscrowCommand::Statement { after: 12 }),
        ("subscribe", EscrowCommand::Subscribe { after: 12 }),
    ]
}

fn changing_commands(sample: &Sample) -> Vec<(&'static str, EscrowCommand)> {
    let request = sample.request();
    let batch = sample.batch();
    let signature = tombola_core::key::Signed::new(batch.clone(), &sample.payee).signature;
    let reference = Reference::new("invoice 17").expect("a short reference");
    vec![
        (
            "open a hold",
            EscrowCommand::OpenHold {
                request,
                hold: sample.hold_request(),
            },
        ),
        (
            "top up a hold",
            EscrowCommand::TopUpHold {
                request,
                hold: sample.hold.id(),
                revision: 0,
                cap: Amount(3_000_000_000),
            },
        ),
        (
            "release",
            EscrowCommand::Release(tombola_core::key::Signed::new(sample.release(), &sample.payee)),
        ),
        (
            "delegate",
            EscrowCommand::Delegate {
                request,
                delegation: tombola_core::key::Signed::new(sample.delegation(), &sample.payer),
            },
        ),
        (
            "claim on the payee's connection",
            EscrowCommand::Claim {
                batch: batch.clone(),
                signature: None,
            },
        ),
        (
            "claim by a messenger",
            EscrowCommand::Claim {
                batch,
                signature: Some(signature),
            },
        ),
        (
            "transfer",
            EscrowCommand::Transfer {
                request,
                to: sample.payee.account(),
                amount: Amount(7_000_000),
                reference: reference.clone(),
                book: None,
            },
        ),
        (
            "transfer for a book",
            EscrowCommand::Transfer {
                request,
                to: sample.payee.account(),
                amount: Amount(7_000_000),
                reference: reference.clone(),
                book: Some(sample.book.id()),
            },
        ),
        (
            "withdraw",
            EscrowCommand::Withdraw {
                request,
                amount: Amount(1_000_000_000),
                destination: Reference::new("bank:DE00").expect("a short reference"),
                reference,
            },
        ),
    ]
}

fn escrow_answers(sample: &Sample) -> Vec<Value> {
    let at = START.plus_ms(HOUR_MS);
    let answers = account_answers(sample, at).into_iter().chain(money_answers(sample, at));
    let answers = answers.chain(super::money::answers(sample, at));
    answers
        .map(|(name, answer)| named(name, typed("EscrowAnswer", &answer)))
        .collect()
}

fn account_answers(sample: &Sample, at: Timestamp) -> Vec<(&'static str, EscrowAnswer)> {
    let status = hold_status(sample, HoldState::Open);
    vec![
        (
            "rejected",
            EscrowAnswer::Rejected(Reject::compared(Code::InsufficientFunds, 2_000_000_000, 1_500_000_000)),
        ),
        ("info, open", EscrowAnswer::Info(info(sample, Phase::Open, at))),
        (
            "info, recovering",
            EscrowAnswer::Info(info(sample, Phase::Recovering, at)),
        ),
        ("info, draining", EscrowAnswer::Info(info(sample, Phase::Draining, at))),
        (
            "an account with a hold",
            EscrowAnswer::Account(AccountState {
                account: sample.payer.account(),
                balance: Amount(8_000_000_000),
                held: sample.hold.cap,
                open_holds: 1,
                holds: list(vec![status]),
                more: false,
                pending: Amount::ZERO,
                payout: None,
                shares: list(vec![]),
            }),
        ),
        ("a hold", EscrowAnswer::Hold(sample.signed_hold())),
        ("a stale revision", EscrowAnswer::RevisionStale(sample.signed_hold())),
        ("an open hold", EscrowAnswer::HoldStatus(status)),
        (
            "a released hold",
            EscrowAnswer::HoldStatus(hold_status(sample, HoldState::Released)),
        ),
        (
            "an expired hold",
            EscrowAnswer::HoldStatus(hold_status(sample, HoldState::Expired)),
        ),
        (
            "released",
            EscrowAnswer::Released {
                hold: sample.hold.id(),
                returned: Amount(1_900_000_000),
                at,
            },
        ),
        ("delegated", EscrowAnswer::Delegated { serial: 1 }),
    ]
}

fn money_answers(sample: &Sample, at: Timestamp) -> Vec<(&'static str, EscrowAnswer)> {
    let receipt = tombola_core::key::Signed::new(sample.receipt(), &sample.escrow);
    let refusal = tombola_core::key::Signed::new(sample.refusal(), &sample.escrow);
    let transferred = TransferReceipt {
        from: sample.payer.account(),
        to: sample.payee.account(),
        amount: Amount(7_000_000),
        reference: Reference::new("invoice 17").expect("a short reference"),
        at,
        height: 78,
        head: Head([0x6f; 32]),
    };
    vec![
        (
            "a receipt and a refusal",
            EscrowAnswer::Claimed {
                answers: list(vec![ClaimAnswer::Receipt(receipt), ClaimAnswer::Refusal(refusal)]),
            },
        ),
        ("transferred", EscrowAnswer::Transferred(transferred)),
        (
            "an empty statement",
            EscrowAnswer::Statement(StatementPage {
                entries: list(vec![]),
                more: false,
            }),
        ),
        (
            "a statement",
            EscrowAnswer::Statement(StatementPage {
                entries: list(vec![entry(1, deposited()), entry(2, held(sample))]),
                more: true,
            }),
        ),
    ]
}

fn statement_entries(sample: &Sample) -> Vec<Value> {
    let reference = Reference::new("invoice 17").expect("a short reference");
    let receipt = tombola_core::key::Signed::new(sample.receipt(), &sample.escrow);
    let charge = Charge {
        hold: sample.signed_hold(),
        claim: sample.claim(),
        receipt,
        amount: receipt.body.gross,
    };
    let kinds = [
        ("deposited", deposited()),
        ("held", held(sample)),
        (
            "returned",
            StatementKind::Returned {
                hold: sample.hold.id(),
                paid: Amount(100_000_000),
                amount: Amount(1_900_000_000),
                state: HoldState::Released,
            },
        ),
        ("charged", StatementKind::Charged(Box::new(charge))),
        (
            "sent",
            StatementKind::Sent {
                to: sample.payee.account(),
                amount: Amount(7_000_000),
                reference: reference.clone(),
            },
        ),
        (
            "received",
            StatementKind::Received {
                from: sample.payer.account(),
                amount: Amount(7_000_000),
                reference,
                book: Some(sample.book.id()),
            },
        ),
    ];
    kinds
        .into_iter()
        .chain(super::money::kinds(sample, &charge))
        .map(|(name, kind)| named(name, typed("StatementEntry", &entry(9, kind))))
        .collect()
}

fn entry(sequence: u64, kind: StatementKind) -> StatementEntry {
    StatementEntry {
        sequence,
        at: START.plus_ms(DAY_MS),
        balance: Amount(8_000_000_000),
        kind,
    }
}

fn deposited() -> StatementKind {
    StatementKind::Deposited {
        amount: Amount(10_000_000_000),
        reference: Reference::new("wire 4711").expect("a short reference"),
    }
}

fn held(sample: &Sample) -> StatementKind {
    StatementKind::Held {
        hold: Box::new(sample.signed_hold()),
        amount: sample.hold.cap,
    }
}

fn hold_status(sample: &Sample, state: HoldState) -> HoldStatus {
    HoldStatus {
        hold: sample.signed_hold(),
        paid: Amount(100_000_000),
        state,
    }
}

fn info(sample: &Sample, phase: Phase, time: Timestamp) -> EscrowInfo {
    EscrowInfo {
        escrow: sample.escrow.account(),
        asset: Asset::USD,
        name: Reference::new("Example escrow").expect("a short name"),
        time,
        phase,
        fee: Fee {
            flat: Amount(100),
            ppm: 5_000,
        },
        face_value_min: Amount(1_000),
        cap_min: Amount(1_000_000),
        writer: 1,
        height: 77,
        head: Head([0x6e; 32]),
        payout_fee: Amount(250_000_000),
        payout_min: Amount(1_000_000_000),
    }
}

fn named(name: &str, mut vector: Value) -> Value {
    vector["name"] = json!(name);
    vector
}
