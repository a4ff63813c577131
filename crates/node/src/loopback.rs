//! The three nodes on loopback in one directory, with their real stores: what the demo, the figures and tests run on.

use crate::config::{EscrowConfig, PayeeConfig, PayerConfig};
use crate::escrow::{Escrow, EscrowNodeError, EscrowOptions, WitnessOptions};
use crate::key_file;
use crate::payee::{Catalog, Payee, PayeeError, PayeeOptions};
use crate::payer::{Payer, PayerError, PayerOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tombola_core::amount::Amount;
use tombola_core::message::Reference;

/// What differs from the defaults.
#[derive(Debug, Clone)]
pub struct LoopbackOptions {
    /// The payer's deposit.
    pub deposit: Amount,
    /// The escrow's settings.
    pub escrow: EscrowConfig,
    /// The payee's settings.
    pub payee: PayeeConfig,
    /// The payer's settings.
    pub payer: PayerConfig,
}

impl Default for LoopbackOptions {
    fn default() -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            deposit: Amount(1_000_000_000_000),
            escrow: EscrowConfig {
                listen: any_port,
                ..EscrowConfig::default()
            },
            payee: PayeeConfig {
                listen: any_port,
                ..PayeeConfig::default()
            },
            payer: PayerConfig::default(),
        }
    }
}

/// The three nodes, running.
pub struct Loopback {
    /// Keeps deposits.
    pub escrow: Escrow,
    /// Sells.
    pub payee: Payee,
    /// Buys.
    pub payer: Payer,
}

impl Loopback {
    /// Starts all three below a directory and makes the deposit.
    ///
    /// # Errors
    /// [`LoopbackError`] from whichever does not start.
    pub async fn start(
        directory: &Path,
        options: &LoopbackOptions,
        catalog: impl Catalog,
    ) -> Result<Self, LoopbackError> {
        let file = |role: &str, name: &str| -> Result<PathBuf, LoopbackError> {
            let home = directory.join(role);
            std::fs::create_dir_all(&home).map_err(|error| LoopbackError::Directory(error.kind()))?;
            Ok(home.join(name))
        };
        let escrow = Escrow::serve(EscrowOptions {
            key: key_file::create(&file("escrow", key_file::KEY_FILE)?)?,
            listen: options.escrow.listen,
            terms: options.escrow.terms()?,
            name: options.escrow.name.clone(),
            store: file("escrow", "escrow.redb")?.into(),
            witness: WitnessOptions::at(file("escrow", "witness")?),
        })
        .await?;
        let payee = Payee::serve(
            PayeeOptions {
                key: key_file::create(&file("payee", key_file::KEY_FILE)?)?,
                listen: options.payee.listen,
                escrow: escrow.address().clone(),
                terms: options.payee.terms()?,
                store: file("payee", "payee.redb")?,
            },
            catalog,
        )
        .await?;
        let payer = Payer::connect(PayerOptions {
            key: key_file::create(&file("payer", key_file::KEY_FILE)?)?,
            escrow: escrow.address().clone(),
            terms: options.payer.terms()?,
            store: file("payer", "payer.redb")?,
        })?;
        let reference = Reference::new("first deposit").map_err(EscrowNodeError::Name)?;
        escrow.deposit(&payer.account(), options.deposit, &reference).await?;
        Ok(Self { escrow, payee, payer })
    }

    /// Stops all three, the escrow last.
    pub async fn stop(self) {
        self.payer.shutdown().await;
        self.payee.shutdown().await;
        self.escrow.shutdown().await;
    }
}

/// Which of the three did not start, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoopbackError {
    /// A setting is out of range.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The directory cannot be used.
    #[error("the directory cannot be used: {0}")]
    Directory(std::io::ErrorKind),
    /// The escrow.
    #[error("escrow: {0}")]
    Escrow(#[from] EscrowNodeError),
    /// A key file.
    #[error(transparent)]
    Key(#[from] key_file::KeyFileError),
    /// The payee.
    #[error("payee: {0}")]
    Payee(#[from] PayeeError),
    /// The payer.
    #[error("payer: {0}")]
    Payer(#[from] PayerError),
}
