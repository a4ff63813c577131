//! `tombola verify log` and `receipt`: what extracts of a log and receipts show, alone and side by side, and never more.

use super::{Checks, object};
use crate::exit::{CHECK_FAILED, Failure, TWO_HISTORIES};
use crate::inspect::{read_input, unreadable};
use crate::output::Output;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use tombola_core::claim::{Head, Receipt};
use tombola_core::codec::decode;
use tombola_core::key::Signed;
use tombola_core::reject::Reject;
use tombola_ledger::event::Event;
use tombola_ledger::extract::{
    Chain, END_BYTES, EVENT_BYTES_MAX, ExtractError, Flaw, LogEnd, MAGIC, START_BYTES, Start, decode_end, decode_start,
    pays, restores,
};

/// An extract that was read to its end.
struct Extract {
    start: Start,
    end: Signed<LogEnd>,
    heads: BTreeMap<u64, Head>,
    flaws: Vec<(u64, Flaw)>,
    /// Events of a later version, of which the heads alone were checked.
    unread: u64,
    /// The event of the height that was looked for.
    found: Option<Event>,
}

/// Checks an extract by itself, and against another one or a receipt.
pub(super) fn log(first: &str, second: Option<&str>, output: Output) -> Result<(), Failure> {
    let mut checks = Checks::default();
    match second {
        Some(second) if !is_extract(second) => return receipt(second, Some(first), output),
        _ => {}
    }
    let one = read(first, None)?;
    checks.extract(first, &one);
    let mut differs = None;
    let mut common = None;
    if let Some(second) = second {
        let other = read(second, None)?;
        checks.extract(second, &other);
        let is_same = (one.start.escrow, one.start.writer) == (other.start.escrow, other.start.writer);
        checks.say("both are of one escrow and writer", is_same, "another_log");
        if is_same {
            let pairs = one
                .heads
                .iter()
                .filter_map(|(height, head)| Some((*height, *head, *other.heads.get(height)?)));
            let pairs: Vec<_> = pairs.collect();
            common = Some(pairs.len());
            differs = pairs.into_iter().find(|(_, head, other)| head != other);
        }
    }
    let result = json!({
        "escrow": one.start.escrow,
        "writer": one.start.writer,
        "from": one.start.first,
        "to": one.end.body.height,
        "head": one.end.body.head,
        "unread": one.unread,
        "common": common,
    });
    conclude(checks, result, differs, &one.start, output)
}

/// Checks a receipt's signature, and that the event which it names paid what it says.
pub(super) fn receipt(receipt: &str, log: Option<&str>, output: Output) -> Result<(), Failure> {
    let receipt: Signed<Receipt> = object("receipt", decode(&read_input(receipt)?))?;
    let body = &receipt.body;
    let mut checks = Checks::default();
    let key = body.escrow.check().map_err(Reject::from);
    checks.note(
        "the escrow signed the receipt",
        key.and_then(|key| Ok(receipt.verify(&key)?)),
    );
    let mut differs = None;
    let mut start = Start {
        magic: MAGIC,
        version: 0,
        escrow: body.escrow,
        writer: body.writer,
        first: body.height,
        previous: Head([0; 32]),
        count: 0,
    };
    if let Some(log) = log {
        let extract = read(log, Some(body.height))?;
        start = extract.start;
        checks.extract(log, &extract);
        let is_of_log = (start.escrow, start.writer) == (body.escrow, body.writer);
        checks.say(
            "the receipt and the extract are of one escrow and writer",
            is_of_log,
            "another_log",
        );
        let head = extract.heads.get(&body.height);
        checks.say("the extract has the receipt's height", head.is_some(), "height_missing");
        match head {
            Some(head) if is_of_log && *head != body.head => differs = Some((body.height, *head, body.head)),
            Some(_) if is_of_log => {
                let paid = extract.found.as_ref().is_some_and(|event| pays(event, body));
                checks.say(
                    "the event at its height paid what the receipt says",
                    paid,
                    "receipt_mismatch",
                );
            }
            _ => {}
        }
        // After a rollback the receipt may stand at another place than it was given out at.
        if let Some(height) = extract.restored_at(log, body)? {
            checks.list.push(
                json!({ "check": format!("the receipt was taken back at height {height}"), "ok": true, "code": null }),
            );
        }
    }
    let result = json!({
        "escrow": body.escrow,
        "writer": body.writer,
        "book": body.book,
        "through": body.through,
        "winners": body.winners,
        "height": body.height,
        "head": body.head,
    });
    conclude(checks, result, differs, &start, output)
}

