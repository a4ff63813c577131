//! Ends what this process has started when it is gone, however it went.
//!
//! A handle that is dropped ends its process; but nothing is dropped when a test is killed, or aborts. So one shell waits
//! for the end of a pipe and kills what the list that came through it still has.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A process that is waited for leaves the list first, so no id in it can be anybody else's.
const SCRIPT: &str = "alive=
while read -r word pid; do
  rest=
  for one in $alive; do [ \"$one\" = \"$pid\" ] || rest=\"$rest $one\"; done
  alive=$rest
  [ \"$word\" = begin ] && alive=\"$alive $pid\"
done
for one in $alive; do kill -9 \"$one\"; done";

/// A process that has begun.
pub(super) fn begin(pid: u32) {
    tell("begin", pid);
}

/// It is about to be waited for.
pub(super) fn end(pid: u32) {
    tell("end", pid);
}

fn tell(word: &str, pid: u32) {
    static GUARD: OnceLock<Mutex<(Child, ChildStdin)>> = OnceLock::new();
    let guard = GUARD.get_or_init(|| Mutex::new(start()));
    let (_, list) = &mut *guard.lock().unwrap_or_else(PoisonError::into_inner);
    let written = writeln!(list, "{word} {pid}");
    assert!(
        written.is_ok(),
        "the guard reads as long as this process runs: {written:?}"
    );
}

fn start() -> (Child, ChildStdin) {
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null());
    // In a group of its own an interrupt from the terminal does not reach it before this process.
    let mut process = shell
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("sh: {error}"));
    let list = process.stdin.take();
    (process, list.unwrap_or_else(|| panic!("the guard has a pipe")))
}
