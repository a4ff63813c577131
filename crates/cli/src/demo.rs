//! The demo: the three nodes on loopback with their real stores; one payment told step by step, then a million.

mod summary;

use crate::exit::{CHECK_FAILED, Failure};
use crate::output::{Output, money};
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use summary::Summary;
use tombola_core::amount::{Amount, Asset};
use tombola_core::odds::Threshold;
use tombola_core::quote::Service;
use tombola_node::config::{Money, PayeeConfig};
use tombola_node::loopback::{Loopback, LoopbackOptions};
use tombola_node::payee::{Content, MemoryCatalog, PayeeStatus};
use tombola_node::payer::PayerEvent;

/// How often the progress bar learns of winners.
const PROGRESS_BEAT: Duration = Duration::from_millis(100);
/// Redeeming that is not done after so long is not coming to an end.
const REDEEM_MAX: Duration = Duration::from_secs(30);
/// The deposit: so many times what the payments are expected to cost, and face values on top.
const DEPOSIT_FACTOR: u64 = 2;
const DEPOSIT_FACES: u64 = 60;
const ASSET: Asset = Asset::USD;

/// See it work: an escrow, a payee and a payer on this machine, one payment step by step, then a million.
///
/// Nothing outside of a temporary directory is touched, and nothing but loopback is used.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tombola demo
  tombola demo --payments 10000 --price 0.01 --face 0.05
  tombola demo --json")]
pub(crate) struct Args {
    /// How many payments after the first.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    payments: u64,
    /// What each is worth in expectation.
    #[arg(long, default_value = "0.0001")]
    price: Money,
    /// What a winning ticket pays.
    #[arg(long, default_value = "0.10")]
    face: Money,
}

pub(crate) async fn run(args: Args, output: Output) -> Result<(), Failure> {
    let terms = Terms::new(&args)?;
    let directory = tempfile::tempdir()?;
    let service = Service::new("/demo").map_err(failed)?;
    let catalog = MemoryCatalog::default().with(service, Content::from_bytes(terms.price, 1, Vec::new()));
    let nodes = Loopback::start(directory.path(), &terms.options(&args), catalog)
        .await
        .map_err(failed)?;
    let demo = Demo { terms, output, nodes };
    let result = demo.tell().await;
    demo.nodes.stop().await;
    result
}

struct Terms {
    payments: u64,
    price: Amount,
    face: Amount,
    threshold: Threshold,
    deposit: Amount,
}

impl Terms {
    fn new(args: &Args) -> Result<Self, Failure> {
        let price = args.price.positive("--price", ASSET)?;
        let face = args.face.positive("--face", ASSET)?;
        let threshold = Threshold::for_price(price, face).map_err(|_| {
            let (price, face) = (money(price, ASSET), money(face, ASSET));
            Failure::new(
                "bad_terms",
                format!("a ticket worth {price} cannot pay only {face} when it wins"),
            )
            .next("choose a --face of at least the --price")
        })?;
        let expected = price
            .checked_mul(args.payments)
            .and_then(|sum| sum.checked_mul(DEPOSIT_FACTOR));
        let deposit = expected
            .and_then(|sum| sum.checked_add(face.checked_mul(DEPOSIT_FACES)?))
            .ok_or_else(|| Failure::new("too_much", "that is more money than an account can hold").next("pay less"))?;
        Ok(Self {
            payments: args.payments,
            price,
            face,
            threshold,
            deposit,
        })
    }

    fn options(&self, args: &Args) -> LoopbackOptions {
        let defaults = LoopbackOptions::default();
        let mut options = LoopbackOptions {
            deposit: self.deposit,
            ..defaults
        };
        options.payee = PayeeConfig {
            price: args.price.clone(),
            face_value_min: args.face.clone(),
            face_value_max: args.face.clone(),
            ..options.payee
        };
        options.escrow.face_value_min = args.price.clone();
        options.escrow.cap_min = args.price.clone();
        options
    }

    /// One in how many tickets wins.
    fn odds(&self) -> u64 {
        self.threshold.tickets_per_win()
    }
}

struct Demo {
    terms: Terms,
    output: Output,
    nodes: Loopback,
}

/// What the payments after the first came to.
struct Measured {
    seconds: f64,
    records: u64,
    tickets: u64,
    winners: u64,
    redeemed: Amount,
    claims: u64,
    bytes: u64,
}

impl Demo {
    async fn tell(&self) -> Result<(), Failure> {
        self.one_payment().await?;
        let measured = self.many_payments().await?;
        let audit = self.nodes.payer.audit().await.map_err(failed)?;
        let books = self.nodes.escrow.reader().audit().await.map_err(failed)?;
        let summary = Summary {
            terms: &self.terms,
            measured: &measured,
            audit: &audit,
            books: &books,
        };
        let wrong = summary.wrong();
        if wrong.is_empty() {
            self.output.result(&summary.json(), || summary.text());
            return Ok(());
        }
        let failure = Failure::new(CHECK_FAILED, format!("something does not add up: {}", wrong.join("; ")))
            .next("this is an error of the program: report it with what --json prints (SECURITY.md says how)");
        Err(self.output.found(summary.json(), || summary.text(), failure))
    }

