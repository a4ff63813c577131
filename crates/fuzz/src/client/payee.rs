//! A payee that draws nothing, and delivers a unit for each ticket.

use super::lie::{Liar, Said};
use crate::input::Input;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tokio::sync::watch;
use tombola_core::amount::{Amount, Asset};
use tombola_core::book::{TICKET_BYTES, Ticket};
use tombola_core::codec::{decode, encode};
use tombola_core::key::{AccountKey, BookId, QuoteId, SecretKey};
use tombola_core::message::{BookFrame, ContentHash, OpenBook, PayeeAnswer, PayeeRequest, ResponseHeader};
use tombola_core::quote::{EpochSecret, Escrows, Quote, QuoteTerms, Service};
use tombola_core::reject::{Code, Reject};
use tombola_net::{Connection, NetError, RecvHalf, SendHalf};
use tombola_node::clock;

pub(super) const PRICE: Amount = Amount(1_000_000);
/// So many units there are, of so many bytes each; a book does not pay for all of them.
pub(super) const UNITS: u64 = 20;
const UNIT_BYTES: u32 = 16;
const BOOK_LENGTH_MAX: u32 = 8;
/// More bytes than a unit has, and than there are.
pub(super) const TOO_MUCH: u8 = 14;
/// A winner pays for so many tickets.
const FACES: u64 = 4;

pub(super) struct Shop {
    account: AccountKey,
    escrow: AccountKey,
    /// How far each book has come.
    paid: watch::Sender<BTreeMap<BookId, u32>>,
}

impl Shop {
    pub(super) fn new(key: &SecretKey, escrow: AccountKey) -> Self {
        Self {
            account: key.account(),
            escrow,
            paid: watch::Sender::default(),
        }
    }

    fn quote(&self, service: Service, price: Option<Amount>) -> Quote {
        EpochSecret::new([7; 32]).quote(QuoteTerms {
            payee: self.account,
            quote_id: QuoteId([7; 16]),
            service,
            asset: Asset::USD,
            ticket_price: price.unwrap_or(PRICE),
            face_value_min: PRICE,
            face_value_max: PRICE.saturating_mul(FACES),
            book_length_max: BOOK_LENGTH_MAX,
            jump_max: BOOK_LENGTH_MAX,
            expires_at: clock::now().plus_ms(60_000),
            escrows: Escrows::new(vec![self.escrow]).expect("one"),
        })
    }

    fn header(&self, book: Option<&BookId>) -> PayeeAnswer {
        let through = book.and_then(|book| self.paid.borrow().get(book).copied());
        let song = song();
        PayeeAnswer::Response(ResponseHeader {
            size: u64::try_from(song.len()).expect("short"),
            units: UNITS,
            unit_bytes: UNIT_BYTES,
            content_hash: ContentHash(Sha256::digest(&song).into()),
            through: through.unwrap_or_default(),
        })
    }

    /// Waits until so many tickets have come.
    async fn tickets(&self, count: u64) {
        let has_come =
            |paid: &BTreeMap<BookId, u32>| paid.values().map(|through| u64::from(*through)).sum::<u64>() >= count;
        // It is served for as long as it is there.
        let _ = self.paid.subscribe().wait_for(has_come).await;
    }
}

fn song() -> Vec<u8> {
    (0..UNITS)
        .flat_map(|unit| [unit.to_le_bytes()[0]; UNIT_BYTES as usize])
        .collect()
}

impl Liar {
    pub(super) async fn serve_payer(&self, connection: &Connection, frame: &[u8], mut send: SendHalf, recv: RecvHalf) {
        let answer = match decode(frame).expect("a client's requests are well-formed") {
            PayeeRequest::OpenBook(open) => {
                // The payer may be gone.
                let _ = self.take(connection, &open, send, recv).await;
                return;
            }
            PayeeRequest::Request {
                book: Some(book),
                from_unit,
                ..
            } => return self.deliver(connection, &book, from_unit, send).await,
            PayeeRequest::Request { book: None, .. } => self.shop.header(None),
            PayeeRequest::Quote { service, price } => PayeeAnswer::Quote(self.shop.quote(service, price)),
            PayeeRequest::PresentHold { hold } => PayeeAnswer::HoldState {
                revision: hold.body.revision,
                room: hold.body.cap,
            },
            PayeeRequest::Services { .. } => PayeeAnswer::Rejected(Reject::of(Code::Unavailable)),
        };
        if self.tell(connection, &mut send, "PayeeAnswer", &encode(&answer)).await == Said::More {
            let _ = send.finish();
        }
    }

