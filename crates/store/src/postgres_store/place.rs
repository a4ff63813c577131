//! Where a row is in its table: the number that its key begins with, and the rest of the key.

use tombola_ledger::key::{KEY_BYTES_MAX, Key};
use tombola_ledger::row::Table;
use tombola_ledger::store::Range;

/// After every rest of a key.
const REST_MAX: [u8; KEY_BYTES_MAX] = [0xff; KEY_BYTES_MAX];

/// The first 8 bytes of a key as the column `home`, its top bit flipped: signed numbers then order as the bytes do.
///
/// A shorter key, which bounds a range and is no row's, counts as if zeros followed.
pub(super) fn home_of(key: &Key) -> i64 {
    let mut bytes = [0u8; 8];
    for (to, from) in bytes.iter_mut().zip(key.as_bytes()) {
        *to = *from;
    }
    i64::from_be_bytes(bytes) ^ i64::MIN
}

/// The bytes of a key after the first 8.
pub(super) fn rest_of(key: &Key) -> &[u8] {
    key.as_bytes().get(8..).unwrap_or_default()
}

/// The key of a row that was read.
pub(super) fn key_of(table: Table, home: i64, rest: &[u8]) -> Key {
    let mut bytes = (home ^ i64::MIN).to_be_bytes().to_vec();
    bytes.extend_from_slice(rest);
    Key::from_bytes(table, &bytes)
}

/// A range as a statement takes it; both ends are included.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bounds<'a> {
    pub(super) from: (i64, &'a [u8]),
    pub(super) to: (i64, &'a [u8]),
    pub(super) limit: i64,
}

impl<'a> Bounds<'a> {
    /// None where no key is in the range.
    pub(super) fn new(range: &'a Range) -> Option<Self> {
        if range.to.is_some_and(|to| to < range.from) {
            return None;
        }
        let to = match &range.to {
            None => (i64::MAX, &REST_MAX[..]),
            // All rows that begin with a shorter key come after it.
            Some(to) if to.as_bytes().len() < 8 => (home_of(to).checked_sub(1)?, &REST_MAX[..]),
            Some(to) => (home_of(to), rest_of(to)),
        };
        Some(Self {
            from: (home_of(&range.from), rest_of(&range.from)),
            to,
            limit: i64::try_from(range.limit).unwrap_or(i64::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(key: &Key) -> (i64, &[u8]) {
        (home_of(key), rest_of(key))
    }

    fn key(numbers: &[u64]) -> Key {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        Key::from_bytes(Table::Events, &bytes)
    }

    #[test]
    fn places_order_as_their_keys_do() {
        let numbers = [0, 1, 255, 256, u64::MAX >> 1, (u64::MAX >> 1) + 1, u64::MAX];
        let mut keys = Vec::new();
        for first in numbers {
            keys.push(key(&[first]));
            keys.extend(numbers.map(|second| key(&[first, second])));
        }
        keys.sort_unstable();
        for pair in keys.windows(2) {
            assert!(place(&pair[0]) < place(&pair[1]), "{pair:?}");
        }
        for key in &keys {
            let (home, rest) = place(key);
            assert_eq!(key_of(key.table(), home, rest), *key);
        }
    }

    #[test]
    fn a_short_key_bounds_a_range_as_its_bytes_do() {
        let short = |byte: u8| Key::from_bytes(Table::Events, &[byte]);
        let range = |from: Key, to: Key| Range {
            from,
            to: Some(to),
            limit: 1,
        };
        let up_to_one = range(short(0), short(1));
        let bounds = Bounds::new(&up_to_one).unwrap();
        assert!(bounds.from <= place(&key(&[0])));
        assert!(bounds.to >= place(&key(&[(1 << 56) - 1])));
        assert!(bounds.to < place(&key(&[1 << 56])));
        assert_eq!(Bounds::new(&range(short(0), short(0))), None);
        assert_eq!(Bounds::new(&range(short(1), short(0))), None);
    }
}
