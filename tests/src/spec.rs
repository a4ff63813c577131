//! Reads `proto-spec.md`: its clauses, its table of codes, and what the sources cite of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The text of the specification.
///
/// # Errors
/// Whatever reading the file gives.
pub fn text(workspace: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(workspace.join("proto-spec.md"))
}

/// The ids of all clauses, and of the rows of the table of outages: a clause opens its line in bold, a row its table.
#[must_use]
pub fn clauses(spec: &str) -> Vec<String> {
    let opened = |line: &str| {
        let rest = line.strip_prefix("**").or_else(|| line.strip_prefix("| "))?;
        let id = rest.get(..4)?;
        let closes = rest.get(4..)?.starts_with("**") || rest.get(4..)?.starts_with(" |");
        (closes && is_id(id)).then(|| id.to_string())
    };
    spec.lines().filter_map(opened).collect()
}

/// Number and name of each row of the table of codes in clause X-01.
#[must_use]
pub fn codes(spec: &str) -> BTreeMap<u16, String> {
    let table = spec.split("**X-01**").nth(1).unwrap_or_default();
    let table = table.split("**X-02**").next().unwrap_or_default();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let number = cells.next()?.parse().ok()?;
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((number, name.to_string()))
    };
    table.lines().filter_map(row).collect()
}

/// Every clause id that a source of the workspace cites, with the first file that does.
///
/// # Errors
/// Whatever reading the sources gives.
pub fn cited(workspace: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut cited = BTreeMap::new();
    for directory in ["crates", "tests"] {
        for path in crate::files_below(&workspace.join(directory), &["rs"])? {
            let source = std::fs::read_to_string(&path)?;
            for id in citations(&source) {
                let file = path.strip_prefix(workspace).unwrap_or(&path).display();
                cited.entry(id).or_insert_with(|| file.to_string());
            }
        }
    }
    Ok(cited)
}

/// Every clause id that a test cites in a comment, and those of the vectors that must be refused.
///
/// # Errors
/// Whatever reading the sources gives.
pub fn tested(workspace: &Path) -> std::io::Result<BTreeSet<String>> {
    let mut tested = BTreeSet::new();
    for (_, source) in crate::codes::test_sources(workspace)? {
        tested.extend(comments(&source).flat_map(citations));
    }
    let vectors = crate::vectors::load("invalid.json");
    let clause = |vector: &serde_json::Value| vector["clause"].as_str().map(str::to_string);
    tested.extend(vectors.iter().filter_map(clause));
    Ok(tested)
}

/// The lines that are comments.
fn comments(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter(|line| line.trim_start().starts_with("//"))
}

/// Ids after the word that introduces them, up to the end of the sentence or line.
fn citations(source: &str) -> BTreeSet<String> {
    let sentences = source.split("Spec: ").skip(1);
    let listed = sentences.filter_map(|rest| rest.lines().next()?.split('.').next());
    listed
        .flat_map(|list| list.split(|c: char| !c.is_ascii_alphanumeric() && c != '-'))
        .filter(|word| is_id(word))
        .map(str::to_string)
        .collect()
}

/// A capital letter, a hyphen, two digits.
fn is_id(word: &str) -> bool {
    matches!(word.as_bytes(), [letter, b'-', tens, ones]
        if letter.is_ascii_uppercase() && tens.is_ascii_digit() && ones.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_open_lines_and_rows_open_tables() {
        assert_eq!(
            clauses("**T-02** x\nT-03\n| W-01 | payer |\n**bold**"),
            ["T-02", "W-01"]
        );
    }

    #[test]
    fn only_comments_cite() {
        let source = "    /// Spec: T-02.\n    let text = \"Spec: T-03.\";";
        assert_eq!(comments(source).collect::<Vec<_>>(), ["    /// Spec: T-02."]);
    }

    #[test]
    fn citations_are_listed_up_to_the_end_of_their_sentence() {
        let ids = citations("/// Walks. Spec: T-02, B-16. See T-99\n/// Spec: E-01 to E-06.");
        let expected = ["B-16", "E-01", "E-06", "T-02"].map(str::to_string);
        assert_eq!(ids, BTreeSet::from(expected));
    }
}
