//! The configuration of a role: TOML, every setting with its default and a comment, unknown keys refused.
//!
//! A configuration is text that people edit; [`EscrowConfig::terms`] and its siblings turn it into what the protocol
//! works with, and check every range on the way. Settings given on a command line are put into the configuration first,
//! so that they go through the same checks.

mod error;
mod file;
mod money;
mod store;

pub use error::ConfigError;
pub use file::{ConfigFile, Section};
pub use money::{Money, ParseBytesError, parse_bytes};
pub use store::{DatabaseUrl, ParseDatabaseUrlError, StoreConfig};

use error::{check_metrics, check_range};
use file::config;
use std::net::SocketAddr;
use std::path::PathBuf;
use tombola_core::amount::{Amount, Asset, DAY_MS, HOUR_MS, MINUTE_MS};
use tombola_core::hold::Fee;
use tombola_core::key::AccountKey;
use tombola_core::limits::{
    BOOK_LENGTH_DEFAULT, BOOK_LENGTH_MAX, HOLD_LIFE_ACCEPTED_MS, HOLD_LIFE_DEFAULT_MS, HOLD_LIFE_MAX_MS, JUMP_DEFAULT,
    OPENS_PER_SECOND_MAX, REDEEM_WINDOW_DEFAULT_MS, REDEEM_WINDOW_MIN_MS, UNIT_BYTES_MAX,
};
use tombola_net::Address;

/// The configuration file of a home.
pub const CONFIG_FILE: &str = "config.toml";
/// A whole, in millionths.
const PPM_WHOLE: u64 = 1_000_000;
/// Most units a payee may deliver ahead of payment: at the default price this is one dollar.
const CREDIT_UNITS_MAX: u64 = 10_000;
/// Long enough for an escrow to be restarted or updated while a purchase waits.
const ESCROW_PATIENCE_DEFAULT_MS: u64 = 5 * MINUTE_MS;
/// Nobody waits longer than a day for one purchase.
const ESCROW_PATIENCE_MAX_MS: u64 = DAY_MS;
/// Longest name of an escrow.
const NAME_BYTES_MAX: u64 = 64;

config! {
    /// What an escrow is set to.
    EscrowConfig in "escrow" {
        /// Address and UDP port to listen on.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7_400));
        /// Name shown to payers and payees.
        name: String = "escrow".to_owned();
        /// Asset that is counted. An escrow key serves one asset for life: do not change it later.
        asset: String = "USD".to_owned();
        /// Decimal places of the asset. Do not change it later.
        decimals: u8 = 9;
        /// Fee of each winning ticket, out of the payee's credit.
        fee_flat: Money = Money::literal("0");
        /// Fee of each winning ticket in millionths of its face value, on top of fee_flat.
        fee_ppm: u32 = 0;
        /// Smallest face value of a ticket.
        face_value_min: Money = Money::literal("0.0001");
        /// Smallest cap of a hold.
        cap_min: Money = Money::literal("0.001");
        /// Witness file, by which a store that lost its end is noticed. Unset: HOME/witness; better another disk or machine.
        witness: Option<PathBuf> = None;
        /// Fee of each withdrawal and automatic payout, out of what is withdrawn.
        payout_fee: Money = Money::literal("0");
        /// Smallest withdrawal.
        payout_min: Money = Money::literal("0.01");
        /// Address and TCP port of the metrics for Prometheus, such as 127.0.0.1:9400. Unset: none.
        metrics_listen: Option<SocketAddr> = None;
        /// Let metrics_listen be an address that other machines reach; the numbers tell how business is.
        metrics_beyond_loopback: bool = false;
        section
        /// Where the ledger is: a file in this directory, or a database that several escrow processes share.
        store: StoreConfig;
    }
}

/// What an escrow's configuration means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EscrowTerms {
    /// What is counted.
    pub asset: Asset,
    /// The fee of each winner.
    pub fee: Fee,
    /// Smallest face value.
    pub face_value_min: Amount,
    /// Smallest cap of a hold.
    pub cap_min: Amount,
    /// Fee of each withdrawal.
    pub payout_fee: Amount,
    /// Smallest withdrawal.
    pub payout_min: Amount,
}

