//! Cargo, run by what cargo itself has started.

use std::process::Command;

/// What cargo tells a program that it starts about the program's own package.
const OF_A_PACKAGE: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// The cargo that started this program, or the one on the path, in the environment of the terminal: build scripts that
/// depend on the name of their package (ring's) would otherwise run anew, and all that stands on them be built anew.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let is_of_a_package = |name: &str| OF_A_PACKAGE.iter().any(|prefix| name.starts_with(prefix));
        if name.to_str().is_some_and(is_of_a_package) {
            command.env_remove(name);
        }
    }
    command
}
