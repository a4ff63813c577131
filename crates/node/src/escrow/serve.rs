//! Connections and streams: one request, one answer, one stream.

use super::budget::{answer_bytes_of, tickets_max};
use super::cores::Weight;
use super::crowd::{Asker, Full, Place};
use super::shared::Shared;
use super::subscribe::{self, Subscriptions};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tombola_core::claim::ClaimBatch;
use tombola_core::codec::{List, MESSAGE_BYTES_MAX, decode, encode};
use tombola_core::key::AccountKey;
use tombola_core::message::{EscrowAnswer, EscrowCommand, EscrowRequest};
use tombola_core::reject::{Code, Reject};
use tombola_ledger::draft::Draft;
use tombola_ledger::ledger::{Command, Outcome};
use tombola_ledger::query;
use tombola_ledger::request::{VerifiedRequest, holds_named};
use tombola_ledger::store::{Store, StoreFault};
use tombola_net::{Connection, NetError, RecvHalf, SendHalf, SetAside};
use tombola_store::block_on::block_on;
use tombola_store::escrow_store::EscrowStore;

/// A request must have arrived this long after its stream was opened.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer must have been taken this long after it was given.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Fewer claims are not worth another core: each takes about a tenth of a millisecond.
const CLAIMS_PER_CORE_MIN: usize = 16;

/// Serves the streams of one account until it goes away or the escrow drains.
pub(super) async fn serve_connection(shared: Arc<Shared>, connection: Connection, beginning: mpsc::Sender<()>) {
    // The endpoint demands keys, so there is one.
    let Some(peer) = connection.peer_key() else { return };
    let asker = Asker {
        key: peer,
        address: connection.peer_address(),
    };
    let subscriptions = Subscriptions::default();
    loop {
        let (send, recv) = tokio::select! {
            biased;
            () = shared.state.drained() => return,
            accepted = connection.accept() => match accepted {
                Ok(halves) => halves,
                Err(error) => {
                    tracing::debug!(%error, %peer, "a connection ended");
                    return;
                }
            },
        };
        let (shared, beginning) = (Arc::clone(&shared), beginning.clone());
        let (subscriptions, connection) = (subscriptions.clone(), connection.clone());
        tokio::spawn(async move {
            let asking = (asker, &connection);
            if let Err(error) = serve_stream(&shared, asking, &subscriptions, send, recv).await {
                tracing::debug!(%error, %peer, "a request had no answer");
            }
            drop(beginning);
        });
    }
}

async fn serve_stream(
    shared: &Arc<Shared>,
    (asker, connection): (Asker, &Connection),
    subscriptions: &Subscriptions,
    mut send: SendHalf,
    mut recv: RecvHalf,
) -> Result<(), NetError> {
    let frame = tokio::select! {
        biased;
        frame = timeout(READ_TIMEOUT, recv.recv_frame(MESSAGE_BYTES_MAX)) => frame,
        // A request that has not arrived has not begun.
        () = shared.state.drained() => return Err(NetError::ClosedHere),
    };
    // Held until the answer is sent, so a peer that does not read its answers gets no more of them.
    let mut _room = SetAside::default();
    let answer = match frame {
        Ok(Ok(Some(frame))) => match decode::<EscrowRequest>(&frame) {
            Ok(EscrowRequest {
                account,
                command: EscrowCommand::Subscribe { after },
            }) => {
                shared.counters.requests.add(1);
                let subscriber = subscribe::Subscriber { asker, account };
                return subscribe::serve(shared, subscriber, subscriptions, after, (send, recv)).await;
            }
            Ok(request) => {
                let room = timeout(SEND_TIMEOUT, connection.set_aside(answer_bytes_of(&request))).await;
                _room = room.map_err(|_| NetError::TimedOut)?;
                answer(shared, asker, request).await
            }
            Err(error) => EscrowAnswer::Rejected(error.into()),
        },
        Ok(Err(NetError::FrameTooLarge { limit, given })) => {
            recv.stop(0);
            let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
            EscrowAnswer::Rejected(Reject::compared(Code::TooLarge, number(limit), number(given)))
        }
        Ok(Ok(None) | Err(NetError::FrameCut)) => EscrowAnswer::Rejected(Reject::of(Code::Malformed)),
        Ok(Err(error)) => return Err(error),
        Err(_) => return Err(NetError::TimedOut),
    };
    shared.counters.requests.add(1);
    let frame = encode(&answer);
    // What was set aside is for the frame alone.
    drop(answer);
    let sending = async {
        send.send_frame(&frame).await?;
        send.finish()?;
        // Closing the connection in a drain would drop what is on its way.
        send.delivered().await
    };
    timeout(SEND_TIMEOUT, sending).await.unwrap_or(Err(NetError::TimedOut))
}

