//! A disk that fails at any call of a workload: nothing that was answered is lost, and nothing torn is taken for an entry.

use super::*;
use crate::disk::log::LogFile;
use crate::disk::{Keeping, Writer, begin, prepare};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

const PAGE: usize = 4_096;

/// What becomes of what was written and not synced when the disk fails.
type Lands = fn(&[u8]) -> std::ops::Range<usize>;

/// The ways in which a write can land: not at all, whole, or torn at a byte or a page, either end of it.
const WAYS: [(&str, Lands); 7] = [
    ("dropped", |_| 0..0),
    ("landed, and said to have failed", |bytes| 0..bytes.len()),
    ("its first byte", |_| 0..1),
    ("its hash alone", |_| 0..32),
    ("all but its last page", |bytes| 0..bytes.len() - PAGE),
    ("all but its first page", |bytes| PAGE..bytes.len()),
    ("half of it", |bytes| 0..bytes.len() / 2),
];

/// A file that keeps what it is given in memory until it is synced, and fails for good at one of its calls.
#[derive(Debug)]
struct FailingFile {
    file: File,
    unsynced: Vec<(u64, Vec<u8>)>,
    calls_left: usize,
    lands: Lands,
}

impl FailingFile {
    fn new(path: &Path, calls_left: usize, lands: Lands) -> Box<Self> {
        Box::new(Self {
            file: File::options().write(true).open(path).unwrap(),
            unsynced: Vec::new(),
            calls_left,
            lands,
        })
    }

    /// Counts a call; the last one that is left fails.
    fn call(&mut self) -> io::Result<()> {
        assert!(self.calls_left > 0, "nothing is asked of a file that has failed");
        self.calls_left -= 1;
        if self.calls_left > 0 {
            return Ok(());
        }
        for (at, bytes) in self.unsynced.drain(..) {
            let landed = (self.lands)(&bytes);
            self.file
                .write_all_at(&bytes[landed.clone()], at + u64::try_from(landed.start).unwrap())?;
        }
        Err(io::ErrorKind::StorageFull.into())
    }
}

impl LogFile for FailingFile {
    fn write_all_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.unsynced.push((at, bytes.to_vec()));
        self.call()
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.call()?;
        for (at, bytes) in self.unsynced.drain(..) {
            FileExt::write_all_at(&self.file, &bytes, at)?;
        }
        Ok(())
    }
}

/// The salt of a log that was just made; its page has it behind 16 bytes.
fn salt(path: &Path) -> [u8; 32] {
    std::fs::read(path).unwrap()[16..48].try_into().unwrap()
}

/// Entries of one to several pages, each told from all others.
fn body(number: u64) -> Vec<u8> {
    let bytes = [1, 5_000, 40, 9_000, 4_052][usize::try_from(number % 5).unwrap()];
    let mut body = vec![u8::try_from(number).unwrap(); bytes];
    body[0] = 0xee;
    body
}

/// Entries of the workload; after each seventh all before it is in the store file, and writing begins at the front.
const ENTRIES: u64 = 24;

/// Runs the workload until the disk fails; says what the store file has, and what was answered.
fn work(log: &mut Log) -> (u64, u64, bool) {
    let mut applied = 0;
    for number in 1..=ENTRIES {
        match log.append(&body(number)) {
            Ok(appended) => assert_eq!(appended, Appended::Durable),
            Err(error) => {
                assert_eq!(error, StoreError::Io(io::ErrorKind::StorageFull.into()));
                return (applied, number - 1, true);
            }
        }
        if number % 7 == 0 {
            applied = number;
            log.rewind();
        }
    }
    (applied, ENTRIES, false)
}

#[test]
fn a_disk_that_fails_at_any_call_loses_nothing_that_was_answered_and_makes_no_entry_of_a_torn_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let id = Log::create(&log_at(&path), 0).unwrap().id();
    let unused = std::fs::read(&path).unwrap();
    for (name, lands) in WAYS {
        let mut call = 1;
        loop {
            std::fs::write(&path, &unused).unwrap();
            let mut log = Log::new(FailingFile::new(&path, call, lands), salt(&path), PAGE, 0);
            let (applied, answered, failed) = work(&mut log);
            let (again, missing) = Log::open(&log_at(&path), id, applied).unwrap();
            let expected = |until| (applied + 1..=until).map(body).collect::<Vec<_>>();
            // What was not answered is there whole, or not at all.
            let is_whole = missing == expected(answered + 1) && again.sequence() == answered + 1;
            let is_absent = missing == expected(answered) && again.sequence() == answered;
            assert!(is_whole || is_absent, "{name} at call {call}");
            if name == "dropped" {
                assert!(is_absent, "at call {call}");
            }
            let sequence = again.sequence();
            drop(again);
            goes_on(&path, id, sequence, &format!("{name} at call {call}"));
            if !failed {
                assert!(call > 2 * usize::try_from(ENTRIES).unwrap(), "every call had its turn");
                break;
            }
            call += 1;
        }
    }
}

