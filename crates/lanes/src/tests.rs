use super::*;

/// Numbers that nobody chose, by a small generator of our own; the same for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 29)
    }

    fn block(&mut self) -> [u8; 64] {
        let mut block = [0u8; 64];
        for part in block.as_chunks_mut::<8>().0 {
            *part = self.next().to_le_bytes();
        }
        block
    }

    fn state(&mut self) -> [u32; 8] {
        [(); 8].map(|()| u32::try_from(self.next() >> 32).unwrap())
    }
}

/// A seed for this run, printed; from `TOMBOLA_SEED` if that is set.
fn seed() -> u64 {
    let given = std::env::var("TOMBOLA_SEED").ok().and_then(|text| text.parse().ok());
    let fresh = || {
        std::time::UNIX_EPOCH
            .elapsed()
            .map_or(1, |age| age.subsec_nanos().into())
    };
    let seed = given.unwrap_or_else(fresh);
    println!("TOMBOLA_SEED={seed}");
    seed
}

/// A way to compress any number of blocks gives what `sha2` gives for each alone, whatever the states were.
fn check(way: fn(&mut [[u32; 8]], &[[u8; 64]])) {
    let mut dice = Dice(seed());
    for count in (0..=33).chain([64, 100, 1_000]) {
        let blocks: Vec<_> = (0..count).map(|_| dice.block()).collect();
        let mut states: Vec<_> = (0..count).map(|_| dice.state()).collect();
        if count % 2 == 1 {
            states.fill(INITIAL);
        }
        let mut expected = states.clone();
        for (state, block) in expected.iter_mut().zip(&blocks) {
            compress256(state, &[*block]);
        }
        way(&mut states, &blocks);
        assert_eq!(states, expected, "{count} blocks");
    }
}

#[test]
fn every_number_of_blocks_gives_what_sha2_gives() {
    check(compress_each);
}

#[test]
fn the_portable_way_gives_what_sha2_gives() {
    check(one_by_one);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_sha_instructions_give_what_sha2_gives() {
    if !sha_ni::is_available() {
        println!("skipped: this CPU has no SHA instructions");
        return;
    }
    check(|states, blocks| {
        // SAFETY: asked above.
        unsafe { sha_ni::compress_each(states, blocks) }
    });
}

#[test]
#[should_panic(expected = "one state for each block")]
fn states_that_do_not_fit_the_blocks_are_a_mistake() {
    compress_each(&mut [INITIAL; 2], &[[0; 64]; 3]);
}
