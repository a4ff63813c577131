//! The writer's thread: takes all that waits, has the ledger decide and commit it at once, and says what came of it.

use super::shared::{Commands, Job, Shared, State};
use super::watched::WatchedClock;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tombola_core::limits::SERVED_GAP_MS;
use tombola_core::message::{EscrowCommand, Phase};
use tombola_ledger::ledger::{Command, Ledger, LedgerFault};
use tombola_ledger::store::StoreFault;
use tombola_net::Endpoint;
use tombola_store::block_on::block_on;
use tombola_store::escrow_store::EscrowStore;

/// Work of one commit, counted in claims: about a tenth of a second, so that the first of a batch does not wait long.
const GROUP_CLAIMS_MAX: usize = 1_024;
/// Holds expired or answers forgotten at a time, for the same reason.
const TICK_ROWS_MAX: usize = 512;
/// A sign of life twice in what would be a gap of serving.
const TICK: Duration = Duration::from_millis(SERVED_GAP_MS / 2);
/// How long credits wait to be folded: what reads an account adds up those that wait, so they are to stay few.
const FOLD_PAUSE: Duration = Duration::from_millis(200);

/// Serves jobs until their queue is closed, or the ledger stops after a fault.
pub(super) fn run(
    mut ledger: Ledger<EscrowStore>,
    mut clock: WatchedClock,
    jobs: &Receiver<Job>,
    shared: &Shared,
    endpoint: Endpoint,
) {
    let state = &shared.state;
    let _alarm = Alarm(state);
    let mut door = Door::new(shared, endpoint);
    if let Err(fault) = serve(&mut ledger, &mut clock, jobs, state, &mut door) {
        tracing::error!(event = event_of(&fault), %fault, "the ledger stopped: nothing more is promised");
        state.fail(fault);
    }
}

/// Whether everyone who came to claim was let in. A payer whose crowd takes all places is not to have its holds expire
/// meanwhile. Spec: H-09.
pub(super) struct Door<'a> {
    shared: &'a Shared,
    endpoint: Endpoint,
    turned_away: u64,
}

impl<'a> Door<'a> {
    pub(super) const fn new(shared: &'a Shared, endpoint: Endpoint) -> Self {
        Self {
            shared,
            endpoint,
            turned_away: 0,
        }
    }

    /// Since the last time, for want of room: what an address or a key does to itself does not count.
    pub(super) fn has_turned_anyone_away(&mut self) -> bool {
        let attempts = self.endpoint.turned_away();
        let requests = self.shared.counters.crowded_out.read();
        let all = attempts.for_want_of_room().saturating_add(requests);
        std::mem::replace(&mut self.turned_away, all) != all
    }
}

/// The stable name of a fault in the log, for whoever watches it.
const fn event_of(fault: &LedgerFault) -> &'static str {
    match fault {
        LedgerFault::ClockApart { .. } => "clock_skew",
        LedgerFault::Fenced { .. } => "fenced",
        LedgerFault::Store(StoreFault::Io(disk)) if disk.is_full() => "disk_full",
        _ => "store_failed",
    }
}

