//! Durable claims a second at a running escrow: prepared beforehand, sent over QUIC, every receipt checked by its payee.

use super::escrow_world::{PAYEES, TICKETS, claims, config, escrow_key, fill, payee_key};
use super::store::{Home, StoreKind};
use super::{Better, Figure, RUNS};
use std::sync::Arc;
use std::time::Instant;
use tombola_core::claim::{Claim, ClaimBatch};
use tombola_core::codec::List;
use tombola_core::hold::Hold;
use tombola_core::message::{ClaimAnswer, EscrowAnswer, EscrowCommand};
use tombola_ledger::ledger::Ledger;
use tombola_node::clock;
use tombola_node::escrow::Escrow;
use tombola_node::escrow_client::EscrowClient;
use tombola_store::block_on::block_on;

/// Claims of one run.
const CLAIMS: u64 = 8_192;
/// Claims of one request.
const PER_BATCH: usize = 64;
/// Holds that claims are spread over, at most: the others are there to be in the way.
const HOLDS_CLAIMED: u64 = 50_000;

pub(super) fn run(kind: StoreKind, accounts: u64) -> Result<Vec<Figure>, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let home = Home::new(kind)?;
    let store = home.open(runtime.handle())?;
    let mut ledger =
        block_on(Ledger::open(store, config("bench", 0)?, clock::now())).map_err(|error| error.to_string())?;
    eprintln!("  {accounts} accounts with a hold each ...");
    let holds = fill(&mut ledger, accounts, accounts.div_ceil(HOLDS_CLAIMED), clock::now())?;
    drop(ledger);
    let all = CLAIMS * (u64::try_from(RUNS).unwrap_or(0) + 1);
    eprintln!("  {all} claims of {TICKETS} tickets ...");
    let prepared = claims(&holds, all, 0)?;
    let (mut starts, mut start_floors) = (Vec::new(), Vec::new());
    let mut start = || {
        start_floors.push(home.start_floor()?);
        let start = Instant::now();
        let escrow = runtime.block_on(home.serve())?;
        starts.push(start.elapsed().as_secs_f64() * 1e3);
        Ok::<_, String>(escrow)
    };
    for _ in 1..RUNS {
        runtime.block_on(start()?.shutdown());
    }
    let escrow = start()?;
    let measured = runtime.block_on(measure(&escrow, prepared, &home));
    runtime.block_on(escrow.shutdown());
    let (rates, floors) = measured?;
    let name = format!("claims-{kind}-{accounts}");
    let rate = Figure::new(&name, "claims/s", Better::More, rates, floors).with_note(home.floor_note());
    let name = format!("start-{kind}-{accounts}");
    let start = Figure::new(&name, "ms", Better::Less, starts, start_floors)
        .with_note(format!("from the first read to serving; {}", home.start_floor_note()));
    Ok(vec![rate, start])
}

/// A payer by its number, its hold, and a claim on it.
pub(super) type Prepared = (u64, Hold, Claim);

async fn measure(escrow: &Escrow, mut prepared: Vec<Prepared>, home: &Home) -> Result<(Vec<f64>, Vec<f64>), String> {
    let mut clients = Vec::new();
    for number in 0..PAYEES {
        let client =
            EscrowClient::new(escrow.address().clone(), &payee_key(number)).map_err(|error| error.to_string())?;
        clients.push(Arc::new(client));
    }
    let (mut rates, mut floors) = (Vec::new(), Vec::new());
    let count = usize::try_from(CLAIMS).unwrap_or(usize::MAX);
    let warm_up = prepared.split_off(prepared.len() - count);
    redeem(&clients, warm_up).await?;
    for _ in 0..RUNS {
        let run = prepared.split_off(prepared.len() - count);
        floors.push(home.floor(&run)?);
        let start = Instant::now();
        redeem(&clients, run).await?;
        rates.push(CLAIMS as f64 / start.elapsed().as_secs_f64());
    }
    Ok((rates, floors))
}

/// Sends all claims by their payees, and checks each receipt.
async fn redeem(clients: &[Arc<EscrowClient>], claims: Vec<Prepared>) -> Result<(), String> {
    let mut by_payee: Vec<Vec<Claim>> = vec![Vec::new(); clients.len()];
    for (payer, _, claim) in claims {
        let payee = usize::try_from(payer % PAYEES).unwrap_or(0);
        by_payee.get_mut(payee).ok_or("payees are numbered")?.push(claim);
    }
    let escrow = escrow_key().account().check().map_err(|error| error.to_string())?;
    let mut sending = tokio::task::JoinSet::new();
    for (client, claims) in clients.iter().zip(by_payee) {
        // Two requests of each payee are on their way at any time.
        let (left, right) = claims.split_at(claims.len() / 2);
        for part in [left.to_vec(), right.to_vec()] {
            let client = Arc::clone(client);
            sending.spawn(async move {
                for batch in part.chunks(PER_BATCH) {
                    let command = EscrowCommand::Claim {
                        batch: ClaimBatch {
                            escrow: escrow.account(),
                            payee: client.account(),
                            claims: List::new(batch.to_vec()).map_err(|error| error.to_string())?,
                        },
                        signature: None,
                    };
                    match client.request(command).await {
                        Ok(EscrowAnswer::Claimed { answers }) => {
                            for answer in answers.as_slice() {
                                let ClaimAnswer::Receipt(receipt) = answer else {
                                    return Err(format!("refused: {answer:?}"));
                                };
                                receipt.verify(&escrow).map_err(|error| error.to_string())?;
                            }
                        }
                        other => return Err(format!("{other:?}")),
                    }
                }
                Ok(())
            });
        }
    }
    while let Some(done) = sending.join_next().await {
        done.map_err(|error| error.to_string())??;
    }
    Ok(())
}

/// The same claims verified on all cores, and nothing else done.
pub(super) fn verified_a_second(claims: &[Prepared]) -> Result<f64, String> {
    let verify = |part: &[Prepared]| part.iter().all(|(_, hold, claim)| claim.verify(hold).is_ok());
    let (left, right) = claims.split_at(claims.len() / 2);
    let start = Instant::now();
    let is_sound = std::thread::scope(|scope| {
        let other = scope.spawn(|| verify(left));
        verify(right) && other.join().unwrap_or(false)
    });
    if !is_sound {
        return Err("a prepared claim does not verify".to_owned());
    }
    Ok(claims.len() as f64 / start.elapsed().as_secs_f64())
}
