//! Every statement has one of a few forms, in which names and casts vary and nothing else.

use tombola_store::postgres_store::statement;

/// `#` is a name or a number, `$` a parameter, `,..` repeats the list before it.
const ALLOWED: &[&str] = &[
    "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "COMMIT",
    "ROLLBACK",
    "SHOW #",
    "SET # = #",
    "CREATE TABLE IF NOT EXISTS # ( COLUMNS , PRIMARY KEY ( NAMES ) )",
    "INSERT INTO # ( NAMES ) VALUES ( # )",
    "INSERT INTO # ( NAMES ) SELECT * FROM UNNEST ( ARRAYS )",
    "UPDATE # AS # SET # = # , # = # FROM ( SELECT * FROM UNNEST ( ARRAYS ) AS # ( NAMES ) ) AS # \
     WHERE # = # AND # = # AND # = #",
    "DELETE FROM # AS # USING ( SELECT * FROM UNNEST ( ARRAYS ) AS # ( NAMES ) ) AS # \
     WHERE # = # AND # = # AND # = #",
    "SELECT COUNT ( * ) FROM UNNEST ( ARRAYS ) AS # ( NAMES ) LEFT JOIN # AS # ON # = # AND # = # \
     WHERE COALESCE ( # , # ) = #",
    "SELECT NAMES FROM UNNEST ( ARRAYS ) AS # ( NAMES ) JOIN # AS # ON # = # AND # = #",
    "SELECT NAMES FROM # WHERE # = $ AND # = $ FOR UPDATE",
    "SELECT NAMES FROM # WHERE ( NAMES ) >= ( $ , $ ) AND ( NAMES ) <= ( $ , $ ) ORDER BY NAMES LIMIT $",
    "SELECT MAX ( # ) FROM #",
    "SELECT CAST ( EXTRACT ( EPOCH FROM CURRENT_TIMESTAMP ) * # AS BIGINT )",
    "SELECT CAST ( # AS TEXT ) , CAST ( # AS TEXT ) , CAST ( # AS TEXT ) FROM INFORMATION_SCHEMA.COLUMNS \
     WHERE # = CURRENT_SCHEMA ( ) AND # = ANY ( $ )",
];

/// Words that begin what other engines have not, or what would hide work in the server.
const FORBIDDEN: &[&str] = &[
    "TRIGGER",
    "FUNCTION",
    "PROCEDURE",
    "DO",
    "LISTEN",
    "NOTIFY",
    "SEQUENCE",
    "SERIAL",
    "NEXTVAL",
    "RETURNING",
    "LOCK",
    "EXTENSION",
    "RULE",
    "VIEW",
    "INDEX",
    "COPY",
    "CALL",
    "EXECUTE",
    "WITH",
];

fn tokens(sql: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut is_open = false;
    for c in sql.chars() {
        let is_word = c.is_ascii_alphanumeric() || "_.$[]".contains(c);
        let is_sign = "<>=".contains(c);
        let joins = tokens.last().and_then(|last| last.chars().last()).is_some_and(|last| {
            is_open
                && (is_word && (last.is_ascii_alphanumeric() || "_.$[]".contains(last))
                    || is_sign && "<>=".contains(last))
        });
        if c.is_whitespace() {
            is_open = false;
            continue;
        }
        match tokens.last_mut() {
            Some(last) if joins => last.push(c),
            _ => tokens.push(c.to_string()),
        }
        is_open = true;
    }
    tokens
}

fn is_parameter(token: &str) -> bool {
    token
        .strip_prefix('$')
        .is_some_and(|number| number.parse::<u8>().is_ok())
}

/// Lower-case names, qualified by at most one, and plain numbers.
fn is_name(token: &str) -> bool {
    token
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.')
}

/// How many tokens a word of a form takes up, if it fits.
fn fit(word: &str, rest: &[String]) -> Option<usize> {
    let list = |item: &[fn(&str) -> bool]| -> Option<usize> {
        let mut at = 0;
        loop {
            let next = rest.get(at..at + item.len())?;
            if !next.iter().zip(item).all(|(token, is_part)| is_part(token)) {
                return (at > 0).then(|| at - 1);
            }
            at += item.len();
            match rest.get(at) {
                Some(token) if token == "," => at += 1,
                _ => return Some(at),
            }
        }
    };
    match word {
        "NAMES" => list(&[is_name]),
        "ARRAYS" => list(&[
            |t| t == "CAST",
            |t| t == "(",
            is_parameter,
            |t| t == "AS",
            |t| t == "BIGINT[]" || t == "BYTEA[]",
            |t| t == ")",
        ]),
        "COLUMNS" => list(&[
            is_name,
            |t| t == "BIGINT" || t == "BYTEA",
            |t| t == "NOT",
            |t| t == "NULL",
        ]),
        "#" => is_name(rest.first()?).then_some(1),
        "$" => is_parameter(rest.first()?).then_some(1),
        word => rest.first()?.eq_ignore_ascii_case(word).then_some(1),
    }
}

fn is_of_form(form: &str, tokens: &[String]) -> bool {
    let mut rest = tokens;
    for word in form.split_whitespace() {
        let Some(taken) = fit(word, rest) else {
            return false;
        };
        rest = &rest[taken..];
    }
    rest.is_empty()
}

#[test]
fn every_statement_has_an_allowed_form() {
    let all = statement::all();
    assert!(all.len() > 100);
    for sql in &all {
        let tokens = tokens(sql);
        assert!(ALLOWED.iter().any(|form| is_of_form(form, &tokens)), "{sql}");
        let word = tokens
            .iter()
            .find(|token| FORBIDDEN.contains(&token.to_uppercase().as_str()));
        assert_eq!(word, None, "{sql}");
    }
    for form in ALLOWED {
        assert!(
            all.iter().any(|sql| is_of_form(form, &tokens(sql))),
            "nothing has the form {form}"
        );
    }
}

#[test]
fn what_is_not_portable_has_no_allowed_form() {
    for sql in [
        "SELECT pg_advisory_lock(1)",
        "LISTEN tombola",
        "CREATE SEQUENCE s",
        "INSERT INTO t (a) SELECT * FROM UNNEST(CAST($1 AS BIGINT[])) RETURNING a",
        "UPDATE t SET a = 1",
        "COMMIT; DROP TABLE t",
        "CREATE TABLE IF NOT EXISTS t (a BIGSERIAL NOT NULL, PRIMARY KEY (a))",
    ] {
        assert!(!ALLOWED.iter().any(|form| is_of_form(form, &tokens(sql))), "{sql}");
    }
}

/// The type `Sql` is made in one module; here, that nobody goes around it with a text of their own.
#[test]
fn only_one_module_writes_sql() {
    let source = tombola_tests::workspace().join("crates/store/src");
    for path in tombola_tests::files_below(&source, &["rs"]).unwrap() {
        if path.ends_with("postgres_store/statement.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let verbs = [
                "\"SELECT", "\"INSERT", "\"UPDATE", "\"DELETE", "\"BEGIN", "\"SET ", "\"CREATE", "\"SHOW",
            ];
            assert!(
                !verbs.iter().any(|verb| line.contains(verb)),
                "{}: {line}",
                path.display()
            );
        }
    }
}
