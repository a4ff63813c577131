//! What the owner of an account does with it at its escrow, be the account a payee's or a payer's: money out, who gets
//! a share, who may sign. It needs the account's key and nothing else of the home, so a running node goes on beside it.

mod delegate;
mod format;
mod movement;

pub(crate) use delegate::{Delegate, delegate};
pub(crate) use movement::follow;

use crate::exit::Failure;
use crate::output::{Output, money, text};
use clap::Subcommand;
use format::{Percent, parse_share, parse_span};
use serde_json::{Value, json};
use tombola_core::amount::{Amount, Asset};
use tombola_core::key::{AccountKey, BookId, SecretKey};
use tombola_core::message::{AccountState, EscrowAnswer, EscrowCommand, PayoutPolicy, Reference, Share, Shares};
use tombola_net::Address;
use tombola_node::config::Money;
use tombola_node::escrow_client::{EscrowClient, EscrowError};

/// Money out of an account, and by itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Withdraw: the amount leaves the balance now and is pending until the operator has paid it out.
    Withdraw {
        /// How much, the operator's fee included.
        amount: Money,
        /// Where to, as the operator understands it: an IBAN, an address, a name.
        destination: String,
        /// For your own books.
        #[arg(long, default_value = "")]
        reference: String,
    },
    /// Let the balance be paid out by itself; without an option, show how it is.
    Payout {
        /// As soon as the balance reaches this.
        #[arg(long, value_name = "AMOUNT")]
        threshold: Option<Money>,
        /// After this long, if the balance covers the smallest payout: 7d, 12h.
        #[arg(long, value_name = "TIME", value_parser = parse_span)]
        every: Option<u64>,
        /// Where to, as the operator understands it.
        #[arg(long)]
        destination: Option<String>,
        /// No more payouts by themselves.
        #[arg(long, conflicts_with_all = ["threshold", "every", "destination"])]
        off: bool,
    },
    /// Move an exact amount to another account at the same escrow, at once and for no fee.
    Transfer {
        /// The account: tom1... or the address of its node.
        #[arg(value_parser = crate::local::parse_account)]
        to: AccountKey,
        /// How much.
        amount: Money,
        /// For the other side to recognise it by.
        #[arg(long, default_value = "")]
        reference: String,
    },
}

/// What a payee does with what it earns.
#[derive(Debug, Subcommand)]
pub(crate) enum PayeeCommand {
    /// Show balance, what is pending, payouts and shares.
    Balance,
    /// Show what happened to the account.
    Statement {
        /// Only entries after this number.
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Go on with each entry as it happens, one a line, until Ctrl-C.
        #[arg(long)]
        follow: bool,
    },
    /// Divide what winners bring among other accounts; without an argument, show how it is.
    Split {
        /// An account and its share, such as tom1...=70%; the rest stays here.
        #[arg(value_name = "KEY=SHARE", value_parser = parse_share)]
        shares: Vec<(AccountKey, Percent)>,
        /// No more sharing.
        #[arg(long, conflicts_with = "shares")]
        off: bool,
    },
    /// Give money back to the payer of a book.
    Refund {
        /// The book, as the statement shows it.
        book: BookId,
        /// How much.
        amount: Money,
        /// For the payer to recognise it by.
        #[arg(long, default_value = "refund")]
        reference: String,
    },
}

/// An account's owner at its escrow.
pub(crate) struct Owner {
    key: SecretKey,
    client: EscrowClient,
    asset: Asset,
}

impl Owner {
    /// Of the account, or as a signer that it delegated to.
    pub(crate) fn new(
        key: SecretKey,
        account: Option<AccountKey>,
        escrow: Address,
        asset: Asset,
    ) -> Result<Self, Failure> {
        let account = account.unwrap_or_else(|| key.account());
        let client = EscrowClient::of_account(escrow, &key, account);
        let client = client.map_err(|error| Failure::escrow(&error, asset))?;
        Ok(Self { key, client, asset })
    }

    fn failed(&self, error: EscrowError) -> Failure {
        Failure::escrow(&error, self.asset)
    }

    async fn ask(&self, command: EscrowCommand) -> Result<EscrowAnswer, Failure> {
        self.client.request(command).await.map_err(|error| self.failed(error))
    }

    async fn header(&self) -> Result<tombola_core::message::RequestHeader, Failure> {
        self.client.request_header().await.map_err(|error| self.failed(error))
    }