impl EscrowConfig {
    /// Reads the amounts and checks every range.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting and both numbers.
    pub fn terms(&self) -> Result<EscrowTerms, ConfigError> {
        let asset = asset(&self.asset, self.decimals)?;
        check_metrics(self.metrics_listen, self.metrics_beyond_loopback)?;
        let name_bytes = u64::try_from(self.name.len()).unwrap_or(u64::MAX);
        check_range("name", name_bytes, 1, NAME_BYTES_MAX)?;
        check_range("fee_ppm", self.fee_ppm.into(), 0, PPM_WHOLE)?;
        self.store.check()?;
        Ok(EscrowTerms {
            asset,
            fee: Fee {
                flat: self.fee_flat.amount("fee_flat", asset)?,
                ppm: self.fee_ppm,
            },
            face_value_min: self.face_value_min.positive("face_value_min", asset)?,
            cap_min: self.cap_min.positive("cap_min", asset)?,
            payout_fee: self.payout_fee.amount("payout_fee", asset)?,
            payout_min: self.payout_min.amount("payout_min", asset)?,
        })
    }
}

config! {
    /// What a payee is set to.
    PayeeConfig in "payee" {
        /// Address and UDP port to listen on.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7_401));
        /// Address of the escrow whose holds are taken: tombola://KEY@HOST:PORT.
        escrow: Option<Address> = None;
        /// Asset of that escrow.
        asset: String = "USD".to_owned();
        /// Decimal places of that asset.
        decimals: u8 = 9;
        /// Directory whose files are sold.
        files: Option<PathBuf> = None;
        /// Price of one unit: one ticket pays it in expectation.
        price: Money = Money::literal("0.0001");
        /// Bytes of one unit.
        per_bytes: u32 = 65_536;
        /// Smallest face value of a ticket.
        face_value_min: Money = Money::literal("0.001");
        /// Largest face value of a ticket.
        face_value_max: Money = Money::literal("1.00");
        /// Tickets in one book at most.
        book_length_max: u32 = BOOK_LENGTH_DEFAULT;
        /// Tickets that one record may pay at most; each costs a hash before it is known to be good.
        jump_max: u32 = JUMP_DEFAULT;
        /// Units delivered to one payer ahead of payment. 0: first the ticket, then the unit.
        credit_units: u32 = 0;
        /// Largest flat fee of a winner that is accepted.
        fee_flat_max: Money = Money::literal("0.0001");
        /// Largest fee of a winner in millionths of its face value that is accepted.
        fee_ppm_max: u32 = 20_000;
        /// Winners worth this much together are redeemed at once.
        redeem_at_value: Money = Money::literal("1.00");
        /// Least time from the expiry of a hold to the end of redeeming, in milliseconds.
        redeem_window_min_ms: u64 = REDEEM_WINDOW_MIN_MS;
        /// Longest time from the opening of a hold to the end of its redeeming, in milliseconds: a hold is remembered as long.
        hold_life_max_ms: u64 = HOLD_LIFE_ACCEPTED_MS;
        /// Books that one payer may open per second.
        opens_per_second: u32 = OPENS_PER_SECOND_MAX;
        /// Address and TCP port of the metrics for Prometheus, such as 127.0.0.1:9400. Unset: none.
        metrics_listen: Option<SocketAddr> = None;
        /// Let metrics_listen be an address that other machines reach; the numbers tell how business is.
        metrics_beyond_loopback: bool = false;
    }
}