fn serve(
    ledger: &mut Ledger<EscrowStore>,
    clock: &mut WatchedClock,
    jobs: &Receiver<Job>,
    state: &State,
    door: &mut Door<'_>,
) -> Result<(), LedgerFault> {
    let mut next_tick = Instant::now();
    let mut next_fold = next_tick;
    loop {
        let wait = next_tick.min(next_fold).saturating_duration_since(Instant::now());
        let job = jobs.recv_timeout(wait);
        obey(ledger, clock, state);
        match job {
            Ok(Job::Commands(first)) => {
                let (group, other) = gather(first, jobs);
                carry_out(ledger, clock, group)?;
                remove(ledger, clock, other)?;
                next_fold = next_fold.min(Instant::now() + FOLD_PAUSE);
            }
            Ok(Job::RemoveWriter { writer, done }) => remove(ledger, clock, Some((writer, done)))?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if Instant::now() >= next_fold {
            let folded = block_on(ledger.fold(TICK_ROWS_MAX, clock.now()))?;
            // Its own commits bring more, and dead writers, so it rests after the last one until there is another.
            next_fold = Instant::now()
                + match folded {
                    0 => TICK,
                    // More wait: they come at once, and the parties in between.
                    TICK_ROWS_MAX.. => Duration::ZERO,
                    _ => FOLD_PAUSE,
                };
        }
        if Instant::now() >= next_tick {
            if door.has_turned_anyone_away() {
                ledger.serve_anew(clock.now());
            }
            let is_more = tick(ledger, clock)?;
            // What is left over comes soon, but not before the parties that wait.
            next_tick = Instant::now() + if is_more { Duration::from_millis(10) } else { TICK };
        }
        state.set_standing(ledger.standing());
        state.set_clock_jump(clock.jump());
    }
}

/// Goes into the phase that it is told to.
fn obey(ledger: &mut Ledger<EscrowStore>, clock: &mut WatchedClock, state: &State) {
    if state.is_recovery_ended() {
        ledger.end_recovery(clock.now());
    }
    // What has begun is finished; nothing new is promised. One that is recovering promises nothing new anyway.
    if state.is_draining() && ledger.standing().phase == Phase::Open {
        ledger.set_phase(Phase::Draining);
    }
}

/// Another writer to be declared dead, and who waits for that.
type Removal = (u32, oneshot::Sender<Result<(), LedgerFault>>);

/// The first commands and what waits behind them, up to one commit's worth or another kind of job.
fn gather(first: Commands, jobs: &Receiver<Job>) -> (Vec<Commands>, Option<Removal>) {
    let mut weight = first.commands.iter().map(weight_of).sum::<usize>();
    let mut group = vec![first];
    while weight < GROUP_CLAIMS_MAX {
        match jobs.try_recv() {
            Ok(Job::Commands(next)) => {
                weight += next.commands.iter().map(weight_of).sum::<usize>();
                group.push(next);
            }
            Ok(Job::RemoveWriter { writer, done }) => return (group, Some((writer, done))),
            Err(_) => break,
        }
    }
    (group, None)
}

/// Declares a writer dead. That the ledger will not is an answer; a store that failed or another process in our place
/// is the end.
fn remove(
    ledger: &mut Ledger<EscrowStore>,
    clock: &mut WatchedClock,
    removal: Option<Removal>,
) -> Result<(), LedgerFault> {
    let Some((writer, done)) = removal else { return Ok(()) };
    let removed = block_on(ledger.remove_writer(writer, clock.now()));
    // An operator that no longer waits will look.
    let _ = done.send(removed);
    match removed {
        Ok(())
        | Err(
            LedgerFault::WriterAlive { .. }
            | LedgerFault::WriterUnknown { .. }
            | LedgerFault::Store(StoreFault::Conflict(_)),
        ) => Ok(()),
        Err(fault) => Err(fault),
    }
}

fn weight_of(command: &Command) -> usize {
    match command {
        Command::Request(request) => match &request.request().command {
            EscrowCommand::Claim { batch, .. } => batch.claims.as_slice().len().max(1),
            _ => 1,
        },
        Command::Deposit { .. }
        | Command::Expire { .. }
        | Command::Settle { .. }
        | Command::CollectFees { .. }
        | Command::PayOut { .. }
        | Command::RemoveWriter { .. }
        | Command::Fold { .. } => 1,
    }
}

fn carry_out(
    ledger: &mut Ledger<EscrowStore>,
    clock: &mut WatchedClock,
    group: Vec<Commands>,
) -> Result<(), LedgerFault> {
    let mut commands = Vec::new();
    let mut waiting = Vec::with_capacity(group.len());
    for job in group {
        waiting.push((job.commands.len(), job.done));
        commands.extend(job.commands);
    }
    let mut outcomes = block_on(ledger.execute(commands, clock.now()))?.into_iter();
    for (count, done) in waiting {
        // Who no longer waits will repeat its request and gets the same answer.
        let _ = done.send(outcomes.by_ref().take(count).collect());
    }
    Ok(())
}

/// Shows a sign of life, and does what a date alone decides: expires and pays out what is due and forgets old answers.
/// None of that can be taken back, so it waits while the clock cannot be believed. Says whether more waits. Spec: C-07.
pub(super) fn tick(ledger: &mut Ledger<EscrowStore>, clock: &mut WatchedClock) -> Result<bool, LedgerFault> {
    block_on(ledger.execute(Vec::new(), clock.now()))?;
    let Some(now) = clock.believed() else { return Ok(false) };
    let expired = block_on(ledger.expire_due(TICK_ROWS_MAX, now))?;
    let is_expired = |outcome: &&_| matches!(outcome, tombola_ledger::ledger::Outcome::Expired { .. });
    let expired = expired.iter().filter(is_expired).count();
    let Some(now) = clock.believed() else { return Ok(false) };
    block_on(ledger.pay_out(TICK_ROWS_MAX, now))?;
    let Some(now) = clock.believed() else { return Ok(false) };
    let forgotten = block_on(ledger.prune(TICK_ROWS_MAX, now))?;
    Ok(expired >= TICK_ROWS_MAX || !ledger.is_round_of_policies_done() || forgotten >= TICK_ROWS_MAX)
}

/// Tells everyone that the writer is gone if it ends by a violated invariant.
struct Alarm<'a>(&'a State);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(LedgerFault::Stopped);
        }
    }
}
