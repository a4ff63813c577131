//! `tombola payee`: sells the files of a directory.

use crate::account::{self, Owner};
use crate::exit::Failure;
use crate::local::{HomeArg, Stop, ask, init, lock_to_run, lock_unanswered, quoted, read, ready, serve_socket, sole};
use crate::output::{Output, date, fields, money, number};
use crate::watch::{self, Service};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tombola_core::amount::Asset;
use tombola_net::Address;
use tombola_node::config::{Money, PayeeConfig, parse_bytes};
use tombola_node::disk::StoreError;
use tombola_node::home::{Existing, Home};
use tombola_node::metrics::MetricsServer;
use tombola_node::payee::{Catalog, FileCatalog, HEALTH_CODES, Payee, PayeeError, PayeeOptions, PayeeStatus, Redeemed};

const ROLE: &str = "payee";
/// The store in a home.
pub(crate) const STORE_FILE: &str = "payee.redb";

/// The payee sells files, unit by unit, as tickets arrive, and redeems the winners by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tombola payee init --escrow tombola://tom1...@127.0.0.1:7400 --files ./songs --price 0.0001 --per 64KiB
  tombola payee run
  tombola payee status
  tombola payee redeem
  tombola payee backup payee.backup")]
pub(crate) struct Args {
    #[command(flatten)]
    home: HomeArg,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a home: key, and configuration with every default in it.
    Init(Offer),
    /// Sell until Ctrl-C or SIGTERM; then close all books, redeem once more, and end. Options override the configuration.
    Run(Offer),
    /// Show what is owed, reserved, lent and redeemed.
    Status,
    /// Redeem all winners now. It happens by itself, too.
    Redeem,
    #[command(flatten)]
    Account(account::Command),
    #[command(flatten)]
    Earnings(account::PayeeCommand),
    /// Write a backup of the store, whether or not the payee runs. The key is not in it.
    Backup {
        /// The file to write; it must not be there.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Make the store from a backup. Never copy a store back instead: it would not know what its holds have paid since.
    Restore {
        /// The backup.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Restore although a store is there, which may be newer; it is kept beside the restored one.
        #[arg(long)]
        replace: bool,
    },
}

/// What is sold, for how much, and where it is redeemed.
#[derive(Debug, clap::Args)]
struct Offer {
    /// Address of the escrow whose holds are taken: tombola://KEY@HOST:PORT.
    #[arg(long)]
    escrow: Option<Address>,
    /// Directory whose files are sold.
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Price of one unit.
    #[arg(long)]
    price: Option<Money>,
    /// Bytes of one unit, such as 64KiB.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    per: Option<u32>,
    /// Address and UDP port to listen on; port 0 takes any free one.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Asset of the escrow.
    #[arg(long)]
    asset: Option<String>,
    /// Decimal places of the asset.
    #[arg(long)]
    decimals: Option<u8>,
}

impl Offer {
    fn apply(self, config: PayeeConfig) -> Result<PayeeConfig, Failure> {
        let files = self.files.map(std::path::absolute).transpose()?;
        Ok(PayeeConfig {
            escrow: self.escrow.or(config.escrow),
            files: files.or(config.files),
            price: self.price.unwrap_or(config.price),
            per_bytes: self.per.unwrap_or(config.per_bytes),
            listen: self.listen.unwrap_or(config.listen),
            asset: self.asset.unwrap_or(config.asset),
            decimals: self.decimals.unwrap_or(config.decimals),
            ..config
        })
    }
}

/// What the socket of a running payee takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Status {},
    Redeem {},
    Backup { file: PathBuf },
}

pub(crate) async fn run(args: Args, output: Output) -> Result<(), Failure> {
    let home = &args.home;
    match args.command {
        Command::Init(offer) => make(home, offer, output),
        Command::Account(command) => account::run(owner(home)?, command, output).await,
        Command::Earnings(command) => account::run_payee(owner(home)?, command, output).await,
        Command::Run(offer) => serve(home, offer, output).await,
        Command::Status => {
            let status = operate(home, &Request::Status {}).await?;
            output.result(&status, || fields(&status));
            Ok(())
        }
        Command::Backup { file } => {
            let file = std::path::absolute(file)?;
            let done = operate(home, &Request::Backup { file: file.clone() }).await?;
            home.note_backup(ROLE, &file);
            output.result(&done, || {
                let (holds, books) = (number(&done, "holds"), number(&done, "unclaimed_books"));
                let (file, key) = (file.display(), tombola_node::key_file::KEY_FILE);
                format!("{file}: {holds} holds, {books} books with unclaimed winners; {key} is not in it")
            });
            Ok(())
        }
        Command::Restore { file, replace } => restore(home, &file, replace, output),
        Command::Redeem => {
            let done = operate(home, &Request::Redeem {}).await?;
            output.result(&done, || {
                let (paid, refused) = (number(&done, "receipts"), number(&done, "refusals"));
                let waiting = number(&done, "unclaimed_books");
                format!("claims paid: {paid}, refused: {refused}; books that still wait: {waiting}")
            });
            Ok(())
        }
    }
}

