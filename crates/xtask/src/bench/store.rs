//! The stores that an escrow is measured on.

use super::claims::{Prepared, verified_a_second};
use super::escrow_world::escrow_key;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tombola_node::config::EscrowConfig;
use tombola_node::escrow::{Consent, DatabasePlace, Escrow, EscrowOptions, StorePlace, WitnessOptions};
use tombola_store::block_on::block_on;
use tombola_store::escrow_store::EscrowStore;
use tombola_store::postgres_store::PostgresStore;
use tombola_store::redb_store::RedbStore;
use tombola_tests::postgres::Server;

/// Read at once.
const READ_BYTES: usize = 1 << 20;

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StoreKind {
    /// In a file.
    Redb,
    /// On a PostgreSQL server started for the purpose.
    Postgres,
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redb => "redb",
            Self::Postgres => "postgres",
        })
    }
}

/// Where a store is, for as long as it is measured.
pub(super) struct Home {
    directory: TempDir,
    server: Option<(Server, String)>,
}

impl Home {
    pub(super) fn new(kind: StoreKind) -> Result<Self, String> {
        let server = match kind {
            StoreKind::Redb => None,
            StoreKind::Postgres => {
                let server = Server::start(&[]);
                server.program("pgbench", &["-i", "-q", "-s", "10", "postgres"]);
                let address = server.database();
                Some((server, address))
            }
        };
        Ok(Self {
            directory: tempfile::tempdir().map_err(text)?,
            server,
        })
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("escrow.redb")
    }

    /// Opens the store for whoever fills it.
    pub(super) fn open(&self, runtime: &Handle) -> Result<EscrowStore, String> {
        match &self.server {
            None => RedbStore::open(self.file()).map(EscrowStore::Redb).map_err(text),
            Some((_, address)) => {
                let store = block_on(PostgresStore::open(address, runtime.clone())).map_err(text)?;
                Ok(EscrowStore::Postgres(store))
            }
        }
    }

    /// Starts an escrow on it.
    pub(super) async fn serve(&self) -> Result<Escrow, String> {
        let store = match &self.server {
            None => StorePlace::File(self.file()),
            Some((_, address)) => StorePlace::Database(DatabasePlace::new(address.clone(), 0)),
        };
        let terms = EscrowConfig {
            fee_ppm: 0,
            ..EscrowConfig::default()
        };
        Escrow::serve(EscrowOptions {
            key: escrow_key(),
            listen: ([127, 0, 0, 1], 0).into(),
            terms: terms.terms().map_err(text)?,
            name: "bench".to_owned(),
            store,
            // What filled the store kept no witness.
            witness: WitnessOptions {
                path: self.directory.path().join("witness"),
                consent: Consent::NewWitness,
            },
        })
        .await
        .map_err(text)
    }

    /// What the machine does at best: the claims verified and nothing else, or the server's own yardstick.
    pub(super) fn floor(&self, claims: &[Prepared]) -> Result<f64, String> {
        let Some((server, _)) = &self.server else {
            return verified_a_second(claims);
        };
        let report = server.program("pgbench", &["-c", "8", "-j", "2", "-T", "5", "postgres"]);
        let tps = report.lines().find_map(|line| line.strip_prefix("tps = "));
        let tps = tps
            .and_then(|rest| rest.split(' ').next())
            .and_then(|number| number.parse().ok());
        tps.ok_or_else(|| format!("pgbench did not say its rate: {report}"))
    }

    /// Milliseconds of what a start cannot do without: every byte of the file read once, or one answer of the server.
    pub(super) fn start_floor(&self) -> Result<f64, String> {
        let start = Instant::now();
        match &self.server {
            None => {
                let mut file = File::open(self.file()).map_err(text)?;
                let mut chunk = vec![0; READ_BYTES];
                while file.read(&mut chunk).map_err(text)? > 0 {
                    std::hint::black_box(&chunk);
                }
            }
            Some((server, _)) => drop(server.program("psql", &["-c", "SELECT 1", "postgres"])),
        }
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    pub(super) fn start_floor_note(&self) -> String {
        match self.server {
            None => "floor: the file read once, from memory where it is there".to_owned(),
            Some(_) => "floor: one answer of the same server to psql".to_owned(),
        }
    }

    pub(super) fn floor_note(&self) -> String {
        match self.server {
            None => "floor: the same claims verified on both cores, and nothing else".to_owned(),
            Some(_) => "floor: transactions/s of pgbench's TPC-B, 8 clients, scale 10, on the same server".to_owned(),
        }
    }
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}
