//! Signatures and draws on all cores: no more of it at once than there are cores, so that sockets are still served.

use std::sync::Arc;
use tokio::sync::Semaphore;

/// A place for each core.
#[derive(Debug, Clone)]
pub(super) struct Cores {
    places: Arc<Semaphore>,
    count: usize,
}

/// How long a piece of work takes, reading included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Less than 100 us together: done here and now, as handing it to another thread and back takes as long.
    Light,
    /// Longer: it would keep sockets waiting.
    Heavy,
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
    pub(super) async fn map<I, T, W>(&self, weight: Weight, items: Vec<I>, work: W) -> Option<Vec<T>>
    where
        I: Send + 'static,
        T: Send + 'static,
        W: Fn(I) -> T + Clone + Send + 'static,
    {
        if weight == Weight::Light {
            return Some(items.into_iter().map(work).collect());
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[tokio::test]
    async fn light_work_stays_on_its_thread_and_heavy_work_keeps_its_order() {
        let cores = Cores::new();
        let here = thread::current().id();
        let on = |number: u32| (number, thread::current().id());
        let light = cores.map(Weight::Light, vec![1, 2], on).await.unwrap();
        assert_eq!(light, [(1, here), (2, here)]);
        let heavy = cores.map(Weight::Heavy, (0..64).collect(), on).await.unwrap();
        assert!(heavy.iter().all(|(_, thread)| *thread != here));
        assert!(heavy.iter().map(|(number, _)| *number).eq(0..64));
    }
}
