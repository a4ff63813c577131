//! Planted bugs: each patch of `tests/planted` removes one guard of the rules, and a test must notice.

use crate::ci::{Failure, target_directory};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

/// A bug: a patch, and the test that is there to catch it.
struct Planted {
    name: String,
    patch: PathBuf,
    what: String,
    /// The first file that it changes.
    file: String,
    place: TestPlace,
    test: String,
}

/// Where a test is. They are tried in this order: who depends on others comes before them, so that nothing is built once
/// more because of a bug below it that is gone again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TestPlace {
    rank: usize,
    krate: String,
    /// The integration test, or none for the tests inside of the crate.
    binary: Option<String>,
}

/// The crates whose tests catch bugs, those that depend on others first.
const CRATES: [&str; 6] = [
    "tombola-tests",
    "tombola-node",
    "tombola-store",
    "tombola-net",
    "tombola-ledger",
    "tombola-core",
];

impl TestPlace {
    /// `CRATE` or `CRATE/BINARY`; none for a crate that is not among [`CRATES`].
    fn parse(text: &str) -> Option<Self> {
        let (krate, binary) = match text.split_once('/') {
            Some((krate, binary)) => (krate, Some(binary.to_owned())),
            None => (text, None),
        };
        let rank = CRATES.iter().position(|known| *known == krate)?;
        let krate = krate.to_owned();
        Some(Self { rank, krate, binary })
    }
}

/// Plants each bug in a copy of the tracked files, one after another, and runs the test that is to catch it. The copy
/// shares the target directory, so only the crates from the one with the bug up to the one with the test are built again.
pub(crate) fn run(names: &[String]) -> Result<(), Failure> {
    let root = tombola_tests::workspace();
    let all = read_all(&root.join("tests/planted"))?;
    let unknown = names.iter().find(|name| all.iter().all(|bug| bug.name != **name));
    if let Some(unknown) = unknown {
        let known: Vec<_> = all.iter().map(|bug| bug.name.as_str()).collect();
        return Err(Failure::Check(format!(
            "no planted bug {unknown}; there are: {}",
            known.join(", ")
        )));
    }
    let chosen: Vec<_> = all
        .iter()
        .filter(|bug| names.is_empty() || names.contains(&bug.name))
        .collect();
    let target = target_directory();
    let field = Field {
        tree: target.join("planted"),
        target,
    };
    field.copy_from(&root)?;
    field.sound(&chosen)?;
    let mut missed = Vec::new();
    for bug in &chosen {
        let start = Instant::now();
        let verdict = field.try_out(bug)?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{:<32} {verdict:<7} {seconds:>5.1} s  {} by {}",
            bug.name, bug.what, bug.test
        );
        if verdict != Verdict::Caught {
            missed.push(bug.name.as_str());
        }
    }
    println!(
        "{} of {} planted bugs caught",
        chosen.len() - missed.len(),
        chosen.len()
    );
    if missed.is_empty() {
        return Ok(());
    }
    Err(Failure::Check(format!("no test noticed: {}", missed.join(", "))))
}

/// What became of a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Caught,
    Missed,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Caught => "caught",
            Self::Missed => "MISSED",
        })
    }
}

/// The patches of a directory. The first line of each says what the bug is, the second which test catches it:
/// `Caught by: CRATE TEST`, or `Caught by: CRATE/BINARY TEST` where it is one of an integration test.
fn read_all(directory: &Path) -> Result<Vec<Planted>, Failure> {
    let paths = tombola_tests::files_below(directory, &["patch"]).map_err(Failure::Io)?;
    let mut all = Vec::new();
    for patch in paths {
        let text = std::fs::read_to_string(&patch).map_err(Failure::Io)?;
        let mut lines = text.lines();
        let what = lines.next().unwrap_or_default().to_owned();
        let caught_by = lines.next().and_then(|line| line.strip_prefix("Caught by: "));
        let caught_by = caught_by.and_then(|line| line.split_once(' '));
        let Some((place, test)) = caught_by.and_then(|(place, test)| Some((TestPlace::parse(place)?, test))) else {
            let error = format!(
                "{}: its second line is not `Caught by: CRATE TEST` or `Caught by: CRATE/BINARY TEST`",
                patch.display()
            );
            return Err(Failure::Check(error));
        };
        let name = patch.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        all.push(Planted {
            name: name.unwrap_or_default(),
            what,
            file: text
                .lines()
                .find_map(|line| line.strip_prefix("+++ b/"))
                .unwrap_or_default()
                .to_owned(),
            place,
            test: test.to_owned(),
            patch,
        });
    }
    // Bugs of one crate follow each other, so that others are built again as seldom as can be.
    let order = |bug: &Planted| (bug.place.clone(), bug.file.clone(), bug.name.clone());
    all.sort_by_key(order);
    Ok(all)
}

/// Where bugs are planted.
struct Field {
    tree: PathBuf,
    target: PathBuf,
}

