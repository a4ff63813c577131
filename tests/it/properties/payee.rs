//! Properties 2, 3, 5, 6 and 8: what payer and payee may rely on between them.

use crate::pair::{DiskState, Event, Kind, Options, World};
use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use sha2::{Digest, Sha512};
use tombola_core::amount::{Amount, MINUTE_MS, SECOND_MS};
use tombola_core::book::{Anchor, Book, TICKET_BYTES, Ticket};
use tombola_core::chain::Preimage;
use tombola_core::codec::tagged_bytes;
use tombola_core::key::{QuoteId, SecretKey, Signature, Signed, Tagged};
use tombola_core::message::OpenBook;
use tombola_core::payee::Health;
use tombola_core::payer::{PayerBook, Window};
use tombola_core::quote::Service;
use tombola_core::reject::Code;

/// Every ticket wins, and the hold pays five of them.
fn sure() -> Options {
    Options {
        price: Amount(1_000),
        window: Amount(64_000),
        cap: Amount(5_999),
        spend_max: Amount(5_999),
        ..Options::default()
    }
}

fn settle(world: &mut World) {
    world.finish();
    world.live(MINUTE_MS);
    world.end_holds();
    world.check_settled();
}

/// Property 2. Watches `core/payee/exposure.rs::reserve`: several books and jumps on one hold.
/// Spec: B-10.
#[test]
fn books_that_race_win_no_more_than_the_hold_pays() {
    let mut world = World::funded(1, Options { books: 4, ..sure() });
    world.pay(200);
    world.live(5 * SECOND_MS);
    assert_eq!(world.sellers[0].served, 5);
    world.check();
    settle(&mut world);
    assert_eq!(world.sellers[0].served, 5);
}

/// Property 2. Watches `core/payee/redeeming.rs::restore_winner`: after a restart old winners still take room.
/// Spec: B-10.
#[test]
fn a_restart_forgets_no_liability() {
    let mut world = World::funded(2, sure());
    world.pay(3);
    world.drive();
    assert_eq!(world.sellers[0].served, 3);
    world.bank_goes_away();
    world.crash_payee(0);
    world.pay(50);
    world.live(5 * SECOND_MS);
    assert_eq!(world.sellers[0].served, 5);
    world.bank_comes_back();
    settle(&mut world);
}

/// Property 2. Watches `core/payee/opening.rs::account_for`: a payee that lost its store asks the escrow first.
/// Spec: B-06.
#[test]
fn a_payee_without_memory_asks_what_a_hold_has_paid() {
    let mut world = World::funded(3, sure());
    world.pay(4);
    world.drive();
    world.finish();
    world.live(5 * SECOND_MS);
    world.sellers[0].lose_store(&mut world.net);
    world.crash_payee(0);
    world.pay(50);
    world.live(20 * SECOND_MS);
    assert!(
        world
            .net
            .rejects
            .iter()
            .any(|reject| reject.code == Code::HoldUnchecked)
    );
    assert_eq!(world.sellers[0].served, 5);
    settle(&mut world);
}

/// Property 3. Watches `core/payee/quoter.rs::check_unopened`: one commitment serves one book, so that no second anchor
/// is tried against one reveal. That no reveal leaves before its book is closed, the driver asserts of each claim.
/// Spec: Q-05, T-05.
#[test]
fn a_commitment_meets_one_anchor_only() {
    let mut world = World::funded(4, Options::default());
    let hold = world.open_hold();
    let now = world.net.now;
    let payee = &mut world.sellers[0].payee;
    let service = Service::new("/units").unwrap();
    let quote = payee.quote(&service, Amount(100), QuoteId([1; 16]), now).unwrap();
    let open = |n: u8| {
        let secret = Preimage([n; 32]);
        let key = world.buyers[0].key();
        let book = PayerBook::new(&hold.body, &quote, Amount(1_000), 10, secret, key).unwrap();
        let (quote, book) = (quote.clone(), *book.signed());
        OpenBook { hold, quote, book }
    };
    payee.open_book(open(1), now).unwrap();
    assert_eq!(payee.open_book(open(1), now).unwrap_err().code, Code::CommitmentReused);
    assert_eq!(payee.open_book(open(2), now).unwrap_err().code, Code::CommitmentReused);
}

