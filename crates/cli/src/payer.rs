//! `tombola payer`: buys, tips, and checks what was paid.

mod carry_out;
mod purchase;

use crate::account::{self, Owner};
use crate::escrow::deposit_hint;
use crate::exit::{CHECK_FAILED, Failure};
use crate::local::{HomeArg, Stop, ask, init, lock_to_run, lock_unanswered, read, ready, serve_socket};
use crate::output::{Output, date, fields, number, text};
use crate::watch::{self, Service};
pub(crate) use carry_out::entry_json;
use carry_out::{Request, Running, payer_failure};
use clap::Subcommand;
use purchase::{GetArgs, SendArgs};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tombola_core::amount::{Asset, Timestamp};
use tombola_net::Address;
use tombola_node::config::PayerConfig;
use tombola_node::home::{Home, HomeLock};
use tombola_node::metrics::MetricsServer;
use tombola_node::payer::{Payer, PayerOptions};

const ROLE: &str = "payer";
/// The store in a home.
pub(crate) const STORE_FILE: &str = "payer.redb";

/// The payer keeps a deposit at an escrow and pays with lottery tickets.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tombola payer init --escrow tombola://tom1...@127.0.0.1:7400
  tombola payer get tombola://tom1...@127.0.0.1:7401/song.ogg -o song.ogg --spend-max 0.50
  tombola payer send tombola://tom1...@127.0.0.1:7401 0.02
  tombola payer balance
  tombola payer status
  tombola payer audit")]
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
    /// Keep connections and holds for other programs of this user, until Ctrl-C or SIGTERM.
    Run,
    /// Buy a file: tombola://KEY@HOST:PORT/name. A cut download goes on where it was cut, without paying twice.
    Get(GetArgs),
    /// Tip a payee.
    Send(SendArgs),
    /// Show balance and open holds.
    Balance,
    /// Show what is at risk with each payee (its window of unacknowledged tickets), balance, open holds, luck and rates.
    Status,
    /// Show what happened to the account.
    Statement {
        /// Only entries after this number.
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Save hold, book, claim and receipt of each charge here, for inspect and verify.
        #[arg(long, value_name = "DIR")]
        save: Option<PathBuf>,
        /// Go on with each entry as it happens, one a line, until Ctrl-C.
        #[arg(long, conflicts_with = "save")]
        follow: bool,
    },
    /// Check every charge again: hold, signature, commitment, chain, each draw, and the sums.
    Audit,
    #[command(flatten)]
    Account(account::Command),
    /// Let another key open holds and sign books on this account, within limits; so this key can stay offline.
    Delegate(account::Delegate),
}

#[derive(Debug, clap::Args)]
struct Init {
    /// Address of the escrow that keeps the deposit: tombola://KEY@HOST:PORT.
    #[arg(long)]
    escrow: Address,
    /// Asset of the escrow.
    #[arg(long)]
    asset: Option<String>,
    /// Decimal places of the asset.
    #[arg(long)]
    decimals: Option<u8>,
}

pub(crate) async fn run(args: Args, output: Output) -> Result<(), Failure> {
    let home = &args.home;
    match args.command {
        Command::Init(options) => make(home, options, output),
        Command::Run => serve(home, output).await,
        Command::Get(get) => purchase::get(home, get, output).await,
        Command::Send(send) => purchase::send(home, send, output).await,
        Command::Balance => {
            let balance = once(home, &Request::Balance {}).await?;
            output.result(&balance, || balance_text(&balance));
            Ok(())
        }
        Command::Status => {
            let status = once(home, &Request::Status {}).await?;
            output.result(&status, || fields(&status));
            Ok(())
        }
        Command::Statement {
            after, follow: true, ..
        } => account::follow(&owner(home)?, after, output).await,
        Command::Account(command) => account::run(owner(home)?, command, output).await,
        Command::Delegate(wish) => account::delegate(owner(home)?, wish, output).await,
        Command::Statement { after, save, .. } => {
            let entries = statement(home, after).await?;
            if let Some(directory) = save {
                save_evidence(&directory, &entries)?;
            }
            let result = json!({ "entries": entries });
            output.result(&result, || statement_text(&entries));
            Ok(())
        }
        Command::Audit => {
            let report = once(home, &Request::Audit {}).await?;
            let text = fields(&report);
            // What nobody can know any more is no fault of anybody: it is told, and the report is not called clean.
            let is_none = |what| report.get(what) == Some(&json!([]));
            if is_none("faults") && is_none("beyond") && report.get("adds_up") == Some(&Value::Bool(true)) {
                output.result(&report, || text);
                return Ok(());
            }
            let failure = Failure::new(CHECK_FAILED, "not every charge holds: see the faults")
                .next("keep the statement and the journal: they are the evidence");
            Err(output.found(report, || text, failure))
        }
    }
}

