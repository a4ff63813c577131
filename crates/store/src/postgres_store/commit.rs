//! Committing: all or nothing, and knowing which.

use super::Shared;
use super::batch::{Batch, Fate, Mark};
use super::patience::Patience;
use super::place::{home_of, rest_of};
use super::session::{Parameter, Session, Step, pipelined, stored};
use super::statement::{Form, Plain};
use super::trouble::Trouble;
use std::time::Duration;
use tokio::time::sleep;
use tombola_ledger::row::Table;
use tombola_ledger::store::{Commit, StoreFault};

/// How often a commit is tried that other transactions are in the way of.
const TRIES: u32 = 8;
/// Before the second try; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// The connection that commits, one commit at a time.
#[derive(Debug, Default)]
pub(super) struct Writer {
    session: Option<Session>,
    health: Health,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Health {
    #[default]
    Sound,
    Stopped,
}

/// How one try to commit ended without success.
enum Halt {
    /// A row has another version. Nothing was changed.
    Conflict(Table),
    /// It failed before `COMMIT` was sent. Nothing was changed.
    Trouble(Trouble),
    /// It failed after `COMMIT` was sent.
    InDoubt,
}

/// Whether an earlier try may have landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    /// A `COMMIT` was sent and not answered, and the mark was as before it. A row that is not there yet cannot be
    /// locked, so that transaction may still have been running.
    Earlier,
}

impl Writer {
    /// Commits; after any fault but a conflict it does so no more.
    pub(super) async fn commit(&mut self, shared: &Shared, commit: &Commit) -> Result<(), StoreFault> {
        if self.health == Health::Stopped {
            return Err(StoreFault::Stopped);
        }
        let outcome = match Batch::new(commit) {
            Ok(batch) => self.carry_out(shared, &batch).await,
            Err(fault) => Err(fault),
        };
        if !matches!(outcome, Ok(()) | Err(StoreFault::Conflict(_))) {
            self.health = Health::Stopped;
        }
        outcome
    }

    async fn carry_out(&mut self, shared: &Shared, batch: &Batch<'_>) -> Result<(), StoreFault> {
        let mut patience = shared.patience();
        let mut doubt = Doubt::None;
        let mut tries = 0;
        loop {
            let session = match self.session.take() {
                Some(session) if !session.is_closed() => session,
                _ => connect(shared, &mut patience).await?,
            };
            // The session is put back only in a known state; otherwise it is dropped, which ends its transaction.
            let halt = match attempt(&session, batch, &mut patience).await {
                Ok(()) => {
                    self.session = Some(session);
                    return Ok(());
                }
                Err(halt) => halt,
            };
            match halt {
                Halt::InDoubt | Halt::Trouble(Trouble::Lost) => {
                    patience.miss();
                    drop(session);
                }
                Halt::Conflict(_) | Halt::Trouble(_) => self.give_back(session, &mut patience).await,
            }
            match halt {
                Halt::Conflict(table) if doubt == Doubt::None => return Err(StoreFault::Conflict(table)),
                Halt::Conflict(table) => {
                    return match resolve(shared, &batch.mark, &mut patience).await? {
                        Fate::Landed => Ok(()),
                        Fate::Absent | Fate::Overtaken => Err(StoreFault::Conflict(table)),
                    };
                }
                Halt::InDoubt => {
                    doubt = Doubt::Earlier;
                    match resolve(shared, &batch.mark, &mut patience).await? {
                        Fate::Landed => return Ok(()),
                        Fate::Absent => patience.pause().await?,
                        Fate::Overtaken => return Err(StoreFault::Conflict(batch.mark.key.table())),
                    }
                }
                Halt::Trouble(Trouble::Lost) => patience.pause().await?,
                Halt::Trouble(Trouble::Again) if tries + 1 < TRIES => {
                    sleep(FIRST_PAUSE.saturating_mul(1 << tries)).await;
                    tries += 1;
                }
                Halt::Trouble(Trouble::Again) => return Err(StoreFault::Conflict(batch.contended())),
                Halt::Trouble(trouble) => return Err(trouble.fault()),
            }
        }
    }

