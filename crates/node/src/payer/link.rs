//! A payer's connection to one payee: requests, and the streams of books.

#[cfg(test)]
mod tests;

use super::PayerError;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tombola_core::amount::Amount;
use tombola_core::book::Ticket;
use tombola_core::codec::{MESSAGE_BYTES_MAX, decode, encode};
use tombola_core::hold::Hold;
use tombola_core::key::{BookId, Signed};
use tombola_core::limits::UNIT_BYTES_MAX;
use tombola_core::message::{BookFrame, OpenBook, PayeeAnswer, PayeeRequest, ResponseHeader};
use tombola_core::payer::Window;
use tombola_core::quote::{Quote, Service};
use tombola_net::{Address, Connection, Endpoint, NetError, RecvHalf, SendHalf};

/// A payee that takes longer to answer counts as away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// One payee, over as many connections as it takes: the window of unacknowledged tickets outlives them all.
#[derive(Debug)]
pub(crate) struct Link {
    endpoint: Endpoint,
    address: Mutex<Address>,
    connection: tokio::sync::Mutex<Option<Connection>>,
    pub(crate) window: Mutex<Window>,
}

/// What a book's stream brings.
#[derive(Debug)]
pub(crate) enum Incoming {
    Frame(Box<BookFrame>),
    /// The stream has ended, with or without a word.
    Ended,
}

impl Link {
    pub(crate) fn new(endpoint: Endpoint, address: Address) -> Self {
        let connection = tokio::sync::Mutex::new(None);
        let window = Mutex::new(Window::new(Amount::ZERO));
        Self {
            endpoint,
            address: Mutex::new(address),
            connection,
            window,
        }
    }

    pub(crate) fn address(&self) -> Address {
        self.address.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The payee is found at another place from now on; a connection that lives is kept.
    pub(crate) fn move_to(&self, address: &Address) {
        self.address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(address);
    }

    pub(crate) async fn connection(&self) -> Result<Connection, NetError> {
        let mut slot = self.connection.lock().await;
        if let Some(open) = slot.as_ref().filter(|connection| connection.close_reason().is_none()) {
            return Ok(open.clone());
        }
        let connection = self.endpoint.connect(&self.address()).await?;
        *slot = Some(connection.clone());
        Ok(connection)
    }

    pub(crate) async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            connection.close(0, "done");
        }
    }

    /// UDP payload bytes of the present connection, sent and received.
    pub(crate) async fn udp_bytes(&self) -> (u64, u64) {
        self.connection
            .lock()
            .await
            .as_ref()
            .map_or((0, 0), Connection::udp_bytes)
    }

    pub(crate) async fn ask(&self, request: PayeeRequest) -> Result<PayeeAnswer, PayerError> {
        let (answer, _) = self.ask_stream(request).await?;
        Ok(answer)
    }

    /// Asks and leaves the stream open for what follows the answer.
    async fn ask_stream(&self, request: PayeeRequest) -> Result<(PayeeAnswer, RecvHalf), PayerError> {
        let exchange = async {
            let (mut send, mut recv) = self.connection().await?.open().await?;
            send.send_frame(&encode(&request)).await?;
            send.finish()?;
            let answer = recv
                .recv_frame(MESSAGE_BYTES_MAX)
                .await?
                .ok_or(PayerError::Unintelligible)?;
            match decode(&answer).map_err(|_| PayerError::Unintelligible)? {
                PayeeAnswer::Rejected(reject) => Err(PayerError::PayeeRejected(reject)),
                answer => Ok((answer, recv)),
            }
        };
        tokio::time::timeout(ANSWER_TIMEOUT, exchange)
            .await
            .unwrap_or(Err(PayerError::Net(NetError::TimedOut)))
    }

    pub(crate) async fn quote(&self, service: &Service, price: Option<Amount>) -> Result<Quote, PayerError> {
        match self
            .ask(PayeeRequest::Quote {
                service: service.clone(),
                price,
            })
            .await?
        {
            PayeeAnswer::Quote(quote) if quote.terms.payee == self.address().key && quote.terms.service == *service => {
                Ok(quote)
            }
            _ => Err(PayerError::Unintelligible),
        }
    }

    /// Size, units and version of a service, without paying.
    pub(crate) async fn header(&self, service: &Service) -> Result<ResponseHeader, PayerError> {
        self.request(service, 0, None, None).await.map(|(header, _)| header)
    }

    /// Asks for units; bare bytes follow on the stream.
    pub(crate) async fn request(
        &self,
        service: &Service,
        from_unit: u64,
        book: Option<BookId>,
        ticket: Option<Ticket>,
    ) -> Result<(ResponseHeader, RecvHalf), PayerError> {
        let request = PayeeRequest::Request {
            service: service.clone(),
            from_unit,
            book,
            ticket,
        };
        match self.ask_stream(request).await? {
            (PayeeAnswer::Response(header), recv) if is_consistent(&header) => Ok((header, recv)),
            _ => Err(PayerError::Unintelligible),
        }
    }

    /// Shows a topped-up hold.
    pub(crate) async fn present(&self, hold: &Signed<Hold>) -> Result<Amount, PayerError> {
        match self.ask(PayeeRequest::PresentHold { hold: *hold }).await? {
            PayeeAnswer::HoldState { room, .. } => Ok(room),
            _ => Err(PayerError::Unintelligible),
        }
    }

    /// Opens a book's stream; its frames arrive in `frames`, tickets may be written at once.
    pub(crate) async fn open_book(
        &self,
        open: OpenBook,
        frames: mpsc::Sender<(BookId, Incoming)>,
    ) -> Result<SendHalf, PayerError> {
        let id = open.book.body.id();
        let (mut send, recv) = self.connection().await?.open().await?;
        send.send_frame(&encode(&PayeeRequest::OpenBook(Box::new(open))))
            .await?;
        tokio::spawn(read_frames(id, recv, frames));
        Ok(send)
    }
}

async fn read_frames(id: BookId, mut recv: RecvHalf, frames: mpsc::Sender<(BookId, Incoming)>) {
    while let Ok(Some(bytes)) = recv.recv_frame(MESSAGE_BYTES_MAX).await {
        let Ok(frame) = decode::<BookFrame>(&bytes) else { break };
        let is_last = matches!(frame, BookFrame::Closed { .. });
        // Nobody listens when the purchase is over.
        if frames.send((id, Incoming::Frame(Box::new(frame)))).await.is_err() || is_last {
            return;
        }
    }
    let _ = frames.send((id, Incoming::Ended)).await;
}

/// Sizes that a payee announces must agree with each other before anything is computed from them.
fn is_consistent(header: &ResponseHeader) -> bool {
    let unit_bytes = u64::from(header.unit_bytes);
    let is_sized = header.unit_bytes <= UNIT_BYTES_MAX && (unit_bytes > 0 || header.size == 0);
    is_sized && header.units == header.size.div_ceil(unit_bytes.max(1))
}
