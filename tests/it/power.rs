//! The power fails while the program works on files that are worth something: its system calls are recorded, and each
//! power cut among them is looked at as the next start, or the same command once more, would find it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tombola_core::key::SecretKey;
use tombola_net::Address;
use tombola_node::config::{EscrowConfig, PayeeConfig};
use tombola_node::disk::StoreError;
use tombola_node::escrow::{EscrowOptions, Examined, OverNewer, StorePlace, WitnessOptions, examine, restore};
use tombola_node::home::Existing;
use tombola_node::key_file;
use tombola_node::payee::{Payee, PayeeError, PayeeOptions};
use tombola_tests::disk::Image;
use tombola_tests::faulty::{Watched, strace};
use tombola_tests::process::{Offer, Signal, Town, number, ok};
use tombola_tests::recorded::{Cut, Recorder, Recording, lay_out};

const SEED: u64 = 1;
const ACCOUNT: [u8; 32] = [9; 32];
/// Every ticket wins, and nothing is redeemed before it is asked for.
const SURE: Offer<'static> = Offer {
    price: "0.001",
    per: "1KiB",
    face_value_max: "0.001",
    redeem_at_value: "1000",
};

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
    let mut check = |image: &Image, what: &str| {
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
        heights.insert(now);
        // The same command again.
        let options = options(root.path(), "escrow.redb");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (backup, account) = (root.path().join("backup"), options.key.account());
        let again = restore(&backup, &options.store, &account, OverNewer::Replace);
        let again = runtime.block_on(again);
        assert_eq!(again.map(|report| report.height), Ok(2), "{what}");
        assert_eq!(height(root.path(), "escrow.redb", what), 2, "{what}");
        now
    };
    each(&recording, &mut check);
    assert_eq!(check(&recording.at_end(), "told"), 2);
    assert_eq!(heights, BTreeSet::from([2, 5]));
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

/// A town whose payee has sold to two payers, with a backup from between: the escrow's address.
fn payee_with_backup(town: &Town) -> Address {
    let escrow = town.escrow();
    let node = town.payee("payee", &escrow, SURE);
    town.file("song", 1_024, 1);
    let (url, home, backup) = (
        format!("{}/song", node.address()),
        town.arg("payee"),
        town.arg("backup"),
    );
    for (name, holds) in [("alice", 1), ("bob", 2)] {
        town.payer(name, &escrow, "10");
        let (output, payer) = (town.arg("song"), town.arg(name));
        let get = ["payer", "get", &url, "-o", &output, "--spend-max", "1", "--yes"];
        ok(&[&get[..], &["--home", &payer]].concat());
        if holds == 1 {
            assert_eq!(
                number(&ok(&["payee", "backup", &backup, "--home", &home]), "holds"),
                holds
            );
        }
        std::fs::remove_file(output).unwrap();
        std::fs::remove_dir_all(payer).unwrap();
    }
    let address = escrow.address().parse().unwrap();
    node.kill();
    assert_eq!(escrow.end(Signal::TERM), 0);
    // It is not what is looked at.
    std::fs::remove_dir_all(town.path("escrow")).unwrap();
    address
}

/// Holds in a store.
fn holds(store: &Path, escrow: &Address) -> Result<u64, PayeeError> {
    let options = PayeeOptions {
        key: SecretKey::from_seed(&[3; 32]),
        listen: "127.0.0.1:0".parse().unwrap(),
        escrow: escrow.clone(),
        terms: PayeeConfig::default().terms().unwrap(),
        store: store.to_path_buf(),
    };
    let directory = directory();
    Payee::backup_offline(&options, &directory.path().join("looked-at")).map(|backup| backup.holds)
}

/// A store and its log under the names that they are kept by.
fn kept_aside(home: &Path) -> Option<TempDir> {
    let kept = files(home, "payee.redb.replaced-").pop()?;
    let log = files(home, "payee.log.replaced-").pop()?;
    let place = directory();
    std::fs::copy(kept, place.path().join("payee.redb")).unwrap();
    std::fs::copy(log, place.path().join("payee.log")).unwrap();
    Some(place)
}

/// Spec: B-06.
#[test]
fn a_power_cut_during_a_payees_restore_loses_neither_store_and_makes_no_empty_one() {
    let Some(strace) = strace() else { return };
    let town = Town::new();
    let escrow = payee_with_backup(&town);
    let (home, backup) = (town.arg("payee"), town.arg("backup"));
    let recorder = Recorder::new(&town.path(""));
    let args = ["payee", "restore", &backup, "--home", &home, "--replace"];
    let (code, said, recording) = recorder.run(strace, &args);
    assert_eq!(code, 0, "{said}");
    let mut found = BTreeSet::new();
    let mut check = |image: &Image, what: &str| {
        let root = laid_out(image);
        let (home, store) = (root.path().join("payee"), root.path().join("payee/payee.redb"));
        let aside = kept_aside(&home).map(|place| holds(&place.path().join("payee.redb"), &escrow));
        let now = match holds(&store, &escrow) {
            Ok(holds) => Some(holds),
            // Between the old store and the new one there is one that does not open, and says so.
            Err(PayeeError::Store(StoreError::Corrupted { .. } | StoreError::ForeignLog { .. })) => None,
            Err(error) => panic!("{what}: {error}"),
        };
        assert!(
            now == Some(2) || aside == Some(Ok(2)),
            "{what}: {now:?}, beside it {aside:?}"
        );
        found.insert(now);
        let again = Payee::restore(&root.path().join("backup"), &store, Existing::Replace);
        assert_eq!(again.map(|backup| backup.holds), Ok(1), "{what}");
        assert_eq!(holds(&store, &escrow), Ok(1), "{what}");
        now
    };
    each(&recording, &mut check);
    assert_eq!(check(&recording.at_end(), "told"), Some(1));
    assert!(found.contains(&Some(1)) && found.contains(&Some(2)), "{found:?}");
}

/// Spec: B-06. Taken from a payee that runs.
#[test]
fn a_power_cut_during_a_payees_backup_leaves_a_whole_one_or_none() {
    let Some(strace) = strace() else { return };
    let town = Town::new();
    let escrow = payee_with_backup(&town);
    let (home, backup) = (town.arg("payee"), town.arg("again"));
    let recorder = Recorder::new(&town.path(""));
    let args = ["payee", "run", "--home", &home, "--listen", "127.0.0.1:0"];
    let node = Watched::start_recorded(&recorder, strace, &args);
    assert!(node.is_ready(), "{}", node.first());
    assert_eq!(number(&ok(&["payee", "backup", &backup, "--home", &home]), "holds"), 2);
    assert_eq!(node.end().0, 0);
    let recording = recorder.finish(&["payee/last-backup"]);
    let check = |image: &Image, what: &str| {
        let root = laid_out(image);
        assert_eq!(holds(&root.path().join("payee/payee.redb"), &escrow), Ok(2), "{what}");
        let is_there = image.contains_key("again");
        if is_there {
            let (backup, store) = (root.path().join("again"), root.path().join("restored.redb"));
            let restored = Payee::restore(&backup, &store, Existing::Keep);
            assert_eq!(restored.map(|backup| backup.holds), Ok(2), "{what}");
        }
        is_there
    };
    let mut found = BTreeSet::new();
    each(&recording, |image, what| found.insert(check(image, what)));
    assert_eq!(found.len(), 2, "with and without it");
    assert!(check(&recording.at_end(), "told"));
}
