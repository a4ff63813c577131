//! The logs of all writers, in an order in which they can be replayed.

use super::replay::Replay;
use super::{Finding, PAGE_ROWS, Progress};
use crate::event::Event;
use crate::key::Key;
use crate::pages::Pages;
use crate::query::decode;
use crate::row::{LogPlace, Totals};
use crate::store::{Range, Reader, StoreFault};
use std::collections::VecDeque;

/// Replays the logs of all writers, each event after those that made the rows it was decided on. Spec: G-05.
pub(super) async fn replay_all<R: Reader>(
    reader: &R,
    replay: &mut Replay<'_>,
    writers: &[(u32, Totals)],
    progress: &mut (impl FnMut(Progress) + Send),
) -> Result<(), StoreFault> {
    let of = writers
        .iter()
        .fold(0u64, |sum, (_, totals)| sum.saturating_add(totals.height));
    let mut logs: Vec<Log> = writers.iter().map(|(writer, _)| Log::of(*writer)).collect();
    loop {
        let (mut waiting, mut is_stuck) = (None, true);
        for (index, log) in logs.iter_mut().enumerate() {
            while let Some(event) = log.first(reader).await? {
                if !replay.is_ready(event) {
                    waiting = waiting.or(Some(index));
                    break;
                }
                replay.event(event);
                log.pass();
                is_stuck = false;
                let events = replay.events();
                if events.checked_rem(EVENTS_PER_WORD) == Some(0) {
                    progress(Progress { events, of });
                }
            }
        }
        let Some(index) = waiting else { break };
        if is_stuck && let Some(log) = logs.get_mut(index) {
            // Nothing can come before it, so its rows were not as it says.
            if let Some(event) = log.first(reader).await? {
                replay.find(Finding::Order(event.place()));
                replay.event(event);
            }
            log.pass();
        }
    }
    let events = replay.events();
    progress(Progress { events, of });
    find_stray(reader, replay, writers).await
}

/// Finds events of writers that the ledger does not know: one of each.
async fn find_stray<R: Reader>(
    reader: &R,
    replay: &mut Replay<'_>,
    writers: &[(u32, Totals)],
) -> Result<(), StoreFault> {
    let mut next = Some(0u32);
    while let Some(writer) = next {
        let range = Range {
            from: Key::event(LogPlace { writer, height: 0 }),
            to: None,
            limit: 1,
        };
        let Some((key, _)) = reader.scan(&range).await?.pop() else {
            break;
        };
        // Of a whole log that is known one event is enough: all of it was replayed.
        let found = key.last_place().writer;
        if !writers.iter().any(|(writer, _)| *writer == found) {
            replay.find(Finding::row(key));
        }
        next = found.max(writer).checked_add(1);
    }
    Ok(())
}

/// One writer's log, read page by page.
#[derive(Debug)]
struct Log {
    page: VecDeque<Event>,
    pages: Pages,
}

impl Log {
    fn of(writer: u32) -> Self {
        let place = |height| Key::event(LogPlace { writer, height });
        let pages = Pages::of(Range {
            from: place(0),
            to: Some(place(u64::MAX)),
            limit: PAGE_ROWS,
        });
        let page = VecDeque::new();
        Self { page, pages }
    }

    /// The event that is next, if there is one.
    async fn first<R: Reader>(&mut self, reader: &R) -> Result<Option<&Event>, StoreFault> {
        if self.page.is_empty()
            && let Some(page) = self.pages.next(reader).await?
        {
            for (key, stored) in page {
                let mut event: Event = decode(key, &stored)?;
                // Found elsewhere than it says: as a gap.
                if event.place() != key.last_place() {
                    event.height = 0;
                }
                self.page.push_back(event);
            }
        }
        Ok(self.page.front())
    }

    fn pass(&mut self) {
        self.page.pop_front();
    }
}

/// Between two words on how far it is: about a fifth of a second, where claims have a thousand tickets.
const EVENTS_PER_WORD: u64 = 1_024;
