//! The writer: takes batches of commands, commits each batch once, and answers when it is durable.

mod clock;
mod command;
mod fault;
mod header;
mod upkeep;

pub use clock::check as check_clock;
pub use command::{Command, Outcome, Removal};
pub use fault::LedgerFault;
pub use header::check_store;

use crate::decide::{Decided, Terms, Work, resubmit};
use crate::draft::Draft;
use crate::key::Key;
use crate::row::{Record, Row, Table, Totals, WRITERS_MAX, others};
use crate::store::{Change, Commit, Reader, Sharing, Snapshot, Store, StoreFault, Stored};
use crate::view::Stop;
use crate::{fold, prefetch, query};
use header::{check_header, write_header};
use tombola_core::amount::{MINUTE_MS, Timestamp};
use tombola_core::codec::List;
use tombola_core::escrow::{EscrowConfig, Served, ledger_time};
use tombola_core::limits::SERVED_GAP_MS;
use tombola_core::message::{ClaimAnswer, EscrowAnswer, EscrowCommand, Phase};
use tombola_core::reject::{Code, Reject};

/// How often a batch is decided anew before it is halved, and a single command before it is refused.
const TRIES_MAX: usize = 8;

/// The one writer of a store.
#[derive(Debug)]
pub struct Ledger<S: Store> {
    store: S,
    config: EscrowConfig,
    totals: Totals,
    totals_version: u64,
    time: Timestamp,
    served: Served,
    phase: Phase,
    restored_at: Timestamp,
    /// Since which time other writers take back what was lost.
    others_recover: Option<Timestamp>,
    /// Row of the account whose payout policy is looked at next.
    next_policy: u64,
    /// How far the clock of a batch may be from the store's own.
    clock_apart_max_ms: Option<u64>,
    health: Health,
    progress: Progress,
}

/// How far a batch is: what was not sent to be kept can be decided anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Reading,
    Committing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Sound,
    Stopped,
}

impl<S: Store> Ledger<S> {
    /// Opens a store, or makes an empty one a ledger's, and begins to serve.
    ///
    /// Where several writers share the store, whoever was this writer before is fenced off: its next commit fails.
    ///
    /// # Errors
    /// [`LedgerFault::AnotherEscrow`], [`LedgerFault::AnotherAsset`], [`LedgerFault::AnotherFormat`],
    /// [`LedgerFault::WriterOutOfRange`], [`LedgerFault::WriterRemoved`], [`LedgerFault::Store`].
    pub async fn open(store: S, config: EscrowConfig, clock: Timestamp) -> Result<Self, LedgerFault> {
        let writer = config.writer;
        let limit = match store.sharing() {
            Sharing::Sole => 1,
            Sharing::Shared => WRITERS_MAX,
        };
        if writer >= limit {
            return Err(LedgerFault::WriterOutOfRange { writer, limit });
        }
        let rows = store.load(&[Key::header(), Key::totals(writer)]).await?;
        let [header, totals] = <[Option<Stored>; 2]>::try_from(rows).map_err(|_| StoreFault::Damaged)?;
        match header {
            Some(header) => check_header(&header, &config)?,
            None if totals.is_none() => write_header(&store, &config).await?,
            None => return Err(StoreFault::Foreign.into()),
        }
        let (totals, totals_version) = match totals {
            None => (Totals::EMPTY, 0),
            Some(stored) => (decode_as::<Totals>(Table::Totals, &stored)?, stored.version),
        };
        if !totals.is_conserved() {
            return Err(StoreFault::DamagedRow(Table::Totals).into());
        }
        if totals.is_removed {
            return Err(LedgerFault::WriterRemoved { writer });
        }
        let time = ledger_time(totals.time, clock);
        let writers = query::writers(&store).await?;
        let last = writers.iter().map(|(_, totals)| totals.time).max();
        let mut ledger = Self {
            store,
            config,
            totals,
            totals_version,
            time,
            served: Served::starting(time),
            phase: Phase::Open,
            restored_at: last.unwrap_or(totals.time),
            others_recover: None,
            next_policy: 0,
            clock_apart_max_ms: None,
            health: Health::Sound,
            progress: Progress::Reading,
        };
        ledger.learn(&writers);
        if ledger.store.sharing() == Sharing::Shared || totals_version == 0 {
            let totals = Totals {
                incarnation: totals.incarnation.saturating_add(1),
                ..totals
            };
            ledger.commit(totals, Vec::new(), Vec::new()).await?;
        }
        Ok(ledger)
    }

