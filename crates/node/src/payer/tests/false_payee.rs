//! A payee that does not play by the rules: it speaks the protocol, and keeps what it was paid for in one way or another.

use crate::clock;
use crate::escrow_client::EscrowClient;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tombola_core::amount::{Amount, Asset};
use tombola_core::book::{TICKET_BYTES, Ticket};
use tombola_core::claim::{Claim, ClaimBatch};
use tombola_core::codec::{List, MESSAGE_BYTES_MAX, decode, encode};
use tombola_core::key::{AccountKey, BookId, QuoteId, SecretKey};
use tombola_core::message::{
    BookFrame, ContentHash, EscrowCommand, OpenBook, PayeeAnswer, PayeeRequest, ResponseHeader,
};
use tombola_core::quote::{EpochSecret, Escrows, QuoteTerms, Service};
use tombola_core::reject::{Code, Reject};
use tombola_net::{Address, ClientKey, Connection, Endpoint, NetError, RecvHalf, ResetSalt, SendHalf};

pub(super) const PRICE: Amount = Amount(1_000_000);
pub(super) const UNIT: u32 = 1_024;
pub(super) const UNITS: u32 = 40;
const EPOCH: EpochSecret = EpochSecret::new([7; 32]);

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// Acknowledges what it is given, delivers a unit, drops the connection and has never heard of the book.
    KeepsThePay,
    /// Acknowledges what it is given and delivers nothing, without a word.
    DeliversNothing,
    /// As [`Self::DeliversNothing`], and has never heard of the book when it is asked again.
    KeepsAll,
    /// Delivers a unit, drops the connection, and is silent about the rest when it is asked for.
    KeepsTheRest,
    /// Says again and again that it has drawn nothing yet.
    Mumbles,
    /// Takes the first book's ticket, drops the connection, says that it drew nothing, and serves what is paid again.
    Denies,
    /// As [`Self::Denies`], and waits for its payer to go away first.
    DeniesTheDead,
    /// As [`Self::Denies`], and says so before the book is closed only: asked once more, it knows it no longer.
    DeniesTooEarly,
    /// Says of a hold with room that it has none, whenever it is shown the hold.
    AsksForRoom,
}

/// A book that it was given.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) open: OpenBook,
    /// The highest ticket.
    pub(super) last: Option<Ticket>,
}

/// What it was given so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Loot {
    pub(super) books: BTreeMap<BookId, Given>,
    /// Units that went out whole.
    pub(super) delivered: u64,
    pub(super) connections: u64,
    /// How often it was shown a hold, and asked for what it owes.
    pub(super) shown: u64,
    pub(super) asked_again: u64,
    /// How often its first book's units were asked for on the connection that pays.
    pub(super) asked: u64,
    pub(super) first: Option<BookId>,
}

impl Loot {
    /// Tickets in all books.
    pub(super) fn tickets(&self) -> u64 {
        let last = self.books.values().filter_map(|given| given.last);
        last.map(|ticket| u64::from(ticket.index)).sum()
    }
}

pub(super) struct FalsePayee {
    pub(super) key: SecretKey,
    pub(super) address: Address,
    shared: Arc<Shared>,
}

struct Shared {
    lie: Mutex<Lie>,
    account: AccountKey,
    escrow: AccountKey,
    loot: watch::Sender<Loot>,
}

impl FalsePayee {
    pub(super) fn start(lie: Lie, escrow: AccountKey) -> Self {
        let key = SecretKey::from_seed(&clock::random());
        let salt = ResetSalt::new([0; 32]);
        let endpoint = Endpoint::server(([127, 0, 0, 1], 0).into(), &key, ClientKey::NotAsked, &salt).unwrap();
        let address = Address::new(key.account(), "127.0.0.1", endpoint.local_addr().unwrap().port());
        let shared = Arc::new(Shared {
            lie: Mutex::new(lie),
            account: key.account(),
            escrow,
            loot: watch::Sender::new(Loot::default()),
        });
        tokio::spawn(accept(endpoint, Arc::clone(&shared)));
        Self { key, address, shared }
    }

    pub(super) fn loot(&self) -> Loot {
        self.shared.loot.borrow().clone()
    }

    /// Waits until the units of its first book are asked for, and its first ticket has come.
    pub(super) async fn asked(&self) {
        self.shared
            .loot
            .subscribe()
            .wait_for(|loot| loot.asked > 0)
            .await
            .unwrap();
    }

