//! A store to which something happens at a chosen moment: another writer commits, or the server is lost.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use tombola_ledger::key::Key;
use tombola_ledger::store::{ClockReading, Commit, Range, Reader, Sharing, Snapshot, Store, StoreFault, Stored};

/// What becomes of a commit that is never answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Lost,
    Landed,
}

#[derive(Default)]
struct Plan {
    between: Option<Box<dyn FnOnce() + Send>>,
    fate: Option<Fate>,
    /// Reads of snapshots that succeed before one fails.
    reads_left: Option<usize>,
    commits: usize,
}

/// A store with a plan; clones share both.
#[derive(Clone)]
pub(crate) struct Meddled<S> {
    inner: S,
    plan: Arc<Mutex<Plan>>,
}

impl<S: Store> Meddled<S> {
    pub(crate) fn new(inner: S) -> Self {
        let plan = Arc::default();
        Self { inner, plan }
    }

    /// Lets this happen once, after the next decision and before its commit. It is given the store as others have it.
    pub(crate) fn between(&self, happens: impl FnOnce(S) + Send + 'static) {
        let inner = self.inner.clone();
        self.plan().between = Some(Box::new(move || happens(inner)));
    }

    /// Loses the server once, in a read of a snapshot after so many others.
    pub(crate) fn lose_read(&self, after: usize) {
        self.plan().reads_left = Some(after);
    }

    /// Loses the server in the next commit.
    pub(crate) fn lose_commit(&self, fate: Fate) {
        self.plan().fate = Some(fate);
    }

    /// Whether all that was to happen has happened.
    pub(crate) fn is_over(&self) -> bool {
        let plan = self.plan();
        plan.between.is_none() && plan.fate.is_none() && plan.reads_left.is_none()
    }

    /// How many commits were tried, by this writer and not by those in between.
    pub(crate) fn commits(&self) -> usize {
        self.plan().commits
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap()
    }
}

impl<S> fmt::Debug for Meddled<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meddled").finish_non_exhaustive()
    }
}

impl<S: Store> Reader for Meddled<S> {
    async fn load(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreFault> {
        self.inner.load(keys).await
    }

    async fn scan(&self, range: &Range) -> Result<Vec<(Key, Stored)>, StoreFault> {
        self.inner.scan(range).await
    }
}

impl<S: Store> Store for Meddled<S> {
    type Snapshot = MeddledSnapshot<S>;

    fn sharing(&self) -> Sharing {
        self.inner.sharing()
    }

    async fn snapshot(&self) -> Result<MeddledSnapshot<S>, StoreFault> {
        let inner = self.inner.snapshot().await?;
        let store = self.clone();
        Ok(MeddledSnapshot { inner, store })
    }

    async fn snapshot_to_write(&self) -> Result<MeddledSnapshot<S>, StoreFault> {
        let inner = self.inner.snapshot_to_write().await?;
        let store = self.clone();
        Ok(MeddledSnapshot { inner, store })
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreFault> {
        let (between, fate) = {
            let mut plan = self.plan();
            plan.commits += 1;
            (plan.between.take(), plan.fate.take())
        };
        if let Some(happens) = between {
            happens();
        }
        match fate {
            None => self.inner.commit(commit).await,
            Some(Fate::Lost) => Err(StoreFault::Unreachable),
            Some(Fate::Landed) => {
                self.inner.commit(commit).await?;
                Err(StoreFault::Unreachable)
            }
        }
    }
}

/// What the writer decides on.
pub(crate) struct MeddledSnapshot<S: Store> {
    inner: S::Snapshot,
    store: Meddled<S>,
}

impl<S: Store> MeddledSnapshot<S> {
    fn read(&self) -> Result<(), StoreFault> {
        let mut plan = self.store.plan();
        match plan.reads_left {
            None => Ok(()),
            Some(0) => {
                plan.reads_left = None;
                Err(StoreFault::Unreachable)
            }
            Some(left) => {
                plan.reads_left = Some(left - 1);
                Ok(())
            }
        }
    }
}

impl<S: Store> Reader for MeddledSnapshot<S> {
    async fn load(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreFault> {
        self.read()?;
        self.inner.load(keys).await
    }

    async fn scan(&self, range: &Range) -> Result<Vec<(Key, Stored)>, StoreFault> {
        self.read()?;
        self.inner.scan(range).await
    }
}

impl<S: Store> Snapshot for MeddledSnapshot<S> {
    fn clock(&self) -> Option<ClockReading> {
        self.inner.clock()
    }
}
