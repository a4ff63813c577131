//! The stages of `cargo xtask ci`, each a program or a check of our own.

use crate::{fuzz, planted, tasks};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tombola_tests::secrets;

/// A stage: its name, how long it may take on two cores with everything to be built, and what it does.
pub(crate) type Stage = (&'static str, Duration, fn(&Without) -> Result<(), Failure>);

/// What is left out because this machine lacks it, and said to be so.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Without {
    /// Leaves out the tests that need this, and says so.
    #[arg(long = "without", value_name = "WHAT", value_parser = ["postgres", "interop", "faketime", "mounts", "strace", "netns", "ipv6", "root"])]
    names: Vec<String>,
}

/// Every test of the workspace.
pub(crate) const TESTS: Stage = ("tests", seconds(420), tests);
/// Every example in the documentation.
pub(crate) const DOCTESTS: Stage = ("doctests", seconds(15), doctests);

/// The release of cargo-deny that is installed where there is none: its checks change between releases.
const DENY_VERSION: &str = "0.20.2";

/// Threads of the tests for each processor: a test takes two, and waits for a disk or a server half of its time; one that
/// sits out somebody's patience takes one (`.config/nextest.toml`).
const THREADS_PER_PROCESSOR: usize = 4;

/// All stages, cheap before dear.
pub(crate) const ALL: &[Stage] = &[
    ("fmt", seconds(5), |_| fmt()),
    ("deny", seconds(5), |_| deny()),
    ("clippy", seconds(100), |_| clippy()),
    ("doc", seconds(20), |_| doc()),
    ("vectors", seconds(5), |_| tasks::check_vectors()),
    ("codes", seconds(5), |_| tasks::check_codes()),
    TESTS,
    DOCTESTS,
    ("planted", seconds(450), |_| planted::run(&[])),
    ("fuzz", seconds(380), |_| fuzz::run(&fuzz::Options::default())),
];

const fn seconds(budget: u64) -> Duration {
    Duration::from_secs(budget)
}

/// The stages of these names, or all if none is named.
pub(crate) fn selected(names: &[String]) -> Vec<Stage> {
    let is_wanted = |(name, ..): &&Stage| names.is_empty() || names.iter().any(|wanted| wanted == name);
    ALL.iter().filter(is_wanted).copied().collect()
}

/// Why a stage failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A figure could not be measured.
    Bench(String),
    /// A program ended with another status than 0.
    Program(String),
    /// A check of our own did not hold.
    Check(String),
    /// A program or file could not be used.
    Io(std::io::Error),
    /// Stages failed, by name.
    Stages(Vec<&'static str>),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bench(what) => f.write_str(what),
            Self::Program(program) => write!(f, "failed: {program}"),
            Self::Check(what) => f.write_str(what),
            Self::Io(error) => write!(f, "{error}"),
            Self::Stages(names) => write!(f, "failed stages: {}", names.join(", ")),
        }
    }
}

/// Runs every stage, even after a failure, so that one run shows all there is to mend.
pub(crate) fn run(stages: &[Stage], without: &Without) -> Result<(), Failure> {
    let began = Instant::now();
    let mut lines = Vec::new();
    let mut failed = Vec::new();
    for (name, budget, stage) in stages {
        println!("== {name}");
        let stage_began = Instant::now();
        let verdict = match stage(without) {
            Ok(()) => "ok",
            Err(failure) => {
                eprintln!("{name}: {failure}");
                failed.push(*name);
                "FAILED"
            }
        };
        lines.push(line(name, stage_began.elapsed(), *budget, verdict));
    }
    println!("== times");
    let budget = stages.iter().map(|(_, budget, _)| *budget).sum();
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    lines.push(line("total", began.elapsed(), budget, verdict));
    for line in lines {
        println!("{line}");
    }
    for name in &without.names {
        println!("NOT RUN: {name}");
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::Stages(failed))
    }
}

/// How long a stage took of what it may take: a slow machine fails no change, but is seen.
fn line(name: &str, took: Duration, budget: Duration, verdict: &str) -> String {
    let over = if took > budget { ", over its time" } else { "" };
    let (took, budget) = (took.as_secs_f64(), budget.as_secs());
    format!("{name:<10} {took:>8.1} s of {budget:>5} s  {verdict}{over}")
}

