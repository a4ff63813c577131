//! What `tombola doctor` finds on disks that are full or read-only and in files that are not what they were: the check, what
//! is wrong, what to do, and the exit code by which a script knows.

use super::{ESCROW, FILES, PAYEE, PAYER, SURE, harm, init_escrow};
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use tombola_tests::faulty::SmallDisk;
use tombola_tests::process::{Signal, Town, ok, run, text};

/// The exit code of a doctor that found something.
const FOUND: i32 = 6;

/// A role's home as the doctor finds it: the exit code, and all that it found.
fn doctor(role: &str, home: &str) -> (i32, Value) {
    run(&["doctor", role, "--home", home])
}

/// Verdict, what was found and what to do next, of one check.
fn check<'a>(found: &'a Value, name: &str) -> (&'a str, &'a str, &'a str) {
    let all = found["findings"].as_array().unwrap_or_else(|| panic!("{found}"));
    let is_it = |finding: &&Value| finding["check"] == name;
    let finding = all.iter().find(is_it).unwrap_or_else(|| panic!("no {name}: {found}"));
    let next = finding["next"].as_str().unwrap_or_default();
    (text(finding, "verdict"), text(finding, "found"), next)
}

#[test]
fn a_doctor_names_the_file_that_is_not_what_it_was_and_what_to_do() {
    let town = Town::new();
    let escrow = town.escrow();
    let payee = town.payee("payee", &escrow, SURE);
    town.payer("payer", &escrow, "1");
    ok(&["payer", "balance", "--home", &town.arg("payer")]);
    assert_eq!(payee.end(Signal::TERM), 0);
    let look_at = |command: &[&str]| {
        for (_, name, how, _, message, next) in FILES.iter().filter(|row| row.0 == command) {
            let (role, file) = (command[0], town.path(command[0]).join(name));
            let before = std::fs::read(&file).unwrap();
            harm(&town, &file, role, *how);
            let (exit, found) = doctor(role, &town.arg(role));
            let store = check(&found, "store");
            assert_eq!((exit, store.0), (FOUND, "failed"), "{name}, {how:?}: {found}");
            assert!(
                store.1.contains(message) && store.2.contains(next),
                "{name}, {how:?}: {store:?}"
            );
            std::fs::write(&file, before).unwrap();
            let (exit, found) = doctor(role, &town.arg(role));
            assert_eq!((exit, check(&found, "store").0), (0, "ok"), "{name}, {how:?}: {found}");
        }
    };
    // Payee and payer want an escrow that answers.
    look_at(PAYEE);
    look_at(PAYER);
    assert_eq!(escrow.end(Signal::TERM), 0);
    look_at(ESCROW);
}

#[test]
fn a_doctor_says_that_a_key_is_open_to_others() {
    let town = Town::new();
    let home = town.arg("escrow");
    init_escrow(&home);
    let key = town.path("escrow/key.pem");
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let (exit, found) = doctor("escrow", &home);
    let told = check(&found, "key");
    println!("{told:?}");
    assert_eq!((exit, told.0), (FOUND, "failed"), "{found}");
    assert!(told.1.contains("644") && told.2.contains("chmod 600"), "{told:?}");
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(doctor("escrow", &home).0, 0);
}

/// All that a small disk lets be done: a store is looked at where it can be opened.
#[test]
fn a_doctor_says_that_a_disk_is_full_or_read_only_and_what_it_keeps_from_working() {
    let Some(mut disk) = SmallDisk::mount(8) else { return };
    let home = disk.arg("escrow");
    init_escrow(&home);
    super::has_all(&home, 0);
    let (exit, found) = doctor("escrow", &home);
    assert_eq!(
        (exit, check(&found, "fsync").0),
        (FOUND, "ok"),
        "it is small, no more: {found}"
    );

    disk.fill_but(0);
    let (exit, found) = doctor("escrow", &home);
    let (space, fsync) = (check(&found, "disk_space"), check(&found, "fsync"));
    println!("{space:?} {fsync:?} {:?}", check(&found, "store"));
    assert_eq!((exit, space.0, fsync.0), (FOUND, "failed", "failed"), "{found}");
    assert!(
        space.1.starts_with("0 MiB") && space.2.contains("make room"),
        "{space:?}"
    );
    assert!(
        fsync.1.contains("no storage space") && fsync.2.contains("make room"),
        "{fsync:?}"
    );
    disk.free();

    disk.remount("ro");
    let (exit, found) = doctor("escrow", &home);
    let (fsync, store) = (check(&found, "fsync"), check(&found, "store"));
    println!("{fsync:?} {store:?}");
    assert_eq!((exit, fsync.0, store.0), (FOUND, "failed", "failed"), "{found}");
    for told in [fsync, store] {
        assert!(told.1.contains("read-only") || told.1.contains("Read-only"), "{told:?}");
        assert!(!told.2.is_empty(), "{told:?}");
    }
    disk.remount("rw");
    let (_, found) = doctor("escrow", &home);
    assert_eq!(
        (check(&found, "fsync").0, check(&found, "store").0),
        ("ok", "ok"),
        "{found}"
    );
}
