//! A node as a service of its machine: what it tells the service manager, what it logs, and the units.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use program::json;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_tombola");
/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ended with its handle.
struct Running(Child);

impl Running {
    fn start(args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(PROGRAM);
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self(command.envs(environment.iter().copied()).spawn().unwrap())
    }

    fn wait_ready(&mut self) {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.contains("tombola://"), "{line}");
    }

    fn terminate(&mut self) -> i32 {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        self.0.wait().unwrap().code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn escrow_home(directory: &Path) -> String {
    let home = directory.join("escrow").display().to_string();
    assert_eq!(
        json(&["escrow", "init", "--home", &home, "--listen", "127.0.0.1:0"]).0,
        0
    );
    home
}

#[test]
fn the_service_manager_is_told_ready_then_signs_of_life_then_stopping() {
    let directory = tempfile::tempdir().unwrap();
    let home = escrow_home(directory.path());
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let receive = || {
        let mut message = [0; 4_096];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let socket = path.display().to_string();
    let environment = [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "100000")];
    let mut node = Running::start(&["escrow", "run", "--home", &home], &environment);
    let first = receive();
    assert!(first.lines().any(|line| line == "READY=1"), "{first}");
    assert!(first.lines().any(|line| line == "STATUS=serving"), "{first}");
    // Ready means ready: who is told so can ask.
    assert_eq!(json(&["escrow", "status", "--home", &home]).1["node"]["running"], true);
    for _ in 0..3 {
        assert_eq!(receive().trim(), "WATCHDOG=1");
    }
    assert_eq!(node.terminate(), 0);
    let rest: Vec<String> = std::iter::from_fn(|| {
        manager.set_nonblocking(true).unwrap();
        let mut message = [0; 4_096];
        let length = manager.recv(&mut message).ok()?;
        String::from_utf8(message[..length].to_vec()).ok()
    })
    .collect();
    assert!(rest.iter().any(|message| message.trim() == "STOPPING=1"), "{rest:?}");
}

#[test]
fn a_node_without_a_service_manager_tells_nobody_and_runs() {
    let directory = tempfile::tempdir().unwrap();
    let home = escrow_home(directory.path());
    let mut node = Running::start(&["escrow", "run", "--home", &home], &[]);
    node.wait_ready();
    assert_eq!(node.terminate(), 0);
}

#[test]
fn a_log_in_json_is_one_object_a_line_and_names_what_an_operator_is_woken_for() {
    let directory = tempfile::tempdir().unwrap();
    let home = escrow_home(directory.path());
    let payer = directory.path().join("payer").display().to_string();
    let escrow = json(&["escrow", "status", "--home", &home]).1["escrow"]
        .as_str()
        .unwrap()
        .to_owned();
    let at = format!("tombola://{escrow}@127.0.0.1:1");
    let (_, made) = json(&["payer", "init", "--home", &payer, "--escrow", &at]);
    let deposit = |reference| {
        let account = made["account"].as_str().unwrap();
        json(&[
            "escrow",
            "deposit",
            account,
            "1",
            "--reference",
            reference,
            "--home",
            &home,
        ])
        .0
    };
    let store = Path::new(&home).join("escrow.redb");
    assert_eq!(deposit("one"), 0);
    std::fs::copy(&store, directory.path().join("old")).unwrap();
    assert_eq!(deposit("two"), 0);
    std::fs::copy(directory.path().join("old"), &store).unwrap();

    let args = [
        "--log-format",
        "json",
        "--log-filter",
        "info",
        "escrow",
        "run",
        "--home",
        &home,
    ];
    let output = Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(9));
    let log = String::from_utf8(output.stderr).unwrap();
    // The last lines are the failure itself, for people.
    let (lines, rest): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| line.starts_with('{'));
    assert!(
        rest.iter()
            .all(|line| line.starts_with("error: ") || line.starts_with("next: ")),
        "{log}"
    );
    let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found = events
        .iter()
        .find(|event| event["event"] == "rollback_detected")
        .unwrap();
    assert_eq!(found["level"], "ERROR");
    for field in ["timestamp", "target", "message", "error"] {
        assert!(found[field].is_string(), "{found}");
    }
}

#[test]
fn a_filter_that_is_none_is_refused() {
    let (code, refused) = json(&["--log-filter", "a=b=c", "escrow", "status"]);
    assert_eq!((code, refused["error"]["code"].as_str()), (1, Some("log_filter")));
}

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// Section and key to its values, in order.
fn parse(unit: &str) -> BTreeMap<(String, String), Vec<String>> {
    let (mut section, mut settings) = (String::new(), BTreeMap::<_, Vec<String>>::new());
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            name.strip_suffix(']').unwrap().clone_into(&mut section);
            continue;
        }
        let (key, value) = line.split_once('=').unwrap();
        let values = settings.entry((section.clone(), key.to_owned())).or_default();
        values.push(value.to_owned());
    }
    settings
}

#[test]
fn the_units_notify_are_hardened_and_keep_the_passphrase_to_the_process() {
    for role in ["escrow", "payee"] {
        let settings = parse(&unit(&format!("tombola-{role}.service")));
        let service = |key: &str| {
            settings
                .get(&("Service".to_owned(), key.to_owned()))
                .map(|values| values.join(" "))
        };
        for (key, value) in [
            ("Type", "notify"),
            ("DynamicUser", "yes"),
            ("ProtectSystem", "strict"),
            ("NoNewPrivileges", "yes"),
            ("PrivateTmp", "yes"),
            ("MemoryDenyWriteExecute", "yes"),
            ("LimitCORE", "0"),
            ("Restart", "on-failure"),
            ("CapabilityBoundingSet", ""),
        ] {
            assert_eq!(service(key).as_deref(), Some(value), "{role} {key}");
        }
        assert_eq!(service("StateDirectory"), Some(format!("tombola-{role}")));
        assert!(service("LoadCredential").unwrap().starts_with("passphrase:/"), "{role}");
        assert!(
            service("SystemCallFilter").unwrap().contains("@system-service"),
            "{role}"
        );
        // What it starts is a command line that this program takes.
        let line = service("ExecStart").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().display().to_string();
        let words: Vec<String> = line
            .split_whitespace()
            .skip(1)
            .map(|word| word.replace("%S", &here).replace("%d", &here))
            .collect();
        let output = Command::new(PROGRAM)
            .arg("--json")
            .args(&words)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let failed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (output.status.code(), failed["error"]["code"].as_str()),
            (Some(1), Some("no_home")),
            "{failed}"
        );
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        println!("NOT RUN: systemd-analyze verify: there is no systemd here; install it to have the units checked");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for role in ["escrow", "payee"] {
        let path = directory.path().join(format!("tombola-{role}.service"));
        std::fs::write(
            &path,
            unit(&format!("tombola-{role}.service")).replace("/usr/local/bin/tombola", PROGRAM),
        )
        .unwrap();
        let verified = Command::new("systemd-analyze")
            .arg("verify")
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success(), "{said}");
        assert!(!said.contains("tombola"), "{said}");
    }
}
