//! A payee that is watched: its metrics port is read again and again, and it logs.

use super::buyer::text;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tombola_node::metrics::MetricsServer;
use tombola_node::payee::Payee;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// Between two readings; a Prometheus server reads each quarter of a minute.
const PAUSE: Duration = Duration::from_millis(100);

/// The log of this process, which is off until it is watched.
pub(super) struct Log(reload::Handle<LevelFilter, Registry>);

impl Log {
    pub(super) fn begin() -> Result<Self, String> {
        let (filter, handle) = reload::Layer::new(LevelFilter::OFF);
        let lines = fmt::layer().json().with_writer(std::io::sink);
        let log = tracing_subscriber::registry().with(lines.with_filter(filter));
        log.try_init().map_err(text)?;
        Ok(Self(handle))
    }

    fn set(&self, level: LevelFilter) -> Result<(), String> {
        self.0.modify(|now| *now = level).map_err(text)
    }
}

/// Somebody who watches.
pub(super) struct Watch<'a> {
    log: &'a Log,
    reading: JoinHandle<Result<usize, String>>,
    end: oneshot::Sender<()>,
}

impl<'a> Watch<'a> {
    /// Begins to read ten times a second, and to log what `--log-filter info` does.
    pub(super) async fn begin(payee: &Arc<Payee>, log: &'a Log) -> Result<Self, String> {
        let payee = Arc::clone(payee);
        let samples = move || {
            let payee = Arc::clone(&payee);
            async move { Some(payee.status().ok()?.samples()) }
        };
        let server = MetricsServer::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), samples);
        let server = server.await.map_err(text)?;
        let (end, ended) = oneshot::channel();
        let reading = tokio::spawn(read_until(server, ended));
        log.set(LevelFilter::INFO)?;
        Ok(Self { log, reading, end })
    }

    /// Ends it.
    ///
    /// # Errors
    /// If nothing was read, and so nothing measured.
    pub(super) async fn end(self) -> Result<(), String> {
        drop(self.end);
        self.log.set(LevelFilter::OFF)?;
        match self.reading.await.map_err(text)?? {
            0 => Err("nobody read the metrics".to_owned()),
            _ => Ok(()),
        }
    }
}

async fn read_until(server: MetricsServer, mut ended: oneshot::Receiver<()>) -> Result<usize, String> {
    let mut readings = 0;
    while tokio::time::timeout(PAUSE, &mut ended).await.is_err() {
        let mut stream = TcpStream::connect(server.address()).await.map_err(text)?;
        let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.map_err(text)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(text)?;
        if !answer.contains("tombola_payee_tickets_total") {
            return Err(format!("no metrics: {answer}"));
        }
        readings += 1;
    }
    Ok(readings)
}
