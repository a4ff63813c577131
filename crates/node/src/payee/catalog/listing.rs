//! The names of all files below a directory, for whoever asks what there is.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How long a list is good for at least.
const AGE: Duration = Duration::from_secs(1);
/// Making lists takes at most this part of the time, however long it takes: anyone may ask, and nobody pays for it.
const SHARE_OF_TIME: u32 = 10;

/// A name as services have it, and how many bytes there are.
pub(super) type Name = (String, u64);

/// The list that was made last. One thread makes a new one, and the others take the old one meanwhile.
#[derive(Debug, Default)]
pub(super) struct Listing {
    made: Mutex<Option<Made>>,
    making: Mutex<()>,
}

#[derive(Debug, Clone)]
struct Made {
    names: Arc<[Name]>,
    good_until: Instant,
}

impl Listing {
    /// All names, in order, as they were not long ago.
    pub(super) fn get(&self, make: impl FnOnce() -> Vec<Name>) -> Arc<[Name]> {
        let old = self.made().clone();
        if let Some(made) = old.as_ref().filter(|made| Instant::now() < made.good_until) {
            return Arc::clone(&made.names);
        }
        let _making = match (self.making.try_lock(), old) {
            (Ok(making), _) => making,
            (Err(TryLockError::Poisoned(poisoned)), _) => poisoned.into_inner(),
            (Err(TryLockError::WouldBlock), Some(old)) => return old.names,
            (Err(TryLockError::WouldBlock), None) => self.making.lock().unwrap_or_else(PoisonError::into_inner),
        };
        if let Some(made) = self.made().as_ref().filter(|made| Instant::now() < made.good_until) {
            return Arc::clone(&made.names);
        }
        let began = Instant::now();
        let names: Arc<[Name]> = make().into();
        let age = AGE.max(began.elapsed().saturating_mul(SHARE_OF_TIME));
        let now = Instant::now();
        *self.made() = Some(Made {
            names: Arc::clone(&names),
            good_until: now.checked_add(age).unwrap_or(now),
        });
        names
    }

    fn made(&self) -> MutexGuard<'_, Option<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The regular files below a directory, in the order of their names. Spec: D-06.
pub(super) fn names_below(root: &Path) -> Vec<Name> {
    let mut names = Vec::new();
    walk(root, root, &mut names);
    names.sort_unstable();
    names
}

fn walk(root: &Path, directory: &Path, names: &mut Vec<Name>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) else {
            continue;
        };
        let name = format!("/{name}");
        // A link may lead out of the root or in circles: only what the entry itself is counts here.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(root, &path, names),
            Ok(kind) if kind.is_file() => names.push((name, entry.metadata().map_or(0, |file| file.len()))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    fn named(name: &str) -> Vec<Name> {
        vec![(name.to_owned(), 1)]
    }

    #[test]
    fn a_list_is_made_once_for_all_who_ask_soon_after() {
        let listing = Listing::default();
        let first = listing.get(|| named("/a"));
        assert_eq!(*listing.get(|| panic!("made anew")), *first);
        listing.made().as_mut().unwrap().good_until = Instant::now();
        assert_eq!(*listing.get(|| named("/b")), *named("/b"));
    }

    #[test]
    fn who_asks_while_a_list_is_made_gets_the_old_one_and_waits_for_nobody() {
        let listing = Listing::default();
        listing.get(|| named("/old"));
        listing.made().as_mut().unwrap().good_until = Instant::now();
        let (go_on, told) = mpsc::channel();
        let (begin, begun) = mpsc::channel();
        let shared = &listing;
        thread::scope(|scope| {
            let making = scope.spawn(move || {
                shared.get(|| {
                    begin.send(()).unwrap();
                    told.recv().unwrap();
                    named("/new")
                })
            });
            begun.recv().unwrap();
            assert_eq!(*listing.get(|| panic!("made twice")), *named("/old"));
            go_on.send(()).unwrap();
            assert_eq!(*making.join().unwrap(), *named("/new"));
        });
    }

    #[test]
    fn a_list_that_took_long_is_good_for_longer() {
        let listing = Listing::default();
        let began = Instant::now();
        let long = AGE / SHARE_OF_TIME * 2;
        listing.get(|| {
            while began.elapsed() < long {
                thread::yield_now();
            }
            named("/a")
        });
        assert!(listing.made().as_ref().unwrap().good_until >= began + long + AGE * 2);
    }
}
