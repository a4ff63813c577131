//! The power fails while the program works on files that are worth something: its system calls are recorded, and each
//! power cut among them is looked at as the next start, or the same command once more, would find it.

mod payee;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tombola_core::key::SecretKey;
use tombola_node::config::EscrowConfig;
use tombola_node::escrow::{EscrowOptions, Examined, OverNewer, StorePlace, WitnessOptions, examine, restore};
use tombola_node::key_file;
use tombola_tests::disk::Image;
use tombola_tests::faulty::{Watched, strace};
use tombola_tests::process::{Town, number, ok};
use tombola_tests::recorded::{Cut, Recorder, Recording, image_of, lay_out, run_failing};

const SEED: u64 = 1;
const ACCOUNT: [u8; 32] = [9; 32];
/// Calls, and how they fail.
const FAILURES: [(&str, &str); 8] = [
    ("pwrite64", "ENOSPC"),
    ("ftruncate", "ENOSPC"),
    ("copy_file_range", "EIO"),
    ("fsync", "EIO"),
    ("fdatasync", "EIO"),
    ("linkat", "ENOSPC"),
    ("rename", "EIO"),
    ("unlink", "EIO"),
];

/// A directory in memory, where there is one: thousands of files come and go in it.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn laid_out(image: &Image) -> TempDir {
    let directory = directory();
    lay_out(image, directory.path());
    directory
}

fn what(cut: &Cut) -> String {
    format!(
        "seed {SEED}, after call {}, {}, with {:?}",
        cut.calls, cut.last, cut.kept
    )
}

/// Looks at every power cut; what was told at the end outlives one.
fn each<T>(recording: &Recording, mut check: impl FnMut(&Image, &str) -> T) {
    let mut cuts = 0;
    recording.each_power_cut(SEED, |cut| {
        drop(check(&cut.image, &what(cut)));
        cuts += 1;
    });
    println!("{cuts} different power cuts");
    assert!(cuts > 10, "{cuts}");
}

fn shown(root: &Path, name: &str) -> String {
    root.join(name).display().to_string()
}

/// Runs a command on files again and again, and each time another of its calls fails: it says so, or does without what that
/// call was for, and what it leaves is as good as what a crash does.
fn each_failure<T>(
    strace: &str,
    before: &Image,
    args: impl Fn(&Path) -> Vec<String>,
    mut check: impl FnMut(&Image, &str) -> T,
) {
    let (mut runs, mut told) = (0, 0);
    for (call, error) in FAILURES {
        for nth in 1.. {
            let root = laid_out(before);
            let Some((code, said)) = run_failing(strace, (call, error, nth), &args(root.path())) else {
                break;
            };
            let what = format!("{error} at {call} {nth}, which said {code}: {said}");
            runs += 1;
            told += u32::from(code == 1 && said["error"]["next"].is_string());
            assert!(code == 0 || code == 1, "{what}");
            drop(check(&image_of(root.path()), &what));
        }
    }
    println!("{told} failures told in {runs} runs");
    assert!(runs > 5 && 2 * told > runs, "{told} of {runs}");
}

fn deposit(home: &str, references: std::ops::Range<u32>) {
    let account = SecretKey::from_seed(&ACCOUNT).account().to_string();
    for n in references {
        let reference = n.to_string();
        let deposit = ["escrow", "deposit", &account, "1", "--reference", &reference];
        ok(&[&deposit[..], &["--home", home]].concat());
    }
}

/// The home of an escrow with so many deposits.
fn escrow(town: &Town, deposits: u32) -> String {
    let home = town.arg("escrow");
    ok(&["escrow", "init", "--home", &home, "--listen", "127.0.0.1:0"]);
    deposit(&home, 0..deposits);
    home
}

fn options(root: &Path, store: &str) -> EscrowOptions {
    let home = root.join("escrow");
    EscrowOptions {
        key: key_file::read(&home.join("key.pem")).unwrap(),
        listen: "127.0.0.1:0".parse().unwrap(),
        terms: EscrowConfig::default().terms().unwrap(),
        name: "test".to_owned(),
        store: StorePlace::File(home.join(store)),
        witness: WitnessOptions::at(home.join("witness")),
    }
}

