//! Extracts of a log, as `tombola verify log` reads them: whatever the bytes are, no panic, and no head that hashing
//! does not give.

use sha2::{Digest, Sha256};
use tombola_core::claim::Head;
use tombola_core::key::Signed;
use tombola_ledger::extract::{
    Chain, END_BYTES, EVENT_BYTES_MAX, ExtractError, Flaw, LogEnd, START_BYTES, decode_end, decode_start, encode_start,
};

/// A whole file.
pub fn extract(data: &[u8]) {
    let Ok((end, flaws)) = read(data) else { return };
    // The signature is of an escrow that has never seen this file.
    if let Ok(key) = end.body.escrow.check() {
        let _ = end.verify(&key);
    }
    let is_in_order = flaws.is_sorted_by_key(|(height, _)| *height);
    assert!(is_in_order, "what is wrong is told in the order of the log");
}

/// The signed end, and what was wrong at which height.
type Checked = (Signed<LogEnd>, Vec<(u64, Flaw)>);

/// Reads it event by event, as from a file of any length.
fn read(data: &[u8]) -> Result<Checked, ExtractError> {
    let (start, mut rest) = data.split_first_chunk::<START_BYTES>().ok_or(ExtractError::Foreign)?;
    let bytes = start;
    let start = decode_start(bytes)?;
    assert_eq!(encode_start(&start), bytes);
    let mut chain = Chain::new(start);
    let mut height = start.first.saturating_sub(1);
    for _ in 0..start.count {
        let cut = ExtractError::Cut { height };
        let (length, after) = rest.split_first_chunk::<4>().ok_or(cut)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > EVENT_BYTES_MAX {
            return Err(cut);
        }
        let (event, after) = after.split_at_checked(length).ok_or(cut)?;
        let (at, head, _) = chain.take(event);
        assert_eq!(head, head_of(event), "a head is the hash of its event");
        (height, rest) = (at, after);
    }
    if rest.len() > END_BYTES {
        return Err(ExtractError::Cut { height });
    }
    let end = decode_end(rest, height)?;
    Ok((end, chain.finish(&end.body)))
}

/// From the specification: SHA-256 of the tag, padded to 24 bytes, and the event. Spec: G-02.
fn head_of(event: &[u8]) -> Head {
    let mut hash = Sha256::new();
    hash.update(b"tombola/event/v1\0\0\0\0\0\0\0\0");
    hash.update(event);
    Head(hash.finalize().into())
}

/// The extract of a log in which something happened, and one of its middle.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let world = crate::escrow::busy();
    vec![world.extract(1, u64::MAX), world.extract(2, 4)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extract_without_a_flaw_has_one_as_soon_as_a_byte_differs() {
        for good in seeds() {
            let (_, flaws) = read(&good).unwrap();
            assert_eq!(flaws, []);
            let head = START_BYTES + 4 + 50;
            let mut bad = good.clone();
            bad[head] ^= 1;
            assert!(read(&bad).map_or(true, |(_, flaws)| !flaws.is_empty()));
        }
    }
}
