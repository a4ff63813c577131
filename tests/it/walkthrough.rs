//! The walkthrough of README.md, block by block, as a reader would type it.

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tombola_tests::process::program;
use tombola_tests::workspace;

/// The blocks of these sections, in this language, are run.
const SECTIONS: [&str; 2] = ["## Three processes", "## Money in and out"];
const FENCE: &str = "```sh\n";
/// What the README listens on, and what the test replaces.
const PORTS: [&str; 4] = ["7400", "7401", "7402", "7403"];
/// No line of the walkthrough takes longer, on a busy machine either.
const LINE_MAX: Duration = Duration::from_secs(60);

/// The blocks that a reader of one section is asked to type.
fn blocks(section: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let section = readme.split(section).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section
        .split(FENCE)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    blocks.map(str::to_owned).collect()
}

/// The same text with ports that nobody uses: other programs of this machine may have the README's.
fn with_free_ports(text: &str) -> String {
    let sockets: Vec<UdpSocket> = PORTS.iter().map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let ports = sockets.iter().map(|socket| socket.local_addr().unwrap().port());
    PORTS.iter().zip(ports).fold(text.to_owned(), |text, (known, free)| {
        text.replace(&format!("127.0.0.1:{known}"), &format!("127.0.0.1:{free}"))
    })
}

/// A shell with everything that it started in one process group.
struct Shell {
    shell: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    shown: Vec<String>,
}

impl Shell {
    fn start(directory: &Path) -> Self {
        let path = std::env::var("PATH").unwrap();
        let mut shell = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .current_dir(directory)
            .env("PATH", format!("{}:{path}", program().parent().unwrap().display()))
            .env("HOME", directory)
            .env_remove("TOMBOLA_LOG")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(shell.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let input = shell.stdin.take();
        let mut shell = Self {
            shell,
            input,
            lines,
            shown: Vec::new(),
        };
        // A reader sees both streams, and stops at the first command that fails.
        shell.enter("exec 2>&1; set -eu -o pipefail\n");
        shell
    }

    fn enter(&mut self, text: &str) {
        self.input.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Waits for a line of this beginning, and gives all lines before it.
    fn wait_for(&mut self, beginning: &str) -> Vec<String> {
        let began = Instant::now();
        let mut before = Vec::new();
        loop {
            let left = LINE_MAX.saturating_sub(began.elapsed());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!(
                    "no line \"{beginning}\" after:\n{}\n{}",
                    self.shown.join("\n"),
                    before.join("\n")
                );
            };
            self.shown.push(line.clone());
            if line.starts_with(beginning) {
                return before;
            }
            before.push(line);
        }
    }

    /// Types a block; returns what it showed. A node that it starts has said that it is ready then.
    fn type_block(&mut self, block: &str, number: usize) -> Vec<String> {
        let end = format!("== block {number} done");
        self.enter(&format!("{block}\necho '{end}'\n"));
        let starts = |role: &&&str| block.contains(&format!("tombola {role} run"));
        let role = ["escrow", "payee"].iter().find(starts);
        match role {
            // Before or after the end of the block: the node is another process.
            Some(role) => {
                let mut shown = self.wait_for(&format!("{role} tombola://"));
                if !shown.contains(&end) {
                    shown.extend(self.wait_for(&end));
                }
                shown
            }
            None => self.wait_for(&end),
        }
    }

    /// Leaves the shell; returns its exit code.
    fn leave(mut self) -> i32 {
        self.input = None;
        self.shell.wait().unwrap().code().unwrap()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Once the shell has ended, its number may be another's, and nobody is left in its group.
        if self.input.is_none() {
            return;
        }
        if let Some(group) = i32::try_from(self.shell.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.shell.wait();
    }
}

/// Each promise of the walkthrough, by the words in its block that make it, and a line that keeps it.
const PROMISES: &[(&str, &str)] = &[
    ("escrow deposit", "5.00 deposited under reference invoice-1"),
    ("payer send", "sent 0.02"),
    ("payer get", "bytes, for 32 tickets worth 0.0032 in expectation"),
    ("payer balance", "balance 4.9"),
    ("payer statement", "charged 0.02"),
    ("payee status", "tickets 33"),
    ("payer audit", "clean true"),
    ("tombola inspect", "Signed<Hold>"),
    ("verify claim", "owes payee"),
    ("escrow audit", "conserved true"),
    ("wait $ESCROW_PID", "everything is stopped"),
];

/// The same for the section about money.
const MONEY_PROMISES: &[(&str, &str)] = &[
    ("payer transfer", "7.99 moved to tom1"),
    ("payer transfer", "balance 142.01 USD"),
    (
        "payer withdraw",
        "20.00 left the balance, 19.75 goes to IBAN DE00 1234, fee 0.25",
    ),
    ("payouts export", "1 pending payouts written to payouts.csv"),
    ("payouts import", "of 20.00 paid"),
    ("payee payout", "once it reaches 1000.00, and every 30d"),
    ("payee split", "70% tom1"),
    ("payer balance --home author", "balance 0.35 USD"),
    ("payee refund", "0.05 moved to tom1"),
    ("escrow fees", "now 0.25"),
    ("fees collect", "0.25 of fees moved to tom1"),
    ("escrow audit", "conserved true"),
    ("wait $BANK_PID", "the bank is closed"),
];

#[test]
fn the_walkthrough_of_the_readme_does_what_it_says() {
    type_section(SECTIONS[0], PROMISES);
}

#[test]
fn money_goes_in_and_out_as_the_readme_says() {
    type_section(SECTIONS[1], MONEY_PROMISES);
}

fn type_section(section: &str, promises: &[(&str, &str)]) {
    let directory = tempfile::tempdir().unwrap();
    let blocks: Vec<String> = {
        let all = with_free_ports(&blocks(section).join("\0"));
        all.split('\0').map(str::to_owned).collect()
    };
    for (command, _) in promises {
        assert!(
            blocks.iter().any(|block| block.contains(command)),
            "the walkthrough has no {command}"
        );
    }
    let mut shell = Shell::start(directory.path());
    for (number, block) in blocks.iter().enumerate() {
        let shown = shell.type_block(block, number);
        for (_, line) in promises.iter().filter(|(command, _)| block.contains(command)) {
            // Columns are as wide as what stands in them.
            let narrow = |shown: &String| shown.split_whitespace().collect::<Vec<_>>().join(" ");
            let is_kept = shown.iter().any(|shown| narrow(shown).contains(line));
            assert!(is_kept, "no \"{line}\" after\n{block}\n{}", shown.join("\n"));
        }
    }
    assert_eq!(shell.leave(), 0);
}

/// What a reader copies from the README is what the crate's documentation shows, and that is compiled.
#[test]
fn the_examples_of_the_readme_are_those_of_the_crate() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let shown = readme
        .split("```rust\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    let crates = ["payer", "payee"].map(|role| {
        let path = workspace().join("crates/node/src").join(role).with_extension("rs");
        let text = std::fs::read_to_string(path).unwrap();
        let example = text
            .split("//! ```no_run\n")
            .nth(1)
            .unwrap()
            .split("//! ```")
            .next()
            .unwrap();
        let lines = example.lines().map(|line| line.trim_start_matches("//!"));
        let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
        // Lines that the documentation hides.
        let lines = lines.filter(|line| !line.starts_with('#'));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    });
    assert_eq!(shown.collect::<Vec<_>>(), crates);
}
