mod custody;
mod live;
mod watched;

use super::crowd::{Asker, Place, REQUESTS_MAX, REQUESTS_PER_ADDRESS_MAX, REQUESTS_PER_KEY_MAX};
use super::writer::Door;
use super::*;
use crate::clock;
use crate::config::EscrowConfig as Settings;
use crate::escrow_client::{EscrowClient, EscrowError};
use std::net::Ipv6Addr;
use tombola_core::amount::{Asset, DAY_MS};
use tombola_core::book::{Anchor, Book};
use tombola_core::chain::{Chain, Preimage};
use tombola_core::claim::{Claim, ClaimBatch};
use tombola_core::codec::{List, MESSAGE_BYTES_MAX, decode, encode};
use tombola_core::draw::Reveal;
use tombola_core::hold::{Delegation, Fee, Hold, Release};
use tombola_core::key::{HoldId, RequestId, Signed};
use tombola_core::limits::{CLAIMS_PER_BATCH_MAX, EXPIRE_GRACE_MS, HASHES_PER_PAYEE_PER_SECOND};
use tombola_core::message::{
    ClaimAnswer, EscrowAnswer, EscrowCommand, EscrowRequest, HoldRequest, HoldState, RequestHeader,
};
use tombola_core::odds::Threshold;

const FACE: Amount = Amount(1_000_000);

fn request_header() -> RequestHeader {
    RequestHeader {
        id: RequestId(clock::random()),
        issued_at: clock::now(),
    }
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

/// Parties by number: 1 is the escrow, 2 a payer, 3 a payee.
struct World {
    directory: tempfile::TempDir,
    escrow: Escrow,
}

impl World {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let escrow = Escrow::serve(options(&directory)).await.unwrap();
        Self { directory, escrow }
    }

    async fn funded() -> Self {
        let world = Self::start().await;
        world.deposit("first", 10_000_000_000).await.unwrap();
        world
    }

    async fn deposit(&self, reference: &str, amount: u64) -> Result<Deposited, EscrowNodeError> {
        let reference = Reference::new(reference).unwrap();
        self.escrow.deposit(&key(2).account(), Amount(amount), &reference).await
    }

    async fn restart(self) -> Self {
        self.escrow.shutdown().await;
        let escrow = Escrow::serve(options(&self.directory)).await.unwrap();
        Self { escrow, ..self }
    }

    fn client(&self, n: u8) -> EscrowClient {
        EscrowClient::new(self.escrow.address().clone(), &key(n)).unwrap()
    }

    async fn open_hold(&self, cap: u64) -> Signed<Hold> {
        match self.client(2).request(open(request_header(), cap)).await.unwrap() {
            EscrowAnswer::Hold(hold) => hold,
            other => panic!("{other:?}"),
        }
    }

    /// Sends bytes as one frame and reads the answer.
    async fn raw(&self, n: u8, frame: &[u8]) -> EscrowAnswer {
        decode(&self.raw_bytes(n, frame).await).unwrap()
    }

    async fn raw_bytes(&self, n: u8, frame: &[u8]) -> Vec<u8> {
        let endpoint = Endpoint::client(Some(&key(n))).unwrap();
        let connection = endpoint.connect(self.escrow.address()).await.unwrap();
        let (mut send, mut recv) = connection.open().await.unwrap();
        // A refused frame is answered before all of it was taken.
        let _ = send.send_frame(frame).await;
        let _ = send.finish();
        recv.recv_frame(MESSAGE_BYTES_MAX).await.unwrap().unwrap()
    }

    async fn raw_request(&self, n: u8, account: u8, command: EscrowCommand) -> EscrowAnswer {
        let account = key(account).account();
        self.raw(n, &encode(&EscrowRequest { account, command })).await
    }
}

fn options(directory: &tempfile::TempDir) -> EscrowOptions {
    let settings = Settings::default();
    EscrowOptions {
        key: key(1),
        listen: ([127, 0, 0, 1], 0).into(),
        terms: settings.terms().unwrap(),
        name: settings.name,
        store: directory.path().join("escrow.redb").into(),
        witness: WitnessOptions::at(directory.path().join("witness")),
    }
}

