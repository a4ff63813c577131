//! Quoting without state: a quote is recomputed from itself, and only opened quote ids are remembered.

use crate::amount::Timestamp;
use crate::draw::Reveal;
use crate::key::QuoteId;
use crate::limits::{OPENED_QUOTES_MAX, QUOTE_EPOCH_MS, QUOTE_LIFE_MS};
use crate::quote::{EpochSecret, Quote, QuoteTerms};
use crate::reject::{Code, Reject};
use std::collections::BTreeSet;

/// Makes quotes and recognises them. Spec.
#[derive(Debug)]
pub(crate) struct Quoter {
    current: EpochSecret,
    /// Lives until the last quote made with it has expired.
    previous: Option<EpochSecret>,
    epoch_ends: Timestamp,
    /// Ids that opened a book, by when their quotes expire: kept so long, never evicted before. An id has one expiry, as
    /// a quote with another is not recognised.
    opened: BTreeSet<(Timestamp, QuoteId)>,
}

impl Quoter {
    pub(crate) const fn new(secret: EpochSecret, now: Timestamp) -> Self {
        Self {
            current: secret,
            previous: None,
            epoch_ends: now.plus_ms(QUOTE_EPOCH_MS),
            opened: BTreeSet::new(),
        }
    }

    /// Whether a fresh secret is due.
    pub(crate) fn is_epoch_over(&self, now: Timestamp) -> bool {
        now >= self.epoch_ends
    }

    /// Replaces the secret; the old one lives on for the quotes it made.
    pub(crate) fn begin_epoch(&mut self, secret: EpochSecret, now: Timestamp) {
        self.previous = Some(std::mem::replace(&mut self.current, secret));
        self.epoch_ends = now.plus_ms(QUOTE_EPOCH_MS);
    }

    pub(crate) fn quote(&self, terms: QuoteTerms) -> Quote {
        self.current.quote(terms)
    }

    /// The reveal of a quote that this process made and that is unaltered, unexpired and unopened.
    pub(crate) fn recognise(&self, quote: &Quote, now: Timestamp) -> Result<Reveal, Reject> {
        let expires_at = quote.terms.expires_at;
        if now > expires_at {
            return Err(Reject::compared(Code::QuoteExpired, now.0, expires_at.0));
        }
        let secrets = std::iter::once(&self.current).chain(self.previous.as_ref());
        let reveal = secrets
            .map(|secret| secret.reveal(&quote.terms))
            .find(|reveal| reveal.commitment() == quote.commitment)
            .ok_or(Reject::of(Code::QuoteAltered))?;
        self.check_unopened(quote)?;
        Ok(reveal)
    }

    pub(crate) fn check_unopened(&self, quote: &Quote) -> Result<(), Reject> {
        if self.opened.contains(&(quote.terms.expires_at, quote.terms.quote_id)) {
            return Err(Reject::of(Code::CommitmentReused));
        }
        if self.opened.len() >= OPENED_QUOTES_MAX {
            let limit = u64::try_from(OPENED_QUOTES_MAX).unwrap_or(u64::MAX);
            return Err(Reject::compared(Code::Busy, limit, limit));
        }
        Ok(())
    }

    /// Remembers that a quote has opened its one book.
    pub(crate) fn mark_opened(&mut self, quote: &Quote) {
        self.opened.insert((quote.terms.expires_at, quote.terms.quote_id));
    }

    /// Forgets what can no longer be presented.
    pub(crate) fn prune(&mut self, now: Timestamp) {
        while self.opened.first().is_some_and(|(expires_at, _)| *expires_at < now) {
            self.opened.pop_first();
        }
        let epoch_began = self.epoch_ends.minus_ms(QUOTE_EPOCH_MS);
        if now > epoch_began.plus_ms(QUOTE_LIFE_MS) {
            self.previous = None;
        }
    }
}
