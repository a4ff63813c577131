//! A payer reduced to its messages, on one warm connection.

use super::{Market, SERVICE, text};
use crate::process::ok;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tombola_core::amount::{Amount, DAY_MS, Timestamp};
use tombola_core::book::{TICKET_BYTES, Ticket};
use tombola_core::chain::Preimage;
use tombola_core::codec::{MESSAGE_BYTES_MAX, decode, encode};
use tombola_core::hold::{Fee, Hold};
use tombola_core::key::{RequestId, SecretKey, Signed};
use tombola_core::message::{
    BookFrame, EscrowAnswer, EscrowCommand, EscrowRequest, HoldRequest, OpenBook, PayeeAnswer, PayeeRequest,
    RequestHeader,
};
use tombola_core::payer::{PayerBook, Window};
use tombola_core::quote::{Quote, Service};
use tombola_core::reject::Code;
use tombola_net::{Connection, Endpoint, RecvHalf, SendHalf};

const FACE: Amount = Amount(100_000_000);
const CAP: Amount = Amount(1_000 * FACE.0);
/// Of the books that are paid with.
const BOOK_LENGTH: u32 = 4_096;

pub(super) struct Shopper {
    key: SecretKey,
    hold: Signed<Hold>,
    pub(super) connection: Connection,
    _endpoint: Endpoint,
    paying: Option<(PayerBook, Window, SendHalf)>,
    books: u64,
}

impl Shopper {
    /// Deposits, opens a hold and a connection. The number tells several apart.
    pub(super) async fn new(market: &Market<'_>, number: u64) -> Result<Self, String> {
        let key = SecretKey::from_seed(&fresh(number));
        let account = key.account().to_string();
        let home = market.town.arg("escrow");
        let deposit = ["escrow", "deposit", &account, "200.00", "--reference", &account];
        ok(&[&deposit[..], &["--home", &home]].concat());
        let hold = open_hold(market, &key).await?;
        let endpoint = Endpoint::client(None).map_err(text)?;
        let connection = endpoint.connect(&market.payee).await.map_err(text)?;
        let mut shopper = Self {
            key,
            hold,
            connection,
            _endpoint: endpoint,
            paying: None,
            books: 0,
        };
        // A new hold is taken once the payee has asked its escrow about it.
        loop {
            let (mut book, quote) = shopper.book(1).await?;
            let ticket = book.bearer().ok_or("a book has a first ticket")?;
            let (_send, mut recv) = shopper.open(&book, quote, Some(ticket)).await?;
            match closed(&mut recv).await? {
                Code::BookComplete => return Ok(shopper),
                Code::HoldUnchecked => tokio::task::yield_now().await,
                other => return Err(format!("the first book ended with {other}")),
            }
        }
    }

    /// Pays for one page after another; how long each took.
    pub(super) async fn pay_for(&mut self, time: Duration) -> Result<Vec<Duration>, String> {
        let until = Instant::now() + time;
        let mut taken = Vec::new();
        while Instant::now() < until {
            let (mut book, mut window, send) = match self.paying.take() {
                Some(paying) => paying,
                None => self.begin().await?,
            };
            let start = Instant::now();
            let mut record = Vec::with_capacity(TICKET_BYTES);
            if book.issue(1, &mut window, &mut record) == 0 {
                // Used up: the next round opens another.
                continue;
            }
            let ticket = Ticket::from_bytes(record.first_chunk().ok_or("no ticket was made")?);
            self.page(&book, ticket).await?;
            taken.push(start.elapsed());
            book.acknowledge(ticket.index, &mut window);
            self.paying = Some((book, window, send));
        }
        Ok(taken)
    }

    /// A book to pay pages with.
    async fn begin(&mut self) -> Result<(PayerBook, Window, SendHalf), String> {
        let (book, quote) = self.book(BOOK_LENGTH).await?;
        let (send, mut recv) = self.open(&book, quote, None).await?;
        let BookFrame::Ack { through: 0, .. } = decode(&frame(&mut recv).await?).map_err(text)? else {
            return Err("the book was not opened".to_owned());
        };
        // Acknowledgements are read as they come; the pages say what was taken.
        tokio::spawn(async move { while frame(&mut recv).await.is_ok() {} });
        Ok((book, Window::new(Amount(u64::MAX)), send))
    }