    /// Decides a batch in order, commits it, then says what came of each command.
    ///
    /// An empty batch is a sign of life: without one each half minute no hold expires. Where another writer changed
    /// what a batch was decided on it is decided anew, in halves if that goes on; a command that loses every time is
    /// refused with `busy`. After a fault nothing is known to be durable, no outcome may be told, and the ledger
    /// refuses to go on until it is opened anew.
    ///
    /// # Errors
    /// [`LedgerFault::Store`], [`LedgerFault::Stopped`], [`LedgerFault::Fenced`], [`LedgerFault::ClockApart`].
    pub async fn execute(&mut self, batch: Vec<Command>, clock: Timestamp) -> Result<Vec<Outcome>, LedgerFault> {
        if self.health == Health::Stopped {
            return Err(LedgerFault::Stopped);
        }
        let outcomes = self.attempt(&batch, clock).await;
        if outcomes.is_err() {
            self.health = Health::Stopped;
        }
        outcomes
    }

    async fn attempt(&mut self, batch: &[Command], clock: Timestamp) -> Result<Vec<Outcome>, LedgerFault> {
        let mut outcomes = Vec::with_capacity(batch.len());
        // Parts that are still to be decided, the first one last.
        let mut parts = vec![batch];
        // Once, before there was anything to wait for: later the time that was given is late by itself.
        let mut unchecked = self.clock_apart_max_ms.map(|limit_ms| (clock, limit_ms));
        while let Some(part) = parts.pop() {
            match self.contend(part, clock, &mut unchecked).await? {
                Some(done) => outcomes.extend(done),
                None => match part {
                    [] => {}
                    [command] => outcomes.push(Decided::refused(command, Reject::of(Code::Busy)).into_outcome()),
                    _ => {
                        let (first, second) = part.split_at(part.len().div_ceil(2));
                        parts.extend([second, first]);
                    }
                },
            }
        }
        Ok(outcomes)
    }

