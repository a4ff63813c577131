//! `tombola key`: makes, shows, carries and protects key files.

mod passphrase;

pub(crate) use passphrase::{Opened, PassphraseArg};

use crate::exit::Failure;
use crate::local::quoted;
use crate::output::Output;
use clap::Subcommand;
use passphrase::{CostArg, NewPassphraseArg};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use tombola_core::key::{AccountKey, SecretKey};
use tombola_node::key_file::{self, KeyFile, KeyFileError, KeyFileProblem, Protection};
use zeroize::Zeroizing;

/// Where `-` reads from.
const STANDARD_INPUT: &str = "standard input";

/// A key file is PKCS#8 in PEM, encrypted by scrypt and AES-256 if it has a passphrase; `openssl pkey` opens it, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tombola key new payer.pem
  tombola key show ~/.tombola/payer/key.pem
  tombola key change-passphrase ~/.tombola/payer/key.pem
  tombola key export ~/.tombola/payer/key.pem -o backup.pem
  tombola key import seed.hex payer.pem

Passphrases come from --passphrase-file (mode 600), from TOMBOLA_PASSPHRASE, or from the terminal.")]
pub(crate) struct Args {
    #[command(flatten)]
    passphrase: PassphraseArg,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key. Without a passphrase only the file's mode protects it.
    New {
        /// The file to write; it must not be there.
        file: PathBuf,
        #[command(flatten)]
        cost: CostArg,
    },
    /// Show the account of a key file, never the secret. Without a passphrase it is what the file says of itself.
    Show {
        /// The key file.
        file: PathBuf,
    },
    /// Write a key as encrypted PKCS#8 PEM: with the new passphrase, or else the one that it has.
    Export {
        /// The key file.
        file: PathBuf,
        /// The file to write, of mode 600; it must not be there [default: standard output].
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Do not encrypt it: whoever sees what is written has the account.
        #[arg(long, conflicts_with = "new_passphrase_file")]
        plain: bool,
        #[command(flatten)]
        new: NewPassphraseArg,
    },
    /// Make a key file from a PKCS#8 PEM, encrypted or not, or from a seed: 32 bytes or 64 hex digits.
    Import {
        /// The file to read, of mode 600; - reads standard input.
        from: PathBuf,
        /// The file to write; it must not be there.
        file: PathBuf,
        #[command(flatten)]
        new: NewPassphraseArg,
    },
    /// Give a key file another passphrase, or its first; --remove takes it away. The old file stays until the new is whole.
    ChangePassphrase {
        /// The key file.
        file: PathBuf,
        /// Leave the key without a passphrase.
        #[arg(long, conflicts_with = "new_passphrase_file")]
        remove: bool,
        #[command(flatten)]
        new: NewPassphraseArg,
    },
}

pub(crate) fn run(args: Args, output: Output) -> Result<(), Failure> {
    let own = &args.passphrase;
    match args.command {
        Command::New { file, cost } => {
            let passphrase = own.for_new_key()?;
            let key = key_file::generate().map_err(failure)?;
            let protection = cost.protection(passphrase.as_ref());
            written(&file, &key, protection, output)
        }
        Command::Show { file } => show(own, &file, output),
        Command::Export {
            file,
            output: to,
            plain,
            new,
        } => {
            let opened = own.open(&file)?;
            let passphrase = match plain {
                true => None,
                false => Some(new.or_same(opened.passphrase, own)?.ok_or_else(no_passphrase)?),
            };
            let protection = new.protection(passphrase.as_ref());
            match to {
                Some(to) => written(&to, &opened.key, protection, output),
                None => print(&opened.key, protection, output),
            }
        }
        Command::Import { from, file, new } => {
            let opened = imported(own, &from)?;
            let passphrase = new.or_same(opened.passphrase, own)?;
            let protection = new.protection(passphrase.as_ref());
            written(&file, &opened.key, protection, output)
        }
        Command::ChangePassphrase { file, remove, new } => {
            let opened = own.open(&file)?;
            let passphrase = match remove {
                true => None,
                false => Some(new.required()?),
            };
            let protection = new.protection(passphrase.as_ref());
            key_file::rewrite(&file, &opened.key, protection).map_err(failure)?;
            say(&file, opened.key.account(), protection, output);
            Ok(())
        }
    }
}

fn written(file: &Path, key: &SecretKey, protection: Protection<'_>, output: Output) -> Result<(), Failure> {
    key_file::write(file, key, protection).map_err(failure)?;
    say(file, key.account(), protection, output);
    Ok(())
}

fn say(file: &Path, account: AccountKey, protection: Protection<'_>, output: Output) {
    let is_encrypted = matches!(protection, Protection::Passphrase(..));
    let result = json!({ "account": account, "file": file, "encrypted": is_encrypted });
    output.result(&result, || {
        format!("account: {account}\n{}", key_line(file, is_encrypted))
    });
}

