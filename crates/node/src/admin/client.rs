//! The side of the command line.

use super::{AdminError, Answer, read_line, socket_path, write_line};
use crate::home::Home;
use serde_json::Value;
use std::io;
use tokio::io::BufReader;
use tokio::net::UnixStream;

/// Sends one request to the node that runs on a home, and returns its result. Every progress line is given to
/// `on_progress` as it comes.
///
/// # Errors
/// [`RequestError::NoNode`] if none runs there, [`RequestError::Failed`] with what the node says, or what else went
/// wrong; after those the command may have been carried out or not.
pub async fn request(home: &Home, request: &Value, mut on_progress: impl FnMut(&Value)) -> Result<Value, RequestError> {
    let stream = UnixStream::connect(socket_path(home))
        .await
        .map_err(|error| match error.kind() {
            // A socket file without a listener is left by a node that was killed.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => RequestError::NoNode,
            kind => RequestError::Io { kind },
        })?;
    let mut stream = BufReader::new(stream);
    write_line(&mut stream, request).await?;
    loop {
        let line = read_line(&mut stream).await?.ok_or(RequestError::Cut)?;
        match serde_json::from_slice(&line).map_err(|_| RequestError::BadAnswer)? {
            Answer::Progress { progress } => on_progress(&progress),
            Answer::Done { result, .. } => return Ok(result),
            Answer::Error { error } => return Err(RequestError::Failed(error)),
        }
    }
}

/// Why a request has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// What answers is not a node of this version.
    #[error("the node's answer is not understood; update the older of the two programs")]
    BadAnswer,
    /// The node went away before it had answered.
    #[error("the node went away before it had answered")]
    Cut,
    /// The node carried the command out and it failed, or refused it.
    #[error("{0}")]
    Failed(AdminError),
    /// The system refused.
    #[error("the node's socket: {kind}")]
    Io {
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// No node runs on this home.
    #[error("no node is running")]
    NoNode,
}

impl From<io::Error> for RequestError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Cut,
            kind => Self::Io { kind },
        }
    }
}
