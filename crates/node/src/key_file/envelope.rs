//! The text of a key file, and back: two lines that say whose key it is, then PKCS#8 in PEM, encrypted or not.
//!
//! ```text
//! tombola-key: 1
//! account: tom1...
//! -----BEGIN ENCRYPTED PRIVATE KEY-----
//! EncryptedPrivateKeyInfo of RFC 5958: PBES2 with scrypt (RFC 7914) and AES-256-CBC
//! -----END ENCRYPTED PRIVATE KEY-----
//! ```
//!
//! Other tools skip what is before the first dashes; this one takes files without it. With it, what is decrypted must be
//! the key of that account: CBC alone does not notice an altered byte, and a node must not start as somebody else.

use super::passphrase::Passphrase;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::KeypairBytes;
use pkcs8::der::ErrorKind;
use pkcs8::der::pem::PemLabel;
use pkcs8::pkcs5::pbes2::{Kdf, Parameters, ScryptParams};
use pkcs8::pkcs5::{EncryptionScheme, scrypt};
use pkcs8::{
    EncodePrivateKey, EncryptedPrivateKeyInfoOwned, EncryptedPrivateKeyInfoRef, LineEnding, ObjectIdentifier,
    PrivateKeyInfoRef, SecretDocument,
};
use tombola_core::key::{AccountKey, SecretKey};
use zeroize::Zeroizing;

/// The format that is written; a newer one is refused.
const FORMAT: u32 = 1;
const FORMAT_LINE: &str = "tombola-key";
const ACCOUNT_LINE: &str = "account";
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const PLAIN_LABEL: &str = "PRIVATE KEY";
/// Ed25519 in an `AlgorithmIdentifier`. RFC 8410.
const ED25519_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// scrypt's r, and N as a power of two: OpenSSL 3 derives with at most 32 MiB, and N of 2^15 needs a little more.
const BLOCK_SIZE: u32 = 8;
const LOG_N: u8 = 14;
/// Most passes: so that a slip of the finger does not make a file that nobody waits for.
const PASSES_MAX: u16 = 100;
/// Most memory that deriving a key from a passphrase may take. A file is input: it must not choose how much we have.
const DERIVE_BYTES_MAX: u64 = 256 * 1_024 * 1_024;
/// Most work of it, as N * r * p: some seconds.
const DERIVE_WORK_MAX: u64 = 1 << 24;
/// Most iterations of PBKDF2: some seconds.
const ITERATIONS_MAX: u32 = 10_000_000;
const MIB: u64 = 1_024 * 1_024;

/// How much one guess of the passphrase costs: passes of scrypt over 16 MiB, which OpenSSL can open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    log_n: u8,
    passes: u16,
}

impl Cost {
    /// Five passes: 0.2 s on a common core, and what OWASP recommends for this much memory.
    pub const DEFAULT: Self = Self {
        log_n: LOG_N,
        passes: 5,
    };
    /// Nearly none: for keys that protect nothing, as in tests.
    pub const NEGLIGIBLE: Self = Self { log_n: 4, passes: 1 };

    /// A number of passes from 1 to 100.
    #[must_use]
    pub const fn of_passes(passes: u16) -> Option<Self> {
        match passes {
            1..=PASSES_MAX => Some(Self { log_n: LOG_N, passes }),
            _ => None,
        }
    }
}

/// What keeps a key file from whoever gets hold of it.
#[derive(Debug, Clone, Copy)]
pub enum Protection<'a> {
    /// Nothing but its mode.
    None,
    /// A passphrase, each guess of which costs this.
    Passphrase(&'a Passphrase, Cost),
}

/// Random bytes for one encryption.
pub(super) struct Salts {
    pub(super) salt: [u8; 16],
    pub(super) iv: [u8; 16],
}

/// What a key file says before any passphrase.
pub(super) struct Envelope {
    pub(super) account: Option<AccountKey>,
    content: Content,
}

enum Content {
    Plain(SecretKey),
    Encrypted(EncryptedPrivateKeyInfoOwned),
}

