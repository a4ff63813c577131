//! Signatures and draws on all cores: no more of it at once than there are cores, so that sockets are still served.

use std::sync::Arc;
use tokio::sync::Semaphore;

/// A place for each core.
#[derive(Debug, Clone)]
pub(super) struct Cores {
    places: Arc<Semaphore>,
    count: usize,
}

impl Cores {
    pub(super) fn new() -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            places: Arc::new(Semaphore::new(count)),
            count,
        }
    }

    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Works on all items side by side; results are in their order. None if a worker was lost, which is a bug of the
    /// work or the end of the runtime.
    pub(super) async fn map<I, T, W>(&self, items: Vec<I>, work: W) -> Option<Vec<T>>
    where
        I: Send + 'static,
        T: Send + 'static,
        W: Fn(I) -> T + Clone + Send + 'static,
    {
        let mut working = Vec::with_capacity(items.len());
        for item in items {
            let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
            let work = work.clone();
            working.push(tokio::task::spawn_blocking(move || {
                let result = work(item);
                drop(place);
                result
            }));
        }
        let mut results = Vec::with_capacity(working.len());
        for result in working {
            results.push(result.await.ok()?);
        }
        Some(results)
    }
}