fn open(request: RequestHeader, cap: u64) -> EscrowCommand {
    let expires_at = clock::now().plus_ms(DAY_MS);
    let hold = HoldRequest {
        signer: key(2).account(),
        payee: key(3).account(),
        face_value_min: FACE,
        face_value_max: FACE,
        book_length_max: 65_536,
        expires_at,
        redeem_by: expires_at.plus_ms(7 * DAY_MS),
        cap: Amount(cap),
        fee_max: Fee::default(),
    };
    EscrowCommand::OpenHold { request, hold }
}

/// A claim of a book in which every ticket wins.
fn claim(hold: &Hold, n: u8, length: u32, through: u32) -> Claim {
    let reveal = Reveal([n; 32]);
    let mut chain = Chain::new(Preimage([n; 32]), length);
    let body = Book {
        hold: hold.id(),
        commitment: reveal.commitment(),
        anchor: Anchor(chain.anchor().0),
        length,
        face_value: FACE,
        threshold: Threshold::ALWAYS,
    };
    Claim {
        book: Signed::new(body, &key(2)),
        reveal,
        through,
        preimage: chain.preimage(through).unwrap(),
    }
}

fn batch(claims: Vec<Claim>) -> EscrowCommand {
    EscrowCommand::Claim {
        batch: ClaimBatch {
            escrow: key(1).account(),
            payee: key(3).account(),
            claims: List::new(claims).unwrap(),
        },
        signature: None,
    }
}

fn code(answer: &EscrowAnswer) -> Code {
    match answer {
        EscrowAnswer::Rejected(reject) => reject.code,
        other => panic!("not refused: {other:?}"),
    }
}

/// Spec: R-17.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_deposit_reference_moves_money_once() {
    let world = World::start().await;
    let first = world.deposit("a", 5_000).await.unwrap();
    assert_eq!(world.deposit("a", 5_000).await.unwrap(), first);
    let other = world.deposit("a", 5_001).await.unwrap_err();
    assert!(matches!(other, EscrowNodeError::Rejected(r) if r.code == Code::ReferenceReused));
    let account = world.escrow.reader().account(&key(2).account()).await.unwrap().unwrap();
    assert_eq!(account.balance, Amount(5_000));
    assert_eq!(
        world.escrow.reader().accounts(0, 10).await.unwrap(),
        (vec![account], None)
    );
    world.escrow.shutdown().await;
}

/// Spec: R-12.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_paid_once_and_repeated_byte_for_byte() {
    let world = World::funded().await;
    let hold = world.open_hold(100 * FACE.0).await;
    hold.verify(&key(1).account().check().unwrap()).unwrap();
    let command = batch(vec![claim(&hold.body, 7, 64, 10)]);
    let account = key(3).account();
    let request = encode(&EscrowRequest { account, command });
    let first = world.raw_bytes(3, &request).await;
    let EscrowAnswer::Claimed { answers } = decode(&first).unwrap() else {
        panic!("not an answer to a claim")
    };
    let ClaimAnswer::Receipt(receipt) = answers.as_slice()[0] else {
        panic!("refused: {answers:?}")
    };
    receipt.verify(&key(1).account().check().unwrap()).unwrap();
    assert_eq!((receipt.body.gross, receipt.body.winners), (Amount(10 * FACE.0), 10));
    assert_eq!(world.raw_bytes(3, &request).await, first);

    let world = world.restart().await;
    assert_eq!(world.raw_bytes(3, &request).await, first, "also by the next process");
    let payee = world.escrow.reader().account(&account).await.unwrap().unwrap();
    assert_eq!(payee.balance, Amount(10 * FACE.0));
    world.escrow.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_is_verified_in_parts_and_answered_in_order() {
    let world = World::funded().await;
    let hold = world.open_hold(1_000 * FACE.0).await;
    let count = u8::try_from(CLAIMS_PER_BATCH_MAX).unwrap();
    let mut claims: Vec<Claim> = (0..count)
        .map(|n| claim(&hold.body, n, 8, 1 + u32::from(n) % 3))
        .collect();
    // One bad claim in the middle costs the others nothing.
    claims[77].preimage = Preimage([0xff; 32]);
    let answer = world.client(3).request(batch(claims.clone())).await.unwrap();
    let EscrowAnswer::Claimed { answers } = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(answers.as_slice().len(), claims.len());
    for (n, (answer, claim)) in answers.as_slice().iter().zip(&claims).enumerate() {
        match answer {
            ClaimAnswer::Receipt(receipt) => {
                assert_eq!(receipt.body.book, claim.book.body.id(), "{n}");
                assert_eq!(receipt.body.through, claim.through, "{n}");
            }
            ClaimAnswer::Refusal(refusal) => {
                assert_eq!((n, refusal.body.code), (77, Code::ChainBroken));
                assert_eq!(refusal.body.claim_hash, claim.hash());
            }
        }
    }
    let report = world.escrow.reader().audit().await.unwrap();
    assert!(report.conserved, "{report:?}");
    assert_eq!(report.claims, u64::from(count) - 1);
    world.escrow.shutdown().await;
}

