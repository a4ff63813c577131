//! Whether a node's port is free, and if not, whose it is.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

/// The two kinds of port that a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Udp,
    Tcp,
}

use super::Finding;

/// Tries the port, and gives it back at once.
pub(super) fn look(check: &'static str, kind: Kind, at: SocketAddr) -> Finding {
    let tried = match kind {
        Kind::Udp => UdpSocket::bind(at).map(drop),
        Kind::Tcp => TcpListener::bind(at).map(drop),
    };
    let Err(error) = tried else {
        return Finding::ok(check, format!("{at} is free"));
    };
    match error.kind() {
        ErrorKind::AddrInUse => {
            let owner = owner(kind, at.port());
            let who = owner.as_ref().map_or_else(
                || "another process".to_owned(),
                |(pid, name)| format!("{name} (pid {pid})"),
            );
            Finding::failed(
                check,
                format!("{at} is in use by {who}"),
                "end it, or choose another port in config.toml; port 0 takes any free one",
            )
        }
        kind => Finding::failed(
            check,
            format!("{at} cannot be listened on: {kind}"),
            "choose an address of this machine in config.toml, and a port over 1023",
        ),
    }
}

/// The process that has a port, where the system lets this user see it.
fn owner(kind: Kind, port: u16) -> Option<(u32, String)> {
    let tables = match kind {
        Kind::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        Kind::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
    };
    let texts = tables.iter().filter_map(|table| std::fs::read_to_string(table).ok());
    let inodes: Vec<String> = texts.flat_map(|text| inodes(&text, port)).collect();
    let processes = std::fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    processes
        .filter_map(|process| Some((process.file_name().to_str()?.parse().ok()?, process.path())))
        .find(|(_, path)| has_socket(path, &inodes))
        .map(|(pid, path)| {
            let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            (pid, name.trim().to_owned())
        })
}

/// The sockets of a local port in a table of the kernel: fields 2 (hexadecimal address:port) and 10.
pub(super) fn inodes(table: &str, port: u16) -> Vec<String> {
    let lines = table.lines().skip(1);
    let found = lines.filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, at) = fields.get(1)?.rsplit_once(':')?;
        (u16::from_str_radix(at, 16).ok()? == port).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    });
    found.filter(|inode| inode != "0").collect()
}

fn has_socket(process: &Path, inodes: &[String]) -> bool {
    // Other users' processes cannot be looked into.
    let Ok(files) = std::fs::read_dir(process.join("fd")) else {
        return false;
    };
    files.filter_map(Result::ok).any(|file| {
        let Ok(target) = std::fs::read_link(file.path()) else {
            return false;
        };
        let target = target.to_string_lossy().into_owned();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.iter().any(|known| known == inode))
    })
}
