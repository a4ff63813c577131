//! Runs the `tombola` program as its users do: nodes as processes of their own, commands with `--json`.
//!
//! The harness is for tests and panics with what it saw when something does not go as it should. Every process that it
//! starts is known by its id and is gone when its handle is dropped, or when the harness is gone.

mod guard;

use crate::cargo::cargo;
use crate::dice::Dice;
use crate::secrets;
use crate::without::is_without;
use rustix::process::{Pid, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub use rustix::process::Signal;

/// Nothing that a test waits for takes longer, on a busy machine with two idle timeouts in a row.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often something is looked at that does not tell of itself.
const LOOK: Duration = Duration::from_millis(2);

/// The program, built once by the same cargo into the same target directory and profile as the test that runs.
///
/// # Panics
/// If it cannot be built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().unwrap_or_default();
        // TARGET/PROFILE/deps/TEST, or TARGET/PROFILE/xtask
        let beside = test.parent().unwrap_or(&test);
        let is_test = beside.file_name().is_some_and(|name| name == "deps");
        let directory = beside.parent().filter(|_| is_test).unwrap_or(beside).to_path_buf();
        let target = directory.parent().map(Path::to_path_buf).unwrap_or_default();
        let profile = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let profile = if profile == "debug" { "dev" } else { profile };
        let mut build = cargo();
        build.args([
            "build",
            "--quiet",
            "--locked",
            "-p",
            "tombola",
            "--profile",
            profile,
            "--target-dir",
        ]);
        let status = build.arg(target).current_dir(crate::workspace()).status();
        assert!(status.is_ok_and(|status| status.success()), "{build:?}");
        directory.join("tombola")
    })
}

/// A variable of a process, by name and value.
pub type Variable<'a> = (&'a str, &'a str);

fn spawn(args: &[&str], variables: &[Variable<'_>]) -> Owned {
    spawn_by(Command::new(program()), args, variables)
}

fn spawn_by(mut command: Command, args: &[&str], variables: &[Variable<'_>]) -> Owned {
    command.arg("--json").args(args);
    // In a group of its own, an interrupt from the terminal is for the harness, which ends what it has started.
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .env_remove("TOMBOLA_LOG")
        .envs(variables.iter().copied());
    let child = command.spawn().unwrap_or_else(|error| panic!("{args:?}: {error}"));
    guard::begin(child.id());
    Owned(child)
}

/// Runs a command to its end: its exit code and its one object.
///
/// # Panics
/// If it prints anything else.
pub fn run(args: &[&str]) -> (i32, Value) {
    Running::start(args).finish()
}

/// Runs a command that must succeed.
///
/// # Panics
/// If it does not.
pub fn ok(args: &[&str]) -> Value {
    let (code, value) = run(args);
    assert_eq!(code, 0, "{args:?}: {value}");
    value
}

/// A text field.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    let text = value.get(key).and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("no text {key} in {value}"))
}

/// A number field.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn number(value: &Value, key: &str) -> u64 {
    let number = value.get(key).and_then(Value::as_u64);
    number.unwrap_or_else(|| panic!("no number {key} in {value}"))
}

/// Atomic units of an amount with 9 decimals.
///
/// # Panics
/// If it is no such amount.
#[must_use]
pub fn atoms(value: &Value, key: &str) -> u64 {
    let amount = tombola_core::amount::Amount::parse(text(value, key), 9);
    amount.unwrap_or_else(|error| panic!("{key} in {value}: {error}")).0
}

/// Looks again and again until something has come about that tells nobody of itself, such as the length of a file.
///
/// # Panics
/// If it never does.
pub fn wait_until(what: &str, mut has_come: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !has_come() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(LOOK);
    }
}

/// A child process that does not outlive its handle.
#[derive(Debug)]
struct Owned(Child);

impl Owned {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let sent = pid.map(|pid| kill_process(pid, signal));
        assert_eq!(sent, Some(Ok(())), "a child that is not reaped has its id");
    }

    /// The exit code of a process that ended, or -1 of one that was killed. One that aborted did neither.
    fn wait(&mut self) -> i32 {
        let status = self.end().expect("a child is waited for");
        match (status.code(), status.signal()) {
            (Some(code), _) => code,
            (None, Some(signal)) if signal == Signal::KILL.as_raw() => -1,
            (None, signal) => panic!("a process ended by signal {signal:?}: it crashed"),
        }
    }

    fn end(&mut self) -> std::io::Result<ExitStatus> {
        guard::end(self.0.id());
        self.0.wait()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.end();
    }
}

/// `ROLE init --home HOME` makes the key of that home.
fn key_file_made_by(args: &[&str]) -> Option<PathBuf> {
    let is_init = args.get(1) == Some(&"init");
    let home = args.iter().position(|arg| *arg == "--home").filter(|_| is_init)?;
    args.get(home + 1).map(|home| Path::new(home).join("key.pem"))
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    process: Owned,
    args: String,
    /// The key file that it makes, if it is to make one.
    makes: Option<PathBuf>,
}