fn make(home: &HomeArg, offer: Offer, output: Output) -> Result<(), Failure> {
    let config = offer.apply(PayeeConfig::default())?;
    if config.escrow.is_none() {
        return Err(no_escrow("tombola payee init --escrow tombola://KEY@HOST:PORT"));
    }
    let made = init(home, ROLE, &config)?;
    let account = made.account;
    let files = if config.files.is_some() { "" } else { " --files ." };
    let next = format!("tombola payee run{files}{}", home.shown());
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
        format!("payee made in {path}\n{key}\naddress: {address}\nnext: {next}")
    });
    Ok(())
}

fn no_escrow(next: &str) -> Failure {
    Failure::new("no_escrow", "no escrow is configured: winners could not be redeemed").next(next)
}

fn options(home: &Home, arg: &HomeArg, config: &PayeeConfig) -> Result<(PayeeOptions, Asset), Failure> {
    let terms = config.terms()?;
    let escrow = config.escrow.clone();
    let escrow = escrow.ok_or_else(|| no_escrow("give --escrow, or set escrow in config.toml"))?;
    let options = PayeeOptions {
        key: arg.key(home)?,
        listen: config.listen,
        escrow,
        terms,
        store: home.file(STORE_FILE),
    };
    Ok((options, terms.asset))
}

/// The owner of the account at the escrow.
fn owner(home: &HomeArg) -> Result<Owner, Failure> {
    let opened = home.open(ROLE)?;
    let config = read::<PayeeConfig>(&opened)?;
    let terms = config.terms()?;
    let escrow = config.escrow;
    let escrow = escrow.ok_or_else(|| no_escrow("set escrow in config.toml"))?;
    Owner::new(home.account_key(&opened)?, None, escrow, terms.asset)
}

fn catalog(config: &PayeeConfig) -> Result<FileCatalog, Failure> {
    let files = config.files.as_ref();
    let files = files.ok_or_else(|| Failure::new("no_files", "nothing is for sale").next("give --files DIR"))?;
    let terms = config.terms()?;
    FileCatalog::new(files, terms.price, terms.per_bytes).map_err(|error| {
        Failure::new("no_files", format!("{}: {error}", files.display())).next("give --files DIR of a directory")
    })
}

async fn serve(arg: &HomeArg, offer: Offer, output: Output) -> Result<(), Failure> {
    let mut stop = Stop::listen()?;
    let home = arg.open(ROLE)?;
    let lock = lock_to_run(&home).await?;
    let config = read::<PayeeConfig>(&home)?;
    let config = offer.apply(config)?;
    let (options, asset) = options(&home, arg, &config)?;
    let catalog = catalog(&config)?;
    let (offers, _) = catalog.list(asset, None);
    let escrow = options.escrow.clone();
    let file = options.store.clone();
    let failed = |error: PayeeError| Failure::payee_node(&error, asset).in_file(Some(&file));
    let payee = Arc::new(Payee::serve(options, catalog).await.map_err(failed)?);
    let address = payee.address().clone();
    let watched = Arc::clone(&payee);
    let metrics = watch::metrics(config.metrics_listen, move || {
        let payee = Arc::clone(&watched);
        async move { Some(status(payee).await.ok()?.samples()) }
    })
    .await?;
    let url = metrics.as_ref().map(MetricsServer::url);
    let serving = Arc::clone(&payee);
    let carry_out = move |request: Request, _| {
        let payee = Arc::clone(&serving);
        async move {
            match request {
                Request::Status {} => status(Arc::clone(&payee)).await.map(|status| {
                    let node = json!({ "running": true, "address": payee.address() });
                    status_json(&status, asset, node)
                }),
                Request::Redeem {} => payee.redeem().await.map(redeemed_json),
                Request::Backup { file } => payee.backup(&file).await.map(|backup| json!(backup)),
            }
            .map_err(|error| failure(&error, asset))
        }
    };
    let end = async move {
        let init = format!("tombola payer init --escrow {escrow}");
        let (price, unit) = (&config.price, config.per_bytes);
        let what = format!("payee {address}\nselling at {price} {} for {unit} bytes", asset.name());
        let fields = json!({ "address": address, "metrics": url });
        match offers.first() {
            Some(offer) => {
                let next = get_command(&address, offer.service.as_str());
                ready(output, &what, fields, &next, Some(("without a payer yet", &init)));
            }
            None => ready(output, &format!("{what}; the directory is empty"), fields, &init, None),
        }
        let service = Service::ready("selling");
        stop.wait().await;
        service.stopping();
    };
    serve_socket(&lock, carry_out, end).await?;
    // It holds the node, too.
    drop(metrics);
    if let Some(payee) = sole(payee).await {
        payee.shutdown().await;
    }
    Ok(())
}

/// How a running payee stands, asked away from the async threads: its store may be slow.
async fn status(payee: Arc<Payee>) -> Result<PayeeStatus, PayeeError> {
    let asked = tokio::task::spawn_blocking(move || payee.status()).await;
    // Only a runtime that ends keeps the answer away.
    asked.unwrap_or(Err(PayeeError::Store(StoreError::Stopped)))
}

