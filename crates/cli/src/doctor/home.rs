//! What can be wrong with a role's home: modes, key, settings, store, disk, port, backups.

use super::peer::{self, Expected};
use super::{Finding, Role, clock as ledger_clock, port};
use crate::exit::{Failure, OWNER};
use crate::local::{HomeArg, LAST_BACKUP_FILE, read, read_key_file};
use crate::output::text;
use crate::{escrow, payee, payer};
use rustix::fs::statvfs;
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};
use tombola_core::amount::{DAY_MS, Timestamp};
use tombola_node::clock;
use tombola_node::config::{CONFIG_FILE, ConfigFile, EscrowConfig, PayeeConfig, PayerConfig};
use tombola_node::home::Home;
use tombola_node::key_file::KEY_FILE;

/// Bits that let others than the owner do anything.
const OPEN_TO_OTHERS: u32 = 0o077;
/// Below this a store may fail with its next growth: a payee's log has 64 MiB at most.
const DISK_BYTES_LEAST: u64 = 128 * 1_024 * 1_024;
/// Below this it is time to make room.
const DISK_BYTES_MIN: u64 = 1_024 * 1_024 * 1_024;
/// Syncs that are measured, each of one page.
const SYNCS: usize = 16;
const SYNC_BYTES: usize = 4_096;
/// A slower disk holds up every winner and every answer of an escrow.
const SYNC_WARNING: Duration = Duration::from_millis(20);
/// An append that takes 5 s stops a payee; one that is this slow when nothing happens will be when much does.
const SYNC_FAILED: Duration = Duration::from_millis(1_000);
/// An escrow's backup that is older than this is worth a look.
const BACKUP_AGE_MAX_MS: u64 = 2 * DAY_MS;
/// The code of a failure for want of a passphrase.
const PASSPHRASE_NEEDED: &str = "passphrase_needed";

/// What a role's configuration says that is looked at here.
struct Settings {
    listen: Option<SocketAddr>,
    metrics_listen: Option<SocketAddr>,
    expected: Option<Expected>,
}

pub(super) async fn look(arg: &HomeArg, role: Role) -> Vec<Finding> {
    let home = match arg.open(role.name()) {
        Ok(home) => home,
        Err(failure) => return vec![Finding::of_failure("home", &failure)],
    };
    let mut findings = vec![Finding::ok("home", home.path().display().to_string())];
    findings.extend(modes(&home, role));
    findings.push(key(&home, arg));
    findings.push(disk_space(&home));
    findings.push(fsync(home.path()));
    match settings(&home, role) {
        Ok(settings) => {
            findings.push(Finding::ok("config", "every setting is known and in its range"));
            let is_running = store(&home, arg, role, &mut findings).await;
            if !is_running {
                let udp = settings.listen.map(|at| port::look("port", port::Kind::Udp, at));
                let tcp = settings
                    .metrics_listen
                    .map(|at| port::look("metrics", port::Kind::Tcp, at));
                findings.extend(udp.into_iter().chain(tcp));
            }
            if let Some(expected) = &settings.expected {
                findings.extend(peer::look(expected).await);
            }
        }
        Err(failure) => findings.push(Finding::of_failure("config", &failure)),
    }
    findings.extend(backup(&home, role));
    findings
}

fn settings(home: &Home, role: Role) -> Result<Settings, Failure> {
    let no_escrow = || Failure::new("no_escrow", "no escrow is configured").next("set escrow in config.toml");
    match role {
        Role::Escrow => {
            let config: EscrowConfig = checked(home)?;
            Ok(Settings {
                listen: Some(config.listen),
                metrics_listen: config.metrics_listen,
                expected: None,
            })
        }
        Role::Payee => {
            let config: PayeeConfig = checked(home)?;
            let terms = config.terms()?;
            Ok(Settings {
                listen: Some(config.listen),
                metrics_listen: config.metrics_listen,
                expected: Some(Expected {
                    escrow: config.escrow.ok_or_else(no_escrow)?,
                    asset: terms.asset,
                    fee_max: terms.fee_max,
                }),
            })
        }
        Role::Payer => {
            let config: PayerConfig = checked(home)?;
            let terms = config.terms()?;
            Ok(Settings {
                listen: None,
                metrics_listen: config.metrics_listen,
                expected: Some(Expected {
                    escrow: config.escrow.ok_or_else(no_escrow)?,
                    asset: terms.asset,
                    fee_max: terms.fee_max,
                }),
            })
        }
    }
}

fn checked<C: ConfigFile>(home: &Home) -> Result<C, Failure> {
    read(home)
}