/// Deposits in a store file of a home; it is whole, and adds up.
fn examined(root: &Path, store: &str, what: &str) -> Examined {
    assert!(root.join("escrow").join(store).exists(), "{what}: there is no {store}");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let examined = runtime.block_on(examine(&options(root, store)));
    let examined = examined.unwrap_or_else(|error| panic!("{what}, {store}: {error}"));
    assert!(examined.totals.conserved, "{what}, {store}");
    examined
}

fn height(root: &Path, store: &str, what: &str) -> u64 {
    examined(root, store, what).totals.height
}

/// Files of a directory whose names begin so.
fn files(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(prefix);
    entries.filter(is_it).collect()
}

/// Spec: G-12. A witness is never ahead of what is durable, and no deposit is told that is not.
#[test]
fn a_power_cut_during_a_deposit_leaves_a_store_that_its_witness_agrees_with() {
    let Some(strace) = strace() else { return };
    let town = Town::new();
    let home = escrow(&town, 2);
    let account = SecretKey::from_seed(&ACCOUNT).account().to_string();
    let recorder = Recorder::new(&town.path(""));
    let args = ["escrow", "deposit", &account, "1", "--reference", "2", "--home", &home];
    let (code, said, recording) = recorder.run(strace, &args);
    assert_eq!(code, 0, "{said}");
    let mut heights = BTreeSet::new();
    let mut check = |image: &Image, what: &str| {
        let found = examined(laid_out(image).path(), "escrow.redb", what);
        assert_eq!(found.witness, Ok(()), "{what}");
        heights.insert(found.totals.height);
        found.totals.height
    };
    each(&recording, &mut check);
    assert_eq!(check(&recording.at_end(), "told"), 3);
    assert_eq!(heights, BTreeSet::from([2, 3]));
}

/// Spec: G-11. Taken from an escrow that runs.
#[test]
fn a_power_cut_during_an_escrows_backup_leaves_a_whole_one_or_none() {
    let Some(strace) = strace() else { return };
    let town = Town::new();
    let (home, backup) = (escrow(&town, 3), town.arg("backup"));
    let recorder = Recorder::new(&town.path(""));
    let args = ["escrow", "run", "--home", &home, "--listen", "127.0.0.1:0"];
    let node = Watched::start_recorded(&recorder, strace, &args);
    assert!(node.is_ready(), "{}", node.first());
    assert_eq!(
        number(&ok(&["escrow", "backup", &backup, "--home", &home]), "height"),
        3
    );
    assert_eq!(node.end().0, 0);
    // The command notes for the doctor that there is one.
    let recording = recorder.finish(&["escrow/last-backup"]);
    let check = |image: &Image, what: &str| {
        let root = laid_out(image);
        assert_eq!(height(root.path(), "escrow.redb", what), 3, "{what}");
        let is_there = image.contains_key("backup");
        if is_there {
            assert_eq!(height(root.path(), "../backup", what), 3, "{what}");
        }
        is_there
    };
    let mut found = BTreeSet::new();
    each(&recording, |image, what| found.insert(check(image, what)));
    assert_eq!(found.len(), 2, "with and without it");
    assert!(check(&recording.at_end(), "told"));
}

/// Spec: G-11, G-12.
#[test]
fn a_power_cut_during_an_escrows_restore_leaves_one_of_both_stores_whole_and_loses_none() {
    let Some(strace) = strace() else { return };
    let town = Town::new();
    let (home, backup) = (escrow(&town, 2), town.arg("backup"));
    ok(&["escrow", "backup", &backup, "--home", &home]);
    deposit(&home, 2..5);
    let recorder = Recorder::new(&town.path(""));
    let args = ["escrow", "restore", &backup, "--home", &home, "--over-newer"];
    let (code, said, recording) = recorder.run(strace, &args);
    assert_eq!(code, 0, "{said}");
    let mut heights = BTreeSet::new();
    each(&recording, |image, what| heights.insert(check_restore(image, what)));
    assert_eq!(check_restore(&recording.at_end(), "told"), 2);
    assert_eq!(heights, BTreeSet::from([2, 5]));
    let args = |root: &Path| {
        let (home, backup) = (shown(root, "escrow"), shown(root, "backup"));
        ["escrow", "restore", &backup, "--home", &home, "--over-newer"]
            .map(str::to_owned)
            .to_vec()
    };
    each_failure(strace, recording.before(), args, check_restore);
}

