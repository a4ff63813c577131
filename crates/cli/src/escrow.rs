//! `tombola escrow`: the ledger server and its operator's tools.

mod custody;

use crate::exit::{CHECK_FAILED, Failure};
use crate::local::{
    HomeArg, Stop, ask, init, lock_to_run, lock_unanswered, parse_account, quoted, read, ready, serve_socket, sole,
};
use crate::output::{Output, date, fields, money, number, sum, text};
use clap::Subcommand;
use custody::Custody;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tombola_core::amount::{Amount, Asset};
use tombola_core::key::AccountKey;
use tombola_core::message::Reference;
use tombola_core::reject::{Code, Reject};
use tombola_ledger::audit::AuditReport;
use tombola_net::Address;
use tombola_node::config::{EscrowConfig, Money};
use tombola_node::escrow::{
    AccountSummary, BackupReport, Consent, Deposited, Escrow, EscrowBooks, EscrowNodeError, EscrowOptions, EscrowTotals, WitnessOptions,
};
use tombola_node::home::Home;

const ROLE: &str = "escrow";
/// The store in a home.
const STORE_FILE: &str = "escrow.redb";
/// The witness, unless it is configured elsewhere.
const WITNESS_FILE: &str = "witness";
/// Accounts of one answer of the socket: a third of the longest line.
const ACCOUNTS_PER_PAGE: usize = 1_000;

/// The escrow keeps payers' deposits and redeems winning tickets. Its key is the network id: keep it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tombola escrow init --name \"Example escrow\"
  tombola escrow run
  tombola escrow deposit tom1... 10.00 --reference invoice-7
  tombola escrow account tom1...
  tombola escrow audit")]
pub(crate) struct Args {
    #[command(flatten)]
    home: HomeArg,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a home: key, and configuration with every default in it.
    Init(Init),
    /// Serve until Ctrl-C or SIGTERM; then answer what has begun, and end.
    Run {
        /// Address and UDP port to listen on, instead of the configured one; port 0 takes any free one.
        #[arg(long)]
        listen: Option<SocketAddr>,
        #[command(flatten)]
        consent: custody::ConsentArgs,
    },
    #[command(flatten)]
    Custody(Custody),
    /// Deposit money that you took in into an account. The same reference moves money once, however often it is repeated.
    Deposit {
        /// The account: tom1... or the address of its node.
        #[arg(value_parser = parse_account)]
        account: AccountKey,
        /// How much, as a decimal.
        amount: Money,
        /// Your reference for it, such as an invoice number.
        #[arg(long)]
        reference: String,
    },
    /// Show one account, or all.
    Account {
        /// The account: tom1... or the address of its node.
        #[arg(value_parser = parse_account)]
        account: Option<AccountKey>,
    },
    /// Replay the log, draw every claimed ticket again, and compare with every row.
    Audit,
    /// Show the sums and what the running node is doing.
    Status,
}

#[derive(Debug, clap::Args)]
struct Init {
    /// Address and UDP port to listen on.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Name shown to payers and payees.
    #[arg(long)]
    name: Option<String>,
    /// Asset that is counted, for life.
    #[arg(long)]
    asset: Option<String>,
    /// Its decimal places, for life.
    #[arg(long)]
    decimals: Option<u8>,
    /// Fee of each winning ticket, out of the payee's credit.
    #[arg(long)]
    fee_flat: Option<Money>,
    /// Fee of each winning ticket in millionths of its face value.
    #[arg(long)]
    fee_ppm: Option<u32>,
}

/// What the socket of a running escrow takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Deposit {
        account: AccountKey,
        amount: String,
        reference: String,
    },
    Account {
        account: AccountKey,
    },
    Accounts {
        from: u64,
    },
    Audit {},
    Backup {
        file: PathBuf,
    },
    EndRecovery {},
    Extract {
        writer: u32,
        from: u64,
        to: u64,
        file: PathBuf,
    },
    Status {},
}

/// The books of a running escrow, or of one that is stopped.
enum Books<'a> {
    Running(&'a Escrow),
    Alone(Box<EscrowBooks>),
}

