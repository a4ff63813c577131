//! Tasks that need no other program.

use crate::ci::Failure;
use tombola_tests::{codes, vectors};

/// Writes every vector file.
pub(crate) fn write_vectors() -> Result<(), Failure> {
    let directory = vectors::directory();
    vectors::write(&directory).map_err(Failure::Io)?;
    println!("wrote {} files to {}", vectors::generate().len(), directory.display());
    Ok(())
}

/// Compares every vector file with what the generator makes.
pub(crate) fn check_vectors() -> Result<(), Failure> {
    match vectors::difference(&vectors::directory()) {
        None => Ok(()),
        Some(difference) => Err(Failure::Check(format!(
            "vectors differ: {difference}; run `cargo xtask vectors` if that is meant"
        ))),
    }
}

/// Every error code of the spec has a test, and the table says which.
pub(crate) fn check_codes() -> Result<(), Failure> {
    let workspace = tombola_tests::workspace();
    let missing = codes::untested(&workspace).map_err(Failure::Io)?;
    let mut wrong: Vec<String> = missing.iter().map(|code| format!("{code}: no test names it")).collect();
    wrong.extend(codes::untrue_rows(&workspace).map_err(Failure::Io)?);
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::Check(format!(
        "proto-spec.md, X-06:\n  {}",
        wrong.join("\n  ")
    )))
}
