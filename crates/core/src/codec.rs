//! The one module that knows the encoding: bincode 2, fixed-width little-endian integers, bounded, exact.
//!
//! Bytes that are signed or hashed are `24-byte tag || body` and every body is what [`encode`] writes.
//! A decoder takes the whole input or nothing: a single trailing byte is a typed error, so for every
//! accepted input `encode(decode(b)) == b`. Spec: E-01 to E-06.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::EncodeError;
use bincode::{BorrowDecode, Decode, Encode};
use sha2::{Digest, Sha256};
use std::fmt;

/// The largest encoded message in bytes, and the largest input any decoder here looks at. Spec: N-04.
///
/// 64 KiB holds a claim batch of 128 or a page of 100 holds, and bounds what a peer can make us buffer per stream.
pub const MESSAGE_BYTES_MAX: usize = 65_536;

/// A domain-separation tag: ASCII, zero-padded to 24 bytes. Spec: E-04.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag([u8; 24]);

impl Tag {
    /// Makes a tag from at most 24 ASCII bytes; longer names do not compile in a `const`.
    #[must_use]
    #[allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "evaluated in consts, in bounds or no build"
    )]
    pub const fn new(name: &str) -> Self {
        let bytes = name.as_bytes();
        assert!(bytes.len() <= 24, "a tag has at most 24 bytes");
        let mut tag = [0u8; 24];
        let mut at = 0;
        while at < bytes.len() {
            tag[at] = bytes[at];
            at += 1;
        }
        Self(tag)
    }

    /// The 24 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 24] {
        &self.0
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or("?").trim_end_matches('\0'))
    }
}

/// Why bytes are not the object they were taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input is longer than any message may be.
    #[error("message too large: {0} bytes, at most {MESSAGE_BYTES_MAX}")]
    TooLarge(usize),
    /// The input ends early, or a field is out of its range.
    #[error("malformed message")]
    Malformed,
    /// The object ends before the input does.
    #[error("trailing bytes: object has {used}, input has {given}")]
    Trailing {
        /// Bytes that the object took.
        used: usize,
        /// Bytes that were given.
        given: usize,
    },
}

/// Encodes an object. Spec: E-01.
#[must_use]
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    // Our types have no fallible Encode and a Vec does not run out: a failure is our bug, and stops us.
    bincode::encode_to_vec(value, UNLIMITED).unwrap_or_else(|_| unreachable!("encoding into memory cannot fail"))
}

/// Decodes an object that must take up the whole input.
///
/// # Errors
/// [`DecodeError`] if the input is too large, malformed, or longer than the object. Spec: E-02, E-03.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(DecodeError::TooLarge(bytes.len()));
    }
    let (value, used) = bincode::decode_from_slice(bytes, LIMITED).map_err(|_| DecodeError::Malformed)?;
    if used != bytes.len() {
        return Err(DecodeError::Trailing {
            used,
            given: bytes.len(),
        });
    }
    Ok(value)
}

/// Tag and body as one byte string: what signatures cover. Spec: E-04.
#[must_use]
pub fn tagged_bytes<T: Encode>(tag: Tag, body: &T) -> Vec<u8> {
    let mut bytes = tag.0.to_vec();
    bytes.extend_from_slice(&encode(body));
    bytes
}

/// SHA-256 of tag and body: what ids and commitments are. Spec: E-05.
#[must_use]
pub fn tagged_hash<T: Encode>(tag: Tag, body: &T) -> [u8; 32] {
    Sha256::digest(tagged_bytes(tag, body)).into()
}

/// SHA-256 of a tag and a body that is encoded already. Spec: E-05.
#[must_use]
pub fn tagged_hash_of(tag: Tag, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(tag.0);
    hash.update(body);
    hash.finalize().into()
}