/// How a key file is protected, and how to change that, for people.
pub(crate) fn key_line(file: &Path, is_encrypted: bool) -> String {
    let shown = file.display();
    match is_encrypted {
        true => format!("key: {shown}, encrypted"),
        false => format!(
            "key: {shown}, not encrypted; to encrypt it: tombola key change-passphrase {}",
            quoted(&shown.to_string())
        ),
    }
}

fn show(own: &PassphraseArg, path: &Path, output: Output) -> Result<(), Failure> {
    let file = KeyFile::read(path).map_err(failure)?;
    let is_encrypted = file.is_encrypted();
    let stated = match own.given()? {
        // Nobody is asked for a passphrase where the file says enough.
        None if is_encrypted => file.account(),
        _ => None,
    };
    let (account, is_checked) = match stated {
        Some(stated) => (stated, false),
        None => (own.open_file(file)?.key.account(), true),
    };
    let public = hex::encode(account.0);
    let result = json!({
        "account": account,
        "public_key": public,
        "file": path,
        "encrypted": is_encrypted,
        "checked": is_checked,
    });
    output.result(&result, || {
        let note = match is_checked {
            true => "",
            false => "\nnot opened: this is what the file says of itself; with its passphrase it is checked",
        };
        let key = key_line(path, is_encrypted);
        format!("account: {account}\npublic key: {public}\n{key}{note}")
    });
    Ok(())
}

fn print(key: &SecretKey, protection: Protection<'_>, output: Output) -> Result<(), Failure> {
    let text = key_file::encode(key, protection).map_err(failure)?;
    let shown = match output {
        Output::People => {
            let mut lines = Zeroizing::new(Vec::with_capacity(text.len() + 1));
            lines.extend_from_slice(text.trim_end().as_bytes());
            lines.push(b'\n');
            lines
        }
        Output::Programs => {
            let exported = Exported {
                account: key.account(),
                encrypted: matches!(protection, Protection::Passphrase(..)),
                key: &text,
            };
            // Reserved at once, so that growing leaves no copy behind: each of the few line ends takes one byte more.
            let mut json = Zeroizing::new(Vec::with_capacity(2 * text.len() + EXPORTED_BYTES));
            serde_json::to_writer(&mut *json, &exported).map_err(std::io::Error::from)?;
            json.push(b'\n');
            json
        }
    };
    // Whole lines at once pass through the buffer of standard output and are not kept there.
    let mut out = std::io::stdout().lock();
    out.write_all(&shown)?;
    Ok(out.flush()?)
}

/// What an exported key has around it as JSON, at most.
const EXPORTED_BYTES: usize = 256;

/// A key on standard output, for programs.
#[derive(serde::Serialize)]
struct Exported<'a> {
    account: AccountKey,
    encrypted: bool,
    key: &'a str,
}

fn imported(own: &PassphraseArg, from: &Path) -> Result<Opened, Failure> {
    let is_standard_input = from == Path::new("-");
    let from = if is_standard_input {
        Path::new(STANDARD_INPUT)
    } else {
        from
    };
    let bytes = match is_standard_input {
        true => key_file::read_small(std::io::stdin().lock())?.ok_or_else(|| {
            let message = format!("{STANDARD_INPUT}: {}", KeyFileProblem::Foreign);
            Failure::new("key_file", message).next(KeyFileProblem::Foreign.advice())
        })?,
        false => key_file::read_private(from).map_err(failure)?,
    };
    if let Some(seed) = seed(&bytes) {
        let key = SecretKey::from_seed(&seed);
        return Ok(Opened { key, passphrase: None });
    }
    own.open_file(KeyFile::parse(from, &bytes).map_err(failure)?)
}

/// 32 bytes, or as many in hex.
fn seed(bytes: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    if bytes.len() == seed.len() {
        seed.copy_from_slice(bytes);
        return Some(seed);
    }
    hex::decode_to_slice(bytes.trim_ascii(), seed.as_mut_slice()).ok()?;
    Some(seed)
}

fn no_passphrase() -> Failure {
    Failure::new("passphrase_needed", "no passphrase was given for what is exported").next(
        "give --new-passphrase-file FILE (mode 600), or set TOMBOLA_NEW_PASSPHRASE, or run it on a terminal; \
         --plain exports without one",
    )
}

/// Why a key cannot be used, under a stable name.
pub(crate) fn failure(error: KeyFileError) -> Failure {
    match &error {
        KeyFileError::Bad {
            problem: problem @ KeyFileProblem::WrongPassphrase,
            ..
        } => Failure::new("passphrase_wrong", error.to_string()).next(problem.advice()),
        KeyFileError::Exists { .. } => {
            Failure::new("exists", error.to_string()).next("it may be worth money: choose another name")
        }
        _ => error.into(),
    }
}
