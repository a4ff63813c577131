//! Real PostgreSQL servers for tests: in a temporary directory, on a free port, gone when the test is.
//!
//! A server runs with `fsync` on and as an unprivileged user when the test runs as root. Beside it runs a guard, a
//! shell that waits for the end of a pipe: when the harness drops the server or dies, however it dies, the guard ends
//! the server by its process id and removes the directory. So nothing is left behind, and nothing stale is in the way.
//!
//! Where the server's programs are missing, root on a Debian-like system gets them installed; others are told what to
//! run. With `TOMBOLA_WITHOUT=postgres` the tests say `NOT RUN: postgres`; no test is left out silently.

mod programs;

use crate::faketime::Clock;
use crate::process::Variable;
use crate::without::is_without;
use programs::{Owner, Programs};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server starts, stops and is promoted in less than this on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a server is looked at that does not tell of itself.
const LOOK: Duration = Duration::from_millis(5);
/// Ports are found free and then bound, and somebody may come between.
const PORT_TRIES: u32 = 8;

/// A running server.
#[derive(Debug)]
pub struct Server {
    owner: Owner,
    programs: Programs,
    home: TempDir,
    port: u16,
    process: Child,
    guard: Guard,
}

/// A setting of a server, by name and value.
pub type Setting<'a> = (&'a str, &'a str);

impl Server {
    /// The server that all tests of this process share; none with `TOMBOLA_WITHOUT=postgres`.
    ///
    /// # Panics
    /// If it does not start.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Server> = OnceLock::new();
        // It is never dropped; its guard ends it with this process.
        (!is_without("postgres")).then(|| SHARED.get_or_init(|| Self::start(&[])))
    }

    /// A server with these settings besides ours.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(settings: &[Setting<'_>]) -> Self {
        Self::start_in(settings, &[], initialise)
    }

    /// A server that goes by another clock, of which its user can read the file.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_by(clock: &Clock) -> Self {
        Self::start_in(&[], &clock.variables(), initialise)
    }

    /// A server that speaks TLS with this certificate and key, both PEM.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_tls(certificate: &str, key: &str) -> Self {
        let settings = [("ssl", "on"), ("ssl_cert_file", "tls.crt"), ("ssl_key_file", "tls.key")];
        Self::start_in(&settings, &[], |place, data| {
            initialise(place, data);
            for (name, text) in [("tls.crt", certificate), ("tls.key", key)] {
                let path = data.join(name);
                fs::write(&path, text).expect("a file of the server");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
                place.owner.own(&path);
            }
        })
    }

    fn start_in(settings: &[Setting<'_>], variables: &[Variable<'_>], fill: impl FnOnce(&Place<'_>, &Path)) -> Self {
        let programs = Programs::find();
        let owner = Owner::find();
        let home = owner.directory();
        let data = home.path().join("data");
        let place = Place {
            owner: &owner,
            programs: &programs,
        };
        fill(&place, &data);
        for _ in 0..PORT_TRIES {
            let port = free_port();
            let mut process = spawn(&place, home.path(), port, settings, variables);
            if is_ready(&mut process, &data) {
                let guard = Guard::new(process.id(), home.path());
                return Self {
                    owner,
                    programs,
                    home,
                    port,
                    process,
                    guard,
                };
            }
        }
        panic!("PostgreSQL did not start: {}", log(home.path()));
    }

    /// A new database, empty: its address.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.address(&name)
    }

    /// The address of a database over TCP.
    #[must_use]
    pub fn address(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}?sslmode=disable", self.host())
    }

    /// The address of a database over the server's unix socket.
    #[must_use]
    pub fn socket_address(&self, database: &str) -> String {
        let directory = self.home.path().to_string_lossy().replace('/', "%2F");
        format!("postgres://postgres@/{database}?host={directory}&port={}", self.port)
    }

    /// Host and port.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs SQL and gives what `psql` prints: rows in lines, columns separated by `|`.
    ///
    /// # Panics
    /// If the server refuses it.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = self.owner.command(&self.programs.path("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"]);
        psql.arg(self.home.path())
            .args(["-p", &self.port.to_string(), "-c", sql]);
        finish(&mut psql)
    }

    /// Runs another of the server's programs on this server, `pgbench` say, and gives what it prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn program(&self, name: &str, arguments: &[&str]) -> String {
        let mut program = self.owner.command(&self.programs.path(name));
        program.args(["-U", "postgres", "-h"]).arg(self.home.path());
        finish(program.args(["-p", &self.port.to_string()]).args(arguments))
    }

    /// What it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        log(self.home.path())
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }

    /// A second server that copies this one, which from then on acknowledges no commit that the second has not.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn synchronous_standby(&self) -> Self {
        let standby = Self::start_in(&[], &[], |place, data| {
            let mut copy = place.owner.command(&place.programs.path("pg_basebackup"));
            copy.args(["-U", "postgres", "-h"]).arg(self.home.path());
            copy.args(["-p", &self.port.to_string(), "-X", "stream", "-c", "fast", "-D"])
                .arg(data);
            finish(&mut copy);
            let source = format!(
                "primary_conninfo = 'host=127.0.0.1 port={} user=postgres application_name=standby'\n",
                self.port
            );
            for (name, text) in [("standby.signal", String::new()), ("postgresql.auto.conf", source)] {
                let path = data.join(name);
                fs::write(&path, text).expect("a file of the standby");
                place.owner.own(&path);
            }
        });
        // Only now, and only here: the standby must not wait for a standby of its own once it is promoted.
        self.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'standby'");
        self.sql("postgres", "SELECT pg_reload_conf()");
        wait_for("the standby to be synchronous", || {
            self.sql("postgres", "SELECT sync_state FROM pg_stat_replication")
                .trim()
                == "sync"
        });
        standby
    }

    /// Makes a standby a server that takes writes.
    ///
    /// # Panics
    /// If it does not become one.
    pub fn promote(&self) {
        assert_eq!(self.sql("postgres", "SELECT pg_promote()").trim(), "t");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(i32::try_from(self.process.id()).unwrap_or_default()) {
            // An immediate shutdown; what it would have written is removed anyway.
            let _ = kill_process(pid, Signal::QUIT);
        }
        drop(self.process.wait());
        self.guard.dismiss();
    }
}