/// Spec.
#[tokio::test(flavor = "multi_thread")]
async fn money_moves_between_accounts_and_a_release_returns_the_rest() {
    let world = World::funded().await;
    let (payer, payee) = (world.client(2), world.client(3));
    let transfer = EscrowCommand::Transfer {
        request: request_header(),
        to: key(4).account(),
        amount: Amount(77),
        reference: Reference::new("thanks").unwrap(),
        book: None,
    };
    let first = payer.request(transfer.clone()).await.unwrap();
    assert!(matches!(&first, EscrowAnswer::Transferred(moved) if moved.amount == Amount(77)));
    assert_eq!(payer.request(transfer).await.unwrap(), first, "one id moves money once");

    let hold = world.open_hold(3 * FACE.0).await;
    payee.request(batch(vec![claim(&hold.body, 9, 4, 2)])).await.unwrap();
    let release = |paid| {
        let hold = hold.body.id();
        EscrowCommand::Release(Signed::new(Release { hold, paid }, &key(3)))
    };
    let mismatch = payee.request(release(Amount(0))).await.unwrap_err();
    let both = Reject::compared(Code::ReleaseMismatch, 2 * FACE.0, 0);
    assert_eq!(mismatch, EscrowError::Rejected(both));
    let totals = world.escrow.status().await.unwrap().totals;
    assert_eq!((totals.holds, totals.open_holds), (1, 1));
    let expiry = hold.body.terms.redeem_by.plus_ms(EXPIRE_GRACE_MS);
    assert_eq!(totals.next_expiry, Some(expiry));
    let shown = crate::metrics::text(world.escrow.status().await.unwrap().samples());
    let line = format!(
        "tombola_escrow_next_expiry_timestamp_seconds {}",
        expiry.0 as f64 / 1_000.0
    );
    assert!(shown.contains(&line), "{shown}");
    let released = payee.request(release(Amount(2 * FACE.0))).await.unwrap();
    assert!(matches!(released, EscrowAnswer::Released { returned: FACE, .. }));
    let status = payer.request(EscrowCommand::HoldStatus { hold: hold.body.id() }).await;
    assert!(matches!(status, Ok(EscrowAnswer::HoldStatus(status)) if status.state == HoldState::Released));
    let page = payer.request(EscrowCommand::Statement { after: 0 }).await.unwrap();
    assert!(matches!(page, EscrowAnswer::Statement(page) if page.entries.as_slice().len() == 5));
    let info = payer.info().await.unwrap();
    assert_eq!((info.asset, info.name.as_str()), (Asset::USD, "escrow"));
    let totals = world.escrow.status().await.unwrap().totals;
    assert_eq!((totals.holds, totals.open_holds, totals.next_expiry), (1, 0, None));
    world.escrow.shutdown().await;
}

/// Spec.
#[tokio::test(flavor = "multi_thread")]
async fn another_account_is_not_shown_or_moved() {
    let world = World::funded().await;
    let transfer = EscrowCommand::Transfer {
        request: request_header(),
        to: key(4).account(),
        amount: Amount(77),
        reference: Reference::new("mine now").unwrap(),
        book: None,
    };
    for command in [
        EscrowCommand::Account { holds_after: 0 },
        EscrowCommand::Statement { after: 0 },
        open(request_header(), 3 * FACE.0),
        transfer,
    ] {
        let answer = world.raw_request(4, 2, command).await;
        assert_eq!(code(&answer), Code::Unauthorized);
    }
    let answer = world.raw_request(4, 2, EscrowCommand::Info).await;
    assert!(
        matches!(answer, EscrowAnswer::Info(_)),
        "who the escrow is, anyone may ask"
    );
    let answer = world.raw_request(4, 3, batch(Vec::new())).await;
    assert_eq!(code(&answer), Code::WrongPayee);
    world.escrow.shutdown().await;
}

