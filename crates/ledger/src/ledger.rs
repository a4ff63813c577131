//! The writer: takes batches of commands, commits each batch once, and answers when it is durable.

use crate::decide::{Decided, Work};
use crate::draft::Draft;
use crate::key::Key;
use crate::query;
use crate::request::VerifiedRequest;
use crate::row::{AnswerAge, FORMAT, Header, MAGIC, Record, Row, Table, Totals};
use crate::store::{Change, Commit, Range, Store, StoreFault, Stored};
use crate::view::{Stop, View};
use tombola_core::amount::{Amount, Asset, Timestamp};
use tombola_core::codec::List;
use tombola_core::escrow::{EscrowConfig, Served, ledger_time};
use tombola_core::key::{AccountKey, HoldId, PublicKey};
use tombola_core::limits::{ANSWER_KEPT_MS, EXPIRE_GRACE_MS};
use tombola_core::message::{ClaimAnswer, EscrowAnswer, EscrowCommand, Phase, Reference};
use tombola_core::reject::Reject;

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
        /// Height of the event.
        height: u64,
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
    /// A deposit or expiry was refused; nothing changed.
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
    /// # Errors
    /// [`LedgerFault::AnotherEscrow`], [`LedgerFault::AnotherAsset`], [`LedgerFault::NewerFormat`],
    /// [`LedgerFault::Store`] (foreign, damaged, failed).
    pub async fn open(store: S, config: EscrowConfig, clock: Timestamp) -> Result<Self, LedgerFault> {
        let rows = store.load(&[Key::header(), Key::totals()]).await?;
        let [header, totals] = <[Option<Stored>; 2]>::try_from(rows).map_err(|_| StoreFault::Damaged)?;
        let (totals, totals_version) = match (header, totals) {
            (None, None) => {
                write_header(&store, &config).await?;
                (Totals::EMPTY, 1)
            }
            (Some(header), Some(totals)) => {
                check_header(&header, &config)?;
                let version = totals.version;
                (decode_as::<Totals>(Table::Totals, &totals)?, version)
            }
            (Some(_), None) | (None, Some(_)) => return Err(StoreFault::Foreign.into()),
        };
        if !totals.is_conserved() {
            return Err(StoreFault::DamagedRow(Table::Totals).into());
        }
        let time = ledger_time(totals.time, clock);
        Ok(Self {
            store,
            config,
            totals,
            totals_version,
            time,
            served: Served::starting(time),
            phase: Phase::Open,
            health: Health::Sound,
        })
    }

    /// Decides a batch in order, commits it once, then says what came of each command.
    ///
    /// An empty batch is a sign of life: without one each half minute no hold expires. After a fault nothing is known
    /// to be durable, no outcome may be told, and the ledger refuses to go on until it is opened anew.
    ///
    /// # Errors
    /// [`LedgerFault::Store`], [`LedgerFault::Stopped`].
    pub async fn execute(&mut self, batch: Vec<Command>, clock: Timestamp) -> Result<Vec<Outcome>, LedgerFault> {
        if self.health == Health::Stopped {
            return Err(LedgerFault::Stopped);
        }
        let outcome = self.run(batch, clock).await;
        if outcome.is_err() {
            self.health = Health::Stopped;
        }
        outcome
    }

    async fn run(&mut self, batch: Vec<Command>, clock: Timestamp) -> Result<Vec<Outcome>, LedgerFault> {
        self.time = ledger_time(self.time, clock);
        self.served.observe(self.time);
        let mut work = Work::new(&self.config, self.totals, self.time, self.served, self.phase);
        prefetch(&mut work.view, &self.store, &batch).await?;
        let mut decided = Vec::with_capacity(batch.len());
        for command in &batch {
            decided.push(decide(&mut work, &self.store, command).await?);
        }
        let (totals, changes) = work.finish();
        self.commit(totals, changes).await?;
        let mut outcomes = Vec::with_capacity(decided.len());
        for (decided, command) in decided.into_iter().zip(&batch) {
            outcomes.push(match decided {
                Decided::Outcome(outcome) => outcome,
                Decided::Query => Outcome::Answer(self.query(command).await?),
            });
        }
        Ok(outcomes)
    }

    async fn commit(&mut self, totals: Totals, mut changes: Vec<Change>) -> Result<(), LedgerFault> {
        if changes.is_empty() {
            invariant!(totals == self.totals, "nothing moves without a row");
            return Ok(());
        }
        invariant!(totals.is_conserved(), "deposits = balances + held + fees");
        invariant!(totals.height >= self.totals.height, "the log only grows");
        let version = self.totals_version.saturating_add(1);
        changes.push(Change {
            key: Key::totals(),
            before: self.totals_version,
            after: Some(Stored {
                version,
                bytes: Row::Totals(totals).encode(),
            }),
        });
        changes.sort_unstable_by_key(|change| change.key);
        self.store.commit(commit_of(changes)).await?;
        self.totals = totals;
        self.totals_version = version;
        Ok(())
    }

    async fn query(&self, command: &Command) -> Result<Draft, LedgerFault> {
        let Command::Request(request) = command else {
            return Err(StoreFault::Damaged.into());
        };
        let standing = self.standing();
        Ok(query::answer(&self.store, &self.config, &standing, request.request()).await?)
    }

    /// Expires holds that are due, at most `limit`. Spec: H-09.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn expire_due(&mut self, limit: usize, clock: Timestamp) -> Result<Vec<Outcome>, LedgerFault> {
        let now = ledger_time(self.time, clock);
        let range = Range {
            from: Key::due(Timestamp(0), 0),
            to: Some(Key::due(now.minus_ms(EXPIRE_GRACE_MS), u64::MAX)),
            limit,
        };
        let due = self.store.scan(&range).await?;
        let mut batch = Vec::with_capacity(due.len());
        for (key, _) in due {
            let hold = crate::holds::load_row::<S, crate::row::HoldRow>(&self.store, Key::hold(key.last_number()));
            let row = hold.await?.ok_or(StoreFault::DamagedRow(Table::Due))?;
            batch.push(Command::Expire { hold: row.hold.id() });
        }
        self.execute(batch, clock).await
    }

    /// Forgets kept answers older than 48 h, at most `limit`; says how many. Spec: R-02.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn prune(&mut self, limit: usize, clock: Timestamp) -> Result<usize, LedgerFault> {
        if self.health == Health::Stopped {
            return Err(LedgerFault::Stopped);
        }
        let now = ledger_time(self.time, clock);
        let range = Range {
            from: Key::answer_age(Timestamp(0), 0),
            to: Some(Key::answer_age(now.minus_ms(ANSWER_KEPT_MS), 0)),
            limit,
        };
        let old = self.store.scan(&range).await?;
        let mut changes = Vec::with_capacity(old.len().saturating_mul(2));
        for (key, stored) in &old {
            let age = decode_as::<AnswerAge>(Table::AnswerAges, stored)?;
            let answer = Key::answer(&age.connection, &age.request);
            for (key, version) in [(*key, stored.version), (answer, 1)] {
                changes.push(Change {
                    key,
                    before: version,
                    after: None,
                });
            }
        }
        if !changes.is_empty()
            && let Err(fault) = self.store.commit(commit_of(changes)).await
        {
            self.health = Health::Stopped;
            return Err(fault.into());
        }
        Ok(old.len())
    }

    /// What the ledger does at present; shown by `Info`, and no hold is opened or raised unless it is open.
    pub const fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// The store, for readers on other threads.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// Sums and log end as of the last commit.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What `Info` needs besides the configuration; hand it to readers that answer queries.
    pub const fn standing(&self) -> query::Standing {
        query::Standing {
            time: self.time,
            phase: self.phase,
        }
    }
}