impl Running {
    /// Starts a command.
    ///
    /// # Panics
    /// If the program cannot be run.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    /// As [`Self::start`], with variables.
    ///
    /// # Panics
    /// If the program cannot be run.
    #[must_use]
    pub fn start_with(args: &[&str], variables: &[Variable<'_>]) -> Self {
        Self {
            process: spawn(args, variables),
            args: format!("{args:?}"),
            makes: key_file_made_by(args),
        }
    }

    /// Waits for its end: its exit code and its object; of a node, which has said that it was ready, the last one.
    ///
    /// # Panics
    /// If it prints anything else.
    pub fn finish(mut self) -> (i32, Value) {
        let mut printed = String::new();
        if let Some(out) = &mut self.process.0.stdout {
            let read = out.read_to_string(&mut printed);
            assert!(read.is_ok(), "{}: {read:?}", self.args);
        }
        secrets::overhear(&printed);
        let code = self.process.wait();
        if let Some(key_file) = self.makes.filter(|_| code == 0) {
            secrets::note(&key_file);
        }
        let value = serde_json::from_str(printed.lines().last().unwrap_or("null"));
        let value = value.unwrap_or_else(|error| panic!("{}: {error}: {printed:?}", self.args));
        (code, value)
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        let is_running = matches!(self.process.0.try_wait(), Ok(None));
        if !is_running {
            guard::end(self.process.0.id());
        }
        is_running
    }

    /// Sends a signal, such as SIGSTOP. It must not have been found ended.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// SIGKILL: it gets no chance to do anything more.
    pub fn kill(mut self) {
        self.process.signal(Signal::KILL);
        let _ = self.process.wait();
    }

    /// Sends a signal and waits for the end: exit code and object, if it printed one.
    pub fn end(self, signal: Signal) -> (i32, Value) {
        self.process.signal(signal);
        self.finish()
    }
}

/// A node that runs and is ready.
#[derive(Debug)]
pub struct Node {
    process: Owned,
    ready: Value,
}

impl Node {
    /// Starts a node and waits until it says that it is ready.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    /// As [`Self::start`], with variables.
    ///
    /// # Panics
    /// If it does not say that it is ready.
    #[must_use]
    pub fn start_with(args: &[&str], variables: &[Variable<'_>]) -> Self {
        Self::await_ready(spawn(args, variables), args)
    }

    /// As [`Self::start`], of another user, who gets the home and is let into the town; none with `--without root`.
    ///
    /// # Panics
    /// If it does not say that it is ready, or these tests are not root's.
    #[must_use]
    pub fn start_as(uid: u32, town: &Town, home: &str, args: &[&str]) -> Option<Self> {
        if is_without("root") {
            return None;
        }
        assert!(
            rustix::process::geteuid().is_root(),
            "only root starts a node of another user: run the tests as root, or leave this out with `cargo xtask ci --without root`"
        );
        town.give(home, uid);
        // Where the program is may be closed to that user.
        let copy = town.path("tombola");
        if !copy.exists() {
            let copied = std::fs::copy(program(), &copy);
            assert!(copied.is_ok(), "{copied:?}");
        }
        let mut command = Command::new(copy);
        command.uid(uid).gid(uid);
        let home = town.arg(home);
        let args = [args, &["--home", &home]].concat();
        Some(Self::await_ready(spawn_by(command, &args, &[]), &args))
    }

    fn await_ready(mut process: Owned, args: &[&str]) -> Self {
        let mut line = String::new();
        if let Some(out) = process.0.stdout.take() {
            let read = BufReader::new(out).read_line(&mut line);
            assert!(read.is_ok(), "{args:?}: {read:?}");
        }
        secrets::overhear(&line);
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{args:?}: {error}: {line:?}"));
        assert_eq!(ready.get("ready"), Some(&Value::Bool(true)), "{args:?}: {ready}");
        Self { process, ready }
    }

    /// What it printed when it was ready.
    #[must_use]
    pub const fn ready(&self) -> &Value {
        &self.ready
    }

    /// Its address, `tombola://KEY@127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        text(&self.ready, "address")
    }