/// UTF-8 text of at most `MAX` bytes without control characters. Spec: E-06.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// Takes text that fits.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] over `MAX` bytes, [`DecodeError::Malformed`] with a control character.
    pub fn new(text: impl Into<String>) -> Result<Self, DecodeError> {
        let text = text.into();
        if text.len() > MAX {
            return Err(DecodeError::TooLarge(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(DecodeError::Malformed);
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> serde::Serialize for Text<MAX> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<const MAX: usize> Encode for Text<MAX> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.encode(encoder)
    }
}

impl<C, const MAX: usize> Decode<C> for Text<MAX> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, bincode::error::DecodeError> {
        Self::new(String::decode(decoder)?).map_err(|_| bincode::error::DecodeError::Other("text"))
    }
}

impl<'de, C, const MAX: usize> BorrowDecode<'de, C> for Text<MAX> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, bincode::error::DecodeError> {
        Self::decode(decoder)
    }
}

/// A list of at most `MAX` items. Spec: E-06.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct List<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> List<T, MAX> {
    /// Takes a vector that fits.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] with the number of items, if there are more than `MAX`.
    pub fn new(items: Vec<T>) -> Result<Self, DecodeError> {
        if items.len() > MAX {
            return Err(DecodeError::TooLarge(items.len()));
        }
        Ok(Self(items))
    }

    /// The items.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// The items, owned.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T: Encode + 'static, const MAX: usize> Encode for List<T, MAX> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.encode(encoder)
    }
}

impl<C, T: Decode<C> + 'static, const MAX: usize> Decode<C> for List<T, MAX> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, bincode::error::DecodeError> {
        Self::new(Vec::decode(decoder)?).map_err(|_| bincode::error::DecodeError::Other("list"))
    }
}

impl<'de, C, T: Decode<C> + 'static, const MAX: usize> BorrowDecode<'de, C> for List<T, MAX> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, bincode::error::DecodeError> {
        Self::decode(decoder)
    }
}

/// Defines a fixed-size byte newtype that prints, serialises and debugs as hex.
macro_rules! hex_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode)]
        pub struct $name(pub [u8; $len]);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}
pub(crate) use hex_bytes;

const UNLIMITED: Configuration<LittleEndian, Fixint> = bincode::config::standard().with_fixed_int_encoding();
const LIMITED: Configuration<LittleEndian, Fixint, Limit<MESSAGE_BYTES_MAX>> = bincode::config::standard()
    .with_fixed_int_encoding()
    .with_limit::<MESSAGE_BYTES_MAX>();

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Encode, Decode, PartialEq, Debug, wincode::SchemaWrite, wincode::SchemaRead)]
    enum Shape {
        Empty,
        Full {
            a: u64,
            b: [u8; 32],
            c: Vec<u8>,
            d: String,
            e: Option<u32>,
            f: u16,
            g: Vec<u64>,
        },
    }

    /// The way out of an unmaintained codec: another maintained crate writes the same bytes.
    /// Spec: E-01.
    #[test]
    fn wincode_writes_the_same_bytes() {
        let full = Shape::Full {
            a: 7,
            b: [9; 32],
            c: vec![1, 2, 3],
            d: "tombola".into(),
            e: Some(5),
            f: 513,
            g: vec![u64::MAX, 0],
        };
        for shape in [Shape::Empty, full] {
            let bytes = encode(&shape);
            assert_eq!(bytes, wincode::serialize(&shape).unwrap());
            assert_eq!(shape, wincode::deserialize_exact::<Shape>(&bytes).unwrap());
        }
    }

    /// Spec: E-02.
    #[test]
    fn a_trailing_byte_is_refused() {
        let mut bytes = encode(&7u64);
        bytes.push(0);
        assert_eq!(decode::<u64>(&bytes), Err(DecodeError::Trailing { used: 8, given: 9 }));
    }

    /// Spec: E-06.
    #[test]
    fn a_length_beyond_the_input_is_refused_without_allocating_it() {
        let mut bytes = encode(&(1u64 << 40));
        bytes.extend_from_slice(&[1, 2, 3]);
        assert_eq!(decode::<Vec<u8>>(&bytes), Err(DecodeError::Malformed));
    }

    /// Spec: E-06.
    #[test]
    fn text_over_its_bound_is_refused() {
        let long = encode(&"abcdef".to_string());
        assert_eq!(decode::<Text<5>>(&long), Err(DecodeError::Malformed));
        assert!(decode::<Text<6>>(&long).is_ok());
        assert_eq!(Text::<9>::new("a\u{7}b"), Err(DecodeError::Malformed));
    }
}
