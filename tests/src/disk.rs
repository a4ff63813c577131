//! A disk in memory that forgets, tears, fails, fills up and hangs, as the disks of nodes do.
//!
//! What is written is in the disk's cache until its file is synced; a power cut keeps of it what a seed says: none, all, or
//! some sectors. A disk remembers every call, so one run of a workload gives every power cut that could have come in its
//! midst ([`TestDisk::each_power_cut`]). A fault at a call ([`TestDisk::failing`]) changes what the workload does
//! afterwards, so each takes a run of its own.

use crate::dice::Dice;
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What a disk keeps or loses as one: a write of less is there or is not.
const SECTOR: usize = 512;
/// `EIO`, for which [`io::ErrorKind`] has no name.
const EIO: i32 = 5;

/// Files by their names; what nobody changes is not copied.
pub type Image = BTreeMap<String, Arc<Vec<u8>>>;

/// What happens at one call of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails with `EIO`, and all later ones succeed. A failing write lands in part. What a failing sync should
    /// have kept is never kept, whatever later syncs say: Linux forgets that it was not written.
    Error,
    /// From this call on there is no room: whatever would write fails with `ENOSPC`.
    Full,
    /// The call waits for [`TestDisk::resume`].
    Stall,
}

/// What becomes of writes that were not synced when the power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// None is there.
    Dropped,
    /// All are there.
    Kept,
    /// Some of their sectors are there, by a seed.
    Torn,
}

/// A power cut in the midst of a call.
#[derive(Debug)]
pub struct PowerCut {
    /// Calls that were over before.
    pub calls: usize,
    /// What became of writes that were not synced.
    pub fate: Fate,
    /// What the disk has.
    pub image: Image,
}

/// A disk; clones share it.
#[derive(Debug, Clone, Default)]
pub struct TestDisk(Arc<Shared>);

/// A file of a disk, there once it was written to.
#[derive(Debug, Clone)]
pub struct DiskFile {
    disk: TestDisk,
    name: String,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    began_with: Image,
    files: BTreeMap<String, File>,
    history: Vec<Event>,
    calls: usize,
    fault: Option<(usize, Fault)>,
    stall: Stall,
    /// Calls that asked for something to be written, or kept, after a fault.
    calls_after_fault: usize,
    has_failed: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Stall {
    #[default]
    Ahead,
    Stalled,
    Over,
}

/// A file: what was synced, and what was not yet.
#[derive(Debug, Default, Clone)]
pub(crate) struct File {
    /// What readers see.
    now: Arc<Vec<u8>>,
    /// What no power cut takes.
    durable: Arc<Vec<u8>>,
    unsynced: Vec<Change>,
}

/// What was done to a file.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Write {
        at: usize,
        bytes: Arc<[u8]>,
    },
    SetLen(usize),
    /// The whole file at once, as a rename does.
    Put(Arc<Vec<u8>>),
}

/// What was done to a file.
#[derive(Debug)]
struct Event {
    call: usize,
    name: String,
    what: What,
}

#[derive(Debug)]
enum What {
    Change(Change),
    Sync,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Read,
    Write,
    Sync,
}

impl TestDisk {
    /// A disk that has these files, durable.
    #[must_use]
    pub fn holding(image: &Image) -> Self {
        let files = image.iter();
        let state = State {
            began_with: image.clone(),
            files: files
                .map(|(name, bytes)| (name.clone(), File::holding(bytes)))
                .collect(),
            ..State::default()
        };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self(Arc::new(Shared { state, changed }))
    }

    /// The same disk with a fault at a call, counted from 1.
    #[must_use]
    pub fn failing(self, call: usize, fault: Fault) -> Self {
        self.lock().fault = Some((call, fault));
        self
    }

    /// Lets a call fail that is so many away from now.
    pub fn strike(&self, after: usize, fault: Fault) {
        let mut state = self.lock();
        state.fault = Some((state.calls + after, fault));
    }

    /// A file of it.
    #[must_use]
    pub fn file(&self, name: &str) -> DiskFile {
        DiskFile {
            disk: self.clone(),
            name: name.to_owned(),
        }
    }