impl Envelope {
    pub(super) fn parse(text: &str) -> Result<Self, KeyFileProblem> {
        if text.trim().is_empty() {
            return Err(KeyFileProblem::Empty);
        }
        let start = text.starts_with(BEGIN).then_some(0);
        let start = start.or_else(|| text.find("\n-----BEGIN ").map(|at| at + 1));
        let (preamble, pem) = text.split_at(start.unwrap_or(text.len()));
        let stated = stated_account(preamble)?;
        if pem.is_empty() {
            // Without dashes it is ours only if it says so.
            return Err(stated.map_or(KeyFileProblem::Foreign, |_| KeyFileProblem::Truncated));
        }
        let label = pem.lines().next().unwrap_or_default();
        let label = label.trim_start_matches(BEGIN).trim_end_matches("-----");
        let known = [PLAIN_LABEL, EncryptedPrivateKeyInfoRef::PEM_LABEL];
        if !known.contains(&label) {
            return Err(KeyFileProblem::Foreign);
        }
        if !pem.trim_end().ends_with(&format!("{END}{label}-----")) {
            return Err(KeyFileProblem::Truncated);
        }
        let (_, der) = SecretDocument::from_pem(pem.trim_end()).map_err(|_| KeyFileProblem::Altered)?;
        if label != PLAIN_LABEL {
            return Ok(Self {
                account: stated,
                content: Content::Encrypted(encrypted(der.as_bytes())?),
            });
        }
        let key = key_of(der.as_bytes())?;
        check_stated(stated, &key)?;
        Ok(Self {
            account: Some(key.account()),
            content: Content::Plain(key),
        })
    }

    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.content, Content::Encrypted(_))
    }

    /// The key; nothing if it needs a passphrase and none was given.
    pub(super) fn open(self, passphrase: Option<&Passphrase>) -> Result<Option<SecretKey>, KeyFileProblem> {
        let (info, passphrase) = match (self.content, passphrase) {
            (Content::Plain(key), _) => return Ok(Some(key)),
            (Content::Encrypted(_), None) => return Ok(None),
            (Content::Encrypted(info), Some(passphrase)) => (info, passphrase),
        };
        let mut buffer = Zeroizing::new(info.encrypted_data.as_bytes().to_vec());
        let plain = info
            .encryption_algorithm
            .decrypt_in_place(passphrase.bytes(), &mut buffer);
        let plain = plain.map_err(|error| match error {
            pkcs8::pkcs5::Error::DecryptFailed => KeyFileProblem::WrongPassphrase,
            _ => KeyFileProblem::UnknownEncryption,
        })?;
        // A wrong passphrase gives noise, which one time in 256 ends as if it were right.
        let key = key_of(plain).map_err(|problem| match problem {
            KeyFileProblem::AnotherAlgorithm => problem,
            _ => KeyFileProblem::WrongPassphrase,
        })?;
        check_stated(self.account, &key)?;
        Ok(Some(key))
    }
}

/// The account that our own lines name; nothing in a file of another tool.
fn stated_account(preamble: &str) -> Result<Option<AccountKey>, KeyFileProblem> {
    let line = |name: &str| {
        let lines = preamble.lines().filter_map(|line| line.split_once(": "));
        lines.clone().find(|(found, _)| *found == name).map(|(_, value)| value)
    };
    let Some(format) = line(FORMAT_LINE) else {
        return Ok(None);
    };
    let found: u32 = format.parse().map_err(|_| KeyFileProblem::Altered)?;
    if found > FORMAT {
        return Err(KeyFileProblem::Newer { found, known: FORMAT });
    }
    let account = line(ACCOUNT_LINE).ok_or(KeyFileProblem::Altered)?;
    account.parse().map(Some).map_err(|_| KeyFileProblem::Altered)
}

fn check_stated(stated: Option<AccountKey>, key: &SecretKey) -> Result<(), KeyFileProblem> {
    match stated {
        Some(stated) if stated != key.account() => Err(KeyFileProblem::Altered),
        _ => Ok(()),
    }
}

fn key_of(der: &[u8]) -> Result<SecretKey, KeyFileProblem> {
    let info = PrivateKeyInfoRef::try_from(der).map_err(|_| KeyFileProblem::Altered)?;
    if info.algorithm.oid != ED25519_OID {
        return Err(KeyFileProblem::AnotherAlgorithm);
    }
    let key = SigningKey::try_from(info).map_err(|_| KeyFileProblem::Altered)?;
    Ok(SecretKey::from_seed(&Zeroizing::new(key.to_bytes())))
}

fn encrypted(der: &[u8]) -> Result<EncryptedPrivateKeyInfoOwned, KeyFileProblem> {
    let info = EncryptedPrivateKeyInfoOwned::try_from(der).map_err(|error| match error {
        pkcs8::Error::Asn1(error) if matches!(error.kind(), ErrorKind::OidUnknown { .. }) => {
            KeyFileProblem::UnknownEncryption
        }
        _ => KeyFileProblem::Altered,
    })?;
    check_cost(&info.encryption_algorithm)?;
    Ok(info)
}

/// Bounds what a file may ask of us before anything is derived.
fn check_cost(scheme: &EncryptionScheme) -> Result<(), KeyFileProblem> {
    let parameters = scheme.pbes2().ok_or(KeyFileProblem::UnknownEncryption)?;
    match &parameters.kdf {
        Kdf::Scrypt(scrypt) => check_scrypt(scrypt),
        Kdf::Pbkdf2(pbkdf2) if pbkdf2.iteration_count > ITERATIONS_MAX => Err(KeyFileProblem::TooMuchWork),
        Kdf::Pbkdf2(_) => Ok(()),
        _ => Err(KeyFileProblem::UnknownEncryption),
    }
}

