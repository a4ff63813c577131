//! The clock of an escrow's machine beside its ledger's time.

use super::Finding;
use crate::output::{date, text};
use serde_json::Value;
use tombola_core::amount::Timestamp;
use tombola_core::limits::CLOCK_JUMP_MAX_MS;

/// Of a running escrow, by its status: whether its wall clock can be believed.
pub(super) fn of_running(node: &Value, now: Timestamp) -> Finding {
    let jump = node.get("clock_jump").filter(|jump| !jump.is_null());
    if let Some(jump) = jump {
        let found = format!(
            "this machine's clock jumped: it says {}, and {} is expected; nothing expires",
            text(jump, "wall"),
            text(jump, "expected")
        );
        let next = "set the clock; only if it is right, restart the escrow: it believes what the clock says then";
        return Finding::failed("clock", found, next);
    }
    let behind_ms = node.get("clock_behind_ms").and_then(Value::as_u64).unwrap_or_default();
    judge(now, &format!("ledger time is {}", text(node, "ledger_time")), behind_ms)
}

/// Of an escrow that does not run, by the last event of its ledger: the next start takes the clock as it is.
pub(super) fn of_stopped(last_event: Timestamp, now: Timestamp) -> Finding {
    let ledger = format!("the last event of the ledger was at {}", date(last_event));
    judge(now, &ledger, last_event.0.saturating_sub(now.0))
}

fn judge(now: Timestamp, ledger: &str, behind_ms: u64) -> Finding {
    let found = format!("this machine's clock says {}, {ledger}", date(now));
    match behind_ms > CLOCK_JUMP_MAX_MS {
        true => Finding::failed(
            "clock",
            found,
            "set the clock; if it is right, ledger time stands still until the clock has caught up, and nothing expires",
        ),
        false => Finding::ok("clock", found),
    }
}
