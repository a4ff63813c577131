//! `payer get` and `payer send`: show what it may cost, ask, pay, and say how it went.

use super::Node;
use super::carry_out::Request;
use crate::exit::{CEILING, ESCROW_AWAY, Failure, NOT_CONFIRMED};
use crate::local::{HomeArg, Stop, quoted};
use crate::output::{Output, number, text};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use tombola_core::payee::TIP_SERVICE;
use tombola_net::Address;
use tombola_node::config::Money;

/// What is bought.
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// What: tombola://KEY@HOST:PORT/name.
    url: Address,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    limits: Limits,
}

/// Who is tipped.
#[derive(Debug, clap::Args)]
pub(crate) struct SendArgs {
    /// Whom: tombola://KEY@HOST:PORT.
    address: Address,
    /// How much; below the payee's smallest face value it is paid in expectation.
    amount: Money,
    #[command(flatten)]
    limits: Limits,
}

#[derive(Debug, clap::Args)]
struct Limits {
    /// The most that can leave the account. A hard ceiling: top-ups included.
    #[arg(long, value_name = "AMOUNT")]
    spend_max: Option<Money>,
    /// Pay without asking.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn get(home: &HomeArg, get: GetArgs, output: Output) -> Result<(), Failure> {
    let file = std::path::absolute(&get.output)?;
    let node = Node::open(home).await?;
    let result = buy(&node, home, &get, file, output).await;
    node.close().await;
    result
}

async fn buy(node: &Node, home: &HomeArg, get: &GetArgs, file: PathBuf, output: Output) -> Result<(), Failure> {
    let (url, spend_max) = (get.url.clone(), get.limits.spend_max.as_ref().map(Money::to_string));
    let plan = Request::PlanGet {
        url: url.clone(),
        output: file.clone(),
        spend_max,
    };
    let plan = node.request(plan, &|_| ()).await?;
    confirm(&plan, &get.limits, output)?;
    // The ceiling of the plan that was shown, so that a price that has changed since cannot raise it.
    let ceiling = text(&plan, "spend_max").to_owned();
    let request = Request::Get {
        url: url.clone(),
        output: file,
        spend_max: Some(ceiling.clone()),
    };
    let again = || {
        let (url, file) = (quoted(&url.to_string()), quoted(&get.output.display().to_string()));
        format!(
            "tombola payer get {url} -o {file} --spend-max {ceiling}{}",
            home.shown()
        )
    };
    let done = pay(node, home, request, number(&plan, "size"))
        .await
        .map_err(|failure| match failure.error.code.as_str() {
            CEILING | ESCROW_AWAY | INTERRUPTED => failure.next(again()),
            _ => failure,
        })?;
    output.result(&joined(&done, &plan), || {
        let (file, size) = (text(&done, "output"), number(&done, "size"));
        let (tickets, expected) = (number(&done, "tickets"), text(&done, "expected"));
        format!("{file}: {size} bytes, for {tickets} tickets worth {expected} in expectation")
    });
    Ok(())
}

pub(crate) async fn send(home: &HomeArg, send: SendArgs, output: Output) -> Result<(), Failure> {
    let node = Node::open(home).await?;
    let result = tip(&node, home, &send, output).await;
    node.close().await;
    result
}

async fn tip(node: &Node, home: &HomeArg, send: &SendArgs, output: Output) -> Result<(), Failure> {
    let (url, amount) = (send.address.clone(), send.amount.to_string());
    let spend_max = send.limits.spend_max.as_ref().map(Money::to_string);
    let plan = Request::PlanSend {
        url: url.clone(),
        amount: amount.clone(),
        spend_max,
    };
    let plan = node.request(plan, &|_| ()).await?;
    let is_exact = plan.get("exact") == Some(&Value::Bool(true));
    // An exact tip costs what the command line says, which is as good as a ceiling.
    let is_known = is_exact && !std::io::stdin().is_terminal();
    if !is_known {
        confirm(&plan, &send.limits, output)?;
    }
    let spend_max = Some(text(&plan, "spend_max").to_owned());
    let request = Request::Send { url, amount, spend_max };
    let done = pay(node, home, request, 0).await?;
    output.result(&joined(&done, &plan), || {
        let amount = text(&done, "amount");
        match is_exact {
            true => format!("sent {amount}"),
            false => format!("sent a ticket worth {amount} in expectation"),
        }
    });
    Ok(())
}

/// A purchase that was stopped by a signal.
const INTERRUPTED: &str = "interrupted";

/// The same where a payer node does the work: it does not hear the signal.
const LEFT_TO_NODE: &str = "left_to_node";

/// What a signal does to a purchase.
fn interrupted(node: &Node, home: &HomeArg) -> Failure {
    match node {
        Node::Alone(_) => Failure::new(INTERRUPTED, "stopped; what has arrived is kept")
            .next(format!("tombola payer statement{} shows what was paid", home.shown())),
        Node::Running(_) => Failure::new(
            LEFT_TO_NODE,
            "not watched any longer: the payer node goes on with it, and the file appears when all of it is there",
        )
        .next(format!(
            "tombola payer balance{} shows what is left in its holds; ending the node ends the purchase",
            home.shown()
        )),
    }
}

