//! Who is let in, told, asked for proof or ignored; one test a guard.

use super::*;
use crate::limits::{
    HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX, HANDSHAKES_PER_RANGE_MAX, PROVEN_BURST, PROVEN_PER_SECOND,
};
use std::net::Ipv4Addr;
use std::time::Duration;

fn admission(client_key: ClientKey) -> (Arc<Admission>, Instant) {
    let began = Instant::now();
    (Arc::new(Admission::new(client_key, [7; 32], began)), began)
}

fn v4(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(number))
}

/// Spread over /24s.
fn far(number: u32) -> IpAddr {
    v4(0x0a00_0001 + (number << 8))
}

fn attempt(from: IpAddr, proof: Proof, now: Instant) -> Attempt {
    Attempt {
        from,
        proof,
        open: 0,
        now,
    }
}

fn admit(admission: &Arc<Admission>, attempt: Attempt) -> Place {
    match admission.judge(attempt) {
        Verdict::Admit(place) => place,
        other => panic!("{attempt:?} was not admitted: {other:?}, {:?}", admission.turned_away()),
    }
}

#[test]
fn an_idle_payee_asks_nobody_for_proof_and_an_escrow_everybody() {
    let (payee, now) = admission(ClientKey::NotAsked);
    drop(admit(&payee, attempt(far(1), Proof::Missing, now)));
    let (escrow, now) = admission(ClientKey::Required);
    assert!(matches!(
        escrow.judge(attempt(far(1), Proof::Missing, now)),
        Verdict::Retry
    ));
    drop(admit(&escrow, attempt(far(1), Proof::Given, now)));
}

#[test]
fn a_full_node_tells_who_has_proven_its_address_and_nobody_else() {
    let (node, now) = admission(ClientKey::NotAsked);
    let full = |proof| Attempt {
        open: CONNECTIONS_MAX,
        ..attempt(far(1), proof, now)
    };
    assert!(matches!(node.judge(full(Proof::Given)), Verdict::Refuse));
    assert!(matches!(node.judge(full(Proof::Missing)), Verdict::Retry));
    assert_eq!((node.turned_away().full, node.turned_away().unproven), (1, 1));
}

#[test]
fn admitted_attempts_count_before_the_transport_knows_them() {
    let (node, now) = admission(ClientKey::NotAsked);
    let limit = u32::try_from(CONNECTIONS_MAX).unwrap();
    let mut places: Vec<Place> = (0..limit)
        .map(|n| {
            let mut place = admit(&node, attempt(far(n), Proof::Given, now));
            assert_eq!(place.establish(None), Ok(()));
            place
        })
        .collect();
    let next = attempt(far(limit), Proof::Given, now);
    assert!(matches!(node.judge(next), Verdict::Refuse));
    places.pop();
    drop(admit(&node, next));
}

#[test]
fn from_a_quarter_of_all_connections_on_addresses_are_to_be_proven() {
    let (node, now) = admission(ClientKey::NotAsked);
    let with = |open| Attempt {
        open,
        ..attempt(far(1), Proof::Missing, now)
    };
    drop(admit(&node, with(CONNECTIONS_UNPROVEN_MAX - 1)));
    assert!(matches!(node.judge(with(CONNECTIONS_UNPROVEN_MAX)), Verdict::Retry));
}

#[test]
fn handshakes_at_once_are_limited_and_fewer_without_proof() {
    let (node, now) = admission(ClientKey::NotAsked);
    let mut places: Vec<Place> = (0..64)
        .map(|n| admit(&node, attempt(far(n), Proof::Missing, now)))
        .collect();
    assert!(matches!(
        node.judge(attempt(far(64), Proof::Missing, now)),
        Verdict::Retry
    ));
    places.extend((64..256).map(|n| admit(&node, attempt(far(n), Proof::Given, now))));
    assert!(matches!(
        node.judge(attempt(far(256), Proof::Given, now)),
        Verdict::Ignore
    ));
    // Who is not proven is asked for proof all the same: only then it is known that somebody is kept out.
    assert!(matches!(
        node.judge(attempt(far(256), Proof::Missing, now)),
        Verdict::Retry
    ));
    assert_eq!(node.turned_away().handshakes, 1);
    // One that is established makes room for another handshake; one that is given up as well.
    assert_eq!(places[0].establish(None), Ok(()));
    let next = admit(&node, attempt(far(257), Proof::Given, now));
    drop((next, places));
    assert_eq!(node.turned_away().unfinished, 256);
}