    /// Decides and commits, anew while other writers come in between; none if they always do.
    async fn contend(
        &mut self,
        batch: &[Command],
        clock: Timestamp,
        unchecked: &mut Option<(Timestamp, u64)>,
    ) -> Result<Option<Vec<Outcome>>, LedgerFault> {
        for _ in 0..TRIES_MAX {
            let outcome = match self.store.sharing() {
                Sharing::Sole => return self.run(&self.store.clone(), batch, clock).await.map(Some),
                // Everything is read as of one moment, or rows of two moments would contradict each other.
                Sharing::Shared => {
                    let unchecked = unchecked.take();
                    let snapshot = self.store.snapshot_to_write().await?;
                    if let (Some((here, limit_ms)), Some(there)) = (unchecked, snapshot.clock()) {
                        clock::check(here, there, limit_ms)?;
                    }
                    self.run(&snapshot, batch, clock).await
                }
            };
            match outcome {
                Ok(outcomes) => return Ok(Some(outcomes)),
                Err(LedgerFault::Store(StoreFault::Conflict(_))) => {}
                // A server that is lost takes its snapshots with it; nothing was sent to be kept, and the next
                // snapshot waits for the server that takes its place.
                Err(LedgerFault::Store(StoreFault::Unreachable)) if self.progress == Progress::Reading => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(None)
    }

    async fn run<R: Reader>(
        &mut self,
        reader: &R,
        batch: &[Command],
        clock: Timestamp,
    ) -> Result<Vec<Outcome>, LedgerFault> {
        self.progress = Progress::Reading;
        self.time = ledger_time(self.time, clock);
        self.served.observe(self.time);
        let writers = match self.store.sharing() {
            Sharing::Sole => Vec::new(),
            Sharing::Shared => query::writers(reader).await?,
        };
        self.learn(&writers);
        let terms = Terms {
            sharing: self.store.sharing(),
            now: self.time,
            served: self.served_by_all(&writers),
            phase: self.standing().phase,
            restored_at: self
                .recovers_since()
                .or(self.others_recover)
                .unwrap_or(self.restored_at),
        };
        let config = self.config.clone();
        let mut work = Work::new(&config, self.totals, terms);
        prefetch::prefetch(&mut work.view, reader, self.store.sharing(), batch).await?;
        let mut decided = Vec::with_capacity(batch.len());
        for command in batch {
            decided.push(decide(&mut work, reader, command).await?);
        }
        let (totals, changes, reads) = work.finish();
        if changes.is_empty() {
            invariant!(totals == self.totals, "nothing moves without a row");
            self.show_life().await?;
        } else {
            self.commit(totals, changes, reads).await?;
        }
        let mut outcomes = Vec::with_capacity(decided.len());
        for (decided, command) in decided.into_iter().zip(batch) {
            outcomes.push(match decided {
                Decided::Outcome(outcome) => outcome,
                Decided::Query => Outcome::Answer(self.query(command).await?),
            });
        }
        Ok(outcomes)
    }

    /// Learns from other writers: a rollback concerns them all, and whoever notices it tells.
    fn learn(&mut self, writers: &[(u32, Totals)]) {
        self.others_recover = others(writers, self.config.writer)
            .filter_map(|(_, other)| other.recovers_since)
            .min();
        for (_, other) in others(writers, self.config.writer) {
            self.config.epoch = self.config.epoch.max(other.epoch);
        }
    }

    /// Since which time this writer takes back what was lost.
    const fn recovers_since(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Recovering => Some(self.restored_at),
            Phase::Open | Phase::Draining => None,
        }
    }

    /// Tells other writers that this one serves, and whether it recovers.
    async fn show_life(&mut self) -> Result<(), LedgerFault> {
        let silent_for = self.totals.silent_for_ms(self.time);
        let told = (self.totals.epoch, self.totals.recovers_since);
        let is_news = told != (self.config.epoch, self.recovers_since());
        match self.store.sharing() {
            Sharing::Shared if is_news || silent_for >= SERVED_GAP_MS / 4 => {
                self.commit(self.totals, Vec::new(), Vec::new()).await
            }
            Sharing::Sole | Sharing::Shared => Ok(()),
        }
    }

    /// Since when claims were served without a gap by this writer and all others. Spec: H-09.
    fn served_by_all(&self, writers: &[(u32, Totals)]) -> Served {
        let mut served = self.served;
        for (_, other) in others(writers, self.config.writer) {
            let mut other = Served::recorded(other.served_since, other.alive_at);
            other.observe(self.time);
            if other.for_ms() < served.for_ms() {
                served = other;
            }
        }
        served
    }

    async fn commit(
        &mut self,
        totals: Totals,
        mut changes: Vec<Change>,
        reads: Vec<(Key, u64)>,
    ) -> Result<(), LedgerFault> {
        invariant!(
            totals.is_conserved(),
            "deposits = balances + held + fees + pending + withdrawn"
        );
        invariant!(totals.height >= self.totals.height, "the log only grows");
        let totals = Totals {
            served_since: self.served.since(),
            alive_at: self.time,
            epoch: self.config.epoch,
            recovers_since: self.recovers_since(),
            ..totals
        };
        let version = self.totals_version.saturating_add(1);
        let mark = Key::totals(self.config.writer);
        changes.push(Change {
            key: mark,
            before: self.totals_version,
            after: Some(Stored {
                version,
                bytes: Row::Totals(totals).encode(),
            }),
        });
        changes.sort_unstable_by_key(|change| change.key);
        let commit = Commit { changes, reads, mark };
        self.progress = Progress::Committing;
        match self.store.commit(commit).await {
            Ok(()) => {}
            Err(StoreFault::Conflict(Table::Totals)) if self.is_fenced().await? => {
                let writer = self.config.writer;
                return Err(LedgerFault::Fenced { writer });
            }
            Err(fault) => return Err(fault.into()),
        }
        self.totals = totals;
        self.totals_version = version;
        Ok(())
    }

    /// Whether another process is this writer now: nobody else changes its row, except to remove it.
    async fn is_fenced(&self) -> Result<bool, StoreFault> {
        let own = self
            .store
            .load(&[Key::totals(self.config.writer)])
            .await?
            .pop()
            .flatten();
        Ok(own.map_or(0, |own| own.version) != self.totals_version)
    }

    async fn query(&self, command: &Command) -> Result<Draft, LedgerFault> {
        let Command::Request(request) = command else {
            return Err(StoreFault::Damaged.into());
        };
        let standing = self.standing();
        let (connection, request) = (request.connection(), request.request());
        let answered = query::answer(&self.store, &self.config, &standing, connection, request).await?;
        Ok(answered.draft)
    }

    /// Stops at the first batch whose clock is further than this from the store's own. Spec: C-06.
    pub const fn limit_clock(&mut self, apart_max_ms: u64) {
        self.clock_apart_max_ms = Some(apart_max_ms);
    }

    /// What the ledger does at present; shown by `Info`, and no hold is opened or raised unless it is open.
    pub const fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// Begins to take back what was lost by a rollback; `restored_at` is the time of the last event that was not.
    ///
    /// A hold that is resubmitted counts only if it was opened no earlier. Spec.
    pub fn begin_recovery(&mut self, restored_at: Timestamp) {
        self.phase = Phase::Recovering;
        self.restored_at = match self.store.sharing() {
            Sharing::Sole => restored_at,
            // The last event of any writer, as whoever recovered first found it; writers' clocks may differ a little,
            // and a hold of another one is not to be too old by that.
            Sharing::Shared => {
                let last = restored_at.max(self.restored_at).minus_ms(MINUTE_MS);
                self.others_recover.unwrap_or(last)
            }
        };
    }

    /// The upper part of the serials of new holds, one larger after each rollback. Spec: R-26.
    pub const fn set_epoch(&mut self, epoch: u32) {
        self.config.epoch = epoch;
    }

    /// Goes back to business; the hour of serving without a gap that an expiry needs starts now. Spec: R-24.
    pub fn end_recovery(&mut self, clock: Timestamp) {
        if self.phase == Phase::Recovering {
            self.serve_anew(clock);
            self.phase = Phase::Open;
        }
    }

    /// Somebody who may have come to claim was turned away: the hour of serving without a gap begins again. Spec: H-09.
    pub fn serve_anew(&mut self, clock: Timestamp) {
        self.time = ledger_time(self.time, clock);
        self.served = Served::starting(self.time);
    }

    /// The store, for readers on other threads.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// This writer's sums and log end as of its last commit.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What `Info` needs besides the configuration; hand it to readers that answer queries.
    pub const fn standing(&self) -> query::Standing {
        query::Standing {
            time: self.time,
            // One that recovers does so for all.
            phase: match self.others_recover {
                Some(_) => Phase::Recovering,
                None => self.phase,
            },
        }
    }
}

/// Decides one command; loads what it misses and begins again.
async fn decide<R: Reader>(work: &mut Work<'_>, reader: &R, command: &Command) -> Result<Decided, LedgerFault> {
    if let Command::Request(request) = command
        && let EscrowCommand::Claim { batch, .. } = &request.request().command
    {
        let proofs = match work.claims(request) {
            Err(reject) => return Ok(Decided::rejected(reject)),
            Ok(proofs) => proofs,
        };
        let mut answers: Vec<ClaimAnswer> = Vec::with_capacity(proofs.len());
        for (claim, proof) in batch.claims.as_slice().iter().zip(proofs) {
            match settle(work, reader, |work| work.claim(&batch.payee, claim, proof)).await? {
                Ok(answer) => answers.push(answer),
                Err(reject) => return Ok(Decided::rejected(reject)),
            }
        }
        let answers = List::new(answers).map_err(|_| StoreFault::Damaged)?;
        let answer = EscrowAnswer::Claimed { answers };
        return Ok(Decided::Outcome(Outcome::Answer(Draft::new(answer))));
    }
    if let Command::Request(request) = command
        && matches!(request.request().command, EscrowCommand::Resubmit { .. })
    {
        let answer = resubmit(work, reader, request).await?;
        return Ok(Decided::Outcome(Outcome::Answer(Draft::new(answer))));
    }
    if matches!(command, Command::PayOut { .. }) {
        // A policy goes by all that came in, so what waits is added up first.
        fold::waiting(work, reader, command).await?;
    }
    let mut decided = settle(work, reader, |work| work.command(command)).await?;
    if let Err(reject) = &decided
        && reject.code == Code::InsufficientFunds
        && fold::waiting(work, reader, command).await?
    {
        decided = settle(work, reader, |work| work.command(command)).await?;
    }
    Ok(decided.unwrap_or_else(|reject| Decided::refused(command, reject)))
}

/// Makes a decision again until no row is missing. It writes nothing before it has read everything.
pub(crate) async fn settle<R: Reader, T>(
    work: &mut Work<'_>,
    reader: &R,
    mut decision: impl FnMut(&mut Work<'_>) -> Result<T, Stop>,
) -> Result<Result<T, Reject>, LedgerFault> {
    loop {
        let writes = work.view.writes();
        let missing = match decision(work) {
            Ok(value) => return Ok(Ok(value)),
            Err(Stop::No(reject)) => {
                invariant!(writes == work.view.writes(), "a refusal changes nothing");
                return Ok(Err(reject));
            }
            Err(Stop::Damaged(table)) => return Err(StoreFault::DamagedRow(table).into()),
            Err(Stop::Miss(key)) => key,
        };
        invariant!(writes == work.view.writes(), "all reads come before the first write");
        work.view.load(reader, &[missing]).await?;
    }
}

pub(crate) fn decode_as<T: Record + Clone>(table: Table, stored: &Stored) -> Result<T, StoreFault> {
    let row = Row::decode(table, &stored.bytes).map_err(|_| StoreFault::DamagedRow(table))?;
    T::of(&row).cloned().ok_or(StoreFault::DamagedRow(table))
}