pub(crate) async fn run(args: Args, output: Output) -> Result<(), Failure> {
    let home = &args.home;
    match args.command {
        Command::Init(options) => make(home, options, output),
        Command::Run { listen, consent } => serve(home, listen, consent.consent(), output).await,
        Command::Custody(command) => custody::run(home, command, output).await,
        Command::Deposit {
            account,
            amount,
            reference,
        } => {
            let amount = amount.to_string();
            let request = Request::Deposit {
                account,
                amount,
                reference,
            };
            let done = operate(home, &request).await?;
            output.result(&done, || {
                let (amount, reference) = (text(&done, "amount"), text(&done, "reference"));
                let (account, balance) = (text(&done, "account"), text(&done, "balance"));
                format!("{amount} deposited under reference {reference}\n{account} has {balance}")
            });
            Ok(())
        }
        Command::Account { account: Some(account) } => {
            let found = operate(home, &Request::Account { account }).await?;
            output.result(&found, || fields(&found));
            Ok(())
        }
        Command::Account { account: None } => list(home, output).await,
        Command::Audit => {
            let report = operate(home, &Request::Audit {}).await?;
            let text = fields(&report);
            if report.get("conserved") == Some(&Value::Bool(true)) {
                output.result(&report, || text);
                return Ok(());
            }
            let failure = Failure::new(CHECK_FAILED, "the books do not balance: see the findings")
                .next("stop the escrow and keep its store as it is");
            Err(output.found(report, || text, failure))
        }
        Command::Status => {
            let status = operate(home, &Request::Status {}).await?;
            output.result(&status, || fields(&status));
            Ok(())
        }
    }
}

fn make(home: &HomeArg, options: Init, output: Output) -> Result<(), Failure> {
    let defaults = EscrowConfig::default();
    let config = EscrowConfig {
        listen: options.listen.unwrap_or(defaults.listen),
        name: options.name.unwrap_or(defaults.name),
        asset: options.asset.unwrap_or(defaults.asset),
        decimals: options.decimals.unwrap_or(defaults.decimals),
        fee_flat: options.fee_flat.unwrap_or(defaults.fee_flat),
        fee_ppm: options.fee_ppm.unwrap_or(defaults.fee_ppm),
        ..defaults
    };
    let (made, account) = init(home, ROLE, &config)?;
    let next = format!("tombola escrow run{}", home.shown());
    let address = Address::new(account, config.listen.ip().to_string(), config.listen.port());
    let result = json!({ "home": made.path(), "account": account, "address": address, "next": next });
    output.result(&result, || {
        let path = made.path().display();
        format!("escrow made in {path}\naddress: {address}\nnext: {next}")
    });
    Ok(())
}

fn options(home: &Home) -> Result<(EscrowOptions, Asset), Failure> {
    let (key, config) = read::<EscrowConfig>(home)?;
    let terms = config.terms()?;
    let options = EscrowOptions {
        key,
        listen: config.listen,
        terms,
        name: config.name,
        store: home.file(STORE_FILE),
        witness: WitnessOptions::at(config.witness.unwrap_or_else(|| home.file(WITNESS_FILE))),
    };
    Ok((options, terms.asset))
}

async fn serve(arg: &HomeArg, listen: Option<SocketAddr>, consent: Consent, output: Output) -> Result<(), Failure> {
    let mut stop = Stop::listen()?;
    let home = arg.open(ROLE)?;
    let lock = lock_to_run(&home).await?;
    let (mut options, asset) = options(&home)?;
    options.listen = listen.unwrap_or(options.listen);
    options.witness.consent = consent;
    let failed = |error: EscrowNodeError| Failure::escrow_node(&error, asset);
    let escrow = Arc::new(Escrow::serve(options).await.map_err(failed)?);
    let address = escrow.address().clone();
    let next = format!("tombola payee init --escrow {address} --files .");
    let also = format!("tombola payer init --escrow {address}");
    let serving = Arc::clone(&escrow);
    let carry_out = move |request: Request, _| {
        let escrow = Arc::clone(&serving);
        async move { Books::Running(&escrow).carry_out(request, asset).await }
    };
    let watched = Arc::clone(&escrow);
    let end = async move {
        ready(
            output,
            &format!("escrow {address}"),
            json!({ "address": address }),
            &next,
            Some(("to pay", &also)),
        );
        tokio::select! {
            () = stop.wait() => Ok(()),
            fault = watched.failed() => Err(failed(fault.into())),
        }
    };
    let ended = serve_socket(&lock, carry_out, end).await?;
    if let Some(escrow) = sole(escrow).await {
        escrow.shutdown().await;
    }
    ended
}

