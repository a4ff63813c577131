//! `tombola escrow payouts` and `fees`: what an operator pays out by other means, and what it earns.

use super::books::{Request, Word};
use super::{csv, operate};
use crate::exit::{CHECK_FAILED, Failure};
use crate::inspect::unreadable;
use crate::local::{HomeArg, parse_account};
use crate::output::{Output, fields, number, text};
use clap::Subcommand;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tombola_core::key::AccountKey;
use tombola_node::config::Money;
use tombola_node::home::{Existing, write_file};

/// The first line of an export.
const COLUMNS: [&str; 8] = [
    "number",
    "account",
    "amount",
    "fee",
    "payout",
    "destination",
    "reference",
    "requested_at",
];

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List payouts that wait: `payout` is what to send to `destination`.
    Export {
        /// Write them as CSV to a new file, for a bank or a spreadsheet.
        #[arg(long, value_name = "FILE")]
        csv: Option<PathBuf>,
    },
    /// Book what became of payouts, by a CSV of number, paid or failed, and your reference. A file can be imported
    /// again: what is booked stays booked.
    Import {
        /// The file; its first line may name the columns.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum FeesCommand {
    /// Move fees into an account. The same reference moves money once.
    Collect {
        /// The account: tom1... or the address of its node.
        #[arg(value_parser = parse_account)]
        account: AccountKey,
        /// How much.
        amount: Money,
        /// Your reference for it.
        #[arg(long)]
        reference: String,
    },
}

pub(super) async fn run(home: &HomeArg, command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Export { csv } => export(home, csv.as_deref(), output).await,
        Command::Import { file } => import(home, &file, output).await,
    }
}

async fn export(home: &HomeArg, file: Option<&Path>, output: Output) -> Result<(), Failure> {
    let mut all: Vec<Value> = Vec::new();
    let mut after = Some(0);
    while let Some(number) = after {
        let mut page = operate(home, &Request::Payouts { after: number }).await?;
        after = page.get("next").and_then(Value::as_u64);
        if let Some(Value::Array(payouts)) = page.get_mut("payouts").map(Value::take) {
            all.extend(payouts);
        }
    }
    let lines = csv_lines(&all);
    if let Some(file) = file {
        write_file(file, lines.as_bytes(), 0o600, Existing::Keep).map_err(|error| {
            let message = format!("{}: {}", file.display(), error.kind());
            Failure::new("file", message).next("give a file that is not there yet")
        })?;
    }
    let result = json!({ "payouts": all, "csv": file });
    output.result(&result, || match file {
        Some(file) => format!("{} pending payouts written to {}", all.len(), file.display()),
        None if all.is_empty() => "no payout is pending".to_owned(),
        None => lines.trim_end().to_owned(),
    });
    Ok(())
}

fn csv_lines(payouts: &[Value]) -> String {
    let mut lines = csv::line(&COLUMNS);
    lines.push('\n');
    for payout in payouts {
        let number = number(payout, "withdrawal").to_string();
        let mut values = vec![number.as_str()];
        values.extend(COLUMNS.iter().skip(1).map(|column| text(payout, column)));
        lines.push_str(&csv::line(&values));
        lines.push('\n');
    }
    lines
}

/// What a line of an import says.
struct Said {
    withdrawal: u64,
    outcome: Word,
    reference: String,
}

impl Said {
    fn parse(line: &str) -> Result<Self, Failure> {
        let wrong = |message: String| Failure::new("malformed", message).next("write it as 7,paid,wire-2041");
        let given = csv::fields(line).ok_or_else(|| wrong("a quote is not closed".to_owned()))?;
        let [number, outcome, reference] = <[String; 3]>::try_from(given)
            .map_err(|given| wrong(format!("a line has 3 values, this one has {}", given.len())))?;
        let withdrawal = number
            .parse()
            .map_err(|_| wrong(format!("{number} is no number of a payout")))?;
        let outcome = match outcome.as_str() {
            "paid" => Word::Paid,
            "failed" => Word::Failed,
            other => return Err(wrong(format!("a payout is paid or failed, not {other:?}"))),
        };
        Ok(Self {
            withdrawal,
            outcome,
            reference,
        })
    }
}

/// Books line by line. A wrong line is told with its number and keeps none of the others from being booked.
async fn import(home: &HomeArg, file: &Path, output: Output) -> Result<(), Failure> {
    let given = std::fs::read_to_string(file).map_err(|error| unreadable(&file.display().to_string(), &error))?;
    let (mut results, mut failed, mut last) = (Vec::new(), 0u64, None);
    for (line, number) in given.lines().zip(1u64..) {
        let is_heading = number == 1 && line.starts_with("number");
        if is_heading || line.trim().is_empty() {
            continue;
        }
        match book(home, line).await {
            Ok(mut done) => {
                done.as_object_mut()
                    .map(|done| done.insert("line".to_owned(), number.into()));
                results.push(done);
            }
            Err(failure) => {
                failed += 1;
                let mut told = failure.json();
                told.as_object_mut()
                    .map(|told| told.insert("line".to_owned(), number.into()));
                results.push(told);
                last = Some((number, failure));
            }
        }
    }
    let booked = results.len() - usize::try_from(failed).unwrap_or(results.len());
    let result = json!({ "booked": booked, "failed": failed, "lines": results });
    let shown = || import_text(&results);
    let Some((line, failure)) = last else {
        output.result(&result, shown);
        return Ok(());
    };
    let message = format!(
        "{failed} of {} lines were not booked; the last one, line {line}: {}",
        results.len(),
        failure.error.message
    );
    let failure = Failure::new(CHECK_FAILED, message)
        .next("correct these lines and import the file again: the others stay as they are");
    Err(output.found(result, shown, failure))
}

async fn book(home: &HomeArg, line: &str) -> Result<Value, Failure> {
    let said = Said::parse(line)?;
    let request = Request::Settle {
        withdrawal: said.withdrawal,
        outcome: said.outcome,
        reference: said.reference,
    };
    operate(home, &request).await
}

fn import_text(results: &[Value]) -> String {
    let line = |result: &Value| {
        let at = number(result, "line");
        match result.get("error") {
            Some(error) => format!("line {at}: {}", text(error, "message")),
            None => {
                let (withdrawal, amount) = (number(result, "withdrawal"), text(result, "amount"));
                format!("line {at}: payout {withdrawal} of {amount} {}", text(result, "outcome"))
            }
        }
    };
    match results.is_empty() {
        true => "the file has no lines".to_owned(),
        false => results.iter().map(line).collect::<Vec<_>>().join("\n"),
    }
}

pub(super) async fn fees(home: &HomeArg, command: Option<FeesCommand>, output: Output) -> Result<(), Failure> {
    let Some(FeesCommand::Collect {
        account,
        amount,
        reference,
    }) = command
    else {
        let report = operate(home, &Request::Fees {}).await?;
        output.result(&report, || fields(&report));
        return Ok(());
    };
    let amount = amount.to_string();
    let request = Request::CollectFees {
        account,
        amount,
        reference,
    };
    let done = operate(home, &request).await?;
    output.result(&done, || {
        let (amount, account) = (text(&done, "amount"), text(&done, "account"));
        format!("{amount} of fees moved to {account}")
    });
    Ok(())
}
