//! The admin socket: how the command line talks to a running node.
//!
//! A node listens on `HOME/admin.sock`, mode 0600, and serves processes of its own user only, whatever the mode says. A
//! request is one line, a JSON object with a `command`; the answer is lines of JSON objects, of which each but the last
//! has `progress`, and the last has either `done` (true) with `result`, or `error` with `code` and `message`:
//!
//! ```text
//! -> {"command": "get", "url": "tombola://..."}
//! <- {"progress": {"units": 64}}
//! <- {"done": true, "result": {"units": 128}}
//! ```
//!
//! A connection may carry one request after another. A command that was begun goes on when its client goes away: it may
//! be moving money. Nothing here knows a command; that is the handler's business.

mod client;
mod server;

pub use client::{RequestError, request};
pub use server::{AdminServer, BindError, Progress};

use crate::home::Home;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::io;
use std::path::PathBuf;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The socket of a home.
pub const SOCKET_FILE: &str = "admin.sock";
/// Longest line either way: a page of a statement has under 200 KiB, and longer answers come as progress.
pub const LINE_BYTES_MAX: usize = 1_024 * 1_024;

/// The path of a home's socket.
#[must_use]
pub fn socket_path(home: &Home) -> PathBuf {
    home.file(SOCKET_FILE)
}

/// Why a command failed, as its client sees it. Codes are stable names, such as those of the protocol's refusals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct AdminError {
    /// The stable name.
    pub code: String,
    /// What happened, for people.
    pub message: String,
    /// Further fields: the numbers that were compared, what to do next.
    #[serde(flatten)]
    pub detail: Map<String, Value>,
}

impl AdminError {
    /// An error without further fields.
    #[must_use]
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            detail: Map::new(),
        }
    }

    /// The same error with one more field.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.detail.insert(key.to_owned(), value.into());
        self
    }
}

/// One line of an answer. The field names are the contract.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Answer {
    Error { error: AdminError },
    Done { done: bool, result: Value },
    Progress { progress: Value },
}

/// Reads one line without its end, or `None` at the end of the stream; of kind `FileTooLarge` over the limit.
async fn read_line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    from.take(limit).read_until(b'\n', &mut line).await?;
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(Some(line));
    }
    if line.is_empty() {
        return Ok(None);
    }
    // A line without an end is over the limit, or its writer went away.
    Err(match line.len() {
        LINE_BYTES_MAX => io::ErrorKind::FileTooLarge,
        _ => io::ErrorKind::UnexpectedEof,
    }
    .into())
}

async fn write_line(to: &mut (impl AsyncWrite + Unpin), value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    if line.len() >= LINE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    line.push(b'\n');
    to.write_all(&line).await?;
    to.flush().await
}

#[cfg(test)]
mod tests;