/// Carries a purchase out, showing how far it is; Ctrl-C cuts it, and what was paid for is kept.
async fn pay(node: &Node, home: &HomeArg, request: Request, size: u64) -> Result<Value, Failure> {
    let bar = progress_bar(size);
    let is_waiting = AtomicBool::new(false);
    let on_progress = |progress: &Value| match text(progress, "event") {
        "received" => {
            bar.set_length(number(progress, "size"));
            bar.set_position(number(progress, "bytes"));
        }
        "acknowledged" => {
            is_waiting.store(false, Ordering::Relaxed);
            bar.set_message(format!("{} tickets", number(progress, "tickets")));
        }
        "topped_up" => bar.println(format!("hold topped up to {}", text(progress, "cap"))),
        "escrow_away" => {
            is_waiting.store(true, Ordering::Relaxed);
            let seconds = |key| number(progress, key) / 1_000;
            let (waited, patience) = (seconds("waited_ms"), seconds("patience_ms"));
            // On standard error, also where no bar is drawn.
            bar.suspend(|| {
                eprintln!(
                    "the escrow is away and the hold needs a top-up: waited {waited} s, will wait {patience} s in all; \
                     Ctrl-C stops, and what has arrived is kept"
                );
            });
        }
        "reconnecting" => bar.println("the payee went away: connecting again"),
        _ => {}
    };
    let mut stop = Stop::listen()?;
    let result = tokio::select! {
        result = node.request(request, &on_progress) => result,
        () = stop.wait() => Err(match (node, is_waiting.load(Ordering::Relaxed)) {
            (Node::Alone(_), true) => {
                Failure::new(ESCROW_AWAY, "stopped while the escrow is away; what has arrived is kept")
                    .next("repeat the command when the escrow is back")
            }
            _ => interrupted(node, home),
        }),
    };
    bar.finish_and_clear();
    result
}

fn progress_bar(size: u64) -> ProgressBar {
    let bar = ProgressBar::new(size);
    if size == 0 || !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} eta {eta} {msg}");
    // The template is a constant that a test reads.
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

/// Shows a plan and has it confirmed: asked for on a terminal, by an option elsewhere.
fn confirm(plan: &Value, limits: &Limits, output: Output) -> Result<(), Failure> {
    output.note(&plan_text(plan));
    if limits.yes {
        return Ok(());
    }
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if !is_terminal || output == Output::Programs {
        if limits.spend_max.is_some() {
            return Ok(());
        }
        return Err(Failure::new(NOT_CONFIRMED, "not confirmed: nothing was paid")
            .with("plan", plan.clone())
            .next("give --spend-max AMOUNT or --yes"));
    }
    print!("pay? [y/N] ");
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    match line.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new(NOT_CONFIRMED, "not confirmed: nothing was paid")
            .next("repeat it and answer y, or give --yes")),
    }
}

fn plan_text(plan: &Value) -> String {
    let asset = text(plan, "asset");
    let (units, done) = (number(plan, "units"), number(plan, "units_done"));
    let (price, face) = (text(plan, "price"), text(plan, "face_value"));
    let resumed = match done {
        0 => String::new(),
        done => format!(", {done} more are here already"),
    };
    let what = match (text(plan, "service"), units) {
        (TIP_SERVICE, _) => "a tip of".to_owned(),
        (_, 1) => "1 unit at".to_owned(),
        (_, units) => format!("{units} units at"),
    };
    let url = text(plan, "url");
    let mut lines = vec![format!("{url}: {what} {price} {asset}{resumed}")];
    if plan.get("exact") == Some(&Value::Bool(true)) {
        lines.push(format!(
            "  cost           {} exactly: every ticket pays its price",
            text(plan, "expected")
        ));
    } else {
        lines.push(format!(
            "  expected cost  {}, by tickets that pay {face} when they win",
            text(plan, "expected")
        ));
        let (low, high) = (text(plan, "low_95"), text(plan, "high_95"));
        lines.push(format!("  95 of 100      cost {low} to {high}"));
        let ceiling = text(plan, "spend_max");
        lines.push(format!(
            "  worst case     {} (the ceiling is {ceiling})",
            text(plan, "worst")
        ));
    }
    let cap = text(plan, "hold");
    lines.push(match plan.get("hold_reused") {
        Some(Value::Bool(true)) => {
            let left = text(plan, "hold_left");
            format!("  hold           {left} left of {cap}: an open one, used again")
        }
        _ => format!("  hold           {cap}: set aside for this payee; what is not spent comes back"),
    });
    let (flat, ppm) = (text(plan, "fee_flat"), number(plan, "fee_ppm"));
    lines.push(format!(
        "  escrow's fee   {flat} + {ppm} ppm of each winner; the payee bears it"
    ));
    lines.join("\n")
}

/// A result with its plan, as one object.
fn joined(done: &Value, plan: &Value) -> Value {
    let mut all = done.clone();
    if let Some(object) = all.as_object_mut() {
        object.insert("plan".to_owned(), plan.clone());
    }
    json!(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_shows_what_it_may_cost() {
        let plan = json!({
            "url": "tombola://x", "asset": "USD", "units": 128, "units_done": 2, "price": "0.0001",
            "face_value": "0.025", "expected": "0.0128", "low_95": "0.00", "high_95": "0.05", "worst": "0.50",
            "spend_max": "0.50", "hold": "0.50", "hold_left": "0.30", "hold_reused": true, "fee_flat": "0.00", "fee_ppm": 7,
        });
        let text = plan_text(&plan);
        for part in [
            "128 units",
            "2 more",
            "0.0128",
            "0.00 to 0.05",
            "worst case     0.50",
            "0.30 left of 0.50",
            "7 ppm",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn the_template_of_the_progress_bar_is_one() {
        let template = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} eta {eta} {msg}";
        assert!(ProgressStyle::with_template(template).is_ok());
    }
}
