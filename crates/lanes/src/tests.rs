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
    let given = std::env::var("TOMBOLA_SEED").ok().map(|text| text.parse().unwrap());
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

#[test]
fn the_sha_instructions_give_what_sha2_gives() {
    if has_sha_instructions("the_sha_instructions_give_what_sha2_gives") {
        check(by_sha_instructions);
    }
}

/// The examples of FIPS 180-4, as NIST published them: one block, two blocks, and none.
const EXAMPLES: [(&[u8], [u32; 8]); 4] = [
    (
        b"abc",
        [
            0xba78_16bf, 0x8f01_cfea, 0x4141_40de, 0x5dae_2223, 0xb003_61a3, 0x9617_7a9c, 0xb410_ff61, 0xf200_15ad,
        ],
    ),
    (
        b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        [
            0x248d_6a61, 0xd206_38b8, 0xe5c0_2693, 0x0c3e_6039, 0xa33c_e459, 0x64ff_2167, 0xf6ec_edd4, 0x19db_06c1,
        ],
    ),
    (
        b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
        [
            0xcf5b_16a7, 0x78af_8380, 0x036c_e59e, 0x7b04_9237, 0x0b24_9b11, 0xe8f0_7a51, 0xafac_4503, 0x7afe_e9d1,
        ],
    ),
    (
        b"",
        [
            0xe3b0_c442, 0x98fc_1c14, 0x9afb_f4c8, 0x996f_b924, 0x27ae_41e4, 0x649b_934c, 0xa495_991b, 0x7852_b855,
        ],
    ),
];

#[test]
fn the_chosen_way_gives_the_examples_of_the_standard() {
    check_examples(compress_each);
}

#[test]
fn the_portable_way_gives_the_examples_of_the_standard() {
    check_examples(one_by_one);
}

#[test]
fn the_sha_instructions_give_the_examples_of_the_standard() {
    if has_sha_instructions("the_sha_instructions_give_the_examples_of_the_standard") {
        check_examples(by_sha_instructions);
    }
}

/// Every example in every lane of one, two, four and five blocks, with the other examples in the lanes beside it.
fn check_examples(way: fn(&mut [[u32; 8]], &[[u8; 64]])) {
    for lanes in 1..=9 {
        for first in 0..EXAMPLES.len() {
            let examples: Vec<_> = (0..lanes)
                .map(|lane| EXAMPLES[(first + lane) % EXAMPLES.len()])
                .collect();
            let messages: Vec<_> = examples.iter().map(|(message, _)| padded(message)).collect();
            let mut states = vec![INITIAL; lanes];
            for round in 0..2 {
                let waiting: Vec<_> = (0..lanes).filter(|lane| round < messages[*lane].len()).collect();
                let mut some: Vec<_> = waiting.iter().map(|lane| states[*lane]).collect();
                let blocks: Vec<_> = waiting.iter().map(|lane| messages[*lane][round]).collect();
                way(&mut some, &blocks);
                for (lane, state) in waiting.into_iter().zip(some) {
                    states[lane] = state;
                }
            }
            let expected: Vec<_> = examples.iter().map(|(_, digest)| *digest).collect();
            assert_eq!(states, expected, "{lanes} lanes from example {first}");
        }
    }
}

/// A message in blocks, padded as section 5.1.1 says.
fn padded(message: &[u8]) -> Vec<[u8; 64]> {
    let mut bytes = message.to_vec();
    bytes.push(0x80);
    while bytes.len() % 64 != 56 {
        bytes.push(0);
    }
    bytes.extend_from_slice(&(8 * u64::try_from(message.len()).unwrap()).to_be_bytes());
    bytes.as_chunks().0.to_vec()
}

/// Says so where nobody can miss it if a test cannot run here: a test that passes is silent otherwise.
fn has_sha_instructions(test: &str) -> bool {
    #[cfg(target_arch = "x86_64")]
    if sha_ni::is_available() {
        return true;
    }
    use std::io::Write;
    // Past the harness, which keeps what a passing test prints to itself.
    let mut terminal = std::io::stderr();
    writeln!(terminal, "NOT RUN: {test}: this CPU has no SHA instructions").unwrap();
    false
}

fn by_sha_instructions(states: &mut [[u32; 8]], blocks: &[[u8; 64]]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: whoever comes here has asked `has_sha_instructions`.
    unsafe {
        sha_ni::compress_each(states, blocks);
    }
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("no such instructions: {} and {}", states.len(), blocks.len());
}

#[test]
#[should_panic(expected = "one state for each block")]
fn states_that_do_not_fit_the_blocks_are_a_mistake() {
    compress_each(&mut [INITIAL; 2], &[[0; 64]; 3]);
}