    /// Redeems the book that it says it drew nothing of.
    pub(super) async fn redeem_the_first(&self, escrow: &Address) {
        let loot = self.loot();
        let given = &loot.books[&loot.first.unwrap()];
        let last = given.last.unwrap();
        let claim = Claim {
            book: given.open.book,
            reveal: EPOCH.reveal(&given.open.quote.terms),
            through: last.index,
            preimage: last.preimage,
        };
        let batch = ClaimBatch {
            escrow: escrow.key,
            payee: self.key.account(),
            claims: List::new(vec![claim]).unwrap(),
        };
        let client = EscrowClient::new(escrow.clone(), &self.key).unwrap();
        let claim = EscrowCommand::Claim { batch, signature: None };
        let paid = client.request(claim).await.unwrap();
        assert!(
            format!("{paid:?}").contains("Receipt"),
            "the escrow pays, as it cannot know: {paid:?}"
        );
        client.close().await;
    }
}

async fn accept(endpoint: Endpoint, shared: Arc<Shared>) {
    while let Some(incoming) = endpoint.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let Ok(connection) = incoming.establish().await else {
                return;
            };
            shared.loot.send_modify(|loot| loot.connections += 1);
            while let Ok((send, recv)) = connection.accept().await {
                let (shared, connection) = (Arc::clone(&shared), connection.clone());
                // The other side may be gone.
                tokio::spawn(async move { drop(shared.serve(connection, send, recv).await) });
            }
        });
    }
}

impl Shared {
    fn lie(&self) -> Lie {
        *self.lock(&self.lie)
    }

