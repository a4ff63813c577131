//! The key by which a node that was restarted tells its peers of before that their connections are gone.
//!
//! A packet of a connection that a node does not know is answered with a stateless reset (RFC 9000 section 10.3): bytes
//! that end in a token, which the peer was told when the connection was made. Tokens are made from connection ids by a
//! key. A fresh key at each start would make tokens that nobody knows, and the peers of a node that was killed would
//! wait for the idle timeout; so the key comes from what a restart does not change: the node's secret, its address, and a
//! salt that it keeps. Spec: N-09.

use crate::limits::RESET_INTERVAL;
use hmac::{Hmac, KeyInit, Mac};
use quinn::EndpointConfig;
use quinn::crypto::{CryptoError, HmacKey};
use quinn_proto::RandomConnectionIdGenerator;
use sha2::Sha256;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tombola_core::key::SecretKey;
use zeroize::Zeroizing;

/// Keeps this use of the node's secret apart from every other. Zero-padded to 24 bytes as all tags are.
const TAG: [u8; 24] = *b"tombola/reset/v1\0\0\0\0\0\0\0\0";

/// The same for the table of address ranges.
const TABLE_TAG: [u8; 24] = *b"tombola/ranges/v1\0\0\0\0\0\0\0";

/// Random bytes that a node keeps, and keeps to itself: the same after a restart, and others on each machine.
///
/// Several hosts may serve one key, each at its own wildcard address, which looks the same from within. Without a salt
/// they would have the same tokens, and whoever is told one by the first could end connections of the second.
#[derive(Clone)]
pub struct ResetSalt(Zeroizing<[u8; 32]>);

impl ResetSalt {
    /// From 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl std::fmt::Debug for ResetSalt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResetSalt(..)")
    }
}

/// How an endpoint of this key at this address answers packets of connections that it does not know.
pub(crate) fn endpoint_config(key: &SecretKey, salt: &ResetSalt, bound: SocketAddr) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(ResetKey::new(key, salt, bound)));
    // The hashed ids of the default know their own process only, and after its end there is no token for the others. They
    // also have few values, and one that comes again under the same key would have a token that is known already.
    config
        .cid_generator(|| Box::new(RandomConnectionIdGenerator::default()))
        .min_reset_interval(RESET_INTERVAL);
    config
}

/// The key of the table of address ranges: another secret of the node, which no reset token tells anything about.
pub(crate) fn table_key(key: &SecretKey, salt: &ResetSalt) -> [u8; 32] {
    let seed = key.seed();
    let parts = [&TABLE_TAG[..], salt.0.as_slice()];
    hmac(seed.as_slice(), &parts).finalize().into_bytes().into()
}

struct ResetKey(Zeroizing<[u8; 32]>);

impl ResetKey {
    /// The address is part of it, so that two processes of one key cannot be made to tell each other's tokens.
    fn new(key: &SecretKey, salt: &ResetSalt, bound: SocketAddr) -> Self {
        let seed = key.seed();
        let ip = match bound.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let parts = [&TAG[..], salt.0.as_slice(), &ip.octets(), &bound.port().to_le_bytes()];
        Self(Zeroizing::new(
            hmac(seed.as_slice(), &parts).finalize().into_bytes().into(),
        ))
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(&hmac(self.0.as_slice(), &[data]).finalize().into_bytes());
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        hmac(self.0.as_slice(), &[data])
            .verify_slice(signature)
            .map_err(|_| CryptoError)
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        unreachable!("HMAC takes keys of any length")
    };
    parts.iter().for_each(|part| mac.update(part));
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(seed: u8, salt: u8, bound: &str) -> [u8; 32] {
        let key = SecretKey::from_seed(&[seed; 32]);
        let key = ResetKey::new(&key, &ResetSalt::new([salt; 32]), bound.parse().unwrap());
        let mut token = [0; 32];
        key.sign(b"cid", &mut token);
        key.verify(b"cid", &token).unwrap();
        assert!(key.verify(b"other", &token).is_err());
        token
    }

    #[test]
    fn tokens_are_the_same_after_a_restart_and_differ_by_key_host_and_address() {
        let first = token(1, 9, "0.0.0.0:7401");
        assert_eq!(first, token(1, 9, "0.0.0.0:7401"));
        let others = [
            (2, 9, "0.0.0.0:7401"),
            (1, 8, "0.0.0.0:7401"),
            (1, 9, "0.0.0.0:7402"),
            (1, 9, "127.0.0.1:7401"),
        ];
        for (seed, salt, bound) in others {
            assert_ne!(first, token(seed, salt, bound));
        }
    }
}
