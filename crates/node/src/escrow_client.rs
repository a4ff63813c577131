//! One account's connection to its escrow: kept open, made anew when it is lost, one stream a request.

use crate::clock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tombola_core::amount::Timestamp;
use tombola_core::codec::{MESSAGE_BYTES_MAX, decode, encode};
use tombola_core::key::{AccountKey, RequestId, SecretKey};
use tombola_core::message::{EscrowAnswer, EscrowCommand, EscrowInfo, EscrowRequest, RequestHeader, StatementPage};
use tombola_core::reject::Reject;
use tombola_net::{Address, Connection, Endpoint, NetError, RecvHalf, SendHalf};

/// An answer that takes longer counts as an escrow that is away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// A client of one escrow for one account. Cheap to share behind an `Arc`; requests run side by side.
#[derive(Debug)]
pub struct EscrowClient {
    endpoint: Endpoint,
    address: Address,
    account: AccountKey,
    connection: Mutex<Option<Connection>>,
    /// Connections made so far.
    connections: AtomicU64,
    /// What the escrow said the time was, and when, by a clock that nobody sets.
    told: Mutex<Option<(Timestamp, Instant)>>,
}

impl EscrowClient {
    /// A client that connects when it is first used.
    ///
    /// # Errors
    /// [`EscrowError::Away`] if no socket can be bound.
    pub fn new(address: Address, key: &SecretKey) -> Result<Self, EscrowError> {
        Self::of_account(address, key, key.account())
    }

    /// As [`Self::new`], for an account that delegated to the key.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_account(address: Address, key: &SecretKey, account: AccountKey) -> Result<Self, EscrowError> {
        let endpoint = Endpoint::client(Some(key))?;
        Ok(Self {
            endpoint,
            address,
            account,
            connection: Mutex::new(None),
            connections: AtomicU64::new(0),
            told: Mutex::new(None),
        })
    }

    /// Where the escrow is, and its key.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// The account that this client acts for.
    #[must_use]
    pub const fn account(&self) -> AccountKey {
        self.account
    }

    /// Asks the escrow. A request without an answer is sent once more on a new connection: every request is safe to repeat.
    ///
    /// # Errors
    /// [`EscrowError::Rejected`] for its refusal, [`EscrowError::Away`] if it cannot be reached,
    /// [`EscrowError::Unintelligible`] if its answer is none.
    pub async fn request(&self, command: EscrowCommand) -> Result<EscrowAnswer, EscrowError> {
        let request = encode(&EscrowRequest {
            account: self.account,
            command,
        });
        let mut last = NetError::TimedOut;
        for _ in 0..2 {
            // An escrow that cannot even be connected to is away; only what was lost on the way is asked again.
            let connection = self.connect().await?;
            match tokio::time::timeout(ANSWER_TIMEOUT, exchange(&connection, &request)).await {
                Ok(Ok(EscrowAnswer::Rejected(reject))) => return Err(EscrowError::Rejected(reject)),
                Ok(Err(EscrowError::Away(error))) => last = error,
                Ok(answer) => return answer,
                Err(_) => {}
            }
            self.forget(&connection).await;
        }
        Err(EscrowError::Away(last))
    }

    /// How many connections were made so far: over a new one the escrow may be another than it was.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether a connection stands.
    pub(crate) async fn is_connected(&self) -> bool {
        let slot = self.connection.lock().await;
        slot.as_ref()
            .is_some_and(|connection| connection.close_reason().is_none())
    }

    /// The entries of the account's statement after a sequence number, as they happen. Spec: R-19.
    ///
    /// # Errors
    /// [`EscrowError::Away`] if the escrow cannot be reached.
    pub async fn subscribe(&self, after: u64) -> Result<Subscription, EscrowError> {
        let request = encode(&EscrowRequest {
            account: self.account,
            command: EscrowCommand::Subscribe { after },
        });
        let connection = self.connect().await?;
        let (mut send, recv) = connection.open().await?;
        send.send_frame(&request).await?;
        Ok(Subscription { _send: send, recv })
    }

    async fn connect(&self) -> Result<Connection, EscrowError> {
        let mut slot = self.connection.lock().await;
        if let Some(open) = slot.as_ref().filter(|connection| connection.close_reason().is_none()) {
            return Ok(open.clone());
        }
        let connection = self.endpoint.connect(&self.address).await?;
        *slot = Some(connection.clone());
        self.connections.fetch_add(1, Ordering::Relaxed);
        // A connection is lost when this machine sleeps, and a clock that nobody sets may sleep with it.
        *self.told.lock().await = None;
        Ok(connection)
    }

    /// Gives up a connection that gave no answer. Another request may have made a new one by now, which is left alone.
    async fn forget(&self, failed: &Connection) {
        self.connection.lock().await.take_if(|open| open.is_same(failed));
        failed.close(0, "no answer");
    }

    /// Who the escrow is and what it allows.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn info(&self) -> Result<EscrowInfo, EscrowError> {
        match self.request(EscrowCommand::Info).await? {
            EscrowAnswer::Info(info) => {
                *self.told.lock().await = Some((info.time, Instant::now()));
                Ok(info)
            }
            _ => Err(EscrowError::Unintelligible),
        }
    }

    /// The escrow's time, asked once a connection: this machine's clock may be wrong. Spec: C-05.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn time(&self) -> Result<Timestamp, EscrowError> {
        let told = *self.told.lock().await;
        let Some((time, at)) = told else {
            return Ok(self.info().await?.time);
        };
        Ok(time.plus_ms(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)))
    }

    /// A header for a fresh mutating request, at the escrow's time. Spec: R-02, C-05.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn request_header(&self) -> Result<RequestHeader, EscrowError> {
        Ok(RequestHeader {
            id: RequestId(clock::random()),
            issued_at: self.time().await?,
        })
    }

    /// Says goodbye.
    pub async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            connection.close(0, "done");
        }
        self.endpoint.close(0, "done");
        self.endpoint.wait_idle().await;
    }
}

