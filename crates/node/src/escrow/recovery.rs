//! Starting beside a witness, keeping it while the ledger runs, and ending a recovery.

use super::shared::Shared;
use super::witness::{Keeper, WitnessError, WitnessOptions, check};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tombola_core::key::SecretKey;
use tombola_ledger::key::Key;
use tombola_ledger::ledger::Ledger;
use tombola_ledger::row::{Row, Table, Totals};
use tombola_ledger::store::{Reader, Store, StoreFault};

/// How far the witness may be behind: what is lost with a store beyond it is not noticed.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// Compares a ledger that was opened with its witness, and has it go on from there: in its epoch, and recovering if so.
///
/// The witness is written before this returns: an epoch that is not durable could be given out twice. Spec: G-12, R-26.
pub(super) async fn take_up<S: Store>(
    ledger: &mut Ledger<S>,
    writer: u32,
    options: &WitnessOptions,
    key: &SecretKey,
) -> Result<Keeper, WitnessError> {
    let checked = check(ledger.store(), ledger.totals(), options, writer, key).await;
    if let Err(error @ (WitnessError::Behind { .. } | WitnessError::AnotherHistory { .. })) = &checked {
        tracing::error!(event = "rollback_detected", %error, "the store is not what its witness has seen");
    }
    let standpoint = checked?;
    let mut keeper = Keeper::new(options.path.clone(), writer, key, standpoint);
    keeper.write(ledger.totals())?;
    ledger.set_epoch(standpoint.epoch);
    if let Some(restored_at) = standpoint.recovering {
        tracing::warn!(
            event = "recovering",
            epoch = standpoint.epoch,
            "recovering: parties resubmit, nothing new is promised"
        );
        ledger.begin_recovery(restored_at);
    }
    Ok(keeper)
}

/// What the witness's keeper is told.
#[derive(Debug)]
enum Order {
    EndRecovery(oneshot::Sender<Result<(), WitnessError>>),
    Finish,
}

/// The keeper of a running ledger's witness.
#[derive(Debug)]
pub(super) struct Witnessing {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

impl Witnessing {
    pub(super) fn start(keeper: Keeper, shared: Arc<Shared>) -> Self {
        let (orders, waiting) = mpsc::channel(1);
        let task = tokio::spawn(keep(keeper, shared, waiting));
        Self { orders, task }
    }

    /// Has the witness say that the recovery is over; durable when this returns.
    pub(super) async fn end_recovery(&self) -> Result<(), WitnessError> {
        let (done, written) = oneshot::channel();
        let stopped = WitnessError::Store(StoreFault::Stopped);
        let sent = self.orders.send(Order::EndRecovery(done)).await;
        sent.map_err(|_| stopped.clone())?;
        written.await.unwrap_or(Err(stopped))
    }

    /// Writes the last head, and ends.
    pub(super) async fn finish(self) {
        // A keeper that is gone has said why.
        let _ = self.orders.send(Order::Finish).await;
        let _ = self.task.await;
    }
}

async fn keep(mut keeper: Keeper, shared: Arc<Shared>, mut orders: mpsc::Receiver<Order>) {
    loop {
        let order = tokio::time::timeout(BEHIND_MAX, orders.recv()).await;
        if let Ok(Some(Order::EndRecovery(_))) = &order {
            keeper.end_recovery();
        }
        let (back, written) = write(keeper, &shared).await;
        if let Err(error) = &written {
            tracing::error!(event = "witness_not_written", %error, "the witness is not written: a store that loses its end would not be noticed");
        }
        let Some(back) = back else { return };
        keeper = back;
        match order {
            Ok(Some(Order::EndRecovery(done))) => drop(done.send(written)),
            Ok(Some(Order::Finish) | None) => return,
            Err(_) => {}
        }
    }
}

/// Writes what is durable, away from the async threads; gives the keeper back unless the runtime ends.
async fn write(mut keeper: Keeper, shared: &Arc<Shared>) -> (Option<Keeper>, Result<(), WitnessError>) {
    // What a failed commit did is known when the store is opened again, and not before.
    if let Some(fault) = shared.state.fault() {
        tracing::debug!(%fault, "the witness stays as it is");
        return (Some(keeper), Err(StoreFault::Stopped.into()));
    }
    let totals = match totals(&shared.store, keeper.writer()).await {
        Ok(totals) => totals,
        Err(fault) => return (Some(keeper), Err(fault.into())),
    };
    let writing = tokio::task::spawn_blocking(move || {
        let written = keeper.write(&totals);
        (keeper, written)
    });
    match writing.await {
        Ok((keeper, written)) => (Some(keeper), written),
        Err(_) => (None, Err(StoreFault::Stopped.into())),
    }
}

/// A writer's sums as of its last commit.
pub(super) async fn totals<R: Reader>(store: &R, writer: u32) -> Result<Totals, StoreFault> {
    let stored = store.load(&[Key::totals(writer)]).await?.pop().flatten();
    match stored.map(|stored| Row::decode(Table::Totals, &stored.bytes)) {
        Some(Ok(Row::Totals(totals))) => Ok(totals),
        _ => Err(StoreFault::DamagedRow(Table::Totals)),
    }
}