/// Spec: E-02, N-04, N-05.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_request_is_told_so() {
    let world = World::start().await;
    assert_eq!(code(&world.raw(2, b"no request").await), Code::Malformed);
    let mut trailing = encode(&EscrowRequest {
        account: key(2).account(),
        command: EscrowCommand::Info,
    });
    trailing.push(0);
    assert_eq!(code(&world.raw(2, &trailing).await), Code::Malformed);
    let long = vec![0; MESSAGE_BYTES_MAX + 1];
    let limit = u64::try_from(MESSAGE_BYTES_MAX).unwrap();
    let refused = Reject::compared(Code::TooLarge, limit, limit + 1);
    assert_eq!(world.raw(2, &long).await, EscrowAnswer::Rejected(refused));
    world.escrow.shutdown().await;
}

/// Spec: R-10.
#[tokio::test(flavor = "multi_thread")]
async fn a_payee_beyond_its_hash_budget_is_told_both_numbers() {
    let world = World::funded().await;
    let hold = world.open_hold(3 * FACE.0).await;
    // Every ticket of the longest book is walked for each of them: over 8,000,000 hashes together.
    let claims = vec![claim(&hold.body, 5, 65_536, 65_536); 64];
    let client = world.client(3);
    // Sent at once, so that nothing is worked off in between however slow the machine is.
    let (first, second) = tokio::join!(client.request(batch(claims.clone())), client.request(batch(claims)));
    let refused = [first, second].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    let [EscrowError::Rejected(reject)] = refused[..] else {
        panic!("any batch once, and one too many: {refused:?}")
    };
    assert_eq!((reject.code, reject.need), (Code::Busy, HASHES_PER_PAYEE_PER_SECOND));
    assert!(reject.has >= reject.need, "{reject}");
    assert_eq!(world.escrow.status().await.unwrap().turned_away, 1);
    world.escrow.shutdown().await;
}

/// Spec: H-09. Only what was refused for want of room may have been a claim that an honest payee could not bring.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_found_no_place_is_a_gap_in_serving_and_one_over_its_own_budget_is_none() {
    let world = World::funded().await;
    let shared = &world.escrow.shared;
    let mut door = Door::new(shared, world.escrow.endpoint.clone());
    let client = world.client(3);
    client.info().await.unwrap();
    shared.budgets().owe(key(3).account(), 60);
    assert!(client.info().await.is_err());
    assert!(!door.has_turned_anyone_away());
    let all = crowd(shared, REQUESTS_MAX, |n| stranger(n, n));
    let limit = u64::try_from(REQUESTS_MAX).unwrap();
    let refused = world.client(2).info().await.unwrap_err();
    assert_eq!(
        refused,
        EscrowError::Rejected(Reject::compared(Code::Busy, limit, limit))
    );
    drop(all);
    assert!(shared.places.is_empty());
    assert!(door.has_turned_anyone_away());
    assert!(!door.has_turned_anyone_away(), "it is told once");
    world.escrow.shutdown().await;
}

/// So many requests that are worked on.
fn crowd(shared: &Shared, count: usize, asker: impl Fn(usize) -> Asker) -> Vec<Place<'_>> {
    (0..count).map(|n| shared.places.enter(asker(n)).unwrap()).collect()
}

/// A key by its number, at a address by its number.
fn stranger(key: usize, address: usize) -> Asker {
    let mut bytes = [0xee; 32];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    Asker {
        key: AccountKey(bytes),
        address: Ipv6Addr::from_bits(u128::try_from(address).unwrap()),
    }
}