fn fmt() -> Result<(), Failure> {
    cargo(&["fmt", "--all", "--check"])
}

fn clippy() -> Result<(), Failure> {
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ])
}

fn doc() -> Result<(), Failure> {
    let mut command = cargo_command(&[
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--locked",
    ]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    finish(&mut command)
}

fn tests(without: &Without) -> Result<(), Failure> {
    let is_nextest = is_installed("nextest");
    let secrets = target_directory().join("secrets");
    match std::fs::remove_file(&secrets) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Failure::Io(error)),
        _ => {}
    }
    let mut command = if is_nextest {
        let threads = THREADS_PER_PROCESSOR * std::thread::available_parallelism().map_or(1, usize::from);
        let mut command = cargo_command(&["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]);
        command.arg("--test-threads").arg(threads.to_string());
        command
    } else {
        println!("cargo-nextest is not installed; using cargo test");
        cargo_command(&[
            "test",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
            "--locked",
            "--no-fail-fast",
        ])
    };
    if !without.names.is_empty() {
        command.env(tombola_tests::without::WITHOUT, without.names.join(","));
    }
    finish(command.env(secrets::SECRETS, &secrets))?;
    if is_nextest {
        // nextest keeps this here wherever cargo builds to.
        let output = tombola_tests::workspace().join("target/nextest/default/junit.xml");
        return search_output(&secrets, &output);
    }
    println!("NOT RUN: the search of the output for secrets, as cargo test keeps none");
    Ok(())
}

/// No key that a process of the tests made is in what any of them said.
fn search_output(keys: &Path, output: &Path) -> Result<(), Failure> {
    let output = std::fs::read(output).map_err(Failure::Io)?;
    let searched = secrets::search(keys, &String::from_utf8_lossy(&output)).map_err(Failure::Io)?;
    let (keys, seen, bytes) = (searched.keys, searched.seen, output.len());
    println!("{bytes} bytes of output searched for {keys} secret keys; of {seen} the public part is there");
    if keys == 0 || seen < keys {
        return Err(Failure::Check("not all that the nodes said was searched".into()));
    }
    match searched.found.as_slice() {
        [] => Ok(()),
        found => Err(Failure::Check(format!("secrets in the output: {}", found.join(", ")))),
    }
}

fn doctests(_: &Without) -> Result<(), Failure> {
    cargo(&["test", "--workspace", "--doc", "--locked"])
}

fn deny() -> Result<(), Failure> {
    if !is_installed("deny") {
        println!("cargo-deny is not installed; installing it takes some minutes, once");
        cargo(&["install", "cargo-deny", "--version", DENY_VERSION, "--locked"])?;
    }
    // The advisory database is not reachable everywhere this runs; deny.toml records what is known.
    cargo(&["deny", "--locked", "check", "licenses", "bans", "sources"])
}

/// Where cargo builds to.
pub(crate) fn target_directory() -> PathBuf {
    let (root, given) = (tombola_tests::workspace(), std::env::var_os("CARGO_TARGET_DIR"));
    // A relative one is relative to where cargo was started, which is here.
    given.map_or_else(|| root.join("target"), |given| root.join(given))
}

/// Whether a cargo subcommand is there.
pub(crate) fn is_installed(subcommand: &str) -> bool {
    let mut command = cargo_command(&[subcommand, "--version"]);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

pub(crate) fn cargo(arguments: &[&str]) -> Result<(), Failure> {
    finish(&mut cargo_command(arguments))
}

fn cargo_command(arguments: &[&str]) -> Command {
    let mut command = tombola_tests::cargo::cargo();
    command.args(arguments).current_dir(tombola_tests::workspace());
    command
}

fn finish(command: &mut Command) -> Result<(), Failure> {
    let status = command.status().map_err(Failure::Io)?;
    if status.success() {
        return Ok(());
    }
    let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
    Err(Failure::Program(format!("cargo {}", arguments.join(" "))))
}
