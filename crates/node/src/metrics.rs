//! What a node can be watched by: rates, luck, and the text that Prometheus and other programs of its kind read.
//!
//! Nothing here is on the path of a ticket or a claim. The nodes count what they do in atomic numbers anyway; they are
//! read when somebody asks, and once a second for the rates. Names and units are a contract, listed in README.md; labels
//! are codes out of a closed list, never keys, names or paths, so a peer cannot make them many.

mod luck;
mod rate;
mod sample;
mod server;
#[cfg(test)]
mod tests;

pub use luck::Luck;
pub use rate::{RATE_WINDOW_MS, Rate};
pub use sample::{CONTENT_TYPE, Kind, Sample, Unit, text};
pub use server::{BindError, MetricsServer};

pub(crate) use luck::LuckTally;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts with their names, as reasons.
pub(crate) fn by_reason(counts: &impl serde::Serialize) -> BTreeMap<String, u64> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(counts) else {
        return BTreeMap::new();
    };
    let counts = fields.into_iter();
    counts
        .filter_map(|(name, count)| Some((name, count.as_u64()?)))
        .collect()
}

/// How often the rates look at what they count.
const BEAT: Duration = Duration::from_secs(1);

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long a node runs, and the rates of what it counts.
#[derive(Debug)]
pub(crate) struct Pulse<const N: usize> {
    started: Instant,
    rates: Mutex<[Rate; N]>,
}

impl<const N: usize> Pulse<N> {
    /// Beats once a second until the task is aborted; `totals` reads what is counted.
    pub(crate) fn start(
        mut totals: impl FnMut() -> [u64; N] + Send + 'static,
    ) -> (Arc<Self>, tokio::task::JoinHandle<()>) {
        let pulse = Arc::new(Self {
            started: Instant::now(),
            rates: Mutex::new(std::array::from_fn(|_| Rate::default())),
        });
        let beating = Arc::clone(&pulse);
        let task = tokio::spawn(async move {
            let mut beats = tokio::time::interval(BEAT);
            loop {
                beats.tick().await;
                beating.note(totals());
            }
        });
        (pulse, task)
    }

    fn note(&self, totals: [u64; N]) {
        let at_ms = self.uptime_ms();
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        for (rate, total) in rates.iter_mut().zip(totals) {
            rate.note(at_ms, total);
        }
    }

    /// Milliseconds since the start.
    pub(crate) fn uptime_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How many a second there were over the last minute, of each.
    pub(crate) fn per_second(&self, totals: [u64; N]) -> [f64; N] {
        let at_ms = self.uptime_ms();
        let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let mut totals = totals.into_iter();
        std::array::from_fn(|of| match (rates.get(of), totals.next()) {
            (Some(rate), Some(total)) => rate.per_second(at_ms, total),
            _ => 0.0,
        })
    }
}
