//! The writer thread of a store file, and what it gives those who read.

use super::log::{Appended, Log};
use super::place::Place;
use super::{Apply, Message, StoreError, Write, commit, number, spell};
use redb::Database;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tombola_store::redb_file;

/// Changes of one transaction: more would make the first of them wait too long.
const GROUP_MAX: usize = 4_096;
/// What is durable in the log goes into the file within this.
const FOLD_INTERVAL: Duration = Duration::from_millis(100);

/// The writer thread of a store file.
pub(super) struct Writer<C> {
    database: Arc<Database>,
    place: Box<dyn Place>,
    apply: Apply<C>,
    keeping: Keeping,
    /// Durable in the log and not yet in the file; they go there when it is `due`.
    pending: Vec<C>,
    due: Instant,
    /// After an error nobody knows what the disk has, until a restart reads it.
    has_failed: Arc<AtomicBool>,
    file: FileState,
}

pub(super) enum Keeping {
    Logged(Log),
    Apart { interval: Duration, next: Instant },
}

/// Whether what is pending may still go into the file.
enum FileState {
    Whole,
    /// A commit failed, and the file is written no more before a restart.
    Failed,
    /// As [`FileState::Failed`]; somebody has read since.
    Copied(Arc<Database>),
}

impl<C: bincode::Encode> Writer<C> {
    pub(super) fn new(database: Database, place: Box<dyn Place>, apply: Apply<C>, keeping: Keeping) -> Self {
        Self {
            database: Arc::new(database),
            place,
            apply,
            keeping,
            pending: Vec::new(),
            due: Instant::now(),
            has_failed: Arc::new(AtomicBool::new(false)),
            file: FileState::Whole,
        }
    }

    /// What turns true with the first error that only a restart mends.
    pub(super) fn has_failed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.has_failed)
    }

    pub(super) fn run(mut self, messages: &mpsc::Receiver<Message<C>>) {
        loop {
            let message = if self.is_folded() {
                messages.recv().map_err(mpsc::RecvTimeoutError::from)
            } else {
                messages.recv_timeout(self.due.saturating_duration_since(Instant::now()))
            };
            match message {
                Ok(Message::Write(first)) => self.write(first, messages),
                Ok(Message::Read(done)) => {
                    // Who no longer waits has been cancelled.
                    let _ = done.send(self.readable());
                }
                Err(mpsc::RecvTimeoutError::Timeout) => self.fold_by_itself(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return self.fold_by_itself(),
            }
            if !self.is_folded() && Instant::now() >= self.due {
                self.fold_by_itself();
            }
        }
    }

    /// Whether nothing is left to do for the file, or nothing can be done.
    const fn is_folded(&self) -> bool {
        self.pending.is_empty() || !matches!(self.file, FileState::Whole)
    }

    /// Writes one message with all that wait, and answers them.
    fn write(&mut self, first: Write<C>, messages: &mpsc::Receiver<Message<C>>) {
        if let Keeping::Apart { interval, next } = &mut self.keeping {
            // A lone write goes at once; in a rush, what comes within the interval shares one commit.
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            *next = Instant::now() + *interval;
        }
        let mut changes = first.changes;
        let mut waiting = vec![first.done];
        let mut reading = None;
        while changes.len() < GROUP_MAX && reading.is_none() {
            match messages.try_recv() {
                Ok(Message::Write(more)) => {
                    changes.extend(more.changes);
                    waiting.push(more.done);
                }
                Ok(Message::Read(done)) => reading = Some(done),
                Err(_) => break,
            }
        }
        let result = self.keep(changes);
        for done in waiting {
            // Who no longer waits has been cancelled; its change is durable all the same.
            let _ = done.send(result.clone());
        }
        if let Some(done) = reading {
            let _ = done.send(self.readable());
        }
    }

    /// Makes changes durable.
    fn keep(&mut self, changes: Vec<C>) -> Result<(), StoreError> {
        if self.has_failed.load(Ordering::Acquire) {
            return Err(StoreError::AfterFault);
        }
        let result = self.keep_all(changes);
        if let (Err(_), Keeping::Logged(_)) = (&result, &self.keeping) {
            self.has_failed.store(true, Ordering::Release);
        }
        result
    }

    fn keep_all(&mut self, changes: Vec<C>) -> Result<(), StoreError> {
        let Keeping::Logged(log) = &mut self.keeping else {
            return commit(&self.database, &mut changes.iter(), self.apply, None);
        };
        if changes.is_empty() {
            return Ok(());
        }
        let body = spell(changes.iter());
        let mut appended = log.append(&body)?;
        if appended == Appended::Full {
            self.fold()?;
            let Keeping::Logged(log) = &mut self.keeping else {
                return Ok(());
            };
            appended = log.append(&body)?;
        }
        if self.pending.is_empty() {
            self.due = Instant::now() + FOLD_INTERVAL;
        }
        self.pending.extend(changes);
        match appended {
            Appended::Durable => Ok(()),
            // Too much for the whole log: it goes where the log would have brought it.
            Appended::Full => self.fold(),
        }
    }

    /// Puts what the log has into the file, after which the log may begin at its front again. A log that has failed takes
    /// nothing more, but what was durable in it is good, and goes into the file all the same.
    fn fold(&mut self) -> Result<(), StoreError> {
        let Keeping::Logged(log) = &mut self.keeping else {
            return Ok(());
        };
        if self.pending.is_empty() {
            log.rewind();
            return Ok(());
        }
        let FileState::Whole = self.file else {
            return Err(StoreError::AfterFault);
        };
        let mut pending = self.pending.iter();
        if let Err(error) = commit(&self.database, &mut pending, self.apply, Some(log.sequence())) {
            tracing::error!(%error, "the log cannot be put into the store; both are kept and read at the next start");
            self.file = FileState::Failed;
            self.has_failed.store(true, Ordering::Release);
            return Err(error);
        }
        self.pending.clear();
        log.rewind();
        Ok(())
    }

    /// As [`Self::fold`], when nobody asked.
    fn fold_by_itself(&mut self) {
        if !self.is_folded() {
            // A failure was logged, and is remembered.
            let _ = self.fold();
        }
    }

    /// A database that has all that is durable.
    fn readable(&mut self) -> Result<Arc<Database>, StoreError> {
        if let FileState::Copied(copy) = &self.file {
            return Ok(Arc::clone(copy));
        }
        match (self.fold(), &self.file) {
            (Ok(()), _) => Ok(Arc::clone(&self.database)),
            (Err(error), FileState::Whole) => Err(error),
            (Err(_), FileState::Failed | FileState::Copied(_)) => {
                let copy = Arc::new(self.copied()?);
                self.file = FileState::Copied(Arc::clone(&copy));
                Ok(copy)
            }
        }
    }

    /// What a restart would find: the file as it is, and what only the log has. It is put together in memory, as redb reads
    /// no file that it failed to write.
    fn copied(&self) -> Result<Database, StoreError> {
        let copy = redb_file::open_copy(&self.place.read_store()?).map_err(|_| StoreError::AfterFault)?;
        // The commit that failed may have reached the file all the same, and counters must not count twice.
        if let Keeping::Logged(log) = &self.keeping
            && number(&copy, "applied")? < log.sequence()
        {
            commit(&copy, &mut self.pending.iter(), self.apply, Some(log.sequence()))?;
        }
        Ok(copy)
    }
}
