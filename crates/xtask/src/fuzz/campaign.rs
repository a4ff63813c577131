//! One run of one target: its corpus, its limits, and what libfuzzer says at its end.

use super::Programs;
use crate::ci::Failure;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tombola_fuzz::write;

/// Longest inputs, where more than a state machine's actions are wanted: a message and one byte over it; a file; streams.
const LENGTHS: [(&str, u32); 7] = [
    ("decoder", 65_540),
    ("extract", 16_384),
    ("config", 4_096),
    ("key_file", 4_200),
    ("quic_peer", 8_192),
    ("client", 4_096),
    ("text", 512),
];
/// Actions of a state machine: a few bytes each, and no more than a harness looks at.
const LENGTH_DEFAULT: u32 = 1_024;
/// An input that takes longer hangs.
const HANG_SECONDS: u32 = 60;
/// More than this is a leak or an allocation by a peer's number; the nodes of one target need a few hundred MiB.
const MEMORY_MIB: u32 = 2_048;

/// Where targets run.
pub(crate) struct Campaign<'a> {
    directory: PathBuf,
    programs: &'a Programs,
}

/// What one run did.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    pub(crate) target: String,
    pub(crate) seconds: u64,
    pub(crate) executions: u64,
    /// Edges of the control flow that any input of the corpus has taken.
    pub(crate) edges: u64,
    pub(crate) corpus: usize,
    /// The input that broke something, and the program that shows it again.
    pub(crate) crash: Option<(PathBuf, PathBuf)>,
}

impl<'a> Campaign<'a> {
    pub(crate) const fn new(directory: PathBuf, programs: &'a Programs) -> Self {
        Self { directory, programs }
    }

    /// Runs a target for so long, from the corpus that is there and the first inputs.
    pub(crate) fn run(&self, target: &str, seconds: u64) -> Result<Done, Failure> {
        let corpus = self.directory.join("corpus").join(target);
        write(target, &corpus).map_err(Failure::Io)?;
        let found = self.directory.join("found").join(target);
        std::fs::create_dir_all(&found).map_err(Failure::Io)?;
        let regressions = tombola_tests::workspace().join("tests/regressions/fuzz").join(target);
        let log = self.directory.join(format!("{target}.log"));
        let program = self.programs.path(target);
        let status = Command::new(&program)
            .arg(&corpus)
            .args(regressions.is_dir().then_some(regressions))
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={}", length_of(target)))
            .arg(format!("-timeout={HANG_SECONDS}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
            .arg(format!("-artifact_prefix={}/", found.display()))
            .args(["-print_final_stats=1", "-verbosity=1"])
            // Nodes and runtimes that live until the process ends are no leaks.
            .arg("-detect_leaks=0")
            .env("ASAN_OPTIONS", "detect_leaks=0:detect_odr_violation=0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).map_err(Failure::Io)?)
            .status()
            .map_err(Failure::Io)?;
        let said = std::fs::read(&log).map_err(Failure::Io)?;
        let said = String::from_utf8_lossy(&said);
        let crash = (!status.success()).then(|| (written(&said).unwrap_or(log), program));
        Ok(Done {
            target: target.to_owned(),
            seconds,
            executions: statistic(&said).or_else(|| last_run(&said)).unwrap_or(0),
            edges: edges(&said).unwrap_or(0),
            corpus: count(&corpus),
            crash,
        })
    }
}

fn length_of(target: &str) -> u32 {
    let known = LENGTHS.iter().find(|(name, _)| *name == target);
    known.map_or(LENGTH_DEFAULT, |(_, length)| *length)
}

fn count(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

/// `stat::number_of_executed_units: 123`.
fn statistic(said: &str) -> Option<u64> {
    let rest = said.rsplit_once("stat::number_of_executed_units:")?.1;
    rest.split_whitespace().next()?.parse().ok()
}

/// The number in front of the last line of progress: `#123 NEW cov: 45 ...`; a crash ends without statistics.
fn last_run(said: &str) -> Option<u64> {
    let numbers = said.lines().rev().find_map(|line| line.strip_prefix('#'))?;
    numbers.split_whitespace().next()?.parse().ok()
}

/// `cov: 45` of the last line that has it.
fn edges(said: &str) -> Option<u64> {
    let rest = said.rsplit_once(" cov: ")?.1;
    rest.split_whitespace().next()?.parse().ok()
}

/// `Test unit written to PATH`.
fn written(said: &str) -> Option<PathBuf> {
    let rest = said.rsplit_once("Test unit written to ")?.1;
    rest.lines().next().map(PathBuf::from)
}

impl Done {
    /// What the columns of a line are.
    pub(crate) const HEADING: &'static str = "target             executions     exec/s      edges     corpus";

    /// What broke and how to see it again, if something did.
    pub(crate) fn crash_report(&self) -> Option<String> {
        let (input, program) = self.crash.as_ref()?;
        let (target, input, program) = (&self.target, input.display(), program.display());
        Some(format!(
            "{target} breaks on {input}\n  see it again: {program} {input}\n  keep it: copy it into \
             tests/regressions/fuzz/{target}/ and run cargo test -p tombola-fuzz"
        ))
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.executions / self.seconds.max(1);
        let verdict = if self.crash.is_some() { "  BROKEN" } else { "" };
        write!(
            f,
            "{:<16} {:>12} {:>10} {:>10} {:>10}{verdict}",
            self.target, self.executions, rate, self.edges, self.corpus
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "#8\tINITED cov: 12 ft: 13 corp: 2/3b exec/s: 0 rss: 40Mb\n\
                        #5120\tNEW    cov: 345 ft: 600 corp: 9/99b lim: 17 exec/s: 2560 rss: 50Mb\n\
                        Done 6000 runs in 2 second(s)\nstat::number_of_executed_units: 6000\n";

    #[test]
    fn what_libfuzzer_says_is_understood() {
        assert_eq!((statistic(SAID), edges(SAID)), (Some(6_000), Some(345)));
        let broken = "#77\tNEW    cov: 5 ft: 6\nartifact_prefix='x/'; Test unit written to x/crash-1\nBase64: AA==\n";
        assert_eq!((statistic(broken), last_run(broken)), (None, Some(77)));
        assert_eq!(written(broken), Some(PathBuf::from("x/crash-1")));
    }
}
