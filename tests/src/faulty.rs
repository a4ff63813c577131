//! Real faults for real processes: a file system of a few megabytes, and system calls that fail.
//!
//! Both need what not every machine has: root, to mount in a namespace of the test's own, and strace. Where they are
//! missing the tests say what to do, or that they are left out ([`is_without`]).

use crate::debian;
use crate::process::{Signal, program};
use crate::recorded::Recorder;
use crate::without::is_without;
use rustix::process::{Pid, kill_process, kill_process_group};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use tempfile::TempDir;

/// A file system in memory, of a few megabytes, that only this test sees: in a mount namespace of its own, which a shell
/// keeps until its input ends, as it does when the test ends in any way.
#[derive(Debug)]
pub struct SmallDisk {
    keeper: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    path: PathBuf,
    _directory: TempDir,
}

/// Mounts, and remounts for each line.
const KEEP: &str = "mount -t tmpfs -o \"size=$2\" small \"$1\" && echo mounted && \
                    while read -r how; do mount -o \"remount,$how\" \"$1\" && echo \"$how\"; done";
/// What takes the room of a full disk.
const BALLAST: &str = "ballast";

impl SmallDisk {
    /// Makes one of so many megabytes; none with `--without mounts`.
    ///
    /// # Panics
    /// If it cannot be mounted.
    #[must_use]
    pub fn mount(megabytes: u32) -> Option<Self> {
        if is_without("mounts") {
            return None;
        }
        assert!(
            rustix::process::geteuid().is_root(),
            "only root mounts a small disk: run the tests as root, or leave these out with `cargo xtask ci --without mounts`"
        );
        let directory = tempfile::tempdir().expect("a directory");
        let mut keeper = Command::new("unshare");
        keeper.args(["--mount", "sh", "-c", KEEP, "sh"]).arg(directory.path());
        keeper.arg(format!("{megabytes}m"));
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = keeper.spawn().expect("unshare");
        let input = keeper.stdin.take();
        let output = BufReader::new(keeper.stdout.take().expect("a pipe"));
        // The namespace of another process is a directory of it.
        let mut path = PathBuf::from(format!("/proc/{}/root", keeper.id()));
        path.push(directory.path().strip_prefix("/").expect("an absolute path"));
        let mut disk = Self {
            keeper,
            input,
            output,
            path,
            _directory: directory,
        };
        disk.expect("mounted");
        Some(disk)
    }

    /// A path on it, as an argument.
    #[must_use]
    pub fn arg(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all room but so many bytes.
    ///
    /// # Panics
    /// If it cannot be filled.
    pub fn fill_but(&self, bytes: u64) {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(self.path.join(BALLAST));
        let mut file = file.expect("a file");
        let page = [0; 4_096];
        loop {
            match file.write_all(&page) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
        let length = file.metadata().expect("its length").len();
        file.set_len(length.saturating_sub(bytes)).expect("a shorter file");
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// If it was not taken.
    pub fn free(&self) {
        fs::remove_file(self.path.join(BALLAST)).expect("the ballast");
    }

    /// Mounts it anew: `ro` or `rw`.
    ///
    /// # Panics
    /// If that fails, as `ro` does while a file is open for writing.
    pub fn remount(&mut self, how: &str) {
        let input = self.input.as_mut().expect("open");
        writeln!(input, "{how}").expect("a shell that reads");
        self.expect(how);
    }

    fn expect(&mut self, word: &str) {
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        assert!(read.is_ok() && line.trim() == word, "{word}: {read:?} {line:?}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.input = None;
        drop(self.keeper.wait());
    }
}

/// The strace that makes system calls fail, installed where that is possible; none with `--without strace`.
///
/// # Panics
/// If there is none and it cannot be installed.
#[must_use]
pub fn strace() -> Option<&'static str> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    if is_without("strace") {
        return None;
    }
    let _alone = ONE_AT_A_TIME.lock();
    let is_there = || {
        let status = Command::new("strace").arg("--version").stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !is_there() {
        debian::install("strace", "strace");
        assert!(is_there(), "apt-get brought no strace");
    }
    Some("strace")
}

/// A node whose last word is heard: it runs by itself, or under strace, which lets its syncs fail.
#[derive(Debug)]
pub struct Watched {
    process: Child,
    output: BufReader<ChildStdout>,
    first: Value,
    trace: Option<PathBuf>,
}

impl Watched {
    /// Starts a node and waits for its first line: that it is ready, or why not.
    ///
    /// # Panics
    /// If it prints anything else.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        Self::spawn(Command::new(program()), args, None)
    }

    /// The same with a disk that fails from its `first_failing`th sync on; `trace` is a file for what strace saw.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_failing(strace: &str, first_failing: usize, trace: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(strace);
        let fault = format!("inject=fsync,fdatasync:error=EIO:when={first_failing}+");
        command.args(["-f", "-q", "-e", "trace=fsync,fdatasync", "-e", &fault, "-o"]);
        command.arg(trace).arg(program());
        Self::spawn(command, args, Some(trace.to_path_buf()))
    }

    /// The same under a command that records it ([`crate::recorded`]).
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_recorded(recorder: &Recorder, strace: &str, args: &[&str]) -> Self {
        Self::spawn(recorder.command(strace), args, Some(recorder.trace()))
    }

    fn spawn(mut command: Command, args: &[&str], trace: Option<PathBuf>) -> Self {
        command
            .arg("--json")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        // What strace traces is in its group, and ends with it.
        command.env_remove("TOMBOLA_LOG").process_group(0);
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        let first = Value::Null;
        let mut watched = Self {
            process,
            output,
            first,
            trace,
        };
        let mut line = String::new();
        let read = watched.output.read_line(&mut line);
        assert!(read.is_ok(), "{args:?}: {read:?}");
        watched.first = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{args:?}: {error}: {line:?}"));
        watched
    }

    /// Its first line.
    #[must_use]
    pub const fn first(&self) -> &Value {
        &self.first
    }

    /// Whether that said that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.first.get("ready") == Some(&Value::Bool(true))
    }

    /// Syncs that strace saw so far.
    ///
    /// # Panics
    /// If it runs without strace.
    #[must_use]
    pub fn syncs(&self) -> usize {
        let mut text = String::new();
        let file = self.trace.as_ref().map(File::open).expect("a trace");
        let read = file.and_then(|mut file| file.read_to_string(&mut text));
        assert!(read.is_ok(), "{read:?}");
        text.lines().filter(|line| line.contains("sync(")).count()
    }

    /// Waits for its end: its exit code, and the last object that it printed.
    ///
    /// # Panics
    /// If it prints anything else.
    pub fn finish(mut self) -> (i32, Value) {
        let mut last = self.first.clone();
        let mut rest = String::new();
        let read = self.output.read_to_string(&mut rest);
        assert!(read.is_ok(), "{read:?}");
        if let Some(line) = rest.lines().last() {
            last = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        }
        let code = self.process.wait().ok().and_then(|status| status.code());
        (code.unwrap_or(-1), last)
    }

    /// Tells it to end, and waits for that.
    pub fn end(self) -> (i32, Value) {
        // Fails only for a process that was waited for.
        if self.trace.is_some() {
            let _ = kill_process_group(self.pid(), Signal::TERM);
        } else {
            let _ = kill_process(self.pid(), Signal::TERM);
        }
        self.finish()
    }

    fn pid(&self) -> Pid {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        pid.expect("a process id")
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Until it is waited for its id is its own; after that there is nothing to end.
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            drop(self.process.wait());
        }
    }
}