/// A primary and its synchronous standby.
#[derive(Debug)]
pub struct Cluster {
    /// Takes writes until it is killed.
    pub primary: Server,
    /// Takes writes when it is promoted.
    pub standby: Server,
}

impl Cluster {
    /// Starts both.
    ///
    /// # Panics
    /// If they do not start.
    #[must_use]
    pub fn primary_with_standby() -> Self {
        let primary = Server::start(&[]);
        let standby = primary.synchronous_standby();
        Self { primary, standby }
    }

    /// The address of a database that names both.
    #[must_use]
    pub fn address(&self, database: &str) -> String {
        let (primary, standby) = (self.primary.host(), self.standby.host());
        format!("postgres://postgres@{primary},{standby}/{database}?sslmode=disable")
    }

    /// Ends the primary as a power cut does.
    pub fn kill_primary(&mut self) {
        self.primary.kill();
    }

    /// Lets the standby take over.
    ///
    /// # Panics
    /// If it does not.
    pub fn promote(&self) {
        self.standby.promote();
    }
}

/// What a server is made with.
struct Place<'a> {
    owner: &'a Owner,
    programs: &'a Programs,
}

fn initialise(place: &Place<'_>, data: &Path) {
    let mut initdb = place.owner.command(&place.programs.path("initdb"));
    initdb
        .arg("-D")
        .arg(data)
        .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]);
    // Nothing that matters is written yet.
    finish(initdb.arg("--no-sync"));
}

