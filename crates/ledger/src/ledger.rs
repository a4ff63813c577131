//! The writer: takes batches of commands, commits each batch once, and answers when it is durable.

use crate::decide::{Decided, Terms, Work, resubmit};
use crate::draft::Draft;
use crate::key::{HoldKey, Key};
use crate::request::VerifiedRequest;
use crate::row::{FORMAT, Header, HoldRow, LogPlace, MAGIC, Record, Row, Table, Totals, WRITERS_MAX};
use crate::store::{Change, Commit, Range, Reader, Sharing, Store, StoreFault, Stored};
use crate::view::Stop;
use crate::{background, fold, prefetch, query};
use tombola_core::amount::{Amount, Asset, MINUTE_MS, Timestamp};
use tombola_core::codec::List;
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::escrow::{EscrowConfig, Served, ledger_time};
use tombola_core::key::{AccountKey, HoldId, PublicKey};
use tombola_core::limits::{EXPIRE_GRACE_MS, SERVED_GAP_MS};
use tombola_core::message::{ClaimAnswer, EscrowAnswer, EscrowCommand, Phase, Reference};
use tombola_core::reject::{Code, Reject};

/// How often a batch is decided anew before it is halved, and a single command before it is refused.
const TRIES_MAX: usize = 8;

/// What a ledger is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "requests are nearly all")]
pub enum Command {
    /// The operator took money in. The same reference moves money once. Spec: R-17.
    Deposit {
        /// To whom.
        account: PublicKey,
        /// How much.
        amount: Amount,
        /// The operator's reference.
        reference: Reference,
    },
    /// A hold's time has run out. Spec: H-09.
    Expire {
        /// Which.
        hold: HoldId,
    },
    /// The operator says what became of a withdrawal. The same again is answered the same. Spec: R-23.
    Settle {
        /// Its number.
        withdrawal: u64,
        /// Paid or failed.
        outcome: PayoutOutcome,
        /// The operator's reference.
        reference: Reference,
    },
    /// The operator collects this writer's fees. The same reference moves money once. Spec: G-07.
    CollectFees {
        /// To whom.
        account: PublicKey,
        /// How much.
        amount: Amount,
        /// The operator's reference.
        reference: Reference,
    },
    /// A payout policy may be due. Spec: R-21.
    PayOut {
        /// The account's row.
        account: u64,
    },
    /// Credits that several writers appended are to be added up. Spec: G-06.
    Fold {
        /// The account's row.
        account: u64,
        /// Where the credits come from.
        credits: Vec<LogPlace>,
    },
    /// A party asks.
    Request(VerifiedRequest),
}

