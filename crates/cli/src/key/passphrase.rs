//! Where passphrases come from: a file, the environment, or the terminal.

use super::failure;
use crate::exit::Failure;
use crate::local::quoted;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use tombola_core::key::SecretKey;
use tombola_node::key_file::{BadPassphrase, Cost, KeyFile, Passphrase, PassphraseFileError, Protection};
use zeroize::Zeroizing;

/// The passphrase of a key.
const VARIABLE: &str = "TOMBOLA_PASSPHRASE";
/// The passphrase of a key that is written by a command which opens another one.
const NEW_VARIABLE: &str = "TOMBOLA_NEW_PASSPHRASE";

/// The ways to a passphrase that opens a key, or that protects one which is made.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PassphraseArg {
    /// File with the key's passphrase, of mode 600 [default: TOMBOLA_PASSPHRASE, or the terminal is asked].
    #[arg(long, global = true, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// A key, and what opened it.
pub(crate) struct Opened {
    pub(crate) key: SecretKey,
    pub(crate) passphrase: Option<Passphrase>,
}

impl PassphraseArg {
    /// Opens a key file.
    pub(crate) fn open(&self, path: &Path) -> Result<Opened, Failure> {
        self.open_file(KeyFile::read(path).map_err(failure)?)
    }

    /// Opens one that was read.
    pub(crate) fn open_file(&self, file: KeyFile) -> Result<Opened, Failure> {
        let passphrase = match file.is_encrypted() {
            true => Some(self.of_file(&file)?),
            false => None,
        };
        let key = file.open(passphrase.as_ref()).map_err(failure)?;
        Ok(Opened { key, passphrase })
    }

    fn of_file(&self, file: &KeyFile) -> Result<Passphrase, Failure> {
        if let Some(given) = self.given()? {
            return Ok(given);
        }
        let path = file.path().display();
        match ask(&format!("Passphrase of {path}: "))? {
            Asked::Given(passphrase) => Ok(passphrase),
            Asked::Nothing => Err(unusable(&BadPassphrase::Empty)),
            Asked::Nobody => {
                let message = format!("{path} is encrypted, and there is no terminal to ask for its passphrase");
                Err(Failure::new("passphrase_needed", message).next(format!(
                    "give --passphrase-file FILE (mode 600), or set {VARIABLE}, or run it on a terminal"
                )))
            }
        }
    }

    /// What the option or the environment says.
    pub(super) fn given(&self) -> Result<Option<Passphrase>, Failure> {
        given(self.passphrase_file.as_deref(), VARIABLE)
    }

    /// For a key that is made: nothing where nobody says one.
    pub(crate) fn for_new_key(&self) -> Result<Option<Passphrase>, Failure> {
        match self.given()? {
            Some(given) => Ok(Some(given)),
            None => ask_twice("Passphrase for the new key (Enter for none): "),
        }
    }

    /// The option as it is to be repeated in a command that is shown.
    pub(crate) fn shown(&self) -> String {
        let file = self.passphrase_file.as_ref();
        file.map_or_else(String::new, |file| {
            format!(" --passphrase-file {}", quoted(&file.display().to_string()))
        })
    }
}

/// The ways to the passphrase of a key that is written by a command which opens another one.
#[derive(Debug, clap::Args)]
pub(super) struct NewPassphraseArg {
    /// File with the new passphrase, of mode 600 [default: TOMBOLA_NEW_PASSPHRASE].
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    cost: CostArg,
}

impl NewPassphraseArg {
    pub(super) fn given(&self) -> Result<Option<Passphrase>, Failure> {
        given(self.new_passphrase_file.as_deref(), NEW_VARIABLE)
    }

    /// A new one, else the one that opened the key, else as for a key that is made.
    pub(super) fn or_same(
        &self,
        opened: Option<Passphrase>,
        own: &PassphraseArg,
    ) -> Result<Option<Passphrase>, Failure> {
        match self.given()?.or(opened) {
            Some(passphrase) => Ok(Some(passphrase)),
            None => own.for_new_key(),
        }
    }

    /// A new one, said or asked for.
    pub(super) fn required(&self) -> Result<Passphrase, Failure> {
        let asked = match self.given()? {
            Some(given) => Some(given),
            None => ask_twice("New passphrase: ")?,
        };
        asked.ok_or_else(|| {
            Failure::new("passphrase_needed", "no new passphrase was given").next(format!(
                "give --new-passphrase-file FILE (mode 600), or set {NEW_VARIABLE}, or run it on a terminal; \
                 --remove takes the passphrase away"
            ))
        })
    }

    pub(super) fn protection<'a>(&self, passphrase: Option<&'a Passphrase>) -> Protection<'a> {
        self.cost.protection(passphrase)
    }
}

/// How much a guess is to cost.
#[derive(Debug, clap::Args)]
pub(super) struct CostArg {
    /// Passes of scrypt over 16 MiB that opening the file takes, from 1 to 100; 5 take about 0.2 s.
    #[arg(long, value_name = "PASSES", value_parser = parse_cost)]
    passes: Option<Cost>,
}

impl CostArg {
    pub(super) fn protection<'a>(&self, passphrase: Option<&'a Passphrase>) -> Protection<'a> {
        let cost = self.passes.unwrap_or(Cost::DEFAULT);
        passphrase.map_or(Protection::None, |passphrase| Protection::Passphrase(passphrase, cost))
    }
}

fn parse_cost(text: &str) -> Result<Cost, String> {
    let passes = text.parse().ok().and_then(Cost::of_passes);
    passes.ok_or_else(|| "not a number from 1 to 100".to_owned())
}

fn given(file: Option<&Path>, variable: &str) -> Result<Option<Passphrase>, Failure> {
    if let Some(file) = file {
        return Passphrase::read(file).map(Some).map_err(|error| unreadable(&error));
    }
    let Some(text) = std::env::var_os(variable) else {
        return Ok(None);
    };
    // A variable that is there and empty is a slip; a key must not stay open because of it.
    let passphrase = Passphrase::new(Zeroizing::new(text.into_vec()));
    passphrase.map(Some).map_err(|error| {
        Failure::new("passphrase", format!("{variable}: {error}")).next(format!("correct {variable}, or unset it"))
    })
}

/// What came of asking.
enum Asked {
    /// There is no terminal.
    Nobody,
    /// Enter.
    Nothing,
    Given(Passphrase),
}

fn ask(prompt: &str) -> Result<Asked, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(Asked::Nobody);
    }
    let text = Zeroizing::new(rpassword::prompt_password(prompt)?.into_bytes());
    match text.is_empty() {
        true => Ok(Asked::Nothing),
        false => Passphrase::new(text)
            .map(Asked::Given)
            .map_err(|error| unusable(&error)),
    }
}

fn ask_twice(prompt: &str) -> Result<Option<Passphrase>, Failure> {
    let Asked::Given(passphrase) = ask(prompt)? else {
        return Ok(None);
    };
    match ask("The same once more: ")? {
        Asked::Given(again) if again.is_same(&passphrase) => Ok(Some(passphrase)),
        _ => Err(Failure::new("passphrase", "the two passphrases differ: nothing was done").next("repeat the command")),
    }
}

fn unusable(error: &BadPassphrase) -> Failure {
    Failure::new("passphrase", error.to_string()).next("repeat the command")
}

fn unreadable(error: &PassphraseFileError) -> Failure {
    Failure::new("passphrase", error.to_string()).next("give a file that has the passphrase in it and is yours alone")
}