/// Ends a server and removes its directory when the harness is gone.
#[derive(Debug)]
struct Guard {
    process: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// It reads one line. Without one, which is when the harness died, it ends the server first.
    fn new(server: u32, home: &Path) -> Self {
        let script = "read -r dismissed || { kill -QUIT \"$1\"; \
                      for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 \"$1\" || break; sleep 0.2; done; }; rm -rf \"$2\"";
        let mut guard = Command::new("sh");
        guard.args(["-c", script, "guard", &server.to_string()]).arg(home);
        // In a group of its own an interrupt from the terminal does not reach it before the harness.
        guard
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let mut process = guard.spawn().expect("sh");
        let pipe = process.stdin.take();
        Self { process, pipe }
    }

    /// The server is gone; only its directory is removed.
    fn dismiss(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            drop(std::io::Write::write_all(&mut pipe, b"dismissed\n"));
        }
        drop(self.process.wait());
    }
}

fn spawn(place: &Place<'_>, home: &Path, port: u16, settings: &[Setting<'_>], variables: &[Variable<'_>]) -> Child {
    let mut server = place.owner.command(&place.programs.path("postgres"));
    server.arg("-D").arg(home.join("data"));
    let port = port.to_string();
    let directory = home.to_string_lossy();
    let ours = [
        ("port", port.as_str()),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", &directory),
        ("fsync", "on"),
        ("max_connections", "200"),
        ("shared_buffers", "256MB"),
        ("max_wal_size", "4GB"),
        ("wal_level", "replica"),
        ("hot_standby", "on"),
    ];
    for (name, value) in ours.iter().chain(settings) {
        server.arg("-c").arg(format!("{name}={value}"));
    }
    let log = fs::File::create(home.join("log")).expect("the server's log");
    let same = log.try_clone().expect("the server's log");
    // Not in the group of the terminal: an interrupt is for the harness, and the guard ends the server.
    server.stdin(Stdio::null()).stdout(log).stderr(same).process_group(0);
    server.envs(variables.iter().copied());
    server.spawn().expect("postgres")
}

/// Waits until it takes connections; not if it ends, because of its port say.
fn is_ready(process: &mut Child, data: &Path) -> bool {
    let began = Instant::now();
    loop {
        if !matches!(process.try_wait(), Ok(None)) {
            return false;
        }
        // The last line of this file is what pg_ctl waits for as well.
        let status = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        if status.lines().nth(7).map(str::trim) == Some("ready") {
            return true;
        }
        if began.elapsed() > PATIENCE {
            drop(process.kill());
            drop(process.wait());
            return false;
        }
        std::thread::sleep(LOOK);
    }
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(LOOK);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Runs a program to its end and gives what it prints.
fn finish(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("a program of PostgreSQL");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn log(home: &Path) -> String {
    fs::read_to_string(home.join("log")).unwrap_or_default()
}

impl Owner {
    /// A directory that the server's user can reach and owns.
    fn directory(&self) -> TempDir {
        let wanted = std::env::temp_dir();
        // A unix socket's path has 107 bytes at most, and each directory above must let the user through.
        let lets_through = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0);
        let is_open = self.is_another() && !wanted.ancestors().all(lets_through);
        let parent = if is_open { PathBuf::from("/tmp") } else { wanted };
        let home = tempfile::Builder::new()
            .prefix("tombola-pg-")
            .tempdir_in(parent)
            .expect("a directory");
        self.own(home.path());
        home
    }

    fn own(&self, path: &Path) {
        if let Some((uid, gid)) = self.ids() {
            chown(path, Some(uid), Some(gid)).expect("root gives files away");
        }
    }

    /// A program that runs as this user, where it may be.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir("/")
            .env_remove("PGHOST")
            .env_remove("PGPORT")
            .env_remove("PGUSER");
        command.env_remove("PGOPTIONS").env("LC_ALL", "C");
        if let Some((uid, gid)) = self.ids() {
            command.uid(uid).gid(gid);
        }
        command
    }
}