    fn amount(&self, what: &'static str, amount: &Money) -> Result<Amount, Failure> {
        Ok(amount.amount(what, self.asset)?)
    }

    fn money(&self, amount: Amount) -> String {
        money(amount, self.asset)
    }

    /// The account's own state; a page of holds suffices.
    async fn state(&self) -> Result<AccountState, Failure> {
        match self.ask(EscrowCommand::Account { holds_after: 0 }).await? {
            EscrowAnswer::Account(state) => Ok(state),
            _ => Err(self.failed(EscrowError::Unintelligible)),
        }
    }

    async fn close(self) {
        self.client.close().await;
    }
}

/// Carries out what any owner can ask.
pub(crate) async fn run(owner: Owner, command: Command, output: Output) -> Result<(), Failure> {
    let done = match command {
        Command::Withdraw {
            amount,
            destination,
            reference,
        } => owner.withdraw(&amount, &destination, &reference, output).await,
        Command::Payout {
            threshold,
            every,
            destination,
            off,
        } => {
            let wish = match (off, destination) {
                (true, _) => PayoutWish::Off,
                (false, None) if threshold.is_none() && every.is_none() => PayoutWish::Show,
                (false, destination) => PayoutWish::Set {
                    threshold,
                    every_ms: every.unwrap_or(0),
                    destination: destination.unwrap_or_default(),
                },
            };
            owner.payout(wish, output).await
        }
        Command::Transfer { to, amount, reference } => {
            let amount = owner.amount("amount", &amount)?;
            owner.transfer(to, amount, &reference, None, output).await
        }
    };
    owner.close().await;
    done
}

/// Carries out what a payee can ask.
pub(crate) async fn run_payee(owner: Owner, command: PayeeCommand, output: Output) -> Result<(), Failure> {
    let done = match command {
        PayeeCommand::Balance => owner.balance(output).await,
        PayeeCommand::Statement { after, follow: true } => follow(&owner, after, output).await,
        PayeeCommand::Statement { after, follow: false } => owner.statement(after, output).await,
        PayeeCommand::Split { shares, off } if shares.is_empty() && !off => owner.show_split(output).await,
        PayeeCommand::Split { shares, .. } => owner.split(shares, output).await,
        PayeeCommand::Refund {
            book,
            amount,
            reference,
        } => owner.refund(book, &amount, &reference, output).await,
    };
    owner.close().await;
    done
}

/// What is to become of a payout policy.
enum PayoutWish {
    Off,
    Set {
        threshold: Option<Money>,
        every_ms: u64,
        destination: String,
    },
    Show,
}

impl Owner {
    async fn withdraw(
        &self,
        amount: &Money,
        destination: &str,
        reference: &str,
        output: Output,
    ) -> Result<(), Failure> {
        let amount = self.amount("amount", amount)?;
        let command = EscrowCommand::Withdraw {
            request: self.header().await?,
            amount,
            destination: reference_of("destination", destination)?,
            reference: reference_of("reference", reference)?,
        };
        let EscrowAnswer::WithdrawalPending { withdrawal, at, fee } = self.ask(command).await? else {
            return Err(self.failed(EscrowError::Unintelligible));
        };
        let goes_out = amount.saturating_sub(fee);
        let result = json!({
            "withdrawal": withdrawal,
            "amount": self.money(amount),
            "fee": self.money(fee),
            "goes_out": self.money(goes_out),
            "destination": destination,
            "reference": reference,
            "at": at,
        });
        output.result(&result, || {
            let (amount, fee, out) = (self.money(amount), self.money(fee), self.money(goes_out));
            format!(
                "withdrawal {withdrawal}: {amount} left the balance, {out} goes to {destination}, fee {fee}\n\
                 pending until the operator has paid it out; statement shows when"
            )
        });
        Ok(())
    }

    async fn payout(&self, wish: PayoutWish, output: Output) -> Result<(), Failure> {
        let policy = match wish {
            PayoutWish::Show => {
                let state = self.state().await?;
                let shown = payout_json(state.payout.as_ref(), self.asset);
                output.result(&json!({ "payout": shown.clone() }), || payout_text(&shown));
                return Ok(());
            }
            PayoutWish::Off => None,
            PayoutWish::Set {
                threshold,
                every_ms,
                destination,
            } => Some(PayoutPolicy {
                threshold: threshold.map_or(Ok(Amount::ZERO), |amount| self.amount("threshold", &amount))?,
                every_ms,
                destination: reference_of("destination", &destination)?,
            }),
        };
        let request = self.header().await?;
        let shown = payout_json(policy.as_ref(), self.asset);
        match self.ask(EscrowCommand::SetPayout { request, policy }).await? {
            EscrowAnswer::PayoutSet { at } => {
                output.result(&json!({ "payout": shown.clone(), "at": at }), || payout_text(&shown));
                Ok(())
            }
            _ => Err(self.failed(EscrowError::Unintelligible)),
        }
    }

