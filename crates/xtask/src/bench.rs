//! Figures, each with the floor that was measured in the same run: median of 5, smallest and largest.

mod all_win;
mod bare;
mod book_memory;
mod buyer;
mod claims;
mod escrow_world;
mod one_shot;
mod open_holds;
mod paid_request;
mod store;
mod stream;
mod ticket_verify;
mod watched;

pub(crate) use store::StoreKind;

use crate::ci::Failure;

/// Runs of each figure; the median is what counts.
const RUNS: usize = 5;

/// One measured figure.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The same unit: what the machine does at best, in the same run.
    pub(crate) floor: f64,
    /// Worse divided by better: 1 is as good as the floor.
    pub(crate) ratio: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// How the floor was measured, and what else is worth knowing.
    pub(crate) note: String,
}

/// Whether more or less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

impl Figure {
    pub(crate) fn new(name: &str, unit: &'static str, better: Better, values: Vec<f64>, floors: Vec<f64>) -> Self {
        let (value, floor) = (median(&values), median(&floors));
        let ratio = if better == Better::Less {
            value / floor
        } else {
            floor / value
        };
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self {
            name: name.to_owned(),
            value,
            unit,
            floor,
            ratio,
            min,
            max,
            note: String::new(),
        }
    }

    pub(crate) fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

/// Runs a measurement on a runtime with a thread for each of two cores. As a task of its own: what blocks on a runtime is
/// a third thread, which two cores would have to switch to.
fn on_two_cores<T: Send + 'static>(
    measuring: impl Future<Output = Result<T, String>> + Send + 'static,
) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let measured = runtime.block_on(runtime.spawn(measuring));
    measured.map_err(|error| error.to_string())?
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What is measured on.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct On {
    /// The escrow's store, for claims and open-holds.
    #[arg(long, value_enum, default_value_t = StoreKind::Redb)]
    store: StoreKind,
    /// Accounts with an open hold each that are there already, for claims.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    accounts: u64,
}

/// A bench by its name.
type Bench = (&'static str, fn(On) -> Result<Vec<Figure>, String>);

/// Every bench, in the order of running.
pub(crate) const ALL: &[Bench] = &[
    ("ticket-verify", |_| ticket_verify::run()),
    ("stream", |_| stream::run()),
    ("all-win", |_| all_win::run()),
    ("one-shot", |_| one_shot::run()),
    ("paid-request", |_| paid_request::run()),
    ("book-memory", |_| book_memory::run()),
    ("claims", |on| claims::run(on.store, on.accounts)),
    ("open-holds", |on| open_holds::run(on.store)),
];

/// Runs all benches, or one, and prints its figures.
pub(crate) fn run(name: Option<&str>, on: On, json: bool) -> Result<(), Failure> {
    let chosen: Vec<_> = ALL
        .iter()
        .filter(|(known, _)| name.is_none_or(|name| name == *known))
        .collect();
    if chosen.is_empty() {
        let known: Vec<_> = ALL.iter().map(|(known, _)| *known).collect();
        return Err(Failure::Bench(format!(
            "no such bench; there are: {}",
            known.join(", ")
        )));
    }
    let mut figures = Vec::new();
    for (known, bench) in chosen {
        if !json {
            eprintln!("{known}: {RUNS} runs ...");
        }
        figures.extend(bench(on).map_err(Failure::Bench)?);
    }
    if json {
        println!(
            "{}",
            serde_json::to_string_pretty(&figures).map_err(|error| Failure::Bench(error.to_string()))?
        );
        return Ok(());
    }
    for f in &figures {
        println!(
            "{:<16} {:>14.1} {:<12} [{:.1} .. {:.1}]",
            f.name, f.value, f.unit, f.min, f.max
        );
        println!(
            "{:<16} {:>14.1} {:<12} ratio {:.2}; {}",
            "  floor", f.floor, f.unit, f.ratio, f.note
        );
    }
    Ok(())
}
