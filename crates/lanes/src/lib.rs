//! SHA-256 of many independent blocks at once.
//!
//! One compression waits for itself: each round needs the round before. Independent compressions need not wait for each
//! other, so the same rounds of several blocks are done side by side, in *lanes*. With the SHA instructions of x86-64 two
//! lanes take hardly longer than one, and four take half the time a block. Where the CPU has no such instructions `sha2`
//! does the blocks one after another. Which way is chosen at run time; the results are the same bytes.
//!
//! Sixteen lanes of AVX-512 were measured too: no faster than four of these once words are moved into lanes and back.
//!
//! This is the only crate of the workspace with `unsafe` code: calls of functions that need CPU features, after they were
//! found, and loads and stores of whole arrays. It knows no message, allocates nothing and keeps nothing. Its running time
//! depends on how many blocks there are and not on what is in them.
//!
//! ```
//! // Two messages of 3 bytes, padded to a block each by hand: "abc" and "abd".
//! let block = |last: u8| {
//!     let mut block = [0u8; 64];
//!     block[..4].copy_from_slice(&[b'a', b'b', last, 0x80]);
//!     block[63] = 24;
//!     block
//! };
//! let mut states = [tombola_lanes::INITIAL; 2];
//! tombola_lanes::compress_each(&mut states, &[block(b'c'), block(b'd')]);
//! assert_eq!(states[0][0], 0xba78_16bf);
//! assert_ne!(states[0], states[1]);
//! ```

#[cfg(target_arch = "x86_64")]
mod sha_ni;
#[cfg(test)]
mod tests;

use sha2::block_api::compress256;

/// The initial state of SHA-256 (FIPS 180-4, section 5.3.3).
pub const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Compresses each block into its own state: `states[i]` becomes what `blocks[i]` makes of it.
///
/// # Panics
/// If there are not as many states as blocks.
#[inline]
pub fn compress_each(states: &mut [[u32; 8]], blocks: &[[u8; 64]]) {
    assert_eq!(states.len(), blocks.len(), "one state for each block");
    #[cfg(target_arch = "x86_64")]
    if sha_ni::is_available() {
        // SAFETY: the features that it is compiled for were found on this CPU.
        unsafe { sha_ni::compress_each(states, blocks) };
        return;
    }
    one_by_one(states, blocks);
}

/// What every CPU can do.
fn one_by_one(states: &mut [[u32; 8]], blocks: &[[u8; 64]]) {
    for (state, block) in states.iter_mut().zip(blocks) {
        compress256(state, std::slice::from_ref(block));
    }
}