fn make(home: &HomeArg, options: Init, output: Output) -> Result<(), Failure> {
    let defaults = PayerConfig::default();
    let config = PayerConfig {
        escrow: Some(options.escrow),
        asset: options.asset.unwrap_or(defaults.asset),
        decimals: options.decimals.unwrap_or(defaults.decimals),
        ..defaults
    };
    let made = init(home, ROLE, &config)?;
    let account = made.account;
    // Who runs the escrow puts the money in; there is no other way yet.
    let next = deposit_hint(&account);
    let (path, is_encrypted) = (made.home.path(), made.is_encrypted);
    let result = json!({ "home": path, "account": account, "key_encrypted": is_encrypted, "next": next });
    output.result(&result, || {
        let (path, key) = (path.display(), made.key_line());
        format!("payer made in {path}\n{key}\naccount: {account}\nnext, at the escrow: {next}")
    });
    Ok(())
}

/// A payer to ask: the node that runs on the home, or this process with the home's lock.
pub(crate) enum Node {
    Running(Home),
    Alone(Box<Alone>),
}

pub(crate) struct Alone {
    payer: Payer,
    asset: Asset,
    _lock: HomeLock,
}

impl Node {
    /// Finds out which by asking what every node answers.
    pub(crate) async fn open(arg: &HomeArg) -> Result<Self, Failure> {
        let home = arg.open(ROLE)?;
        if ask(&home, &Request::Asset {}, |_| ()).await?.is_some() {
            return Ok(Self::Running(home));
        }
        let lock = lock_unanswered(&home)?;
        let (payer, asset) = connect(&home, arg)?;
        Ok(Self::Alone(Box::new(Alone {
            payer,
            asset,
            _lock: lock,
        })))
    }

    pub(crate) async fn request(
        &self,
        request: Request,
        on_progress: &(dyn Fn(&Value) + Send + Sync),
    ) -> Result<Value, Failure> {
        match self {
            Self::Running(home) => match ask(home, &request, on_progress).await? {
                Some(result) => Ok(result),
                None => Err(Failure::new("node_lost", "the payer node has ended").next("repeat the command")),
            },
            Self::Alone(alone) => {
                let (payer, asset) = (&alone.payer, alone.asset);
                carry_out::carry_out(payer, asset, Running::Once, request, &|progress| on_progress(&progress)).await
            }
        }
    }

    /// Says goodbye; a running node stays.
    pub(crate) async fn close(self) {
        if let Self::Alone(alone) = self {
            alone.payer.shutdown().await;
        }
    }
}

fn connect(home: &Home, arg: &HomeArg) -> Result<(Payer, Asset), Failure> {
    let config = read::<PayerConfig>(home)?;
    let terms = config.terms()?;
    let escrow = config.escrow.ok_or_else(no_escrow)?;
    let options = PayerOptions {
        key: arg.key(home)?,
        escrow,
        terms,
        store: home.file(STORE_FILE),
    };
    let failed = |error| payer_failure(&error, terms.asset).in_file(Some(&home.file(STORE_FILE)));
    let payer = Payer::connect(options).map_err(failed)?;
    Ok((payer, terms.asset))
}

fn no_escrow() -> Failure {
    Failure::new("no_escrow", "no escrow is configured: there is no deposit to pay from")
        .next("set escrow in config.toml")
}

/// The owner of the account, or the signer that it delegated to, at the escrow.
fn owner(home: &HomeArg) -> Result<Owner, Failure> {
    let opened = home.open(ROLE)?;
    let config = read::<PayerConfig>(&opened)?;
    let terms = config.terms()?;
    let escrow = config.escrow.ok_or_else(no_escrow)?;
    Owner::new(home.account_key(&opened)?, terms.account, escrow, terms.asset)
}

/// How the payer of a home stands, whether it runs or not.
pub(crate) async fn standing(arg: &HomeArg) -> Result<Value, Failure> {
    once(arg, &Request::Status {}).await
}

async fn once(home: &HomeArg, request: &Request) -> Result<Value, Failure> {
    let node = Node::open(home).await?;
    let result = node.request(request.clone(), &|_| ()).await;
    node.close().await;
    result
}