    async fn page(&self, book: &PayerBook, ticket: Ticket) -> Result<(), String> {
        let request = PayeeRequest::Request {
            service: Service::new(SERVICE).map_err(text)?,
            from_unit: 0,
            book: Some(book.id()),
            ticket: Some(ticket),
        };
        let mut recv = self.ask(&request).await?;
        match decode(&frame(&mut recv).await?).map_err(text)? {
            PayeeAnswer::Response(header) => {
                let mut bytes = 0_u64;
                while let Some(chunk) = recv.read_chunk(MESSAGE_BYTES_MAX).await.map_err(text)? {
                    bytes += u64::try_from(chunk.len()).map_err(text)?;
                }
                if bytes == header.size {
                    Ok(())
                } else {
                    Err(format!("a page of {} bytes came as {bytes}", header.size))
                }
            }
            other => Err(format!("a paid request was answered with {other:?}")),
        }
    }

    /// A fresh quote and a book for it.
    pub(super) async fn book(&mut self, length: u32) -> Result<(PayerBook, Quote), String> {
        let request = PayeeRequest::Quote {
            service: Service::new(SERVICE).map_err(text)?,
            price: None,
        };
        let mut recv = self.ask(&request).await?;
        let PayeeAnswer::Quote(quote) = decode(&frame(&mut recv).await?).map_err(text)? else {
            return Err("no quote".to_owned());
        };
        self.books += 1;
        let secret = Preimage(fresh(self.books));
        let book = PayerBook::new(&self.hold.body, &quote, FACE, length, secret, &self.key).map_err(text)?;
        Ok((book, quote))
    }

    /// Opens a book's stream and writes a ticket with it.
    pub(super) async fn open(
        &self,
        book: &PayerBook,
        quote: Quote,
        ticket: Option<Ticket>,
    ) -> Result<(SendHalf, RecvHalf), String> {
        let (mut send, recv) = self.connection.open().await.map_err(text)?;
        let open = OpenBook {
            hold: self.hold,
            quote,
            book: *book.signed(),
        };
        let opening = encode(&PayeeRequest::OpenBook(Box::new(open)));
        send.send_frame(&opening).await.map_err(text)?;
        if let Some(ticket) = ticket {
            send.write(&ticket.to_bytes()).await.map_err(text)?;
        }
        Ok((send, recv))
    }

    async fn ask(&self, request: &PayeeRequest) -> Result<RecvHalf, String> {
        let (mut send, recv) = self.connection.open().await.map_err(text)?;
        send.send_frame(&encode(request)).await.map_err(text)?;
        send.finish().map_err(text)?;
        Ok(recv)
    }
}

async fn open_hold(market: &Market<'_>, key: &SecretKey) -> Result<Signed<Hold>, String> {
    let (account, now) = (key.account(), now());
    let hold = HoldRequest {
        signer: account,
        payee: market.payee.key,
        face_value_min: FACE,
        face_value_max: FACE,
        book_length_max: BOOK_LENGTH,
        expires_at: now.plus_ms(DAY_MS),
        redeem_by: now.plus_ms(3 * DAY_MS),
        cap: CAP,
        // Whatever the escrow takes: the payee bears it.
        fee_max: Fee {
            flat: Amount(100_000),
            ppm: 20_000,
        },
    };
    let request = RequestHeader {
        id: RequestId([7; 16]),
        issued_at: now,
    };
    let request = EscrowRequest {
        account,
        command: EscrowCommand::OpenHold { request, hold },
    };
    let endpoint = Endpoint::client(Some(key)).map_err(text)?;
    let connection = endpoint.connect(&market.escrow).await.map_err(text)?;
    let (mut send, mut recv) = connection.open().await.map_err(text)?;
    send.send_frame(&encode(&request)).await.map_err(text)?;
    send.finish().map_err(text)?;
    match decode(&frame(&mut recv).await?).map_err(text)? {
        EscrowAnswer::Hold(hold) => Ok(hold),
        other => Err(format!("no hold: {other:?}")),
    }
}

/// Why a book was closed.
pub(super) async fn closed(recv: &mut RecvHalf) -> Result<Code, String> {
    loop {
        if let BookFrame::Closed { reject, .. } = decode(&frame(recv).await?).map_err(text)? {
            return Ok(reject.code);
        }
    }
}

async fn frame(recv: &mut RecvHalf) -> Result<Vec<u8>, String> {
    let frame = recv.recv_frame(MESSAGE_BYTES_MAX).await.map_err(text)?;
    frame.ok_or_else(|| "a stream ended early".to_owned())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Bytes that were not used before on this machine; nothing here is secret.
fn fresh(number: u64) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut hash = Sha256::new();
    hash.update(since.as_nanos().to_le_bytes());
    hash.update(std::process::id().to_le_bytes());
    hash.update(number.to_le_bytes());
    hash.finalize().into()
}