/// So many handshakes as begin and fall silent, and then one more from the same place.
fn stall(node: &Arc<Admission>, now: Instant, sources: impl Iterator<Item = IpAddr>, one_more: IpAddr) -> Vec<Place> {
    let stalled = sources.map(|from| admit(node, attempt(from, Proof::Given, now)));
    let stalled = stalled.collect();
    assert!(matches!(
        node.judge(attempt(one_more, Proof::Given, now)),
        Verdict::Ignore
    ));
    stalled
}

#[test]
fn one_address_whose_handshakes_stall_keeps_no_other_out() {
    let (node, now) = admission(ClientKey::Required);
    let sources = std::iter::repeat_n(far(1), HANDSHAKES_PER_ADDRESS_MAX);
    let mut stalled = stall(&node, now, sources, far(1));
    // A neighbour in its range, and the address itself once a handshake of it is done.
    drop(admit(&node, attempt(v4(0x0a00_0102), Proof::Given, now)));
    assert_eq!(stalled[0].establish(None), Ok(()));
    drop(admit(&node, attempt(far(1), Proof::Given, now)));
    let turned_away = node.turned_away();
    assert_eq!((turned_away.own_handshakes, turned_away.handshakes), (1, 0));
    drop(stalled);
    assert!(node.handshakes.forgets_who_left() && lock(&node.addresses).is_empty());
}

#[test]
fn one_range_whose_handshakes_stall_keeps_no_other_out() {
    let (node, now) = admission(ClientKey::Required);
    let range = 0..u32::try_from(HANDSHAKES_PER_RANGE_MAX).unwrap();
    let stalled = stall(&node, now, range.map(|n| v4(0x0a00_0100 + n)), v4(0x0a00_01ff));
    drop(admit(&node, attempt(far(2), Proof::Given, now)));
    assert_eq!(node.turned_away().own_handshakes, 1);
    drop(stalled);
    drop(admit(&node, attempt(v4(0x0a00_01ff), Proof::Given, now)));
}

/// Spec: H-09. What its own address does to a client does not count as a gap in serving, and what others do to it does.
#[test]
fn who_is_over_its_own_limit_is_not_kept_out_by_others() {
    let (node, now) = admission(ClientKey::Required);
    let limit = u32::try_from(HANDSHAKES_PER_ADDRESS_MAX).unwrap();
    let all = u32::try_from(HANDSHAKES_MAX).unwrap();
    let _stalled: Vec<Place> = (0..all)
        .map(|n| admit(&node, attempt(far(n / limit), Proof::Given, now)))
        .collect();
    assert!(matches!(
        node.judge(attempt(far(0), Proof::Given, now)),
        Verdict::Ignore
    ));
    let turned_away = node.turned_away();
    assert_eq!((turned_away.own_handshakes, turned_away.for_want_of_room()), (1, 0));
    assert!(matches!(
        node.judge(attempt(far(all), Proof::Given, now)),
        Verdict::Ignore
    ));
    let turned_away = node.turned_away();
    assert_eq!((turned_away.handshakes, turned_away.for_want_of_room()), (1, 1));
}

#[test]
fn quick_handshakes_without_proof_are_limited_by_the_second() {
    let (node, now) = admission(ClientKey::NotAsked);
    for n in 0..UNPROVEN_PER_SECOND {
        drop(admit(&node, attempt(far(n), Proof::Missing, now)));
    }
    let next = |now| attempt(far(999), Proof::Missing, now);
    assert!(matches!(node.judge(next(now)), Verdict::Retry));
    drop(admit(&node, next(now + Duration::from_secs(1))));
}

