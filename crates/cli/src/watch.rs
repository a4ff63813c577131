//! How a node is watched from outside: its log, its metrics port, and what it tells the system's service manager.

use crate::exit::Failure;
use clap::ValueEnum;
use sd_notify::NotifyState;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinHandle;
use tombola_node::metrics::{MetricsServer, Sample};
use tracing::Level;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// What is logged where nobody says anything.
const FILTER_DEFAULT: Level = Level::WARN;
/// Where a filter is looked for, in this order, unless the command line has one.
const FILTER_VARIABLES: [&str; 2] = ["TOMBOLA_LOG", "RUST_LOG"];

/// Log lines for people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text, one line an event.
    Text,
    /// One JSON object an event: timestamp, level, target, message, and the event's own fields.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LogArgs {
    /// What is logged to standard error: error, warn, info, debug, or by module (warn,tombola_node=debug) [default:
    /// TOMBOLA_LOG, RUST_LOG, or warn].
    #[arg(long = "log-filter", global = true, value_name = "FILTER")]
    filter: Option<String>,
    /// One event is one line either way.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
}

impl LogArgs {
    /// Begins to log.
    ///
    /// # Errors
    /// Where the filter of the command line is none; one in the environment is passed over.
    pub(crate) fn begin(&self) -> Result<(), Failure> {
        let filter: Targets = match &self.filter {
            Some(filter) => targets(filter).map_err(|error| {
                Failure::new("log_filter", format!("--log-filter {filter}: {error}"))
                    .next("give --log-filter info, for example")
            })?,
            None => FILTER_VARIABLES
                .iter()
                .find_map(|name| targets(&std::env::var(name).ok()?).ok())
                .unwrap_or_else(|| Targets::new().with_default(FILTER_DEFAULT)),
        };
        let lines = fmt::layer()
            .with_span_events(FmtSpan::NONE)
            .with_writer(std::io::stderr);
        let lines = match self.log_format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .boxed(),
        };
        tracing_subscriber::registry().with(lines.with_filter(filter)).init();
        Ok(())
    }
}

/// What a filter says; a part of it that is empty says nothing.
fn targets(filter: &str) -> Result<Targets, ParseError> {
    let parts: Vec<_> = filter.split(',').filter(|part| !part.trim().is_empty()).collect();
    if parts.is_empty() {
        return Ok(Targets::new().with_default(FILTER_DEFAULT));
    }
    parts.join(",").parse()
}

/// Opens the metrics port of a node, if it is to have one.
pub(crate) async fn metrics<F>(
    listen: Option<SocketAddr>,
    samples: impl Fn() -> F + Send + Sync + 'static,
) -> Result<Option<MetricsServer>, Failure>
where
    F: Future<Output = Option<Vec<Sample>>> + Send + 'static,
{
    let Some(listen) = listen else { return Ok(None) };
    let server = MetricsServer::bind(listen, samples).await.map_err(|error| {
        Failure::new("metrics", error.to_string())
            .next("choose another metrics_listen in config.toml; port 0 takes any")
    })?;
    Ok(Some(server))
}

/// What the service manager is told; nothing where none asked for it (`NOTIFY_SOCKET`).
#[derive(Debug)]
pub(crate) struct Service {
    alive: Option<JoinHandle<()>>,
}

impl Service {
    /// The node serves now; from here on the manager hears twice in its watchdog's time that the node still works.
    ///
    /// The signs of life come from the node's own runtime, so one whose threads all hang gives none.
    pub(crate) fn ready(status: &str) -> Self {
        notify(&[NotifyState::Ready, NotifyState::Status(status)]);
        let alive = sd_notify::watchdog_enabled().map(|limit| tokio::spawn(stay_alive(limit)));
        Self { alive }
    }

    /// The node begins to end.
    pub(crate) fn stopping(self) {
        notify(&[NotifyState::Stopping]);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(alive) = &self.alive {
            alive.abort();
        }
    }
}

async fn stay_alive(limit: Duration) {
    let mut beats = tokio::time::interval(limit / 2);
    loop {
        beats.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(event = "notify_failed", %error, "the service manager was not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_part_of_a_log_filter_says_nothing() {
        let default = Targets::new().with_default(FILTER_DEFAULT);
        for (filter, expected) in [("", default), ("info,", Targets::new().with_default(Level::INFO))] {
            assert_eq!(targets(filter).unwrap(), expected, "{filter:?}");
        }
        assert!(targets("a=b=c").is_err());
    }
}
