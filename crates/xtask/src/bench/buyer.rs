//! A payer reduced to its messages: the rules and the wire of a payer node, without its journal and its patience.

use super::escrow_world::header;
use tombola_core::amount::{Amount, DAY_MS};
use tombola_core::chain::Preimage;
use tombola_core::codec::{MESSAGE_BYTES_MAX, decode, encode};
use tombola_core::hold::{self, Fee};
use tombola_core::key::{SecretKey, Signed};
use tombola_core::message::{
    BookFrame, EscrowAnswer, EscrowCommand, HoldRequest, OpenBook, PayeeAnswer, PayeeRequest, Reference,
};
use tombola_core::payer::PayerBook;
use tombola_core::quote::{Quote, Service};
use tombola_core::reject::Code;
use tombola_net::{Connection, Endpoint, RecvHalf, SendHalf};
use tombola_node::clock;
use tombola_node::config::{Money, PayeeConfig};
use tombola_node::escrow_client::EscrowClient;
use tombola_node::loopback::{Loopback, LoopbackOptions};
use tombola_node::payee::{Content, MemoryCatalog};

/// Price of a ticket.
pub(super) const PRICE: Amount = Amount(100_000);
const FACE: Amount = Amount(100_000_000);
/// One in a thousand wins.
const HOLD: Hold = Hold {
    face_value: FACE,
    book_length_max: 4_096,
    cap: Amount(20_000 * FACE.0),
    redeem_at_value: None,
};
/// Of the default asset.
const DECIMALS: u8 = 9;
/// Where the one service is.
pub(super) const SERVICE: &str = "/page";

/// What a buyer asks the escrow to promise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hold {
    /// Of every book.
    pub(super) face_value: Amount,
    pub(super) book_length_max: u32,
    pub(super) cap: Amount,
    /// At which value of winners the payee closes books to redeem them; none for its default.
    pub(super) redeem_at_value: Option<Amount>,
}

/// The three nodes with one service, whose only unit is this long; one ticket in a thousand wins.
pub(super) async fn nodes(directory: &std::path::Path, unit_bytes: u32) -> Result<Loopback, String> {
    nodes_for(directory, unit_bytes, &HOLD).await
}

/// As [`nodes`], with the face value and the books of a hold.
pub(super) async fn nodes_for(directory: &std::path::Path, unit_bytes: u32, hold: &Hold) -> Result<Loopback, String> {
    let money = |amount: Amount| amount.decimal(DECIMALS).to_string().parse::<Money>().map_err(text);
    let defaults = LoopbackOptions::default();
    let payee = PayeeConfig {
        price: money(PRICE)?,
        face_value_min: money(hold.face_value)?,
        face_value_max: money(hold.face_value)?,
        book_length_max: hold.book_length_max,
        redeem_at_value: match hold.redeem_at_value {
            Some(value) => money(value)?,
            None => defaults.payee.redeem_at_value,
        },
        ..defaults.payee
    };
    let options = LoopbackOptions { payee, ..defaults };
    let bytes = vec![0x5a; usize::try_from(unit_bytes).map_err(text)?];
    let content = Content::from_bytes(PRICE, unit_bytes, bytes);
    let catalog = MemoryCatalog::default().with(service()?, content);
    Loopback::start(directory, &options, catalog).await.map_err(text)
}

pub(super) fn service() -> Result<Service, String> {
    Service::new(SERVICE).map_err(text)
}

/// One payer with one hold and one warm connection.
pub(super) struct Buyer {
    key: SecretKey,
    hold: Signed<hold::Hold>,
    pub(super) connection: Connection,
    /// Ends its connections when dropped.
    endpoint: Endpoint,
}

impl Buyer {
    pub(super) async fn new(nodes: &Loopback) -> Result<Self, String> {
        Self::with_hold(nodes, HOLD).await
    }

    /// One with such a hold.
    pub(super) async fn with_hold(nodes: &Loopback, hold: Hold) -> Result<Self, String> {
        let endpoint = Endpoint::client(None).map_err(text)?;
        let connection = endpoint.connect(nodes.payee.address()).await.map_err(text)?;
        Self::on(nodes, connection, endpoint, hold).await
    }

    /// Another payer with a hold of its own on the same connection: a payee takes only so many books of one.
    pub(super) async fn beside(&self, nodes: &Loopback) -> Result<Self, String> {
        Self::on(nodes, self.connection.clone(), self.endpoint.clone(), HOLD).await
    }