/// Entries of a statement as they happen. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    /// Open for as long as entries are wanted.
    _send: SendHalf,
    recv: RecvHalf,
}

impl Subscription {
    /// The next entries, in order; nothing when the escrow has ended the subscription, which it does when it drains or
    /// this side reads too slowly. Another one goes on after the last sequence number. Cancel-safe.
    ///
    /// # Errors
    /// [`EscrowError::Rejected`], [`EscrowError::Away`] if the connection is lost, [`EscrowError::Unintelligible`].
    pub async fn next(&mut self) -> Result<Option<StatementPage>, EscrowError> {
        let Some(frame) = self.recv.recv_frame(MESSAGE_BYTES_MAX).await? else {
            return Ok(None);
        };
        match decode(&frame) {
            Ok(EscrowAnswer::Statement(page)) => Ok(Some(page)),
            Ok(EscrowAnswer::Rejected(reject)) => Err(EscrowError::Rejected(reject)),
            _ => Err(EscrowError::Unintelligible),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.recv.stop(0);
    }
}

/// One request and its answer.
async fn exchange(connection: &Connection, request: &[u8]) -> Result<EscrowAnswer, EscrowError> {
    let (mut send, mut recv) = connection.open().await?;
    send.send_frame(request).await?;
    send.finish()?;
    let answer = recv
        .recv_frame(MESSAGE_BYTES_MAX)
        .await?
        .ok_or(EscrowError::Unintelligible)?;
    decode(&answer).map_err(|_| EscrowError::Unintelligible)
}

/// Why an escrow did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EscrowError {
    /// It said no.
    #[error("the escrow refused: {0}")]
    Rejected(#[from] Reject),
    /// It cannot be reached; nothing is known about the request.
    #[error("the escrow cannot be reached: {0}")]
    Away(#[from] NetError),
    /// It answered what is no answer to this request.
    #[error("the escrow gave an answer that does not fit the request; is it a newer version?")]
    Unintelligible,
}

#[cfg(test)]
mod tests;
