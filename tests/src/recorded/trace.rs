//! Reads what strace wrote with `-f -xx`: calls that succeeded, in the order in which they were over.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// One call, as far as it is about files.
#[derive(Debug)]
pub(super) enum Call {
    Open {
        fd: i64,
        path: PathBuf,
        makes: bool,
        empties: bool,
    },
    Close {
        fd: i64,
    },
    Read {
        fd: i64,
        bytes: usize,
    },
    Seek {
        fd: i64,
        at: usize,
    },
    Write {
        fd: i64,
        bytes: Arc<[u8]>,
        /// Where, if not where the last one ended.
        at: Option<usize>,
    },
    SetLength {
        fd: i64,
        length: usize,
    },
    Copy {
        from: i64,
        to: i64,
        bytes: usize,
    },
    Sync {
        fd: i64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
}

impl Call {
    /// For people.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Write { fd, bytes, at } => format!("write of {} bytes to {fd} at {at:?}", bytes.len()),
            other => format!("{other:?}"),
        }
    }
}

/// # Panics
/// If a line is of a kind that is not known here.
pub(super) fn calls(trace: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let (thread, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        let rest = rest.trim_start();
        if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, start);
            continue;
        }
        let resumed = rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>"));
        let joined = resumed.map(|(_, end)| format!("{}{end}", begun.remove(thread).unwrap_or_default()));
        calls.extend(parse(joined.as_deref().unwrap_or(rest)));
    }
    calls
}

fn parse(line: &str) -> Option<Call> {
    // `+++ exited with 0 +++`, and calls that a thread's end cut off.
    let (call, result) = line.rsplit_once(" = ")?;
    let (name, arguments) = call.split_once('(')?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    let result: i64 = result.split(' ').next()?.parse().ok()?;
    if result < 0 {
        return None;
    }
    let all: Vec<&str> = arguments.split(", ").collect();
    let word = |n: usize| {
        all.get(n)
            .copied()
            .unwrap_or_else(|| panic!("{name}: {arguments:.200}"))
    };
    let number = |n: usize| {
        word(n)
            .parse::<i64>()
            .unwrap_or_else(|error| panic!("{error}: {name}({arguments:.200})"))
    };
    let count = |value: i64| usize::try_from(value).unwrap_or_default();
    let path = |n: usize| PathBuf::from(String::from_utf8_lossy(&bytes(word(n))).into_owned());
    Some(match name {
        "openat" => Call::Open {
            fd: result,
            path: path(1),
            makes: word(2).contains("O_CREAT"),
            empties: word(2).contains("O_TRUNC"),
        },
        "close" => Call::Close { fd: number(0) },
        "read" => Call::Read {
            fd: number(0),
            bytes: count(result),
        },
        "lseek" => Call::Seek {
            fd: number(0),
            at: count(result),
        },
        "write" | "pwrite64" => {
            let mut written = bytes(word(1));
            written.truncate(count(result));
            Call::Write {
                fd: number(0),
                bytes: written.into(),
                at: (name == "pwrite64").then(|| count(number(3))),
            }
        }
        "ftruncate" => Call::SetLength {
            fd: number(0),
            length: count(number(1)),
        },
        "copy_file_range" => {
            assert!(word(1) == "NULL" && word(3) == "NULL", "{line}");
            Call::Copy {
                from: number(0),
                to: number(2),
                bytes: count(result),
            }
        }
        "sendfile" => {
            assert!(word(2) == "NULL", "{line}");
            Call::Copy {
                from: number(1),
                to: number(0),
                bytes: count(result),
            }
        }
        "fsync" | "fdatasync" => Call::Sync { fd: number(0) },
        "rename" => Call::Rename {
            from: path(0),
            to: path(1),
        },
        "renameat" | "renameat2" => Call::Rename {
            from: path(1),
            to: path(3),
        },
        "link" => Call::Link {
            from: path(0),
            to: path(1),
        },
        "linkat" => Call::Link {
            from: path(1),
            to: path(3),
        },
        "unlink" => Call::Unlink { path: path(0) },
        "unlinkat" => Call::Unlink { path: path(1) },
        // What it writes elsewhere, such as to a terminal; the files at the end tell whether that was all.
        "writev" | "pwritev" | "fallocate" | "dup" | "dup2" | "dup3" | "fcntl" => return None,
        other => panic!("{other}: {line:.200}"),
    })
}

/// The bytes of `"\x01\x02"`.
fn bytes(quoted: &str) -> Vec<u8> {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let inner = inner.unwrap_or_else(|| panic!("cut off, or no text: {quoted:.80}"));
    let digits = inner.split("\\x").skip(1);
    let byte = |digits: &str| u8::from_str_radix(digits, 16);
    digits
        .map(|digits| byte(digits).unwrap_or_else(|error| panic!("{error}: {digits}")))
        .collect()
}
