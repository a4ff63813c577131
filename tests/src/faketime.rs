//! A wall clock that a test sets: libfaketime, loaded before the real program.
//!
//! A time namespace does not cover the wall clock. Monotonic clocks stay as they are, as they do when somebody sets the
//! time of a machine; so timeouts and pauses are the real ones.

use crate::debian;
use crate::process::{Town, Variable};
use crate::without::is_without;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Where Debian puts the library: below the directory of an architecture.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The clock of one node, beside those of all others.
#[derive(Debug)]
pub struct Clock {
    library: String,
    file: PathBuf,
    file_name: String,
}

impl Clock {
    /// One that goes right so far; none with `--without faketime`.
    ///
    /// # Panics
    /// If the library cannot be had.
    #[must_use]
    pub fn new(town: &Town, name: &str) -> Option<Self> {
        if is_without("faketime") {
            return None;
        }
        let clock = Self {
            library: library().display().to_string(),
            file: town.path(name),
            file_name: town.arg(name),
        };
        clock.step(0);
        Some(clock)
    }

    /// What a process is started with to go by it.
    #[must_use]
    pub fn variables(&self) -> [Variable<'_>; 5] {
        [
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", &self.file_name),
            // A step is seen at once.
            ("FAKETIME_NO_CACHE", "1"),
            // The second is its name in older releases.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ]
    }

    /// The same, and its monotonic clocks go with it: for the process time has passed, and whatever it does from time to
    /// time is due. What sleeps is woken by no step, so something must be asked of it after each.
    #[must_use]
    pub fn variables_of_all_clocks(&self) -> [Variable<'_>; 3] {
        let [library, file, no_cache, ..] = self.variables();
        [library, file, no_cache]
    }

    /// Sets it so many seconds ahead of the machine's, or behind it.
    ///
    /// # Panics
    /// If the file that says so cannot be written.
    pub fn step(&self, seconds: i64) {
        // Whoever reads it finds the old one or the new one.
        let unfinished = self.file.with_extension("new");
        let written = std::fs::write(&unfinished, format!("{seconds:+}\n"));
        let written = written.and_then(|()| std::fs::rename(&unfinished, &self.file));
        assert!(written.is_ok(), "{written:?}");
    }
}

fn library() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock();
    installed().unwrap_or_else(|| {
        debian::install("libfaketime", "faketime");
        installed().unwrap_or_else(|| panic!("apt-get brought no {LIBRARY}"))
    })
}

fn installed() -> Option<PathBuf> {
    let architectures = std::fs::read_dir(Path::new("/usr/lib")).into_iter().flatten().flatten();
    let mut libraries = architectures.map(|directory| directory.path().join(LIBRARY));
    libraries.find(|library| library.exists())
}
