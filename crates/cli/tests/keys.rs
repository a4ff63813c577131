//! Key files as their owners handle them, and that no secret leaves a process that runs with one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use tombola_core::key::SecretKey;
use tombola_node::key_file::{self, KeyFile, Passphrase};
use tombola_tests::secrets::forms;

const PASSPHRASE: &str = "correct horse battery staple";
const VARIABLES: [&str; 2] = ["TOMBOLA_PASSPHRASE", "TOMBOLA_NEW_PASSPHRASE"];

fn tombola(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tombola"));
    command
        .stdin(Stdio::null())
        .env_remove("TOMBOLA_LOG")
        .current_dir(directory);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command
}

/// The exit code and the one object of a command, with these variables set.
fn json_with(directory: &Path, args: &str, variables: &[(&str, &str)]) -> (i32, Value) {
    let args = args.split(' ');
    let mut command = tombola(directory);
    let output = command
        .arg("--json")
        .args(args.clone())
        .envs(variables.iter().copied())
        .output();
    result(&output.unwrap(), &args.collect::<Vec<_>>().join(" "))
}

fn result(output: &Output, args: &str) -> (i32, Value) {
    let (text, shown) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let value = serde_json::from_str(&text);
    let value = value.unwrap_or_else(|error| panic!("{args}: {error}: {text:?} {shown}"));
    (output.status.code().unwrap(), value)
}

fn ok(directory: &Path, args: &str) -> Value {
    let (code, value) = json_with(directory, args, &[]);
    assert_eq!(code, 0, "{args}: {value}");
    value
}

/// A command that fails, the name of its error, and what to do next.
fn refused(directory: &Path, args: &str) -> (String, String) {
    let (code, value) = json_with(directory, args, &[]);
    assert_eq!(code, 1, "{args}: {value}");
    let field = |name: &str| value["error"][name].as_str().unwrap_or_default().to_owned();
    (field("code"), field("message") + "; " + &field("next"))
}

fn private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A directory with two passphrases in files.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    private(&directory.path().join("one"), &format!("{PASSPHRASE}\n"));
    private(&directory.path().join("two"), "another\n");
    directory
}

fn open(path: &Path, passphrase: &str) -> SecretKey {
    let passphrase = Passphrase::new(passphrase.as_bytes().to_vec().into()).unwrap();
    KeyFile::read(path).unwrap().open(Some(&passphrase)).unwrap()
}

