//! Numbers as OpenMetrics text, which Prometheus and other programs of its kind read.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit as TextUnit};
use std::fmt;

/// What the text is, for HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Every name begins with this.
const PREFIX: &str = "tombola";

/// Whether a number only grows.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// It does, until the node is started again; its name ends in `_total`.
    Counter(u64),
    /// It goes up and down.
    Gauge(u64),
    /// A measured number that goes up and down.
    Measured(f64),
    /// Texts that stay the same while the node runs, such as its version.
    Info(Vec<(&'static str, String)>),
}

/// What a number counts; its name ends in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things that the name says.
    None,
    /// Atomic units of the asset: with 9 decimals 1 is 0.000000001.
    Atoms,
    /// Seconds.
    Seconds,
}

/// One number, or one for each code of a closed list.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its name, without prefix, unit and `_total`.
    pub name: &'static str,
    /// What it is, for people.
    pub help: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// The values, each with the value of its `reason` label if it has one.
    pub values: Vec<(Option<String>, Kind)>,
}

impl Sample {
    fn new(name: &'static str, help: &'static str, unit: Unit, kind: Kind) -> Self {
        Self {
            name,
            help,
            unit,
            values: vec![(None, kind)],
        }
    }

    /// A number that only grows.
    #[must_use]
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self::new(name, help, Unit::None, Kind::Counter(value))
    }

    /// A number that goes up and down.
    #[must_use]
    pub fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self::new(name, help, Unit::None, Kind::Gauge(value))
    }

    /// A measured number.
    #[must_use]
    pub fn measured(name: &'static str, help: &'static str, value: f64) -> Self {
        Self::new(name, help, Unit::None, Kind::Measured(value))
    }

    /// A duration or a time, in seconds.
    pub(crate) fn seconds(name: &'static str, help: &'static str, ms: u64) -> Self {
        Self::measured(name, help, ms as f64 / 1_000.0).of(Unit::Seconds)
    }

    /// What every node says of itself: its version, and how long it runs.
    pub(crate) fn of_program(role: &'static str, uptime: &'static str, uptime_ms: u64) -> [Self; 2] {
        [
            Self::info(role, "The program", vec![("version", super::VERSION.to_owned())]),
            Self::seconds(uptime, "How long the node runs", uptime_ms),
        ]
    }

    /// Texts that stay.
    #[must_use]
    pub fn info(name: &'static str, help: &'static str, texts: Vec<(&'static str, String)>) -> Self {
        Self::new(name, help, Unit::None, Kind::Info(texts))
    }

    /// Numbers that only grow, one for each reason.
    #[must_use]
    pub fn by_reason(name: &'static str, help: &'static str, reasons: impl IntoIterator<Item = (String, u64)>) -> Self {
        let values = reasons
            .into_iter()
            .map(|(reason, count)| (Some(reason), Kind::Counter(count)));
        Self {
            name,
            help,
            unit: Unit::None,
            values: values.collect(),
        }
    }

    /// The same, in a unit.
    #[must_use]
    pub fn of(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some((_, first)) = self.values.first() else {
            return Ok(());
        };
        let unit = match self.unit {
            Unit::None => None,
            Unit::Atoms => Some(TextUnit::Other("atoms".to_owned())),
            Unit::Seconds => Some(TextUnit::Seconds),
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, unit.as_ref(), first.metric_type())?;
        for (reason, kind) in &self.values {
            match reason {
                Some(reason) => kind.encode(metric.encode_family(&[("reason", reason.as_str())])?)?,
                None => return kind.encode(metric),
            }
        }
        Ok(())
    }
}

impl EncodeMetric for Kind {
    fn encode(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Counter(value) => ConstCounter::new(*value).encode(encoder),
            Self::Gauge(value) => ConstGauge::new(*value).encode(encoder),
            Self::Measured(value) => ConstGauge::new(*value).encode(encoder),
            Self::Info(texts) => Info::new(texts.clone()).encode(encoder),
        }
    }

    fn metric_type(&self) -> MetricType {
        match self {
            Self::Counter(_) => MetricType::Counter,
            Self::Gauge(_) | Self::Measured(_) => MetricType::Gauge,
            Self::Info(_) => MetricType::Info,
        }
    }
}

#[derive(Debug)]
struct Samples(Vec<Sample>);

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|sample| sample.encode(&mut encoder))
    }
}

/// The text of numbers, with their descriptions and the end that OpenMetrics asks for.
#[must_use]
pub fn text(samples: Vec<Sample>) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Samples(samples)));
    let mut text = String::new();
    // A string takes whatever is written to it.
    let _ = encode(&mut text, &registry);
    text
}
