//! What one connection may have in memory beyond the windows of its transport: frames that were taken out of the stream
//! and are not yet answered, and answers that are not yet taken. Who is over it waits for its own others, and for nobody
//! else's; what it sends meanwhile stays within its windows.

use crate::ClientKey;
use crate::admission::Place;
use crate::limits::{
    ANSWERS_BYTES_MAX, DOWNLOAD_CONNECTION_BYTES_MAX, FAST_CONNECTIONS_MAX, FRAMES_BYTES_MAX,
    REQUEST_ANSWERS_BYTES_MAX, REQUEST_FRAMES_BYTES_MAX,
};
use std::sync::{Arc, OnceLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes set aside; given back when dropped.
#[derive(Debug, Default)]
pub struct SetAside(#[expect(dead_code, reason = "held for its end")] Option<OwnedSemaphorePermit>);

/// The budgets of one connection, and its places; given back with its last stream.
#[derive(Debug)]
pub(crate) struct Budget {
    frames: Pool,
    answers: Pool,
    fast: OnceLock<OwnedSemaphorePermit>,
    fast_places: Arc<Semaphore>,
    _place: Option<Place>,
}

#[derive(Debug)]
struct Pool {
    bytes: u32,
    free: Arc<Semaphore>,
}

impl Pool {
    fn new(bytes: usize) -> Self {
        Self {
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            free: Arc::new(Semaphore::new(bytes)),
        }
    }

    /// Waits in turn. More than there is in all is taken as all there is.
    async fn take(&self, bytes: usize) -> SetAside {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes);
        // The semaphore is never closed.
        SetAside(Arc::clone(&self.free).acquire_many_owned(bytes).await.ok())
    }
}

impl Budget {
    pub(crate) fn of_server(client_key: ClientKey, place: Place, fast_places: Arc<Semaphore>) -> Arc<Self> {
        let (frames, answers) = match client_key {
            ClientKey::Required => (REQUEST_FRAMES_BYTES_MAX, REQUEST_ANSWERS_BYTES_MAX),
            ClientKey::NotAsked => (FRAMES_BYTES_MAX, ANSWERS_BYTES_MAX),
        };
        Arc::new(Self {
            frames: Pool::new(frames),
            answers: Pool::new(answers),
            fast: OnceLock::new(),
            fast_places,
            _place: Some(place),
        })
    }

    /// A client asks for what it gets, so its windows are its only limit.
    pub(crate) fn of_client() -> Arc<Self> {
        let bytes = usize::try_from(DOWNLOAD_CONNECTION_BYTES_MAX).unwrap_or(usize::MAX);
        Arc::new(Self {
            frames: Pool::new(bytes),
            answers: Pool::new(bytes),
            fast: OnceLock::new(),
            fast_places: Arc::new(Semaphore::new(0)),
            _place: None,
        })
    }

    pub(crate) async fn frame(&self, bytes: usize) -> SetAside {
        self.frames.take(bytes).await
    }

    pub(crate) async fn answer(&self, bytes: usize) -> SetAside {
        self.answers.take(bytes).await
    }

    /// Takes one of the places of fast connections, for as long as the connection lives; false where there is none, or
    /// the connection has one already.
    pub(crate) fn become_fast(&self) -> bool {
        if self.fast.get().is_some() {
            return false;
        }
        let place = Arc::clone(&self.fast_places).try_acquire_owned();
        place.is_ok_and(|place| self.fast.set(place).is_ok())
    }
}

/// The places of a server's fast connections: those of an escrow are all alike.
pub(crate) fn fast_places(client_key: ClientKey) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(match client_key {
        ClientKey::Required => 0,
        ClientKey::NotAsked => FAST_CONNECTIONS_MAX,
    }))
}