/// Decides one command; loads what it misses and begins again.
async fn decide<S: Store>(work: &mut Work<'_>, store: &S, command: &Command) -> Result<Decided, LedgerFault> {
    if let Command::Request(request) = command
        && let EscrowCommand::Claim { batch, .. } = &request.request().command
    {
        let proofs = match work.claims(request) {
            Err(reject) => return Ok(Decided::rejected(reject)),
            Ok(proofs) => proofs,
        };
        let mut answers: Vec<ClaimAnswer> = Vec::with_capacity(proofs.len());
        for (claim, proof) in batch.claims.as_slice().iter().zip(proofs) {
            match settle(work, store, |work| work.claim(&batch.payee, claim, proof)).await? {
                Ok(answer) => answers.push(answer),
                Err(reject) => return Ok(Decided::rejected(reject)),
            }
        }
        let answers = List::new(answers).map_err(|_| StoreFault::Damaged)?;
        let answer = EscrowAnswer::Claimed { answers };
        return Ok(Decided::Outcome(Outcome::Answer(Draft::new(answer))));
    }
    let decided = settle(work, store, |work| work.command(command)).await?;
    Ok(decided.unwrap_or_else(|reject| Decided::refused(command, reject)))
}

/// Makes a decision again until no row is missing. It writes nothing before it has read everything.
async fn settle<S: Store, T>(
    work: &mut Work<'_>,
    store: &S,
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
        work.view.load(store, &[missing]).await?;
    }
}

