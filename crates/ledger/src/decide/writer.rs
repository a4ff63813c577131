//! Removing a writer that is dead: its log ends, and its fees are the remover's.

use super::{Decided, Work};
use crate::event::{Cause, Effect};
use crate::key::Key;
use crate::ledger::{Outcome, Removal};
use crate::row::Totals;
use crate::view::Stop;

impl Work<'_> {
    /// Ends a silent writer's log. Its row is changed in the same commit, so whatever it was about to commit fails.
    /// Spec: G-13.
    pub(super) fn remove_writer(&mut self, writer: u32) -> Result<Decided, Stop> {
        let removal = |removal| Ok(Decided::Outcome(Outcome::WriterRemoval(removal)));
        if writer == self.config.writer {
            return removal(Removal::Alive { silent_ms: 0 });
        }
        let key = Key::totals(writer);
        let Some(found) = self.view.find::<Totals>(key)?.copied() else {
            return removal(Removal::Unknown);
        };
        if found.is_removed {
            return removal(Removal::Done);
        }
        if found.is_alive(self.now) {
            let silent_ms = found.silent_for_ms(self.now);
            return removal(Removal::Alive { silent_ms });
        }
        let fees = found.own_fees();
        invariant!(
            found.fees.saturating_add(found.inherited) == i128::from(fees.0),
            "a writer collects no more than it has"
        );
        let effect = Effect::WriterRemoved {
            writer,
            height: found.height,
            head: found.head,
            fees,
        };
        self.view.edit::<Totals>(key, |totals| totals.is_removed = true);
        self.totals.inherit(fees);
        let body = self.event_body(Cause::RemoveWriter { writer }, effect, Vec::new(), Vec::new());
        self.book(body, &[], &[]);
        removal(Removal::Done)
    }
}
