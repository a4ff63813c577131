//! What is durable in the log outlives the process, and goes into the file once.

mod faults;
pub(crate) mod survive;

use super::log::{Appended, Log};
use super::{Commits, Disk, Files, Rows, StoreError, add};
use redb::{TableDefinition, WriteTransaction};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tombola_core::amount::Timestamp;
use tombola_core::codec::encode;

const ROWS: Rows = TableDefinition::new("rows");
const NOW: Timestamp = Timestamp(1_000);

/// A key and a value.
type Row = (u64, Vec<u8>);

fn apply(write: &WriteTransaction, changes: &mut dyn Iterator<Item = &Row>) -> Result<(), StoreError> {
    let mut count = 0;
    for (key, value) in changes {
        count += 1;
        let mut rows = write.open_table(ROWS)?;
        rows.insert(encode(key).as_slice(), encode(&(*key, value.clone())).as_slice())?;
    }
    add(write, "changes", count)
}

fn open(path: &Path) -> Result<Disk<Row>, StoreError> {
    Disk::open(Files::at(path), 2, &[ROWS], apply, Commits::Logged, NOW)
}

/// A log alone.
fn log_at(log: &Path) -> Files {
    let (store, log) = (log.with_extension("redb"), log.to_path_buf());
    Files { store, log }
}

/// Writes rows of so many bytes and waits until they are durable.
fn written(disk: &Disk<Row>, keys: std::ops::Range<u64>, bytes: usize) -> Result<(), StoreError> {
    let rows = keys.map(|key| (key, vec![7; bytes])).collect();
    disk.enqueue(rows)?.blocking_recv().unwrap()
}

/// What a crash now would leave: the files as they are, while the writer still runs.
fn crashed(path: &Path, to: &str) -> PathBuf {
    let copy = path.with_file_name(format!("{to}.redb"));
    std::fs::copy(path, &copy).unwrap();
    std::fs::copy(path.with_extension("log"), copy.with_extension("log")).unwrap();
    copy
}

fn keys(disk: &Disk<Row>) -> Vec<u64> {
    let rows: Vec<Row> = disk.read_all(ROWS, "row").unwrap();
    rows.into_iter().map(|(key, _)| key).collect()
}

#[test]
fn what_was_answered_is_there_after_a_crash_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    let disk = open(&path).unwrap();
    for n in 0..40 {
        assert_eq!(written(&disk, 2 * n..2 * n + 2, 100), Ok(()));
        if n == 20 {
            assert_eq!(disk.number("changes"), Ok(42));
        }
    }
    let copy = crashed(&path, "crashed");
    for _ in 0..3 {
        let again = open(&copy).unwrap();
        assert_eq!(keys(&again), (0..80).collect::<Vec<_>>());
        assert_eq!(again.number("changes"), Ok(80), "each change is applied once");
    }
    drop(disk);
    assert_eq!(open(&path).unwrap().number("changes"), Ok(80));
}

#[test]
fn a_log_that_is_full_begins_again_and_too_much_for_it_goes_into_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    let disk = open(&path).unwrap();
    // Seven rows take 103 pages, so the log of 1,023 is full every tenth time; eighty do not fit at all.
    let mut next = 0;
    for count in std::iter::repeat_n(7, 30).chain([80, 1]) {
        assert_eq!(written(&disk, next..next + count, 60_000), Ok(()));
        next += count;
    }
    let again = open(&crashed(&path, "crashed")).unwrap();
    assert_eq!(again.number("changes"), Ok(next));
}

#[test]
fn a_store_without_its_own_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (path, other) = (directory.path().join("a.redb"), directory.path().join("b.redb"));
    let disk = open(&path).unwrap();
    assert_eq!(written(&disk, 1..2, 1), Ok(()));
    drop((disk, open(&other).unwrap()));
    let log = path.with_extension("log");
    std::fs::copy(other.with_extension("log"), &log).unwrap();
    assert!(matches!(open(&path), Err(StoreError::Corrupted { .. })));
    std::fs::remove_file(&log).unwrap();
    assert!(matches!(open(&path), Err(StoreError::Corrupted { .. })));
}