#[test]
fn a_range_of_addresses_gets_its_burst_and_then_its_rate() {
    let (node, now) = admission(ClientKey::NotAsked);
    let from = |n: u32, now| attempt(v4(0x0a00_0000 + n % 256), Proof::Given, now);
    for n in 0..PROVEN_BURST {
        drop(admit(&node, from(n, now)));
    }
    assert!(matches!(node.judge(from(0, now)), Verdict::Ignore));
    assert_eq!(node.turned_away().range, 1);
    drop(admit(&node, attempt(far(1), Proof::Given, now)));
    // Who forges such an address takes nothing from it, and gains nothing by it.
    drop(admit(&node, attempt(v4(0x0a00_0001), Proof::Missing, now)));
    let later = now + Duration::from_secs(1);
    for n in 0..PROVEN_PER_SECOND {
        drop(admit(&node, from(n, later)));
    }
    assert!(matches!(node.judge(from(0, later)), Verdict::Ignore));
}

#[test]
fn forged_sources_use_up_nothing_of_a_range() {
    let (node, now) = admission(ClientKey::NotAsked);
    for _ in 0..10 * PROVEN_BURST {
        let _ = node.judge(attempt(far(1), Proof::Missing, now));
    }
    drop(admit(&node, attempt(far(1), Proof::Given, now)));
}

#[test]
fn an_address_has_a_quarter_of_the_connections_and_no_more() {
    let (node, now) = admission(ClientKey::NotAsked);
    let mut places = Vec::new();
    for _ in 0..CONNECTIONS_PER_ADDRESS_MAX {
        let mut place = admit(&node, attempt(far(1), Proof::Given, now));
        assert_eq!(place.establish(None), Ok(()));
        places.push(place);
    }
    assert!(matches!(
        node.judge(attempt(far(1), Proof::Given, now)),
        Verdict::Refuse
    ));
    assert_eq!(node.turned_away().address, 1);
    drop(admit(&node, attempt(far(2), Proof::Given, now)));
    places.pop();
    drop(admit(&node, attempt(far(1), Proof::Given, now)));
}

#[test]
fn a_key_has_so_many_connections_whatever_its_addresses() {
    let (node, now) = admission(ClientKey::Required);
    let key = AccountKey([3; 32]);
    let enter = |n| {
        let mut place = admit(&node, attempt(far(n), Proof::Given, now));
        place.establish(Some(key)).map(|()| place)
    };
    let limit = u32::try_from(CONNECTIONS_PER_KEY_MAX).unwrap();
    let mut places: Vec<Place> = (0..limit).map(|n| enter(n).unwrap()).collect();
    assert_eq!(enter(limit).map(drop), Err(CONNECTIONS_PER_KEY_MAX));
    places.pop();
    drop(enter(limit).unwrap());
    drop(places);
    assert!(lock(&node.keys).is_empty() && lock(&node.addresses).is_empty());
}

#[test]
fn addresses_of_one_host_or_party_count_together() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(address_of(ip("2001:db8:1:2:3::4")), address_of(ip("2001:db8:1:2::9")));
    assert_ne!(address_of(ip("2001:db8:1:2::4")), address_of(ip("2001:db8:1:3::4")));
    assert_eq!(address_of(ip("10.1.2.3")), address_of(ip("::ffff:10.1.2.3")));
    assert_ne!(address_of(ip("10.1.2.3")), address_of(ip("10.1.2.4")));
    assert_eq!(range_of(ip("2001:db8:1:2::4")), range_of(ip("2001:db8:1:ff::4")));
    assert_ne!(range_of(ip("2001:db8:1::4")), range_of(ip("2001:db8:2::4")));
    assert_eq!(range_of(ip("10.1.2.3")), range_of(ip("::ffff:10.1.2.250")));
    assert_ne!(range_of(ip("10.1.2.3")), range_of(ip("10.1.3.3")));
}

/// Ten times as many ranges as the table has places, each up to its burst: none of them is let in for more than that, and
/// one that comes for the first time shares a place with the least of them.
#[test]
fn the_table_of_ranges_does_not_grow_and_forgives_nothing() {
    let mut ranges = Ranges::new([1; 32]);
    let taken = (0..100_000u32).filter(|n| ranges.take(range_of(far(*n)), 0)).count();
    assert_eq!(taken, 100_000, "one attempt each is no flood");
    let again = (0..PROVEN_BURST + 10)
        .filter(|_| ranges.take(range_of(far(0)), 0))
        .count();
    let burst = usize::try_from(PROVEN_BURST).unwrap();
    assert!(again <= burst && again > burst / 2, "{again}");
}
