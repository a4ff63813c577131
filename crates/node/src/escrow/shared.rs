//! What all connections of an escrow share, and the way to its writer.

use super::budget::Budgets;
use super::cores::Cores;
use super::crowd::{Crowd, REQUESTS_MAX};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{oneshot, watch};
use tombola_core::escrow::{ClockJump, EscrowConfig};
use tombola_core::key::SecretKey;
use tombola_core::reject::{Code, Reject};
use tombola_ledger::holds::HoldCache;
use tombola_ledger::ledger::{Command, Ledger, LedgerFault, Outcome};
use tombola_ledger::query::Standing;
use tombola_store::escrow_store::EscrowStore;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) key: SecretKey,
    pub(super) config: EscrowConfig,
    pub(super) store: EscrowStore,
    pub(super) cache: HoldCache,
    pub(super) cores: Cores,
    pub(super) places: Crowd,
    budgets: Mutex<Budgets>,
    pub(super) state: State,
    pub(super) counters: Counters,
    /// None once the escrow has drained.
    queue: Mutex<Option<SyncSender<Job>>>,
}

/// What waits for the writer.
#[derive(Debug)]
pub(super) enum Job {
    /// Commands of one request, decided in one commit.
    Commands(Commands),
    /// The operator declares another writer dead.
    RemoveWriter {
        writer: u32,
        done: oneshot::Sender<Result<(), LedgerFault>>,
    },
}

/// Commands, and who waits for their outcomes.
#[derive(Debug)]
pub(super) struct Commands {
    pub(super) commands: Vec<Command>,
    pub(super) done: oneshot::Sender<Vec<Outcome>>,
}

impl Shared {
    pub(super) fn new(key: SecretKey, config: EscrowConfig, ledger: &Ledger<EscrowStore>) -> (Self, Receiver<Job>) {
        // Deposits come from the operator and have no place of their own, so there is room for some more.
        let (queue, jobs) = sync_channel(REQUESTS_MAX * 2);
        let shared = Self {
            cache: HoldCache::new(config.escrow),
            key,
            config,
            store: ledger.store().clone(),
            cores: Cores::new(),
            places: Crowd::default(),
            budgets: Mutex::default(),
            state: State::new(ledger.standing()),
            counters: Counters::default(),
            queue: Mutex::new(Some(queue)),
        };
        (shared, jobs)
    }

    /// What each key has caused; not to be held across an await.
    pub(super) fn budgets(&self) -> MutexGuard<'_, Budgets> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the writer decide commands, in one commit; returns when that is durable.
    ///
    /// # Errors
    /// `unavailable` after a fault or in a drain, `busy` (limit, waiting).
    pub(super) async fn submit(&self, commands: Vec<Command>) -> Result<Vec<Outcome>, Reject> {
        let (done, decided) = oneshot::channel();
        self.enqueue(Job::Commands(Commands { commands, done }))?;
        // The writer drops what it could not make durable: nothing is known about it.
        decided.await.map_err(|_| Reject::of(Code::Unavailable))
    }

    /// Has the writer declare another one dead.
    ///
    /// # Errors
    /// As [`Self::submit`]; within, what the ledger says.
    pub(super) async fn remove_writer(&self, writer: u32) -> Result<Result<(), LedgerFault>, Reject> {
        let (done, removed) = oneshot::channel();
        self.enqueue(Job::RemoveWriter { writer, done })?;
        removed.await.map_err(|_| Reject::of(Code::Unavailable))
    }

    fn enqueue(&self, job: Job) -> Result<(), Reject> {
        let unavailable = Reject::of(Code::Unavailable);
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queue.as_ref().ok_or(unavailable)?;
        queue.try_send(job).map_err(|error| match error {
            std::sync::mpsc::TrySendError::Full(_) => busy(REQUESTS_MAX * 2, REQUESTS_MAX * 2),
            std::sync::mpsc::TrySendError::Disconnected(_) => unavailable,
        })
    }

    /// Lets the writer end when it has done what waits.
    pub(super) fn close_queue(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// A limit on work is reached.
pub(super) fn busy(limit: usize, now: usize) -> Reject {
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    Reject::compared(Code::Busy, number(limit), number(now))
}

/// What the escrow does at present, for whoever waits for a change.
#[derive(Debug)]
pub(super) struct State {
    standing: watch::Sender<Standing>,
    clock_jump: watch::Sender<Option<ClockJump>>,
    fault: watch::Sender<Option<LedgerFault>>,
    draining: watch::Sender<bool>,
    recovery_ended: AtomicBool,
}

impl State {
    fn new(standing: Standing) -> Self {
        Self {
            standing: watch::Sender::new(standing),
            clock_jump: watch::Sender::new(None),
            fault: watch::Sender::new(None),
            draining: watch::Sender::new(false),
            recovery_ended: AtomicBool::new(false),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    pub(super) fn set_standing(&self, standing: Standing) {
        self.standing.send_replace(standing);
    }

    /// Whether the wall clock had jumped when the writer last looked.
    pub(super) fn clock_jump(&self) -> Option<ClockJump> {
        *self.clock_jump.borrow()
    }

    pub(super) fn set_clock_jump(&self, jump: Option<ClockJump>) {
        self.clock_jump.send_replace(jump);
    }

    /// For whoever waits for the next commit of this writer.
    pub(super) fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    pub(super) fn fault(&self) -> Option<LedgerFault> {
        *self.fault.borrow()
    }

    pub(super) fn fail(&self, fault: LedgerFault) {
        self.fault.send_replace(Some(fault));
    }

    pub(super) async fn failed(&self) -> LedgerFault {
        let mut fault = self.fault.subscribe();
        let failed = fault.wait_for(Option::is_some).await;
        // The sender is a part of this, so there is always a fault to come.
        failed.ok().and_then(|fault| *fault).unwrap_or(LedgerFault::Stopped)
    }

    /// The operator has ended the recovery; the writer sees it before its next job.
    pub(super) fn end_recovery(&self) {
        self.recovery_ended.store(true, Ordering::Release);
    }

    pub(super) fn is_recovery_ended(&self) -> bool {
        self.recovery_ended.load(Ordering::Acquire)
    }

    pub(super) fn drain(&self) {
        self.draining.send_replace(true);
    }

    pub(super) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    pub(super) async fn drained(&self) {
        // An error would mean that the sender is gone, and it is a part of this.
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }
}

/// What was done since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: Counter,
    pub(super) claims: Counter,
    /// Requests refused for a limit, the asker's own or the escrow's.
    pub(super) turned_away: Counter,
    /// Of these, for want of a place among all that are worked on: nobody's fault, and it may have been a claim.
    pub(super) crowded_out: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        self.0
            .fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
