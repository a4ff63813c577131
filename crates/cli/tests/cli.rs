//! The program as its users run it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use program::{json, tombola};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn run(args: &[&str]) -> Output {
    tombola().args(args).output().unwrap()
}

fn ok(args: &[&str]) -> Value {
    let (code, value) = json(args);
    assert_eq!(code, 0, "{args:?}: {value}");
    value
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// A directory with homes of all three roles in it.
struct Homes {
    directory: tempfile::TempDir,
}

impl Homes {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn escrow(&self) -> Value {
        let home = self.path("escrow");
        ok(&["escrow", "init", "--home", &home, "--listen", "127.0.0.1:0"])
    }
}

/// A running node; killed if a test fails, and asked to end otherwise.
struct Node {
    child: Child,
    ready: Value,
}

impl Node {
    fn start(args: &[&str]) -> Self {
        let mut child = tombola()
            .arg("--json")
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{args:?}: {error}: {line:?}"));
        assert_eq!(ready["ready"], json!(true), "{ready}");
        Self { child, ready }
    }

    /// SIGTERM, and the exit code.
    fn stop(self) -> i32 {
        self.signal("-TERM")
    }

    /// Ctrl-C, and the exit code.
    fn interrupt(self) -> i32 {
        self.signal("-INT")
    }

    fn signal(mut self, signal: &str) -> i32 {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Gone already in a test that went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn init_makes_a_home_for_each_role_and_overwrites_nothing() {
    let homes = Homes::new();
    let escrow = homes.escrow();
    let address = text(&escrow, "address").replace(":0", ":7400");
    let (payee, payer) = (homes.path("payee"), homes.path("payer"));
    let roles = [
        ("escrow", homes.path("escrow"), vec![]),
        (
            "payee",
            payee,
            vec!["--escrow", &address, "--price", "0.0002", "--per", "1KiB"],
        ),
        ("payer", payer, vec!["--escrow", &address]),
    ];
    for (role, home, options) in roles {
        let init = [vec![role, "init", "--home", &home], options].concat();
        if role != "escrow" {
            let made = ok(&init);
            assert!(text(&made, "next").starts_with("tombola "), "{made}");
            assert!(text(&made, "account").starts_with("tom1"), "{made}");
        }
        let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
        let home = Path::new(&home);
        assert_eq!((mode(home.to_owned()), mode(home.join("key.pem"))), (0o700, 0o600));
        let key = std::fs::read(home.join("key.pem")).unwrap();
        let (code, error) = json(&init);
        assert_eq!((code, text(&error["error"], "code")), (1, "exists"));
        assert_eq!(std::fs::read(home.join("key.pem")).unwrap(), key);
    }
    let config = std::fs::read_to_string(homes.path("payee") + "/config.toml").unwrap();
    for line in ["price = \"0.0002\"", "per_bytes = 1024", "credit_units = 0"] {
        assert!(config.contains(line), "{line} is not in {config}");
    }
}

#[test]
fn a_deposit_is_booked_once_whether_the_escrow_runs_or_not() {
    let homes = Homes::new();
    let home = homes.path("escrow");
    let escrow = homes.escrow();
    let address = text(&escrow, "address").replace(":0", ":7400");
    let payer = ok(&["payer", "init", "--home", &homes.path("payer"), "--escrow", &address]);
    let account = text(&payer, "account");
    let deposit = |amount, reference| {
        let args = ["escrow", "deposit", account, amount, "--reference", reference];
        json(&[&args[..], &["--home", &home]].concat())
    };
    let (_, first) = deposit("10", "a");
    assert_eq!(text(&first, "balance"), "10.00");

    let node = Node::start(&["escrow", "run", "--home", &home]);
    assert!(
        text(&node.ready, "address").starts_with("tombola://tom1"),
        "{}",
        node.ready
    );
    assert_eq!(
        deposit("10", "a").1,
        first,
        "booked while stopped, repeated while running"
    );
    let (_, second) = deposit("0.50", "b");
    assert_eq!(text(&second, "balance"), "10.50");
    let (code, reused) = deposit("0.51", "b");
    assert_eq!((code, text(&reused["error"], "code")), (1, "reference_reused"));
    let live = ok(&["escrow", "account", account, "--home", &home]);
    let audit = ok(&["escrow", "audit", "--home", &home]);
    assert_eq!((&audit["conserved"], text(&audit, "deposits")), (&json!(true), "10.50"));
    assert_eq!(node.stop(), 0, "SIGTERM drains and ends well");

    assert_eq!(text(&deposit("0.50", "b").1, "balance"), "10.50");
    assert_eq!(ok(&["escrow", "account", account, "--home", &home]), live);
    assert_eq!(ok(&["escrow", "account", "--home", &home])["accounts"], json!([live]));
    assert_eq!(ok(&["escrow", "audit", "--home", &home]), audit);
    assert_eq!(
        ok(&["escrow", "status", "--home", &home])["node"]["running"],
        json!(false)
    );
}

#[test]
fn a_locked_home_names_the_process_that_has_it() {
    let homes = Homes::new();
    homes.escrow();
    let home = homes.path("escrow");
    let node = Node::start(&["escrow", "run", "--home", &home]);
    let (code, error) = json(&["escrow", "run", "--home", &home]);
    assert_eq!((code, &error["error"]["pid"]), (5, &json!(node.child.id())));
    let running = format!("it runs already (pid {})", node.child.id());
    assert_eq!(text(&error["error"], "message"), running);
    // Without its socket a node cannot be asked, and its store is still not touched.
    std::fs::remove_file(home.clone() + "/admin.sock").unwrap();
    let (code, error) = json(&["escrow", "audit", "--home", &home]);
    assert_eq!((code, &error["error"]["pid"]), (5, &json!(node.child.id())));
    assert_eq!(node.stop(), 0);
}

#[test]
fn a_home_that_is_not_there_is_told_with_the_command_that_makes_it() {
    let homes = Homes::new();
    let home = homes.path("none");
    for role in ["escrow", "payee", "payer"] {
        let (code, error) = json(&[role, "run", "--home", &home]);
        assert_eq!((code, text(&error["error"], "code")), (1, "no_home"));
        let next = text(&error["error"], "next");
        assert_eq!(next, format!("tombola {role} init --home {home}"));
    }
    let output = run(&["payer", "balance", "--home", &home]);
    let shown = String::from_utf8(output.stderr).unwrap();
    assert!(
        shown.contains("error: ") && shown.contains("next: tombola payer init"),
        "{shown}"
    );
    assert_eq!(run(&["payer", "balance", "--no-such-option"]).status.code(), Some(2));
}

#[test]
fn an_escrow_that_is_away_has_its_own_exit_code() {
    let homes = Homes::new();
    let escrow = homes.escrow();
    // Nobody listens there: the port was free a moment ago and is taken by no one.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let address = text(&escrow, "address").replace(":0", &format!(":{port}"));
    let home = homes.path("payer");
    ok(&["payer", "init", "--home", &home, "--escrow", &address]);
    let (code, error) = json(&["payer", "balance", "--home", &home]);
    assert_eq!((code, text(&error["error"], "code")), (4, "escrow_away"));
    drop(socket);
}

#[test]
fn a_file_is_bought_over_three_processes_and_the_books_balance() {
    let homes = Homes::new();
    let (escrow_home, payee_home, payer_home) = (homes.path("escrow"), homes.path("payee"), homes.path("payer"));
    homes.escrow();
    let escrow = Node::start(&["escrow", "run", "--home", &escrow_home]);
    let at = text(&escrow.ready, "address").to_owned();

    let files = homes.directory.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let song: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(files.join("song.ogg"), &song).unwrap();
    let offer = ["--escrow", &at, "--files", files.to_str().unwrap(), "--per", "4KiB"];
    ok(&[&["payee", "init", "--home", &payee_home], &offer[..]].concat());
    let payee = Node::start(&["payee", "run", "--home", &payee_home, "--listen", "127.0.0.1:0"]);
    let url = format!("{}/song.ogg", text(&payee.ready, "address"));
    assert!(text(&payee.ready, "next").contains(&url), "{}", payee.ready);

    let account = ok(&["payer", "init", "--home", &payer_home, "--escrow", &at]);
    let account = text(&account, "account");
    ok(&[
        "escrow",
        "deposit",
        account,
        "5",
        "--reference",
        "r",
        "--home",
        &escrow_home,
    ]);
    let output = homes.path("song.ogg");
    let get = ["payer", "get", &url, "-o", &output, "--home", &payer_home];
    let (code, refused) = json(&get);
    assert_eq!((code, text(&refused["error"], "code")), (7, "not_confirmed"));
    assert_eq!(refused["error"]["plan"]["units"], json!(98));

    let node = Node::start(&["payer", "run", "--home", &payer_home]);
    let got = ok(&[&get[..], &["--spend-max", "0.50"]].concat());
    assert_eq!(std::fs::read(&output).unwrap(), song);
    assert_eq!((&got["tickets"], text(&got["plan"], "worst")), (&json!(98), "0.098"));
    let balance = ok(&["payer", "balance", "--home", &payer_home]);
    assert_eq!(balance["open_holds"], json!(1));
    assert_eq!(node.interrupt(), 0);

    ok(&["payee", "redeem", "--home", &payee_home]);
    let status = ok(&["payee", "status", "--home", &payee_home]);
    assert_eq!((&status["tickets"], text(&status, "owed")), (&json!(98), "0.00"));
    assert_eq!(payee.interrupt(), 0);
    let alone = ok(&["payee", "status", "--home", &payee_home]);
    assert_eq!(alone["redeemed"], status["redeemed"]);
    let audit = ok(&["payer", "audit", "--home", &payer_home]);
    assert_eq!(audit["clean"], json!(true), "{audit}");
    let statement = ok(&["payer", "statement", "--home", &payer_home]);
    assert_eq!(statement["entries"][0]["kind"], json!("deposited"));
    assert_eq!(
        ok(&["escrow", "audit", "--home", &escrow_home])["conserved"],
        json!(true)
    );
    assert_eq!(escrow.interrupt(), 0);
}

#[test]
fn at_the_ceiling_a_download_stops_with_its_own_code_and_goes_on_without_paying_twice() {
    let homes = Homes::new();
    let (escrow_home, payee_home, payer_home) = (homes.path("escrow"), homes.path("payee"), homes.path("payer"));
    homes.escrow();
    let escrow = Node::start(&["escrow", "run", "--home", &escrow_home]);
    let at = text(&escrow.ready, "address").to_owned();
    let files = homes.directory.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let song = vec![7; 98 * 1_024];
    std::fs::write(files.join("song.ogg"), &song).unwrap();
    // A low ceiling has the smallest face value, which is the price: every ticket wins, and 20 of 98 can be paid.
    let offer = [
        "--escrow",
        &at,
        "--files",
        files.to_str().unwrap(),
        "--per",
        "1KiB",
        "--price",
        "0.001",
    ];
    ok(&[&["payee", "init", "--home", &payee_home], &offer[..]].concat());
    let payee = Node::start(&["payee", "run", "--home", &payee_home, "--listen", "127.0.0.1:0"]);
    let url = format!("{}/song.ogg", text(&payee.ready, "address"));
    let account = ok(&["payer", "init", "--home", &payer_home, "--escrow", &at]);
    let account = text(&account, "account");
    ok(&[
        "escrow",
        "deposit",
        account,
        "5",
        "--reference",
        "r",
        "--home",
        &escrow_home,
    ]);

    let output = homes.path("song.ogg");
    let get = |ceiling| {
        json(&[
            "payer",
            "get",
            &url,
            "-o",
            &output,
            "--home",
            &payer_home,
            "--spend-max",
            ceiling,
        ])
    };
    let (code, stopped) = get("0.02");
    let error = &stopped["error"];
    assert_eq!((code, text(error, "code")), (3, "ceiling_reached"), "{stopped}");
    let next = text(error, "next");
    assert!(
        next.starts_with(&format!("tombola payer get {url} -o {output} --spend-max")),
        "{next}"
    );
    assert!(!Path::new(&output).exists());

    let (code, done) = get("0.50");
    assert_eq!(code, 0, "{done}");
    assert_eq!(std::fs::read(&output).unwrap(), song);
    assert_eq!(payee.stop(), 0, "it redeems before it ends");
    let audit = ok(&["payer", "audit", "--home", &payer_home]);
    assert_eq!(
        (&audit["clean"], &audit["acknowledged"]),
        (&json!(true), &json!(98)),
        "{audit}"
    );
    assert_eq!(escrow.stop(), 0);
}