    /// `127.0.0.1:PORT`, to start it there again.
    #[must_use]
    pub fn socket(&self) -> String {
        let (_, at) = self.address().rsplit_once('@').unwrap_or_default();
        at.to_owned()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Sends a signal, such as SIGSTOP.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// SIGKILL: it gets no chance to do anything more.
    pub fn kill(mut self) {
        self.process.signal(Signal::KILL);
        let _ = self.process.wait();
    }

    /// Sends a signal and waits for the end: its exit code.
    pub fn end(mut self, signal: Signal) -> i32 {
        self.process.signal(signal);
        self.process.wait()
    }
}

/// A directory with the homes of all roles and the files for sale, gone when dropped.
#[derive(Debug)]
pub struct Town {
    directory: tempfile::TempDir,
}

/// What a payee sells for how much; amounts as decimals.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Price of a unit.
    pub price: &'a str,
    /// Bytes of a unit.
    pub per: &'a str,
    /// Largest face value: with the price as face value every ticket wins.
    pub face_value_max: &'a str,
    /// Winners of this value are redeemed at once.
    pub redeem_at_value: &'a str,
}

impl Town {
    /// An empty one.
    ///
    /// # Panics
    /// If no directory can be made.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::tempdir();
        Self {
            directory: directory.unwrap_or_else(|error| panic!("no directory: {error}")),
        }
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The same as an argument.
    #[must_use]
    pub fn arg(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Gives a home to a user, who may come by here.
    fn give(&self, home: &str, uid: u32) {
        let home = self.path(home);
        let open = std::fs::Permissions::from_mode(0o711);
        let given = std::fs::set_permissions(self.directory.path(), open)
            .and_then(|()| std::fs::read_dir(&home))
            .and_then(|files| {
                let mut paths = vec![home];
                for file in files {
                    paths.push(file?.path());
                }
                paths.iter().try_for_each(|path| chown(path, Some(uid), Some(uid)))
            });
        assert!(given.is_ok(), "{given:?}");
    }

    /// Makes the escrow and starts it on a free port.
    #[must_use]
    pub fn escrow(&self) -> Node {
        ok(&[
            "escrow",
            "init",
            "--home",
            &self.arg("escrow"),
            "--listen",
            "127.0.0.1:0",
        ]);
        self.run_escrow("127.0.0.1:0")
    }

    /// Starts the escrow that is there.
    #[must_use]
    pub fn run_escrow(&self, listen: &str) -> Node {
        Node::start(&["escrow", "run", "--home", &self.arg("escrow"), "--listen", listen])
    }

    /// Makes a payee that sells the directory `files`, and starts it on a free port.
    ///
    /// # Panics
    /// If its configuration cannot be written.
    #[must_use]
    pub fn payee(&self, name: &str, escrow: &Node, offer: Offer<'_>) -> Node {
        let (home, files) = (self.arg(name), self.arg("files"));
        let made = std::fs::create_dir_all(&files);
        assert!(made.is_ok(), "{made:?}");
        let what = ["--files", &files, "--price", offer.price, "--per", offer.per];
        ok(&[
            &["payee", "init", "--home", &home, "--escrow", escrow.address()],
            &what[..],
        ]
        .concat());
        let config = self.path(name).join("config.toml");
        let read = std::fs::read_to_string(&config).unwrap_or_default();
        let changed: Vec<String> = read.lines().map(|line| offer.set(line)).collect();
        let written = std::fs::write(&config, changed.join("\n"));
        assert!(written.is_ok(), "{written:?}");
        self.run_payee(name, "127.0.0.1:0")
    }

    /// Starts a payee that is there.
    #[must_use]
    pub fn run_payee(&self, name: &str, listen: &str) -> Node {
        Node::start(&["payee", "run", "--home", &self.arg(name), "--listen", listen])
    }

    /// Makes a payer and pays its deposit in.
    pub fn payer(&self, name: &str, escrow: &Node, deposit: &str) {
        let made = ok(&["payer", "init", "--home", &self.arg(name), "--escrow", escrow.address()]);
        let (account, home) = (text(&made, "account"), self.arg("escrow"));
        ok(&[
            "escrow",
            "deposit",
            account,
            deposit,
            "--reference",
            name,
            "--home",
            &home,
        ]);
    }

    /// Puts a file up for sale: `bytes` of it, by a seed.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn file(&self, name: &str, bytes: usize, seed: u64) -> Vec<u8> {
        let mut dice = Dice::new(seed);
        let content: Vec<u8> = (0..bytes).map(|_| dice.draw().to_le_bytes()[0]).collect();
        let files = self.path("files");
        let written = std::fs::create_dir_all(&files).and_then(|()| std::fs::write(files.join(name), &content));
        assert!(written.is_ok(), "{written:?}");
        content
    }

    /// What a command of a role says, asked on its home.
    #[must_use]
    pub fn ask(&self, role: &str, what: &str, home: &str) -> Value {
        ok(&[role, what, "--home", &self.arg(home)])
    }
}

impl Default for Town {
    fn default() -> Self {
        Self::new()
    }
}

impl Offer<'_> {
    fn set(&self, line: &str) -> String {
        let settings = [
            ("face_value_max", self.face_value_max),
            ("redeem_at_value", self.redeem_at_value),
        ];
        let of_line = settings.iter().find(|(key, _)| line.starts_with(&format!("{key} =")));
        of_line.map_or_else(|| line.to_owned(), |(key, value)| format!("{key} = \"{value}\""))
    }
}