/// Spec: H-09, N-11.
#[tokio::test(flavor = "multi_thread")]
async fn one_key_with_many_requests_is_refused_by_its_own_limit_while_others_are_served() {
    let world = World::funded().await;
    let shared = &world.escrow.shared;
    let mut door = Door::new(shared, world.escrow.endpoint.clone());
    let key = key(3).account();
    let own = crowd(shared, REQUESTS_PER_KEY_MAX, |n| Asker { key, ..stranger(0, n) });
    let limit = u64::try_from(REQUESTS_PER_KEY_MAX).unwrap();
    let refused = Reject::compared(Code::Busy, limit, limit);
    let client = world.client(3);
    assert_eq!(client.info().await, Err(EscrowError::Rejected(refused)));
    world.client(2).info().await.unwrap();
    assert!(!door.has_turned_anyone_away(), "it kept nobody out but itself");
    drop(own);
    client.info().await.unwrap();
    world.escrow.shutdown().await;
}

/// Keys cost nothing. Spec: H-09, N-11.
#[tokio::test(flavor = "multi_thread")]
async fn many_keys_of_one_address_leave_places_for_others() {
    let world = World::funded().await;
    let shared = &world.escrow.shared;
    let mut door = Door::new(shared, world.escrow.endpoint.clone());
    let here = std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    let address = crowd(shared, REQUESTS_PER_ADDRESS_MAX, |n| Asker {
        address: here,
        ..stranger(n, 0)
    });
    let limit = u64::try_from(REQUESTS_PER_ADDRESS_MAX).unwrap();
    let refused = Reject::compared(Code::Busy, limit, limit);
    let client = world.client(3);
    assert_eq!(client.info().await, Err(EscrowError::Rejected(refused)));
    assert!(!door.has_turned_anyone_away(), "it kept nobody out but itself");
    let others = crowd(shared, REQUESTS_MAX - REQUESTS_PER_ADDRESS_MAX, |n| {
        stranger(n + 1_000, n + 1)
    });
    drop((address, others));
    client.info().await.unwrap();
    world.escrow.shutdown().await;
}

/// Spec: N-11, R-11.
#[tokio::test(flavor = "multi_thread")]
async fn a_walk_that_ends_beside_the_anchor_is_paid_for() {
    let world = World::funded().await;
    let hold = world.open_hold(3 * FACE.0).await;
    let mut broken = claim(&hold.body, 5, 65_536, 65_536);
    broken.book.body.anchor = Anchor([7; 32]);
    broken.book = Signed::new(broken.book.body, &key(2));
    let client = world.client(3);
    let answer = client.request(batch(vec![broken; 4])).await.unwrap();
    let EscrowAnswer::Claimed { answers } = &answer else {
        panic!("{answer:?}")
    };
    let is_broken = |answer: &ClaimAnswer| matches!(answer, ClaimAnswer::Refusal(refusal) if refusal.body.code == Code::ChainBroken);
    assert!(answers.as_slice().iter().all(is_broken));
    let charged = world.escrow.shared.budgets().charged(&key(3).account());
    assert_eq!(charged, 1_000 + 4 * (700 + 2 * 65_536));
    world.escrow.shutdown().await;
}

/// Spec: A-06, N-11.
#[tokio::test(flavor = "multi_thread")]
async fn a_signer_pays_for_the_holds_that_are_read_for_it_whether_it_is_shown_them_or_not() {
    let world = World::funded().await;
    for _ in 0..3 {
        world.open_hold(FACE.0).await;
    }
    let delegation = Delegation {
        escrow: key(1).account(),
        account: key(2).account(),
        signer: key(6).account(),
        spend_max: FACE,
        face_value_max: FACE,
        payees: List::default(),
        expires_at: clock::now().plus_ms(DAY_MS),
        serial: 1,
    };
    let delegate = EscrowCommand::Delegate {
        request: request_header(),
        delegation: Signed::new(delegation, &key(2)),
    };
    world.client(2).request(delegate).await.unwrap();
    let account = EscrowCommand::Account { holds_after: 0 };
    let EscrowAnswer::Account(state) = world.raw_request(6, 2, account).await else {
        panic!("a signer may ask")
    };
    assert!(state.holds.as_slice().is_empty(), "none of them is its own");
    let charged = world.escrow.shared.budgets().charged(&key(6).account());
    assert_eq!(charged, 1_000 + 3 * 300);
    world.escrow.shutdown().await;
}