async fn serve(arg: &HomeArg, output: Output) -> Result<(), Failure> {
    let mut stop = Stop::listen()?;
    let home = arg.open(ROLE)?;
    let lock = lock_to_run(&home).await?;
    let (payer, asset) = connect(&home, arg)?;
    let watched = payer.clone();
    let listen = read::<PayerConfig>(&home)?.metrics_listen;
    let samples = move || {
        let payer = watched.clone();
        async move {
            let luck = carry_out::luck(&payer).await;
            Some(payer.samples(luck.as_ref()))
        }
    };
    let metrics = watch::metrics(listen, samples).await?;
    let url = metrics.as_ref().map(MetricsServer::url);
    let account = payer.account();
    let serving = payer.clone();
    let carry_out = move |request: Request, lines: mpsc::UnboundedSender<Value>| {
        let payer = serving.clone();
        async move {
            let on_progress = move |progress| {
                // A client that went away does not stop a purchase.
                let _ = lines.send(progress);
            };
            carry_out::carry_out(&payer, asset, Running::Node, request, &on_progress).await
        }
    };
    let next = format!("tombola payer balance{}", arg.shown());
    let end = async move {
        let socket = tombola_node::admin::socket_path(&home);
        let fields = json!({ "account": account, "socket": socket, "metrics": url });
        ready(output, &format!("payer {account}"), fields, &next, None);
        let service = Service::ready("ready to pay");
        stop.wait().await;
        service.stopping();
    };
    serve_socket(&lock, carry_out, end).await?;
    drop(metrics);
    payer.shutdown().await;
    Ok(())
}

async fn statement(home: &HomeArg, after: u64) -> Result<Vec<Value>, Failure> {
    let node = Node::open(home).await?;
    let mut entries: Vec<Value> = Vec::new();
    let mut after = after;
    loop {
        let mut page = node.request(Request::Statement { after }, &|_| ()).await?;
        if let Some(Value::Array(page)) = page.get_mut("entries").map(Value::take) {
            entries.extend(page);
        }
        let last = entries.last().map_or(after, |entry| number(entry, "sequence"));
        if page.get("more") != Some(&Value::Bool(true)) || last == after {
            break;
        }
        after = last;
    }
    node.close().await;
    Ok(entries)
}

/// One file for each signed object, named by the entry: `3-hold`, `3-book`, `3-claim`, `3-receipt`.
fn save_evidence(directory: &Path, entries: &[Value]) -> Result<(), Failure> {
    std::fs::create_dir_all(directory)?;
    for entry in entries {
        let sequence = number(entry, "sequence");
        let evidence = entry.get("evidence").and_then(Value::as_object);
        for (name, bytes) in evidence.into_iter().flatten() {
            let bytes = bytes.as_str().unwrap_or_default();
            std::fs::write(directory.join(format!("{sequence}-{name}")), format!("{bytes}\n"))?;
        }
    }
    Ok(())
}

pub(crate) fn statement_text(entries: &[Value]) -> String {
    if entries.is_empty() {
        return "nothing has happened yet".to_owned();
    }
    entries.iter().map(entry_text).collect::<Vec<_>>().join("\n")
}

pub(crate) fn entry_text(entry: &Value) -> String {
    let (sequence, at) = (number(entry, "sequence"), date(Timestamp(number(entry, "at"))));
    let (kind, amount, balance) = (text(entry, "kind"), text(entry, "amount"), text(entry, "balance"));
    let detail = ["reference", "to", "from", "payee", "hold", "book"];
    let detail = detail
        .iter()
        .filter_map(|key| Some(format!("{key} {}", entry.get(*key)?.as_str()?)));
    let detail: Vec<String> = detail.collect();
    format!(
        "{sequence:>5}  {at}  {kind:<9} {amount:>14}  balance {balance:>14}  {}",
        detail.join("  ")
    )
}

fn balance_text(balance: &Value) -> String {
    let mut lines = vec![
        format!("account  {}", text(balance, "account")),
        format!("balance  {} {}", text(balance, "balance"), text(balance, "asset")),
        format!(
            "held     {} in {} open holds",
            text(balance, "held"),
            number(balance, "open_holds")
        ),
    ];
    for hold in balance.get("holds").and_then(Value::as_array).into_iter().flatten() {
        let (left, cap, payee) = (text(hold, "left"), text(hold, "cap"), text(hold, "payee"));
        let expires = date(Timestamp(number(hold, "expires_at")));
        lines.push(format!("  {left} left of {cap} for {payee} until {expires}"));
    }
    lines.join("\n")
}
