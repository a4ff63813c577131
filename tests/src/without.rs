//! What this machine lacks, and whoever runs the tests said so: nothing is left out silently.

/// Names what is left out, separated by commas; `cargo xtask ci --without NAME` sets it.
pub const WITHOUT: &str = "TOMBOLA_WITHOUT";

/// Whether tests that need this are left out; says so if they are.
#[must_use]
pub fn is_without(what: &str) -> bool {
    let names = std::env::var(WITHOUT).unwrap_or_default();
    let is_without = names.split(',').any(|name| name == what);
    if is_without {
        println!("NOT RUN: {what}");
    }
    is_without
}
