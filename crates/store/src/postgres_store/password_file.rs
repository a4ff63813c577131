//! The file in which users of PostgreSQL keep their passwords: `PGPASSFILE`, or `~/.pgpass`, read as libpq reads it.
//!
//! A line is `host:port:database:user:password`. Any of the first four may be `*`; a backslash makes the next character,
//! mostly `:` or `\`, an ordinary one; lines that begin with `#` are comments. The first line that fits counts. A file that
//! others than its owner may read is not used.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// Where a server listens if the address does not say.
const DEFAULT_PORT: u16 = 5_432;

/// What a line must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Login {
    host: String,
    port: String,
    database: String,
    user: String,
}

/// Where libpq looks: the file that the address names, or that the environment names, or the one at home.
pub(super) fn place(named: Option<&str>, environment: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let named = named
        .map(PathBuf::from)
        .or_else(|| environment("PGPASSFILE").map(PathBuf::from));
    named.or_else(|| Some(PathBuf::from(environment("HOME")?).join(".pgpass")))
}

/// The password of an address that has none. The driver has one for all hosts of an address: that of the first which has
/// a line.
pub(super) fn password(config: &Config, file: &Path) -> Option<String> {
    let text = match read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the password file is not used");
            return None;
        }
    };
    logins(config).iter().find_map(|login| find(&text, login))
}

fn read(file: &Path) -> io::Result<String> {
    let metadata = std::fs::metadata(file)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o777;
        return Err(io::Error::other(format!(
            "others may read it: its mode is {mode:o}, and must be 600 or less"
        )));
    }
    std::fs::read_to_string(file)
}

/// What is looked for, host by host.
fn logins(config: &Config) -> Vec<Login> {
    let ports = config.get_ports();
    let user = config.get_user().unwrap_or_default();
    let login = |(number, host): (usize, &Host)| {
        // One port serves all hosts, or each has its own.
        let port = ports
            .get(number)
            .or_else(|| ports.first())
            .copied()
            .unwrap_or(DEFAULT_PORT);
        Login {
            host: match host {
                Host::Tcp(name) => name.clone(),
                // As libpq writes them: a socket in the directory of the system is `localhost`.
                Host::Unix(path) if is_default_directory(path) => "localhost".to_owned(),
                Host::Unix(path) => path.display().to_string(),
            },
            port: port.to_string(),
            database: config.get_dbname().unwrap_or(user).to_owned(),
            user: user.to_owned(),
        }
    };
    config.get_hosts().iter().enumerate().map(login).collect()
}

fn is_default_directory(path: &Path) -> bool {
    [Path::new("/tmp"), Path::new("/var/run/postgresql")].contains(&path)
}

fn find(text: &str, login: &Login) -> Option<String> {
    let wanted = [&login.host, &login.port, &login.database, &login.user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        for value in wanted {
            let (field, after) = field(rest)?;
            if field != *value && rest.split_once(':')?.0 != "*" {
                return None;
            }
            rest = after;
        }
        // Anything may be in a password, a colon too.
        let password = unescaped(rest);
        (!password.is_empty()).then_some(password)
    })
}

/// The field at the front of a line, and what is behind its colon.
fn field(line: &str) -> Option<(String, &str)> {
    let mut is_escaped = false;
    for (at, character) in line.char_indices() {
        match character {
            ':' if !is_escaped => return Some((unescaped(line.get(..at)?), line.get(at + 1..)?)),
            _ => is_escaped = character == '\\' && !is_escaped,
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut characters = text.chars();
    let mut plain = String::with_capacity(text.len());
    while let Some(character) = characters.next() {
        plain.extend(if character == '\\' {
            characters.next()
        } else {
            Some(character)
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
        file
    }

    fn found(address: &str, text: &str) -> Option<String> {
        password(&address.parse().unwrap(), file(text, 0o600).path())
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let text = "# db:5432:ledger:escrow:comment\n\
                    db:5433:ledger:escrow:other port\n\
                    db:5432:other:escrow:other database\n\
                    db:5432:ledger:other:other user\n\
                    db:5432:ledger:escrow:right\n\
                    *:*:*:*:any\n";
        for (address, expected) in [
            ("postgres://escrow@db/ledger", "right"),
            ("postgres://escrow@db:5432/ledger", "right"),
            ("postgres://escrow@db:5433/ledger", "other port"),
            ("postgres://escrow@db/other", "other database"),
            ("postgres://other@db/ledger", "other user"),
            ("postgres://escrow@elsewhere/ledger", "any"),
            ("postgres://escrow@elsewhere,db/ledger", "any"),
        ] {
            assert_eq!(found(address, text).as_deref(), Some(expected), "{address}");
        }
    }

    #[test]
    fn wildcards_stand_for_whole_fields_and_a_name_left_out_has_its_default() {
        let address = "postgres://escrow@db/ledger";
        for (line, expected) in [
            ("*:*:ledger:escrow:p", Some("p")),
            ("d*:*:ledger:escrow:p", None),
            ("\\*:*:ledger:escrow:p", None),
            ("db:*:ledger:escrow", None),
            ("db:*:ledger:escrow:", None),
            ("", None),
        ] {
            assert_eq!(found(address, line).as_deref(), expected, "{line}");
        }
        assert_eq!(found("postgres://u@db", "db:5432:u:u:p").as_deref(), Some("p"));
        assert_eq!(found("host=/tmp user=u", "localhost:5432:u:u:p").as_deref(), Some("p"));
        assert_eq!(found("host=/srv/pg user=u", "/srv/pg:5432:u:u:p").as_deref(), Some("p"));
        assert_eq!(found("postgres://u@a,b:7/d", "b:7:d:u:of b").as_deref(), Some("of b"));
    }

    #[test]
    fn a_backslash_makes_the_next_character_an_ordinary_one() {
        let text = r"db:5432:led\:ger:es\\crow:a:b\:c\\d";
        let config: Config = r"host=db dbname=led:ger user='es\\crow'".parse().unwrap();
        assert_eq!(config.get_user(), Some(r"es\crow"));
        assert_eq!(password(&config, file(text, 0o600).path()).as_deref(), Some(r"a:b:c\d"));
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_none_is_not_used() {
        let config: Config = "postgres://u@db/d".parse().unwrap();
        for (mode, is_used) in [
            (0o600, true),
            (0o400, true),
            (0o640, false),
            (0o604, false),
            (0o620, false),
        ] {
            let file = file("*:*:*:*:p", mode);
            assert_eq!(password(&config, file.path()).is_some(), is_used, "{mode:o}");
        }
        assert_eq!(password(&config, Path::new("/nowhere/pgpass")), None);
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(password(&config, directory.path()), None);
    }

    #[test]
    fn the_address_names_the_file_or_the_environment_or_it_is_at_home() {
        let both = |name: &str| match name {
            "PGPASSFILE" => Some("/etc/pass".into()),
            "HOME" => Some("/home/u".into()),
            _ => None,
        };
        assert_eq!(place(Some("/named"), both), Some("/named".into()));
        assert_eq!(place(None, both), Some("/etc/pass".into()));
        assert_eq!(
            place(None, |name| both(name).filter(|_| name == "HOME")),
            Some("/home/u/.pgpass".into())
        );
        assert_eq!(place(None, |_| None), None);
    }
}
