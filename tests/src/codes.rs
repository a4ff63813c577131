//! Which error codes have a test: a code counts when test code names it, or an invalid vector must get it.

use serde_json::Value;
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

/// What is wrong with the table of X-06 in `proto-spec.md`: each code has a row, whose test is there, is run, and names
/// the code without supplying it, takes it from the vector that the row names, or is a case of `tests/interop`.
///
/// # Errors
/// Whatever reading the files gives.
pub fn untrue_rows(workspace: &Path) -> std::io::Result<Vec<String>> {
    let rows = provoked(&crate::spec::text(workspace)?);
    let invalid = std::fs::read_to_string(workspace.join("tests/vectors/invalid.json"))?;
    let vectors: Value = serde_json::from_str(&invalid).map_err(std::io::Error::other)?;
    let mut untrue = Vec::new();
    for code in Code::ALL {
        match rows.iter().find(|row| row.code == code.name()) {
            None => untrue.push(format!("{code}: no row in X-06")),
            Some(row) => untrue.extend(
                row.fault(*code, workspace, &vectors)
                    .map(|why| format!("{code}: {why}")),
            ),
        }
    }
    let is_known = |row: &&Provoked| Code::ALL.iter().any(|code| code.name() == row.code);
    untrue.extend(
        rows.iter()
            .filter(|row| !is_known(row))
            .map(|row| format!("{}: no such code", row.code)),
    );
    Ok(untrue)
}

/// A row of X-06.
#[derive(Debug, PartialEq, Eq)]
struct Provoked {
    code: String,
    input: String,
    test: String,
}

/// The rows of X-06: three columns, the first and the last one in backticks.
fn provoked(spec: &str) -> Vec<Provoked> {
    let table = spec.split_once("**X-06**").map_or("", |(_, after)| after);
    let table = table.split_once("\n## ").map_or(table, |(table, _)| table);
    let quoted = |cell: &str| Some(cell.strip_prefix('`')?.strip_suffix('`')?.to_owned());
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let [code, input, test] = cells.as_slice() else {
            return None;
        };
        Some(Provoked {
            code: quoted(code)?,
            input: (*input).to_owned(),
            test: quoted(test)?,
        })
    };
    table.lines().filter_map(row).collect()
}

impl Provoked {
    fn fault(&self, code: Code, workspace: &Path, vectors: &Value) -> Option<String> {
        let Some((path, name)) = self.test.split_once("::") else {
            return Some(format!("{} is not a file::test", self.test));
        };
        let Ok(source) = std::fs::read_to_string(workspace.join(path)) else {
            return Some(format!("there is no {path}"));
        };
        // The second implementation says at each input which code must come back, and is run by `tests/it/interop.rs`.
        if path.ends_with(".py") {
            return (!is_case(&source, name, code)).then(|| format!("{path} has no case {name} of this code"));
        }
        let Some(body) = test_body(&source, name) else {
            return Some(format!("{path} runs no test {name}"));
        };
        match self.input.strip_prefix("vector: ") {
            Some(vector) => {
                let is_it = |one: &Value| one["name"] == vector && one["code"] == code.name();
                let found = vectors["vectors"].as_array().is_some_and(|all| all.iter().any(is_it));
                (!found).then(|| format!("no vector {vector:?} with this code"))
            }
            None if supplies(body, code) => Some(format!("{name} supplies the code itself")),
            None => (!names(body, code)).then(|| format!("{name} does not name the code")),
        }
    }
}

/// Whether a Python function stands under `@case(Code.NAME, ...)`.
fn is_case(source: &str, name: &str, code: Code) -> bool {
    let Some((before, _)) = source.split_once(&format!("\nasync def {name}(")) else {
        return false;
    };
    let decorator = before.rsplit_once('\n').map_or(before, |(_, line)| line);
    decorator.starts_with(&format!("@case(Code.{},", code.name().to_uppercase()))
}

/// Whether a test closes something with the code that it then finds: it would prove nothing about who gives that code.
fn supplies(body: &str, code: Code) -> bool {
    let variant = format!("Code::{code:?}");
    let statements = body.split([';', '{', '}']);
    let mut closing = statements.filter_map(|statement| statement.split_once(".close("));
    closing.any(|(_, given)| given.contains(&variant))
}

