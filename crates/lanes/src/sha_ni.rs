//! Lanes of the SHA instructions of x86-64, each of which does two rounds, or four words of schedule, of one lane.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi64x, _mm_setzero_si128,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    _mm_storeu_si128,
};

/// Whether this CPU has the instructions of [`compress_each`]; the standard library asks once and remembers.
#[inline]
pub(crate) fn is_available() -> bool {
    is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1")
}

/// Compresses as many blocks as there are of both, four at a time, then two, then one.
///
/// Calling it is unsafe unless [`is_available`] has said yes.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
pub(crate) fn compress_each(states: &mut [[u32; 8]], blocks: &[[u8; 64]]) {
    let (fours, rest) = states.as_chunks_mut::<4>();
    let (four_blocks, blocks) = blocks.as_chunks::<4>();
    for (states, blocks) in fours.iter_mut().zip(four_blocks) {
        compress(states, blocks);
    }
    let (twos, one) = rest.as_chunks_mut::<2>();
    let (two_blocks, block) = blocks.as_chunks::<2>();
    for (states, blocks) in twos.iter_mut().zip(two_blocks) {
        compress(states, blocks);
    }
    for (state, block) in one.iter_mut().zip(block) {
        compress::<1>(std::array::from_mut(state), std::array::from_ref(block));
    }
}

/// Compresses `N` blocks side by side.
#[inline]
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
fn compress<const N: usize>(states: &mut [[u32; 8]; N], blocks: &[[u8; 64]; N]) {
    let mut abef = [_mm_setzero_si128(); N];
    let mut cdgh = [_mm_setzero_si128(); N];
    let mut words = [[_mm_setzero_si128(); 4]; N];
    for lane in 0..N {
        (abef[lane], cdgh[lane]) = load_state(&states[lane]);
    }
    for quad in 0..4 {
        for lane in 0..N {
            let w = &mut words[lane];
            w[quad] = load_words(&blocks[lane], quad);
            four_rounds(&mut abef[lane], &mut cdgh[lane], w[quad], quad);
        }
    }
    for pass in 1..4 {
        for quad in 0..4 {
            for lane in 0..N {
                let w = &mut words[lane];
                w[quad] = schedule(w[quad], w[(quad + 1) % 4], w[(quad + 2) % 4], w[(quad + 3) % 4]);
                four_rounds(&mut abef[lane], &mut cdgh[lane], w[quad], 4 * pass + quad);
            }
        }
    }
    for lane in 0..N {
        let (abef_before, cdgh_before) = load_state(&states[lane]);
        let (abef, cdgh) = (
            _mm_add_epi32(abef[lane], abef_before),
            _mm_add_epi32(cdgh[lane], cdgh_before),
        );
        store_state(&mut states[lane], abef, cdgh);
    }
}

/// Rounds `4 * quad` to `4 * quad + 3` of one lane.
#[inline]
#[target_feature(enable = "sha,sse2")]
fn four_rounds(abef: &mut __m128i, cdgh: &mut __m128i, words: __m128i, quad: usize) {
    let sum = _mm_add_epi32(words, load(&ROUND[quad]));
    *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, sum);
    *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32(sum, 0x0e));
}

/// The four words of schedule after the sixteen given.
#[inline]
#[target_feature(enable = "sha,sse2,ssse3")]
fn schedule(first: __m128i, second: __m128i, third: __m128i, fourth: __m128i) -> __m128i {
    let sum = _mm_add_epi32(_mm_sha256msg1_epu32(first, second), _mm_alignr_epi8(fourth, third, 4));
    _mm_sha256msg2_epu32(sum, fourth)
}

/// A state as the instructions want it: (a b e f) and (c d g h), the first letter highest.
#[inline]
#[target_feature(enable = "sse2,ssse3,sse4.1")]
fn load_state(state: &[u32; 8]) -> (__m128i, __m128i) {
    let [dcba, hgfe] = [0, 1].map(|half| load(&state.as_chunks().0[half]));
    let (cdab, efgh) = (_mm_shuffle_epi32(dcba, 0xb1), _mm_shuffle_epi32(hgfe, 0x1b));
    (_mm_alignr_epi8(cdab, efgh, 8), _mm_blend_epi16(efgh, cdab, 0xf0))
}

#[inline]
#[target_feature(enable = "sse2,ssse3,sse4.1")]
fn store_state(state: &mut [u32; 8], abef: __m128i, cdgh: __m128i) {
    let (feba, dchg) = (_mm_shuffle_epi32(abef, 0x1b), _mm_shuffle_epi32(cdgh, 0xb1));
    let halves = state.as_chunks_mut().0;
    store(&mut halves[0], _mm_blend_epi16(feba, dchg, 0xf0));
    store(&mut halves[1], _mm_alignr_epi8(dchg, feba, 8));
}

/// Words `4 * quad` to `4 * quad + 3` of a block, which has them big-endian.
#[inline]
#[target_feature(enable = "sse2,ssse3")]
fn load_words(block: &[u8; 64], quad: usize) -> __m128i {
    let bytes: &[u8; 16] = &block.as_chunks().0[quad];
    // SAFETY: the reference is to 16 bytes, and this load asks for no alignment.
    let words = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    _mm_shuffle_epi8(words, _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203))
}

#[inline]
#[target_feature(enable = "sse2")]
fn load(words: &[u32; 4]) -> __m128i {
    // SAFETY: the reference is to 16 bytes, and this load asks for no alignment.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn store(words: &mut [u32; 4], value: __m128i) {
    // SAFETY: the reference is to 16 bytes of ours alone, and this store asks for no alignment.
    unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), value) }
}

/// The round constants (FIPS 180-4, section 4.2.2), four rounds a row.
const ROUND: [[u32; 4]; 16] = [
    [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
    [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
    [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
    [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
    [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
    [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
    [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
    [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
    [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
    [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
    [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
    [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
    [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
];
