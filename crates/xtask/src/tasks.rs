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

/// Every error code of the spec has a test.
pub(crate) fn check_codes() -> Result<(), Failure> {
    let missing = codes::untested(&tombola_tests::workspace()).map_err(Failure::Io)?;
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|code| code.name()).collect();
    Err(Failure::Check(format!(
        "no test names these codes: {}",
        names.join(", ")
    )))
}