/// Asks the running node, or opens the books alone.
async fn operate(home: &HomeArg, request: &Request) -> Result<Value, Failure> {
    let home = home.open(ROLE)?;
    if let Some(result) = ask(&home, request, |_| ()).await? {
        return Ok(result);
    }
    let _lock = lock_unanswered(&home)?;
    let (options, asset) = options(&home)?;
    let books = EscrowBooks::open(&options).map_err(|error| Failure::escrow_node(&error, asset))?;
    Books::Alone(Box::new(books)).carry_out(request.clone(), asset).await
}

async fn list(home: &HomeArg, output: Output) -> Result<(), Failure> {
    let mut all = Vec::new();
    let mut from = Some(0);
    while let Some(row) = from {
        let mut page = operate(home, &Request::Accounts { from: row }).await?;
        from = page.get("next").and_then(Value::as_u64);
        if let Some(Value::Array(accounts)) = page.get_mut("accounts").map(Value::take) {
            all.extend(accounts);
        }
    }
    let result = json!({ "accounts": all });
    output.result(&result, || {
        let lines = all.iter().map(|account| {
            let (key, balance, held) = (
                text(account, "account"),
                text(account, "balance"),
                text(account, "held"),
            );
            format!(
                "{key}  balance {balance}  held {held}  open holds {}",
                number(account, "open_holds")
            )
        });
        let lines: Vec<String> = lines.collect();
        match lines.is_empty() {
            true => "no accounts yet".to_owned(),
            false => lines.join("\n"),
        }
    });
    Ok(())
}

