//! Seeded storms: everything goes wrong for a while, then nothing does, and then it must all add up.

use crate::pair::{DiskState, Options, World};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use tombola_core::amount::{Amount, MINUTE_MS};

const SEEDS: u64 = 200;

/// Runs a test of seeds 0, 1, 2, ... and says which one failed; `TOMBOLA_SEED` runs one alone.
fn for_seeds(count: u64, mut test: impl FnMut(u64)) {
    let seeds: Vec<u64> = match std::env::var("TOMBOLA_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..count).collect(),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            eprintln!("failed with TOMBOLA_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

/// Another kind of weather for each seed.
fn options(seed: u64) -> Options {
    let mut dice = crate::pair::Dice::new(seed ^ 0x5eed);
    let face_value = [1_000, 100, 2_000][dice.below(3) as usize];
    Options {
        payers: 1 + dice.below(3) as usize,
        payees: 1 + dice.below(2) as usize,
        drop: dice.below(300),
        repeat: dice.below(300),
        delay_ms: 1 + dice.below(400),
        disk_ms: dice.below(200),
        face_value: Amount(face_value),
        cap: Amount(face_value * (1 + dice.below(8))),
        spend_max: Amount(face_value * 60),
        book_length: 1 + dice.below(100) as u32,
        jump_max: 1 + dice.below(64) as u32,
        books: 1 + dice.below(4) as usize,
        redeem_at_value: Amount(face_value * (1 + dice.below(20))),
        store_age_ms: dice.below(2) * 60 * MINUTE_MS,
        ..Options::default()
    }
}

/// Every acknowledged winner is paid, once; every hold is released; the money is all there.
///
/// Any of the checks named in this module's siblings shows here too, sooner or later.
#[test]
fn after_a_storm_everything_adds_up() {
    let (mut seeds, mut claims, mut winners) = (0, 0, 0);
    for_seeds(SEEDS, |seed| {
        let mut world = World::funded(seed, options(seed));
        for _ in 0..12 {
            disturb(&mut world);
            let ms = 500 + world.net.dice.below(6_000);
            world.live(ms);
            world.check();
        }
        heal(&mut world);
        world.check_settled();
        let report = world.audit();
        seeds += 1;
        claims += report.claims;
        winners += report.winners;
    });
    eprintln!("{seeds} storms, {claims} claims, {winners} winners");
    // Where nothing is won, nothing is tested.
    assert!(seeds < SEEDS || winners > 10 * SEEDS, "{winners} winners");
}

fn disturb(world: &mut World) {
    let payer = world.net.dice.below(world.buyers.len() as u64) as usize;
    let payee = world.net.dice.below(world.sellers.len() as u64) as usize;
    let units = 1 + world.net.dice.below(60);
    world.order(payer, payee, units);
    match world.net.dice.below(9) {
        0 | 1 => world.crash_payee(payee),
        2 => world.crash_escrow(),
        3 => world.disconnect(payer, payee),
        4 => world.finish(),
        5 => world.sellers[payee].disk.state = DiskState::Failing,
        6 => world.sellers[payee].heal_disk(&mut world.net),
        _ => {}
    }
    // Some things happen in the middle of others.
    for _ in 0..world.net.dice.below(40) {
        world.step();
    }
}

fn heal(world: &mut World) {
    world.net.options.drop = 0;
    world.net.options.repeat = 0;
    for seller in &mut world.sellers {
        seller.heal_disk(&mut world.net);
    }
    world.finish();
    world.live(2 * MINUTE_MS);
    world.end_holds();
}