/// What is there after a restore that was cut short or failed, and after the same once more: events of the store before that.
fn check_restore(image: &Image, what: &str) -> u64 {
    let root = laid_out(image);
    let found = examined(root.path(), "escrow.redb", what);
    let now = found.totals.height;
    // What was restored is never taken for all that there was.
    assert_eq!(found.witness.is_ok(), now == 5, "{what}: {:?}", found.witness);
    if now == 2 {
        let kept = files(&root.path().join("escrow"), "escrow.redb.before-restore");
        let name = kept.first().unwrap_or_else(|| panic!("{what}: the old store is gone"));
        assert_eq!(
            height(root.path(), name.file_name().unwrap().to_str().unwrap(), what),
            5
        );
    }
    // The same command again.
    let options = options(root.path(), "escrow.redb");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (backup, account) = (root.path().join("backup"), options.key.account());
    let again = restore(&backup, &options.store, &account, OverNewer::Replace);
    let again = runtime.block_on(again);
    assert_eq!(again.map(|report| report.height), Ok(2), "{what}");
    assert_eq!(height(root.path(), "escrow.redb", what), 2, "{what}");
    now
}

/// The key outlives a change of its passphrase.
#[test]
fn a_power_cut_while_a_passphrase_is_changed_leaves_the_old_key_file_or_the_new_one() {
    let Some(strace) = strace() else { return };
    let town = Town::new();
    let home = escrow(&town, 0);
    let passphrase = town.path("passphrase");
    lay_out(
        &Image::from([("passphrase".to_owned(), b"new\n".to_vec().into())]),
        &town.path(""),
    );
    let (key, file) = (format!("{home}/key.pem"), passphrase.display().to_string());
    let before = std::fs::read(&key).unwrap();
    let recorder = Recorder::new(&town.path(""));
    let args = ["key", "change-passphrase", &key, "--new-passphrase-file", &file];
    let (code, said, recording) = recorder.run(strace, &args);
    assert_eq!(code, 0, "{said}");
    let after = std::fs::read(&key).unwrap();
    assert_ne!(before, after);
    recording.each_power_cut(SEED, |cut| {
        let found = cut.image.get("escrow/key.pem").map(|bytes| bytes.as_slice());
        assert!(found == Some(&before) || found == Some(&after), "{}", what(cut));
    });
    assert!(*recording.at_end()["escrow/key.pem"] == after, "told");
}

/// A home that is half made has no key yet, so nobody can have sent money to it.
#[test]
fn a_power_cut_while_a_home_is_made_leaves_no_key_without_its_settings() {
    let Some(strace) = strace() else { return };
    let town = Town::new();
    let (home, recorder) = (town.arg("escrow"), Recorder::new(&town.path("")));
    let (code, said, recording) = recorder.run(strace, &["escrow", "init", "--home", &home]);
    assert_eq!(code, 0, "{said}");
    let whole = recording.at_end();
    assert!(whole.contains_key("escrow/key.pem") && whole.contains_key("escrow/config.toml"));
    recording.each_power_cut(SEED, |cut| {
        let found = ["escrow/key.pem", "escrow/config.toml"].map(|name| cut.image.get(name));
        let is_whole = found == ["escrow/key.pem", "escrow/config.toml"].map(|name| whole.get(name));
        assert!(found[0].is_none() || is_whole, "{}", what(cut));
        assert!(
            found[1].is_none_or(|config| *config == whole["escrow/config.toml"]),
            "{}",
            what(cut)
        );
    });
}
