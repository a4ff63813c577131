//! What a payer node is asked, over its socket or in this process, and its answers as JSON.

use crate::exit::{AGAIN, CEILING, Failure, PAYEE_AWAY, disk_advice};
use crate::output::{date, money, sum};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tombola_core::amount::{self, Amount, Asset, Timestamp};
use tombola_core::codec::encode;
use tombola_core::message::{Charge, HoldStatus, SharePaid, StatementEntry, StatementKind, StatementPage};
use tombola_core::payer::PlanError;
use tombola_net::Address;
use tombola_node::payer::{AuditReport, HoldFault, Order, Payer, PayerBalance, PayerError, PayerEvent, PayerLuck};

/// How long `status` waits for an escrow that may be away.
const ESCROW_PATIENCE: Duration = Duration::from_secs(3);

/// What the socket of a running payer takes. Amounts are decimals.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    Asset {},
    Balance {},
    Status {},
    Statement {
        after: u64,
    },
    Audit {},
    PlanGet {
        url: Address,
        output: PathBuf,
        spend_max: Option<String>,
    },
    /// Plans and pays: `spend_max` is best the one of a plan that was seen before.
    Get {
        url: Address,
        output: PathBuf,
        spend_max: Option<String>,
    },
    PlanSend {
        url: Address,
        amount: String,
        spend_max: Option<String>,
    },
    Send {
        url: Address,
        amount: String,
        spend_max: Option<String>,
    },
}

/// Who carries a request out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Running {
    /// A payer node, for as many commands as come.
    Node,
    /// The process of the one command.
    Once,
}

pub(crate) async fn carry_out(
    payer: &Payer,
    asset: Asset,
    running: Running,
    request: Request,
    on_progress: &(dyn Fn(Value) + Send + Sync),
) -> Result<Value, Failure> {
    let failed = |error: PayerError| payer_failure(&error, asset);
    let on_event = |event| on_progress(event_json(event, asset));
    match request {
        Request::Asset {} => Ok(json!({ "asset": asset.name(), "decimals": asset.decimals })),
        Request::Balance {} => Ok(balance_json(&payer.balance().await.map_err(failed)?, asset)),
        Request::Status {} => {
            // Who asks wants to know what is here, whether or not the escrow is there.
            let state = tokio::time::timeout(ESCROW_PATIENCE, payer.balance()).await;
            let state = state.ok().and_then(Result::ok);
            let luck = match &state {
                Some(_) => luck(payer).await,
                None => None,
            };
            Ok(status_json(payer, asset, running, state.as_ref(), luck.as_ref()))
        }
        Request::Statement { after } => Ok(statement_json(&payer.statement(after).await.map_err(failed)?, asset)),
        Request::Audit {} => Ok(audit_json(&payer.audit().await.map_err(failed)?, asset)),
        Request::PlanGet { url, output, spend_max } => {
            let ceiling = ceiling(spend_max.as_deref(), asset)?;
            let order = payer.plan_get(&url, ceiling, &output).await.map_err(failed)?;
            Ok(order_json(&order))
        }
        Request::Get { url, output, spend_max } => {
            let ceiling = ceiling(spend_max.as_deref(), asset)?;
            let order = payer.plan_get(&url, ceiling, &output).await.map_err(failed)?;
            let done = payer.get(&order, &on_event).await.map_err(failed)?;
            Ok(json!({
                "output": done.output,
                "size": done.size,
                "content_hash": done.content_hash,
                "tickets": done.tickets,
                "expected": money(done.expected, asset),
            }))
        }
        Request::PlanSend { url, amount, spend_max } => {
            let (amount, ceiling) = (parse("amount", &amount, asset)?, ceiling(spend_max.as_deref(), asset)?);
            let order = payer.plan_tip(&url, amount, ceiling).await.map_err(failed)?;
            Ok(order_json(&order))
        }
        Request::Send { url, amount, spend_max } => {
            let (amount, ceiling) = (parse("amount", &amount, asset)?, ceiling(spend_max.as_deref(), asset)?);
            let order = payer.plan_tip(&url, amount, ceiling).await.map_err(failed)?;
            let sent = payer.send(&order, &on_event).await.map_err(failed)?;
            Ok(json!({
                "amount": money(amount, asset),
                "exact": order.is_exact,
                "tickets": sent.tickets,
                "expected": money(sent.expected, asset),
            }))
        }
    }
}

