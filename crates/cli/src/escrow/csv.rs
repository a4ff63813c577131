//! Lines of values as spreadsheets write them (RFC 4180).

/// One line, without its end.
pub(super) fn line(fields: &[&str]) -> String {
    let quoted = |field: &&str| {
        // A spreadsheet takes a text that begins like this for a formula and runs it, and the texts are strangers'.
        let field = match field.starts_with(['=', '+', '-', '@', '\t']) {
            true => format!("'{field}"),
            false => (*field).to_owned(),
        };
        match field.contains([',', '"', '\n', '\r', ' ']) {
            true => format!("\"{}\"", field.replace('"', "\"\"")),
            false => field,
        }
    };
    fields.iter().map(quoted).collect::<Vec<_>>().join(",")
}

/// The values of one line; nothing if a quote is not closed or has something behind it.
pub(super) fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line.trim_end_matches('\r');
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(open) => quoted_field(open)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, after) = rest.split_at(end);
                (field.trim().to_owned(), after)
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

/// What is between quotes, and what is behind them.
fn quoted_field(mut rest: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Some((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for all in [["a", "b"], ["a,b", ""], ["say \"hi\"", " x "], ["", ""]] {
            assert_eq!(fields(&line(&all)), Some(all.map(str::to_owned).to_vec()));
        }
        assert_eq!(line(&["a b", "c"]), "\"a b\",c");
        assert_eq!(
            fields("1, paid ,x\r"),
            Some(vec!["1".into(), "paid".into(), "x".into()])
        );
        for wrong in ["\"a", "\"a\"b", "1,\"a\"\"x"] {
            assert_eq!(fields(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_stranger_writes_no_formula_into_a_spreadsheet() {
        assert_eq!(line(&["=1+1", "-2", "+a", "@b"]), "'=1+1,'-2,'+a,'@b");
    }
}
