//! Reading a range page by page.

use crate::key::Key;
use crate::store::{Range, Reader, StoreFault, Stored};

/// What is left of a range.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pages {
    next: Option<Key>,
    to: Option<Key>,
    limit: usize,
}

impl Pages {
    /// A whole range, so many rows at a time as it says.
    pub(crate) const fn of(range: Range) -> Self {
        let Range { from, to, limit } = range;
        let next = Some(from);
        Self { next, to, limit }
    }

    /// The next rows; none after the last.
    pub(crate) async fn next<R: Reader>(&mut self, reader: &R) -> Result<Option<Vec<(Key, Stored)>>, StoreFault> {
        let (Some(from), to, limit) = (self.next.take(), self.to, self.limit) else {
            return Ok(None);
        };
        let page = reader.scan(&Range { from, to, limit }).await?;
        let full = page.last().filter(|_| page.len() >= limit);
        self.next = full.and_then(|(key, _)| key.successor());
        Ok(Some(page).filter(|page| !page.is_empty()))
    }
}
