//! Who else may sign on an account, so that its own key can stay offline.

use super::Owner;
use super::format::parse_span;
use crate::exit::Failure;
use crate::output::{Output, date};
use serde_json::json;
use tombola_core::amount::Amount;
use tombola_core::codec::List;
use tombola_core::hold::Delegation;
use tombola_core::key::{AccountKey, Signed};
use tombola_core::message::{EscrowAnswer, EscrowCommand};
use tombola_node::config::Money;
use tombola_node::escrow_client::EscrowError;

/// Who else may sign on a payer's account.
#[derive(Debug, clap::Args)]
pub(crate) struct Delegate {
    /// The key that may open holds and sign books: tom1...
    #[arg(value_parser = crate::local::parse_account)]
    signer: AccountKey,
    /// The most that its holds may set aside or have paid.
    #[arg(long, value_name = "AMOUNT", required_unless_present = "revoke")]
    spend_max: Option<Money>,
    /// The largest face value of its tickets.
    #[arg(long, value_name = "AMOUNT", required_unless_present = "revoke")]
    face_max: Option<Money>,
    /// Whom it may pay; repeat it for several. Without it: anyone.
    #[arg(long = "payee", value_name = "KEY", value_parser = crate::local::parse_account)]
    payees: Vec<AccountKey>,
    /// How long: 30d, 12h.
    #[arg(long, value_name = "TIME", value_parser = parse_span, default_value = "30d")]
    expires: u64,
    /// Take it back. Books under holds that are open stay good.
    #[arg(long, conflicts_with_all = ["spend_max", "face_max", "payees"])]
    revoke: bool,
}

/// Lets another key sign on the account, or takes that back.
pub(crate) async fn delegate(owner: Owner, wish: Delegate, output: Output) -> Result<(), Failure> {
    let done = owner.delegate(wish, output).await;
    owner.close().await;
    done
}

impl Owner {
    async fn delegate(&self, wish: Delegate, output: Output) -> Result<(), Failure> {
        let given = |what, amount: &Option<Money>| {
            amount
                .as_ref()
                .map_or(Ok(Amount::ZERO), |amount| self.amount(what, amount))
        };
        let request = self.header().await?;
        // The escrow's time grows from one delegation to the next, as serials must, and needs no memory here.
        let now = request.issued_at;
        let delegation = Delegation {
            escrow: self.client.address().key,
            account: self.key.account(),
            signer: wish.signer,
            spend_max: given("spend-max", &wish.spend_max)?,
            face_value_max: given("face-max", &wish.face_max)?,
            payees: List::new(wish.payees)
                .map_err(|error| Failure::new("payees", format!("payees: {error}")).next("name at most 32"))?,
            expires_at: now.plus_ms(wish.expires),
            serial: now.0,
        };
        if !wish.revoke && delegation.spend_max.is_zero() {
            return Err(Failure::new("amount", "spend-max is 0, which would revoke").next("give --revoke for that"));
        }
        let result = json!({
            "account": delegation.account,
            "signer": delegation.signer,
            "revoked": wish.revoke,
            "spend_max": self.money(delegation.spend_max),
            "face_max": self.money(delegation.face_value_max),
            "payees": delegation.payees,
            "expires_at": date(delegation.expires_at),
            "serial": delegation.serial,
        });
        let (signer, account, until) = (delegation.signer, delegation.account, date(delegation.expires_at));
        let limit = self.money(delegation.spend_max);
        let delegation = Signed::new(delegation, &self.key);
        match self.ask(EscrowCommand::Delegate { request, delegation }).await? {
            EscrowAnswer::Delegated { .. } => {}
            _ => return Err(self.failed(EscrowError::Unintelligible)),
        }
        output.result(&result, || match wish.revoke {
            true => format!("{signer} may sign no more; its open holds stay good"),
            false => format!(
                "{signer} may spend up to {limit} until {until}\n\
                 next, in the signer's config.toml: account = \"{account}\""
            ),
        });
        Ok(())
    }
}
