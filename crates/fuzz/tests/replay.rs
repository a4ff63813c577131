//! Every first input, and everything that was ever found, once more.

use std::panic::catch_unwind;
use tombola_fuzz::{TARGETS, seeds};
use tombola_tests::workspace;

#[test]
fn the_first_inputs_of_every_target_break_nothing() {
    for (name, harness) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} begins with something");
        harness(&[]);
        for (number, seed) in seeds.iter().enumerate() {
            let held = catch_unwind(|| harness(seed));
            assert!(held.is_ok(), "{name}, seed {number}: {}", hex::encode(seed));
        }
    }
}

/// A short fuzz without a fuzzer, the same each time: actions from a generator of numbers, longer than any seed.
#[test]
fn chosen_actions_break_nothing() {
    for name in ["payee_actions", "payer_actions", "escrow_actions", "claim"] {
        let (_, harness) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
        for seed in 1..=150u64 {
            let input = numbers(seed);
            let held = catch_unwind(|| harness(&input));
            assert!(held.is_ok(), "{name}, seed {seed}: {}", hex::encode(&input));
        }
    }
}

/// 400 bytes of xorshift, most of them small, as choices are.
fn numbers(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [byte, shift, ..] = state.to_le_bytes();
        byte >> (shift % 8)
    };
    (0..400).map(|_| next()).collect()
}

#[test]
fn what_was_found_once_stays_mended() {
    let directory = workspace().join("tests/regressions/fuzz");
    for target in std::fs::read_dir(&directory).unwrap() {
        let target = target.unwrap();
        let name = target.file_name().into_string().unwrap();
        let known = TARGETS.iter().find(|(known, _)| *known == name);
        let (_, harness) = known.unwrap_or_else(|| panic!("{name} is no target"));
        for file in std::fs::read_dir(target.path()).unwrap() {
            let path = file.unwrap().path();
            let input = std::fs::read(&path).unwrap();
            let held = catch_unwind(|| harness(&input));
            assert!(held.is_ok(), "{}", path.display());
        }
    }
}

#[test]
fn every_target_has_a_program() {
    let manifest = std::fs::read_to_string(workspace().join("crates/fuzz/Cargo.toml")).unwrap();
    let programs = manifest.matches("[[bin]]").count();
    assert_eq!(programs, TARGETS.len());
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
        let program = workspace().join("crates/fuzz/targets").join(format!("{name}.rs"));
        let program = std::fs::read_to_string(program).unwrap();
        assert!(program.contains(&format!("tombola_fuzz::{name}(data)")), "{name}");
    }
}
