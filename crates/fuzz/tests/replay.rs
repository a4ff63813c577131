//! Every first input, and everything that was ever found, once more.

use std::panic::{catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use tombola_fuzz::{TARGETS, seeds};
use tombola_tests::workspace;

/// Panics of all threads: one in a task of a node is caught by its runtime, and nobody else would notice.
static PANICS: AtomicUsize = AtomicUsize::new(0);
/// Those that a test makes to see whether they are noticed.
static ON_PURPOSE: AtomicUsize = AtomicUsize::new(0);
const PURPOSE: &str = "on purpose";

fn count_panics() {
    static COUNTING: Once = Once::new();
    COUNTING.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |panic| {
            let is_on_purpose = panic.payload_as_str() == Some(PURPOSE);
            let counter = if is_on_purpose { &ON_PURPOSE } else { &PANICS };
            counter.fetch_add(1, Ordering::SeqCst);
            print(panic);
        }));
    });
}

/// Whether an input is taken without a panic anywhere.
fn is_taken(harness: fn(&[u8]), input: &[u8]) -> bool {
    count_panics();
    catch_unwind(|| harness(input)).is_ok() && PANICS.load(Ordering::SeqCst) == 0
}

#[test]
fn a_panic_of_a_task_that_nobody_waits_for_is_noticed() {
    count_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    drop(runtime.spawn(async move {
        let _done = done;
        panic!("{PURPOSE}")
    }));
    assert!(is_done.recv().is_err(), "it says nothing before it ends");
    assert_eq!(ON_PURPOSE.load(Ordering::SeqCst), 1);
}

#[test]
fn the_first_inputs_of_every_target_break_nothing() {
    for (name, harness) in TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} begins with something");
        assert!(is_taken(*harness, &[]), "{name}, nothing");
        for (number, seed) in seeds.iter().enumerate() {
            assert!(is_taken(*harness, seed), "{name}, seed {number}: {}", hex::encode(seed));
        }
    }
}

/// A short fuzz without a fuzzer, the same each time: actions from a generator of numbers, longer than any seed.
#[test]
fn chosen_actions_break_nothing() {
    for name in ["payee_actions", "payer_actions", "escrow_actions", "claim", "client"] {
        let (_, harness) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
        for seed in 1..=150u64 {
            let input = numbers(seed);
            assert!(
                is_taken(*harness, &input),
                "{name}, seed {seed}: {}",
                hex::encode(&input)
            );
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
            assert!(is_taken(*harness, &input), "{}", path.display());
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