/// After a restart, which puts all into the store file, the log is as good as a new one.
fn goes_on(path: &Path, id: u64, applied: u64, what: &str) {
    let (mut log, missing) = Log::open(&log_at(path), id, applied).unwrap();
    assert_eq!(missing, Vec::<Vec<u8>>::new(), "{what}");
    log.rewind();
    for number in applied + 1..applied + 4 {
        assert_eq!(log.append(&body(number)), Ok(Appended::Durable));
    }
    let (_, missing) = Log::open(&log_at(path), id, applied).unwrap();
    assert_eq!(
        missing,
        (applied + 1..applied + 4).map(body).collect::<Vec<_>>(),
        "{what}"
    );
}

/// A store whose log is on a disk that fails at a call.
fn on_failing_log(path: &Path, call: usize, apply: crate::disk::Apply<Row>) -> Disk<Row> {
    let database = redb::Database::create(path).unwrap();
    let since = prepare(&database, 2, &[ROWS], NOW).unwrap();
    let log_path = path.with_extension("log");
    let log = Log::create(&log_at(&log_path), 0).unwrap();
    let write = begin(&database).unwrap();
    write
        .open_table(crate::disk::META)
        .unwrap()
        .insert("log", log.id())
        .unwrap();
    write.commit().unwrap();
    let file = FailingFile::new(&log_path, call, |bytes| 0..bytes.len());
    let log = Log::new(file, salt(&log_path), PAGE, 0);
    Disk::start(
        Writer::new(database, Files::at(path), apply, Keeping::Logged(log)),
        since,
    )
    .unwrap()
}

#[test]
fn after_a_fault_of_the_log_readers_see_what_was_answered() {
    let directory = tempfile::tempdir().unwrap();
    for call in 1..=10 {
        let path = directory.path().join(format!("{call}.redb"));
        let disk = on_failing_log(&path, call, apply);
        let answered: Vec<u64> = (0..6)
            .filter(|key| written(&disk, *key..*key + 1, 100).is_ok())
            .collect();
        let expected = u64::try_from((call - 1) / 2).unwrap();
        assert_eq!(answered, (0..expected).collect::<Vec<_>>(), "call {call}");
        assert_eq!(keys(&disk), answered);
        assert_eq!(disk.number("changes"), Ok(expected));
        assert!(disk.has_failed());
        assert_eq!(written(&disk, 9..10, 1), Err(StoreError::AfterFault));
        drop(disk);
        let again = open(&path).unwrap();
        assert!(keys(&again).starts_with(&answered));
    }
}

#[test]
fn after_a_fault_of_the_file_readers_see_what_only_the_log_has() {
    static HAS_FAILED: AtomicBool = AtomicBool::new(false);
    const UNLUCKY: u64 = 13;
    fn fails_once(write: &WriteTransaction, changes: &mut dyn Iterator<Item = &Row>) -> Result<(), StoreError> {
        let mut changes = changes.peekable();
        let is_unlucky = changes.peek().is_some_and(|(key, _)| *key == UNLUCKY);
        if is_unlucky && !HAS_FAILED.swap(true, Ordering::Relaxed) {
            return Err(StoreError::Io(io::ErrorKind::StorageFull.into()));
        }
        apply(write, &mut changes)
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    let disk = Disk::open(Files::at(&path), 2, &[ROWS], fails_once, Commits::Logged, NOW).unwrap();
    assert_eq!(written(&disk, 1..2, 100), Ok(()));
    assert_eq!(keys(&disk), [1]);
    assert!(!disk.has_failed());
    assert_eq!(written(&disk, UNLUCKY..UNLUCKY + 1, 100), Ok(()), "durable in the log");
    for _ in 0..2 {
        assert_eq!(keys(&disk), [1, UNLUCKY]);
        assert_eq!(disk.number("changes"), Ok(2), "each change counts once");
        assert!(disk.has_failed());
    }
    assert_eq!(written(&disk, 2..3, 100), Err(StoreError::AfterFault));
    drop(disk);
    let again = open(&path).unwrap();
    assert_eq!(keys(&again), [1, UNLUCKY]);
    assert_eq!(again.number("changes"), Ok(2));
}

#[test]
fn what_cannot_be_read_after_a_fault_is_an_error_and_not_missing() {
    const UNLUCKY: u64 = 13;
    fn fails_always(write: &WriteTransaction, changes: &mut dyn Iterator<Item = &Row>) -> Result<(), StoreError> {
        let mut changes = changes.peekable();
        match changes.peek() {
            Some((UNLUCKY, _)) => Err(StoreError::Io(io::ErrorKind::StorageFull.into())),
            _ => apply(write, &mut changes),
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    let disk = Disk::open(Files::at(&path), 2, &[ROWS], fails_always, Commits::Logged, NOW).unwrap();
    assert_eq!(written(&disk, UNLUCKY..UNLUCKY + 1, 100), Ok(()), "durable in the log");
    for _ in 0..2 {
        assert_eq!(
            disk.number("changes"),
            Err(StoreError::Io(io::ErrorKind::StorageFull.into()))
        );
    }
    drop(disk);
    assert_eq!(keys(&open(&path).unwrap()), [UNLUCKY]);
}