    /// A book's stream.
    async fn take(
        &self,
        connection: &Connection,
        open: &OpenBook,
        mut send: SendHalf,
        mut recv: RecvHalf,
    ) -> Result<(), NetError> {
        let (id, length) = (open.book.body.id(), open.book.body.length);
        let mut records = Vec::new();
        let mut through = 0;
        loop {
            self.shop.paid.send_modify(|paid| {
                paid.insert(id, through);
            });
            let next_quote = Some(self.shop.quote(open.quote.terms.service.clone(), Some(PRICE)));
            let frame = if through == length {
                let reject = Reject::of(Code::BookComplete);
                BookFrame::Closed {
                    through,
                    reject,
                    next_quote,
                }
            } else {
                self.choose(|input| frame(input, through, next_quote))
            };
            let is_last = matches!(frame, BookFrame::Closed { .. });
            if self.tell(connection, &mut send, "BookFrame", &encode(&frame)).await == Said::All || is_last {
                return Ok(());
            }
            loop {
                let Some(bytes) = recv.read_chunk(TICKET_BYTES).await? else {
                    let (reject, next_quote) = (Reject::of(Code::BookFinished), None);
                    let closed = encode(&BookFrame::Closed {
                        through,
                        reject,
                        next_quote,
                    });
                    self.tell(connection, &mut send, "BookFrame", &closed).await;
                    return Ok(());
                };
                records.extend_from_slice(&bytes);
                let (whole, _) = records.as_chunks::<TICKET_BYTES>();
                let used = whole.len() * TICKET_BYTES;
                if let Some(ticket) = whole.last().map(Ticket::from_bytes) {
                    through = ticket.index;
                    records.drain(..used);
                    break;
                }
            }
        }
    }

    /// What follows a request for units that a book pays for.
    async fn deliver(&self, connection: &Connection, book: &BookId, from: u64, mut send: SendHalf) {
        let header = encode(&self.shop.header(Some(book)));
        if self.tell(connection, &mut send, "PayeeAnswer", &header).await == Said::All {
            return;
        }
        for (unit, bytes) in (0..).zip(song().chunks(UNIT_BYTES as usize)) {
            if unit < from {
                continue;
            }
            self.shop.tickets(unit + 1).await;
            let bytes = match self.choose(|input| input.byte() % 16) {
                ..12 => bytes.to_vec(),
                12 => vec![9; bytes.len()],
                13 => bytes[..bytes.len() / 2].to_vec(),
                TOO_MUCH => bytes.repeat(usize::from(u8::MAX)),
                _ => break,
            };
            if send.write(&bytes).await.is_err() {
                return;
            }
        }
        let _ = send.finish();
    }
}

/// What is said of a book that goes on: mostly that.
fn frame(input: &mut Input<'_>, through: u32, next_quote: Option<Quote>) -> BookFrame {
    match input.byte() % 16 {
        ..12 => BookFrame::Ack { through, next_quote },
        12 => BookFrame::Ack {
            through: u32::from(input.short()),
            next_quote: None,
        },
        13 => BookFrame::Exhausted {
            through,
            need: PRICE.saturating_mul(u64::from(input.byte())),
            has: Amount::ZERO,
        },
        14 => BookFrame::Closed {
            through,
            reject: reject(input),
            next_quote,
        },
        _ => BookFrame::Closed {
            through: u32::from(input.byte()),
            reject: reject(input),
            next_quote: None,
        },
    }
}

fn reject(input: &mut Input<'_>) -> Reject {
    Reject::compared(input.pick(Code::ALL), input.long(), input.long())
}
