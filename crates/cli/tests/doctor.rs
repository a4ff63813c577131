//! `tombola doctor`: each finding, made so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use program::json;
use serde_json::Value;
use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tombola");

/// Homes of all roles, with an escrow that runs.
struct Town {
    directory: tempfile::TempDir,
    escrow: Child,
    address: String,
}

impl Drop for Town {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.escrow.kill();
        let _ = self.escrow.wait();
    }
}

impl Town {
    fn new(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("escrow").display().to_string();
        let init = [&["escrow", "init", "--home", &home, "--listen", "127.0.0.1:0"], more].concat();
        assert_eq!(json(&init).0, 0);
        let mut escrow = Command::new(PROGRAM);
        escrow
            .args(["--json", "escrow", "run", "--home", &home])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut escrow = escrow.spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(escrow.stdout.take().unwrap())
            .read_line(&mut ready)
            .unwrap();
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let address = ready["address"].as_str().unwrap().to_owned();
        let town = Self {
            directory,
            escrow,
            address,
        };
        let init = [
            "payee",
            "init",
            "--home",
            &town.arg("payee"),
            "--listen",
            "127.0.0.1:0",
            "--files",
            &town.arg(""),
        ];
        assert_eq!(json(&[&init[..], &["--escrow", &town.address]].concat()).0, 0);
        town
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn arg(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn doctor(&self, role: &str) -> (i32, Value) {
        json(&["doctor", role, "--home", &self.arg(role)])
    }

    /// Exit code, and verdict and text of one check.
    fn check(&self, role: &str, check: &str) -> (i32, String, String) {
        let (code, found) = self.doctor(role);
        let all = found["findings"].as_array().unwrap_or_else(|| panic!("{found}"));
        let is_it = |finding: &&Value| finding["check"] == check;
        let finding = all.iter().find(is_it).unwrap_or_else(|| panic!("no {check}: {found}"));
        let verdict = finding["verdict"].as_str().unwrap();
        assert_eq!(
            verdict == "ok",
            finding["next"].is_null(),
            "what is not well says what to do: {finding}"
        );
        (
            code,
            verdict.to_owned(),
            format!("{} {}", finding["found"], finding["next"]),
        )
    }

    fn set(&self, role: &str, from: &str, to: &str) {
        let path = self.path(role).join("config.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        assert!(config.contains(from), "{config}");
        std::fs::write(path, config.replace(from, to)).unwrap();
    }
}

fn failed(found: (i32, String, String), words: &str) {
    assert_eq!((found.0, found.1.as_str()), (6, "failed"), "{}", found.2);
    assert!(found.2.contains(words), "{}", found.2);
}

#[test]
fn a_healthy_payee_and_escrow_have_no_failure() {
    let town = Town::new(&[]);
    for role in ["payee", "escrow"] {
        let (code, found) = town.doctor(role);
        assert_eq!((code, &found["failed"]), (0, &0.into()), "{found}");
    }
    assert_eq!(town.check("payee", "key").1, "warning", "it is not encrypted");
    for check in [
        "home",
        "config",
        "store",
        "port",
        "escrow",
        "clock",
        "fsync",
        "core_dumps",
    ] {
        assert_eq!(town.check("payee", check).1, "ok", "{check}");
    }
    assert_eq!(town.check("escrow", "backup").1, "warning");
    let backup = town.arg("backup");
    assert_eq!(json(&["escrow", "backup", &backup, "--home", &town.arg("escrow")]).0, 0);
    assert_eq!(town.check("escrow", "backup").1, "ok");
    assert_eq!(
        json(&["doctor", "--home", &town.arg("payee")]).1["error"]["code"],
        "no_role"
    );
}

#[test]
fn what_is_wrong_with_a_home_is_told() {
    let town = Town::new(&[]);
    let home = town.path("payee");
    std::fs::write(home.join("payee.redb"), b"not a store").unwrap();
    failed(town.check("payee", "store"), "bring back the file that was there");
    std::fs::remove_file(home.join("payee.redb")).unwrap();

    std::fs::set_permissions(home.join("config.toml"), Permissions::from_mode(0o644)).unwrap();
    assert_eq!(town.check("payee", "modes").1, "warning");

    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    town.set("payee", "127.0.0.1:0", &format!("127.0.0.1:{port}"));
    failed(town.check("payee", "port"), &format!("pid {}", std::process::id()));
    drop(taken);
    assert_eq!(town.check("payee", "port").1, "ok");

    town.set("payee", "credit_units = 0", "credit_units = 99999");
    failed(town.check("payee", "config"), "99999");
    town.set("payee", "credit_units = 99999", "credits = 0");
    failed(town.check("payee", "config"), "credits");

    std::fs::write(home.join("key.pem"), b"no key").unwrap();
    failed(town.check("payee", "key"), "key.pem");
    std::fs::set_permissions(&home, Permissions::from_mode(0o777)).unwrap();
    failed(town.check("payee", "home"), "chmod 700");
    std::fs::remove_dir_all(&home).unwrap();
    failed(town.check("payee", "home"), "init");
}

#[test]
fn a_passphrase_that_is_wrong_or_missing_is_told() {
    let town = Town::new(&[]);
    let (key, file) = (town.path("payee").join("key.pem"), town.path("passphrase"));
    std::fs::write(&file, "right\n").unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let (key, file) = (key.display().to_string(), file.display().to_string());
    let change = ["key", "change-passphrase", &key, "--new-passphrase-file", &file];
    assert_eq!(json(&change).0, 0);
    assert_eq!(town.check("payee", "key").1, "warning", "nobody gave it");
    let home = town.arg("payee");
    let doctor = ["doctor", "payee", "--home", &home, "--passphrase-file", &file];
    assert_eq!(json(&doctor).0, 0);
    std::fs::write(&file, "wrong\n").unwrap();
    assert_eq!(json(&doctor).0, 6);
}

#[test]
fn an_escrow_that_is_away_is_another_or_takes_too_much_is_told() {
    let mut town = Town::new(&["--fee-ppm", "30000"]);
    failed(town.check("payee", "fee"), "30000");
    let stranger = town.arg("stranger");
    let (_, made) = json(&["escrow", "init", "--home", &stranger]);
    let (_, at) = town.address.rsplit_once('@').unwrap();
    let stranger = format!("tombola://{}@{at}", made["account"].as_str().unwrap());
    town.set("payee", &town.address, &stranger);
    failed(town.check("payee", "escrow"), "somebody else answers");
    town.set("payee", &stranger, &town.address);
    town.escrow.kill().unwrap();
    town.escrow.wait().unwrap();
    failed(town.check("payee", "escrow"), "see that it runs");

    // The escrow's own: a store that is ahead of nothing, and a witness that is gone.
    let account = made["account"].as_str().unwrap();
    let home = town.arg("escrow");
    assert_eq!(
        json(&["escrow", "deposit", account, "1", "--reference", "one", "--home", &home]).0,
        0
    );
    assert_eq!(town.check("escrow", "witness").1, "ok");
    let before = std::fs::read(town.path("escrow").join("escrow.redb")).unwrap();
    std::fs::remove_file(town.path("escrow").join("witness")).unwrap();
    failed(town.check("escrow", "witness"), "witness");
    let height = json(&["escrow", "status", "--home", &home]).1["height"].clone();
    std::fs::write(town.path("escrow").join("escrow.redb"), before).unwrap();
    assert_eq!(
        json(&["escrow", "status", "--home", &home]).1["height"],
        height,
        "doctor adds no event"
    );
}

/// Its own port is no other program's.
#[test]
fn a_payer_that_runs_is_not_taken_for_stopped() {
    let town = Town::new(&[]);
    let home = town.arg("payer");
    assert_eq!(
        json(&["payer", "init", "--home", &home, "--escrow", &town.address]).0,
        0
    );
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    town.set("payer", "# metrics_listen =", &format!("metrics_listen = \"{free}\""));
    assert_eq!(town.check("payer", "metrics").1, "ok", "nothing listens there yet");
    assert!(town.check("payer", "store").2.contains("opens"));

    let mut payer = Command::new(PROGRAM);
    payer
        .args(["--json", "payer", "run", "--home", &home])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut payer = payer.spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(payer.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let (store, found) = (town.check("payer", "store"), town.doctor("payer"));
    payer.kill().unwrap();
    payer.wait().unwrap();
    assert!(store.2.contains("the node runs"), "{}", store.2);
    assert_eq!((found.0, &found.1["failed"]), (0, &0.into()), "{}", found.1);
    assert!(!found.1.to_string().contains("\"metrics\""), "{}", found.1);
}

#[test]
fn too_few_open_files_are_told() {
    let town = Town::new(&[]);
    let line = format!(
        "ulimit -n 64; exec {PROGRAM} --json doctor payee --home {}",
        town.arg("payee")
    );
    let output = Command::new("sh")
        .args(["-c", &line])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let files = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["check"] == "open_files")
        .unwrap();
    assert_eq!(
        (output.status.code(), files["verdict"].as_str()),
        (Some(6), Some("failed")),
        "{found}"
    );
}
