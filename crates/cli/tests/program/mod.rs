//! Runs the program that cargo built with the test, without a terminal.

use serde_json::Value;
use std::process::{Command, Stdio};

pub(crate) fn tombola() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tombola"));
    command.stdin(Stdio::null()).env_remove("TOMBOLA_LOG");
    command
}

/// Runs a command with --json and gives its exit code and its one object, which is all that it prints, also where it
/// fails.
pub(crate) fn json(args: &[&str]) -> (i32, Value) {
    let output = tombola().arg("--json").args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let shown = String::from_utf8_lossy(&output.stderr);
    let value = serde_json::from_str(&text);
    let value = value.unwrap_or_else(|error| panic!("{args:?}: {error}: {text:?} {shown}"));
    (output.status.code().unwrap(), value)
}
