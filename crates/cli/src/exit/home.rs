//! What can be wrong with a home on this machine: its directory, key, secrets and settings.

use super::{AGAIN, Failure, LOCKED, OWNER, disk_advice};
use rustix::process::geteuid;
use std::path::Path;
use tombola_node::config::ConfigError;
use tombola_node::home::HomeError;
use tombola_node::key_file::{KEY_FILE, KeyFileError, PassphraseFileError};

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        match &error {
            HomeError::Locked { pid, .. } => Self::new(LOCKED, error.to_string())
                .with("pid", *pid)
                .next("give it a moment to end, or stop it with kill"),
            HomeError::Missing { .. } => Self::new("no_home", error.to_string()).next("run init first, or give --home"),
            HomeError::Io { kind, .. } => Self::new("home", error.to_string()).next(disk_advice(*kind)),
            HomeError::Exposed { path, .. } => {
                Self::new("home", error.to_string()).next(format!("chmod 700 {}", path.display()))
            }
            _ => Self::new("home", error.to_string()).next(AGAIN),
        }
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        match error {
            KeyFileError::Exists { .. } => Self::new("exists", error.to_string())
                .next("it may be worth money: choose another --home, or move it away yourself"),
            KeyFileError::Exposed { ref path, .. } => Self::new("key_file", error.to_string()).next(format!(
                "chmod 600 {}; whoever could read it meanwhile may have the key",
                path.display()
            )),
            KeyFileError::NotMine { ref path, uid } => Self::new("key_file", error.to_string())
                .with(OWNER, uid)
                .next(not_mine_advice(path, uid)),
            KeyFileError::Bad { ref problem, .. } => Self::new("key_file", error.to_string()).next(problem.advice()),
            KeyFileError::Encrypted { .. } => Self::new("key_file", error.to_string())
                .next("give --passphrase-file FILE (mode 600), or run it on a terminal"),
            KeyFileError::Io { kind, .. } => Self::new("key_file", error.to_string()).next(disk_advice(kind)),
            KeyFileError::NoRandomness => Self::new("key_file", error.to_string())
                .next("see the system's log: no key is safe on a machine that has no random bytes"),
            KeyFileError::NotAFile { .. } => Self::new("key_file", error.to_string())
                .next(format!("give the key file itself, such as HOME/{KEY_FILE}")),
            _ => Self::new("key_file", error.to_string()).next(AGAIN),
        }
    }
}

/// What helps where a key belongs to another user. What root took over, the other's node could not read any more.
fn not_mine_advice(path: &Path, uid: u32) -> String {
    let own = geteuid();
    if own.is_root() {
        let home = path.parent().unwrap_or(path).display();
        return format!(
            "run the node of user {uid}, which root may ask; to work without it, stop it and chown -R 0 {home}: systemd \
             gives the home back to its unit at the next start"
        );
    }
    format!(
        "run this as user {uid}; if the key is to be yours: chown {} {}, as root",
        own.as_raw(),
        path.display()
    )
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        if let ConfigError::Secret { error: secret, .. } = &error {
            return Self::new("config", error.to_string()).next(secret_advice(secret));
        }
        Self::new("config", error.to_string())
            .next("correct config.toml or the option; init writes one with every default")
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new("io", error.to_string()).next(disk_advice(error.kind()))
    }
}

/// What helps where the file of a secret cannot be used.
fn secret_advice(error: &PassphraseFileError) -> String {
    match error {
        PassphraseFileError::Exposed { path, .. } => {
            format!(
                "chmod 600 {}; whoever could read it meanwhile may have the password",
                path.display()
            )
        }
        PassphraseFileError::NotMine { path, .. } => format!(
            "chown {} {}, or let root own it and hand it on, as systemd does with credentials",
            geteuid().as_raw(),
            path.display()
        ),
        PassphraseFileError::Io { kind, .. } => disk_advice(*kind).to_owned(),
        _ => AGAIN.to_owned(),
    }
}