/// What came of a command; all of it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "drafts are nearly all")]
pub enum Outcome {
    /// The money is in the account; the same again for the same reference.
    Deposited {
        /// Whose account.
        account: AccountKey,
        /// How much.
        amount: Amount,
        /// Ledger time.
        at: Timestamp,
        /// The event.
        place: LogPlace,
    },
    /// Credits are in their account's balance.
    Folded {
        /// How many; those that were folded before do not count.
        credits: usize,
    },
    /// The hold is expired.
    Expired {
        /// Which.
        hold: HoldId,
        /// What went back to the payer.
        returned: Amount,
        /// Ledger time.
        at: Timestamp,
    },
    /// A withdrawal is paid or has failed; the same again for the same word.
    Settled {
        /// Its number.
        withdrawal: u64,
        /// Which of the two.
        outcome: PayoutOutcome,
        /// What left the balance when it was asked for.
        amount: Amount,
        /// What of it the escrow keeps if it was paid.
        fee: Amount,
        /// Ledger time.
        at: Timestamp,
    },
    /// Fees are the account's; the same again for the same reference.
    FeesCollected {
        /// Whose account.
        account: AccountKey,
        /// How much.
        amount: Amount,
        /// Ledger time.
        at: Timestamp,
        /// The event.
        place: LogPlace,
    },
    /// A payout policy was looked at.
    PaidOut {
        /// The withdrawal that it made; none if it was not due.
        withdrawal: Option<u64>,
    },
    /// What an operator asked was refused; nothing changed.
    Rejected(Reject),
    /// The answer to a request, to be signed.
    Answer(Draft),
}

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
    health: Health,
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
            health: Health::Sound,
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
    /// [`LedgerFault::Store`], [`LedgerFault::Stopped`], [`LedgerFault::Fenced`].
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
        while let Some(part) = parts.pop() {
            match self.contend(part, clock).await? {
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
    async fn contend(&mut self, batch: &[Command], clock: Timestamp) -> Result<Option<Vec<Outcome>>, LedgerFault> {
        for _ in 0..TRIES_MAX {
            let outcome = match self.store.sharing() {
                Sharing::Sole => return self.run(&self.store.clone(), batch, clock).await.map(Some),
                // Everything is read as of one moment, or rows of two moments would contradict each other.
                Sharing::Shared => self.run(&self.store.snapshot().await?, batch, clock).await,
            };
            match outcome {
                Ok(outcomes) => return Ok(Some(outcomes)),
                Err(LedgerFault::Store(StoreFault::Conflict(_))) => {}
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
        let others = writers.iter().filter(|(writer, _)| *writer != self.config.writer);
        let others: Vec<&Totals> = others
            .map(|(_, totals)| totals)
            .filter(|other| !other.is_removed)
            .collect();
        self.others_recover = others.iter().filter_map(|other| other.recovers_since).min();
        for other in others {
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
        let silent_for = self.time.0.saturating_sub(self.totals.alive_at.0);
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
        for (writer, other) in writers {
            if *writer != self.config.writer && !other.is_removed {
                let mut other = Served::recorded(other.served_since, other.alive_at);
                other.observe(self.time);
                if other.for_ms() < served.for_ms() {
                    served = other;
                }
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
        Ok(query::answer(&self.store, &self.config, &standing, connection, request).await?)
    }

    /// Expires holds that are due, at most `limit`. Spec: H-09.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn expire_due(&mut self, limit: usize, clock: Timestamp) -> Result<Vec<Outcome>, LedgerFault> {
        if self.standing().phase == Phase::Recovering {
            return Ok(Vec::new());
        }
        let now = ledger_time(self.time, clock);
        let first = HoldKey { payer: 0, serial: 0 };
        let last = HoldKey {
            payer: u64::MAX,
            serial: u64::MAX,
        };
        let range = Range {
            from: Key::due(Timestamp(0), first),
            to: Some(Key::due(now.minus_ms(EXPIRE_GRACE_MS), last)),
            limit,
        };
        let due = self.store.scan(&range).await?;
        let keys: Vec<Key> = due.iter().map(|(key, _)| Key::hold(key.last_hold())).collect();
        let mut batch = Vec::with_capacity(keys.len());
        // A hold that another writer ended meanwhile is gone from the list or refused.
        for (key, stored) in keys.iter().zip(self.store.load(&keys).await?) {
            if let Some(stored) = stored {
                let hold = query::decode::<HoldRow>(*key, &stored)?.hold.id();
                batch.push(Command::Expire { hold });
            }
        }
        self.execute(batch, clock).await
    }

    /// Folds credits that this writer appended, and those of writers that show no sign of life, at most `limit`; says
    /// how many. Spec: G-06.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn fold(&mut self, limit: usize, clock: Timestamp) -> Result<usize, LedgerFault> {
        if self.store.sharing() == Sharing::Sole {
            return Ok(0);
        }
        let now = ledger_time(self.time, clock);
        let is_alive = |totals: &Totals| !totals.is_removed && now.0.saturating_sub(totals.alive_at.0) <= SERVED_GAP_MS;
        let writers = query::writers(&self.store).await?;
        let others = writers
            .iter()
            .filter(|(writer, totals)| *writer != self.config.writer && is_alive(totals));
        let others: Vec<u32> = others.map(|(writer, _)| *writer).collect();
        let found = fold::credits_but_of(&self.store, &others, limit).await?;
        let batch = fold::commands(found.iter());
        let folded = self.execute(batch, clock).await?;
        Ok(folded.iter().map(fold::count).sum())
    }

    /// Withdraws for payout policies that are due; looks at `limit` of them, in turn, and says how many were. Spec: R-21.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn pay_out(&mut self, limit: usize, clock: Timestamp) -> Result<usize, LedgerFault> {
        if self.standing().phase == Phase::Recovering {
            return Ok(0);
        }
        let now = ledger_time(self.time, clock);
        let turn = background::due_policies(&self.store, &self.config, self.next_policy, limit, now).await?;
        self.next_policy = turn.next;
        let outcomes = self.execute(turn.batch, clock).await?;
        let is_made = |outcome: &&Outcome| matches!(outcome, Outcome::PaidOut { withdrawal: Some(_) });
        Ok(outcomes.iter().filter(is_made).count())
    }

    /// Forgets at most `limit` rows that nobody needs any more: kept answers after 48 h, and ended holds with their
    /// books and settled withdrawals after 30 days. Says how many. Spec: R-02, G-08.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn prune(&mut self, limit: usize, clock: Timestamp) -> Result<usize, LedgerFault> {
        if self.health == Health::Stopped {
            return Err(LedgerFault::Stopped);
        }
        self.time = ledger_time(self.time, clock);
        let old = background::old_rows(&self.store, limit, self.time).await?;
        if old.changes.is_empty() {
            return Ok(0);
        }
        match self.commit(self.totals, old.changes, Vec::new()).await {
            Ok(()) => Ok(old.count),
            // Another writer forgot them.
            Err(LedgerFault::Store(StoreFault::Conflict(_))) => Ok(0),
            Err(fault) => {
                self.health = Health::Stopped;
                Err(fault)
            }
        }
    }

    /// Declares another writer dead, so that nobody waits for it any more. It cannot be started again. Spec: H-09.
    ///
    /// # Errors
    /// [`LedgerFault::WriterAlive`] while it shows signs of life, [`LedgerFault::WriterUnknown`]; as [`Self::execute`].
    pub async fn remove_writer(&mut self, writer: u32, clock: Timestamp) -> Result<(), LedgerFault> {
        let key = Key::totals(writer);
        let stored = self.store.load(&[key]).await?.pop().flatten();
        let stored = stored.ok_or(LedgerFault::WriterUnknown { writer })?;
        let totals = decode_as::<Totals>(Table::Totals, &stored)?;
        self.time = ledger_time(self.time, clock);
        let silent_ms = self.time.0.saturating_sub(totals.alive_at.0);
        if writer == self.config.writer || silent_ms <= SERVED_GAP_MS {
            return Err(LedgerFault::WriterAlive { writer, silent_ms });
        }
        let removed = Totals {
            is_removed: true,
            ..totals
        };
        let change = Change {
            key,
            before: stored.version,
            after: Some(Stored {
                version: stored.version.saturating_add(1),
                bytes: Row::Totals(removed).encode(),
            }),
        };
        self.commit(self.totals, vec![change], Vec::new()).await
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
            self.time = ledger_time(self.time, clock);
            self.served = Served::starting(self.time);
            self.phase = Phase::Open;
        }
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

fn check_header(stored: &Stored, config: &EscrowConfig) -> Result<(), LedgerFault> {
    // Magic and format are read first: a newer header may well be longer.
    let (magic, rest) = stored.bytes.split_first_chunk::<8>().ok_or(StoreFault::Foreign)?;
    if *magic != MAGIC {
        return Err(StoreFault::Foreign.into());
    }
    let (format, _) = rest.split_first_chunk::<4>().ok_or(StoreFault::Foreign)?;
    let stored_format = u32::from_le_bytes(*format);
    if stored_format != FORMAT {
        return Err(LedgerFault::AnotherFormat { stored: stored_format });
    }
    let header = decode_as::<Header>(Table::Header, stored)?;
    if header.escrow != config.escrow {
        let stored = header.escrow;
        return Err(LedgerFault::AnotherEscrow { stored });
    }
    if header.asset != config.asset {
        let stored = header.asset;
        return Err(LedgerFault::AnotherAsset { stored });
    }
    Ok(())
}

async fn write_header<S: Store>(store: &S, config: &EscrowConfig) -> Result<(), LedgerFault> {
    let header = Header {
        magic: MAGIC,
        format: FORMAT,
        escrow: config.escrow,
        asset: config.asset,
    };
    let change = Change {
        key: Key::header(),
        before: 0,
        after: Some(Stored {
            version: 1,
            bytes: Row::Header(header).encode(),
        }),
    };
    let commit = Commit {
        changes: vec![change],
        reads: Vec::new(),
        mark: Key::header(),
    };
    match store.commit(commit).await {
        // Another writer of the same ledger was faster.
        Err(StoreFault::Conflict(_)) => {
            let header = store.load(&[Key::header()]).await?.pop().flatten();
            check_header(&header.ok_or(StoreFault::Foreign)?, config)
        }
        other => Ok(other?),
    }
}

pub(crate) fn decode_as<T: Record + Clone>(table: Table, stored: &Stored) -> Result<T, StoreFault> {
    let row = Row::decode(table, &stored.bytes).map_err(|_| StoreFault::DamagedRow(table))?;
    T::of(&row).cloned().ok_or(StoreFault::DamagedRow(table))
}

/// Why a ledger cannot be opened or cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerFault {
    /// The store is of another escrow key, and a key is a network.
    #[error("the store belongs to escrow {stored}")]
    AnotherEscrow {
        /// Whose it is.
        stored: AccountKey,
    },
    /// The store counts another asset.
    #[error("the store counts {stored:?}")]
    AnotherAsset {
        /// What it counts.
        stored: Asset,
    },
    /// The store has a format that this version does not know.
    #[error("the store has format {stored}, this version reads {FORMAT}: use the version that wrote it")]
    AnotherFormat {
        /// Its format.
        stored: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// No such writer can be.
    #[error("writer {writer}: this store has writers 0 to {}", limit.saturating_sub(1))]
    WriterOutOfRange {
        /// The number given.
        writer: u32,
        /// Numbers are below this.
        limit: u32,
    },
    /// The operator declared this writer dead.
    #[error("writer {writer} was removed; start under another writer number")]
    WriterRemoved {
        /// Which.
        writer: u32,
    },
    /// A writer that shows signs of life is not dead.
    #[error("writer {writer} showed a sign of life {silent_ms} ms ago; stop it first and wait a minute")]
    WriterAlive {
        /// Which.
        writer: u32,
        /// How long ago, in ms.
        silent_ms: u64,
    },
    /// There is no such writer.
    #[error("there is no writer {writer}")]
    WriterUnknown {
        /// Which.
        writer: u32,
    },
    /// This machine's clock and the store's do not agree, so no deadline could be judged.
    #[error("this machine's clock and the database's are {apart_ms} ms apart, more than {limit_ms}; set the clock")]
    ClockApart {
        /// By how much, at least, in ms.
        apart_ms: u64,
        /// At most this, in ms.
        limit_ms: u64,
    },
    /// Another process is this writer now.
    #[error("another process was started as writer {writer}; this one stops")]
    Fenced {
        /// Which.
        writer: u32,
    },
    /// The store failed before.
    #[error("the ledger stopped after a fault; open it again")]
    Stopped,
}
