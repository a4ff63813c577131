//! The metrics port: `GET /metrics` over HTTP, for programs of this machine.

use super::{CONTENT_TYPE, Sample, text};
use hyper::header::{ALLOW, CONTENT_TYPE as CONTENT_TYPE_HEADER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Programs that watch at once; one more waits until another has gone.
const CLIENTS_MAX: usize = 8;
/// A request comes at once on loopback; who is slower gives its place back.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections are kept for the next scrape, which is a minute away at most; then they are made anew.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(90);
/// The longest request: its line and headers.
const REQUEST_BYTES_MAX: usize = 16 * 1_024;
/// After a failed accept (no file descriptors, most likely) the next is tried this much later.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// Where the numbers are.
const PATH: &str = "/metrics";

/// A metrics port that listens; it is closed when this is dropped.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl MetricsServer {
    /// Listens, and answers each request with the numbers of that moment. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`] with what the system said.
    pub async fn bind<F>(listen: SocketAddr, samples: impl Fn() -> F + Send + Sync + 'static) -> Result<Self, BindError>
    where
        F: Future<Output = Option<Vec<Sample>>> + Send + 'static,
    {
        let failed = |error: std::io::Error| BindError {
            at: listen,
            kind: error.kind(),
        };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let task = tokio::spawn(serve(listener, Arc::new(samples)));
        Ok(Self { address, task })
    }

    /// Where it listens, with the port that was picked.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a watching program is told to read.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why the port cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot listen on {at} for metrics: {kind}")]
pub struct BindError {
    /// Where.
    pub at: SocketAddr,
    /// What the system said.
    pub kind: std::io::ErrorKind,
}

async fn serve<S, F>(listener: TcpListener, samples: Arc<S>)
where
    S: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Option<Vec<Sample>>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    // The connections end with this task, and this with the port.
    let mut clients = tokio::task::JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        // The semaphore is never closed, so there is always a permit to come.
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let samples = Arc::clone(&samples);
                clients.spawn(async move {
                    serve_client(stream, samples).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(event = "metrics_accept_failed", %error, "the metrics port did not accept a client");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

async fn serve_client<S, F>(stream: TcpStream, samples: Arc<S>)
where
    S: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Option<Vec<Sample>>> + Send + 'static,
{
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let samples = Arc::clone(&samples);
        async move { Ok::<_, Infallible>(answer(&request, &*samples).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CONNECTION_TIMEOUT, connection).await {
        tracing::debug!(%error, "a metrics client went away");
    }
}

async fn answer<S, F, B>(request: &Request<B>, samples: &S) -> Response<String>
where
    S: Fn() -> F,
    F: Future<Output = Option<Vec<Sample>>>,
{
    if request.uri().path() != PATH {
        return plain(StatusCode::NOT_FOUND, "the numbers are at /metrics\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        response
            .headers_mut()
            .insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match samples().await {
        Some(samples) => {
            let mut response = Response::new(text(samples));
            response.headers_mut().insert(
                CONTENT_TYPE_HEADER,
                hyper::header::HeaderValue::from_static(CONTENT_TYPE),
            );
            response
        }
        None => plain(StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read\n"),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<String> {
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = status;
    response
}
