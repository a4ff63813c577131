//! `tombola inspect`: says what bytes are. Every type that takes the whole input exactly is shown.

mod object;

use crate::exit::{Failure, disk_advice};
use crate::key;
use crate::local::quoted;
use crate::output::{Output, fields};
use object::{About, objects};
use serde_json::{Value, json};
use std::path::Path;
use tombola_core::codec::MESSAGE_BYTES_MAX;
use tombola_core::key::{AccountKey, BookId, HoldId, QuoteId, RequestId};
use tombola_net::Address;
use tombola_node::key_file::KeyFile;

/// Longest file that is read: hex of the longest message, with room for a line end.
const INPUT_BYTES_MAX: u64 = 2 * MESSAGE_BYTES_MAX as u64 + 64;
/// How a key file of ours begins, and one of other tools.
const KEY_FILE_STARTS: [&str; 2] = ["tombola-key: ", "-----BEGIN"];

/// Show what an object of the protocol is. Amounts of the fields are in atomic units, as signed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tombola inspect hold.bin
  tombola inspect 8a88e3dd7409...
  tombola inspect tom1syuhwr4g...
  tombola inspect ~/.tombola/payer/key.pem")]
pub(crate) struct Args {
    /// A file of bytes, hex or text, or hex or text itself.
    #[arg(value_name = "FILE|HEX")]
    what: String,
}

pub(crate) fn run(args: &Args, output: Output) -> Result<(), Failure> {
    let found = match key_of_file(&args.what)? {
        Some(account) => vec![key_about("key file", account)],
        None => look(&args.what)?,
    };
    if found.is_empty() {
        return Err(
            Failure::new("malformed", "no object of the protocol takes exactly these bytes")
                .next("check that nothing is missing or too much; update the program if the object is newer"),
        );
    }
    let result = json!({ "objects": found.iter().map(About::json).collect::<Vec<_>>() });
    output.result(&result, || found.iter().map(text).collect::<Vec<_>>().join("\n\n"));
    Ok(())
}

fn look(what: &str) -> Result<Vec<About>, Failure> {
    let input = match read_text(what)? {
        Some(text) => match text_form(&text) {
            Some(about) => return Ok(vec![about]),
            None => read_input(what)?,
        },
        None => read_input(what)?,
    };
    let mut found = objects(&input);
    // What was recorded from a stream still has its length in front.
    if let Some((length, body)) = input.split_first_chunk::<4>()
        && usize::try_from(u32::from_le_bytes(*length)) == Ok(body.len())
    {
        found.extend(objects(body).into_iter().map(About::framed));
    }
    found.extend(bare(&input));
    Ok(found)
}

/// The bytes that an argument stands for: a file of bytes or hex, or hex.
pub(crate) fn read_input(what: &str) -> Result<Vec<u8>, Failure> {
    if let Some(text) = read_text(what)? {
        if let Ok(bytes) = hex::decode(text.trim()) {
            return Ok(bytes);
        }
        if !Path::new(what).is_file() {
            let message = format!("{what} is neither a file nor hex");
            return Err(Failure::new("no_input", message).next("give the name of a file, or its bytes as hex"));
        }
    }
    read_file(what)
}

/// The text of an argument or of the file that it names; none if the file is not text.
fn read_text(what: &str) -> Result<Option<String>, Failure> {
    if !Path::new(what).is_file() {
        return Ok(Some(what.to_owned()));
    }
    Ok(String::from_utf8(read_file(what)?).ok())
}

/// A file that was named and cannot be read.
pub(crate) fn unreadable(path: &str, error: &std::io::Error) -> Failure {
    Failure::new("io", format!("{path}: {error}")).next(disk_advice(error.kind()))
}

fn read_file(path: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| unreadable(path, &error);
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > INPUT_BYTES_MAX {
        let message = format!("{path} has {size} bytes, no object has more than {MESSAGE_BYTES_MAX}");
        return Err(Failure::new("too_large", message).next("give one object, in a file of its own"));
    }
    std::fs::read(path).map_err(failed)
}

/// The account of a key file; the key itself is never shown.
fn key_of_file(what: &str) -> Result<Option<AccountKey>, Failure> {
    let is_pem = Path::new(what).is_file()
        && read_text(what)?.is_some_and(|text| KEY_FILE_STARTS.iter().any(|start| text.starts_with(start)));
    if !is_pem {
        return Ok(None);
    }
    let file = KeyFile::read(Path::new(what)).map_err(key::failure)?;
    match file.account() {
        Some(account) => Ok(Some(account)),
        None => Err(Failure::new(
            "passphrase_needed",
            format!("{what} is encrypted and does not say whose key it is"),
        )
        .next(format!("tombola key show {}", quoted(what)))),
    }
}

/// What has a text form of its own: keys, ids and addresses.
fn text_form(text: &str) -> Option<About> {
    let text = text.trim();
    if let Ok(address) = text.parse::<Address>() {
        let mut about = key_about("address", address.key);
        about.fields = json!({ "key": address.key, "host": address.host, "port": address.port, "path": address.path });
        return Some(about);
    }
    if let Ok(key) = text.parse::<AccountKey>() {
        return Some(key_about("AccountKey", key));
    }
    let id = |kind, bytes: &[u8]| Some(About::new(kind, json!({ "hex": hex::encode(bytes) })));
    if let Ok(hold) = text.parse::<HoldId>() {
        return id("HoldId", &hold.0);
    }
    if let Ok(book) = text.parse::<BookId>() {
        return id("BookId", &book.0);
    }
    if let Ok(quote) = text.parse::<QuoteId>() {
        return id("QuoteId", &quote.0);
    }
    if let Ok(request) = text.parse::<RequestId>() {
        return id("RequestId", &request.0);
    }
    None
}

fn key_about(kind: &'static str, key: AccountKey) -> About {
    let is_acceptable = key.check().is_ok();
    About::new(
        kind,
        json!({ "account": key, "hex": hex::encode(key.0), "acceptable": is_acceptable }),
    )
}

/// What any bytes of such a length may be.
fn bare(bytes: &[u8]) -> Vec<About> {
    if let Ok(id) = <[u8; 16]>::try_from(bytes) {
        let (quote, request) = (QuoteId(id), RequestId(id));
        return vec![About::new(
            "16 bytes: a quote id or a request id",
            json!({ "quote_id": quote, "request_id": request }),
        )];
    }
    if let Ok(hash) = <[u8; 32]>::try_from(bytes) {
        let mut about = key_about("32 bytes: a key, an id, a hash or a secret", AccountKey(hash));
        if let Some(fields) = about.fields.as_object_mut() {
            fields.insert("hold_id".to_owned(), json!(HoldId(hash)));
            fields.insert("book_id".to_owned(), json!(BookId(hash)));
        }
        return vec![about];
    }
    if bytes.len() == 64 {
        return vec![About::new(
            "64 bytes: a signature",
            json!({ "signature": hex::encode(bytes) }),
        )];
    }
    Vec::new()
}

fn text(about: &About) -> String {
    let json = about.json();
    let mut parts = vec![about.kind.clone()];
    for key in ["ids", "summary", "signatures", "fields"] {
        match json.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) if items.is_empty() => {}
            Some(Value::Object(items)) if items.is_empty() => {}
            Some(value) => parts.push(fields(&json!({ key: value }))),
        }
    }
    parts.join("\n")
}
