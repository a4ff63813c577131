//! The secrets of a test run, so that all that it said can be searched for them.
//!
//! Each key that an `init` of the harness makes without a passphrase is written down in a file that the environment names,
//! and after the run the output of all tests, of their nodes and commands, is searched for every form of each.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use tombola_core::key::{AccountKey, SecretKey};

/// Names the file in which keys are written down.
pub const SECRETS: &str = "TOMBOLA_SECRETS";
/// Where the seed of an Ed25519 key stands in its PKCS#8. RFC 8410, section 7.
const SEED_AT: usize = 16;
const SEED_BYTES: usize = 32;
/// Of a seed in base64: so many bytes are whole groups at each of three offsets.
const BASE64_BYTES: usize = 27;

/// Writes down the key of a home that was just made, if there is a file to write it to.
///
/// # Panics
/// If the key cannot be read or written down.
pub fn note(key_file: &Path) {
    let Some(file) = std::env::var_os(SECRETS) else { return };
    let pem = std::fs::read_to_string(key_file).unwrap_or_else(|error| panic!("{}: {error}", key_file.display()));
    if pem.contains("ENCRYPTED") {
        return;
    }
    let seed = seed_of(&pem).unwrap_or_else(|| panic!("{} has no seed", key_file.display()));
    let written = append(Path::new(&file), &seed);
    assert!(written.is_ok(), "{}: {written:?}", Path::new(&file).display());
}

/// Adds what a process said to the output of its test, if that is to be searched.
pub fn overhear(said: &str) {
    if std::env::var_os(SECRETS).is_some() {
        print!("{said}");
    }
}

fn append(file: &Path, seed: &[u8; SEED_BYTES]) -> io::Result<()> {
    // In one write, so that lines of several processes do not mix.
    let line = format!("{}\n", hex::encode(seed));
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)?
        .write_all(line.as_bytes())
}

/// The seed of a key that is not encrypted.
fn seed_of(pem: &str) -> Option<[u8; SEED_BYTES]> {
    let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (body, _) = rest.split_once("-----END")?;
    let der = from_base64(body)?;
    der.get(SEED_AT..SEED_AT + SEED_BYTES)?.try_into().ok()
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Searched {
    /// Keys that were looked for.
    pub keys: usize,
    /// Of these, whose public part is in the output: that its owner said something, and that the search finds.
    pub seen: usize,
    /// Forms of secrets that are in the output.
    pub found: Vec<String>,
}

/// Searches output for each form of the keys that were written down.
///
/// # Errors
/// If the list of keys cannot be read or is not one.
pub fn search(list: &Path, output: &str) -> io::Result<Searched> {
    let mut searched = Searched {
        keys: 0,
        seen: 0,
        found: Vec::new(),
    };
    for line in std::fs::read_to_string(list)?.lines() {
        let bytes = hex::decode(line).ok().and_then(|bytes| bytes.try_into().ok());
        let seed: [u8; SEED_BYTES] = bytes.ok_or_else(|| io::Error::other(format!("not a seed: {line}")))?;
        searched.keys += 1;
        let account = SecretKey::from_seed(&seed).account().to_string();
        searched.seen += usize::from(output.contains(&account));
        let forms = forms(&seed).into_iter();
        searched.found.extend(forms.filter(|form| output.contains(form)));
    }
    Ok(searched)
}

/// The forms in which a seed may slip out as text: hex, base64 at each offset, bech32, as `Debug` prints bytes.
#[must_use]
pub fn forms(seed: &[u8; SEED_BYTES]) -> Vec<String> {
    let hex = hex::encode(seed);
    let listed = format!("{:?}", seed.split_at(12).0);
    let mut forms = vec![hex.to_uppercase(), hex, listed.trim_matches(['[', ']']).to_owned()];
    forms.push(AccountKey(*seed).to_string());
    for part in seed.windows(BASE64_BYTES).take(3) {
        let text = to_base64(part);
        forms.push(text.replace('+', "-").replace('/', "_"));
        forms.push(text);
    }
    forms
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 without padding. RFC 4648, section 4.
fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for shift in [18, 12, 6, 0].iter().take(group.len() + 1) {
            let digit = usize::try_from(word >> shift & 63).unwrap_or_default();
            text.extend(DIGITS.get(digit).map(|digit| char::from(*digit)));
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut word, mut bits) = (0u32, 0u32);
    for char in text.bytes().filter(|char| !char.is_ascii_whitespace() && *char != b'=') {
        let digit = DIGITS.iter().position(|digit| *digit == char)?;
        word = word << 6 | u32::try_from(digit).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(word >> bits & 255).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_written_down_is_found_in_each_form_and_only_if_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let list = directory.path().join("list");
        let seed: [u8; SEED_BYTES] = std::array::from_fn(|at| u8::try_from(at * 37 % 251).unwrap());
        let mut der = vec![48; SEED_AT];
        der.extend(seed);
        let pem = format!(
            "account: tom1\n-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            to_base64(&der)
        );
        assert_eq!(seed_of(&pem), Some(seed));
        append(&list, &seed).unwrap();
        let account = SecretKey::from_seed(&seed).account().to_string();
        let quiet = search(&list, &format!("account {account}")).unwrap();
        assert_eq!((quiet.keys, quiet.seen, quiet.found.len()), (1, 1, 0));
        for form in forms(&seed) {
            let told = search(&list, &format!("x{form}y")).unwrap();
            assert!(told.found.contains(&form), "{form}");
        }
        assert!(!search(&list, &pem).unwrap().found.is_empty(), "a whole key file");
    }
}