#[test]
fn a_store_without_log_gets_one_and_a_newer_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    let apart = Commits::Apart(Duration::ZERO);
    let old = Disk::open(Files::at(&path), 1, &[ROWS], apply, apart, NOW).unwrap();
    assert_eq!(written(&old, 5..6, 1), Ok(()));
    drop(old);
    assert_eq!(keys(&open(&path).unwrap()), [5]);
    let older = Disk::<Row>::open(Files::at(&path), 1, &[ROWS], apply, apart, NOW);
    assert_eq!(older.unwrap_err(), StoreError::Version { found: 2, known: 1 });
}

#[test]
fn a_torn_entry_was_never_answered_unless_another_one_follows_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut log = Log::create(&log_at(&path), 6).unwrap();
    for body in ["seven", "eight", "nine"] {
        assert_eq!(log.append(body.as_bytes()), Ok(Appended::Durable));
    }
    let bodies =
        |applied| Log::open(&log_at(&path), log.id(), applied).map(|(log, bodies)| (log.sequence(), bodies.concat()));
    assert_eq!(bodies(6), Ok((9, b"seveneightnine".to_vec())));
    assert_eq!(bodies(8), Ok((9, b"nine".to_vec())));
    assert_eq!(bodies(9), Ok((9, vec![])));
    assert!(
        matches!(bodies(5), Err(StoreError::Corrupted { .. })),
        "the sixth is lost"
    );

    let whole = std::fs::read(&path).unwrap();
    // Every byte of an entry counts: its hash, sequence, length and body.
    for byte in 0..44 + 4 {
        let torn = |page: usize| {
            let mut torn = whole.clone();
            torn[page * 4_096 + byte] ^= 1;
            std::fs::write(&path, &torn).unwrap();
            bodies(6)
        };
        assert_eq!(torn(3), Ok((8, b"seveneight".to_vec())), "byte {byte}");
        let gap = StoreError::Corrupted {
            what: "its log has a gap",
        };
        for page in [1, 2] {
            assert_eq!(
                torn(page),
                Err(gap.clone()),
                "byte {byte}: page {page} was durable before"
            );
        }
    }
}

#[test]
fn entries_of_an_earlier_round_are_not_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut log = Log::create(&log_at(&path), 0).unwrap();
    for _ in 0..5 {
        log.append(b"old").unwrap();
    }
    log.rewind();
    log.append(b"new").unwrap();
    let (again, bodies) = Log::open(&log_at(&path), log.id(), 5).unwrap();
    assert_eq!((again.sequence(), bodies), (6, vec![b"new".to_vec()]));
}

#[test]
fn nobody_else_may_read_the_log() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    let _disk = open(&path).unwrap();
    let mode = std::fs::metadata(path.with_extension("log"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_log_is_made_in_place_of_no_file_that_may_be_worth_something() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.redb");
    let log = path.with_extension("log");
    drop(open(&path).unwrap());
    let unused = std::fs::read(&log).unwrap();
    let disk = open(&path).unwrap();
    assert_eq!(written(&disk, 1..2, 1), Ok(()));
    drop(disk);
    let used = std::fs::read(&log).unwrap();

    let foreign = StoreError::ForeignLog { path: log.clone() };
    for bytes in [used.as_slice(), b"Dear diary,", &used[..48]] {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&log, bytes).unwrap();
        assert_eq!(open(&path).unwrap_err(), foreign);
        assert!(std::fs::read(&log).unwrap() == bytes, "it is as it was");
    }
    // A crash leaves these between making the log and telling the store of it.
    for bytes in [unused.as_slice(), b""] {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&log, bytes).unwrap();
        drop(open(&path).unwrap());
    }
}
