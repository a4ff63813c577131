//! What a writer does by itself from time to time: expiring, folding, paying out, forgetting, and removing dead writers.

mod old;
mod policy;

use super::{Command, Health, Ledger, LedgerFault, Outcome, Removal};
use crate::key::{HoldKey, Key};
use crate::row::{HoldRow, Table, others};
use crate::store::{Range, Sharing, Store, StoreFault};
use crate::{fold, query};
use tombola_core::amount::Timestamp;
use tombola_core::escrow::ledger_time;
use tombola_core::limits::EXPIRE_GRACE_MS;
use tombola_core::message::Phase;

impl<S: Store> Ledger<S> {
    /// Expires holds that are due, at most `limit`. Spec: H-09.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn expire_due(&mut self, limit: usize, clock: Timestamp) -> Result<Vec<Outcome>, LedgerFault> {
        if self.standing().phase == Phase::Recovering {
            return Ok(Vec::new());
        }
        let now = ledger_time(self.time, clock);
        let first = HoldKey { payer: 0, serial: 0 };
        let last = HoldKey {
            payer: u64::MAX,
            serial: u64::MAX,
        };
        let range = Range {
            from: Key::due(Timestamp(0), first),
            to: Some(Key::due(now.minus_ms(EXPIRE_GRACE_MS), last)),
            limit,
        };
        let due = self.store.scan(&range).await?;
        let keys: Vec<Key> = due.iter().map(|(key, _)| Key::hold(key.last_hold())).collect();
        let mut batch = Vec::with_capacity(keys.len());
        // A hold that another writer ended meanwhile is gone from the list or refused.
        for (key, stored) in keys.iter().zip(self.store.load(&keys).await?) {
            if let Some(stored) = stored {
                let hold = query::decode::<HoldRow>(*key, &stored)?.hold.id();
                batch.push(Command::Expire { hold });
            }
        }
        self.execute(batch, clock).await
    }

    /// Folds credits that this writer appended, and those of writers that show no sign of life, at most `limit`; says
    /// how many. Spec: G-06.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn fold(&mut self, limit: usize, clock: Timestamp) -> Result<usize, LedgerFault> {
        if self.store.sharing() == Sharing::Sole {
            return Ok(0);
        }
        let now = ledger_time(self.time, clock);
        let writers = query::writers(&self.store).await?;
        let others = others(&writers, self.config.writer).filter(|(_, totals)| totals.is_alive(now));
        let others: Vec<u32> = others.map(|(writer, _)| writer).collect();
        let found = fold::credits_but_of(&self.store, &others, limit).await?;
        let batch = fold::commands(found.iter());
        let folded = self.execute(batch, clock).await?;
        Ok(folded.iter().map(fold::count).sum())
    }

    /// Withdraws for payout policies that are due; looks at `limit` of them, in turn, and says how many were. Spec: R-21.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn pay_out(&mut self, limit: usize, clock: Timestamp) -> Result<usize, LedgerFault> {
        if self.standing().phase == Phase::Recovering {
            return Ok(0);
        }
        let now = ledger_time(self.time, clock);
        let reader = (&self.store, self.store.sharing());
        let turn = policy::due_policies(reader, &self.config, self.next_policy, limit, now).await?;
        self.next_policy = turn.next;
        let outcomes = self.execute(turn.batch, clock).await?;
        let is_made = |outcome: &&Outcome| matches!(outcome, Outcome::PaidOut { withdrawal: Some(_) });
        Ok(outcomes.iter().filter(is_made).count())
    }

    /// Whether the last [`Self::pay_out`] looked at the last policy, so that the next begins anew.
    #[must_use]
    pub const fn is_round_of_policies_done(&self) -> bool {
        self.next_policy == 0
    }

    /// Forgets at most `limit` rows that nobody needs any more: kept answers after 48 h, and ended holds with their
    /// books and settled withdrawals after 30 days. Says how many. Spec: R-02, G-08.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn prune(&mut self, limit: usize, clock: Timestamp) -> Result<usize, LedgerFault> {
        if self.health == Health::Stopped {
            return Err(LedgerFault::Stopped);
        }
        self.time = ledger_time(self.time, clock);
        // The commit tells others until when this writer served, so a gap before it must be known by then.
        self.served.observe(self.time);
        let old = old::old_rows(&self.store, limit, self.time).await?;
        if old.changes.is_empty() {
            return Ok(0);
        }
        match self.commit(self.totals, old.changes, Vec::new()).await {
            Ok(()) => Ok(old.count),
            // Another writer forgot them.
            Err(LedgerFault::Store(StoreFault::Conflict(_))) => Ok(0),
            Err(fault) => {
                self.health = Health::Stopped;
                Err(fault)
            }
        }
    }

    /// Declares another writer dead, so that nobody waits for it any more, and takes over what fees it can collect. It
    /// cannot be started again. Spec: G-13, H-09.
    ///
    /// # Errors
    /// [`LedgerFault::WriterAlive`] while it shows signs of life, [`LedgerFault::WriterUnknown`]; a
    /// [`StoreFault::Conflict`] where other writers came in between each time; as [`Self::execute`].
    pub async fn remove_writer(&mut self, writer: u32, clock: Timestamp) -> Result<(), LedgerFault> {
        let outcome = self.execute(vec![Command::RemoveWriter { writer }], clock).await?.pop();
        match outcome {
            Some(Outcome::WriterRemoval(Removal::Done)) => Ok(()),
            Some(Outcome::WriterRemoval(Removal::Alive { silent_ms })) => {
                Err(LedgerFault::WriterAlive { writer, silent_ms })
            }
            Some(Outcome::WriterRemoval(Removal::Unknown)) => Err(LedgerFault::WriterUnknown { writer }),
            _ => Err(StoreFault::Conflict(Table::Totals).into()),
        }
    }
}
