//! Runs the workflow of a store on a disk that loses power, fails or fills up at each of its calls.

use crate::disk::log::LogFile;
use crate::disk::{Place, StoreError};
use redb::{Database, DatabaseError};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use tombola_store::redb_file;
use tombola_tests::disk::{DiskFile, Fate, Fault, Image, TestDisk};

const SEED: u64 = 1;
pub(crate) const STORE: &str = "store.redb";
pub(crate) const LOG: &str = "store.log";
/// Each so many images are broken once more while they are opened.
const TWICE: usize = 50;

/// A store file and its log on a disk for tests.
#[derive(Debug, Clone, Default)]
pub(crate) struct OnTestDisk(pub(crate) TestDisk);

impl OnTestDisk {
    pub(crate) fn holding(image: &Image) -> Self {
        Self(TestDisk::holding(image))
    }

    pub(crate) fn place(&self) -> Box<dyn Place> {
        Box::new(self.clone())
    }
}

impl Place for OnTestDisk {
    fn open_store(&self) -> Result<Database, DatabaseError> {
        redb_file::open_on(|| Ok(self.0.file(STORE)))
    }

    fn read_store(&self) -> io::Result<Vec<u8>> {
        self.0.file(STORE).read_all()
    }

    fn make_log(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.put(LOG, bytes)
    }

    fn read_log(&self) -> io::Result<Vec<u8>> {
        self.0.file(LOG).read_all()
    }

    fn open_log(&self) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(self.0.file(LOG)))
    }

    fn log_path(&self) -> PathBuf {
        LOG.into()
    }
}

impl LogFile for DiskFile {
    fn write_all_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_at(at, bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.sync()
    }
}

/// A store and what is done to it.
pub(crate) trait Workflow {
    /// All that it keeps.
    type State: PartialEq + Debug;

    /// How many steps there are.
    const STEPS: usize;

    /// What the disk has before.
    fn before() -> Image {
        Image::default()
    }

    fn open(place: Box<dyn Place>) -> Result<Self, StoreError>
    where
        Self: Sized;

    /// Does a step; on return it is durable.
    fn step(&self, n: usize) -> Result<(), StoreError>;

    fn state(&self) -> Result<Self::State, StoreError>;
}

/// Runs a workflow until the disk fails. Says after how many calls of the disk each step was answered, and the error.
fn run<W: Workflow>(disk: &OnTestDisk, states: &[W::State]) -> (Vec<usize>, Option<StoreError>) {
    let mut told = Vec::new();
    let store = match W::open(disk.place()) {
        Ok(store) => store,
        Err(error) => return (told, Some(error)),
    };
    for n in 0..W::STEPS {
        if let Err(error) = store.step(n) {
            let calls = disk.0.calls_after_fault();
            for later in n..W::STEPS {
                assert_eq!(
                    store.step(later),
                    Err(StoreError::AfterFault),
                    "step {later} after {error}"
                );
            }
            assert_eq!(disk.0.calls_after_fault(), calls, "nothing more is asked of the disk");
            // Who reads meanwhile sees what was answered, perhaps what was under way, or an error.
            if let Ok(state) = store.state() {
                assert!(
                    states[told.len()..].iter().take(2).any(|known| *known == state),
                    "{state:?}"
                );
            }
            return (told, Some(error));
        }
        told.push(disk.0.calls());
    }
    (told, None)
}

/// The states of a workflow, before its first step and after each.
fn states<W: Workflow>() -> Vec<W::State> {
    let disk = OnTestDisk::holding(&W::before());
    let store = W::open(disk.place()).unwrap();
    let mut states = vec![store.state().unwrap()];
    for n in 0..W::STEPS {
        store.step(n).unwrap();
        states.push(store.state().unwrap());
    }
    states
}