    async fn on(nodes: &Loopback, connection: Connection, endpoint: Endpoint, terms: Hold) -> Result<Self, String> {
        let key = SecretKey::from_seed(&clock::random());
        let account = key.account();
        let reference = Reference::new(account.to_string()).map_err(text)?;
        nodes
            .escrow
            .deposit(&account, Amount(terms.cap.0 * 2), &reference)
            .await
            .map_err(text)?;
        let client = EscrowClient::new(nodes.escrow.address().clone(), &key).map_err(text)?;
        let now = clock::now();
        let hold = HoldRequest {
            signer: account,
            payee: nodes.payee.address().key,
            face_value_min: terms.face_value,
            face_value_max: terms.face_value,
            book_length_max: terms.book_length_max,
            expires_at: now.plus_ms(DAY_MS),
            redeem_by: now.plus_ms(3 * DAY_MS),
            cap: terms.cap,
            fee_max: Fee::default(),
        };
        let request = header(1, now);
        let hold = match client.request(EscrowCommand::OpenHold { request, hold }).await {
            Ok(EscrowAnswer::Hold(hold)) => hold,
            other => return Err(format!("no hold: {other:?}")),
        };
        client.close().await;
        let buyer = Self {
            key,
            hold,
            connection,
            endpoint,
        };
        buyer.be_known().await?;
        Ok(buyer)
    }

    /// Opens books until the payee has asked its escrow about the hold, which is new.
    async fn be_known(&self) -> Result<(), String> {
        loop {
            let quote = self.quote().await?;
            let mut book = self.book(&quote, 1)?;
            let (mut send, mut recv) = self.open(&mut book, quote, 1).await?;
            match closed(&mut recv).await? {
                (1, Code::BookComplete, _) => return send.finish().map_err(text),
                (0, Code::HoldUnchecked, _) => tokio::task::yield_now().await,
                other => return Err(format!("the first book ended with {other:?}")),
            }
        }
    }

    pub(super) async fn quote(&self) -> Result<Quote, String> {
        let request = PayeeRequest::Quote {
            service: service()?,
            price: Some(PRICE),
        };
        let (mut send, mut recv) = self.connection.open().await.map_err(text)?;
        send.send_frame(&encode(&request)).await.map_err(text)?;
        send.finish().map_err(text)?;
        match decode(&frame(&mut recv).await?).map_err(text)? {
            PayeeAnswer::Quote(quote) => Ok(quote),
            other => Err(format!("no quote: {other:?}")),
        }
    }

    pub(super) fn book(&self, quote: &Quote, length: u32) -> Result<PayerBook, String> {
        let secret = Preimage(clock::random());
        PayerBook::new(
            &self.hold.body,
            quote,
            self.hold.body.terms.face_value_max,
            length,
            secret,
            &self.key,
        )
        .map_err(text)
    }

    /// Opens a book's stream and writes its first `tickets` with it.
    pub(super) async fn open(
        &self,
        book: &mut PayerBook,
        quote: Quote,
        tickets: u32,
    ) -> Result<(SendHalf, RecvHalf), String> {
        let (mut send, recv) = self.connection.open().await.map_err(text)?;
        let open = OpenBook {
            hold: self.hold,
            quote,
            book: *book.signed(),
        };
        send.send_frame(&encode(&PayeeRequest::OpenBook(Box::new(open))))
            .await
            .map_err(text)?;
        if tickets > 0 {
            let ticket = book.bearer().ok_or("a book has a first ticket")?;
            send.write(&ticket.to_bytes()).await.map_err(text)?;
        }
        Ok((send, recv))
    }
}

/// Reads a book's frames to its last: how far it got, why it closed, and the next quote.
pub(super) async fn closed(recv: &mut RecvHalf) -> Result<(u32, Code, Option<Quote>), String> {
    // Of a long book it comes before its end.
    let mut offered = None;
    loop {
        match decode(&frame(recv).await?).map_err(text)? {
            BookFrame::Closed {
                through,
                reject,
                next_quote,
            } => return Ok((through, reject.code, next_quote.or(offered))),
            BookFrame::Ack { next_quote, .. } => offered = next_quote.or(offered),
            other => return Err(format!("not paid: {other:?}")),
        }
    }
}

/// The bytes of a stream's next frame.
pub(super) async fn frame(recv: &mut RecvHalf) -> Result<Vec<u8>, String> {
    let frame = recv.recv_frame(MESSAGE_BYTES_MAX).await.map_err(text)?;
    frame.ok_or_else(|| "a stream ended early".to_owned())
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
