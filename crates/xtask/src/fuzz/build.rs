//! Building the targets: with nightly where there is one, and with the address sanitizer where it works.

use crate::ci::{Failure, cargo, is_installed};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The release of cargo-fuzz that is installed where there is none.
const CARGO_FUZZ_VERSION: &str = "0.13.1";

/// Programs that were built, one for each target.
#[derive(Debug)]
pub(crate) struct Programs {
    directory: PathBuf,
    compiler: Compiler,
    sanitizer: &'static str,
}

/// The sanitizer and the coverage that libfuzzer needs are unstable flags of the compiler.
#[derive(Debug, Clone, Copy)]
enum Compiler {
    Nightly,
    /// The pinned compiler, told to take unstable flags.
    Bootstrapped,
}

impl Programs {
    /// Builds every target; installs cargo-fuzz first where it is missing.
    pub(crate) fn build(directory: &Path) -> Result<Self, Failure> {
        if !is_installed("fuzz") {
            println!("cargo-fuzz is not installed; installing it takes some minutes, once");
            cargo(&["install", "cargo-fuzz", "--version", CARGO_FUZZ_VERSION, "--locked"])?;
        }
        let compiler = if has_nightly() {
            Compiler::Nightly
        } else {
            Compiler::Bootstrapped
        };
        let mut failed = Failure::Program("cargo fuzz build".to_owned());
        for sanitizer in ["address", "none"] {
            match build_with(directory, compiler, sanitizer) {
                Ok(triple) => {
                    return Ok(Self {
                        directory: directory.join("build").join(triple).join("release"),
                        compiler,
                        sanitizer,
                    });
                }
                Err(failure) => failed = failure,
            }
        }
        Err(failed)
    }

    /// The program of a target.
    pub(crate) fn path(&self, target: &str) -> PathBuf {
        self.directory.join(target)
    }

    /// How they were built, for people.
    pub(crate) fn how(&self) -> String {
        let compiler = match self.compiler {
            Compiler::Nightly => "nightly",
            Compiler::Bootstrapped => "stable with RUSTC_BOOTSTRAP=1",
        };
        format!("{compiler}, sanitizer: {}", self.sanitizer)
    }
}

fn has_nightly() -> bool {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "rustc", "--version"]);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Runs `cargo fuzz build` and gives the triple that it built for.
fn build_with(directory: &Path, compiler: Compiler, sanitizer: &str) -> Result<String, Failure> {
    let mut command = match compiler {
        Compiler::Nightly => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo"]);
            command
        }
        Compiler::Bootstrapped => {
            let mut command = tombola_tests::cargo::cargo();
            command.env("RUSTC_BOOTSTRAP", "1");
            command
        }
    };
    let triple = host()?;
    command
        .args(["fuzz", "build", "--fuzz-dir", "crates/fuzz", "--features", "libfuzzer"])
        .args(["--sanitizer", sanitizer, "--target", &triple, "--target-dir"])
        .arg(directory.join("build"))
        .current_dir(tombola_tests::workspace())
        // One whole-program pass for each of the targets would take longer than they run.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        // To optimise more takes longer than what is won in the seconds that each runs.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        // Lines are all that a report shows; cargo-fuzz asks for everything, and what comes last counts.
        .env("RUSTFLAGS", "-Cdebuginfo=line-tables-only");
    for inherited in ["RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC", "CARGO_TARGET_DIR"] {
        command.env_remove(inherited);
    }
    let status = command.status().map_err(Failure::Io)?;
    if status.success() {
        return Ok(triple);
    }
    Err(Failure::Program(format!("cargo fuzz build --sanitizer {sanitizer}")))
}

/// The triple of this machine, as the compiler says it.
fn host() -> Result<String, Failure> {
    let output = Command::new("rustc").arg("-vV").output().map_err(Failure::Io)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| Failure::Program("rustc -vV".to_owned()))
}