/// What an image has must be the state after all that was told, or after one step more; once from each state the rest is
/// done as if nothing had been.
fn check<W: Workflow>(image: &Image, told: usize, states: &[W::State], gone_on_from: &mut BTreeSet<usize>, what: &str) {
    let disk = OnTestDisk::holding(image);
    let store = W::open(disk.place()).unwrap_or_else(|error| panic!("seed {SEED}, {what}: {error}"));
    let state = store.state().unwrap();
    let found = (told..=told + 1).find(|n| states.get(*n) == Some(&state));
    let Some(done) = found else {
        let whole = states.iter().position(|known| *known == state);
        panic!("seed {SEED}, {what}: {told} steps were told, the store has those up to {whole:?}");
    };
    if gone_on_from.insert(done) {
        for n in done..W::STEPS {
            assert_eq!(store.step(n), Ok(()), "seed {SEED}, {what}: step {n} after a restart");
        }
        assert_eq!(store.state().unwrap(), states[W::STEPS], "seed {SEED}, {what}");
    }
}

/// The same, with another power cut, or an error, at each call of opening it.
fn check_twice<W: Workflow>(
    image: &Image,
    told: usize,
    states: &[W::State],
    gone_on_from: &mut BTreeSet<usize>,
    what: &str,
) {
    let opened = OnTestDisk::holding(image);
    let store = W::open(opened.place()).unwrap_or_else(|error| panic!("seed {SEED}, {what}: {error}"));
    drop(store);
    opened.0.each_power_cut(SEED, |cut| {
        let what = format!("{what}, and again at call {}, {:?}", cut.calls + 1, cut.fate);
        check::<W>(&cut.image, told, states, gone_on_from, &what);
    });
    for call in 1..=opened.0.calls() {
        let disk = OnTestDisk(TestDisk::holding(image).failing(call, Fault::Error));
        match W::open(disk.place()) {
            Ok(_) | Err(StoreError::Io(_) | StoreError::AfterFault) => {}
            Err(error) => panic!("seed {SEED}, {what}, EIO at call {call} of opening: {error}"),
        }
        let what = format!("{what}, and an error at call {call}");
        check::<W>(&disk.0.restarted(), told, states, gone_on_from, &what);
        let torn = disk.0.power_cut(Fate::Torn, SEED);
        check::<W>(&torn, told, states, gone_on_from, &what);
    }
}

pub(crate) fn loses_power<W: Workflow>() {
    let states = states::<W>();
    let disk = OnTestDisk::holding(&W::before());
    let (told, error) = run::<W>(&disk, &states);
    assert_eq!(error, None);
    let (mut found, mut images) = (BTreeSet::new(), 0);
    disk.0.each_power_cut(SEED, |cut| {
        let told = told.iter().filter(|calls| **calls <= cut.calls).count();
        let what = format!("call {}, {:?}", cut.calls + 1, cut.fate);
        check::<W>(&cut.image, told, &states, &mut found, &what);
        images += 1;
        if images % TWICE == 0 {
            check_twice::<W>(&cut.image, told, &states, &mut found, &what);
        }
    });
    assert_eq!(found.len(), states.len(), "every state was found");
    println!("opened {images} times after power cuts in {} calls", disk.0.calls());
}

pub(crate) fn fails<W: Workflow>(fault: Fault) {
    let states = states::<W>();
    let (mut found, mut images) = (BTreeSet::new(), 0);
    for call in 1.. {
        let disk = OnTestDisk(TestDisk::holding(&W::before()).failing(call, fault));
        let (told, error) = run::<W>(&disk, &states);
        let what = format!("{fault:?} at call {call}");
        if !disk.0.has_failed() {
            assert_eq!((told.len(), error), (W::STEPS, None), "{what}");
            println!("opened {images} times after {fault:?} at {call} calls");
            return;
        }
        // What nobody waited for, and what redb tidies up, fails without being told at once.
        let is_typed = matches!(error, None | Some(StoreError::Io(_) | StoreError::AfterFault));
        assert!(is_typed, "{what}: {error:?}");
        if error.is_none() {
            // redb does without some writes; and what is durable in the log is told.
            assert_eq!(told.len(), W::STEPS, "{what}");
        }
        let seed = SEED ^ u64::try_from(call).unwrap();
        let cut = |fate| disk.0.power_cut(fate, seed);
        for (end, image) in [
            ("restarted", disk.0.restarted()),
            ("dropped", cut(Fate::Dropped)),
            ("torn", cut(Fate::Torn)),
        ] {
            check::<W>(&image, told.len(), &states, &mut found, &format!("{what}, {end}"));
            images += 1;
        }
    }
}
