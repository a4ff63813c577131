//! A disk that gives back other bytes than it was given: a store says so when it is opened, or has every row as it was.

use crate::disks::{FILE, open};
use crate::money::{number, withdraw};
use crate::world::{TestBook, World};
use std::io;
use std::sync::Arc;
use tombola_ledger::key::Key;
use tombola_ledger::row::Table;
use tombola_ledger::store::{Range, Reader, StoreFault, Stored};
use tombola_store::block_on::block_on;
use tombola_store::redb_store::RedbStore;
use tombola_tests::disk::{Image, TestDisk};
use tombola_tests::rot::Rot;

const SEED: u64 = 1;
/// Changed bits in pages that have something, beside one in each byte of the header.
const BITS: usize = 1_200;
/// Sectors that are zeros, or have what another one has.
const SECTORS: usize = 300;

/// A store with rows of most kinds, closed in good order.
fn sound() -> (Image, Vec<(Key, Stored)>) {
    let disk = TestDisk::default();
    let mut world = World::over(open(&disk).unwrap());
    world.deposit(2, 1_000_000, "first").unwrap();
    for n in 0..12 {
        let hold = world.open_hold(50_000).body;
        world.claim(TestBook::sure(&hold, n, 8).claim(8)).unwrap();
        if n % 3 == 0 {
            world.release(hold.id(), 8_000);
        }
    }
    number(&withdraw(&mut world, 3, 1_000, "bank"));
    drop(world);
    let image = disk.restarted();
    let rows = rows(&image).unwrap();
    (image, rows)
}

fn rows(image: &Image) -> Result<Vec<(Key, Stored)>, StoreFault> {
    let disk = TestDisk::holding(image);
    let store = RedbStore::open_on(|| disk.file(FILE))?;
    let mut rows = Vec::new();
    for table in Table::ALL {
        let range = Range {
            from: Key::from_bytes(*table, &[]),
            to: None,
            limit: usize::MAX,
        };
        rows.extend(block_on(store.scan(&range))?);
    }
    Ok(rows)
}

/// Spec: G-09.
#[test]
fn a_store_whose_bytes_have_changed_on_the_disk_is_refused_or_has_every_row() {
    let (image, whole) = sound();
    let (mut refused, mut unharmed) = (0, 0);
    for rot in Rot::sample(&image[FILE], BITS, SECTORS, SEED) {
        let mut bytes = image[FILE].to_vec();
        rot.befall(&mut bytes);
        let rotten = Image::from([(FILE.to_owned(), Arc::new(bytes))]);
        match rows(&rotten) {
            Ok(rows) => {
                assert!(rows == whole, "seed {SEED}, {rot:?}: other rows");
                assert!(open(&TestDisk::holding(&rotten)).is_ok(), "seed {SEED}, {rot:?}");
                unharmed += 1;
            }
            Err(StoreFault::Damaged | StoreFault::Foreign | StoreFault::FileFormat) => refused += 1,
            // What is said to lie behind the end of the file.
            Err(StoreFault::Io(disk)) if disk.kind() == io::ErrorKind::UnexpectedEof => refused += 1,
            Err(fault) => panic!("seed {SEED}, {rot:?}: {fault}"),
        }
    }
    println!("{refused} refused, {unharmed} without harm");
    assert!(refused > 200, "what is sampled is read");
}
