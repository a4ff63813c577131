//! The same of a payee: its backup, and putting that in place of its store.

use super::{directory, each, each_failure, files, laid_out, shown};
use std::collections::BTreeSet;
use std::path::Path;
use tempfile::TempDir;
use tombola_core::key::SecretKey;
use tombola_net::Address;
use tombola_node::config::PayeeConfig;
use tombola_node::disk::StoreError;
use tombola_node::home::Existing;
use tombola_node::payee::{Payee, PayeeError, PayeeOptions};
use tombola_tests::disk::Image;
use tombola_tests::faulty::{Watched, strace};
use tombola_tests::process::{Offer, Signal, Town, number, ok};
use tombola_tests::recorded::Recorder;

/// Every ticket wins, and nothing is redeemed before it is asked for.
const SURE: Offer<'static> = Offer {
    price: "0.001",
    per: "1KiB",
    face_value_max: "0.001",
    redeem_at_value: "1000",
};

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
    each(&recording, |image, what| {
        found.insert(check_restore(&escrow, image, what))
    });
    assert_eq!(check_restore(&escrow, &recording.at_end(), "told"), Some(1));
    assert!(found.contains(&Some(1)) && found.contains(&Some(2)), "{found:?}");
    let args = |root: &Path| {
        let (home, backup) = (shown(root, "payee"), shown(root, "backup"));
        ["payee", "restore", &backup, "--home", &home, "--replace"]
            .map(str::to_owned)
            .to_vec()
    };
    let check = |image: &Image, what: &str| check_restore(&escrow, image, what);
    each_failure(strace, recording.before(), args, check);
}

/// What is there after a restore that was cut short or failed, and after the same once more: holds of the store before
/// that, if it opens.
fn check_restore(escrow: &Address, image: &Image, what: &str) -> Option<u64> {
    let root = laid_out(image);
    let (home, store) = (root.path().join("payee"), root.path().join("payee/payee.redb"));
    let aside = kept_aside(&home).map(|place| holds(&place.path().join("payee.redb"), escrow));
    let now = match holds(&store, escrow) {
        Ok(holds) => Some(holds),
        // Between the old store and the new one there is one that does not open, and says so.
        Err(PayeeError::Store(StoreError::Corrupted { .. } | StoreError::ForeignLog { .. })) => None,
        Err(error) => panic!("{what}: {error}"),
    };
    assert!(
        now == Some(2) || aside == Some(Ok(2)),
        "{what}: {now:?}, beside it {aside:?}"
    );
    let again = Payee::restore(&root.path().join("backup"), &store, Existing::Replace);
    assert_eq!(again.map(|backup| backup.holds), Ok(1), "{what}");
    assert_eq!(holds(&store, escrow), Ok(1), "{what}");
    now
}

/// Spec: B-06. Taken from a payee that runs.
#[test]
fn a_power_cut_during_a_payees_backup_leaves_a_whole_one_or_none() {
    let Some(strace) = strace() else { return };
    let town = Town::new();
    payee_with_backup(&town);
    let (home, backup) = (town.arg("payee"), town.arg("again"));
    let recorder = Recorder::new(&town.path(""));
    let args = ["payee", "run", "--home", &home, "--listen", "127.0.0.1:0"];
    let node = Watched::start_recorded(&recorder, strace, &args);
    assert!(node.is_ready(), "{}", node.first());
    assert_eq!(number(&ok(&["payee", "backup", &backup, "--home", &home]), "holds"), 2);
    assert_eq!(node.end().0, 0);
    let recording = recorder.finish(&["payee/last-backup"]);
    let check = |image: &Image, what: &str| {
        let is_there = image.contains_key("again");
        if is_there {
            let root = laid_out(image);
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