    fn lock<'a, T>(&self, slot: &'a Mutex<T>) -> MutexGuard<'a, T> {
        slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, connection: Connection, mut send: SendHalf, mut recv: RecvHalf) -> Result<(), NetError> {
        let frame = recv.recv_frame(MESSAGE_BYTES_MAX).await?.unwrap();
        let answer = match decode::<PayeeRequest>(&frame).unwrap() {
            PayeeRequest::OpenBook(open) => return self.take(*open, send, recv).await,
            PayeeRequest::Request {
                book: Some(book),
                ticket,
                from_unit,
                ..
            } => return self.deliver(connection, send, book, ticket.is_some(), from_unit).await,
            PayeeRequest::Request { book: None, .. } => PayeeAnswer::Response(header(0)),
            PayeeRequest::Quote { service, .. } => PayeeAnswer::Quote(EPOCH.quote(self.terms(service))),
            PayeeRequest::PresentHold { hold } => {
                self.loot.send_modify(|loot| loot.shown += 1);
                PayeeAnswer::HoldState {
                    revision: hold.body.revision,
                    room: hold.body.cap,
                }
            }
            PayeeRequest::Services { .. } => PayeeAnswer::Rejected(Reject::of(Code::Unavailable)),
        };
        say(&mut send, &answer).await
    }

    fn terms(&self, service: Service) -> QuoteTerms {
        QuoteTerms {
            payee: self.account,
            quote_id: QuoteId(clock::random()),
            service,
            asset: Asset::USD,
            ticket_price: PRICE,
            face_value_min: PRICE,
            face_value_max: PRICE,
            book_length_max: 4_096,
            jump_max: 4_096,
            expires_at: clock::now().plus_ms(60_000),
            escrows: Escrows::new(vec![self.escrow]).unwrap(),
        }
    }

    /// A book's stream.
    async fn take(&self, open: OpenBook, mut send: SendHalf, mut recv: RecvHalf) -> Result<(), NetError> {
        let id = open.book.body.id();
        let given = Given { open, last: None };
        self.loot.send_modify(|loot| {
            loot.first.get_or_insert(id);
            loot.books.insert(id, given);
        });
        acknowledge(&mut send, 0).await?;
        let mut records = Vec::new();
        while let Some(bytes) = recv.read_chunk(TICKET_BYTES).await? {
            records.extend_from_slice(&bytes);
            let (whole, _) = records.as_chunks::<TICKET_BYTES>();
            let used = whole.len() * TICKET_BYTES;
            let Some(ticket) = whole.last().map(Ticket::from_bytes) else {
                continue;
            };
            records.drain(..used);
            match self.lie() {
                Lie::KeepsThePay | Lie::DeliversNothing | Lie::KeepsAll | Lie::KeepsTheRest => {
                    acknowledge(&mut send, ticket.index).await?;
                }
                Lie::Denies | Lie::DeniesTheDead | Lie::DeniesTooEarly if self.is_first(&id) => {}
                Lie::Denies | Lie::DeniesTheDead | Lie::DeniesTooEarly => acknowledge(&mut send, ticket.index).await?,
                Lie::Mumbles => return mumble(send).await,
                Lie::AsksForRoom => return self.ask_for_room(send).await,
            }
            self.loot.send_modify(|loot| {
                loot.books.get_mut(&id).unwrap().last = Some(ticket);
            });
        }
        Ok(())
    }

    async fn ask_for_room(&self, mut send: SendHalf) -> Result<(), NetError> {
        let (through, need, has) = (0, PRICE, Amount::ZERO);
        let mut loot = self.loot.subscribe();
        for shown in 0.. {
            send.send_frame(&encode(&BookFrame::Exhausted { through, need, has }))
                .await?;
            drop(loot.wait_for(|loot| loot.shown > shown).await);
        }
        Ok(())
    }

    /// What follows a request for units.
    async fn deliver(
        &self,
        connection: Connection,
        mut send: SendHalf,
        book: BookId,
        is_again: bool,
        from: u64,
    ) -> Result<(), NetError> {
        match self.lie() {
            Lie::KeepsThePay | Lie::KeepsAll if is_again => {
                say(&mut send, &PayeeAnswer::Rejected(Reject::of(Code::BookUnknown))).await
            }
            Lie::DeliversNothing | Lie::KeepsAll | Lie::Mumbles | Lie::AsksForRoom => {
                send.send_frame(&encode(&PayeeAnswer::Response(header(0)))).await?;
                connection.closed().await;
                Ok(())
            }
            Lie::DeniesTooEarly if is_again && self.loot.borrow().asked_again > 0 => {
                say(&mut send, &PayeeAnswer::Rejected(Reject::of(Code::BookUnknown))).await
            }
            Lie::Denies | Lie::DeniesTheDead | Lie::DeniesTooEarly if self.is_first(&book) => {
                send.send_frame(&encode(&PayeeAnswer::Response(header(0)))).await?;
                if is_again {
                    self.loot.send_modify(|loot| loot.asked_again += 1);
                    return send.finish();
                }
                self.tickets(&book, 1).await;
                self.loot.send_modify(|loot| loot.asked += 1);
                match self.lie() {
                    Lie::DeniesTheDead => drop(connection.closed().await),
                    _ => connection.close(0, "never heard of you"),
                }
                Ok(())
            }
            Lie::Denies | Lie::DeniesTheDead | Lie::DeniesTooEarly => {
                send.send_frame(&encode(&PayeeAnswer::Response(header(0)))).await?;
                for (unit, ticket) in (from..u64::from(UNITS)).zip(1..) {
                    self.tickets(&book, ticket).await;
                    self.send_unit(&mut send, unit).await?;
                }
                send.finish()
            }
            Lie::KeepsTheRest if is_again => {
                send.send_frame(&encode(&PayeeAnswer::Response(header(2)))).await?;
                self.loot.send_modify(|loot| loot.asked_again += 1);
                connection.closed().await;
                Ok(())
            }
            Lie::KeepsThePay | Lie::KeepsTheRest => {
                send.send_frame(&encode(&PayeeAnswer::Response(header(0)))).await?;
                self.tickets(&book, 1).await;
                self.send_unit(&mut send, from).await?;
                send.finish()?;
                send.delivered().await?;
                self.tickets(&book, 2).await;
                connection.close(0, "more");
                Ok(())
            }
        }
    }

    fn is_first(&self, book: &BookId) -> bool {
        self.loot.borrow().first == Some(*book)
    }

    /// Waits until a book has brought so many tickets.
    async fn tickets(&self, book: &BookId, count: u32) {
        let has_come = |loot: &Loot| loot.books[book].last.is_some_and(|ticket| ticket.index >= count);
        self.loot.subscribe().wait_for(has_come).await.unwrap();
    }

    async fn send_unit(&self, send: &mut SendHalf, unit: u64) -> Result<(), NetError> {
        let from = usize::try_from(unit).unwrap() * UNIT as usize;
        send.write(&content()[from..from + UNIT as usize]).await?;
        self.loot.send_modify(|loot| loot.delivered += 1);
        Ok(())
    }
}

pub(super) fn content() -> Vec<u8> {
    (0..UNITS * UNIT).map(|at| (at % 251) as u8).collect()
}

fn header(through: u32) -> ResponseHeader {
    use sha2::Digest;
    ResponseHeader {
        size: u64::from(UNITS * UNIT),
        units: u64::from(UNITS),
        unit_bytes: UNIT,
        content_hash: ContentHash(sha2::Sha256::digest(content()).into()),
        through,
    }
}

async fn acknowledge(send: &mut SendHalf, through: u32) -> Result<(), NetError> {
    let next_quote = None;
    send.send_frame(&encode(&BookFrame::Ack { through, next_quote })).await
}

async fn mumble(mut send: SendHalf) -> Result<(), NetError> {
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    loop {
        beat.tick().await;
        acknowledge(&mut send, 0).await?;
    }
}

async fn say(send: &mut SendHalf, answer: &PayeeAnswer) -> Result<(), NetError> {
    send.send_frame(&encode(answer)).await?;
    send.finish()
}