impl Field {
    /// Makes the tree what the tracked files are; what is the same already keeps its time, so it is not built again.
    fn copy_from(&self, root: &Path) -> Result<(), Failure> {
        let listed = output(Command::new("git").args(["ls-files", "-z"]).current_dir(root))?;
        let names = String::from_utf8_lossy(&listed.stdout).into_owned();
        let mut wanted = BTreeSet::new();
        // Cargo adds up the flags of every directory above; the same ones twice are others, and all would be built anew.
        let has_settings = self.tree.starts_with(root);
        let is_wanted = |name: &&str| !(has_settings && name.starts_with(".cargo/"));
        for name in names.split_terminator('\0').filter(is_wanted) {
            let (from, to) = (root.join(name), self.tree.join(name));
            // A file that is deleted and still tracked is not there.
            let Ok(bytes) = std::fs::read(&from) else { continue };
            wanted.insert(to.clone());
            if std::fs::read(&to).is_ok_and(|known| known == bytes) {
                continue;
            }
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent).map_err(Failure::Io)?;
            }
            std::fs::write(&to, bytes).map_err(Failure::Io)?;
        }
        for path in tombola_tests::files_below(&self.tree, &["rs", "toml"]).map_err(Failure::Io)? {
            if !wanted.contains(&path) {
                std::fs::remove_file(path).map_err(Failure::Io)?;
            }
        }
        Ok(())
    }

    /// Without any bug each of the tests is there and passes; else their failing would mean nothing.
    fn sound(&self, bugs: &[&Planted]) -> Result<(), Failure> {
        let places: BTreeSet<_> = bugs.iter().map(|bug| &bug.place).collect();
        for place in places {
            let tests: BTreeSet<_> = bugs
                .iter()
                .filter(|bug| bug.place == *place)
                .map(|bug| bug.test.as_str())
                .collect();
            let tests: Vec<_> = tests.into_iter().collect();
            let ran = self.test(place, &tests)?;
            let said = String::from_utf8_lossy(&ran.stdout).into_owned();
            let passed = format!("test result: ok. {} passed", tests.len());
            if !ran.status.success() || !said.contains(&passed) {
                let error = String::from_utf8_lossy(&ran.stderr).into_owned();
                return Err(Failure::Check(format!(
                    "{} without any bug: {} tests are to pass\n{said}\n{error}",
                    place.krate,
                    tests.len()
                )));
            }
        }
        Ok(())
    }

    fn try_out(&self, bug: &Planted) -> Result<Verdict, Failure> {
        self.apply(bug, &[])?;
        let built = self.cargo(&bug.place, &["--no-run"], &[]);
        let ran = built.and_then(|built| {
            if built.status.success() {
                return self.test(&bug.place, &[&bug.test]);
            }
            let error = String::from_utf8_lossy(&built.stderr).into_owned();
            Err(Failure::Check(format!("{} does not build: {error}", bug.name)))
        });
        self.apply(bug, &["--reverse"])?;
        // 101 is what a failed test ends with; a signal would be something else.
        match ran?.status.code() {
            Some(101) => Ok(Verdict::Caught),
            _ => Ok(Verdict::Missed),
        }
    }

    fn apply(&self, bug: &Planted, options: &[&str]) -> Result<(), Failure> {
        let mut git = Command::new("git");
        // The copy may lie inside of the repository, whose index is not to be looked at.
        git.current_dir(&self.tree)
            .env("GIT_CEILING_DIRECTORIES", self.tree.parent().unwrap_or(&self.tree));
        git.args(["apply", "--whitespace=nowarn"]).args(options).arg(&bug.patch);
        let done = git.output().map_err(Failure::Io)?;
        if done.status.success() {
            return Ok(());
        }
        let error = String::from_utf8_lossy(&done.stderr).into_owned();
        Err(Failure::Check(format!(
            "{} does not apply any more; make it anew: {error}",
            bug.patch.display()
        )))
    }

    fn test(&self, place: &TestPlace, tests: &[&str]) -> Result<Output, Failure> {
        self.cargo(place, &[], tests)
    }

    fn cargo(&self, place: &TestPlace, options: &[&str], tests: &[&str]) -> Result<Output, Failure> {
        let mut command = tombola_tests::cargo::cargo();
        command
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            // What is built again differs by a line or two.
            .env("CARGO_INCREMENTAL", "1")
            .args(["test", "--quiet", "--locked", "--package", &place.krate])
            // Few tests are run, and much is built: it takes longer to optimise it than to wait for what is slow.
            .args(["--config", "profile.dev.package.tombola-core.opt-level=0"])
            .args(["--config", "profile.dev.package.tombola-ledger.opt-level=0"])
            // Not to be built, only to be reckoned with: what it depends on has been built with these features.
            .args(["--package", "xtask"]);
        match &place.binary {
            None => command.arg("--lib"),
            Some(binary) => command.args(["--test", binary]),
        };
        command.args(options);
        if !tests.is_empty() {
            command.args(["--", "--exact"]).args(tests);
        }
        command.output().map_err(Failure::Io)
    }
}

fn output(command: &mut Command) -> Result<Output, Failure> {
    let output = command.output().map_err(Failure::Io)?;
    if output.status.success() {
        return Ok(output);
    }
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Failure::Program(format!("{command:?}: {error}")))
}
