//! Reading: a few connections that are lent out, and snapshots.

use super::patience::Patience;
use super::session::{Moment, Session, Step, pipelined};
use super::statement::Plain;
use super::trouble::Trouble;
use super::waiting::Asked;
use super::{Shared, spawned};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tombola_core::amount::Timestamp;
use tombola_ledger::key::Key;
use tombola_ledger::store::{ClockReading, Range, Reader, Snapshot, StoreFault, Stored};

/// Reads at once. A server has some hundred connections for all of its clients.
const READERS_MAX: usize = 4;
/// Snapshots at once that are read from; the next one waits.
const SNAPSHOTS_MAX: usize = 8;
/// The same of the writer's, which has one and may begin the next before the end of the last is heard.
const SNAPSHOTS_TO_WRITE_MAX: usize = 2;

/// Connections that read, and how many there may be.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Mutex<Vec<Session>>,
    readers: Semaphore,
    pub(super) snapshots: Arc<Semaphore>,
    /// Apart from the others, or a few that read slowly would keep the writer waiting.
    pub(super) snapshots_to_write: Arc<Semaphore>,
}

impl Default for Readers {
    fn default() -> Self {
        Self {
            idle: Mutex::default(),
            readers: Semaphore::new(READERS_MAX),
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
            snapshots_to_write: Arc::new(Semaphore::new(SNAPSHOTS_TO_WRITE_MAX)),
        }
    }
}

impl Readers {
    fn lock(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Session> {
        let mut idle = self.lock();
        idle.retain(|session| !session.is_closed());
        idle.pop()
    }

    /// Keeps a session that is in no transaction.
    pub(super) fn keep(&self, session: Session) {
        let mut idle = self.lock();
        if idle.len() < READERS_MAX {
            idle.push(session);
        }
    }

    /// Closes what is idle: after a failover it may still be connected to the server that was left.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }
}

/// A question that can be asked again when a connection is lost.
pub(super) trait Question: Sync {
    type Answer: Send;

    fn ask(&self, session: &Session) -> impl Future<Output = Result<Self::Answer, Trouble>> + Send;
}

/// The rows of these keys.
pub(super) struct WhichRows(pub(super) Vec<Key>);
/// The rows of a range.
pub(super) struct WhichRange(pub(super) Range);

impl Question for WhichRows {
    type Answer = Vec<Option<Stored>>;

    async fn ask(&self, session: &Session) -> Result<Self::Answer, Trouble> {
        session.load(&self.0, Moment::Own).await
    }
}

impl Question for WhichRange {
    type Answer = Vec<(Key, Stored)>;

    async fn ask(&self, session: &Session) -> Result<Self::Answer, Trouble> {
        session.scan(&self.0).await
    }
}

impl Shared {
    /// Asks until there is an answer or patience ends.
    pub(super) async fn read<Q: Question>(&self, question: &Q) -> Result<Q::Answer, StoreFault> {
        let mut patience = self.patience();
        let permit = patience.whole(self.readers.readers.acquire()).await?;
        let _permit = permit.map_err(|_| StoreFault::Stopped)?;
        loop {
            let session = match self.readers.take() {
                Some(session) => session,
                None => self.connect(&mut patience).await?,
            };
            match patience.turn(question.ask(&session)).await {
                Some(Ok(answer)) => {
                    self.readers.keep(session);
                    return Ok(answer);
                }
                Some(Err(Trouble::Lost | Trouble::Again)) | None => patience.pause().await?,
                Some(Err(trouble)) => return Err(trouble.fault()),
            }
        }
    }
}

/// The rows of one moment, on a connection of its own while it lives.
pub struct PostgresSnapshot {
    session: Option<Arc<Session>>,
    shared: Arc<Shared>,
    runtime: Handle,
    permit: Option<OwnedSemaphorePermit>,
    clock: ClockReading,
}

impl PostgresSnapshot {
    /// Begins one as soon as there is a place for it.
    pub(super) async fn begin(
        shared: Arc<Shared>,
        runtime: Handle,
        places: Arc<Semaphore>,
    ) -> Result<Self, StoreFault> {
        let asked = Asked::now();
        let mut patience = shared.patience();
        let permit = patience.whole(places.acquire_owned());
        let permit = permit.await?.map_err(|_| StoreFault::Stopped)?;
        loop {
            let session = match shared.readers.take() {
                Some(session) => session,
                None => shared.connect(&mut patience).await?,
            };
            match patience.turn(stand_still(&session)).await {
                Some(Ok(at)) => {
                    return Ok(Self {
                        session: Some(Arc::new(session)),
                        shared,
                        runtime,
                        permit: Some(permit),
                        clock: ClockReading {
                            at,
                            waited_ms: asked.waited_ms(),
                        },
                    });
                }
                Some(Err(Trouble::Lost | Trouble::Again)) | None => patience.pause().await?,
                Some(Err(trouble)) => return Err(trouble.fault()),
            }
        }
    }

    fn session(&self) -> Result<Arc<Session>, StoreFault> {
        self.session.clone().ok_or(StoreFault::Stopped)
    }
}

/// Begins to read as of now, and says when that is by the server's clock: it is the first statement after `BEGIN` that
/// fixes the moment. Both go out together.
async fn stand_still(session: &Session) -> Result<Timestamp, Trouble> {
    let steps: Vec<Step<'_, Option<Timestamp>>> = vec![
        Box::pin(async {
            session.run_plain(Plain::BeginRead).await?;
            Ok(None)
        }),
        Box::pin(async { session.clock().await.map(Some) }),
    ];
    let mut now = None;
    for step in pipelined(steps).await {
        now = step?;
    }
    now.ok_or(Trouble::Damaged)
}

impl Reader for PostgresSnapshot {
    async fn load(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreFault> {
        let (session, patience, keys) = (self.session()?, self.shared.patience(), keys.to_vec());
        let load = async move { once(patience, session.load(&keys, Moment::Enclosing)).await };
        spawned(&self.runtime, load).await
    }

    async fn scan(&self, range: &Range) -> Result<Vec<(Key, Stored)>, StoreFault> {
        let (session, patience, range) = (self.session()?, self.shared.patience(), *range);
        let scan = async move { once(patience, session.scan(&range)).await };
        spawned(&self.runtime, scan).await
    }
}

/// What only this connection knows cannot be asked again on another.
async fn once<T>(mut patience: Patience, answer: impl Future<Output = Result<T, Trouble>>) -> Result<T, StoreFault> {
    patience.whole(answer).await?.map_err(Trouble::fault)
}

impl Snapshot for PostgresSnapshot {
    fn clock(&self) -> Option<ClockReading> {
        Some(self.clock)
    }
}

impl Drop for PostgresSnapshot {
    fn drop(&mut self) {
        // A session that somebody still reads from is closed by the last who lets go of it.
        let session = self.session.take().and_then(Arc::into_inner);
        let (Some(session), permit) = (session, self.permit.take()) else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        drop(self.runtime.spawn(async move {
            let rollback = shared.patience().turn(session.run_plain(Plain::Rollback)).await;
            if matches!(rollback, Some(Ok(()))) {
                shared.readers.keep(session);
            }
            drop(permit);
        }));
    }
}

impl std::fmt::Debug for PostgresSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresSnapshot")
    }
}