    async fn balance(&self, output: Output) -> Result<(), Failure> {
        let state = self.state().await?;
        let mut result = json!({
            "account": state.account,
            "asset": self.asset.name(),
            "balance": self.money(state.balance),
            "held": self.money(state.held),
        });
        extend_with_custody(&mut result, &state, self.asset);
        output.result(&result, || crate::output::fields(&result));
        Ok(())
    }

    async fn show_split(&self, output: Output) -> Result<(), Failure> {
        let state = self.state().await?;
        let shown = shares_json(&state.shares);
        output.result(&json!({ "shares": shown.clone() }), || shares_text(&shown));
        Ok(())
    }

    async fn split(&self, shares: Vec<(AccountKey, Percent)>, output: Output) -> Result<(), Failure> {
        let shares = shares.into_iter().map(|(account, share)| Share {
            account,
            ppm: share.ppm(),
        });
        let shares: Shares = Shares::new(shares.collect())
            .map_err(|error| Failure::new("split", format!("shares: {error}")).next("name at most 32 accounts"))?;
        let shown = shares_json(&shares);
        let request = self.header().await?;
        match self.ask(EscrowCommand::SetSplit { request, shares }).await? {
            EscrowAnswer::SplitSet { at } => {
                output.result(&json!({ "shares": shown.clone(), "at": at }), || shares_text(&shown));
                Ok(())
            }
            _ => Err(self.failed(EscrowError::Unintelligible)),
        }
    }
}

/// A text of the wire.
fn reference_of(what: &str, given: &str) -> Result<Reference, Failure> {
    Reference::new(given).map_err(|error| {
        Failure::new("reference", format!("{what}: {error}")).next("give at most 128 bytes without control characters")
    })
}

/// Pending withdrawals, payout policy and shares of an account, put into what is shown of it.
pub(crate) fn extend_with_custody(shown: &mut Value, state: &AccountState, asset: Asset) {
    if let Some(object) = shown.as_object_mut() {
        object.insert("pending".to_owned(), money(state.pending, asset).into());
        object.insert("payout".to_owned(), payout_json(state.payout.as_ref(), asset));
        object.insert("shares".to_owned(), shares_json(&state.shares));
    }
}

fn payout_json(policy: Option<&PayoutPolicy>, asset: Asset) -> Value {
    policy.map_or(Value::Null, |policy| {
        json!({
            "threshold": (!policy.threshold.is_zero()).then(|| money(policy.threshold, asset)),
            "every": (policy.every_ms > 0).then(|| format::span(policy.every_ms)),
            "every_ms": policy.every_ms,
            "destination": policy.destination,
        })
    })
}

fn payout_text(policy: &Value) -> String {
    let destination = text(policy, "destination");
    match (text(policy, "threshold"), text(policy, "every")) {
        _ if policy.is_null() => "nothing is paid out by itself".to_owned(),
        ("", every) => format!("the balance is paid out to {destination} every {every}"),
        (threshold, "") => format!("the balance is paid out to {destination} once it reaches {threshold}"),
        (threshold, every) => {
            format!("the balance is paid out to {destination} once it reaches {threshold}, and every {every}")
        }
    }
}

fn shares_json(shares: &Shares) -> Value {
    let share = |share: &Share| json!({ "account": share.account, "ppm": share.ppm, "share": Percent::of(share.ppm).to_string() });
    shares.as_slice().iter().map(share).collect()
}

fn shares_text(shares: &Value) -> String {
    let lines: Vec<String> = shares
        .as_array()
        .into_iter()
        .flatten()
        .map(|share| format!("{:>9}  {}", text(share, "share"), text(share, "account")))
        .collect();
    match lines.is_empty() {
        true => "what winners bring is not shared".to_owned(),
        false => format!(
            "of what winners bring, in this order; the rest stays here:\n{}",
            lines.join("\n")
        ),
    }
}