/// What a payee's configuration means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayeeTerms {
    /// What is counted.
    pub asset: Asset,
    /// Price of one unit.
    pub price: Amount,
    /// Bytes of one unit.
    pub per_bytes: u32,
    /// Smallest face value.
    pub face_value_min: Amount,
    /// Largest face value.
    pub face_value_max: Amount,
    /// Tickets in one book.
    pub book_length_max: u32,
    /// Tickets that one record may pay.
    pub jump_max: u32,
    /// Units ahead of payment.
    pub credit_units: u32,
    /// Largest fee of each winner.
    pub fee_max: Fee,
    /// Winners worth this much are redeemed at once.
    pub redeem_at_value: Amount,
    /// Least time from expiry to the end of redeeming.
    pub redeem_window_min_ms: u64,
    /// Longest time from the opening of a hold to the end of redeeming.
    pub hold_life_max_ms: u64,
    /// Books one payer may open per second.
    pub opens_per_second: u32,
}

impl PayeeConfig {
    /// Reads the amounts and checks every range.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting and both numbers.
    pub fn terms(&self) -> Result<PayeeTerms, ConfigError> {
        let asset = asset(&self.asset, self.decimals)?;
        check_metrics(self.metrics_listen, self.metrics_beyond_loopback)?;
        check_range("per_bytes", self.per_bytes.into(), 1, UNIT_BYTES_MAX.into())?;
        let longest = BOOK_LENGTH_MAX.into();
        check_range("book_length_max", self.book_length_max.into(), 1, longest)?;
        check_range("jump_max", self.jump_max.into(), 1, longest)?;
        check_range("credit_units", self.credit_units.into(), 0, CREDIT_UNITS_MAX)?;
        check_range("fee_ppm_max", self.fee_ppm_max.into(), 0, PPM_WHOLE)?;
        let (shortest, longest) = (REDEEM_WINDOW_MIN_MS, HOLD_LIFE_MAX_MS);
        check_range("redeem_window_min_ms", self.redeem_window_min_ms, shortest, longest)?;
        // No hold would be short enough otherwise.
        let shortest = self.redeem_window_min_ms.saturating_add(HOUR_MS).min(longest);
        check_range("hold_life_max_ms", self.hold_life_max_ms, shortest, longest)?;
        let most_opens = OPENS_PER_SECOND_MAX.into();
        check_range("opens_per_second", self.opens_per_second.into(), 1, most_opens)?;
        let face_value_min = self.face_value_min.positive("face_value_min", asset)?;
        let price = self.price.positive("price", asset)?;
        let face_value_max = self.face_value_max.positive("face_value_max", asset)?;
        // A ticket pays its price in expectation, so no face value may lie below the price.
        for (key, floor) in [("face_value_min", face_value_min), ("price", price)] {
            if face_value_max < floor {
                return Err(ConfigError::AmountBelow {
                    key: "face_value_max",
                    given: face_value_max.decimal(asset.decimals),
                    floor_key: key,
                    floor: floor.decimal(asset.decimals),
                });
            }
        }
        Ok(PayeeTerms {
            asset,
            price,
            per_bytes: self.per_bytes,
            face_value_min,
            face_value_max,
            book_length_max: self.book_length_max,
            jump_max: self.jump_max,
            credit_units: self.credit_units,
            fee_max: Fee {
                flat: self.fee_flat_max.amount("fee_flat_max", asset)?,
                ppm: self.fee_ppm_max,
            },
            redeem_at_value: self.redeem_at_value.amount("redeem_at_value", asset)?,
            redeem_window_min_ms: self.redeem_window_min_ms,
            hold_life_max_ms: self.hold_life_max_ms,
            opens_per_second: self.opens_per_second,
        })
    }
}

