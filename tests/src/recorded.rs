//! What the real program does to its files, system call by system call, and every power cut that could come in its midst.
//!
//! strace tells each call with its bytes. Played again on a disk in memory they give what a machine would find: a file
//! has what was synced, and of the rest what a seed says; a name is there for good once its directory was synced.

mod trace;

use crate::dice::Dice;
use crate::disk::{Change, Fate, File, Image};
use crate::process::program;
use serde_json::Value;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
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
        command
            .arg("--json")
            .args(args)
            .stdin(Stdio::null())
            .env_remove("TOMBOLA_LOG");
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = String::from_utf8_lossy(&output.stdout);
        let value = serde_json::from_str(said.lines().last().unwrap_or("null"));
        let value = value.unwrap_or_else(|error| panic!("{args:?}: {error}: {said}"));
        (output.status.code().unwrap_or(-1), value, self.finish(&[]))
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

impl Recording {
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
fn image_of(root: &Path) -> Image {
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

/// What a file is called from now on, or no more.
type Naming = (String, Option<usize>);

/// Files and their names.
#[derive(Debug, Default)]
struct Disk {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since their directories were synced; each is there whole or not.
    unsynced: Vec<Vec<Naming>>,
    open: BTreeMap<i64, Open>,
}

/// What a file descriptor is for.
#[derive(Debug, Clone)]
enum Open {
    File { file: usize, at: usize },
    Directory(PathBuf),
}

impl Disk {
    fn holding(image: &Image) -> Self {
        let mut disk = Self::default();
        for (name, bytes) in image {
            disk.names.insert(name.clone(), disk.files.len());
            disk.files.push(File::holding(bytes));
        }
        disk.durable_names = disk.names.clone();
        disk
    }

    fn after(&self, kept: Kept, dice: &mut Dice) -> Image {
        let fate = match kept {
            Kept::Synced | Kept::Names => Fate::Dropped,
            Kept::All => Fate::Kept,
            Kept::Torn => Fate::Torn,
        };
        let changes = match kept {
            Kept::Synced => 0,
            Kept::All | Kept::Names => self.unsynced.len(),
            Kept::Torn => dice.index(self.unsynced.len() + 1),
        };
        let mut names = self.durable_names.clone();
        for naming in self.unsynced.iter().take(changes).flatten() {
            name(&mut names, naming);
        }
        let contents: Vec<_> = self.files.iter().map(|file| file.after(fate, dice)).collect();
        let content = |file: usize| contents.get(file).cloned().unwrap_or_default();
        names.into_iter().map(|(name, file)| (name, content(file))).collect()
    }

    /// Plays a call; says whether a power cut after it may leave something else than one before it.
    fn apply(&mut self, root: &Path, call: &Call) -> bool {
        match call {
            Call::Open {
                fd,
                path,
                makes,
                empties,
            } => self.open(root, *fd, path, *makes, *empties),
            Call::Close { fd } => {
                self.open.remove(fd);
                false
            }
            Call::Read { fd, bytes } => {
                self.go_to(*fd, |at| at + bytes);
                false
            }
            Call::Seek { fd, at } => {
                self.go_to(*fd, |_| *at);
                false
            }
            Call::Write { fd, bytes, at } => self.write(*fd, bytes, *at),
            Call::SetLength { fd, length } => self.change(*fd, Change::SetLen(*length)),
            Call::Copy { from, to, bytes } => self.copy(*from, *to, *bytes),
            Call::Sync { fd } => self.sync(root, *fd),
            Call::Rename { from, to } => {
                let (Some(from), Some(to)) = (name_in(root, from), name_in(root, to)) else {
                    return false;
                };
                let file = self.names.get(&from).copied();
                self.rename(vec![(from, None), (to, file)])
            }
            Call::Link { from, to } => {
                let (Some(from), Some(to)) = (name_in(root, from), name_in(root, to)) else {
                    return false;
                };
                let file = self.names.get(&from).copied();
                self.rename(vec![(to, file)])
            }
            Call::Unlink { path } => name_in(root, path).is_some_and(|name| self.rename(vec![(name, None)])),
        }
    }

    fn open(&mut self, root: &Path, fd: i64, path: &Path, makes: bool, empties: bool) -> bool {
        self.open.remove(&fd);
        let Some(name) = name_in(root, path) else { return false };
        if root.join(&name).is_dir() {
            self.open.insert(fd, Open::Directory(path.to_path_buf()));
            return false;
        }
        let known = self.names.get(&name).copied();
        let is_new = known.is_none() && makes;
        let file = match known {
            Some(file) => file,
            None if makes => {
                self.files.push(File::default());
                self.rename(vec![(name, Some(self.files.len() - 1))]);
                self.files.len() - 1
            }
            // A socket, or what is in no image.
            None => return false,
        };
        self.open.insert(fd, Open::File { file, at: 0 });
        if empties && !is_new {
            self.change(fd, Change::SetLen(0));
        }
        is_new || empties
    }

    fn go_to(&mut self, fd: i64, to: impl FnOnce(usize) -> usize) {
        if let Some(Open::File { at, .. }) = self.open.get_mut(&fd) {
            *at = to(*at);
        }
    }

    fn write(&mut self, fd: i64, bytes: &Arc<[u8]>, place: Option<usize>) -> bool {
        let Some(Open::File { at, .. }) = self.open.get_mut(&fd) else {
            return false;
        };
        let from = place.unwrap_or(*at);
        if place.is_none() {
            *at += bytes.len();
        }
        let bytes = Arc::clone(bytes);
        self.change(fd, Change::Write { at: from, bytes })
    }

    fn copy(&mut self, from: i64, to: i64, bytes: usize) -> bool {
        let Some(Open::File { file, at }) = self.open.get_mut(&from) else {
            return false;
        };
        let begin = *at;
        *at += bytes;
        let source = self.files.get(*file).map(File::now).unwrap_or_default();
        let copied = Arc::from(source.get(begin..begin + bytes).unwrap_or_default());
        self.write(to, &copied, None)
    }

    fn change(&mut self, fd: i64, change: Change) -> bool {
        let Some(Open::File { file, .. }) = self.open.get(&fd) else {
            return false;
        };
        if let Some(file) = self.files.get_mut(*file) {
            file.change(change);
        }
        true
    }

    fn rename(&mut self, namings: Vec<Naming>) -> bool {
        for naming in &namings {
            name(&mut self.names, naming);
        }
        self.unsynced.push(namings);
        true
    }

    fn sync(&mut self, root: &Path, fd: i64) -> bool {
        match self.open.get(&fd).cloned() {
            None => false,
            Some(Open::File { file, .. }) => {
                if let Some(file) = self.files.get_mut(file) {
                    file.sync();
                }
                true
            }
            Some(Open::Directory(directory)) => {
                let is_in = |(name, _): &Naming| root.join(name).parent() == Some(directory.as_path());
                let (synced, waiting) = std::mem::take(&mut self.unsynced)
                    .into_iter()
                    .partition::<Vec<_>, _>(|namings| namings.iter().all(is_in));
                self.unsynced = waiting;
                for naming in synced.iter().flatten() {
                    name(&mut self.durable_names, naming);
                }
                true
            }
        }
    }
}

fn name(names: &mut BTreeMap<String, usize>, (name, file): &Naming) {
    match file {
        Some(file) => names.insert(name.clone(), *file),
        None => names.remove(name),
    };
}
