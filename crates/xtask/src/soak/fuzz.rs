//! Fuzzing for hours: the target that had the least time goes next, and each slice is a line of a file.

use crate::ci::Failure;
use crate::fuzz::{Campaign, Done, Programs, directory, fail_if_found};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tombola_fuzz::TARGETS;

/// How long, and where the figures go.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How long in all, for example 2 or 0.5. It can be stopped at any time and goes on where it was.
    #[arg(long)]
    hours: f64,
    /// How long one target runs before it is the turn of another, in seconds.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    slice: u64,
    /// One JSON object for each slice is appended here. Without it: soak-fuzz.jsonl beside the corpora.
    #[arg(long)]
    append: Option<PathBuf>,
}

/// One slice, with the totals of its target up to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Slice {
    at: u64,
    target: String,
    seconds: u64,
    executions: u64,
    edges: u64,
    corpus: usize,
    crash: Option<PathBuf>,
    total_seconds: u64,
    total_executions: u64,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let until = Duration::try_from_secs_f64(options.hours * 3_600.0);
    let until = until.map_err(|_| Failure::Check("--hours is not a length of time".to_owned()))?;
    let path = options
        .append
        .clone()
        .unwrap_or_else(|| directory().join("soak-fuzz.jsonl"));
    let programs = Programs::build(&directory())?;
    let campaign = Campaign::new(directory(), &programs);
    let mut totals = totals(&path)?;
    println!("figures go to {}; {}", path.display(), programs.how());
    println!("{}", Done::HEADING);
    let began = Instant::now();
    let mut broken = Vec::new();
    while let Some(left) = until.checked_sub(began.elapsed()).filter(|left| left.as_secs() > 0) {
        let target = next(&totals);
        let done = campaign.run(target, options.slice.min(left.as_secs()))?;
        println!("{done}");
        let slice = Slice::of(&done, totals.get(target).copied().unwrap_or_default());
        append(&path, &slice)?;
        totals.insert(target.to_owned(), (slice.total_seconds, slice.total_executions));
        if done.crash.is_some() {
            broken.push(done);
        }
    }
    let executions: u64 = totals.values().map(|(_, executions)| executions).sum();
    let seconds: u64 = totals.values().map(|(seconds, _)| seconds).sum();
    println!("{executions} executions in {seconds} s over all runs");
    fail_if_found(&broken)
}

/// The target that had the least time so far.
fn next(totals: &BTreeMap<String, (u64, u64)>) -> &'static str {
    let time = |name: &str| totals.get(name).map_or(0, |(seconds, _)| *seconds);
    let names = TARGETS.iter().map(|(name, _)| *name);
    names.min_by_key(|name| time(name)).unwrap_or_default()
}

impl Slice {
    fn of(done: &Done, (seconds, executions): (u64, u64)) -> Self {
        let at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Self {
            at,
            target: done.target.clone(),
            seconds: done.seconds,
            executions: done.executions,
            edges: done.edges,
            corpus: done.corpus,
            crash: done.crash.as_ref().map(|(input, _)| input.clone()),
            total_seconds: seconds + done.seconds,
            total_executions: executions + done.executions,
        }
    }
}

/// Seconds and executions of each target in earlier runs. A last line that was cut when the machine stopped counts for
/// nothing.
fn totals(path: &Path) -> Result<BTreeMap<String, (u64, u64)>, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failure::Io(error)),
    };
    let slices = text.lines().filter_map(|line| serde_json::from_str::<Slice>(line).ok());
    Ok(slices
        .map(|slice| (slice.target, (slice.total_seconds, slice.total_executions)))
        .collect())
}

/// A line of its own, also after one that was cut.
fn append(path: &Path, slice: &Slice) -> Result<(), Failure> {
    let line = serde_json::to_string(slice).map_err(|error| Failure::Check(error.to_string()))?;
    let before = std::fs::read(path).unwrap_or_default();
    let is_cut = before.last().is_some_and(|byte| *byte != b'\n');
    let line = format!("{}{line}\n", if is_cut { "\n" } else { "" });
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(Failure::Io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soak_goes_on_where_it_was_stopped() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("figures.jsonl");
        assert_eq!(totals(&path).unwrap(), BTreeMap::new());
        assert_eq!(next(&BTreeMap::new()), TARGETS[0].0);
        let done = Done {
            target: TARGETS[0].0.to_owned(),
            seconds: 7,
            executions: 70,
            edges: 1,
            corpus: 2,
            crash: None,
        };
        append(&path, &Slice::of(&done, (0, 0))).unwrap();
        append(&path, &Slice::of(&done, (7, 70))).unwrap();
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + "{\"at\": 1").unwrap();
        let known = totals(&path).unwrap();
        assert_eq!(known.get(TARGETS[0].0), Some(&(14, 140)));
        assert_eq!(next(&known), TARGETS[1].0);
        append(&path, &Slice::of(&done, (14, 140))).unwrap();
        assert_eq!(totals(&path).unwrap().get(TARGETS[0].0), Some(&(21, 210)));
    }
}