/// What a request is answered, when all it states is durable.
async fn answer(shared: &Arc<Shared>, asker: Asker, request: EscrowRequest) -> EscrowAnswer {
    // By the connection's key, not by the payee a batch names: nobody can use up the budget of another.
    let charged = shared.budgets().take(asker.key, &request, Instant::now());
    let answered = match charged {
        Ok(()) => carry_out(shared, asker, request).await,
        Err(reject) => Err(reject),
    };
    answered.unwrap_or_else(|reject| {
        if reject.code == Code::Busy {
            shared.counters.turned_away.add(1);
        }
        EscrowAnswer::Rejected(reject)
    })
}

async fn carry_out(shared: &Arc<Shared>, asker: Asker, request: EscrowRequest) -> Result<EscrowAnswer, Reject> {
    match &request.command {
        EscrowCommand::Info
        | EscrowCommand::Account { .. }
        | EscrowCommand::HoldStatus { .. }
        | EscrowCommand::Statement { .. } => {
            let _place = place(shared, asker)?;
            read(shared, asker.key, request).await
        }
        // It has a stream of its own.
        EscrowCommand::Subscribe { .. } => Err(Reject::of(Code::NotOffered)),
        EscrowCommand::OpenHold { .. }
        | EscrowCommand::Delegate { .. }
        | EscrowCommand::Withdraw { .. }
        | EscrowCommand::SetPayout { .. }
        | EscrowCommand::SetSplit { .. }
        | EscrowCommand::Resubmit { .. }
        | EscrowCommand::TopUpHold { .. }
        | EscrowCommand::Release(_)
        | EscrowCommand::Claim { .. }
        | EscrowCommand::Transfer { .. } => write(shared, asker, request).await,
    }
}

/// Answers from the store, past the writer; whoever calls it has a place.
pub(super) async fn read(
    shared: &Arc<Shared>,
    peer: AccountKey,
    request: EscrowRequest,
) -> Result<EscrowAnswer, Reject> {
    let reader = Arc::clone(shared);
    let asking = async move {
        let standing = reader.state.standing();
        // An account and what waits to be folded into it must be of one moment.
        let snapshot = reader.store.snapshot().await?;
        let answered = query::answer(&snapshot, &reader.config, &standing, &peer, &request).await?;
        reader.budgets().settle_rows(&peer, &request, answered.rows);
        Ok::<_, StoreFault>((answered.draft, reader))
    };
    // A file answers at once, on any core; a database answers later, and no core waits for it.
    let answer = match &shared.store {
        EscrowStore::Redb(_) => {
            shared
                .cores
                .map(Weight::Heavy, vec![asking], |asking| {
                    block_on(asking).map(|(draft, reader)| draft.sign(&reader.key))
                })
                .await
        }
        EscrowStore::Postgres(_) => {
            let drafted = asking.await.map_err(unreadable)?;
            let signed = |(draft, reader): (Draft, Arc<Shared>)| Ok(draft.sign(&reader.key));
            shared.cores.map(Weight::Heavy, vec![drafted], signed).await
        }
    };
    let answer = answer.and_then(|mut answers| answers.pop());
    answer.ok_or(Reject::of(Code::Unavailable))?.map_err(unreadable)
}

/// Signatures and draws on all cores, the holds that they need read first where reading takes its time.
async fn verify(
    shared: &Arc<Shared>,
    peer: AccountKey,
    parts: Vec<EscrowRequest>,
    weight: Weight,
) -> Result<Vec<VerifiedRequest>, Reject> {
    if let EscrowStore::Postgres(store) = &shared.store {
        // Into the cache, where the cores find them.
        for part in &parts {
            let fetched = shared.cache.fetch(store, &holds_named(part)).await;
            fetched.map_err(unreadable)?;
        }
    }
    let verifier = Arc::clone(shared);
    let verified = shared.cores.map(weight, parts, move |part| {
        let verified = block_on(verifier.cache.verify(&verifier.store, peer, part))?;
        Ok::<VerifiedRequest, StoreFault>(verified)
    });
    let verified = verified.await.ok_or(Reject::of(Code::Unavailable))?;
    let verified: Result<Vec<VerifiedRequest>, StoreFault> = verified.into_iter().collect();
    verified.map_err(unreadable)
}