/// How lucky the payees were, if the escrow says in time what it charged.
pub(super) async fn luck(payer: &Payer) -> Option<PayerLuck> {
    tokio::time::timeout(ESCROW_PATIENCE, payer.luck()).await.ok()?.ok()
}

fn ceiling(text: Option<&str>, asset: Asset) -> Result<Option<Amount>, Failure> {
    text.map(|text| parse("--spend-max", text, asset)).transpose()
}

fn parse(what: &str, text: &str, asset: Asset) -> Result<Amount, Failure> {
    Amount::parse(text, asset.decimals)
        .map_err(|error| Failure::new("amount", format!("{what} {text}: {error}")).next("write it as 0.50"))
}

/// What happened, the numbers as decimals, and what to do.
pub(crate) fn payer_failure(error: &PayerError, asset: Asset) -> Failure {
    let failure = |code| Failure::new(code, error.to_string());
    match error {
        PayerError::Ceiling {
            need,
            has,
            received,
            size,
        } => ceiling_reached((*need, *has), (*received, *size), asset),
        PayerError::Escrow(error) => Failure::escrow(error, asset),
        PayerError::Net(_) => failure(PAYEE_AWAY).next("what has arrived is kept: repeat the command later"),
        PayerError::PayeeRejected(reject) => Failure::rejected("the payee", reject, asset),
        PayerError::Refused(reject) => Failure::rejected("this payer", reject, asset),
        PayerError::Plan(error) => no_plan(*error, asset),
        PayerError::Store(error) => Failure::store(error),
        PayerError::Undelivered { missing, limit } => undelivered(*missing, *limit, asset),
        PayerError::FalseHold {
            fault: HoldFault::Cap { .. },
            ..
        } => failure("escrow_false")
            .next("unless another home with this key has raised it, ask its operator, and open no more holds there until it is explained"),
        PayerError::FalseHold { .. } | PayerError::FalseStatement { .. } => failure("escrow_false")
            .next("ask its operator, and open no more holds there until it is explained"),
        PayerError::Exists { .. } => failure("exists").next("remove it, or choose another name with -o"),
        PayerError::InUse { .. } => failure("failed").next("wait for that purchase, or choose another name with -o"),
        PayerError::File { kind, .. } => failure("file").next(disk_advice(*kind)),
        PayerError::ContentMismatch => failure("content_mismatch")
            .next("the payee changed or broke the file: remove the partial file to begin anew"),
        PayerError::NoCommonEscrow { .. } => failure("no_common_escrow")
            .next("use a payee that takes this escrow, or a payer home at one of the payee's escrows"),
        PayerError::Undrawn { .. } => {
            failure("failed").next("buy elsewhere; tombola payer audit shows what this payee redeems")
        }
        PayerError::Unintelligible => failure("failed").next("update the older of the two programs"),
        _ => failure("failed").next(AGAIN),
    }
}

/// First what the next winner needs and what the hold has left, then how many bytes of how many have arrived.
fn ceiling_reached((need, has): (Amount, Amount), (received, size): (u64, u64), asset: Asset) -> Failure {
    let (need, has) = (money(need, asset), money(has, asset));
    let message = format!(
        "the spending ceiling is reached: the next winner needs {need}, the hold has {has} left; \
         {received} of {size} have arrived and are kept"
    );
    Failure::new(CEILING, message)
        .with("need", need)
        .with("has", has)
        .with("received", received)
        .with("size", size)
        .next("repeat the command, with a higher --spend-max where luck was bad: it goes on where it stopped")
}