/// Files that are for their owner only.
fn modes(home: &Home, role: Role) -> Option<Finding> {
    let store: &[&str] = match role {
        Role::Escrow => &[escrow::STORE_FILE],
        Role::Payee => &[payee::STORE_FILE, "payee.log"],
        Role::Payer => &[payer::STORE_FILE],
    };
    let names = store.iter().chain(&[CONFIG_FILE, "reset.salt"]);
    let open: Vec<String> = names
        .filter_map(|name| {
            let mode = home.file(name).metadata().ok()?.mode() & 0o777;
            (mode & OPEN_TO_OTHERS != 0).then(|| format!("{name} (mode {mode:o})"))
        })
        .collect();
    let path = home.path().display();
    // The directory's own mode keeps others out, so this is the second wall that is missing.
    (!open.is_empty()).then(|| {
        let next = format!("chmod 700 {path} && chmod 600 {path}/*");
        Finding::warning("modes", format!("others may open {}", open.join(", ")), next)
    })
}

fn key(home: &Home, arg: &HomeArg) -> Finding {
    let path = home.file(KEY_FILE);
    let (file, owner) = match read_key_file(home) {
        Ok(read) => read,
        Err(error) => return Finding::of_failure("key", &error.into()),
    };
    let whose = owner.map(|uid| format!(", of user {uid} as the home is"));
    let whose = whose.unwrap_or_default();
    let is_encrypted = file.is_encrypted();
    match arg.key_in(file) {
        Ok(key) if is_encrypted => Finding::ok("key", format!("{}, encrypted{whose}", key.account())),
        Ok(key) => Finding::warning(
            "key",
            format!(
                "{} is not encrypted{whose}: who reads the disk or a backup of it has the account",
                key.account()
            ),
            format!(
                "{}tombola key change-passphrase {}",
                if owner.is_some() { "as that user: " } else { "" },
                path.display()
            ),
        ),
        Err(failure) if failure.error.code == PASSPHRASE_NEEDED => match owner {
            // The node of another user has its passphrase from elsewhere.
            Some(_) => Finding::ok("key", format!("encrypted{whose}, and not tried")),
            None => Finding::warning(
                "key",
                "encrypted, and not tried: there is no passphrase",
                "give --passphrase-file FILE, as the node gets it",
            ),
        },
        Err(failure) => Finding::of_failure("key", &failure),
    }
}

fn disk_space(home: &Home) -> Finding {
    match statvfs(home.path()) {
        Ok(space) => judge_space(space.f_bavail.saturating_mul(space.f_frsize)),
        Err(error) => Finding::failed("disk_space", format!("not known: {error}"), "look at `df`"),
    }
}

pub(super) fn judge_space(bytes: u64) -> Finding {
    let found = format!("{} MiB free", bytes / 1_024 / 1_024);
    let next = "make room, or move the home to a larger disk: a full one stops the node";
    match bytes {
        0..DISK_BYTES_LEAST => Finding::failed("disk_space", found, next),
        DISK_BYTES_LEAST..DISK_BYTES_MIN => Finding::warning("disk_space", found, next),
        DISK_BYTES_MIN.. => Finding::ok("disk_space", found),
    }
}

fn fsync(directory: &Path) -> Finding {
    let path = directory.join(format!(".doctor.{}", std::process::id()));
    let measured = measure(&path);
    // It is there only if it could be made.
    let _ = std::fs::remove_file(&path);
    match measured {
        Ok(times) => judge_syncs(times),
        Err(error) => Finding::failed(
            "fsync",
            format!("a file in the home cannot be written: {}", error.kind()),
            "mend the disk, make room, or give the home to the user that runs the node",
        ),
    }
}

fn measure(path: &Path) -> io::Result<Vec<Duration>> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[0; SYNC_BYTES])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

pub(super) fn judge_syncs(mut times: Vec<Duration>) -> Finding {
    times.sort_unstable();
    let at = |place: usize| times.get(place).copied().unwrap_or_default();
    let (median, slowest) = (at(times.len() / 2), at(times.len().saturating_sub(1)));
    let found = format!(
        "{} us in the median, {} us at most",
        median.as_micros(),
        slowest.as_micros()
    );
    let next = "use a local disk of its own for the home: each winner and each answer of an escrow waits for a sync";
    if slowest >= SYNC_FAILED {
        return Finding::failed("fsync", found, next);
    }
    match median >= SYNC_WARNING {
        true => Finding::warning("fsync", found, next),
        false => Finding::ok("fsync", found),
    }
}

