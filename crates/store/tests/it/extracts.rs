//! Extracts of a log: what holds together, and what does not.

use crate::world::{TestBook, World, key};
use tombola_core::claim::{Head, Receipt};
use tombola_core::key::Signed;
use tombola_ledger::event::Event;
use tombola_ledger::extract::{Chain, ExtractError, Flaw, LogEnd, Start, bounds, page, pays};
use tombola_store::block_on::block_on;
use tombola_store::model::ModelStore;

struct Extract {
    start: Start,
    end: LogEnd,
    events: Vec<Vec<u8>>,
}

/// A deposit, a hold and a claim; their log, and the claim's receipt.
fn log() -> (Extract, Signed<Receipt>) {
    let mut world = World::funded(ModelStore::default());
    let hold = world.open_hold(10_000);
    let receipt = world.claim(TestBook::sure(&hold.body, 1, 8).claim(2)).unwrap();
    let store = world.ledger.store();
    let (start, end) = block_on(bounds(store, key(1), 0, 1, u64::MAX)).unwrap();
    let (bytes, next) = block_on(page(store, 0, start.first, end.height)).unwrap();
    assert_eq!((next, end.height, end.head), (None, 3, world.ledger.totals().head));
    let none = block_on(bounds(store, key(1), 0, 4, 9));
    assert!(matches!(none, Err(ExtractError::OutOfRange { height: 3, .. })));
    let mut events = Vec::new();
    let mut left = bytes.as_slice();
    while let Some((length, rest)) = left.split_first_chunk::<4>() {
        let (event, rest) = rest.split_at(usize::try_from(u32::from_le_bytes(*length)).unwrap());
        events.push(event.to_vec());
        left = rest;
    }
    (Extract { start, end, events }, receipt)
}

fn flaws(extract: &Extract) -> Vec<(u64, Flaw)> {
    let mut chain = Chain::new(extract.start);
    for event in &extract.events {
        chain.take(event);
    }
    chain.finish(&extract.end)
}

/// Spec: G-01, G-02, G-09, G-10.
#[test]
fn a_log_holds_together_and_shows_what_a_receipt_says() {
    let (extract, receipt) = log();
    assert_eq!(extract.start.previous, Head([0; 32]));
    let mut chain = Chain::new(extract.start);
    let seen: Vec<(u64, Head, Option<Event>)> = extract.events.iter().map(|event| chain.take(event)).collect();
    let heights: Vec<u64> = seen.iter().map(|(height, ..)| *height).collect();
    assert_eq!(heights, [1, 2, 3]);
    assert_eq!(chain.finish(&extract.end), []);
    let (height, head, Some(paid)) = &seen[2] else { panic!() };
    assert_eq!((receipt.body.height, receipt.body.head), (*height, *head));
    assert!(pays(paid, &receipt.body));
    let more = Receipt {
        winners: receipt.body.winners + 1,
        ..receipt.body
    };
    assert!(!pays(paid, &more));
    assert!(!pays(seen[1].2.as_ref().unwrap(), &receipt.body));
}

/// Spec: G-10.
#[test]
fn a_log_that_was_changed_does_not_hold_together() {
    let changed = |change: &dyn Fn(&mut Extract)| {
        let (mut extract, _) = log();
        change(&mut extract);
        flaws(&extract)
    };
    assert_eq!(changed(&|_| ()), []);
    let lost = changed(&|extract| drop(extract.events.remove(1)));
    assert!(lost.contains(&(2, Flaw::LogBroken)), "{lost:?}");
    // The time of the second event, after writer, height and previous head: its own head is another then.
    let moved = changed(&|extract| extract.events[1][44] ^= 1);
    assert!(moved.contains(&(3, Flaw::LogBroken)), "{moved:?}");
    let early = changed(&|extract| extract.events[1][44..52].fill(0));
    assert!(early.contains(&(2, Flaw::TimeBack)), "{early:?}");
    let cut = changed(&|extract| drop(extract.events.pop()));
    assert_eq!(cut, [(2, Flaw::LogEnd)]);
    let another = changed(&|extract| extract.end.head.0[0] ^= 1);
    assert_eq!(another, [(3, Flaw::LogEnd)]);
}