/// Why nothing can be paid under these limits.
fn no_plan(error: PlanError, asset: Asset) -> Failure {
    match error {
        PlanError::CeilingTooLow { need, ceiling } => {
            let (need, has) = (money(need, asset), money(ceiling, asset));
            Failure::new(
                "ceiling_too_low",
                format!("the ceiling is too low: a hold needs {need}, the ceiling is {has}"),
            )
            .with("need", need.clone())
            .with("has", has)
            .next(format!("give --spend-max {need} or more"))
        }
        PlanError::NoCommonFace { need, limit } => {
            let (need, has) = (money(need, asset), money(limit, asset));
            let message = format!("no face value suits both sides: at least {need}, at most {has}");
            let next = format!(
                "no setting here helps: the payee has to take larger face values (face_value_max, {need} or more), or buy elsewhere"
            );
            Failure::new("no_common_face", message)
                .with("need", need)
                .with("has", has)
                .next(next)
        }
        _ => Failure::new("nothing_to_pay", error.to_string())
            .next("ask for something that has a price and a length, or send more than nothing"),
    }
}

/// A payee that took tickets and gave nothing for them; both in atomic units.
fn undelivered(missing: u128, limit: u128, asset: Asset) -> Failure {
    let atoms = |value: u128| money(Amount(u64::try_from(value).unwrap_or(u64::MAX)), asset);
    let (need, has) = (atoms(missing), atoms(limit));
    let message = format!(
        "the payee has taken tickets worth {need} without delivering or acknowledging them; \
         a payee is trusted with {has} at most"
    );
    Failure::new("undelivered", message)
        .with("need", need)
        .with("has", has)
        .next("buy elsewhere; what has arrived is kept, and goes on if you raise window_value in config.toml")
}

/// A plan, the amounts in the asset of the offer.
fn order_json(order: &Order) -> Value {
    let asset = order.asset;
    let show = |amount| money(amount, asset);
    json!({
        "url": order.address,
        "service": order.service,
        "asset": asset.name(),
        "units": order.units,
        "units_done": order.units_done,
        "unit_bytes": order.unit_bytes,
        "size": order.size,
        "price": show(order.price),
        "face_value": show(order.face_value),
        "expected": show(order.expected),
        "low_95": show(order.low_95),
        "high_95": show(order.high_95),
        "worst": show(order.worst),
        "exact": order.is_exact,
        "spend_max": show(order.spend_max),
        "hold": show(order.hold_cap),
        "hold_left": show(order.hold_left),
        "hold_reused": order.hold_reused,
        "fee_flat": show(order.fee.flat),
        "fee_ppm": order.fee.ppm,
    })
}

fn event_json(event: PayerEvent, asset: Asset) -> Value {
    let show = |amount| money(amount, asset);
    match event {
        PayerEvent::HoldOpened { cap } => json!({ "event": "hold_opened", "cap": show(cap) }),
        PayerEvent::HoldReused { left } => json!({ "event": "hold_reused", "left": show(left) }),
        PayerEvent::ToppedUp { cap } => json!({ "event": "topped_up", "cap": show(cap) }),
        PayerEvent::Acknowledged { tickets } => json!({ "event": "acknowledged", "tickets": tickets }),
        PayerEvent::Received { bytes, size } => json!({ "event": "received", "bytes": bytes, "size": size }),
        PayerEvent::EscrowAway { waited_ms, patience_ms } => {
            json!({ "event": "escrow_away", "waited_ms": waited_ms, "patience_ms": patience_ms })
        }
        PayerEvent::Reconnecting { attempt } => json!({ "event": "reconnecting", "attempt": attempt }),
        _ => json!({ "event": "other" }),
    }
}

