//! Every statement that the store sends, and nothing else makes one: standard SQL, over arrays, without loops.

use tombola_ledger::row::Table;

/// The version of the tables that this program makes and works on.
pub(super) const SCHEMA_VERSION: i64 = 1;

/// The table that holds the versions of the others.
pub(super) const SCHEMA_TABLE: &str = "tombola_schema";

/// A statement's text. Only this module makes one, so that [`all`] is all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sql(String);

impl Sql {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As the server reads it.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// A statement without parameters or rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    /// Begins a commit of the ledger.
    BeginCommit,
    /// Begins reads that see one moment.
    BeginRead,
    /// Begins the question what became of a commit.
    BeginResolve,
    Commit,
    Rollback,
}

impl Plain {
    const ALL: [Self; 5] = [
        Self::BeginCommit,
        Self::BeginRead,
        Self::BeginResolve,
        Self::Commit,
        Self::Rollback,
    ];

    pub(super) fn sql(self) -> Sql {
        Sql::new(match self {
            Self::BeginCommit => "BEGIN ISOLATION LEVEL SERIALIZABLE",
            Self::BeginRead => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            // In a serializable transaction, waiting for a row that then changes is an error instead of an answer.
            Self::BeginResolve => "BEGIN ISOLATION LEVEL READ COMMITTED",
            Self::Commit => "COMMIT",
            Self::Rollback => "ROLLBACK",
        })
    }
}

/// What is done to the rows of one table; prepared once for each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// Counts the rows that have the versions they were read with. Takes homes, keys, versions.
    Check,
    /// Removes rows of these versions. Takes homes, keys, versions.
    Delete,
    /// Takes homes, keys, versions, bodies.
    Insert,
    /// Takes homes, keys, positions; gives position, version, body.
    Load,
    /// Takes a home and a key; waits for whoever is changing the row; gives version, body.
    Lock,
    /// Takes home and key of the first, home and key of the last, and a limit.
    Scan,
    /// Changes rows of these versions. Takes homes, keys, versions before, versions after, bodies.
    Update,
}

impl Form {
    const ALL: [Self; 7] = [
        Self::Check,
        Self::Delete,
        Self::Insert,
        Self::Load,
        Self::Lock,
        Self::Scan,
        Self::Update,
    ];

    pub(super) fn sql(self, table: Table) -> Sql {
        let table = table_name(table);
        Sql(match self {
            Self::Check => format!(
                "SELECT COUNT(*) FROM UNNEST(CAST($1 AS BIGINT[]), CAST($2 AS BYTEA[]), CAST($3 AS BIGINT[])) \
                 AS n (home, key, version) LEFT JOIN {table} AS t ON t.home = n.home AND t.key = n.key \
                 WHERE COALESCE(t.version, 0) = n.version"
            ),
            Self::Delete => format!(
                "DELETE FROM {table} AS t USING \
                 (SELECT * FROM UNNEST(CAST($1 AS BIGINT[]), CAST($2 AS BYTEA[]), CAST($3 AS BIGINT[])) \
                 AS u (home, key, version)) AS n \
                 WHERE t.home = n.home AND t.key = n.key AND t.version = n.version"
            ),
            Self::Insert => format!(
                "INSERT INTO {table} (home, key, version, body) SELECT * FROM UNNEST(CAST($1 AS BIGINT[]), \
                 CAST($2 AS BYTEA[]), CAST($3 AS BIGINT[]), CAST($4 AS BYTEA[]))"
            ),
            Self::Load => format!(
                "SELECT n.place, t.version, t.body FROM UNNEST(CAST($1 AS BIGINT[]), CAST($2 AS BYTEA[]), \
                 CAST($3 AS BIGINT[])) AS n (home, key, place) JOIN {table} AS t ON t.home = n.home AND t.key = n.key"
            ),
            Self::Lock => format!("SELECT version, body FROM {table} WHERE home = $1 AND key = $2 FOR UPDATE"),
            Self::Scan => format!(
                "SELECT home, key, version, body FROM {table} WHERE (home, key) >= ($1, $2) \
                 AND (home, key) <= ($3, $4) ORDER BY home, key LIMIT $5"
            ),
            Self::Update => format!(
                "UPDATE {table} AS t SET version = n.after, body = n.body FROM \
                 (SELECT * FROM UNNEST(CAST($1 AS BIGINT[]), CAST($2 AS BYTEA[]), CAST($3 AS BIGINT[]), \
                 CAST($4 AS BIGINT[]), CAST($5 AS BYTEA[])) AS u (home, key, before, after, body)) AS n \
                 WHERE t.home = n.home AND t.key = n.key AND t.version = n.before"
            ),
        })
    }
}

