//! House rules that a machine can check.

use std::path::{Path, PathBuf};
use std::process::Command;
use tombola_tests::workspace;

const LINES_MAX: usize = 800;

/// The tracked files with one of these extensions, with their text. Outside of a checkout: those that are there.
fn sources(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let root = workspace();
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output();
    let tracked: Vec<PathBuf> = match listed {
        Ok(output) if output.status.success() => {
            let names = String::from_utf8(output.stdout).unwrap();
            names.split_terminator('\0').map(|name| root.join(name)).collect()
        }
        _ => ["crates", "tests"]
            .iter()
            .flat_map(|part| tombola_tests::files_below(&root.join(part), extensions).unwrap())
            .collect(),
    };
    let wanted = |path: &PathBuf| path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x));
    tracked
        .into_iter()
        .filter(wanted)
        // A tracked file that was just deleted is no file.
        .filter_map(|path| std::fs::read_to_string(&path).ok().map(|text| (path, text)))
        .collect()
}

fn is_test(path: &Path) -> bool {
    let path = path.strip_prefix(workspace()).unwrap_or(path);
    let in_tests = path.components().any(|part| part.as_os_str() == "tests");
    in_tests || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// A forbidden word, spelled in two halves so that this file does not have it.
fn word(left: &str, right: &str) -> String {
    [left, right].concat()
}

#[test]
fn sources_are_ascii() {
    for (path, text) in sources(&["rs", "toml"]) {
        let line = text.lines().position(|line| !line.is_ascii());
        assert_eq!(line, None, "{} has a line that is not ASCII", path.display());
    }
}

#[test]
fn no_file_is_too_long() {
    for (path, text) in sources(&["rs"]).into_iter().filter(|(path, _)| !is_test(path)) {
        let lines = text.lines().count();
        assert!(
            lines <= LINES_MAX,
            "{} has {lines} lines and wants splitting",
            path.display()
        );
    }
}

#[test]
fn nothing_is_left_undone() {
    let words = [
        word("TO", "DO"),
        word("FIX", "ME"),
        word("dbg", "!("),
        word("todo", "!("),
        word("unimplemented", "!("),
    ];
    for (path, text) in sources(&["rs"]) {
        for (line, number) in text.lines().zip(1..) {
            let found = words.iter().find(|word| line.contains(*word));
            assert_eq!(found, None, "{}:{number}", path.display());
        }
    }
}

#[test]
fn core_and_ledger_have_no_clock_socket_disk_or_thread() {
    let outside = [
        "std::time",
        "std::net",
        "std::fs",
        "std::thread",
        "std::env",
        "std::process",
        "tokio",
        "rand::",
    ];
    for name in ["core", "ledger"] {
        let directory = workspace().join("crates").join(name).join("src");
        for path in tombola_tests::files_below(&directory, &["rs"]).unwrap() {
            let text = std::fs::read_to_string(&path).unwrap();
            // Tests at the bottom of a file may do as they like.
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for (line, number) in code.lines().zip(1..).filter(|_| !is_test(&path)) {
                let is_comment = line.trim_start().starts_with("//");
                let found = outside.iter().find(|name| !is_comment && line.contains(**name));
                assert_eq!(found, None, "{}:{number}", path.display());
            }
        }
    }
}

/// Asserts that no code of these crates has one of these words, apart from the files that are allowed to.
fn only_in(allowed: &[&str], crates: &[&str], words: &[&str]) {
    let root = workspace();
    for name in crates {
        let directory = root.join("crates").join(name).join("src");
        for path in tombola_tests::files_below(&directory, &["rs"]).unwrap() {
            let file = path.strip_prefix(root.join("crates")).unwrap();
            if is_test(&path) || allowed.iter().any(|allowed| file == Path::new(allowed)) {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for (line, number) in code.lines().zip(1..) {
                let is_comment = line.trim_start().starts_with("//");
                let found = words.iter().find(|word| !is_comment && line.contains(**word));
                assert_eq!(found, None, "{}:{number}", file.display());
            }
        }
    }
}

const CRATES: [&str; 7] = ["lanes", "core", "ledger", "store", "net", "node", "cli"];

/// Others may derive and implement its traits; how it is set up and called is one module's business.
#[test]
fn only_the_codec_calls_bincode() {
    let calls = ["bincode::config", "encode_to_vec", "encode_into", "decode_from"];
    only_in(&["core/src/codec.rs"], &CRATES, &calls);
}

/// Monotonic time, for timeouts, is no secret and no fact; wall-clock time and randomness are arguments of the rules.
#[test]
fn only_the_clock_module_reads_time_and_randomness() {
    // The second one measures a sleep of the machine, which the ticking clock does not see, and tells nobody the time.
    let clocks = ["node/src/clock.rs", "store/src/postgres_store/waiting.rs"];
    only_in(&clocks, &CRATES, &["SystemTime"]);
    only_in(&["node/src/clock.rs"], &CRATES, &["clock_gettime"]);
    let sources = ["SysRng", "OsRng", "getrandom", "rand::"];
    only_in(&["node/src/clock.rs", "node/src/key_file.rs"], &CRATES, &sources);
}

/// Vector instructions need it; the rest of the workspace must not even be able to ask for it.
#[test]
fn only_lanes_has_unsafe_code() {
    let forbids = |manifest: &str| {
        let own = manifest.contains("unsafe_code = \"forbid\"");
        own || manifest.contains("[lints]\nworkspace = true")
    };
    for (path, text) in sources(&["toml"]) {
        let is_manifest = path.file_name().is_some_and(|name| name == "Cargo.toml");
        let is_lanes = path.parent().is_some_and(|parent| parent.ends_with("crates/lanes"));
        if is_manifest {
            assert_eq!(forbids(&text), !is_lanes, "{}", path.display());
        }
    }
    let word = word("uns", "afe");
    let has_word = |line: &str| {
        line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .any(|part| part == word)
    };
    for (path, text) in sources(&["rs"]) {
        let is_lanes = path.starts_with(workspace().join("crates").join("lanes"));
        for (line, number) in text.lines().zip(1..).filter(|_| !is_lanes) {
            let is_comment = line.trim_start().starts_with("//");
            assert!(is_comment || !has_word(line), "{}:{number}", path.display());
        }
    }
}

#[test]
fn net_knows_keys_and_no_message() {
    let objects = ["message", "hold", "quote", "book", "claim", "payee", "payer", "escrow"];
    let objects: Vec<String> = objects.iter().map(|name| format!("tombola_core::{name}")).collect();
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    only_in(&[], &["net"], &objects);
}

/// What comes in was verified before, and what goes out is signed afterwards, both by any core; replays verify again.
#[test]
fn the_ledger_decides_without_signatures() {
    let around = [
        "ledger/src/request.rs",
        "ledger/src/draft.rs",
        "ledger/src/audit/replay.rs",
        "ledger/src/audit/replay/hold.rs",
        "ledger/src/audit/replay/money.rs",
    ];
    only_in(
        &around,
        &["ledger"],
        &["SecretKey", "Signed::new", ".verify(", ".verify_by(", ".verify_bytes("],
    );
}

/// Tests run on servers, disks and the searches of the harness, and the harness depends on core and net alone.
///
/// `lanes <- core <- ledger <- store`, `{core, ledger, store, net} <- node <- {gateway, cli}`, and nothing back.
#[test]
fn crates_depend_in_one_direction() {
    let allowed: [(&str, &[&str]); 8] = [
        ("lanes", &[]),
        ("core", &["lanes"]),
        ("ledger", &["core"]),
        ("store", &["core", "ledger", "tests"]),
        ("net", &["core"]),
        ("node", &["core", "ledger", "store", "net", "tests"]),
        ("gateway", &["core", "ledger", "store", "net", "node"]),
        ("cli", &["core", "ledger", "store", "net", "node", "gateway", "tests"]),
    ];
    for (name, may) in allowed {
        let manifest = workspace().join("crates").join(name).join("Cargo.toml");
        let Ok(text) = std::fs::read_to_string(manifest) else {
            assert_eq!(name, "gateway", "only the gateway may still be missing");
            continue;
        };
        for dependency in own_dependencies(&text) {
            assert!(
                may.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn every_direct_dependency_says_in_deny_toml_why_it_is_there() {
    let root = std::fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    let table = root.split("[workspace.dependencies]").nth(1).unwrap();
    let table = table.split("\n[").next().unwrap();
    let deny = std::fs::read_to_string(workspace().join("deny.toml")).unwrap();
    let names = table
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name);
    for name in names.filter(|name| !name.starts_with("tombola-") && !name.starts_with('#')) {
        let says_why = |line: &str| {
            let rest = line.strip_prefix("# ").and_then(|line| line.strip_prefix(name));
            rest.is_some_and(|why| why.starts_with("  "))
        };
        assert!(deny.lines().any(says_why), "{name} is not justified in deny.toml");
    }
}

/// Our own crates that a manifest depends on, tests included, without their prefix.
fn own_dependencies(manifest: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let lines = manifest.lines().filter_map(|line| line.strip_prefix("tombola-"));
    lines
        .map(|rest| rest.chars().take_while(|c| is_name(*c)).collect())
        .collect()
}