    fn say(&self, text: impl AsRef<str>) {
        self.output.note(text.as_ref());
    }

    /// Deposit, hold, ticket, win, redeem: each once, in words.
    async fn one_payment(&self) -> Result<(), Failure> {
        let t = &self.terms;
        let amount = |amount: Amount| format!("{} {}", money(amount, ASSET), ASSET.name());
        self.say("Three nodes run on this machine: an escrow, a payee who sells, and a payer.\n");
        self.say(format!(
            "1 deposit  The payer has put {} into its account at the escrow.",
            amount(t.deposit)
        ));
        let address = self.nodes.payee.address().clone().with_path("demo");
        let payer = &self.nodes.payer;
        let order = payer
            .plan_payments(&address, 1, Some(t.deposit))
            .await
            .map_err(failed)?;
        let before = self.status()?;
        let on_event = |event: PayerEvent| {
            if let PayerEvent::HoldOpened { cap } = event {
                self.say(format!(
                    "2 hold     The escrow sets {} of it aside for this payee and signs a promise: winners up to that are paid.",
                    amount(cap)
                ));
            }
        };
        payer.send(&order, &on_event).await.map_err(failed)?;
        let won = self.status()?.winners - before.winners;
        self.say(format!(
            "3 ticket   The payer pays {} with one lottery ticket: 36 bytes. One in {} wins {}, so it is worth its price.",
            amount(t.price),
            t.odds(),
            amount(t.face)
        ));
        self.say(format!(
            "           This one has {}.",
            if won == 1 {
                "won!"
            } else {
                "lost; nobody else will ever hear of it"
            }
        ));
        let tip = payer
            .plan_tip(&address, t.face, Some(t.deposit))
            .await
            .map_err(failed)?;
        payer.send(&tip, &|_| ()).await.map_err(failed)?;
        self.say(format!(
            "4 win      To see one win: a tip of {}. Its ticket pays exactly its price, so it always wins.",
            amount(t.face)
        ));
        self.redeem_all().await?;
        let paid = Amount(self.status()?.redeemed.0 - before.redeemed.0);
        self.say(format!(
            "5 redeem   The payee shows the winner to the escrow, which draws it again and credits {} to the payee.\n",
            amount(paid)
        ));
        Ok(())
    }

    fn status(&self) -> Result<PayeeStatus, Failure> {
        self.nodes.payee.status().map_err(failed)
    }

    /// Redeems until nothing is left to redeem.
    async fn redeem_all(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + REDEEM_MAX;
        while Instant::now() < deadline {
            let redeemed = self.nodes.payee.redeem().await.map_err(failed)?;
            if redeemed.unclaimed_books == 0 {
                return Ok(());
            }
        }
        Err(
            Failure::new("failed", "winners are still unclaimed after half a minute")
                .next("repeat it when this machine has less to do; --log-filter debug shows what the escrow answers"),
        )
    }

    async fn many_payments(&self) -> Result<Measured, Failure> {
        let t = &self.terms;
        let address = self.nodes.payee.address().clone().with_path("demo");
        let balance = self.nodes.payer.balance().await.map_err(failed)?;
        let ceiling = Amount(balance.account.balance.0 + balance.account.held.0);
        let order = self
            .nodes
            .payer
            .plan_payments(&address, t.payments, Some(ceiling))
            .await
            .map_err(failed)?;
        let before = self.status()?;
        let bytes_before = self.nodes.payer.udp_bytes(&address).await;
        let bar = progress_bar(t.payments);
        let last_look = Mutex::new(Instant::now());
        let on_event = |event: PayerEvent| {
            let PayerEvent::Acknowledged { tickets } = event else {
                return;
            };
            bar.set_position(tickets);
            let Ok(mut last_look) = last_look.try_lock() else {
                return;
            };
            if last_look.elapsed() < PROGRESS_BEAT {
                return;
            }
            *last_look = Instant::now();
            if let Ok(status) = self.nodes.payee.status() {
                let winners = status.winners - before.winners;
                bar.set_message(format!(
                    "{winners} winners, {} spent",
                    money(t.face.saturating_mul(winners), ASSET)
                ));
            }
        };
        let start = Instant::now();
        let sent = self.nodes.payer.send(&order, &on_event).await;
        let seconds = start.elapsed().as_secs_f64();
        bar.finish_and_clear();
        sent.map_err(failed)?;
        let bytes = self.nodes.payer.udp_bytes(&address).await;
        self.redeem_all().await?;
        let after = self.status()?;
        Ok(Measured {
            seconds,
            records: after.records - before.records,
            tickets: after.tickets - before.tickets,
            winners: after.winners - before.winners,
            redeemed: Amount(after.redeemed.0 - before.redeemed.0),
            claims: after.claims - before.claims,
            bytes: (bytes.0 - bytes_before.0) + (bytes.1 - bytes_before.1),
        })
    }
}

fn progress_bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let template = "{bar:30} {human_pos}/{human_len} payments, {per_sec}, {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn failed(error: impl std::error::Error) -> Failure {
    Failure::new("failed", error.to_string())
        .next("repeat it; it needs 127.0.0.1 and room in the directory for temporary files")
}
