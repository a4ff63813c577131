//! Ed25519 keys, signatures and readable ids. One acceptance rule for everyone: `verify_strict`, never a batch.

use crate::codec::{Tag, hex_bytes, tagged_bytes};
use bech32::{Bech32m, Hrp};
use bincode::{Decode, Encode};
use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

hex_bytes!(
    /// An Ed25519 signature, R then s. Spec: K-03.
    Signature,
    64
);

/// An account: 32 bytes of an Ed25519 public key, not yet checked. Spec: K-01.
///
/// Keys from the wire stay in this form; [`AccountKey::check`] makes the form that can verify.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct AccountKey(pub [u8; 32]);

impl AccountKey {
    /// The checked key: canonical, not weak, torsion-free. Spec: K-02.
    ///
    /// # Errors
    /// [`BadKey`] otherwise; such a key would verify differently in different implementations.
    pub fn check(&self) -> Result<PublicKey, BadKey> {
        let point = CompressedEdwardsY(self.0).decompress().ok_or(BadKey)?;
        let is_canonical = point.compress().to_bytes() == self.0;
        if !is_canonical || point.is_small_order() || !point.is_torsion_free() {
            return Err(BadKey);
        }
        Ok(PublicKey(VerifyingKey::from(point)))
    }
}

/// A public key that passed [`AccountKey::check`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The account this key is.
    #[must_use]
    pub fn account(&self) -> AccountKey {
        AccountKey(self.0.to_bytes())
    }

    /// Verifies a signature over raw bytes by `verify_strict`. Spec: K-04.
    ///
    /// # Errors
    /// [`BadSignature`] if it does not verify.
    pub fn verify_bytes(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0.verify_strict(message, &signature).map_err(|_| BadSignature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.account(), f)
    }
}

/// An Ed25519 signing key; zeroised when dropped, never printed.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of a 32-byte seed (RFC 8032).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, for writing a key file or a TLS identity.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The account of this key.
    #[must_use]
    pub fn account(&self) -> AccountKey {
        AccountKey(self.0.verifying_key().to_bytes())
    }

    /// Signs raw bytes.
    #[must_use]
    pub fn sign_bytes(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// An object that has its own tag and can be signed. Spec: E-04.
pub trait Tagged: Encode {
    /// The tag in front of the signed bytes.
    const TAG: Tag;
}

/// An object and a signature over `tag || body`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct Signed<T: 'static> {
    /// What was signed.
    pub body: T,
    /// By whom depends on the object: a hold by its escrow, a book by the hold's signer.
    pub signature: Signature,
}

impl<T: Tagged> Signed<T> {
    /// Signs an object.
    #[must_use]
    pub fn new(body: T, key: &SecretKey) -> Self {
        let signature = key.sign_bytes(&tagged_bytes(T::TAG, &body));
        Self { body, signature }
    }

    /// Verifies the signature by a checked key.
    ///
    /// # Errors
    /// [`BadSignature`] if it is not this key's signature over this body.
    pub fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        key.verify_bytes(&tagged_bytes(T::TAG, &self.body), &self.signature)
    }
}

/// The key is not canonical, is weak, or has a torsion component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an acceptable Ed25519 public key")]
pub struct BadKey;

/// The signature does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature does not verify")]
pub struct BadSignature;

/// Why text is not a key or id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// The checksum fails: a typing error.
    #[error("not bech32m, or its checksum fails: check for a typing error")]
    Checksum,
    /// Another kind of id, or another length.
    #[error("not a {expected}... id")]
    Kind {
        /// The prefix that was expected.
        expected: &'static str,
    },
}

/// Writes bytes as bech32m.
pub(crate) fn fmt_bech32(prefix: &'static str, bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text = Hrp::parse(prefix)
        .ok()
        .and_then(|hrp| bech32::encode::<Bech32m>(hrp, bytes).ok());
    f.write_str(&text.ok_or(fmt::Error)?)
}