/// Verifies on all cores, has the writer decide, and signs on all cores.
async fn write(shared: &Arc<Shared>, asker: Asker, request: EscrowRequest) -> Result<EscrowAnswer, Reject> {
    let peer = asker.key;
    let unavailable = Reject::of(Code::Unavailable);
    let walks_max = tickets_max(&request);
    let settle = |walked| shared.budgets().settle(&peer, walks_max, walked);
    if shared.state.fault().is_some() {
        settle(0);
        return Err(unavailable);
    }
    let _place = place(shared, asker).inspect_err(|_| settle(0))?;
    let weight = weight_of(&request.command);
    let parts = parts(peer, request, shared.cores.count());
    let verified = verify(shared, peer, parts, weight).await;
    let verified = verified.inspect_err(|_| settle(0))?;
    let walked = verified.iter().map(VerifiedRequest::tickets_walked).sum();
    settle(walked);
    let outcomes = shared
        .submit(verified.into_iter().map(Command::Request).collect())
        .await?;
    let mut drafts: Vec<Draft> = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        match outcome {
            Outcome::Answer(draft) => drafts.push(draft),
            Outcome::Rejected(reject) => return Err(reject),
            Outcome::Deposited { .. }
            | Outcome::Settled { .. }
            | Outcome::FeesCollected { .. }
            | Outcome::PaidOut { .. }
            | Outcome::Folded { .. }
            | Outcome::WriterRemoval(_)
            | Outcome::Expired { .. } => return Err(unavailable),
        }
    }
    let signer = Arc::clone(shared);
    let signed = shared
        .cores
        .map(weight, drafts, move |draft| draft.sign(&signer.key))
        .await;
    let answer = whole(signed.ok_or(unavailable)?)?;
    if let EscrowAnswer::Claimed { answers } = &answer {
        shared.counters.claims.add(answers.as_slice().len());
    }
    Ok(answer)
}

/// How long verifying a command that changes something takes, and signing its answer.
const fn weight_of(command: &EscrowCommand) -> Weight {
    match command {
        // Nothing to read and no walk: at most two keys, mostly known ones, a check and a signature.
        EscrowCommand::OpenHold { .. }
        | EscrowCommand::TopUpHold { .. }
        | EscrowCommand::Delegate { .. }
        | EscrowCommand::Transfer { .. }
        | EscrowCommand::Withdraw { .. }
        | EscrowCommand::SetPayout { .. } => Weight::Light,
        // Many keys, holds to read, chains to walk; or what the writer never sees.
        EscrowCommand::SetSplit { .. }
        | EscrowCommand::Claim { .. }
        | EscrowCommand::Release(_)
        | EscrowCommand::Resubmit { .. }
        | EscrowCommand::Info
        | EscrowCommand::Account { .. }
        | EscrowCommand::HoldStatus { .. }
        | EscrowCommand::Statement { .. }
        | EscrowCommand::Subscribe { .. } => Weight::Heavy,
    }
}

/// A place among the requests that are worked on.
fn place(shared: &Shared, asker: Asker) -> Result<Place<'_>, Reject> {
    shared.places.enter(asker).map_err(|full| refused(shared, full))
}

/// Who finds no place among those of all may have come to claim, and others are to blame. Spec: H-09.
pub(super) fn refused(shared: &Shared, full: Full) -> Reject {
    match full {
        Full::Own(_) => {}
        Full::All => shared.counters.crowded_out.add(1),
    }
    full.into()
}

fn unreadable(fault: StoreFault) -> Reject {
    tracing::error!(event = "store_unreadable", %fault, "the store cannot be read");
    Reject::of(Code::Unavailable)
}

/// A batch of claims as one part for each core, where it needs no signature of its own; anything else as one part.
///
/// Claims are judged one by one, so parts decided in their order in one commit are the whole batch.
fn parts(peer: AccountKey, request: EscrowRequest, cores: usize) -> Vec<EscrowRequest> {
    let EscrowCommand::Claim { batch, .. } = &request.command else {
        return vec![request];
    };
    let claims = batch.claims.as_slice();
    let size = claims.len().div_ceil(cores).max(CLAIMS_PER_CORE_MIN);
    if batch.payee != peer || claims.len() <= size {
        return vec![request];
    }
    let part = |claims: &[_]| EscrowRequest {
        account: request.account,
        command: EscrowCommand::Claim {
            batch: ClaimBatch {
                escrow: batch.escrow,
                payee: batch.payee,
                // Fewer than in the batch, so they fit.
                claims: List::new(claims.to_vec()).unwrap_or_default(),
            },
            signature: None,
        },
    };
    claims.chunks(size).map(part).collect()
}

/// One answer from those of all parts.
fn whole(mut answers: Vec<EscrowAnswer>) -> Result<EscrowAnswer, Reject> {
    let unavailable = Reject::of(Code::Unavailable);
    if answers.len() == 1 {
        return answers.pop().ok_or(unavailable);
    }
    let mut all = Vec::new();
    for answer in answers {
        match answer {
            EscrowAnswer::Claimed { answers } => all.extend(answers.into_vec()),
            EscrowAnswer::Rejected(reject) => return Err(reject),
            _ => return Err(unavailable),
        }
    }
    let answers = List::new(all).map_err(|_| unavailable)?;
    Ok(EscrowAnswer::Claimed { answers })
}
