//! An escrow, a payee that sells a directory, and a payer that speaks the protocol frame by frame, over real QUIC.

use std::path::PathBuf;
use tombola_core::amount::{Amount, DAY_MS};
use tombola_core::book::Ticket;
use tombola_core::chain::Preimage;
use tombola_core::codec::{MESSAGE_BYTES_MAX, decode, encode};
use tombola_core::hold::{Fee, Hold};
use tombola_core::key::{BookId, SecretKey, Signed};
use tombola_core::message::{
    BookFrame, EscrowAnswer, EscrowCommand, HoldRequest, OpenBook, PayeeAnswer, PayeeRequest, Reference, ResponseHeader,
};
use tombola_core::payer::{PayerBook, Window};
use tombola_core::quote::{Quote, Service};
use tombola_core::reject::{Code, Reject};
use tombola_net::{Connection, Endpoint, NetError, RecvHalf, SendHalf};
use tombola_node::escrow_client::EscrowClient;
use tombola_node::loopback::{Loopback, LoopbackOptions};
use tombola_node::payee::FileCatalog;

pub(crate) const PRICE: Amount = Amount(1_000_000);
pub(crate) const UNIT: usize = 1_024;

/// The three nodes, the directory for sale, and a payer of its own with a hold.
pub(crate) struct Market {
    pub(crate) nodes: Loopback,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) client: EscrowClient,
    pub(crate) hold: Signed<Hold>,
    key: SecretKey,
    endpoint: Endpoint,
}

/// One open book, with its stream.
pub(crate) struct Line {
    pub(crate) book: PayerBook,
    send: SendHalf,
    recv: RecvHalf,
    window: Window,
}

impl Market {
    /// Every ticket wins, at one price of 1 KiB.
    pub(crate) async fn open() -> Self {
        Self::with(0, UNIT).await
    }

