//! One connection: its settings, its prepared statements, and statements that share a round trip.

use super::place::{Bounds, home_of, key_of, rest_of};
use super::statement::{self, Form, Plain, Shown, Sql};
use super::trouble::Trouble;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, SimpleQueryMessage, Statement};
use tombola_core::amount::Timestamp;
use tombola_ledger::key::Key;
use tombola_ledger::row::Table;
use tombola_ledger::store::{Range, StoreFault, Stored};

/// A parameter of a statement.
pub(super) type Parameter<'a> = &'a (dyn ToSql + Sync);

/// A connection that is logged in. Dropping it closes it, and the server then undoes what was not committed.
pub(super) struct Session {
    client: Client,
    statements: Mutex<HashMap<(Form, Table), Statement>>,
}

/// Whether reads of several tables need a transaction to see one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// They are in one already.
    Enclosing,
    /// They make their own.
    Own,
}

/// A step that waits for its turn on the connection.
pub(super) type Step<'a, T> = Pin<Box<dyn Future<Output = Result<T, Trouble>> + Send + 'a>>;

impl Session {
    pub(super) fn new(client: Client) -> Self {
        let statements = Mutex::default();
        Self { client, statements }
    }

    /// Whether the connection is known to be gone.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Makes commits of this connection durable before they are acknowledged, or says that they cannot be.
    pub(super) async fn settle(&self) -> Result<Result<(), StoreFault>, Trouble> {
        // An engine that does not know the setting has no way to turn it off.
        if self.shown(Shown::Fsync).await?.as_deref() == Some("off") {
            return Ok(Err(StoreFault::NotDurable));
        }
        match self.shown(Shown::SynchronousCommit).await?.as_deref() {
            Some("remote_apply") => self.run(&statement::synchronous_apply()).await?,
            Some(_) => self.run(&statement::synchronous_commit()).await?,
            None => {}
        }
        for advice in statement::advice() {
            self.advise(&advice).await?;
        }
        Ok(Ok(()))
    }

    /// Lets the server undo what this connection began and did not end in this time.
    pub(super) async fn limit_abandoned(&self, after: Duration) -> Result<(), Trouble> {
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.advise(&statement::abandoned_after(ms)).await
    }

    /// A setting that an engine may not know.
    async fn advise(&self, advice: &Sql) -> Result<(), Trouble> {
        match self.run(advice).await {
            Ok(()) | Err(Trouble::Unknown(_)) => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }

    async fn shown(&self, setting: Shown) -> Result<Option<String>, Trouble> {
        match self.client.query_one(statement::show(setting).text(), &[]).await {
            Ok(row) => Ok(row.try_get(0)?),
            Err(error) => match Trouble::from(error) {
                Trouble::Unknown(_) => Ok(None),
                trouble => Err(trouble),
            },
        }
    }

    /// Runs a statement without parameters.
    pub(super) async fn run(&self, sql: &Sql) -> Result<(), Trouble> {
        Ok(self.client.batch_execute(sql.text()).await?)
    }

    pub(super) async fn run_plain(&self, plain: Plain) -> Result<(), Trouble> {
        self.run(&plain.sql()).await
    }

    /// Rows of a statement that is run once in a connection's life.
    pub(super) async fn query(&self, sql: &Sql, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Trouble> {
        Ok(self.client.query(sql.text(), parameters).await?)
    }

    /// The server's time.
    pub(super) async fn clock(&self) -> Result<Timestamp, Trouble> {
        // As text: it is asked for once in a connection's transaction, and preparing it would cost a round trip.
        let answer = self.client.simple_query(statement::clock().text()).await?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten(),
            _ => None,
        });
        let ms = row.and_then(|ms| ms.parse().ok());
        ms.map(Timestamp).ok_or(Trouble::Damaged)
    }

    /// Prepares what of these is not prepared yet, in one round trip.
    pub(super) async fn prepare(&self, wanted: &[(Form, Table)]) -> Result<(), Trouble> {
        let mut missing: Vec<(Form, Table)> = wanted.to_vec();
        missing.retain(|name| !self.prepared().contains_key(name));
        let texts: Vec<Sql> = missing.iter().map(|(form, table)| form.sql(*table)).collect();
        let mut steps: Vec<Step<'_, Statement>> = Vec::with_capacity(texts.len());
        for sql in &texts {
            steps.push(Box::pin(async { Ok(self.client.prepare(sql.text()).await?) }));
        }
        for (name, statement) in missing.into_iter().zip(pipelined(steps).await) {
            let statement = statement?;
            self.prepared().insert(name, statement);
        }
        Ok(())
    }

