//! The escrow that a home is set to: whether it is there, is who it should be, and tells the same time.

use super::Finding;
use std::time::Duration;
use tombola_core::amount::{Asset, Timestamp};
use tombola_core::hold::Fee;
use tombola_core::key::SecretKey;
use tombola_core::message::{EscrowInfo, Phase};
use tombola_net::{Address, NetError};
use tombola_node::clock;
use tombola_node::escrow_client::{EscrowClient, EscrowError};

/// How long an escrow is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clocks this far apart are worth a look.
const APART_WARNING_MS: u64 = 2_000;
/// From here on the margins before a hold's expiry are eaten up.
const APART_FAILED_MS: u64 = 30_000;

/// What a home expects of its escrow.
pub(super) struct Expected {
    pub(super) escrow: Address,
    pub(super) asset: Asset,
    /// The largest fee that it takes.
    pub(super) fee_max: Fee,
}

/// Asks the escrow who it is, with a key of the moment: nobody needs to know who asked.
pub(super) async fn look(expected: &Expected) -> Vec<Finding> {
    let key = SecretKey::from_seed(&clock::random());
    let client = match EscrowClient::new(expected.escrow.clone(), &key) {
        Ok(client) => client,
        Err(error) => return vec![away(expected, &error)],
    };
    let asked = clock::now();
    let info = tokio::time::timeout(PATIENCE, client.info()).await;
    let answered = clock::now();
    client.close().await;
    match info.unwrap_or(Err(EscrowError::Away(NetError::TimedOut))) {
        Ok(info) => {
            let mut findings = vec![agrees(expected, &info), clocks((asked, answered), info.time)];
            findings.extend(fee(expected.fee_max, info.fee));
            findings
        }
        Err(error) => vec![away(expected, &error)],
    }
}

fn away(expected: &Expected, error: &EscrowError) -> Finding {
    let address = &expected.escrow;
    let found = format!("{address}: {error}");
    let next = match error {
        EscrowError::Away(NetError::WrongKey { given, .. }) => format!(
            "somebody else answers there: ask the operator, by another way, whether {given} is its key; if not, do not pay"
        ),
        EscrowError::Away(_) => {
            "see that it runs, that UDP gets through, and that escrow in config.toml is its address".to_owned()
        }
        _ => "update the older of the two programs".to_owned(),
    };
    Finding::failed("escrow", found, next)
}

pub(super) fn agrees(expected: &Expected, info: &EscrowInfo) -> Finding {
    let (name, height) = (&info.name, info.height);
    let found = format!("{name} answers, height {height}");
    if info.asset != expected.asset {
        let (theirs, ours) = (info.asset, expected.asset);
        let text = |asset: Asset| format!("{} with {} places", asset.name(), asset.decimals);
        return Finding::failed(
            "escrow",
            format!("it counts {}, config.toml says {}", text(theirs), text(ours)),
            "set asset and decimals in config.toml to what the escrow counts",
        );
    }
    match info.phase {
        Phase::Open => Finding::ok("escrow", found),
        Phase::Recovering => Finding::warning(
            "escrow",
            format!("{found}, and recovers from a rollback"),
            "start this node, so that it brings back what it holds; new holds are made after that",
        ),
        Phase::Draining => Finding::warning("escrow", format!("{found}, and is ending"), "ask again in a minute"),
    }
}

/// The escrow's time lies between those of the question and of the answer, or the clocks are apart.
pub(super) fn clocks((asked, answered): (Timestamp, Timestamp), there: Timestamp) -> Finding {
    let apart_ms = asked.0.saturating_sub(there.0).max(there.0.saturating_sub(answered.0));
    let found = format!("{apart_ms} ms off the escrow's");
    let next = "set the clock of this machine: run chronyd or systemd-timesyncd, and look at `timedatectl`";
    match apart_ms {
        0..APART_WARNING_MS => Finding::ok("clock", found),
        APART_WARNING_MS..APART_FAILED_MS => Finding::warning("clock", found, next),
        APART_FAILED_MS.. => Finding::failed("clock", found, next),
    }
}

fn fee(limit: Fee, fee: Fee) -> Option<Finding> {
    let is_over = fee.flat > limit.flat || fee.ppm > limit.ppm;
    let found = format!(
        "the escrow takes {} atomic units and {} ppm of a winner, the limit here is {} and {}",
        fee.flat.0, fee.ppm, limit.flat.0, limit.ppm
    );
    let next = "raise fee_flat_max and fee_ppm_max in config.toml, or use another escrow: new holds would be refused";
    is_over.then(|| Finding::failed("fee", found, next))
}
