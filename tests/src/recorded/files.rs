//! Files and their names as calls change them, and what of both was synced.

use super::trace::Call;
use super::{Kept, name_in};
use crate::dice::Dice;
use crate::disk::{Change, Fate, File, Image};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a file is called from now on, or no more.
type Naming = (String, Option<usize>);

/// Files and their names.
#[derive(Debug, Default)]
pub(super) struct Disk {
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
    pub(super) fn holding(image: &Image) -> Self {
        let mut disk = Self::default();
        for (name, bytes) in image {
            disk.names.insert(name.clone(), disk.files.len());
            disk.files.push(File::holding(bytes));
        }
        disk.durable_names = disk.names.clone();
        disk
    }

    /// What a power cut leaves.
    pub(super) fn after(&self, kept: Kept, dice: &mut Dice) -> Image {
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
    pub(super) fn apply(&mut self, root: &Path, call: &Call) -> bool {
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