    /// Calls so far, reads included.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.lock().calls
    }

    /// Calls so far that asked for something to be written or kept, after the one that failed.
    #[must_use]
    pub fn calls_after_fault(&self) -> usize {
        self.lock().calls_after_fault
    }

    /// Whether a call has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.lock().has_failed
    }

    /// Waits until a call waits for [`Self::resume`].
    pub fn wait_until_stalled(&self) {
        let ahead = self
            .0
            .changed
            .wait_while(self.lock(), |state| state.stall == Stall::Ahead);
        drop(ahead);
    }

    /// Lets the call go on that waits, now or later.
    pub fn resume(&self) {
        self.lock().stall = Stall::Over;
        self.0.changed.notify_all();
    }

    /// What a process that is started again finds: all that was written, as the machine went on.
    #[must_use]
    pub fn restarted(&self) -> Image {
        let state = self.lock();
        let files = state.files.iter();
        files
            .map(|(name, file)| (name.clone(), Arc::clone(&file.now)))
            .collect()
    }

    /// What the machine finds after a power cut now.
    #[must_use]
    pub fn power_cut(&self, fate: Fate, seed: u64) -> Image {
        let mut dice = Dice::new(seed);
        let state = self.lock();
        let files = state.files.iter();
        files
            .map(|(name, file)| (name.clone(), file.after(fate, &mut dice)))
            .collect()
    }

    /// Every power cut that could have come since the disk was made: within each call and after the last, with each
    /// fate that makes a difference.
    pub fn each_power_cut(&self, seed: u64, mut check: impl FnMut(&PowerCut)) {
        let state = self.lock();
        let mut disk = Self::holding(&state.began_with).take();
        let mut cut = |disk: &State, calls: usize, fates: &[Fate]| {
            let mut dice = Dice::new(seed ^ u64::try_from(calls).unwrap_or_default());
            for fate in fates.iter().copied() {
                let files = disk.files.iter();
                let image = files
                    .map(|(name, file)| (name.clone(), file.after(fate, &mut dice)))
                    .collect();
                check(&PowerCut { calls, fate, image });
            }
        };
        cut(&disk, 0, &[Fate::Kept]);
        for event in &state.history {
            let file = disk.files.entry(event.name.clone()).or_default();
            match &event.what {
                What::Change(change) => {
                    file.unsynced.push(change.clone());
                    cut(&disk, event.call - 1, &[Fate::Kept, Fate::Torn]);
                }
                What::Sync => {
                    let is_news = !file.unsynced.is_empty();
                    if is_news {
                        cut(&disk, event.call - 1, &[Fate::Dropped, Fate::Torn]);
                    }
                    let file = disk.files.entry(event.name.clone()).or_default();
                    file.sync();
                    if is_news {
                        cut(&disk, event.call, &[Fate::Dropped]);
                    }
                }
            }
        }
        cut(&disk, state.calls, &[Fate::Dropped, Fate::Kept]);
    }

    /// Replaces a file by a rename: it is whole and durable, or as it was.
    ///
    /// # Errors
    /// What the disk says.
    pub fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.enter(Call::Write)??;
        state.change(name, Change::Put(Arc::new(bytes.to_vec())));
        state.sync(name);
        Ok(())
    }

    fn take(self) -> State {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call. The outer error is of a disk that has no room and does nothing; the inner one, with the disk, of a
    /// call that fails halfway.
    fn enter(&self, call: Call) -> io::Result<Result<MutexGuard<'_, State>, Failing<'_>>> {
        let mut state = self.lock();
        state.calls += 1;
        if state.has_failed && call != Call::Read {
            state.calls_after_fault += 1;
        }
        match state.fault {
            Some((at, Fault::Error)) if at == state.calls => {
                state.has_failed = true;
                return Ok(Err(Failing(state)));
            }
            Some((at, Fault::Full)) if at <= state.calls && call != Call::Read => {
                state.has_failed = true;
                return Err(io::ErrorKind::StorageFull.into());
            }
            Some((at, Fault::Stall)) if at == state.calls => {
                if state.stall == Stall::Ahead {
                    state.stall = Stall::Stalled;
                }
                self.0.changed.notify_all();
                let waiting = self.0.changed.wait_while(state, |state| state.stall != Stall::Over);
                state = waiting.unwrap_or_else(PoisonError::into_inner);
            }
            _ => {}
        }
        Ok(Ok(state))
    }
}

/// A disk within a call that fails.
struct Failing<'a>(MutexGuard<'a, State>);

impl From<Failing<'_>> for io::Error {
    fn from(_: Failing<'_>) -> Self {
        Self::from_raw_os_error(EIO)
    }
}

impl State {
    fn change(&mut self, name: &str, change: Change) {
        let file = self.files.entry(name.to_owned()).or_default();
        file.change(change.clone());
        self.remember(name, What::Change(change));
    }

