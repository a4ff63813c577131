//! Which error codes have a test: a code counts when test code names it, or an invalid vector must get it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tombola_core::reject::Code;

/// The codes that no test names.
///
/// # Errors
/// Whatever reading the sources gives.
pub fn untested(workspace: &Path) -> std::io::Result<Vec<Code>> {
    let tested = tested(workspace)?;
    Ok(Code::ALL
        .iter()
        .copied()
        .filter(|code| !tested.contains(code))
        .collect())
}

/// The codes that tests name, as `Code::Variant` or as `"name"`, and those of the invalid vectors.
fn tested(workspace: &Path) -> std::io::Result<BTreeSet<Code>> {
    let mut codes = BTreeSet::new();
    for (path, source) in test_sources(workspace)? {
        // It names every code without testing any.
        if !path.ends_with("tests/it/spec.rs") {
            codes.extend(Code::ALL.iter().filter(|code| names(&source, **code)));
        }
    }
    let invalid = std::fs::read_to_string(workspace.join("tests/vectors/invalid.json"))?;
    let expects = |code: &&Code| invalid.contains(&format!("\"code\": \"{}\"", code.name()));
    codes.extend(Code::ALL.iter().filter(expects));
    Ok(codes)
}

/// Test code with its file: files in `tests/it` and of `tests` modules, and what follows `#[cfg(test)]` at the end of a
/// file.
///
/// # Errors
/// Whatever reading the sources gives.
pub(crate) fn test_sources(workspace: &Path) -> std::io::Result<Vec<(PathBuf, String)>> {
    let mut sources = Vec::new();
    for path in crate::files_below(&workspace.join("tests/it"), &["rs"])? {
        // The driver plays the parties and answers codes as they do.
        if !is_harness(path.strip_prefix(workspace).unwrap_or(&path)) {
            let text = std::fs::read_to_string(&path)?;
            sources.push((path, text));
        }
    }
    for path in crate::files_below(&workspace.join("crates"), &["rs"])? {
        let text = std::fs::read_to_string(&path)?;
        if is_test_file(path.strip_prefix(workspace).unwrap_or(&path)) {
            sources.push((path, text));
        } else if let Some((_, tests)) = text.split_once("#[cfg(test)]\nmod tests {") {
            sources.push((path, tests.to_string()));
        }
    }
    Ok(sources)
}

/// Whether a file of `tests/it` is the in-memory driver and no test.
fn is_harness(path: &Path) -> bool {
    path.starts_with("tests/it/pair")
}

fn is_test_file(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

fn names(source: &str, code: Code) -> bool {
    let variant = format!("Code::{code:?}");
    let is_whole = |(at, found): (usize, &str)| {
        let next = source[at + found.len()..].chars().next();
        !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
    };
    source.match_indices(&variant).any(is_whole) || source.contains(&format!("\"{}\"", code.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_of_the_parties_is_no_test() {
        assert!(is_harness(Path::new("tests/it/pair/buyer.rs")));
        assert!(!is_harness(Path::new("tests/it/fairness.rs")));
    }

    #[test]
    fn a_code_is_named_whole_or_not_at_all() {
        assert!(names("assert_eq!(e.code, Code::BookIdle);", Code::BookIdle));
        assert!(!names("Code::BookIdleness", Code::BookIdle));
        assert!(names("code == \"busy\"", Code::Busy));
        assert!(!names("busy", Code::Busy));
    }
}