    /// Ends a transaction that changed nothing.
    async fn give_back(&mut self, session: Session, patience: &mut Patience) {
        let rollback = patience.turn(session.run_plain(Plain::Rollback)).await;
        if matches!(rollback, Some(Ok(()))) {
            self.session = Some(session);
        }
    }
}

/// A connection for commits, and readers that follow it.
async fn connect(shared: &Shared, patience: &mut Patience) -> Result<Session, StoreFault> {
    loop {
        let session = shared.connect(patience).await?;
        match patience.turn(session.limit_abandoned(shared.abandoned_after())).await {
            Some(Ok(())) => {
                shared.readers.forget();
                return Ok(session);
            }
            Some(Err(Trouble::Lost | Trouble::Again)) | None => patience.pause().await?,
            Some(Err(trouble)) => return Err(trouble.fault()),
        }
    }
}

/// Sends everything in one round trip, looks at what each statement met, and then commits.
async fn attempt(session: &Session, batch: &Batch<'_>, patience: &mut Patience) -> Result<(), Halt> {
    let changing = patience.turn(change(session, batch)).await;
    changing.unwrap_or(Err(Halt::Trouble(Trouble::Lost)))?;
    match patience.turn(session.run_plain(Plain::Commit)).await {
        Some(Ok(())) => Ok(()),
        // The one answer to a COMMIT that says for sure that nothing was changed.
        Some(Err(Trouble::Again)) => Err(Halt::Trouble(Trouble::Again)),
        Some(Err(_)) | None => Err(Halt::InDoubt),
    }
}

async fn change(session: &Session, batch: &Batch<'_>) -> Result<(), Halt> {
    let wanted: Vec<(Form, Table)> = batch.parts.iter().map(|part| (part.form, part.table)).collect();
    session.prepare(&wanted).await.map_err(Halt::Trouble)?;
    let mut steps: Vec<Step<'_, bool>> = Vec::with_capacity(batch.parts.len().saturating_add(1));
    steps.push(Box::pin(async {
        session.run_plain(Plain::BeginCommit).await?;
        Ok(true)
    }));
    for part in &batch.parts {
        steps.push(Box::pin(part.run(session)));
    }
    let mut met = pipelined(steps).await.into_iter();
    met.next().unwrap_or(Err(Trouble::Damaged)).map_err(Halt::Trouble)?;
    let mut conflict = None;
    for (part, met) in batch.parts.iter().zip(met) {
        match met {
            Ok(true) => {}
            Ok(false) => conflict = batch.worse(conflict, part.table),
            // The first statement that fails tells why; those after it only that the transaction is over.
            Err(Trouble::Taken) => {
                conflict = batch.worse(conflict, part.table);
                break;
            }
            Err(trouble) => return Err(Halt::Trouble(trouble)),
        }
    }
    conflict.map_or(Ok(()), |table| Err(Halt::Conflict(table)))
}

/// Reads the mark of a commit that was not answered, once whoever is changing it has ended.
async fn resolve(shared: &Shared, mark: &Mark<'_>, patience: &mut Patience) -> Result<Fate, StoreFault> {
    loop {
        let session = shared.connect(patience).await?;
        match patience.turn(read_mark(&session, mark)).await {
            Some(Ok(fate)) => return Ok(fate),
            Some(Err(Trouble::Lost | Trouble::Again)) | None => patience.pause().await?,
            Some(Err(trouble)) => return Err(trouble.fault()),
        }
    }
}

async fn read_mark(session: &Session, mark: &Mark<'_>) -> Result<Fate, Trouble> {
    let table = mark.key.table();
    session.prepare(&[(Form::Lock, table)]).await?;
    session.run_plain(Plain::BeginResolve).await?;
    let (home, rest) = (home_of(mark.key), rest_of(mark.key));
    let parameters: [Parameter<'_>; 2] = [&home, &rest];
    let rows = session.ask(Form::Lock, table, &parameters).await?;
    let row = rows.first().map(|row| stored(row, 0)).transpose()?;
    // Locking wrote to the server's log after the commit that is asked about. So this commit is acknowledged by a
    // synchronous standby only after that one is there too, and a cancelled wait for the standby is made up for.
    session.run_plain(Plain::Commit).await?;
    Ok(mark.fate(row.as_ref()))
}