/// A signature that RFC 8032 does not make and its verifiers accept: its nonce is the signer's choice.
fn sign_with_another_nonce(book: &Book, key: &SecretKey) -> Signature {
    let expanded: [u8; 64] = Sha512::digest(key.seed().as_slice()).into();
    let secret = Scalar::from_bytes_mod_order(clamp_integer(std::array::from_fn(|i| expanded[i])));
    let nonce = Scalar::from(7u64);
    let r = (ED25519_BASEPOINT_POINT * nonce).compress().to_bytes();
    let hash = Sha512::new()
        .chain_update(r)
        .chain_update(key.account().0)
        .chain_update(tagged_bytes(Book::TAG, book));
    let s = nonce + Scalar::from_bytes_mod_order_wide(&hash.finalize().into()) * secret;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&s.to_bytes());
    Signature(signature)
}

/// Property 3. Watches `core/payee/opening.rs::open_book` (the signature is checked) and `core/book.rs::id` (the draw of
/// a book has nothing of its signature in it): who may sign cannot try signatures until one draws well.
/// Spec: B-02, K-04, T-05.
#[test]
fn a_second_signature_is_no_second_draw() {
    let drawn = |shift: &dyn Fn(&mut Signed<Book>, &World)| {
        let mut world = World::funded(5, Options::default());
        let hold = world.open_hold();
        let now = world.net.now;
        let payee = &mut world.sellers[0].payee;
        let service = Service::new("/units").unwrap();
        let quote = payee.quote(&service, Amount(100), QuoteId([1; 16]), now).unwrap();
        let key = world.buyers[0].key();
        let mut payer = PayerBook::new(&hold.body, &quote, Amount(1_000), 200, Preimage([7; 32]), key).unwrap();
        let mut book = *payer.signed();
        shift(&mut book, &world);
        let payee = &mut world.sellers[0].payee;
        let mut opened = payee
            .open_book(OpenBook { hold, quote, book }, now)
            .map_err(|reject| reject.code)?
            .book;
        let mut window = Window::new(Amount(u64::MAX));
        let mut records = Vec::new();
        while payer.issue(u32::MAX, &mut window, &mut records) > 0 {
            payer.acknowledge(payer.sent(), &mut window);
        }
        let mut winners = Vec::new();
        for record in records.chunks(TICKET_BYTES) {
            let ticket = Ticket::from_bytes(record.try_into().unwrap());
            opened.take(&ticket, payee, now).unwrap();
            winners.push(opened.winners());
        }
        Ok(winners)
    };
    let once = drawn(&|_, _| ()).unwrap();
    assert!(*once.last().unwrap() > 0, "about 20 of 200 win");
    // Signed once more by the one who may, with another nonce: another good signature, the same book, the same draws.
    let again = drawn(&|book, world| {
        let first = book.signature;
        book.signature = sign_with_another_nonce(&book.body, world.buyers[0].key());
        assert_ne!(book.signature, first);
    });
    assert_eq!(again, Ok(once));
    // Other bytes in the place of the signature are no book at all.
    let forged = drawn(&|book, world| *book = Signed::new(book.body, world.bank.key()));
    assert_eq!(forged, Err(Code::BadSignature));
    let flipped = drawn(&|book, _| book.signature.0[0] ^= 1);
    assert_eq!(flipped, Err(Code::BadSignature));
    // Another anchor, on the other hand, is another book: its signature is over other bytes.
    let moved = drawn(&|book, _| book.body.anchor = Anchor([1; 32]));
    assert_eq!(moved, Err(Code::BadSignature));
}

/// Property 5. Watches `core/payer/window.rs::allowance` and `lost`: a payee that takes and never answers gets one
/// window on a connection, and less than two however often it drops the connection.
/// Spec: B-16.
#[test]
fn a_silent_payee_gets_a_window_and_not_another_by_reconnecting() {
    let options = Options {
        face_value: Amount(100_000),
        cap: Amount(500_000),
        window: Amount(1_600),
        ..Options::default()
    };
    let mut world = World::funded(6, options);
    world.pay(64);
    world.drive();
    let before = world.buyers[0].sent();
    assert_eq!(before, 64);
    for _ in 0..100 {
        world.pay(1_000);
        // Everything is lost on its way back; openings alone get through.
        while let Some(event) = world.net.next() {
            let is_news = matches!(&event, Event::Packet(p) if p.kind == Kind::Tickets);
            if !is_news {
                world.happen(event);
            }
        }
        let (_, value) = world.buyers[0].window(0).in_flight();
        assert!(value <= 1_600, "one window: {value}");
        world.disconnect(0, 0);
    }
    let sent = (world.buyers[0].sent() - before) * 100;
    assert!((1_600..=3_200).contains(&sent), "two windows at most: {sent}");
}