/// The command that buys a service.
fn get_command(address: &Address, service: &str) -> String {
    let name = service.trim_start_matches('/');
    let file = name.rsplit('/').next().unwrap_or(name);
    let url = quoted(&address.clone().with_path(name).to_string());
    format!("tombola payer get {url} -o {} --spend-max 0.50", quoted(file))
}

/// How the payee of a home stands, whether it runs or not.
pub(crate) async fn standing(arg: &HomeArg) -> Result<Value, Failure> {
    operate(arg, &Request::Status {}).await
}

/// Asks the running node, or works on its store alone.
async fn operate(arg: &HomeArg, request: &Request) -> Result<Value, Failure> {
    let home = arg.open(ROLE)?;
    if let Some(result) = ask(&home, request, |_| ()).await? {
        return Ok(result);
    }
    let _lock = lock_unanswered(&home)?;
    let config = read::<PayeeConfig>(&home)?;
    let (options, asset) = options(&home, arg, &config)?;
    let result = match request {
        Request::Status {} => {
            let node = json!({ "running": false });
            Payee::status_offline(&options).map(|status| status_json(&status, asset, node))
        }
        Request::Redeem {} => Payee::redeem_offline(options).await.map(redeemed_json),
        Request::Backup { file } => Payee::backup_offline(&options, file).map(|backup| json!(backup)),
    };
    result.map_err(|error| failure(&error, asset).in_file(Some(&home.file(STORE_FILE))))
}

/// Puts a backup in place of the store, under the lock of the home, so never below a running node.
fn restore(arg: &HomeArg, file: &Path, replace: bool, output: Output) -> Result<(), Failure> {
    let home = arg.open(ROLE)?;
    let _lock = home.lock()?;
    let config = read::<PayeeConfig>(&home)?;
    let existing = if replace { Existing::Replace } else { Existing::Keep };
    let restored = Payee::restore(file, &home.file(STORE_FILE), existing);
    let restored = json!(restored.map_err(|error| match (&error, config.terms()) {
        (_, Ok(terms)) => failure(&error, terms.asset),
        (_, Err(error)) => error.into(),
    })?);
    output.result(&restored, || {
        let (holds, books) = (number(&restored, "holds"), number(&restored, "unclaimed_books"));
        let next = format!("tombola payee run{}", arg.shown());
        format!(
            "restored: {holds} holds, {books} books with unclaimed winners; \
             the escrow is asked about each hold before it is used\nnext: {next}"
        )
    });
    Ok(())
}

fn failure(error: &PayeeError, asset: Asset) -> Failure {
    let told = |code| Failure::new(code, error.to_string());
    match error {
        PayeeError::NotABackup { .. } => told("not_a_backup").next("give a file that `tombola payee backup` wrote"),
        PayeeError::StoreExists { .. } => told("exists").next(
            "use the store that is there; if it is lost or broken, give --replace: it is kept beside the restored one",
        ),
        _ => Failure::payee_node(error, asset),
    }
}

fn status_json(status: &PayeeStatus, asset: Asset, node: Value) -> Value {
    let exposure = &status.exposure;
    json!({
        "node": node,
        "version": status.version,
        "uptime_ms": status.uptime_ms,
        "health": status.health,
        "health_means": HEALTH_CODES.iter().find(|(code, _)| *code == status.health).map(|(_, means)| means),
        "asset": asset.name(),
        "owed": money(exposure.liabilities, asset),
        "reserved": money(exposure.reservations, asset),
        "unclaimed_books": exposure.unclaimed_books,
        "unclaimed_winners": exposure.unclaimed_winners,
        "claim_deadline": exposure.claim_deadline.map(date),
        "claim_deadline_ms": exposure.claim_deadline,
        "holds": exposure.holds,
        "open_holds": exposure.open_holds,
        "hold_capacity": money(exposure.capacity, asset),
        "hold_room": money(exposure.room, asset),
        "hold_expiry": exposure.next_expiry.map(date),
        "hold_expiry_ms": exposure.next_expiry,
        "open_books": exposure.open_books,
        "credit_units": status.credit_units,
        "units_lent": exposure.units_lent,
        "records": status.records,
        "tickets": status.tickets,
        "tickets_per_second": status.tickets_per_second,
        "winners": status.winners,
        "expected": money(status.luck.expected, asset),
        "drawn": money(status.luck.drawn, asset),
        "luck": status.luck.z,
        "books": status.books,
        "units": status.units,
        "claims": status.claims,
        "claims_per_second": status.claims_per_second,
        "winners_redeemed": status.winners_redeemed,
        "redeemed": money(status.redeemed, asset),
        "refusals": status.refusals,
        "broken_books": status.broken_books,
        "turned_away": status.turned_away,
        "connections": status.connections,
        "connections_turned_away": status.connections_turned_away,
    })
}

fn redeemed_json(redeemed: Redeemed) -> Value {
    json!({
        "receipts": redeemed.receipts,
        "refusals": redeemed.refusals,
        "unclaimed_books": redeemed.unclaimed_books,
    })
}
