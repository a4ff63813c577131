//! Key files: any bytes are refused by a typed error, or are a key that is written and read again.

use std::path::Path;
use tombola_core::key::SecretKey;
use tombola_node::key_file::{self, KeyFile, Protection};

/// The bytes of a key file, opened without a passphrase: what a passphrase would cost is bounded before it is asked for.
pub fn key_file(data: &[u8]) {
    let path = Path::new("key.pem");
    let Ok(file) = KeyFile::parse(path, data) else { return };
    let (stated, is_encrypted) = (file.account(), file.is_encrypted());
    assert!(!format!("{file:?}").is_empty());
    let Ok(key) = file.open(None) else { return };
    assert!(!is_encrypted, "an encrypted key takes a passphrase");
    assert!(stated.is_none_or(|stated| stated == key.account()));
    let text = key_file::encode(&key, Protection::None).expect("a key can be written");
    let again = KeyFile::parse(path, text.as_bytes()).and_then(|file| file.open(None));
    assert_eq!(again.expect("it reads as it was written").account(), key.account());
}

/// A key in the open, one with something around it, and one that `openssl` encrypted.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let key = SecretKey::from_seed(&[7; 32]);
    let text = key_file::encode(&key, Protection::None).expect("a key can be written");
    // From RFC 7914.
    let other = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
                 MIHiME0GCSqGSIb3DQEFDTBAMB8GCSsGAQQB2kcECzASBAVNb3VzZQIDEAAAAgEI\n\
                 AgEBMB0GCWCGSAFlAwQBKgQQyYmguHMsOwzGMPoyObk/JgSBkJb47EWd5iAqJlyy\n\
                 +ni5ftd6gZgOPaLQClL7mEZc2KQay0VhjZm/7MbBUNbqOAXNM6OGebXxVp6sHUAL\n\
                 iBGY/Dls7B1TsWeGObE0sS1MXEpuREuloZjcsNVcNXWPlLdZtkSH6uwWzR0PyG/Z\n\
                 +ZXfNodZtd/voKlvLOw5B3opGIFaLkbtLZQwMiGtl42AS89lZg==\n\
                 -----END ENCRYPTED PRIVATE KEY-----\n";
    vec![
        text.as_bytes().to_vec(),
        [b"account: none\n\n", text.as_bytes(), b"\n\n"].concat(),
        other.as_bytes().to_vec(),
    ]
}
