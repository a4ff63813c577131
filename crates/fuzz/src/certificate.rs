//! Certificates, which a server reads before it knows who shows them: a key comes out only if it stands there.

use tombola_core::key::SecretKey;

/// The bytes of a certificate.
pub fn certificate(data: &[u8]) {
    let Some(key) = tombola_net::key_of(data) else { return };
    let account = key.account();
    assert!(account.check().is_ok(), "an acceptable key");
    assert!(
        data.windows(32).any(|part| part == account.0),
        "that stands in the certificate"
    );
}

/// One of ours, and one with bytes after its end.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let ours = tombola_net::certificate(&SecretKey::from_seed(&[7; 32])).expect("a certificate is made");
    let longer = [&ours[..], b"and more"].concat();
    vec![ours, longer]
}
