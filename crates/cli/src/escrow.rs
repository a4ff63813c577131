//! `tombola escrow`: the ledger server and its operator's tools.

mod books;
mod csv;
mod custody;
mod payouts;
mod progress;

use crate::exit::{CHECK_FAILED, Failure};
use crate::local::{
    HomeArg, Stop, ask, init_with, lock_to_run, lock_unanswered, parse_account, quoted, read, ready, serve_socket, sole,
};
use crate::output::{Output, fields, number, text};
use crate::watch::{self, Service};
use books::{Books, Request};
use clap::Subcommand;
use custody::Custody;
use progress::AuditProgress;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;
use tombola_core::amount::{Asset, SECOND_MS};
use tombola_core::key::AccountKey;
use tombola_core::limits::SERVED_GAP_MS;
use tombola_net::Address;
use tombola_node::config::{DatabaseUrl, EscrowConfig, Money, StoreConfig};
use tombola_node::escrow::{
    Consent, Escrow, EscrowBooks, EscrowNodeError, EscrowOptions, Examined, StorePlace, WitnessOptions, examine,
};
use tombola_node::home::Home;
use tombola_node::metrics::MetricsServer;

const ROLE: &str = "escrow";
/// The store in a home, unless it is a database.
pub(crate) const STORE_FILE: &str = "escrow.redb";
/// The witness, unless it is configured elsewhere.
const WITNESS_FILE: &str = "witness";
/// A database's password, as the programs of PostgreSQL take it.
const PASSWORD_VARIABLE: &str = "PGPASSWORD";

/// The escrow keeps payers' deposits and redeems winning tickets. Its key is the network id: keep it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tombola escrow init --name \"Example escrow\"
  tombola escrow run
  tombola escrow deposit tom1... 10.00 --reference invoice-7
  tombola escrow account tom1...
  tombola escrow payouts export --csv payouts.csv
  tombola escrow fees
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
    /// Payouts that wait for you: what to pay, and what became of it.
    #[command(subcommand)]
    Payouts(payouts::Command),
    /// Show what the escrow earned by fees, or collect it.
    Fees {
        #[command(subcommand)]
        command: Option<payouts::FeesCommand>,
    },
    /// List the processes that share the ledger; declare one that is dead for good, so that holds expire again.
    Writers {
        #[arg(long, value_name = "WRITER", help = remove_help())]
        remove: Option<u32>,
    },
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
    /// Fee of each withdrawal and automatic payout, out of what is withdrawn.
    #[arg(long)]
    payout_fee: Option<Money>,
    /// Smallest withdrawal.
    #[arg(long)]
    payout_min: Option<Money>,
    /// Where the ledger is: postgres://USER@HOST:PORT/DATABASE, which several escrow processes may share [default: a
    /// file in the home]. A password is better left to PGPASSWORD or password_file in config.toml.
    #[arg(long, value_name = "URL")]
    store: Option<DatabaseUrl>,
    /// Number of this process among those that share the database, from 0; each has its own.
    #[arg(long, requires = "store", default_value_t = 0)]
    writer: u32,
    /// The key of the escrow that shares the database: copy its key.pem to each of its processes.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
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
            let mut shown = AuditProgress::new();
            let report = operate_with(home, &Request::Audit {}, move |progress| shown.show(progress)).await?;
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
        Command::Payouts(command) => payouts::run(home, command, output).await,
        Command::Fees { command } => payouts::fees(home, command, output).await,
        Command::Writers { remove } => writers(home, remove, output).await,
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
        payout_fee: options.payout_fee.unwrap_or(defaults.payout_fee),
        payout_min: options.payout_min.unwrap_or(defaults.payout_min),
        store: StoreConfig {
            url: options.store,
            writer: options.writer,
            ..defaults.store
        },
        ..defaults
    };
    let made = init_with(home, ROLE, &config, options.key.as_deref())?;
    let account = made.account;
    let next = format!("tombola escrow run{}", home.shown());
    let address = Address::new(account, config.listen.ip().to_string(), config.listen.port());
    let (path, is_encrypted) = (made.home.path(), made.is_encrypted);
    let result = json!({
        "home": path,
        "account": account,
        "key_encrypted": is_encrypted,
        "address": address,
        "next": next,
    });
    output.result(&result, || {
        let (path, key) = (path.display(), made.key_line());
        format!("escrow made in {path}\n{key}\naddress: {address}\nnext: {next}")
    });
    Ok(())
}

fn options(home: &Home, arg: &HomeArg) -> Result<(EscrowOptions, Asset), Failure> {
    options_of(home, arg, read(home)?)
}

fn options_of(home: &Home, arg: &HomeArg, config: EscrowConfig) -> Result<(EscrowOptions, Asset), Failure> {
    let terms = config.terms()?;
    let password = std::env::var(PASSWORD_VARIABLE).ok();
    let options = EscrowOptions {
        key: arg.key(home)?,
        listen: config.listen,
        terms,
        name: config.name,
        store: config.store.place(home.file(STORE_FILE), password.as_deref())?,
        witness: WitnessOptions::at(config.witness.unwrap_or_else(|| home.file(WITNESS_FILE))),
    };
    Ok((options, terms.asset))
}

