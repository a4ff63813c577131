//! The outside that core takes as arguments: wall-clock time and randomness of the operating system.

use rand::TryRng;
use rand::rngs::SysRng;
use std::time::{SystemTime, UNIX_EPOCH};
use tombola_core::amount::Timestamp;

/// Wall-clock time; 0 for a clock before 1970, which every expiry check then refuses.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Fresh bytes from the operating system.
///
/// # Panics
/// If the operating system has no randomness to give: no secret can be made, so the process must stop.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    assert!(
        SysRng.try_fill_bytes(&mut bytes).is_ok(),
        "the operating system gives random bytes"
    );
    bytes
}
