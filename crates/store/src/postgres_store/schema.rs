//! The tables: whether they are ours, which version they are, and making them.

use super::session::{Parameter, Session};
use super::statement::{self, Plain, SCHEMA_TABLE, SCHEMA_VERSION, table_name};
use super::trouble::Trouble;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::sleep;
use tombola_ledger::row::Table;
use tombola_ledger::store::StoreFault;

/// How often an empty database is looked at again while others make its tables as well.
const ROUNDS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// What is in a database.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Nothing of ours, or an older version.
    Behind,
    /// All tables of this version.
    Current,
    /// A version that this program does not know.
    Newer,
    /// Tables with our names that we did not make.
    Foreign,
}

/// Makes the tables of a database what this version needs.
pub(super) async fn prepare(session: &Session) -> Result<Result<(), StoreFault>, Trouble> {
    for _ in 0..ROUNDS {
        match find(session).await? {
            Found::Current => return Ok(Ok(())),
            Found::Newer => return Ok(Err(StoreFault::FileFormat)),
            Found::Foreign => return Ok(Err(StoreFault::Foreign)),
            Found::Behind => {}
        }
        match migrate(session).await {
            Ok(()) => {}
            Err(trouble) if is_race(trouble) => {
                session.run_plain(Plain::Rollback).await?;
                sleep(PAUSE).await;
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Err(Trouble::Again)
}

/// Whether somebody else makes the same tables at this moment.
fn is_race(trouble: Trouble) -> bool {
    // Duplicate table, duplicate object: `IF NOT EXISTS` looks before it locks.
    let duplicates = [*b"42P07", *b"42710"].map(Trouble::Refused);
    matches!(trouble, Trouble::Again | Trouble::Taken) || duplicates.contains(&trouble)
}

async fn migrate(session: &Session) -> Result<(), Trouble> {
    session.run_plain(Plain::BeginCommit).await?;
    for step in statement::migration() {
        session.run(&step).await?;
    }
    session.run_plain(Plain::Commit).await
}

async fn find(session: &Session) -> Result<Found, Trouble> {
    let mut names: Vec<String> = Table::ALL.iter().map(|table| table_name(*table)).collect();
    names.push(SCHEMA_TABLE.to_owned());
    let parameters: [Parameter<'_>; 1] = [&names];
    let mut tables: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for row in session.query(&statement::columns(), &parameters).await? {
        let column = (row.try_get(1)?, row.try_get(2)?);
        tables.entry(row.try_get(0)?).or_default().insert(column);
    }
    if tables.is_empty() {
        return Ok(Found::Behind);
    }
    let is_ours = |(name, found): (&String, &BTreeSet<(String, String)>)| *found == columns_of(name);
    if !tables.contains_key(SCHEMA_TABLE) || !tables.iter().all(is_ours) {
        return Ok(Found::Foreign);
    }
    let row = session.query(&statement::schema_version(), &[]).await?;
    let version: Option<i64> = row.first().ok_or(Trouble::Damaged)?.try_get(0)?;
    let is_whole = names.iter().all(|name| tables.contains_key(name));
    Ok(match version {
        Some(version) if version > SCHEMA_VERSION => Found::Newer,
        Some(SCHEMA_VERSION) if is_whole => Found::Current,
        Some(version) if version > 0 && version < SCHEMA_VERSION => Found::Behind,
        Some(_) | None => Found::Foreign,
    })
}

/// The columns that a table of ours has.
fn columns_of(table: &str) -> BTreeSet<(String, String)> {
    let columns: &[(&str, &str)] = if table == SCHEMA_TABLE {
        &[("version", "bigint")]
    } else {
        &[
            ("home", "bigint"),
            ("key", "bytea"),
            ("version", "bigint"),
            ("body", "bytea"),
        ]
    };
    let owned = |(name, kind): &(&str, &str)| ((*name).to_owned(), (*kind).to_owned());
    columns.iter().map(owned).collect()
}