async fn serve(arg: &HomeArg, listen: Option<SocketAddr>, consent: Consent, output: Output) -> Result<(), Failure> {
    let mut stop = Stop::listen()?;
    let home = arg.open(ROLE)?;
    let lock = lock_to_run(&home).await?;
    let config = read::<EscrowConfig>(&home)?;
    let metrics_listen = config.metrics_listen;
    let (mut options, asset) = options_of(&home, arg, config)?;
    options.listen = listen.unwrap_or(options.listen);
    options.witness.consent = consent;
    let file = file_of(&options);
    let failed = |error: EscrowNodeError| Failure::escrow_node(&error, asset).in_file(file.as_deref());
    let escrow = Arc::new(Escrow::serve(options).await.map_err(failed)?);
    let address = escrow.address().clone();
    let next = format!("tombola payee init --escrow {address} --files .");
    let also = format!("tombola payer init --escrow {address}");
    let watched = Arc::clone(&escrow);
    let metrics = watch::metrics(metrics_listen, move || {
        let escrow = Arc::clone(&watched);
        async move { Some(escrow.status().await.ok()?.samples()) }
    })
    .await?;
    let url = metrics.as_ref().map(MetricsServer::url);
    let serving = Arc::clone(&escrow);
    let carry_out = move |request: Request, lines: UnboundedSender<Value>| {
        let escrow = Arc::clone(&serving);
        // A client that went away does not stop the command.
        let on_progress = move |line: &Value| drop(lines.send(line.clone()));
        async move { Books::Running(&escrow).carry_out(request, asset, on_progress).await }
    };
    let watched = Arc::clone(&escrow);
    let end = async move {
        ready(
            output,
            &format!("escrow {address}"),
            json!({ "address": address, "metrics": url }),
            &next,
            Some(("to pay", &also)),
        );
        let service = Service::ready("serving");
        let ended = tokio::select! {
            () = stop.wait() => Ok(()),
            fault = watched.failed() => Err(failed(fault.into())),
        };
        service.stopping();
        ended
    };
    let ended = serve_socket(&lock, carry_out, end).await?;
    // It holds the node, too.
    drop(metrics);
    if let Some(escrow) = sole(escrow).await {
        escrow.shutdown().await;
    }
    ended
}

/// What the running escrow of a home says of itself; nothing if none runs.
pub(crate) async fn standing(home: &Home) -> Result<Option<Value>, Failure> {
    ask(home, &Request::Status {}, |_| ()).await
}

/// What the store of a stopped escrow and its witness say, under the home's lock.
pub(crate) async fn examined(home: &Home, arg: &HomeArg) -> Result<Examined, Failure> {
    let _lock = lock_unanswered(home)?;
    let (options, asset) = options(home, arg)?;
    let looked = examine(&options).await;
    looked.map_err(|error| Failure::escrow_node(&error, asset).in_file(file_of(&options).as_deref()))
}

/// The limit is the protocol's constant, so it is not written down again here.
fn remove_help() -> String {
    format!(
        "Its number. It must have been silent for more than {} s, and can never be started again. Its fees are then this \
         one's to collect",
        SERVED_GAP_MS / SECOND_MS
    )
}

/// The file that the ledger is in, unless it is in a database.
fn file_of(options: &EscrowOptions) -> Option<PathBuf> {
    match &options.store {
        StorePlace::File(file) => Some(file.clone()),
        StorePlace::Database(_) => None,
    }
}

/// Asks the running node, or opens the books alone.
async fn operate(arg: &HomeArg, request: &Request) -> Result<Value, Failure> {
    operate_with(arg, request, |_| ()).await
}

/// As [`operate`], and shows how far a long work is.
async fn operate_with(
    arg: &HomeArg,
    request: &Request,
    mut on_progress: impl FnMut(&Value) + Send + 'static,
) -> Result<Value, Failure> {
    let home = arg.open(ROLE)?;
    if let Some(result) = ask(&home, request, &mut on_progress).await? {
        return Ok(result);
    }
    let _lock = lock_unanswered(&home)?;
    let (options, asset) = options(&home, arg)?;
    let file = file_of(&options);
    let books = EscrowBooks::open(&options)
        .await
        .map_err(|error| Failure::escrow_node(&error, asset).in_file(file.as_deref()))?;
    let mut books = Books::Alone(Box::new(books));
    let done = books.carry_out(request.clone(), asset, on_progress).await;
    done.map_err(|failure| failure.in_file(file.as_deref()))
}

async fn writers(home: &HomeArg, remove: Option<u32>, output: Output) -> Result<(), Failure> {
    let request = match remove {
        None => Request::Writers {},
        Some(writer) => Request::RemoveWriter { writer },
    };
    let found = operate(home, &request).await?;
    output.result(&found, || {
        let all = found.get("writers").and_then(Value::as_array).into_iter().flatten();
        let lines = all.map(|writer| {
            let is = |key: &str| writer.get(key) == Some(&Value::Bool(true));
            let note = match (is("this"), is("removed")) {
                (_, true) => "  removed",
                (true, false) => "  this one",
                (false, false) => "",
            };
            format!(
                "writer {}  started {} times  last sign of life {}  height {}{note}",
                number(writer, "writer"),
                number(writer, "incarnation"),
                text(writer, "alive_at"),
                number(writer, "height"),
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    });
    Ok(())
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

/// The command that puts money into an account, for whoever runs the escrow.
pub(crate) fn deposit_hint(account: &AccountKey) -> String {
    format!(
        "tombola escrow deposit {account} 10.00 --reference {}",
        quoted("first-deposit")
    )
}