/// Spec: N-11, R-10, R-11.
#[tokio::test(flavor = "multi_thread")]
async fn claims_refused_before_their_walk_cost_next_to_nothing() {
    let world = World::funded().await;
    let hold = world.open_hold(3 * FACE.0).await;
    // By its numbers each of them is as dear as a claim can be; its draw, or its hold, refuses it at once.
    let mut drawn = claim(&hold.body, 5, 65_536, 1);
    drawn.book.body.threshold = Threshold(0);
    drawn.through = 65_536;
    let mut impossible = drawn;
    impossible.book.body.hold = HoldId([7; 32]);
    impossible.book.body.length = u32::MAX;
    impossible.through = u32::MAX;
    for cheap in [drawn, impossible] {
        for _ in 0..3 {
            let claims = vec![cheap; CLAIMS_PER_BATCH_MAX];
            let answer = world.client(3).request(batch(claims)).await.unwrap();
            assert!(matches!(answer, EscrowAnswer::Claimed { .. }), "{answer:?}");
        }
    }
    assert_eq!(world.escrow.status().await.unwrap().turned_away, 0);
    world.escrow.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_and_the_stopped_books_show_the_same() {
    let world = World::funded().await;
    let hold = world.open_hold(3 * FACE.0).await;
    let account = key(2).account();
    let before = world.escrow.reader().account(&account).await.unwrap();
    let world = world.restart().await;
    assert_eq!(world.escrow.reader().account(&account).await.unwrap(), before);
    let state = world.client(2).request(EscrowCommand::Account { holds_after: 0 }).await;
    assert!(matches!(&state, Ok(EscrowAnswer::Account(state)) if state.holds.as_slice()[0].hold == hold));
    let locked = EscrowBooks::open(&options(&world.directory)).await.unwrap_err();
    assert_eq!(locked, EscrowNodeError::Ledger(StoreFault::Locked.into()));
    world.escrow.shutdown().await;

    let mut books = EscrowBooks::open(&options(&world.directory)).await.unwrap();
    assert_eq!(books.reader().account(&account).await.unwrap(), before);
    let first = Reference::new("first").unwrap();
    let again = books.deposit(&account, Amount(10_000_000_000), &first).await.unwrap();
    assert_eq!(
        (again.height, books.reader().account(&account).await.unwrap()),
        (1, before)
    );
    assert!(books.reader().totals().await.unwrap().conserved);
    assert!(books.reader().audit().await.unwrap().conserved);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_fault_nothing_is_promised_and_the_process_is_told() {
    let world = World::funded().await;
    let fault = LedgerFault::from(StoreFault::Io(std::io::ErrorKind::StorageFull.into()));
    world.escrow.shared.state.fail(fault);
    assert_eq!(world.escrow.failed().await, fault);
    let answer = world.raw_request(2, 2, open(request_header(), 3 * FACE.0)).await;
    assert_eq!(code(&answer), Code::Unavailable);
    let answer = world.raw_request(2, 2, EscrowCommand::Account { holds_after: 0 }).await;
    assert!(
        matches!(answer, EscrowAnswer::Account(_)),
        "what is durable is still shown"
    );
    assert!(!world.escrow.status().await.unwrap().is_serving);
    world.escrow.shutdown().await;
}

/// Spec: N-08.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_answers_what_has_begun() {
    let world = World::funded().await;
    let hold = world.open_hold(1_000 * FACE.0).await;
    let claims: Vec<Claim> = (0..100).map(|n| claim(&hold.body, n, 4, 1)).collect();
    let endpoint = Endpoint::client(Some(&key(3))).unwrap();
    let connection = endpoint.connect(world.escrow.address()).await.unwrap();
    let (mut send, mut recv) = connection.open().await.unwrap();
    let account = key(3).account();
    let command = batch(claims);
    send.send_frame(&encode(&EscrowRequest { account, command }))
        .await
        .unwrap();
    // It has begun when it has taken a place, and may be over already.
    let shared = Arc::clone(&world.escrow.shared);
    while shared.places.is_empty() && shared.counters.claims.read() == 0 {
        tokio::task::yield_now().await;
    }
    let (answer, ()) = tokio::join!(recv.recv_frame(MESSAGE_BYTES_MAX), world.escrow.shutdown());
    let answer: EscrowAnswer = decode(&answer.unwrap().unwrap()).unwrap();
    assert!(matches!(answer, EscrowAnswer::Claimed { answers } if answers.as_slice().len() == 100));
}
