//! What the real program does to its files, system call by system call, and every power cut that could come in its midst.
//!
//! strace tells each call with its bytes. Played again on a disk in memory they give what a machine would find: a file
//! has what was synced, and of the rest what a seed says; a name is there for good once its directory was synced.

mod files;
mod trace;

use crate::dice::Dice;
use crate::disk::Image;
use crate::process::program;
use files::Disk;
use serde_json::Value;
use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;
use trace::{Call, calls};

/// The longest write that is recorded whole; a payee's log is made in one of 4 MiB.
const WRITE_BYTES_MAX: &str = "8388608";
const CALLS: &str = "trace=openat,close,read,write,pwrite64,lseek,ftruncate,fsync,fdatasync,rename,renameat,renameat2,\
                     link,linkat,unlink,unlinkat,copy_file_range,sendfile,dup,dup2,dup3,fcntl,pwritev,writev,fallocate";

/// A directory whose files are watched while the program works on them.
#[derive(Debug)]
pub struct Recorder {
    root: PathBuf,
    before: Image,
    trace: TempDir,
}

/// What was done to the files of a directory.
#[derive(Debug)]
pub struct Recording {
    before: Image,
    calls: Vec<Call>,
    root: PathBuf,
}

/// What a power cut keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// What was synced.
    Synced,
    /// Everything.
    All,
    /// Every name, and of what files have only what was synced: what a rename does to a file that was not synced.
    Names,
    /// Some: names in their order up to one of them, and some sectors of files.
    Torn,
}

/// A power cut within what was done.
#[derive(Debug)]
pub struct Cut {
    /// Calls that were over.
    pub calls: usize,
    /// The last of them.
    pub last: String,
    /// What was kept.
    pub kept: Kept,
    /// What the directory has.
    pub image: Image,
}

impl Recorder {
    /// Looks at all that is below a directory now.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            before: image_of(root),
            trace: tempfile::tempdir().expect("a directory"),
        }
    }

    /// The file that strace writes.
    #[must_use]
    pub fn trace(&self) -> PathBuf {
        self.trace.path().join("trace")
    }

    /// The program under strace; its arguments are still to be given.
    #[must_use]
    pub fn command(&self, strace: &str) -> Command {
        let mut command = Command::new(strace);
        command.args([
            "-f",
            "-q",
            "-xx",
            "-s",
            WRITE_BYTES_MAX,
            "-e",
            CALLS,
            "-e",
            "signal=none",
            "-o",
        ]);
        command.arg(self.trace()).arg(program());
        command
    }

    /// Runs a command to its end: its exit code, its object, and what it did.
    ///
    /// # Panics
    /// As [`Self::finish`]; if it prints anything else.
    #[must_use]
    pub fn run(self, strace: &str, args: &[&str]) -> (i32, Value, Recording) {
        let mut command = self.command(strace);
        let (code, value) = outcome(command.arg("--json").args(args));
        (code, value, self.finish(&[]))
    }

    /// Reads what was recorded; others than the program changed these files.
    ///
    /// # Panics
    /// If what was recorded does not make of the files that were there the files that are.
    #[must_use]
    pub fn finish(self, others: &[&str]) -> Recording {
        let text = fs::read_to_string(self.trace()).expect("a trace");
        let recording = Recording {
            before: self.before,
            calls: calls(&text),
            root: self.root,
        };
        let mut disk = Disk::holding(&recording.before);
        for call in &recording.calls {
            disk.apply(&recording.root, call);
        }
        let mut dice = Dice::new(0);
        let (found, played) = (image_of(&recording.root), disk.after(Kept::All, &mut dice));
        let is_ours = |name: &&String| !others.contains(&name.as_str());
        let differs = |name: &&String| is_ours(name) && found.get(*name) != played.get(*name);
        let wrong: Vec<&String> = found.keys().chain(played.keys()).filter(differs).collect();
        assert!(wrong.is_empty(), "what strace saw does not make these: {wrong:?}");
        recording
    }
}

/// Runs a command of which the `nth` call of some name fails; nothing if it makes no so many.
///
/// # Panics
/// If it cannot be run or prints anything else than an object.
#[must_use]
pub fn run_failing(strace: &str, (call, error, nth): (&str, &str, u32), args: &[String]) -> Option<(i32, Value)> {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("trace");
    let (calls, fault) = (
        format!("trace={call}"),
        format!("inject={call}:error={error}:when={nth}"),
    );
    let mut command = Command::new(strace);
    command.args(["-f", "-q", "-e", &calls, "-e", &fault, "-e", "signal=none", "-o"]);
    command.arg(&trace).arg(program()).arg("--json").args(args);
    let (code, value) = outcome(&mut command);
    let seen = fs::read_to_string(trace).expect("a trace");
    seen.contains("(INJECTED)").then_some((code, value))
}

/// Runs a command to its end: its exit code and its last object.
fn outcome(command: &mut Command) -> (i32, Value) {
    command.stdin(Stdio::null()).env_remove("TOMBOLA_LOG");
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(said.lines().last().unwrap_or("null"));
    let value = value.unwrap_or_else(|error| panic!("{command:?}: {error}: {said}"));
    (output.status.code().unwrap_or(-1), value)
}

impl Recording {
    /// What was there before.
    #[must_use]
    pub const fn before(&self) -> &Image {
        &self.before
    }

    /// What a power cut leaves when all is over.
    #[must_use]
    pub fn at_end(&self) -> Image {
        let mut disk = Disk::holding(&self.before);
        for call in &self.calls {
            disk.apply(&self.root, call);
        }
        disk.after(Kept::Synced, &mut Dice::new(0))
    }

    /// Every power cut that leaves something else than the ones before: within each call that changes or syncs something.
    pub fn each_power_cut(&self, seed: u64, mut check: impl FnMut(&Cut)) {
        let mut disk = Disk::holding(&self.before);
        let mut seen = HashSet::new();
        for (n, call) in self.calls.iter().enumerate() {
            if !disk.apply(&self.root, call) {
                continue;
            }
            let mut dice = Dice::new(seed ^ u64::try_from(n).unwrap_or_default());
            for kept in [Kept::Synced, Kept::All, Kept::Names, Kept::Torn] {
                let image = disk.after(kept, &mut dice);
                let mut hasher = DefaultHasher::new();
                image.hash(&mut hasher);
                if seen.insert(hasher.finish()) {
                    let (calls, last) = (n + 1, call.shown());
                    check(&Cut {
                        calls,
                        last,
                        kept,
                        image,
                    });
                }
            }
        }
    }
}

/// All regular files below a directory, by their paths in it.
///
/// # Panics
/// If they cannot be read.
#[must_use]
pub fn image_of(root: &Path) -> Image {
    let mut image = Image::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let entry = entry.expect("an entry");
            let kind = entry.file_type().expect("its type");
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).expect("a file");
                image.insert(name_in(root, &entry.path()).expect("below"), Arc::new(bytes));
            }
        }
    }
    image
}

/// Makes the files of an image in a directory, for their owner alone.
///
/// # Panics
/// If they cannot be made.
pub fn lay_out(image: &Image, root: &Path) {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    for (name, bytes) in image {
        let path = root.join(name);
        let parent = path.parent().unwrap_or(root);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
        let written = made.and_then(|()| fs::write(&path, bytes.as_slice()));
        let owned = written.and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)));
        assert!(owned.is_ok(), "{}: {owned:?}", path.display());
    }
}

fn name_in(root: &Path, path: &Path) -> Option<String> {
    Some(path.strip_prefix(root).ok()?.to_str()?.to_owned())
}