    fn sync(&mut self, name: &str) {
        self.files.entry(name.to_owned()).or_default().sync();
        self.remember(name, What::Sync);
    }

    fn remember(&mut self, name: &str, what: What) {
        let (call, name) = (self.calls, name.to_owned());
        self.history.push(Event { call, name, what });
    }
}

impl File {
    /// One that has these bytes, durable.
    pub(crate) fn holding(bytes: &Arc<Vec<u8>>) -> Self {
        Self {
            now: Arc::clone(bytes),
            durable: Arc::clone(bytes),
            unsynced: Vec::new(),
        }
    }

    /// What readers see.
    pub(crate) fn now(&self) -> Arc<Vec<u8>> {
        Arc::clone(&self.now)
    }

    pub(crate) fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push(change);
    }

    pub(crate) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// What a power cut leaves of it.
    pub(crate) fn after(&self, fate: Fate, dice: &mut Dice) -> Arc<Vec<u8>> {
        let mut bytes = Arc::clone(&self.durable);
        for change in &self.unsynced {
            match (fate, change) {
                (Fate::Dropped, _) => {}
                (Fate::Torn, Change::Write { at, bytes: written }) => {
                    tear(Arc::make_mut(&mut bytes), *at, written, dice)
                }
                (Fate::Torn, Change::SetLen(_) | Change::Put(_)) if is_heads(dice) => {}
                (Fate::Kept | Fate::Torn, change) => change.apply(&mut bytes),
            }
        }
        bytes
    }
}

/// Writes some sectors of what was to be written.
fn tear(file: &mut Vec<u8>, at: usize, written: &[u8], dice: &mut Dice) {
    let mut from = 0;
    while from < written.len() {
        // To the end of the sector that it begins in.
        let to = written.len().min(from + SECTOR - (at + from) % SECTOR);
        if is_heads(dice) {
            write(file, at + from, &written[from..to]);
        }
        from = to;
    }
}

impl Change {
    fn apply(&self, file: &mut Arc<Vec<u8>>) {
        match self {
            Self::Write { at, bytes } => write(Arc::make_mut(file), *at, bytes),
            Self::SetLen(length) => Arc::make_mut(file).resize(*length, 0),
            Self::Put(bytes) => *file = Arc::clone(bytes),
        }
    }
}

fn write(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}

impl DiskFile {
    /// All that readers see of it.
    ///
    /// # Errors
    /// What the disk says; [`io::ErrorKind::NotFound`] if it was never written to.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let state = self.disk.enter(Call::Read)??;
        let file = state.files.get(&self.name).ok_or(io::ErrorKind::NotFound)?;
        Ok(file.now.to_vec())
    }

    /// Writes at a place; not durable before [`Self::sync`].
    ///
    /// # Errors
    /// What the disk says.
    pub fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = place(at)?;
        match self.disk.enter(Call::Write)? {
            Ok(mut state) => {
                let bytes = Arc::from(bytes);
                state.change(&self.name, Change::Write { at, bytes });
                Ok(())
            }
            Err(mut failing) => {
                let bytes = Arc::from(&bytes[..bytes.len() / 2]);
                failing.0.change(&self.name, Change::Write { at, bytes });
                Err(failing.into())
            }
        }
    }

    /// On return all that was written is durable.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync(&self) -> io::Result<()> {
        match self.disk.enter(Call::Sync)? {
            Ok(mut state) => {
                state.sync(&self.name);
                Ok(())
            }
            Err(mut failing) => {
                if let Some(file) = failing.0.files.get_mut(&self.name) {
                    file.unsynced.clear();
                }
                Err(failing.into())
            }
        }
    }
}

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        let length = state.files.get(&self.name).map_or(0, |file| file.now.len());
        u64::try_from(length).map_err(io::Error::other)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = place(offset)?;
        let state = self.disk.enter(Call::Read)??;
        let file = state.files.get(&self.name).ok_or(io::ErrorKind::UnexpectedEof)?;
        let bytes = file.now.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let length = place(len)?;
        let mut state = self.disk.enter(Call::Write)??;
        state.change(&self.name, Change::SetLen(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_at(offset, data)
    }
}

fn place(at: u64) -> io::Result<usize> {
    usize::try_from(at).map_err(io::Error::other)
}

/// Whether a part of what was not synced is on the disk.
fn is_heads(dice: &mut Dice) -> bool {
    dice.below(2) == 0
}
