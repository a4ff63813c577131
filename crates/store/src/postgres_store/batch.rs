//! A commit as columns: one statement for each table and each thing that is done to its rows.

use super::place::{home_of, rest_of};
use super::session::{Parameter, Session, number};
use super::statement::Form;
use super::trouble::Trouble;
use tombola_ledger::key::Key;
use tombola_ledger::row::Table;
use tombola_ledger::store::{Commit, StoreFault, Stored};

/// The rows of one statement, as the arrays that it takes.
pub(super) struct Part<'a> {
    pub(super) form: Form,
    pub(super) table: Table,
    homes: Vec<i64>,
    rests: Vec<&'a [u8]>,
    /// The versions that must be there; not for an insert.
    before: Vec<i64>,
    /// The versions after it; not for deletes and checks.
    after: Vec<i64>,
    bodies: Vec<&'a [u8]>,
}

/// All that one commit does, and how to tell afterwards whether it was done.
pub(super) struct Batch<'a> {
    pub(super) parts: Vec<Part<'a>>,
    pub(super) mark: Mark<'a>,
}

/// The row that no other commit leaves as this one does.
pub(super) struct Mark<'a> {
    pub(super) key: &'a Key,
    before: u64,
    after: Option<&'a Stored>,
}

impl<'a> Batch<'a> {
    /// # Errors
    /// [`StoreFault::Damaged`] if the mark is none of the changes, a key is no row's, or a version out of range.
    pub(super) fn new(commit: &'a Commit) -> Result<Self, StoreFault> {
        let mark = commit.changes.iter().find(|change| change.key == commit.mark);
        let mark = mark.ok_or(StoreFault::Damaged)?;
        let mut batch = Self {
            parts: Vec::new(),
            mark: Mark {
                key: &mark.key,
                before: mark.before,
                after: mark.after.as_ref(),
            },
        };
        for (key, version) in &commit.reads {
            batch.push(Form::Check, key, *version, None)?;
        }
        for change in &commit.changes {
            let form = match (change.before, &change.after) {
                (0, None) => Form::Check,
                (0, Some(_)) => Form::Insert,
                (_, None) => Form::Delete,
                (_, Some(_)) => Form::Update,
            };
            batch.push(form, &change.key, change.before, change.after.as_ref())?;
        }
        Ok(batch)
    }

    /// Of two tables with a conflict the one that is told: that of the mark says the most, that we were replaced.
    pub(super) fn worse(&self, known: Option<Table>, table: Table) -> Option<Table> {
        let mark = self.mark.key.table();
        known.filter(|known| *known == mark || table != mark).or(Some(table))
    }

    /// What to name when others are in the way too often: anything but the mark, on which nothing says that it changed.
    pub(super) fn contended(&self) -> Table {
        let mark = self.mark.key.table();
        let mut tables = self.parts.iter().map(|part| part.table);
        tables.find(|table| *table != mark).unwrap_or(mark)
    }

    fn push(&mut self, form: Form, key: &'a Key, before: u64, after: Option<&'a Stored>) -> Result<(), StoreFault> {
        if key.as_bytes().len() < 8 {
            return Err(StoreFault::Damaged);
        }
        let signed = |version: u64| i64::try_from(version).map_err(|_| StoreFault::Damaged);
        let table = key.table();
        let known = self
            .parts
            .iter()
            .position(|part| part.form == form && part.table == table);
        let part = match known.and_then(|at| self.parts.get_mut(at)) {
            Some(part) => part,
            None => self.parts.push_mut(Part::empty(form, table)),
        };
        part.homes.push(home_of(key));
        part.rests.push(rest_of(key));
        part.before.push(signed(before)?);
        if let Some(stored) = after {
            part.after.push(signed(stored.version)?);
            part.bodies.push(&stored.bytes);
        }
        Ok(())
    }
}

impl Part<'_> {
    const fn empty(form: Form, table: Table) -> Self {
        Self {
            form,
            table,
            homes: Vec::new(),
            rests: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            bodies: Vec::new(),
        }
    }

    fn parameters(&self) -> Vec<Parameter<'_>> {
        let (homes, rests): (Parameter<'_>, Parameter<'_>) = (&self.homes, &self.rests);
        match self.form {
            Form::Insert => vec![homes, rests, &self.after, &self.bodies],
            Form::Update => vec![homes, rests, &self.before, &self.after, &self.bodies],
            Form::Check | Form::Delete | Form::Load | Form::Lock | Form::Scan => vec![homes, rests, &self.before],
        }
    }

    /// Whether all of its rows had the versions they were read with.
    pub(super) async fn run(&self, session: &Session) -> Result<bool, Trouble> {
        let wanted = u64::try_from(self.homes.len()).map_err(|_| Trouble::Damaged)?;
        let parameters = self.parameters();
        let met = if self.form == Form::Check {
            let rows = session.ask(self.form, self.table, &parameters).await?;
            number(rows.first().ok_or(Trouble::Damaged)?, 0)?
        } else {
            session.change(self.form, self.table, &parameters).await?
        };
        Ok(met == wanted)
    }
}

/// What a mark's row says about its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is durable.
    Landed,
    /// Nothing of it is there, and nobody else was there either.
    Absent,
    /// Somebody else changed the row.
    Overtaken,
}

impl Mark<'_> {
    /// What became of the commit, by the row that is there now.
    pub(super) fn fate(&self, now: Option<&Stored>) -> Fate {
        if now == self.after {
            Fate::Landed
        } else if now.map_or(0, |stored| stored.version) == self.before {
            Fate::Absent
        } else {
            Fate::Overtaken
        }
    }
}
