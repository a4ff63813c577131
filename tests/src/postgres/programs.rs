//! Where the server's programs are, and as whom they run.

use crate::debian;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

/// The oldest server that the store is made for.
const VERSION_MIN: u32 = 15;

/// The directory of `initdb`, `postgres` and the others.
#[derive(Debug, Clone)]
pub(super) struct Programs(PathBuf);

impl Programs {
    /// Finds them, or installs them where that is possible.
    pub(super) fn find() -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _alone = ONE_AT_A_TIME.lock();
        if let Some(found) = Self::installed() {
            return found;
        }
        debian::install("postgresql", "postgres");
        let found = Self::installed();
        found.unwrap_or_else(|| {
            panic!("apt-get did not bring PostgreSQL {VERSION_MIN} or later; put its bin directory into PATH")
        })
    }

    /// The newest of Debian's directories, or what is in `PATH`.
    fn installed() -> Option<Self> {
        let mut found: Vec<(u32, PathBuf)> = Vec::new();
        for entry in fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
            let version = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let bin = entry.path().join("bin");
            if let Some(version) = version.filter(|version| *version >= VERSION_MIN)
                && bin.join("initdb").exists()
            {
                found.push((version, bin));
            }
        }
        found.sort();
        let newest = found.pop().map(|(_, bin)| bin);
        newest.or_else(in_path).map(Self)
    }

    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.0.join(program)
    }
}

fn in_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path);
    directories.find(|directory| {
        let output = Command::new(directory.join("postgres")).arg("--version").output();
        let text = output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        // `postgres (PostgreSQL) 15.4 (...)`
        let version = text
            .split_whitespace()
            .nth(2)
            .and_then(|version| version.split('.').next());
        let version = version.and_then(|version| version.parse::<u32>().ok());
        version.is_some_and(|version| version >= VERSION_MIN) && directory.join("initdb").exists()
    })
}

/// As whom a server runs: it refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner {
    /// As whoever runs the test.
    Same,
    /// User and group id of another.
    Another(u32, u32),
}

impl Owner {
    pub(super) fn find() -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self::Same;
        }
        let users = fs::read_to_string("/etc/passwd").expect("the list of users");
        let ids = |name: &str| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2).map_while(|field| field.parse::<u32>().ok());
            Some((fields.next()?, fields.next()?))
        };
        let found = ids("postgres").or_else(|| ids("nobody"));
        let (uid, gid) = found.expect("a user postgres or nobody, as PostgreSQL does not run as root");
        Self::Another(uid, gid)
    }

    pub(super) const fn ids(&self) -> Option<(u32, u32)> {
        match self {
            Self::Same => None,
            Self::Another(uid, gid) => Some((*uid, *gid)),
        }
    }

    pub(super) const fn is_another(&self) -> bool {
        self.ids().is_some()
    }
}
