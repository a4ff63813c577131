//! Extracts of a log: a file that anyone can check by hashing bytes, and by reading what it wants of them. Spec: G-09.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `TOMBXLOG` |
//! | 4 | version of this format: 1 |
//! | 32 | the escrow's key |
//! | 4 | the writer |
//! | 8 | height of the first event |
//! | 32 | head of the log before it; zeros before height 1 |
//! | 8 | how many events follow |
//! | 4 + n each | length, and the event as it is hashed, without the tag |
//! | 148 | [`LogEnd`] after the last event, with the escrow's signature |
//!
//! Numbers are little-endian. So the chain is checked without decoding any body, and by programs that know no body.

use crate::event::{Effect, Event};
use crate::key::Key;
use crate::row::{LogPlace, Totals};
use crate::store::{Range, Reader, StoreFault};
use bincode::{Decode, Encode};
use tombola_core::amount::Timestamp;
use tombola_core::claim::{Head, Receipt};
use tombola_core::codec::{Tag, decode, encode};
use tombola_core::key::{AccountKey, Signed, Tagged};
use tombola_core::message::Evidence;

/// The first bytes of an extract.
pub const MAGIC: [u8; 8] = *b"TOMBXLOG";
/// The format that this version writes and reads.
pub const VERSION: u32 = 1;
/// Longest event: a request of one message, and what is around it.
pub const EVENT_BYTES_MAX: usize = 256 * 1_024;
/// Events read at a time.
const PAGE_ROWS: usize = 1_024;
/// Bytes of a signed [`LogEnd`].
pub const END_BYTES: usize = 148;
/// Bytes before the first event.
pub const START_BYTES: usize = 96;

/// A log's head at a height, which the escrow signs when it shows it. Spec: G-09.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct LogEnd {
    /// Whose log.
    pub escrow: AccountKey,
    /// Which writer's.
    pub writer: u32,
    /// Height of the last event that it covers.
    pub height: u64,
    /// The head after it.
    pub head: Head,
    /// Ledger time of that event.
    pub at: Timestamp,
}

impl Tagged for LogEnd {
    const TAG: Tag = Tag::new("tombola/log-end/v1");
}

/// What is in front of the events. Spec: G-09.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct Start {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// Whose log.
    pub escrow: AccountKey,
    /// Which writer's.
    pub writer: u32,
    /// Height of the first event.
    pub first: u64,
    /// The head before it.
    pub previous: Head,
    /// How many events follow.
    pub count: u64,
}

/// Why a file is no extract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// It does not begin as extracts do.
    #[error("not an extract of a log")]
    Foreign,
    /// It has another format.
    #[error("the extract has format {found}, this version reads {VERSION}: use a newer version")]
    AnotherFormat {
        /// Its format.
        found: u32,
    },
    /// It ends before its end, or goes on after it, or an event is longer than any event.
    #[error("the extract is cut or damaged after height {height}")]
    Cut {
        /// The last height that was read.
        height: u64,
    },
    /// The log has no such events.
    #[error("the log of writer {writer} has heights 1 to {height}, not {from} to {to}")]
    OutOfRange {
        /// Which writer.
        writer: u32,
        /// Its last height.
        height: u64,
        /// The first that was asked for.
        from: u64,
        /// The last that was asked for.
        to: u64,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// Something in an extract that is not as a log is. Spec: G-10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Flaw {
    /// The event is not the one after the event before: by its writer, height or previous head.
    LogBroken,
    /// It is older than the event before.
    TimeBack,
    /// Its postings do not sum to zero.
    Postings,
    /// What is signed as the end is not where the events end.
    LogEnd,
}

/// Checks the events of an extract one after another. Spec: G-10.
#[derive(Debug, Clone)]
pub struct Chain {
    start: Start,
    height: u64,
    head: Head,
    at: Timestamp,
    flaws: Vec<(u64, Flaw)>,
}

impl Chain {
    /// Begins before the first event.
    #[must_use]
    pub const fn new(start: Start) -> Self {
        Self {
            start,
            height: start.first.saturating_sub(1),
            head: start.previous,
            at: Timestamp(0),
            flaws: Vec::new(),
        }
    }

    /// Takes the next event's bytes; answers its height, the head after it and what it says, if this version knows it.
    pub fn take(&mut self, bytes: &[u8]) -> (u64, Head, Option<Event>) {
        self.height = self.height.saturating_add(1);
        let height = self.height;
        let fixed = fixed_part(bytes);
        let follows = fixed == Some((self.start.writer, height, self.head));
        self.check(follows, height, Flaw::LogBroken);
        self.head = Event::head_of(bytes);
        let event: Option<Event> = decode(bytes).ok();
        if let Some(event) = &event {
            self.check(event.body.at >= self.at, height, Flaw::TimeBack);
            self.at = event.body.at;
            let mut postings = event.body.postings.iter();
            let sum = postings.try_fold(0i128, |sum, posting| sum.checked_add(posting.delta));
            self.check(sum == Some(0), height, Flaw::Postings);
        }
        (height, self.head, event)
    }

