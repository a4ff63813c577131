//! Where an escrow's ledger is, as its configuration says.

use super::ConfigError;
use super::error::check_range;
use crate::escrow::{DatabasePlace, StorePlace};
use crate::key_file::{PassphraseFileError, open_secret};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tombola_ledger::row::WRITERS_MAX;
use zeroize::Zeroizing;

/// What is read of a file with a password: its first line, and far more than any password has.
const PASSWORD_FILE_BYTES_MAX: usize = 4_096;

/// Where an escrow's ledger is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// The database; without it the ledger is a file.
    pub url: Option<DatabaseUrl>,
    /// This process among those that share the database.
    pub writer: u32,
    /// Roots for the certificate of the server.
    pub tls_root: Option<PathBuf>,
    /// Where the password is, if not in the address.
    pub password_file: Option<PathBuf>,
}

impl StoreConfig {
    /// Every setting in order, with what it is.
    pub const SETTINGS: &'static [(&'static str, &'static str)] = &[
        (
            "url",
            " PostgreSQL: postgres://USER@HOST:PORT/DATABASE, or postgres://USER@HOST,HOST/DATABASE. Unset: a file.",
        ),
        (
            "writer",
            " Number of this process among those that share the database, from 0; each has its own.",
        ),
        (
            "tls_root",
            " PEM file with the roots that the server's certificate is verified by. Unset: those of the system.",
        ),
        (
            "password_file",
            " File of mode 600 whose first line is the password. Unset: the one in the url, or that of PGPASSWORD, of the \
             file that PGPASSFILE names, or of ~/.pgpass.",
        ),
    ];

    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`], [`ConfigError::Needs`].
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let last = u64::from(WRITERS_MAX).saturating_sub(1);
        check_range("store.writer", self.writer.into(), 0, last)?;
        let set = [
            ("store.writer", self.writer != 0),
            ("store.tls_root", self.tls_root.is_some()),
            ("store.password_file", self.password_file.is_some()),
        ];
        match set.iter().find(|(_, is_set)| *is_set && self.url.is_none()) {
            Some((key, _)) => Err(ConfigError::Needs {
                key,
                needs: "store.url",
            }),
            None => Ok(()),
        }
    }

    /// The place: the database, or this file. A password that the address lacks comes from `password_file`, or else
    /// from the environment's; the store looks for one that is still missing in the file that `PGPASSFILE` names, or in
    /// `~/.pgpass`.
    ///
    /// # Errors
    /// [`ConfigError::Secret`] if the password cannot be read, or others could read or have chosen it.
    pub fn place(&self, file: PathBuf, environment: Option<&str>) -> Result<StorePlace, ConfigError> {
        let Some(url) = &self.url else {
            return Ok(StorePlace::File(file));
        };
        let mut address = url.0.clone();
        let password = match &self.password_file {
            _ if url.has_password() => None,
            Some(path) => Some(read_password(path)?),
            None => environment.map(|password| Zeroizing::new(password.to_owned())),
        };
        if let Some(password) = password {
            address = with_parameter(&address, "password", &password);
        }
        if let Some(root) = &self.tls_root {
            address = with_parameter(&address, "sslrootcert", &root.to_string_lossy());
        }
        Ok(StorePlace::Database(DatabasePlace::new(address, self.writer)))
    }
}

fn read_password(path: &Path) -> Result<Zeroizing<String>, ConfigError> {
    let secret = |error| ConfigError::Secret {
        key: "store.password_file",
        error,
    };
    let file = open_secret(path).map_err(secret)?;
    // Reserved at once, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(PASSWORD_FILE_BYTES_MAX));
    let limit = u64::try_from(PASSWORD_FILE_BYTES_MAX).unwrap_or(u64::MAX);
    let read = file.take(limit).read_to_string(&mut text);
    read.map_err(|error| {
        secret(PassphraseFileError::Io {
            path: path.to_owned(),
            kind: error.kind(),
        })
    })?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

/// An address with one more parameter in its query.
fn with_parameter(address: &str, name: &str, value: &str) -> String {
    let mark = if address.contains('?') { '&' } else { '?' };
    let mut with = format!("{address}{mark}{name}=");
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            with.push(char::from(byte));
        } else {
            with.push_str(&format!("%{byte:02X}"));
        }
    }
    with
}

/// The address of a database. What is shown of it has no password.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// User and password, and what is behind them.
    fn parts(&self) -> (&str, &str) {
        let (_, rest) = self.0.split_once("://").unwrap_or_default();
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
        (user, rest.get(user.len()..).unwrap_or_default())
    }

    fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.split_once('?').map_or("", |(_, query)| query).split('&')
    }

    fn has_password(&self) -> bool {
        self.parts().0.contains(':') || self.parameters().any(|pair| pair.starts_with("password="))
    }
}

impl FromStr for DatabaseUrl {
    type Err = ParseDatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_one = ["postgres://", "postgresql://"]
            .iter()
            .any(|start| text.starts_with(start));
        if !is_one {
            return Err(ParseDatabaseUrlError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = ParseDatabaseUrlError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DatabaseUrl> for String {
    fn from(url: DatabaseUrl) -> Self {
        url.0
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, rest) = self.parts();
        let user = user.split(':').next().unwrap_or_default();
        // Parameters may have a password, too.
        let rest = rest.split('?').next().unwrap_or_default();
        write!(f, "postgres://{user}{rest}")
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not the address of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a database is given as postgres://USER@HOST:PORT/DATABASE")]
pub struct ParseDatabaseUrlError;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::{Existing, write_file};

    fn url(text: &str) -> DatabaseUrl {
        text.parse().unwrap()
    }

    #[test]
    fn no_password_is_ever_shown() {
        for (text, shown) in [
            ("postgres://u:pass@h:1/d", "postgres://u@h:1/d"),
            ("postgres://u@h/d?password=pass&sslmode=require", "postgres://u@h/d"),
            ("postgresql://u:pa@ss@h1,h2/d", "postgres://u@h1,h2/d"),
            ("postgres://h/d", "postgres://h/d"),
        ] {
            assert_eq!(url(text).to_string(), shown);
            assert_eq!(format!("{:?}", url(text)), shown);
        }
    }

    #[test]
    fn a_password_comes_from_the_url_or_its_file_or_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        write_file(&file, b"p&w \n", 0o600, Existing::Keep).unwrap();
        let place = |text: &str, password_file: Option<&Path>, environment| {
            let config = StoreConfig {
                url: Some(url(text)),
                password_file: password_file.map(Path::to_owned),
                ..StoreConfig::default()
            };
            match config.place("unused".into(), environment).unwrap() {
                StorePlace::Database(place) => place.address().to_owned(),
                StorePlace::File(path) => panic!("{path:?}"),
            }
        };
        assert_eq!(place("postgres://u@h/d", None, None), "postgres://u@h/d");
        assert_eq!(
            place("postgres://u@h/d", None, Some("e")),
            "postgres://u@h/d?password=e"
        );
        assert_eq!(
            place("postgres://u@h/d?a=b", Some(&file), Some("e")),
            "postgres://u@h/d?a=b&password=p%26w%20"
        );
        assert_eq!(
            place("postgres://u:x@h/d", Some(&file), Some("e")),
            "postgres://u:x@h/d"
        );
    }

    #[test]
    fn a_password_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let config = StoreConfig {
            url: Some(url("postgres://u@h/d")),
            password_file: Some(path.clone()),
            ..StoreConfig::default()
        };
        let refused = || config.place("unused".into(), None).unwrap_err();
        let secret = |error| ConfigError::Secret {
            key: "store.password_file",
            error,
        };
        let (missing, kind) = (path.clone(), std::io::ErrorKind::NotFound);
        assert_eq!(refused(), secret(PassphraseFileError::Io { path: missing, kind }));
        for mode in [0o644, 0o640, 0o602] {
            write_file(&path, b"p\n", mode, Existing::Replace).unwrap();
            let error = refused();
            let path = path.clone();
            assert_eq!(error, secret(PassphraseFileError::Exposed { path, mode }));
            for word in [
                format!("mode {mode:o}"),
                "chmod 600".to_owned(),
                "password_file".to_owned(),
            ] {
                assert!(error.to_string().contains(&word), "{error}");
            }
        }
        write_file(&path, b"p\n", 0o600, Existing::Replace).unwrap();
        assert!(config.place("unused".into(), None).is_ok());
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            let uid = 65_534;
            assert_eq!(refused(), secret(PassphraseFileError::NotMine { path, uid }));
        } else {
            println!("NOT RUN: a file of another user, which only root can make");
        }
    }

    #[test]
    fn what_only_a_database_has_is_refused_without_one() {
        let config = StoreConfig {
            writer: 1,
            ..StoreConfig::default()
        };
        let (key, needs) = ("store.writer", "store.url");
        assert_eq!(config.check(), Err(ConfigError::Needs { key, needs }));
        let config = StoreConfig {
            url: Some(url("postgres://h/d")),
            writer: WRITERS_MAX,
            ..StoreConfig::default()
        };
        let (given, max) = (u64::from(WRITERS_MAX), u64::from(WRITERS_MAX) - 1);
        let min = 0;
        let out = ConfigError::OutOfRange { key, given, min, max };
        assert_eq!(config.check(), Err(out));
        assert_eq!("redb".parse::<DatabaseUrl>(), Err(ParseDatabaseUrlError));
    }
}