/// Reads bech32m of one kind and length.
pub(crate) fn parse_bech32<const N: usize>(prefix: &'static str, text: &str) -> Result<[u8; N], ParseIdError> {
    use bech32::primitives::decode::CheckedHrpstring;
    let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| ParseIdError::Checksum)?;
    let bytes: Vec<u8> = checked.byte_iter().collect();
    let kind = ParseIdError::Kind { expected: prefix };
    if checked.hrp().as_str() != prefix {
        return Err(kind);
    }
    bytes.try_into().map_err(|_| kind)
}

/// Gives a 32- or 16-byte newtype its bech32m text form.
macro_rules! bech32_text {
    ($name:ident, $prefix:literal, $len:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $crate::key::fmt_bech32($prefix, &self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = $crate::key::ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::key::parse_bech32::<$len>($prefix, text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

bech32_text!(AccountKey, "tom", 32);

/// An id that is a hash or a random value, with its own readable prefix. Spec: K-05.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        pub struct $name(pub [u8; $len]);

        bech32_text!($name, $prefix, $len);
    };
}

id!(
    /// Names a hold: the hash of its fixed fields. Spec: H-02.
    HoldId, "tomhold", 32
);
id!(
    /// Names a book: the hash of its body, never of its signature. Spec: B-02.
    BookId, "tombook", 32
);
id!(
    /// Names a quote; random, chosen by the payee.
    QuoteId, "tomquote", 16
);
id!(
    /// Names a mutating escrow request; random, chosen by the client. Spec: R-02.
    RequestId, "tomreq", 16
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec: K-05.
    #[test]
    fn a_key_reads_as_it_prints_and_a_typo_is_caught() {
        let key = SecretKey::from_seed(&[7; 32]).account();
        let text = key.to_string();
        assert!(text.starts_with("tom1"));
        assert_eq!(text.parse::<AccountKey>(), Ok(key));
        let last = if text.ends_with('q') { 'p' } else { 'q' };
        let typo: String = text[..text.len() - 1].chars().chain([last]).collect();
        assert_eq!(typo.parse::<AccountKey>(), Err(ParseIdError::Checksum));
        assert_eq!(text.parse::<HoldId>(), Err(ParseIdError::Kind { expected: "tomhold" }));
    }

    /// Some verifiers take it, as the equation holds: the nonce is 0 and R the identity.
    /// Spec: K-04.
    #[test]
    fn a_signature_whose_r_is_of_small_order_is_refused() {
        use curve25519_dalek::scalar::{Scalar, clamp_integer};
        use ed25519_dalek::Verifier;
        use sha2::{Digest, Sha512};
        let (seed, message) = ([7; 32], b"a book");
        let key = SecretKey::from_seed(&seed).account().check().unwrap();
        let expanded: [u8; 64] = Sha512::digest(seed).into();
        let secret = Scalar::from_bytes_mod_order(clamp_integer(*expanded.first_chunk().unwrap()));
        let mut bytes = [0u8; 64];
        bytes[0] = 1;
        let hash = Sha512::new().chain_update(&bytes[..32]).chain_update(key.account().0);
        let challenge = Scalar::from_bytes_mod_order_wide(&hash.chain_update(message).finalize().into());
        bytes[32..].copy_from_slice(&(challenge * secret).to_bytes());
        let crafted = ed25519_dalek::Signature::from_bytes(&bytes);
        assert!(
            Verifier::verify(&key.0, message, &crafted).is_ok(),
            "by the lax rule it verifies"
        );
        assert_eq!(key.verify_bytes(message, &Signature(bytes)), Err(BadSignature));
    }

    /// Spec: K-02.
    #[test]
    fn weak_keys_are_refused() {
        let identity = {
            let mut k = [0u8; 32];
            k[0] = 1;
            k
        };
        assert_eq!(AccountKey(identity).check(), Err(BadKey));
        assert_eq!(AccountKey([0xff; 32]).check(), Err(BadKey));
    }

    /// Spec: K-02.
    #[test]
    fn a_key_with_a_torsion_component_is_refused() {
        let key = SecretKey::from_seed(&[3; 32]).account();
        let point = CompressedEdwardsY(key.0).decompress().unwrap();
        for torsion in &curve25519_dalek::constants::EIGHT_TORSION[1..] {
            assert_eq!(AccountKey((point + torsion).compress().to_bytes()).check(), Err(BadKey));
        }
        assert!(key.check().is_ok());
    }
}