/// Property 5. Watches `core/payer/window.rs::allowance`: what a payee's crash makes a payer pay again.
/// Spec: B-16.
#[test]
fn after_a_payees_crash_at_most_one_window_is_paid_again() {
    for seed in 0..20 {
        let mut world = World::funded(seed, Options::default());
        world.pay(500);
        for _ in 0..60 + seed * 3 {
            world.step();
        }
        world.crash_payee(0);
        world.live(MINUTE_MS);
        assert_eq!(world.buyers[0].paid(0), 500);
        let again = (world.buyers[0].sent() - 500) * 100;
        assert!(again <= 6_400, "one window is 6,400: {again}");
    }
}

/// Property 5. Watches `core/payee.rs::lend`: credit is the payer's, not the book's or the connection's.
/// Spec: D-03.
#[test]
fn credit_is_not_renewed_by_reconnecting() {
    let options = Options {
        credit_units: 3,
        ..Options::default()
    };
    let mut world = World::funded(7, options);
    world.pay(10);
    world.drive();
    let payer = world.buyers[0].account();
    let mut lent = 0;
    for _ in 0..10 {
        lent += (0..10).filter(|_| world.sellers[0].payee.lend(&payer)).count();
        world.disconnect(0, 0);
        world.pay(1);
        world.drive();
    }
    assert_eq!(lent, 3);
}

/// Property 6. Watches `core/payee/book.rs::ack_through`: killed at any moment, a payee is paid what it acknowledged.
/// Spec: B-12.
#[test]
fn a_winner_is_durable_before_it_is_acknowledged() {
    for seed in 0..40 {
        let options = Options {
            disk_ms: 50,
            cap: Amount(50_000),
            spend_max: Amount(50_000),
            ..sure()
        };
        let mut world = World::funded(seed, options);
        world.pay(30);
        for _ in 0..12 + seed {
            world.step();
        }
        world.crash_payee(0);
        settle(&mut world);
    }
}

/// Property 6. Watches `core/payee.rs::check_selling`: with a disk that keeps no winner a payee draws no loser either,
/// in any book, until what failed is durable.
/// Spec: B-14.
#[test]
fn a_payee_that_cannot_keep_winners_draws_nothing() {
    let mut world = World::funded(
        8,
        Options {
            books: 3,
            ..Options::default()
        },
    );
    world.pay(100);
    world.drive();
    world.sellers[0].disk.state = DiskState::Failing;
    world.pay(2_000);
    while world.sellers[0].payee.health() == Health::Selling {
        assert!(world.step(), "some ticket wins");
    }
    let drawn = world.sellers[0].drawn();
    world.live(7 * SECOND_MS);
    assert_eq!(world.sellers[0].drawn(), drawn, "not one more draw");
    world.sellers[0].heal_disk(&mut world.net);
    world.live(MINUTE_MS);
    assert_eq!(world.buyers[0].paid(0), 2_100);
    settle(&mut world);
}

/// Property 8. Watches `core/payee/book.rs::begin_write`: only winners are written, and nothing is told to the escrow.
/// Spec: B-12.
#[test]
fn losing_tickets_cost_no_io() {
    let options = Options {
        price: Amount(1),
        face_value: Amount(4_000),
        cap: Amount(1_000_000),
        window: Amount(256),
        book_length: 65_536,
        jump_max: 256,
        ..Options::default()
    };
    let mut world = World::funded(9, options);
    world.open_hold();
    world.pay(1);
    world.drive();
    let (writes, packets) = (world.sellers[0].disk.writes, world.net.escrow_packets);
    world.pay(20_000);
    world.drive();
    assert_eq!(world.buyers[0].paid(0), 20_001);
    let winners = world.sellers[0].winners();
    assert!((1..20).contains(&winners), "about five: {winners}");
    assert!(world.sellers[0].disk.writes - writes <= winners);
    assert_eq!(world.net.escrow_packets, packets);
}
