//! Subscriptions: the entries of a statement as they happen, until either side ends the stream. Spec: R-19.
//!
//! A subscription keeps nothing but the last sequence number that it sent. It looks for newer entries after each commit
//! of this writer, and once a second for those of others, so it costs reads and no memory. Of all subscriptions of a
//! connection one page at a time is read and sent, so a client that does not read stops its own subscriptions only, and
//! one page is all that it makes the escrow keep ([`tombola_net::limits::SUBSCRIPTION_PAGE_BYTES_MAX`]).

use super::crowd::{Asker, Full};
use super::serve::{SEND_TIMEOUT, read, refused};
use super::shared::{Shared, busy};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tombola_core::codec::encode;
use tombola_core::key::AccountKey;
use tombola_core::limits::{SUBSCRIPTION_LAG_MAX, SUBSCRIPTIONS_PER_CONNECTION_MAX};
use tombola_core::message::{EscrowAnswer, EscrowCommand, EscrowRequest, StatementPage};
use tombola_core::reject::{Code, Reject};
use tombola_ledger::query;
use tombola_net::{NetError, RecvHalf, SendHalf};

/// How often entries that other writers made are looked for: this one is told only of its own.
const LOOK: Duration = Duration::from_secs(1);
/// Commits come many a second; an entry may wait this long, and then one read finds those of several commits.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// The subscriptions of one connection.
#[derive(Debug, Clone)]
pub(super) struct Subscriptions {
    places: Arc<Semaphore>,
    page: Arc<Semaphore>,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(SUBSCRIPTIONS_PER_CONNECTION_MAX)),
            page: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Subscriptions {
    fn place(&self) -> Result<OwnedSemaphorePermit, Reject> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| busy(SUBSCRIPTIONS_PER_CONNECTION_MAX, SUBSCRIPTIONS_PER_CONNECTION_MAX))
    }

    /// Waits, in turn, to have the connection's page in memory; none if nobody can have it any more.
    pub(super) async fn page(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.page).acquire_owned().await.ok()
    }
}

/// Who asks, and about whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscriber {
    /// Whose connection it is.
    pub(super) asker: Asker,
    /// The account.
    pub(super) account: AccountKey,
}

/// Serves one subscription to its end.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    subscriber: Subscriber,
    subscriptions: &Subscriptions,
    after: u64,
    (mut send, mut recv): (SendHalf, RecvHalf),
) -> Result<(), NetError> {
    let place = subscriptions.place();
    if let Err(reject) = &place {
        return end(&mut send, *reject).await;
    }
    // The client's side: closed after the request is as good as open, reset is the end.
    let left = async {
        match recv.recv_frame(0).await {
            Ok(_) => std::future::pending::<NetError>().await,
            Err(error) => error,
        }
    };
    let mut left = pin!(left);
    let mut watch = shared.state.watch();
    let mut after = after;
    loop {
        let turn = tokio::select! {
            biased;
            () = shared.state.drained() => return leave(&mut send).await,
            error = &mut left => return Err(error),
            turn = subscriptions.page() => turn,
        };
        watch.mark_unchanged();
        let page = match page(shared, subscriber, after).await {
            Ok(page) => page,
            Err(reject) => return end(&mut send, reject).await,
        };
        if let Some(last) = page.entries.as_slice().last() {
            after = last.sequence;
            let more = page.more;
            tokio::select! {
                biased;
                () = shared.state.drained() => return leave(&mut send).await,
                error = &mut left => return Err(error),
                taken = deliver(shared, subscriber, &mut send, page) => match taken? {
                    Taken::Whole => {}
                    Taken::TooSlowly => return leave(&mut send).await,
                },
            }
            if more {
                continue;
            }
        }
        drop(turn);
        // In any order: all that matters is that something may have come, or that either side ends it.
        tokio::select! {
            biased;
            () = shared.state.drained() => return leave(&mut send).await,
            error = &mut left => return Err(error),
            stopped = send.delivered() => return stopped,
            _ = timeout(LOOK, watch.changed()) => sleep(LOOK_PAUSE).await,
        }
    }
}

/// What became of a page that was sent.
enum Taken {
    Whole,
    TooSlowly,
}

/// Sends a page, unless the client does not read and too much has happened meanwhile.
async fn deliver(
    shared: &Arc<Shared>,
    subscriber: Subscriber,
    send: &mut SendHalf,
    page: StatementPage,
) -> Result<Taken, NetError> {
    let frame = encode(&EscrowAnswer::Statement(page));
    let mut sending = pin!(send.send_frame(&frame));
    if let Ok(sent) = timeout(LOOK, sending.as_mut()).await {
        return sent.map(|()| Taken::Whole);
    }
    let began = entries(shared, subscriber).await;
    loop {
        if let Ok(sent) = timeout(LOOK, sending.as_mut()).await {
            return sent.map(|()| Taken::Whole);
        }
        if entries(shared, subscriber).await.saturating_sub(began) >= SUBSCRIPTION_LAG_MAX {
            return Ok(Taken::TooSlowly);
        }
    }
}

/// How many entries the account's statement has.
async fn entries(shared: &Arc<Shared>, subscriber: Subscriber) -> u64 {
    let found = query::account(&shared.store, &subscriber.account).await;
    found.ok().flatten().map_or(0, |account| account.entries)
}

/// The entries after the last one that was sent, by the same rules as a Statement.
async fn page(shared: &Arc<Shared>, subscriber: Subscriber, after: u64) -> Result<StatementPage, Reject> {
    let request = EscrowRequest {
        account: subscriber.account,
        command: EscrowCommand::Statement { after },
    };
    // Like any Statement, but who follows its account waits where others would be refused.
    let Asker { key: peer, .. } = subscriber.asker;
    let may_ask = || shared.budgets().take(peer, &request, Instant::now()).is_ok();
    while !may_ask() {
        sleep(LOOK_PAUSE).await;
    }
    let _place = loop {
        match shared.places.enter(subscriber.asker) {
            Ok(place) => break place,
            Err(Full::Own(_)) => sleep(LOOK_PAUSE).await,
            Err(Full::All) => return Err(refused(shared, Full::All)),
        }
    };
    let read = read(shared, peer, request).await;
    let answer = read.unwrap_or_else(EscrowAnswer::Rejected);
    match answer {
        EscrowAnswer::Statement(page) => Ok(page),
        EscrowAnswer::Rejected(reject) => Err(reject),
        _ => Err(Reject::of(Code::Unavailable)),
    }
}

/// The last frame of a subscription that cannot go on.
async fn end(send: &mut SendHalf, reject: Reject) -> Result<(), NetError> {
    let frame = encode(&EscrowAnswer::Rejected(reject));
    let sent = timeout(SEND_TIMEOUT, send.send_frame(&frame)).await;
    sent.unwrap_or(Err(NetError::TimedOut))?;
    leave(send).await
}

/// Ends the stream. Closing the connection in a drain would drop what is on its way, so it is waited for, not for long.
async fn leave(send: &mut SendHalf) -> Result<(), NetError> {
    send.finish()?;
    timeout(LOOK, send.delivered()).await.unwrap_or(Err(NetError::TimedOut))
}
