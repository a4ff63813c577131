//! How far an audit is, on standard error: a bar on a terminal, and elsewhere a line from time to time.

use crate::output::number;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Between two lines where there is no terminal; work that is done before the first one is not worth a word.
const PAUSE: Duration = Duration::from_secs(5);

/// Shows progress until it is dropped.
pub(super) struct AuditProgress {
    bar: ProgressBar,
    told_at: Instant,
}

impl AuditProgress {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new(0);
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        // The template is a constant that a test reads.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        let told_at = Instant::now();
        Self { bar, told_at }
    }

    pub(super) fn show(&mut self, progress: &Value) {
        let (events, of) = (number(progress, "events"), number(progress, "of"));
        self.bar.set_length(of);
        self.bar.set_position(events);
        if self.bar.is_hidden() && self.told_at.elapsed() >= PAUSE {
            self.told_at = Instant::now();
            eprintln!("audit: {events} of {of} events replayed");
        }
    }
}

impl Drop for AuditProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

const TEMPLATE: &str = "{bar:40} {pos}/{len} events replayed, {per_sec}, eta {eta}";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn progress_is_shown_of_how_many_there_are() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
        let mut shown = AuditProgress::new();
        shown.show(&json!({ "events": 1_024, "of": 4_000 }));
        assert_eq!((shown.bar.position(), shown.bar.length()), (1_024, Some(4_000)));
    }
}