config! {
    /// What a payer is set to.
    PayerConfig in "payer" {
        /// Address of the escrow that keeps the deposit: tombola://KEY@HOST:PORT.
        escrow: Option<Address> = None;
        /// Asset of that escrow.
        asset: String = "USD".to_owned();
        /// Decimal places of that asset.
        decimals: u8 = 9;
        /// Account that pays, if this payer's key is a signer that the account delegated to. Unset: the key's own.
        account: Option<AccountKey> = None;
        /// Worth of tickets given to one payee and not yet acknowledged. Unset: one face value or 64 prices.
        window_value: Option<Money> = None;
        /// Largest flat fee of a winner that is accepted; the payee bears it.
        fee_flat_max: Money = Money::literal("0.0001");
        /// Largest fee of a winner in millionths of its face value that is accepted.
        fee_ppm_max: u32 = 20_000;
        /// Life of a new hold, in milliseconds.
        hold_life_ms: u64 = HOLD_LIFE_DEFAULT_MS;
        /// Time from the expiry of a new hold to the end of redeeming, in milliseconds.
        redeem_window_ms: u64 = REDEEM_WINDOW_DEFAULT_MS;
        /// How long a purchase that needs a top-up waits for an escrow that is away, in milliseconds.
        escrow_patience_ms: u64 = ESCROW_PATIENCE_DEFAULT_MS;
        /// Address and TCP port of the metrics for Prometheus, such as 127.0.0.1:9400. Unset: none.
        metrics_listen: Option<SocketAddr> = None;
        /// Let metrics_listen be an address that other machines reach; the numbers tell how business is.
        metrics_beyond_loopback: bool = false;
    }
}

/// What a payer's configuration means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayerTerms {
    /// What is counted.
    pub asset: Asset,
    /// The account that pays, if not the key's own.
    pub account: Option<AccountKey>,
    /// Unacknowledged worth per payee, if set.
    pub window_value: Option<Amount>,
    /// Largest fee of each winner.
    pub fee_max: Fee,
    /// Life of a new hold.
    pub hold_life_ms: u64,
    /// Time from its expiry to the end of redeeming.
    pub redeem_window_ms: u64,
    /// How long a purchase that needs a top-up waits for an escrow that is away.
    pub escrow_patience_ms: u64,
}

impl PayerConfig {
    /// Reads the amounts and checks every range.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting and both numbers.
    pub fn terms(&self) -> Result<PayerTerms, ConfigError> {
        let asset = asset(&self.asset, self.decimals)?;
        check_metrics(self.metrics_listen, self.metrics_beyond_loopback)?;
        check_range("fee_ppm_max", self.fee_ppm_max.into(), 0, PPM_WHOLE)?;
        let (shortest, longest) = (REDEEM_WINDOW_MIN_MS, HOLD_LIFE_ACCEPTED_MS);
        check_range("redeem_window_ms", self.redeem_window_ms, shortest, longest)?;
        // Both together are what the escrow promises for; a longer hold is refused by the payee that it is for, and only time
        // ends it then.
        let longest = HOLD_LIFE_ACCEPTED_MS.saturating_sub(self.redeem_window_ms);
        check_range("hold_life_ms", self.hold_life_ms, HOUR_MS.min(longest), longest)?;
        check_range("escrow_patience_ms", self.escrow_patience_ms, 0, ESCROW_PATIENCE_MAX_MS)?;
        let window_value = self.window_value.as_ref();
        Ok(PayerTerms {
            asset,
            account: self.account,
            window_value: window_value
                .map(|value| value.positive("window_value", asset))
                .transpose()?,
            fee_max: Fee {
                flat: self.fee_flat_max.amount("fee_flat_max", asset)?,
                ppm: self.fee_ppm_max,
            },
            hold_life_ms: self.hold_life_ms,
            redeem_window_ms: self.redeem_window_ms,
            escrow_patience_ms: self.escrow_patience_ms,
        })
    }
}

impl PayerTerms {
    /// The most that unacknowledged tickets of one book may be worth together, in expectation: the setting, or by
    /// default the larger of one face value and 64 prices.
    #[must_use]
    pub fn window_value(&self, face_value: Amount, price: Amount) -> Amount {
        let default = || tombola_core::payer::Window::value_default(price, face_value);
        self.window_value.unwrap_or_else(default)
    }
}

fn asset(name: &str, decimals: u8) -> Result<Asset, ConfigError> {
    Asset::new(name, decimals).ok_or_else(|| ConfigError::Asset {
        name: name.to_owned(),
        decimals,
    })
}

#[cfg(test)]
mod tests;