    fn prepared(&self) -> MutexGuard<'_, HashMap<(Form, Table), Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn statement(&self, form: Form, table: Table) -> Result<Statement, Trouble> {
        self.prepared().get(&(form, table)).cloned().ok_or(Trouble::Damaged)
    }

    /// How many rows a prepared statement changed.
    pub(super) async fn change(&self, form: Form, table: Table, parameters: &[Parameter<'_>]) -> Result<u64, Trouble> {
        let statement = self.statement(form, table)?;
        Ok(self.client.execute(&statement, parameters).await?)
    }

    /// The rows of a prepared statement.
    pub(super) async fn ask(
        &self,
        form: Form,
        table: Table,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Trouble> {
        let statement = self.statement(form, table)?;
        Ok(self.client.query(&statement, parameters).await?)
    }

    /// The rows of these keys, in their order: a statement for each table, all in one round trip.
    pub(super) async fn load(&self, keys: &[Key], moment: Moment) -> Result<Vec<Option<Stored>>, Trouble> {
        let parts = Part::of(keys);
        let wanted: Vec<(Form, Table)> = parts.iter().map(|part| (Form::Load, part.table)).collect();
        self.prepare(&wanted).await?;
        let mut steps: Vec<Step<'_, Vec<Row>>> = Vec::with_capacity(parts.len().saturating_add(2));
        let frames = moment == Moment::Own && parts.len() > 1;
        if frames {
            steps.push(Box::pin(self.framing(Plain::BeginRead)));
        }
        for part in &parts {
            steps.push(Box::pin(async {
                let parameters: [Parameter<'_>; 3] = [&part.homes, &part.rests, &part.places];
                self.ask(Form::Load, part.table, &parameters).await
            }));
        }
        if frames {
            steps.push(Box::pin(self.framing(Plain::Commit)));
        }
        let mut rows = vec![None; keys.len()];
        for found in pipelined(steps).await {
            for row in found? {
                let place = usize::try_from(number(&row, 0)?).map_err(|_| Trouble::Damaged)?;
                *rows.get_mut(place).ok_or(Trouble::Damaged)? = Some(stored(&row, 1)?);
            }
        }
        Ok(rows)
    }

    async fn framing(&self, plain: Plain) -> Result<Vec<Row>, Trouble> {
        self.run_plain(plain).await?;
        Ok(Vec::new())
    }

    /// The rows of a range, in order of their keys.
    pub(super) async fn scan(&self, range: &Range) -> Result<Vec<(Key, Stored)>, Trouble> {
        let Some(bounds) = Bounds::new(range) else {
            return Ok(Vec::new());
        };
        let table = range.from.table();
        self.prepare(&[(Form::Scan, table)]).await?;
        let parameters: [Parameter<'_>; 5] = [
            &bounds.from.0,
            &bounds.from.1,
            &bounds.to.0,
            &bounds.to.1,
            &bounds.limit,
        ];
        let rows = self.ask(Form::Scan, table, &parameters).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            let key = key_of(table, row.try_get(0)?, row.try_get(1)?);
            found.push((key, stored(row, 2)?));
        }
        Ok(found)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// The keys of one table, as columns, with their places in the whole.
struct Part<'a> {
    table: Table,
    homes: Vec<i64>,
    rests: Vec<&'a [u8]>,
    places: Vec<i64>,
}

impl<'a> Part<'a> {
    fn of(keys: &'a [Key]) -> Vec<Self> {
        let mut parts: Vec<Self> = Vec::new();
        for (key, place) in keys.iter().zip(0i64..) {
            let table = key.table();
            let known = parts.iter().position(|part| part.table == table);
            let part = match known.and_then(|at| parts.get_mut(at)) {
                Some(part) => part,
                None => parts.push_mut(Self {
                    table,
                    homes: Vec::new(),
                    rests: Vec::new(),
                    places: Vec::new(),
                }),
            };
            part.homes.push(home_of(key));
            part.rests.push(rest_of(key));
            part.places.push(place);
        }
        parts
    }
}

/// Drives all steps at once, the first poll of each in their order, which is when it sends its statement.
pub(super) async fn pipelined<T>(mut steps: Vec<Step<'_, T>>) -> Vec<Result<T, Trouble>> {
    let mut outcomes: Vec<Option<Result<T, Trouble>>> = steps.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut is_done = true;
        for (step, outcome) in steps.iter_mut().zip(&mut outcomes) {
            if outcome.is_none() {
                match step.as_mut().poll(context) {
                    Poll::Ready(ready) => *outcome = Some(ready),
                    Poll::Pending => is_done = false,
                }
            }
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outcomes.into_iter().flatten().collect()
}

/// A number that is never negative.
pub(super) fn number(row: &Row, column: usize) -> Result<u64, Trouble> {
    let number: i64 = row.try_get(column)?;
    u64::try_from(number).map_err(|_| Trouble::Damaged)
}

/// A version and the body after it.
pub(super) fn stored(row: &Row, column: usize) -> Result<Stored, Trouble> {
    let body: &[u8] = row.try_get(column.saturating_add(1))?;
    Ok(Stored {
        version: number(row, column)?,
        bytes: body.to_vec(),
    })
}