    pub(crate) async fn with(credit_units: u32, unit_bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = directory.path().join("files");
        std::fs::create_dir(&files).unwrap();
        let mut options = LoopbackOptions::default();
        options.payee.credit_units = credit_units;
        options.payee.face_value_max = serde_json::from_str("\"0.001\"").unwrap();
        options.payee.redeem_at_value = serde_json::from_str("\"1000\"").unwrap();
        let catalog = FileCatalog::new(&files, PRICE, u32::try_from(unit_bytes).unwrap()).unwrap();
        let nodes = Loopback::start(directory.path(), &options, catalog).await.unwrap();
        let key = SecretKey::from_seed(&[7; 32]);
        let reference = Reference::new("second deposit").unwrap();
        nodes
            .escrow
            .deposit(&key.account(), Amount(10_000_000_000), &reference)
            .await
            .unwrap();
        let client = EscrowClient::new(nodes.escrow.address().clone(), &key).unwrap();
        let hold = open_hold(&client, &nodes, Amount(1_000_000_000)).await;
        let endpoint = Endpoint::client(None).unwrap();
        Self {
            nodes,
            directory,
            client,
            hold,
            key,
            endpoint,
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("files").join(name)
    }

    /// Puts a file up for sale; each byte says where it is.
    pub(crate) fn sell(&self, name: &str, bytes: usize, version: u8) -> Vec<u8> {
        let content: Vec<u8> = (0..bytes)
            .map(|at| at.to_le_bytes()[0] ^ (at / 251).to_le_bytes()[0] ^ version)
            .collect();
        std::fs::write(self.file(name), &content).unwrap();
        content
    }

    pub(crate) async fn connect(&self) -> Connection {
        self.endpoint.connect(self.nodes.payee.address()).await.unwrap()
    }

    pub(crate) async fn quote(&self, to: &Connection, name: &str) -> Quote {
        let request = PayeeRequest::Quote {
            service: service(name),
            price: None,
        };
        match ask(to, &request).await.0 {
            PayeeAnswer::Quote(quote) => quote,
            other => panic!("{other:?}"),
        }
    }

    /// Opens a book for a file; the payee has said that it is open.
    pub(crate) async fn book(&self, on: &Connection, name: &str, length: u32) -> Line {
        loop {
            let mut line = self.begin_book(on, name, length).await;
            match line.hear().await {
                BookFrame::Ack { through: 0, .. } => return line,
                // A fresh store asks the escrow about each hold first.
                BookFrame::Closed { reject, .. } if reject.code == Code::HoldUnchecked => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn begin_book(&self, on: &Connection, name: &str, length: u32) -> Line {
        let quote = self.quote(on, name).await;
        let secret = Preimage(tombola_node::clock::random());
        let book = PayerBook::new(&self.hold.body, &quote, PRICE, length, secret, &self.key).unwrap();
        let open = OpenBook {
            hold: self.hold,
            quote,
            book: *book.signed(),
        };
        let (mut send, recv) = on.open().await.unwrap();
        send.send_frame(&encode(&PayeeRequest::OpenBook(Box::new(open))))
            .await
            .unwrap();
        let mut window = Window::new(Amount(u64::MAX));
        // As wide as the book, so that a test pays what it likes.
        (0..32).for_each(|_| window.acknowledged(1, PRICE, u32::MAX));
        Line {
            book,
            send,
            recv,
            window,
        }
    }

    pub(crate) async fn stop(self) {
        self.client.close().await;
        self.nodes.stop().await;
    }
}

pub(crate) async fn open_hold(client: &EscrowClient, nodes: &Loopback, cap: Amount) -> Signed<Hold> {
    let info = client.info().await.unwrap();
    let expires_at = info.time.plus_ms(DAY_MS);
    let hold = HoldRequest {
        signer: client.account(),
        payee: nodes.payee.address().key,
        face_value_min: PRICE,
        face_value_max: PRICE,
        book_length_max: 1_000,
        expires_at,
        redeem_by: expires_at.plus_ms(2 * DAY_MS),
        cap,
        fee_max: Fee {
            flat: PRICE,
            ppm: 20_000,
        },
    };
    let request = client.request_header().await.unwrap();
    match client.request(EscrowCommand::OpenHold { request, hold }).await.unwrap() {
        EscrowAnswer::Hold(hold) => hold,
        other => panic!("{other:?}"),
    }
}

impl Line {
    pub(crate) fn id(&self) -> BookId {
        self.book.id()
    }

    pub(crate) fn bearer(&mut self) -> Ticket {
        self.book.bearer().unwrap()
    }

    pub(crate) async fn hear(&mut self) -> BookFrame {
        decode(&self.recv.recv_frame(MESSAGE_BYTES_MAX).await.unwrap().unwrap()).unwrap()
    }

    /// Sends tickets.
    pub(crate) async fn send(&mut self, count: u32) {
        let mut records = Vec::new();
        assert_eq!(self.book.issue(count, &mut self.window, &mut records), count);
        self.send.write(&records).await.unwrap();
    }

    /// Sends tickets and waits until all are acknowledged.
    pub(crate) async fn pay(&mut self, count: u32) {
        self.send(count).await;
        while self.book.in_flight() > 0 {
            match self.hear().await {
                BookFrame::Ack { through, .. } => self.book.acknowledge(through, &mut self.window),
                other => panic!("{other:?}"),
            };
        }
    }

    /// Ends the payer's side of the stream.
    pub(crate) fn finish(&mut self) {
        self.send.finish().unwrap();
    }

    /// Resets the payer's side of the stream.
    pub(crate) fn reset(&mut self) {
        self.send.reset(0);
    }

    /// What the payee says last.
    pub(crate) async fn closed(&mut self) -> (u32, Code, Option<Quote>) {
        loop {
            if let BookFrame::Closed {
                through,
                reject,
                next_quote,
            } = self.hear().await
            {
                return (through, reject.code, next_quote);
            }
        }
    }
}

pub(crate) fn service(name: &str) -> Service {
    Service::new(name).unwrap()
}

/// Asks; bytes may follow the answer.
pub(crate) async fn ask(to: &Connection, request: &PayeeRequest) -> (PayeeAnswer, RecvHalf) {
    let (mut send, mut recv) = to.open().await.unwrap();
    send.send_frame(&encode(request)).await.unwrap();
    send.finish().unwrap();
    let answer = recv.recv_frame(MESSAGE_BYTES_MAX).await.unwrap().unwrap();
    (decode(&answer).unwrap(), recv)
}

/// Asks for units of a file.
pub(crate) async fn request(
    to: &Connection,
    name: &str,
    from_unit: u64,
    book: Option<BookId>,
    ticket: Option<Ticket>,
) -> Result<(ResponseHeader, RecvHalf), Reject> {
    let request = PayeeRequest::Request {
        service: service(name),
        from_unit,
        book,
        ticket,
    };
    match ask(to, &request).await {
        (PayeeAnswer::Response(header), recv) => Ok((header, recv)),
        (PayeeAnswer::Rejected(reject), _) => Err(reject),
        (other, _) => panic!("{other:?}"),
    }
}

/// Reads so many bytes of a delivery.
pub(crate) async fn read(recv: &mut RecvHalf, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        bytes.extend_from_slice(&recv.read_chunk(count - bytes.len()).await.unwrap().unwrap());
    }
    bytes
}

/// Reads a delivery to its end.
pub(crate) async fn read_to_end(mut recv: RecvHalf) -> Result<Vec<u8>, NetError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = recv.read_chunk(1 << 20).await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
