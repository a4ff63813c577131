//! What is left on the heap of a key and of its passphrase once nobody has them any more.

use super::{Cost, KeyFile, Passphrase, Protection, write};
use crate::clock;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tombola_core::key::SecretKey;
use zeroize::Zeroizing;

/// Bytes that are looked for, masked, so that what looks for them is not found itself.
struct Wanted([u8; 32]);

const MASK: u8 = 0x5a;

impl Wanted {
    fn unmasked(&self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new(self.0);
        bytes.iter_mut().for_each(|byte| *byte ^= MASK);
        bytes
    }

    /// Whether these bytes are anywhere in the memory of this process that can be written, but for the stack of this
    /// thread: what libraries leave in frames that have ended is overwritten by the next ones.
    fn is_on_the_heap(&self) -> bool {
        let on_the_stack = u64::try_from((&raw const self).addr()).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let memory = File::open("/proc/self/mem").unwrap();
        let is_there = |line: &str| {
            let (range, rest) = line.split_once(' ').unwrap();
            let (from, to) = range.split_once('-').unwrap();
            let at = |hex: &str| u64::from_str_radix(hex, 16).unwrap();
            if !rest.starts_with("rw-p") || (at(from)..at(to)).contains(&on_the_stack) {
                return false;
            }
            // What is found must not stay here in turn.
            let mut bytes = Zeroizing::new(vec![0; usize::try_from(at(to) - at(from)).unwrap()]);
            // A guard page, or a mapping that has gone since, cannot be read.
            memory.read_exact_at(&mut bytes, at(from)).is_ok() && self.is_in(&bytes)
        };
        maps.lines().any(is_there)
    }

    /// Looks for the second half: an allocator writes over the first bytes of what it takes back.
    fn is_in(&self, bytes: &[u8]) -> bool {
        let half = &self.0[16..];
        let is_it = |found: &[u8]| found.iter().zip(half).all(|(found, masked)| *found == masked ^ MASK);
        bytes.windows(half.len()).any(is_it)
    }
}

/// Writes the key file and reads it again; the key lives on the heap meanwhile.
fn use_key(path: &Path, seed: &Wanted, passphrase: &Wanted) {
    let phrase = Passphrase::new(Zeroizing::new(passphrase.unmasked().to_vec())).unwrap();
    let key = Box::new(SecretKey::from_seed(&seed.unmasked()));
    write(path, &key, Protection::Passphrase(&phrase, Cost::NEGLIGIBLE)).unwrap();
    let again = Box::new(KeyFile::read(path).unwrap().open(Some(&phrase)).unwrap());
    assert_eq!(key.account(), again.account());
    assert!(
        seed.is_on_the_heap() && passphrase.is_on_the_heap(),
        "they are found where they are"
    );
}

#[test]
fn a_key_and_its_passphrase_leave_nothing_on_the_heap() {
    let home = tempfile::tempdir().unwrap();
    // A passphrase is text.
    let letters = clock::random::<32>().map(|byte| (b'a' + byte % 26) ^ MASK);
    let (seed, passphrase) = (Wanted(clock::random()), Wanted(letters));
    use_key(&home.path().join("key"), &seed, &passphrase);
    assert!(!passphrase.is_on_the_heap(), "the passphrase");
    assert!(!seed.is_on_the_heap(), "the seed");
}