fn balance_json(balance: &PayerBalance, asset: Asset) -> Value {
    let state = &balance.account;
    let holds = balance.holds.iter().map(|status| {
        let hold = &status.hold.body;
        json!({
            "hold": hold.id(),
            "payee": hold.terms.payee,
            "cap": money(hold.cap, asset),
            "paid": money(status.paid, asset),
            "left": money(hold.cap.saturating_sub(status.paid), asset),
            "revision": hold.revision,
            "serial": hold.terms.serial,
            "expires_at": hold.terms.expires_at,
            "redeem_by": hold.terms.redeem_by,
        })
    });
    let mut shown = json!({
        "account": state.account,
        "asset": asset.name(),
        "balance": money(state.balance, asset),
        "held": money(state.held, asset),
        "open_holds": state.open_holds,
        "holds": holds.collect::<Vec<_>>(),
    });
    crate::account::extend_with_custody(&mut shown, state, asset);
    shown
}

fn status_json(
    payer: &Payer,
    asset: Asset,
    running: Running,
    state: Option<&PayerBalance>,
    luck: Option<&PayerLuck>,
) -> Value {
    // Only a node lives long enough to have a rate.
    let rates = (running == Running::Node).then(|| payer.rates());
    let windows = payer.windows().into_iter().map(|window| {
        json!({
            "payee": window.payee,
            "address": window.address.to_string(),
            "in_flight": window.in_flight,
            "in_flight_value": money(window.in_flight_value, asset),
            "lost": money(window.lost_value, asset),
            "undrawn": money(window.undrawn_value, asset),
            "undelivered": money(window.undelivered_value, asset),
            "limit": money(window.limit, asset),
            "tickets": window.tickets,
        })
    });
    json!({
        "node": { "running": running == Running::Node },
        "version": tombola_node::metrics::VERSION,
        "uptime_ms": (running == Running::Node).then(|| payer.uptime_ms()),
        "account": payer.account(),
        "escrow_away": state.is_none(),
        "balance": state.map(|state| money(state.account.balance, asset)),
        "held": state.map(|state| money(state.account.held, asset)),
        "open_holds": state.map(|state| state.account.open_holds),
        "hold_room": state.map(|state| hold_room(state, asset)),
        "hold_expiry": state.and_then(hold_expiry).map(date),
        "hold_expiry_ms": state.and_then(hold_expiry),
        "asset": asset.name(),
        "acknowledged": luck.map(|known| known.acknowledged),
        "expected": luck.map(|known| money(known.luck.expected, asset)),
        "drawn": luck.map(|known| money(known.luck.drawn, asset)),
        "luck": luck.map(|known| known.luck.z),
        "uncounted": luck.map(|known| money(known.uncounted, asset)),
        "tickets_per_second": rates.map(|rates| rates.tickets_per_second),
        "expected_per_second": rates.map(|rates| money(rates.expected_per_second, asset)),
        "window_value": payer.window_value().map(|value| money(value, asset)),
        "windows": windows.collect::<Vec<_>>(),
    })
}

/// What is left in the open holds.
fn hold_room(state: &PayerBalance, asset: Asset) -> String {
    let left = |status: &HoldStatus| status.hold.body.cap.saturating_sub(status.paid);
    sum(amount::sum(state.holds.iter().map(left)), asset)
}

/// When the first of them expires.
fn hold_expiry(state: &PayerBalance) -> Option<Timestamp> {
    state.holds.iter().map(|status| status.hold.body.terms.expires_at).min()
}

fn statement_json(page: &StatementPage, asset: Asset) -> Value {
    let entries: Vec<Value> = page
        .entries
        .as_slice()
        .iter()
        .map(|entry| entry_json(entry, asset))
        .collect();
    json!({ "entries": entries, "more": page.more })
}