/// The server's time in milliseconds; alone, or first in a transaction, which is when it begins.
pub(super) fn clock() -> Sql {
    Sql::new("SELECT CAST(EXTRACT(EPOCH FROM CURRENT_TIMESTAMP) * 1000 AS BIGINT)")
}

/// Which columns the named tables have: table, column, type.
pub(super) fn columns() -> Sql {
    Sql::new(
        "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), CAST(data_type AS TEXT) \
         FROM information_schema.columns WHERE table_schema = CURRENT_SCHEMA() AND table_name = ANY($1)",
    )
}

/// The version of the tables that are there.
pub(super) fn schema_version() -> Sql {
    Sql(format!("SELECT MAX(version) FROM {SCHEMA_TABLE}"))
}

/// What makes the tables what this version needs, from nothing or from an older version, in one transaction.
pub(super) fn migration() -> Vec<Sql> {
    let mut steps = vec![Sql(format!(
        "CREATE TABLE IF NOT EXISTS {SCHEMA_TABLE} (version BIGINT NOT NULL, PRIMARY KEY (version))"
    ))];
    for table in Table::ALL {
        let table = table_name(*table);
        steps.push(Sql(format!(
            "CREATE TABLE IF NOT EXISTS {table} (home BIGINT NOT NULL, key BYTEA NOT NULL, version BIGINT NOT NULL, \
             body BYTEA NOT NULL, PRIMARY KEY (home, key))"
        )));
    }
    // Two that migrate at once write the same row here, and one of them begins again.
    steps.push(Sql(format!(
        "INSERT INTO {SCHEMA_TABLE} (version) VALUES ({SCHEMA_VERSION})"
    )));
    steps
}

/// A setting of the server that is looked at.
pub(super) fn show(setting: Shown) -> Sql {
    Sql::new(match setting {
        Shown::Fsync => "SHOW fsync",
        Shown::SynchronousCommit => "SHOW synchronous_commit",
    })
}

/// Settings of the server that are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Fsync,
    SynchronousCommit,
}

/// A commit is acknowledged when it is on this server's disk and on that of each synchronous standby.
pub(super) fn synchronous_commit() -> Sql {
    Sql::new("SET synchronous_commit = on")
}

/// As [`synchronous_commit`], and when the standbys show it to readers.
pub(super) fn synchronous_apply() -> Sql {
    Sql::new("SET synchronous_commit = remote_apply")
}

/// Advice to the planner of PostgreSQL; an engine that does not know one is left as it is.
///
/// All rows are reached by their whole key, so a loop over an index is right at any size. A plan that was made while a
/// table was small would read all of it, and a serializable transaction that reads a whole table conflicts with
/// everyone who writes to it.
pub(super) fn advice() -> Vec<Sql> {
    let settings = ["enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"];
    settings.iter().map(|name| Sql(format!("SET {name} = off"))).collect()
}

/// A writer that vanished in the middle of a commit lets go of its rows after so many milliseconds.
pub(super) fn abandoned_after(ms: u64) -> Sql {
    Sql(format!("SET idle_in_transaction_session_timeout = {ms}"))
}

/// The name of a ledger's table in the database.
pub(super) fn table_name(table: Table) -> String {
    format!("tombola_{}", table.name())
}

/// Every statement that a store can send.
pub fn all() -> Vec<String> {
    let mut all: Vec<Sql> = Plain::ALL.into_iter().map(Plain::sql).collect();
    for table in Table::ALL {
        all.extend(Form::ALL.map(|form| form.sql(*table)));
    }
    all.extend([clock(), columns(), schema_version()]);
    all.extend(migration());
    all.extend([Shown::Fsync, Shown::SynchronousCommit].map(show));
    all.extend([synchronous_commit(), synchronous_apply(), abandoned_after(20_000)]);
    all.extend(advice());
    all.into_iter().map(|sql| sql.0).collect()
}