    /// Compares the end that is signed with where the events end. The signature is the caller's to check.
    pub fn finish(mut self, end: &LogEnd) -> Vec<(u64, Flaw)> {
        let is_end = (end.escrow, end.writer) == (self.start.escrow, self.start.writer)
            && (end.height, end.head) == (self.height, self.head);
        self.check(is_end, self.height, Flaw::LogEnd);
        self.flaws
    }

    fn check(&mut self, is_well: bool, height: u64, flaw: Flaw) {
        if !is_well {
            self.flaws.push((height, flaw));
        }
    }
}

/// Writer, height and previous head, which every event begins with.
fn fixed_part(bytes: &[u8]) -> Option<(u32, u64, Head)> {
    let (writer, rest) = bytes.split_first_chunk::<4>()?;
    let (height, rest) = rest.split_first_chunk::<8>()?;
    let (previous, _) = rest.split_first_chunk::<32>()?;
    Some((
        u32::from_le_bytes(*writer),
        u64::from_le_bytes(*height),
        Head(*previous),
    ))
}

/// Whether an event paid what a receipt says. Spec: G-10.
#[must_use]
pub fn pays(event: &Event, receipt: &Receipt) -> bool {
    let Effect::Captured(captured) = &event.body.effect else {
        return false;
    };
    captured.receipt(receipt.escrow, event.body.at, event.place(), receipt.head) == *receipt
}

/// Whether an event took this receipt back after a rollback. Spec: R-25.
#[must_use]
pub fn restores(event: &Event, receipt: &Receipt) -> bool {
    matches!(&event.body.cause, crate::event::Cause::Evidence { piece }
        if matches!(piece.as_ref(), Evidence::Receipt { receipt: shown, .. } if shown.body == *receipt))
}

/// What an extract of these heights begins and ends with; `to` is cut at the end of the log.
///
/// # Errors
/// [`ExtractError::OutOfRange`], [`ExtractError::Store`].
pub async fn bounds<R: Reader>(
    reader: &R,
    escrow: AccountKey,
    writer: u32,
    from: u64,
    to: u64,
) -> Result<(Start, LogEnd), ExtractError> {
    let totals = crate::holds::load_row::<R, Totals>(reader, Key::totals(writer)).await?;
    let height = totals.map_or(0, |totals| totals.height);
    let last = to.min(height);
    if from == 0 || from > last {
        return Err(ExtractError::OutOfRange {
            writer,
            height,
            from,
            to,
        });
    }
    let event = |height| Key::event(LogPlace { writer, height });
    let damaged = StoreFault::DamagedRow(crate::row::Table::Events);
    let first: Event = crate::holds::load_row(reader, event(from)).await?.ok_or(damaged)?;
    let end: Event = crate::holds::load_row(reader, event(last)).await?.ok_or(damaged)?;
    let start = Start {
        magic: MAGIC,
        version: VERSION,
        escrow,
        writer,
        first: from,
        previous: first.previous,
        count: last.saturating_sub(from).saturating_add(1),
    };
    let end = LogEnd {
        escrow,
        writer,
        height: last,
        head: end.head(),
        at: end.body.at,
    };
    Ok((start, end))
}

/// The bytes of a page of events from a height on, each as it is in an extract; and the height of the next page.
///
/// # Errors
/// [`StoreFault`].
pub async fn page<R: Reader>(
    reader: &R,
    writer: u32,
    from: u64,
    to: u64,
) -> Result<(Vec<u8>, Option<u64>), StoreFault> {
    let event = |height| Key::event(LogPlace { writer, height });
    let range = Range {
        from: event(from),
        to: Some(event(to)),
        limit: PAGE_ROWS,
    };
    let mut bytes = Vec::new();
    let mut last = None;
    for (key, stored) in reader.scan(&range).await? {
        let length = u32::try_from(stored.bytes.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&stored.bytes);
        last = Some(key.last_number());
    }
    let next = last.and_then(|last| last.checked_add(1)).filter(|next| *next <= to);
    Ok((bytes, next))
}

/// The first bytes of an extract.
#[must_use]
pub fn encode_start(start: &Start) -> Vec<u8> {
    encode(start)
}

/// Reads the first [`START_BYTES`] of an extract.
///
/// # Errors
/// [`ExtractError::Foreign`], [`ExtractError::AnotherFormat`].
pub fn decode_start(bytes: &[u8]) -> Result<Start, ExtractError> {
    let start: Start = decode(bytes).map_err(|_| ExtractError::Foreign)?;
    if start.magic != MAGIC {
        return Err(ExtractError::Foreign);
    }
    if start.version != VERSION {
        return Err(ExtractError::AnotherFormat { found: start.version });
    }
    Ok(start)
}

/// Reads the last [`END_BYTES`] of an extract.
///
/// # Errors
/// [`ExtractError::Cut`].
pub fn decode_end(bytes: &[u8], height: u64) -> Result<Signed<LogEnd>, ExtractError> {
    decode(bytes).map_err(|_| ExtractError::Cut { height })
}