pub(crate) fn entry_json(entry: &StatementEntry, asset: Asset) -> Value {
    let show = |amount: &Amount| money(*amount, asset);
    let mut json = match &entry.kind {
        StatementKind::Deposited { amount, reference } => {
            json!({ "kind": "deposited", "amount": show(amount), "reference": reference })
        }
        StatementKind::Held { hold, amount } => json!({
            "kind": "held", "amount": show(amount), "hold": hold.body.id(), "payee": hold.body.terms.payee,
            "cap": show(&hold.body.cap), "revision": hold.body.revision,
        }),
        StatementKind::Returned {
            hold,
            paid,
            amount,
            state,
        } => json!({ "kind": "returned", "amount": show(amount), "hold": hold, "paid": show(paid), "state": state }),
        StatementKind::Charged(charge) => charge_json("charged", charge, asset),
        StatementKind::Redeemed(redemption) => {
            let share = |paid: &SharePaid| json!({ "account": paid.account, "amount": show(&paid.amount) });
            let shares: Vec<Value> = redemption.shares.as_slice().iter().map(share).collect();
            let mut json = charge_json("redeemed", &redemption.charge, asset);
            json.as_object_mut()
                .map(|json| json.insert("shares".to_owned(), shares.into()));
            json
        }
        StatementKind::Sent { to, amount, reference } => {
            json!({ "kind": "sent", "amount": show(amount), "to": to, "reference": reference })
        }
        StatementKind::Received {
            from,
            amount,
            reference,
            book,
        } => json!({ "kind": "received", "amount": show(amount), "from": from, "reference": reference, "book": book }),
        StatementKind::Withdrawn { withdrawal, amount, .. } => {
            json!({ "kind": "withdrawn", "amount": show(amount), "withdrawal": withdrawal })
        }
        StatementKind::WithdrawalPaid { withdrawal, reference } => {
            json!({ "kind": "withdrawal_paid", "withdrawal": withdrawal, "reference": reference })
        }
        StatementKind::WithdrawalFailed { withdrawal, amount, .. } => {
            json!({ "kind": "withdrawal_failed", "amount": show(amount), "withdrawal": withdrawal })
        }
        StatementKind::Shared { payee, book, amount } => {
            json!({ "kind": "shared", "amount": show(amount), "payee": payee, "book": book })
        }
        StatementKind::Private => json!({ "kind": "private" }),
    };
    if let Some(object) = json.as_object_mut() {
        object.insert("sequence".to_owned(), entry.sequence.into());
        object.insert("at".to_owned(), json!(entry.at));
        object.insert("balance".to_owned(), money(entry.balance, asset).into());
    }
    json
}

fn charge_json(kind: &str, charge: &Charge, asset: Asset) -> Value {
    let receipt = &charge.receipt.body;
    json!({
        "kind": kind,
        "amount": money(charge.amount, asset),
        "hold": charge.hold.body.id(),
        "payee": charge.hold.body.terms.payee,
        "book": receipt.book,
        "through": receipt.through,
        "winners": receipt.winners,
        "gross": money(receipt.gross, asset),
        "fee": money(receipt.fee, asset),
        "height": receipt.height,
        // Whole and as signed, so that anyone can check them again: `verify claim` takes the first three.
        "evidence": {
            "hold": hex::encode(encode(&charge.hold)),
            "book": hex::encode(encode(&charge.claim.book)),
            "claim": hex::encode(encode(&charge.claim)),
            "receipt": hex::encode(encode(&charge.receipt)),
        },
    })
}

fn audit_json(report: &AuditReport, asset: Asset) -> Value {
    json!({
        "clean": report.is_clean(),
        "asset": asset.name(),
        "charges": report.charges,
        "draws": report.draws,
        "winners": report.winners,
        "charged": money(report.charged, asset),
        "acknowledged": report.acknowledged,
        "expected": money(report.expected, asset),
        "z": report.z,
        "faults": report.faults,
        "beyond": report.beyond,
        "lost": report.lost,
        "unknown": report.unknown,
        "adds_up": report.adds_up,
    })
}
