//! Test vectors: made from fixed seeds, checked in, and compared byte for byte.
//!
//! Each file is `{"about", "vectors": [..]}`. Bytes are hex; amounts and thresholds are decimal strings, as JSON numbers
//! lose integers over 2^53. Keys and ids in `fields` are bech32m. `invalid.json` holds what must be refused, with all
//! inputs as hex and the code that each must get.

mod crafted;
mod custody;
mod invalid;
mod ledger;
mod lottery;
mod message;
mod money;
mod object;
mod opening;
mod precedence;
pub mod run;
mod sample;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The directory of the checked-in files.
#[must_use]
pub fn directory() -> PathBuf {
    crate::workspace().join("tests/vectors")
}

/// Every file, by name, with what it must contain.
#[must_use]
pub fn generate() -> Vec<(&'static str, String)> {
    let sample = sample::Sample::new();
    let files = [
        ("keys.json", object::keys(&sample)),
        ("delegation.json", object::delegations(&sample)),
        ("hold.json", object::holds(&sample)),
        ("quote.json", object::quotes(&sample)),
        ("book.json", object::books(&sample)),
        ("chain.json", lottery::chains()),
        ("draw.json", lottery::draws(&sample)),
        ("odds.json", lottery::odds()),
        ("claim.json", object::claims(&sample)),
        ("receipt.json", object::receipts(&sample)),
        ("refusal.json", object::refusals(&sample)),
        ("release.json", object::releases(&sample)),
        ("payee-messages.json", message::payee(&sample)),
        ("escrow-messages.json", message::escrow(&sample)),
        ("invalid.json", invalid::all(&sample)),
    ];
    files.map(|(name, file)| (name, file.to_text())).into()
}

/// Writes every file.
///
/// # Errors
/// Whatever writing gives.
pub fn write(directory: &Path) -> std::io::Result<()> {
    for (name, text) in generate() {
        std::fs::write(directory.join(name), text)?;
    }
    Ok(())
}

/// The first way in which the files differ from what the generator makes.
#[must_use]
pub fn difference(directory: &Path) -> Option<String> {
    let expected = generate();
    for (name, text) in &expected {
        let Ok(found) = std::fs::read_to_string(directory.join(name)) else {
            return Some(format!("{name} is missing"));
        };
        if let Some(difference) = first_difference(text, &found) {
            return Some(format!("{name}: {difference}"));
        }
    }
    let known: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    let present = crate::files_below(directory, &["json"]).unwrap_or_default();
    present
        .iter()
        .filter_map(|path| path.file_name()?.to_str())
        .find(|name| !known.contains(name))
        .map(|name| format!("{name} is not made by the generator"))
}

fn first_difference(expected: &str, found: &str) -> Option<String> {
    let mut lines = expected.lines().zip(found.lines()).zip(1..);
    let line = lines.find(|((expected, found), _)| expected != found);
    if let Some(((expected, found), number)) = line {
        return Some(format!("line {number}: expected {expected:?}, found {found:?}"));
    }
    (expected.len() != found.len()).then(|| format!("expected {} bytes, found {}", expected.len(), found.len()))
}

/// One file of vectors.
pub(crate) struct File {
    about: &'static str,
    vectors: Vec<Value>,
}

impl File {
    pub(crate) fn new(about: &'static str, vectors: Vec<Value>) -> Self {
        Self { about, vectors }
    }

    fn to_text(&self) -> String {
        let file = json!({"about": self.about, "vectors": self.vectors});
        let mut text = serde_json::to_string_pretty(&file).expect("a Value has no key that is not text");
        text.push('\n');
        text
    }
}

/// The vectors of one checked-in file.
///
/// # Panics
/// If the file is not there or is not what the generator writes.
#[must_use]
pub fn load(name: &str) -> Vec<Value> {
    let path = directory().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file["vectors"].as_array().expect("a list of vectors").clone()
}
