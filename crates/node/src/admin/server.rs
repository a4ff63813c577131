//! The side of the running node.

use super::{AdminError, Answer, SOCKET_FILE, read_line, socket_path, write_line};
use crate::home::HomeLock;
use serde_json::Value;
use std::fs::Permissions;
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Clients at once: local programs and a few people; more wait to be accepted.
const CLIENTS_MAX: usize = 64;
/// Progress lines that wait for a slow client before the command waits for it.
const PROGRESS_LINES_MAX: usize = 16;
/// A client that reads nothing for this long is taken for gone, so that it cannot hold up a command.
const CLIENT_STALL_MAX: Duration = Duration::from_secs(10);
/// The system's own user, who reads every home anyway and operates nodes that systemd gave a user of their own.
const ROOT: u32 = 0;
/// After a failed accept (no file descriptors, most likely) the next is tried this much later.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// A bound admin socket; its file is removed when this is dropped.
#[derive(Debug)]
pub struct AdminServer {
    listener: UnixListener,
    path: PathBuf,
    /// Who is served: the node's own user, and root.
    pub(super) users: [u32; 2],
}

impl AdminServer {
    /// Binds the socket of a locked home. A socket that is there belongs to a dead process, as this one has the lock.
    /// Needs a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`] with what the system said.
    pub fn bind(lock: &HomeLock) -> Result<Self, BindError> {
        let path = socket_path(lock.home());
        bind(&path)
            .map(|listener| Self {
                listener,
                path: path.clone(),
                users: [rustix::process::geteuid().as_raw(), ROOT],
            })
            .map_err(|error| BindError {
                path,
                kind: error.kind(),
            })
    }

    /// Serves requests until `shutdown` is ready, then takes no more and returns when those begun are answered. Dropping
    /// the future instead drops the commands where they are.
    pub async fn serve<H, F>(self, handler: H, shutdown: impl Future<Output = ()>)
    where
        H: Fn(Value, Progress) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Value, AdminError>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let places = Arc::new(Semaphore::new(CLIENTS_MAX));
        let (closing, closed) = watch::channel(());
        let mut clients = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = self.accept(&places) => accepted,
                Some(_) = clients.join_next() => continue,
            };
            let (stream, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the admin socket did not accept a client");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let (handler, closed, users) = (Arc::clone(&handler), closed.clone(), self.users);
            clients.spawn(async move {
                if let Err(error) = serve_client(stream, users, handler, closed).await {
                    tracing::debug!(%error, "an admin client went away");
                }
                drop(place);
            });
        }
        // Whoever connects from here on finds no node, rather than one that does not answer.
        let _ = std::fs::remove_file(&self.path);
        drop(closing);
        while clients.join_next().await.is_some() {}
    }

    async fn accept(&self, places: &Arc<Semaphore>) -> io::Result<(UnixStream, Option<OwnedSemaphorePermit>)> {
        // The semaphore is never closed, so there is always a permit to come.
        let place = Arc::clone(places).acquire_owned().await.ok();
        let (stream, _) = self.listener.accept().await?;
        Ok((stream, place))
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        // Gone already after serving; a file that stays is removed by the next node.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Where a command reports how far it is.
#[derive(Debug, Clone)]
pub struct Progress {
    lines: mpsc::Sender<Value>,
}

impl Progress {
    /// Sends one progress line, waiting for a client that is slow to read. Does nothing once the client is gone.
    pub async fn send(&self, progress: Value) {
        // A client that went away does not stop the command.
        let _ = self.lines.send(progress).await;
    }

    /// Whether the client is known to be gone, which shows when it is sent something; for commands that only make sense
    /// while someone watches.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lines.is_closed()
    }
}

/// Why the socket cannot be bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot listen on {}: {kind}", path.display())]
pub struct BindError {
    /// The socket.
    pub path: PathBuf,
    /// What the system said; `InvalidInput` if the path is over 107 bytes.
    pub kind: io::ErrorKind,
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Bound under another name and renamed, so that nobody connects before the mode is set.
    let unready = path.with_file_name(format!(".{SOCKET_FILE}"));
    match std::fs::remove_file(&unready) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&unready)?;
    std::fs::set_permissions(&unready, Permissions::from_mode(0o600))?;
    std::fs::rename(&unready, path)?;
    Ok(listener)
}

async fn serve_client<H, F>(
    stream: UnixStream,
    users: [u32; 2],
    handler: Arc<H>,
    mut closed: watch::Receiver<()>,
) -> io::Result<()>
where
    H: Fn(Value, Progress) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Value, AdminError>> + Send + 'static,
{
    let peer = stream.peer_cred()?.uid();
    let mut stream = BufReader::new(stream);
    if !users.contains(&peer) {
        // Read first: closing with unread bytes would reset the connection before the answer is seen.
        let _ = timeout(CLIENT_STALL_MAX, read_line(&mut stream)).await;
        let [own, _] = users;
        let error = AdminError::new(
            "unauthorized",
            format!("this node serves user {own} and root, not user {peer}"),
        )
        .with("need", own)
        .with("has", peer)
        .with("next", "run the command as that user, or as root");
        return answer(&mut stream, &Answer::Error { error }).await;
    }
    loop {
        let line = tokio::select! {
            biased;
            // The sender is dropped when the node closes; nothing is ever sent.
            _ = closed.changed() => return Ok(()),
            line = read_line(&mut stream) => line,
        };
        let line = match line {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                let error = AdminError::new("too_large", "the request is over the limit of one line");
                return answer(&mut stream, &Answer::Error { error }).await;
            }
            Err(error) => return Err(error),
        };
        match serde_json::from_slice::<Value>(&line) {
            Ok(request) if request.get("command").is_some_and(Value::is_string) => {
                carry_out(&mut stream, &*handler, request).await?;
            }
            _ => {
                let error = AdminError::new("malformed", "a request is one JSON object with a command");
                answer(&mut stream, &Answer::Error { error }).await?;
            }
        }
    }
}

/// Runs one command to its end, whether or not its client stays, and writes the answer.
async fn carry_out<H, F>(stream: &mut BufReader<UnixStream>, handler: &H, request: Value) -> io::Result<()>
where
    H: Fn(Value, Progress) -> F,
    F: Future<Output = Result<Value, AdminError>>,
{
    let (lines, mut waiting) = mpsc::channel(PROGRESS_LINES_MAX);
    let mut command = std::pin::pin!(handler(request, Progress { lines }));
    let mut client = Ok(());
    let result = loop {
        tokio::select! {
            biased;
            Some(progress) = waiting.recv() => {
                if client.is_ok() {
                    client = answer(stream, &Answer::Progress { progress }).await;
                }
                if client.is_err() {
                    waiting.close();
                }
            }
            result = &mut command => break result,
        }
    };
    client?;
    while let Ok(progress) = waiting.try_recv() {
        answer(stream, &Answer::Progress { progress }).await?;
    }
    let last = match result {
        Ok(result) => Answer::Done { done: true, result },
        Err(error) => Answer::Error { error },
    };
    match answer(stream, &last).await {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            let error = AdminError::new("too_large", "the answer is over the limit of one line");
            answer(stream, &Answer::Error { error }).await
        }
        written => written,
    }
}

async fn answer(stream: &mut BufReader<UnixStream>, line: &Answer) -> io::Result<()> {
    match timeout(CLIENT_STALL_MAX, write_line(stream, line)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