/// The text of a test that is run: by an attribute of its own, or on each store.
fn test_body<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    let (before, body) = source.split_once(&format!("fn {name}"))?;
    if !body.starts_with(['(', '<']) {
        return None;
    }
    let attributes = before.rsplit_once('}').map_or(before, |(_, after)| after);
    let is_listed = || {
        let (_, list) = source.split_once("on_each_store! {")?;
        let (list, _) = list.split_once('}')?;
        list.split_whitespace().any(|listed| listed == name).then_some(())
    };
    let is_run = attributes.contains("#[test]") || attributes.contains("#[tokio::test") || is_listed().is_some();
    let line = before.rsplit_once('\n').map_or(before, |(_, line)| line);
    let indent = &line[..line.len() - line.trim_start().len()];
    let end = body.find(&format!("\n{indent}}}")).unwrap_or(body.len());
    is_run.then(|| &body[..end])
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

    const SPEC: &str =
        "**X-06** Each.\n\n| code | by | test |\n| --- | --- | --- |\n| `busy` | much | `a.rs::b` |\n\n## 20. L\n";

    #[test]
    fn a_row_names_a_code_its_input_and_a_test() {
        let row = Provoked {
            code: "busy".to_owned(),
            input: "much".to_owned(),
            test: "a.rs::b".to_owned(),
        };
        assert_eq!(provoked(SPEC), [row]);
    }

    #[test]
    fn a_test_counts_if_it_is_run() {
        let source = "on_each_store! {\n    on_all\n}\n\nfn on_all<S>() {\n    Code::Busy\n}\n\n#[test]\nfn alone() {\n    \
                      Code::Malformed\n}\n\nfn helper() {\n}\n";
        assert!(names(test_body(source, "on_all").unwrap(), Code::Busy));
        let alone = test_body(source, "alone").unwrap();
        assert!(names(alone, Code::Malformed) && !names(alone, Code::Busy));
        assert_eq!((test_body(source, "helper"), test_body(source, "alo")), (None, None));
    }

    #[test]
    fn a_row_that_names_another_test_or_vector_is_untrue() {
        let row = |input: &str, test: &str| Provoked {
            code: "busy".to_owned(),
            input: input.to_owned(),
            test: test.to_owned(),
        };
        let vectors = serde_json::json!({"vectors": [{"name": "much", "code": "busy"}]});
        let fault = |row: Provoked| row.fault(Code::Busy, &crate::workspace(), &vectors);
        let own = "tests/src/codes.rs::a_test_counts_if_it_is_run";
        assert_eq!(fault(row("vector: much", own)), None);
        assert_eq!(fault(row("much", own)), None);
        assert!(fault(row("vector: little", own)).is_some());
        assert!(fault(row("much", "tests/src/codes.rs::no_such_test")).is_some());
        assert!(fault(row("much", "tests/src/none.rs::a")).is_some());
        assert!(fault(row("much", "tests/src/codes.rs::the_driver_of_the_parties_is_no_test")).is_some());
    }

    #[test]
    fn a_test_that_supplies_the_code_is_no_test_of_it() {
        assert!(supplies(
            "let a = 1;\n book.close(\n    Reject::of(Code::Busy),\n);",
            Code::Busy
        ));
        assert!(!supplies("book.close(); assert_eq!(code, Code::Busy);", Code::Busy));
        assert!(!supplies("book.close(Reject::of(Code::BookIdle));", Code::Busy));
    }

    #[test]
    fn a_case_of_the_second_implementation_stands_under_its_code() {
        let source =
            "@case(Code.BUSY, \"payee\")\nasync def much(stage):\n    pass\n\nasync def other(stage):\n    pass\n";
        assert!(is_case(source, "much", Code::Busy) && !is_case(source, "much", Code::BookIdle));
        assert!(!is_case(source, "other", Code::Busy) && !is_case(source, "none", Code::Busy));
    }

    #[test]
    fn a_code_is_named_whole_or_not_at_all() {
        assert!(names("assert_eq!(e.code, Code::BookIdle);", Code::BookIdle));
        assert!(!names("Code::BookIdleness", Code::BookIdle));
        assert!(names("code == \"busy\"", Code::Busy));
        assert!(!names("busy", Code::Busy));
    }
}