/// Asks the running node, or opens the store of a stopped one. Says whether one runs.
async fn store(home: &Home, arg: &HomeArg, role: Role, findings: &mut Vec<Finding>) -> bool {
    let asked = match role {
        Role::Escrow => return escrow_store(home, arg, findings).await,
        Role::Payee if !home.file(payee::STORE_FILE).exists() => {
            findings.push(Finding::ok("store", "not made yet: the first run makes it"));
            return false;
        }
        Role::Payee => payee::standing(arg).await,
        Role::Payer => payer::standing(arg).await,
    };
    let status = match asked {
        Ok(status) => status,
        Err(failure) => {
            findings.push(not_looked_at(&failure));
            return false;
        }
    };
    let is_running = status.pointer("/node/running") == Some(&Value::Bool(true));
    findings.push(match text(&status, "health") {
        "" | "selling" => Finding::ok("store", if is_running { "the node runs" } else { "opens" }),
        health => Finding::failed(
            "store",
            format!("{health}: {}", text(&status, "health_means")),
            "see the node's log",
        ),
    });
    is_running
}

/// A store that needs the key's passphrase, or its owner, to be opened is not broken.
fn not_looked_at(failure: &Failure) -> Finding {
    if failure.error.code == PASSPHRASE_NEEDED {
        return Finding::warning(
            "store",
            "not looked at: there is no passphrase",
            "give --passphrase-file FILE",
        );
    }
    if failure.error.detail.contains_key(OWNER) {
        let next = failure.next_step().unwrap_or_default();
        return Finding::warning(
            "store",
            "not looked at: no node runs, and the key is another user's",
            next,
        );
    }
    Finding::of_failure("store", failure)
}

async fn escrow_store(home: &Home, arg: &HomeArg, findings: &mut Vec<Finding>) -> bool {
    match escrow::standing(home).await {
        Ok(Some(status)) => {
            let is_serving = status.pointer("/node/serving") == Some(&Value::Bool(true));
            let is_conserved = status.get("conserved") == Some(&Value::Bool(true));
            findings.push(match (is_serving, is_conserved) {
                (true, true) => Finding::ok("store", "the node runs, and its sums add up"),
                (false, _) => Finding::failed("store", "the store failed", "mend it, then start the node again"),
                (_, false) => Finding::failed(
                    "store",
                    "the sums do not add up",
                    "stop the escrow: tombola escrow audit",
                ),
            });
            findings.extend(
                status
                    .get("node")
                    .map(|node| ledger_clock::of_running(node, clock::now())),
            );
            return true;
        }
        Ok(None) => {}
        Err(failure) => {
            findings.push(Finding::of_failure("store", &failure));
            return true;
        }
    }
    let is_file = read::<EscrowConfig>(home).is_ok_and(|config| config.store.url.is_none());
    if is_file && !home.file(escrow::STORE_FILE).exists() {
        findings.push(Finding::ok("store", "not made yet: the first run makes it"));
        return false;
    }
    match escrow::examined(home, arg).await {
        Ok(examined) => {
            let height = examined.totals.height;
            findings.push(match examined.totals.conserved {
                true => Finding::ok("store", format!("opens, height {height}, and its sums add up")),
                false => Finding::failed("store", "the sums do not add up", "tombola escrow audit"),
            });
            findings.push(match &examined.witness {
                Ok(()) => Finding::ok("witness", "it has seen nothing that the store lacks"),
                Err(error) => Finding::of_failure("witness", &Failure::witness(error)),
            });
            findings.extend(match &examined.clock {
                // An empty ledger has no time yet.
                Ok(()) => (height > 0).then(|| ledger_clock::of_stopped(examined.totals.time, clock::now())),
                Err(fault) => Some(Finding::failed(
                    "clock",
                    fault.to_string(),
                    "set the clock of this machine",
                )),
            });
        }
        Err(failure) => findings.push(not_looked_at(&failure)),
    }
    false
}

/// How old the last backup is that was made by command from here.
fn backup(home: &Home, role: Role) -> Option<Finding> {
    let next = format!("tombola {} backup FILE, to another disk", role.name());
    let noted = std::fs::read_to_string(home.file(LAST_BACKUP_FILE)).ok();
    let noted = noted.and_then(|noted| serde_json::from_str::<Value>(&noted).ok());
    let at = noted.as_ref().and_then(|noted| noted.get("at")?.as_u64());
    match (role, at) {
        (Role::Payer, _) | (Role::Payee, None) => None,
        (Role::Escrow, None) => Some(Finding::warning("backup", "none was made from here", next)),
        (Role::Escrow | Role::Payee, Some(at)) => Some(judge_backup(clock::now(), Timestamp(at), next)),
    }
}

pub(super) fn judge_backup(now: Timestamp, at: Timestamp, next: String) -> Finding {
    let age_ms = now.0.saturating_sub(at.0);
    let found = format!("the last one is {} hours old", age_ms / 3_600_000);
    match age_ms > BACKUP_AGE_MAX_MS {
        true => Finding::warning("backup", found, next),
        false => Finding::ok("backup", found),
    }
}