impl Books<'_> {
    async fn carry_out(&mut self, request: Request, asset: Asset) -> Result<Value, Failure> {
        let result = match request {
            Request::Deposit {
                account,
                amount,
                reference,
            } => return self.deposit(&account, &amount, &reference, asset).await,
            Request::Account { account } => self.account(&account).await.and_then(|found| match found {
                Some(found) => Ok(account_json(&found, asset)),
                None => Err(Reject::of(Code::AccountUnknown).into()),
            }),
            Request::Accounts { from } => self.accounts(from).await.map(|(page, next)| {
                let accounts: Vec<Value> = page.iter().map(|account| account_json(account, asset)).collect();
                json!({ "accounts": accounts, "next": next })
            }),
            Request::Backup { file } => self.backup(file).await.map(|report| json!(report)),
            Request::Extract { writer, from, to, file } => {
                let report = match self {
                    Self::Running(escrow) => escrow.extract(writer, (from, to), file).await,
                    Self::Alone(books) => books.extract(writer, (from, to), &file),
                };
                report.map(|report| json!(report))
            }
            Request::EndRecovery {} => self.end_recovery().await,
            Request::Audit {} => self.audit().await.map(|report| audit_json(&report, asset)),
            Request::Status {} => self.status(asset).await,
        };
        result.map_err(|error| Failure::escrow_node(&error, asset))
    }

    async fn deposit(
        &mut self,
        account: &AccountKey,
        amount: &str,
        reference: &str,
        asset: Asset,
    ) -> Result<Value, Failure> {
        let amount = Amount::parse(amount, asset.decimals)
            .map_err(|error| Failure::new("amount", format!("amount {amount}: {error}")).next("write it as 10.00"))?;
        let given = Reference::new(reference).map_err(|error| Failure::new("reference", format!("reference: {error}")));
        let given = given?;
        let done = match self {
            Self::Running(escrow) => escrow.deposit(account, amount, &given).await,
            Self::Alone(books) => books.deposit(account, amount, &given),
        };
        let done: Deposited = done.map_err(|error| Failure::escrow_node(&error, asset))?;
        let found = self.account(account).await;
        let found = found.map_err(|error| Failure::escrow_node(&error, asset))?;
        Ok(json!({
            "account": done.account,
            "amount": money(done.amount, asset),
            "reference": done.reference,
            "at": done.at,
            "height": done.height,
            "balance": money(found.map_or(Amount::ZERO, |found| found.balance), asset),
        }))
    }

    async fn account(&self, account: &AccountKey) -> Result<Option<AccountSummary>, EscrowNodeError> {
        match self {
            Self::Running(escrow) => escrow.account(account).await,
            Self::Alone(books) => books.account(account),
        }
    }

    async fn accounts(&self, from: u64) -> Result<(Vec<AccountSummary>, Option<u64>), EscrowNodeError> {
        match self {
            Self::Running(escrow) => escrow.accounts(from, ACCOUNTS_PER_PAGE).await,
            Self::Alone(books) => books.accounts(from, ACCOUNTS_PER_PAGE),
        }
    }

    async fn audit(&self) -> Result<AuditReport, EscrowNodeError> {
        match self {
            Self::Running(escrow) => escrow.audit().await,
            Self::Alone(books) => books.audit(),
        }
    }

    async fn backup(&self, file: PathBuf) -> Result<BackupReport, EscrowNodeError> {
        match self {
            Self::Running(escrow) => escrow.backup(file).await,
            Self::Alone(books) => books.backup(&file),
        }
    }

    async fn end_recovery(&self) -> Result<Value, EscrowNodeError> {
        if let Self::Running(escrow) = self {
            escrow.end_recovery().await?;
            return Ok(json!({ "phase": escrow.status().await?.phase }));
        }
        Err(Reject::of(Code::Unavailable).into())
    }

    async fn status(&self, asset: Asset) -> Result<Value, EscrowNodeError> {
        match self {
            Self::Alone(books) => Ok(totals_json(&books.totals()?, asset, json!({ "running": false }))),
            Self::Running(escrow) => {
                let status = escrow.status().await?;
                let node = json!({
                    "running": true,
                    "address": escrow.address(),
                    "serving": status.is_serving,
                    "phase": status.phase,
                    "connections": status.connections,
                    "requests": status.requests,
                    "claims_answered": status.claims_answered,
                    "turned_away": status.turned_away,
                });
                Ok(totals_json(&status.totals, asset, node))
            }
        }
    }
}

fn account_json(account: &AccountSummary, asset: Asset) -> Value {
    json!({
        "account": account.account,
        "asset": asset.name(),
        "balance": money(account.balance, asset),
        "held": money(account.held, asset),
        "open_holds": account.open_holds,
        "credits": sum(account.credits, asset),
        "debits": sum(account.debits, asset),
        "entries": account.entries,
    })
}

fn audit_json(report: &AuditReport, asset: Asset) -> Value {
    json!({
        "conserved": report.conserved,
        "asset": asset.name(),
        "deposits": sum(report.deposits, asset),
        "balances": sum(report.balances, asset),
        "held": sum(report.held, asset),
        "fees": sum(report.fees, asset),
        "events": report.events,
        "accounts": report.accounts,
        "holds": report.holds,
        "books": report.books,
        "claims": report.claims,
        "winners": report.winners,
        "findings": report.findings,
    })
}

fn totals_json(totals: &EscrowTotals, asset: Asset, node: Value) -> Value {
    json!({
        "node": node,
        "escrow": totals.escrow,
        "asset": asset.name(),
        "conserved": totals.conserved,
        "deposits": sum(u128::try_from(totals.deposits).unwrap_or(0), asset),
        "balances": sum(u128::try_from(totals.balances).unwrap_or(0), asset),
        "held": sum(u128::try_from(totals.held).unwrap_or(0), asset),
        "fees": sum(u128::try_from(totals.fees).unwrap_or(0), asset),
        "accounts": totals.accounts,
        "holds": totals.holds,
        "claims": totals.claims,
        "winners": totals.winners,
        "height": totals.height,
        "last_event": date(totals.time),
    })
}

/// The command that puts money into an account, for whoever runs the escrow.
pub(crate) fn deposit_hint(account: &AccountKey) -> String {
    format!(
        "tombola escrow deposit {account} 10.00 --reference {}",
        quoted("first-deposit")
    )
}
