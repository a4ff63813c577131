//! The writer's thread: takes all that waits, has the ledger decide and commit it at once, and says what came of it.

use super::shared::{Job, State};
use crate::clock;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tombola_core::limits::SERVED_GAP_MS;
use tombola_core::message::{EscrowCommand, Phase};
use tombola_ledger::ledger::{Command, Ledger, LedgerFault};
use tombola_store::block_on::block_on;
use tombola_store::redb_store::RedbStore;

/// Work of one commit, counted in claims: about a tenth of a second, so that the first of a batch does not wait long.
const GROUP_CLAIMS_MAX: usize = 1_024;
/// Holds expired or answers forgotten at a time, for the same reason.
const TICK_ROWS_MAX: usize = 512;
/// A sign of life twice in what would be a gap of serving.
const TICK: Duration = Duration::from_millis(SERVED_GAP_MS / 2);

/// Serves jobs until their queue is closed, or the ledger stops after a fault.
pub(super) fn run(mut ledger: Ledger<RedbStore>, jobs: &Receiver<Job>, state: &State) {
    let _alarm = Alarm(state);
    if let Err(fault) = serve(&mut ledger, jobs, state) {
        tracing::error!(%fault, "the ledger stopped: nothing more is promised");
        state.fail(fault);
    }
}

fn serve(ledger: &mut Ledger<RedbStore>, jobs: &Receiver<Job>, state: &State) -> Result<(), LedgerFault> {
    let mut next_tick = Instant::now();
    loop {
        let wait = next_tick.saturating_duration_since(Instant::now());
        let job = jobs.recv_timeout(wait);
        obey(ledger, state);
        match job {
            Ok(first) => carry_out(ledger, gather(first, jobs))?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if Instant::now() >= next_tick {
            let is_more = tick(ledger)?;
            // What is left over comes soon, but not before the parties that wait.
            next_tick = Instant::now() + if is_more { Duration::from_millis(10) } else { TICK };
        }
        state.set_standing(ledger.standing());
    }
}

/// Goes into the phase that it is told to.
fn obey(ledger: &mut Ledger<RedbStore>, state: &State) {
    if state.is_recovery_ended() {
        ledger.end_recovery(clock::now());
    }
    // What has begun is finished; nothing new is promised. One that is recovering promises nothing new anyway.
    if state.is_draining() && ledger.standing().phase == Phase::Open {
        ledger.set_phase(Phase::Draining);
    }
}

/// The first job and what waits behind it, up to one commit's worth.
fn gather(first: Job, jobs: &Receiver<Job>) -> Vec<Job> {
    let mut weight = first.commands.iter().map(weight_of).sum::<usize>();
    let mut group = vec![first];
    while weight < GROUP_CLAIMS_MAX {
        let Ok(next) = jobs.try_recv() else { break };
        weight += next.commands.iter().map(weight_of).sum::<usize>();
        group.push(next);
    }
    group
}

fn weight_of(command: &Command) -> usize {
    match command {
        Command::Request(request) => match &request.request().command {
            EscrowCommand::Claim { batch, .. } => batch.claims.as_slice().len().max(1),
            _ => 1,
        },
        Command::Deposit { .. } | Command::Expire { .. } | Command::Fold { .. } => 1,
    }
}

fn carry_out(ledger: &mut Ledger<RedbStore>, group: Vec<Job>) -> Result<(), LedgerFault> {
    let mut commands = Vec::new();
    let mut waiting = Vec::with_capacity(group.len());
    for job in group {
        waiting.push((job.commands.len(), job.done));
        commands.extend(job.commands);
    }
    let mut outcomes = block_on(ledger.execute(commands, clock::now()))?.into_iter();
    for (count, done) in waiting {
        // Who no longer waits will repeat its request and gets the same answer.
        let _ = done.send(outcomes.by_ref().take(count).collect());
    }
    Ok(())
}

/// Shows a sign of life, expires what is due and forgets old answers. Says whether more waits.
fn tick(ledger: &mut Ledger<RedbStore>) -> Result<bool, LedgerFault> {
    block_on(ledger.execute(Vec::new(), clock::now()))?;
    let expired = block_on(ledger.expire_due(TICK_ROWS_MAX, clock::now()))?;
    let is_expired = |outcome: &&_| matches!(outcome, tombola_ledger::ledger::Outcome::Expired { .. });
    let expired = expired.iter().filter(is_expired).count();
    let folded = block_on(ledger.fold(TICK_ROWS_MAX, clock::now()))?;
    let forgotten = block_on(ledger.prune(TICK_ROWS_MAX, clock::now()))?;
    Ok(expired >= TICK_ROWS_MAX || folded >= TICK_ROWS_MAX || forgotten >= TICK_ROWS_MAX)
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
