//! What a machine must give a node, whatever its role.

use super::Finding;
use rustix::process::{Resource, getrlimit};
use std::path::Path;

/// Files of a store, sockets of clients, files being delivered: fewer are not enough under load.
const FILES_MIN: u64 = 1_024;
/// With fewer a node does not even start in good order.
const FILES_LEAST: u64 = 128;
/// Bytes that a socket can keep while the node is busy: at 2 million tickets a second a pause of 30 ms.
const UDP_BYTES_MIN: u64 = 2 * 1_024 * 1_024;
/// Where the system says what a socket gets.
const UDP_SETTINGS: [&str; 2] = ["net.core.rmem_default", "net.core.rmem_max"];

pub(super) fn look() -> Vec<Finding> {
    let files = getrlimit(Resource::Nofile);
    let core = getrlimit(Resource::Core);
    vec![
        open_files(files.current, files.maximum),
        core_dumps(core.current),
        udp_buffers(setting),
    ]
}

/// A setting of the kernel, as its file says.
fn setting(name: &str) -> Option<u64> {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

pub(super) fn open_files(current: Option<u64>, maximum: Option<u64>) -> Finding {
    let shown = |limit: Option<u64>| limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
    let found = format!("{} open files, at most {}", shown(current), shown(maximum));
    let next = format!("ulimit -n {FILES_MIN}, or LimitNOFILE={FILES_MIN} in the unit");
    match current {
        Some(limit) if limit < FILES_LEAST => Finding::failed("open_files", found, next),
        Some(limit) if limit < FILES_MIN => Finding::warning("open_files", found, next),
        Some(_) | None => Finding::ok("open_files", found),
    }
}

pub(super) fn core_dumps(limit: Option<u64>) -> Finding {
    match limit {
        Some(0) => Finding::ok("core_dumps", "off: no crash writes a key to a disk"),
        _ => Finding::failed(
            "core_dumps",
            "on: a crash would write keys to a disk",
            "ulimit -c 0, or LimitCORE=0 in the unit; see why the program may not set it",
        ),
    }
}

pub(super) fn udp_buffers(setting: impl Fn(&str) -> Option<u64>) -> Finding {
    let known: Vec<(&str, u64)> = UDP_SETTINGS
        .iter()
        .filter_map(|name| Some((*name, setting(name)?)))
        .collect();
    let found: Vec<String> = known.iter().map(|(name, bytes)| format!("{name} = {bytes}")).collect();
    let found = found.join(", ");
    let Some((name, _)) = known.iter().find(|(_, bytes)| *bytes < UDP_BYTES_MIN) else {
        return match known.len() == UDP_SETTINGS.len() {
            true => Finding::ok("udp_buffers", found),
            false => Finding::warning(
                "udp_buffers",
                "the system does not say how large they are",
                format!("see that sockets may have {UDP_BYTES_MIN} bytes"),
            ),
        };
    };
    Finding::warning(
        "udp_buffers",
        format!("{found}: bursts of packets may be lost, and are sent again"),
        format!("sysctl -w {name}={UDP_BYTES_MIN}, and the same in /etc/sysctl.d for after a restart"),
    )
}