/// Loads what claims will read, in three rounds for the whole batch rather than row by row.
async fn prefetch<S: Store>(view: &mut View, store: &S, batch: &[Command]) -> Result<(), StoreFault> {
    let books: Vec<(HoldId, tombola_core::key::BookId)> = batch.iter().flat_map(claimed_books).collect();
    let ids: Vec<Key> = books.iter().map(|(hold, _)| Key::hold_id(hold)).collect();
    view.load(store, &ids).await?;
    let row_of = |view: &View, hold: &HoldId| view.peek::<u64>(Key::hold_id(hold)).copied();
    let mut rows = Vec::with_capacity(books.len().saturating_mul(2));
    for (hold, book) in &books {
        if let Some(row) = row_of(view, hold) {
            rows.extend([Key::hold(row), Key::book(row, book)]);
        }
    }
    view.load(store, &rows).await?;
    let mut accounts = Vec::new();
    for key in rows {
        if let Some(hold) = view.peek::<crate::row::HoldRow>(key) {
            accounts.extend([Key::account(hold.payer), Key::account(hold.payee)]);
        }
    }
    view.load(store, &accounts).await
}

/// Hold and book of each claim that will be judged.
fn claimed_books(command: &Command) -> Vec<(HoldId, tombola_core::key::BookId)> {
    let Command::Request(request) = command else {
        return Vec::new();
    };
    let EscrowCommand::Claim { batch, .. } = &request.request().command else {
        return Vec::new();
    };
    let crate::request::Proof::Claims(proofs) = request.proof() else {
        return Vec::new();
    };
    let claims = batch.claims.as_slice().iter().zip(proofs);
    claims
        .filter_map(|(claim, proof)| Some((claim.book.body.hold, proof.as_ref().ok()?.book)))
        .collect()
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
        return Err(LedgerFault::NewerFormat { stored: stored_format });
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

async fn write_header<S: Store>(store: &S, config: &EscrowConfig) -> Result<(), StoreFault> {
    let header = Header {
        magic: MAGIC,
        format: FORMAT,
        escrow: config.escrow,
        asset: config.asset,
    };
    let rows = [
        (Key::header(), Row::Header(header)),
        (Key::totals(), Row::Totals(Totals::EMPTY)),
    ];
    let first = |(key, row): (Key, Row)| Change {
        key,
        before: 0,
        after: Some(Stored {
            version: 1,
            bytes: row.encode(),
        }),
    };
    store.commit(commit_of(rows.into_iter().map(first).collect())).await
}

/// Changes of the only writer, by the row of totals.
fn commit_of(changes: Vec<Change>) -> Commit {
    Commit {
        changes,
        reads: Vec::new(),
        mark: Key::totals(),
    }
}

fn decode_as<T: Record + Clone>(table: Table, stored: &Stored) -> Result<T, StoreFault> {
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
    #[error("the store has format {stored}, this version reads {FORMAT}: update the program")]
    NewerFormat {
        /// Its format.
        stored: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// The store failed before.
    #[error("the ledger stopped after a fault; open it again")]
    Stopped,
}