fn conclude(
    checks: Checks,
    mut result: Value,
    differs: Option<(u64, Head, Head)>,
    start: &Start,
    output: Output,
) -> Result<(), Failure> {
    let is_sound = checks.is_sound();
    if let Some(result) = result.as_object_mut() {
        result.insert("valid".to_owned(), is_sound.into());
        result.insert("checks".to_owned(), checks.list.clone().into());
        result.insert("evidence".to_owned(), (is_sound && differs.is_some()).into());
    }
    if !is_sound {
        let failure = Failure::new(CHECK_FAILED, "a check fails: what was shown is not what it says it is")
            .next("look at the failing check; only its maker can say more");
        return Err(output.found(result, || checks.text(), failure));
    }
    if let Some((height, one, other)) = differs {
        let (escrow, writer) = (start.escrow, start.writer);
        let statement = format!(
            "escrow {escrow} signed two histories of its writer {writer}: at height {height} the head is {one} in one \
             and {other} in the other; this shows that its log was changed or rolled back, and not why"
        );
        let failure = Failure::new(TWO_HISTORIES, statement)
            .with("height", height)
            .next("keep both files: they are evidence");
        return Err(output.found(result, || checks.text(), failure));
    }
    output.result(&result, || checks.text());
    Ok(())
}

impl Extract {
    /// Where a recovering escrow took a receipt back, if the extract shows it.
    fn restored_at(&self, path: &str, receipt: &Receipt) -> Result<Option<u64>, Failure> {
        let mut place = None;
        walk(path, |height, event| {
            if event.is_some_and(|event| restores(event, receipt)) {
                place = Some(height);
            }
        })?;
        Ok(place)
    }
}

impl Checks {
    fn say(&mut self, what: &str, is_ok: bool, code: &str) {
        let code = (!is_ok).then_some(code);
        self.list.push(json!({ "check": what, "ok": is_ok, "code": code }));
    }

    fn extract(&mut self, name: &str, extract: &Extract) {
        let key = extract.start.escrow.check().map_err(Reject::from);
        let signed = key.and_then(|key| Ok(extract.end.verify(&key)?));
        self.note(&format!("{name}: the escrow signed the end"), signed);
        let what = [
            (Flaw::LogBroken, "each event follows the one before", "log_broken"),
            (Flaw::TimeBack, "times never go back", "time_back"),
            (Flaw::Postings, "the postings of each event sum to zero", "postings"),
            (Flaw::LogEnd, "the events end where the escrow signed", "log_end"),
        ];
        for (flaw, check, code) in what {
            let first = extract.flaws.iter().find(|(_, found)| *found == flaw);
            let at = first
                .map(|(height, _)| format!(" (not at height {height})"))
                .unwrap_or_default();
            self.say(&format!("{name}: {check}{at}"), first.is_none(), code);
        }
    }
}

fn is_extract(path: &str) -> bool {
    let mut magic = [0; 8];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == MAGIC
}

fn read(path: &str, height: Option<u64>) -> Result<Extract, Failure> {
    let mut heads = BTreeMap::new();
    let (mut unread, mut found) = (0, None);
    let (start, end, flaws) = walk_heads(path, |at, head, event| {
        heads.insert(at, head);
        unread += u64::from(event.is_none());
        if Some(at) == height {
            found = event.cloned();
        }
    })?;
    Ok(Extract {
        start,
        end,
        heads,
        flaws,
        unread,
        found,
    })
}

fn walk(path: &str, mut see: impl FnMut(u64, Option<&Event>)) -> Result<(), Failure> {
    walk_heads(path, |height, _, event| see(height, event)).map(drop)
}

type Walked = (Start, Signed<LogEnd>, Vec<(u64, Flaw)>);

/// Reads an extract event by event, however long it is.
fn walk_heads(path: &str, mut see: impl FnMut(u64, Head, Option<&Event>)) -> Result<Walked, Failure> {
    let bad = |error: ExtractError| {
        Failure::new("malformed", format!("{path}: {error}")).next("tombola escrow log writes an extract")
    };
    let file = File::open(Path::new(path)).map_err(|error| unreadable(path, &error))?;
    let mut file = BufReader::new(file);
    let mut bytes = [0; START_BYTES];
    file.read_exact(&mut bytes).map_err(|_| bad(ExtractError::Foreign))?;
    let start = decode_start(&bytes).map_err(bad)?;
    let mut chain = Chain::new(start);
    let mut height = start.first.saturating_sub(1);
    for _ in 0..start.count {
        let cut = || bad(ExtractError::Cut { height });
        let mut length = [0; 4];
        file.read_exact(&mut length).map_err(|_| cut())?;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > EVENT_BYTES_MAX {
            return Err(cut());
        }
        let mut event = vec![0; length];
        file.read_exact(&mut event).map_err(|_| cut())?;
        let (at, head, event) = chain.take(&event);
        see(at, head, event.as_ref());
        height = at;
    }
    let mut rest = Vec::new();
    let limit = u64::try_from(END_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit)
        .read_to_end(&mut rest)
        .map_err(|_| bad(ExtractError::Cut { height }))?;
    let end = decode_end(&rest, height).map_err(bad)?;
    Ok((start, end, chain.finish(&end.body)))
}
