//! Holds opened a second at a running escrow, each by a payer of its own on one of a few connections.

use super::escrow_world::{PAYEES, config, header, hold_request, payee_key};
use super::store::{Home, StoreKind};
use super::{Better, Figure, RUNS};
use std::sync::Arc;
use std::time::Instant;
use tombola_core::amount::Amount;
use tombola_core::key::{AccountKey, SecretKey};
use tombola_core::message::{EscrowAnswer, EscrowCommand, Reference};
use tombola_ledger::ledger::{Command, Ledger};
use tombola_node::clock;
use tombola_node::escrow_client::EscrowClient;
use tombola_store::block_on::block_on;

/// Holds of one run.
const HOLDS: u64 = 16_384;
/// Payers, each with a connection; an account may have 1,000 open holds.
const PAYERS: u64 = 128;
/// Requests of one payer that are on their way at once: an escrow works on 256 of one address.
const IN_FLIGHT: u64 = 2;

pub(super) fn run(kind: StoreKind) -> Result<Vec<Figure>, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(text)?;
    let home = Home::new(kind)?;
    let store = home.open(runtime.handle())?;
    let mut ledger = block_on(Ledger::open(store, config("bench", 0)?, clock::now())).map_err(text)?;
    let keys: Vec<SecretKey> = (0..PAYERS).map(payer_key).collect();
    let mut deposits = Vec::new();
    for key in &keys {
        deposits.push(Command::Deposit {
            account: key.account().check().map_err(text)?,
            amount: Amount(u64::MAX / 64 / PAYERS / 2),
            reference: Reference::new(key.account().to_string()).map_err(text)?,
        });
    }
    block_on(ledger.execute(deposits, clock::now())).map_err(text)?;
    drop(ledger);
    let escrow = runtime.block_on(home.serve())?;
    let payees: Arc<[AccountKey]> = (0..PAYEES).map(|number| payee_key(number).account()).collect();
    let measured = runtime.block_on(async {
        let mut clients = Vec::new();
        for key in &keys {
            let client = EscrowClient::new(escrow.address().clone(), key).map_err(text)?;
            // One after another: only so many handshakes of one address go on at once.
            client.info().await.map_err(text)?;
            clients.push(Arc::new(client));
        }
        let (mut rates, mut floors) = (Vec::new(), Vec::new());
        for run in 0..RUNS {
            let first = u64::try_from(run).unwrap_or(0) * HOLDS;
            floors.push(signed_a_second());
            let start = Instant::now();
            open(&clients, &payees, first).await?;
            rates.push(HOLDS as f64 / start.elapsed().as_secs_f64());
        }
        Ok::<_, String>((rates, floors))
    });
    runtime.block_on(escrow.shutdown());
    let (rates, floors) = measured?;
    let note = "durable, signed, from 128 payers to 16 payees; floor: the signatures alone, on both cores";
    Ok(vec![
        Figure::new(&format!("open-holds-{kind}"), "holds/s", Better::More, rates, floors).with_note(note),
    ])
}

fn payer_key(number: u64) -> SecretKey {
    let mut seed = [9; 32];
    for (slot, byte) in seed.iter_mut().zip(number.to_le_bytes()) {
        *slot = byte;
    }
    SecretKey::from_seed(&seed)
}

async fn open(clients: &[Arc<EscrowClient>], payees: &Arc<[AccountKey]>, first: u64) -> Result<(), String> {
    let each = HOLDS / PAYERS / IN_FLIGHT;
    let mut opening = tokio::task::JoinSet::new();
    for (payer, client) in (0u64..).zip(clients) {
        for lane in 0..IN_FLIGHT {
            let client = Arc::clone(client);
            let payees = Arc::clone(payees);
            let first = first + (payer * IN_FLIGHT + lane) * each;
            opening.spawn(async move {
                for (number, payee) in (first..first + each).zip(payees.iter().cycle()) {
                    let now = clock::now();
                    let mut hold = hold_request(client.account(), *payee, now);
                    hold.cap = Amount(hold.face_value_max.0);
                    let request = header(number, now);
                    match client.request(EscrowCommand::OpenHold { request, hold }).await {
                        Ok(EscrowAnswer::Hold(_)) => {}
                        other => return Err(format!("{other:?}")),
                    }
                }
                Ok(())
            });
        }
    }
    while let Some(done) = opening.join_next().await {
        done.map_err(text)??;
    }
    Ok(())
}

/// Signatures of as many bytes as a hold has, a second, on two cores.
fn signed_a_second() -> f64 {
    let count = 8_192u32;
    let sign = || {
        let key = payer_key(0);
        for number in 0..count {
            let mut bytes = [7; 256];
            bytes[..4].copy_from_slice(&number.to_le_bytes());
            std::hint::black_box(key.sign_bytes(&bytes));
        }
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(sign);
        sign();
    });
    f64::from(count * 2) / start.elapsed().as_secs_f64()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