fn check_scrypt(scrypt: &ScryptParams) -> Result<(), KeyFileProblem> {
    let n = scrypt.cost_parameter;
    let (r, p) = (u64::from(scrypt.block_size), u64::from(scrypt.parallelization));
    if n < 2 || !n.is_power_of_two() || r == 0 || p == 0 {
        return Err(KeyFileProblem::UnknownEncryption);
    }
    let bytes = n.saturating_add(p).saturating_mul(r.saturating_mul(128));
    if bytes > DERIVE_BYTES_MAX {
        return Err(KeyFileProblem::TooMuchMemory {
            need_mib: bytes.div_ceil(MIB),
            limit_mib: DERIVE_BYTES_MAX / MIB,
        });
    }
    match n.saturating_mul(r).saturating_mul(p) > DERIVE_WORK_MAX {
        true => Err(KeyFileProblem::TooMuchWork),
        false => Ok(()),
    }
}

/// The text of a key file.
pub(super) fn write(
    key: &SecretKey,
    protection: Protection<'_>,
    salts: &Salts,
) -> Result<Zeroizing<String>, KeyFileProblem> {
    let failed = |_| KeyFileProblem::Unwritable;
    let pair = KeypairBytes {
        secret_key: *key.seed(),
        // Version 1 of the format: OpenSSL does not read a file that also has the public key.
        public_key: None,
    };
    let plain = pair.to_pkcs8_der().map_err(failed)?;
    let (label, der) = match protection {
        Protection::None => (PLAIN_LABEL, plain),
        Protection::Passphrase(passphrase, cost) => {
            let parameters = parameters(cost, salts).map_err(failed)?;
            let info = PrivateKeyInfoRef::try_from(plain.as_bytes()).map_err(failed)?;
            let der = info.encrypt_with_params(parameters, passphrase.bytes());
            (EncryptedPrivateKeyInfoRef::PEM_LABEL, der.map_err(failed)?)
        }
    };
    let pem = der
        .to_pem(label, LineEnding::LF)
        .map_err(|_| KeyFileProblem::Unwritable)?;
    let account = key.account();
    let lines = format!("{FORMAT_LINE}: {FORMAT}\n{ACCOUNT_LINE}: {account}\n");
    // Reserved at once, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(lines.len() + pem.len()));
    text.push_str(&lines);
    text.push_str(&pem);
    Ok(text)
}

fn parameters(cost: Cost, salts: &Salts) -> pkcs8::Result<Parameters> {
    let invalid = |_| pkcs8::Error::ParametersMalformed;
    let scrypt = scrypt::Params::new(cost.log_n, BLOCK_SIZE, cost.passes.into()).map_err(invalid)?;
    Ok(Parameters::generate_scrypt_aes256cbc(scrypt, &salts.salt, salts.iv)?)
}

/// What is wrong with what a key file holds, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileProblem {
    /// It is damaged, or the key in it is not that of the account that it names.
    #[error("it is damaged or was altered: its parts do not belong together")]
    Altered,
    /// A private key of another kind.
    #[error("it is a private key, but not an Ed25519 key: only those are accounts")]
    AnotherAlgorithm,
    /// Nothing is in it.
    #[error("it is empty")]
    Empty,
    /// Something else, or another format of keys.
    #[error("it is not an Ed25519 key in PKCS#8 PEM")]
    Foreign,
    /// Another version of this program wrote it.
    #[error("it has format {found}, and this version reads up to {known}")]
    Newer {
        /// Its format.
        found: u32,
        /// The newest that is read.
        known: u32,
    },
    /// Opening it would take too much memory.
    #[error("opening it takes {need_mib} MiB, and at most {limit_mib} MiB are given")]
    TooMuchMemory {
        /// What its parameters ask for.
        need_mib: u64,
        /// What is given.
        limit_mib: u64,
    },
    /// Opening it would take very long.
    #[error("opening it takes too many rounds")]
    TooMuchWork,
    /// Its end is missing.
    #[error("it is cut off")]
    Truncated,
    /// It is encrypted in a way that is unknown here, or too weak.
    #[error("it is encrypted by other means than PBES2 with AES and scrypt or PBKDF2 with SHA-2")]
    UnknownEncryption,
    /// The key could not be put into this form.
    #[error("the key cannot be written in this form")]
    Unwritable,
    /// The passphrase does not open it.
    #[error("the passphrase does not open it")]
    WrongPassphrase,
}

impl KeyFileProblem {
    /// What to do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Altered | Self::Empty | Self::Truncated => "restore the file from your copy",
            Self::AnotherAlgorithm => "tombola key new FILE makes a key of the right kind",
            Self::Foreign => {
                "tombola key import makes a key file from a PKCS#8 PEM, or from a seed of 32 bytes or its hex"
            }
            Self::Newer { .. } => "use the version that wrote it",
            Self::TooMuchMemory { .. } | Self::TooMuchWork | Self::UnknownEncryption => {
                "encrypt it anew: openssl pkcs8 -topk8 -v2 aes-256-cbc -scrypt -in FILE -out NEW"
            }
            Self::Unwritable => "keep the file that is there: nothing was written",
            Self::WrongPassphrase => {
                "repeat it with the right one; if you are sure of the passphrase, restore the file from your copy"
            }
        }
    }
}