#[test]
fn a_key_is_made_shown_carried_and_protected_anew() {
    let directory = directory();
    let at = directory.path();
    let made = ok(at, "key new k.pem --passphrase-file one --passes 1");
    let account = &made["account"];
    assert_eq!(made["encrypted"], json!(true));
    assert_eq!(json!(open(&at.join("k.pem"), PASSPHRASE).account()), *account);
    assert_eq!(refused(at, "key new k.pem").0, "exists");

    let shown = ok(at, "key show k.pem");
    assert_eq!((&shown["account"], &shown["checked"]), (account, &json!(false)));
    let shown = ok(at, "key show k.pem --passphrase-file one");
    assert_eq!((&shown["account"], &shown["checked"]), (account, &json!(true)));
    assert_eq!(
        refused(at, "key show k.pem --passphrase-file two").0,
        "passphrase_wrong"
    );
    let inspected = ok(at, "inspect k.pem").to_string();
    assert!(inspected.contains(&account.to_string()), "{inspected}");

    let args = "key export k.pem -o e.pem --passphrase-file one --new-passphrase-file two --passes 2";
    assert_eq!(ok(at, args)["encrypted"], json!(true));
    assert_eq!(at.join("e.pem").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(refused(at, args).0, "exists");
    ok(at, "key import e.pem i.pem --passphrase-file two");
    assert_eq!(json!(open(&at.join("i.pem"), "another").account()), *account);

    let changed = ok(
        at,
        "key change-passphrase i.pem --passphrase-file two --new-passphrase-file one",
    );
    assert_eq!(&changed["account"], account);
    assert_eq!(json!(open(&at.join("i.pem"), PASSPHRASE).account()), *account);
    let removed = ok(at, "key change-passphrase i.pem --passphrase-file one --remove");
    assert_eq!(removed["encrypted"], json!(false));
    assert_eq!(json!(key_file::read(&at.join("i.pem")).unwrap().account()), *account);
    ok(at, "key change-passphrase i.pem --new-passphrase-file two --passes 1");
    assert_eq!(json!(open(&at.join("i.pem"), "another").account()), *account);
    assert_eq!(std::fs::read_dir(at).unwrap().count(), 5, "no stray file stays");
}

#[test]
fn a_plain_export_and_a_seed_are_taken_back() {
    let directory = directory();
    let at = directory.path();
    let account = ok(at, "key new k.pem")["account"].clone();
    assert_eq!(refused(at, "key export k.pem").0, "passphrase_needed");
    let exported = ok(at, "key export k.pem --plain");
    let seed = key_file::read(&at.join("k.pem")).unwrap().seed();
    private(&at.join("plain"), exported["key"].as_str().unwrap());
    private(&at.join("hex"), &format!("{}\n", hex::encode(*seed)));
    std::fs::write(at.join("raw"), *seed).unwrap();
    std::fs::set_permissions(at.join("raw"), std::fs::Permissions::from_mode(0o600)).unwrap();
    for from in ["plain", "hex", "raw"] {
        let imported = ok(
            at,
            &format!("key import {from} {from}.pem --passphrase-file one --passes 1"),
        );
        assert_eq!((&imported["account"], &imported["encrypted"]), (&account, &json!(true)));
    }
    let mut command = tombola(at);
    let stdin = std::fs::File::open(at.join("hex")).unwrap();
    let output = command
        .args(["--json", "key", "import", "-", "in.pem"])
        .stdin(stdin)
        .output();
    assert_eq!(result(&output.unwrap(), "import -").1["account"], account);
    private(&at.join("odd"), &hex::encode(&seed[1..]));
    assert_eq!(refused(at, "key import odd odd.pem").0, "key_file");
    std::fs::set_permissions(at.join("hex"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, told) = refused(at, "key import hex hex2.pem");
    assert_eq!(code, "key_file");
    assert!(told.contains("(mode 644); run: chmod 600 hex"), "{told}");
}

#[test]
fn without_terminal_file_or_variable_the_three_ways_are_told() {
    let directory = directory();
    let at = directory.path();
    ok(at, "key new k.pem --passphrase-file one --passes 1");
    let (code, told) = refused(at, "key export k.pem");
    assert_eq!(code, "passphrase_needed");
    for way in ["--passphrase-file", "TOMBOLA_PASSPHRASE", "terminal"] {
        assert!(told.contains(way), "{told}");
    }
    assert_eq!(
        refused(at, "key change-passphrase k.pem --passphrase-file one").0,
        "passphrase_needed"
    );
    let export = |variables| json_with(at, "key export k.pem", variables);
    assert_eq!(export(&[("TOMBOLA_PASSPHRASE", PASSPHRASE)]).0, 0);
    assert_eq!(
        export(&[("TOMBOLA_PASSPHRASE", "wrong")]).1["error"]["code"],
        "passphrase_wrong"
    );
    assert_eq!(export(&[("TOMBOLA_PASSPHRASE", "")]).1["error"]["code"], "passphrase");
    let (code, _) = json_with(at, "key new none.pem", &[("TOMBOLA_PASSPHRASE", "")]);
    assert!(
        code == 1 && !at.join("none.pem").exists(),
        "an empty variable is a slip"
    );
    let (code, _) = json_with(
        at,
        "key export k.pem --passphrase-file one",
        &[("TOMBOLA_PASSPHRASE", "wrong")],
    );
    assert_eq!(code, 0, "the option goes first");
    std::fs::set_permissions(at.join("one"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let (code, told) = refused(at, "key export k.pem --passphrase-file one");
    assert!(
        code == "passphrase" && told.contains("(mode 640); run: chmod 600 one"),
        "{told}"
    );
}

#[test]
fn a_passphrase_that_cannot_be_changed_leaves_the_old_file_as_it_is() {
    let directory = directory();
    let at = directory.path();
    ok(at, "key new k.pem --passphrase-file one --passes 1");
    let before = std::fs::read(at.join("k.pem")).unwrap();
    // Files may not grow: the new one cannot be written. Ignored, the signal becomes an error.
    let program = env!("CARGO_BIN_EXE_tombola");
    let script = format!(
        "trap '' XFSZ; ulimit -f 0; exec {program} --json key change-passphrase k.pem --passphrase-file one \
         --new-passphrase-file two --passes 1 | cat"
    );
    let mut command = Command::new("bash");
    let output = command
        .args(["-c", &script])
        .current_dir(at)
        .stdin(Stdio::null())
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["error"]["code"], "key_file", "{told}");
    let wrong = "key change-passphrase k.pem --passphrase-file two --new-passphrase-file one";
    assert_eq!(refused(at, wrong).0, "passphrase_wrong");
    assert_eq!(std::fs::read(at.join("k.pem")).unwrap(), before);
    assert_eq!(std::fs::read_dir(at).unwrap().count(), 3, "no stray file stays");
}

/// A command on a terminal of its own, by `script` of util-linux.
struct Terminal {
    child: Child,
    shown: String,
}

impl Terminal {
    fn start(directory: &Path, args: &str) -> Self {
        let mut command = Command::new("script");
        let line = format!("{} {args}", env!("CARGO_BIN_EXE_tombola"));
        command.args(["-qec", &line, "/dev/null"]).current_dir(directory);
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let shown = String::new();
        Self { child, shown }
    }

    /// Whether what is typed would be shown.
    fn echoes(&self) -> bool {
        let pid = self.child.id().to_string();
        let tty = Command::new("ps")
            .args(["-o", "tty=", "--ppid", &pid])
            .output()
            .unwrap();
        let tty = String::from_utf8(tty.stdout).unwrap();
        let tty = format!("/dev/{}", tty.trim());
        let state = Command::new("stty").args(["-a", "-F", &tty]).output().unwrap();
        let state = String::from_utf8(state.stdout).unwrap();
        assert!(state.contains("echo"), "{tty}: {state:?}");
        !state.contains(" -echo ")
    }

    /// Types a line once the prompt is there and the terminal shows nothing of it.
    fn answer(&mut self, prompt: &str, line: &str) {
        let from = self.shown.len();
        while !self.shown[from..].contains(prompt) {
            let mut byte = [0];
            let read = self.child.stdout.as_mut().unwrap().read(&mut byte).unwrap();
            assert_eq!(read, 1, "no {prompt:?} in {:?}", self.shown);
            self.shown.push(byte[0].into());
        }
        // The prompt comes a moment before that.
        while self.echoes() {
            std::thread::yield_now();
        }
        let input = self.child.stdin.as_mut().unwrap();
        input
            .write_all(line.as_bytes())
            .and_then(|()| input.write_all(b"\n"))
            .unwrap();
        input.flush().unwrap();
    }

    fn end(mut self) -> (i32, String) {
        let mut rest = Vec::new();
        self.child.stdout.as_mut().unwrap().read_to_end(&mut rest).unwrap();
        self.shown.push_str(&String::from_utf8_lossy(&rest));
        (self.child.wait().unwrap().code().unwrap(), self.shown.clone())
    }
}

#[test]
fn a_terminal_is_asked_twice_for_a_new_passphrase_and_once_for_an_old_one_without_echo() {
    let directory = directory();
    let at = directory.path();
    let mut terminal = Terminal::start(at, "key new k.pem --passes 1");
    terminal.answer("(Enter for none): ", PASSPHRASE);
    terminal.answer("once more: ", PASSPHRASE);
    let (code, shown) = terminal.end();
    assert!(code == 0 && !shown.contains(PASSPHRASE), "{shown}");
    let account = open(&at.join("k.pem"), PASSPHRASE).account();

    let mut terminal = Terminal::start(at, "key export k.pem -o e.pem");
    terminal.answer("Passphrase of k.pem: ", PASSPHRASE);
    assert_eq!(terminal.end().0, 0);
    assert_eq!(
        open(&at.join("e.pem"), PASSPHRASE).account(),
        account,
        "it keeps its passphrase"
    );

    let mut terminal = Terminal::start(at, "key new differ.pem");
    terminal.answer("(Enter for none): ", "one");
    terminal.answer("once more: ", "two");
    assert_eq!((terminal.end().0, at.join("differ.pem").exists()), (1, false));

    let mut terminal = Terminal::start(at, "payer init --home h --escrow tombola://KEY@127.0.0.1:1");
    let escrow = format!("tombola://{account}@127.0.0.1:1");
    drop(terminal.child.stdin.take());
    assert_eq!(terminal.end().0, 2, "no address");
    let mut terminal = Terminal::start(at, &format!("payer init --home h --escrow {escrow}"));
    terminal.answer("(Enter for none): ", "");
    let (code, shown) = terminal.end();
    assert!(
        code == 0 && shown.contains("not encrypted; to encrypt it: tombola key"),
        "{shown}"
    );
    key_file::read(&at.join("h/key.pem")).unwrap();
}

/// A node at its most talkative. All that it says is kept.
struct Talker {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    said: String,
}

impl Talker {
    fn start(directory: &Path, args: &str) -> (Self, Value) {
        let mut command = tombola(directory);
        command.arg("--json").args(args.split(' ')).env("TOMBOLA_LOG", "trace");
        let log = std::fs::File::create(directory.join(format!("{}.log", args.replace([' ', '/'], "-")))).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        out.read_line(&mut said).unwrap();
        let ready = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{args}: {error}: {said}"));
        (Self { child, out, said }, ready)
    }

    fn limits(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap()
    }

    fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.out.read_to_string(&mut self.said).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        std::mem::take(&mut self.said)
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // Gone already in a test that went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn no_secret_is_in_anything_that_real_nodes_say_or_write() {
    let directory = directory();
    let at = directory.path();
    std::fs::create_dir(at.join("files")).unwrap();
    std::fs::write(at.join("files/song.ogg"), vec![7; 50_000]).unwrap();
    let by_file = "--passphrase-file one";
    let mut said = ok(at, &format!("escrow init --home escrow --listen 127.0.0.1:0 {by_file}")).to_string();
    let (escrow, ready) = Talker::start(at, &format!("escrow run --home escrow {by_file}"));
    let address = ready["address"].as_str().unwrap().to_owned();
    let core = escrow.limits();
    let core = core
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let core: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(core, ["0", "0"], "core dumps are off");
    said += &ok(
        at,
        &format!("payee init --home payee --escrow {address} --files files --listen 127.0.0.1:0 --per 1KiB {by_file}"),
    )
    .to_string();
    let (payee, ready) = Talker::start(at, &format!("payee run --home payee {by_file}"));
    let url = format!("{}/song.ogg", ready["address"].as_str().unwrap());
    let payer = ok(at, &format!("payer init --home payer --escrow {address} {by_file}"));
    let account = payer["account"].as_str().unwrap();
    ok(at, &format!("escrow deposit {account} 5 --reference r --home escrow"));
    for args in [
        format!("payer get {url} -o song.ogg --spend-max 0.50 --home payer"),
        "payer audit --home payer".to_owned(),
        "payer balance --home payer --no-such-option".to_owned(),
        "key export payer/key.pem".to_owned(),
        "key show payer/key.pem".to_owned(),
        "inspect payer/key.pem".to_owned(),
    ] {
        let mut command = tombola(at);
        command
            .args(args.split(' '))
            .env("TOMBOLA_LOG", "trace")
            .env("TOMBOLA_PASSPHRASE", PASSPHRASE);
        let output = command.output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), !args.contains("no-such"), "{args}: {log}");
        said = said + &String::from_utf8_lossy(&output.stdout) + &log;
    }
    said += &refused(at, "key show payer/key.pem --passphrase-file two").1;
    assert_eq!(std::fs::read(at.join("song.ogg")).unwrap(), vec![7; 50_000]);
    said = said + &payee.stop() + &escrow.stop();

    let mut secrets = vec![PASSPHRASE.as_bytes().to_vec()];
    for role in ["escrow", "payee", "payer"] {
        let seed = open(&at.join(role).join("key.pem"), PASSPHRASE).seed();
        secrets.extend(forms(&seed).into_iter().map(String::into_bytes));
        secrets.push(seed.to_vec());
    }
    let mut searched = vec![("output".to_owned(), said.into_bytes())];
    for place in [".", "escrow", "payee", "payer"] {
        for entry in std::fs::read_dir(at.join(place)).unwrap().map(Result::unwrap) {
            if entry.path().is_file() && entry.file_name() != "one" {
                searched.push((entry.path().display().to_string(), std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    let logged: usize = searched
        .iter()
        .filter(|(name, _)| name.ends_with(".log"))
        .map(|(_, text)| text.len())
        .sum();
    println!(
        "{} files and the output searched, {logged} bytes of logs",
        searched.len() - 1
    );
    assert!(logged > 10_000, "the logs are there");
    for (name, bytes) in &searched {
        for secret in &secrets {
            let found = contains(bytes, secret);
            assert!(!found, "{name} has {:?}", String::from_utf8_lossy(secret));
        }
    }
    // The search finds what is there.
    private(&at.join("one"), &format!("x{PASSPHRASE}"));
    assert!(contains(&std::fs::read(at.join("one")).unwrap(), &secrets[0]));
    let plain = json_with(
        at,
        "key export payer/key.pem --plain",
        &[("TOMBOLA_PASSPHRASE", PASSPHRASE)],
    );
    let body = plain.1["key"].as_str().unwrap().replace('\n', "");
    assert!(
        secrets.iter().any(|secret| contains(body.as_bytes(), secret)),
        "base64 is searched for"
    );
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    let first = word[0];
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
    starts.into_iter().any(|(at, _)| bytes[at..].starts_with(word))
}
