//! A payer: orders, holds, books, and a window for each payee.

use super::net::{Kind, Net, Packet, Party, Stream};
use std::collections::BTreeMap;
use tombola_core::amount::{DAY_MS, SECOND_MS, Timestamp};
use tombola_core::book::TICKET_BYTES;
use tombola_core::chain::Preimage;
use tombola_core::codec::{decode, encode};
use tombola_core::hold::{Fee, Hold};
use tombola_core::key::{AccountKey, BookId, RequestId, SecretKey, Signed};
use tombola_core::message::{
    BookFrame, EscrowAnswer, EscrowCommand, EscrowRequest, HoldRequest, OpenBook, PayeeAnswer, PayeeRequest,
    RequestHeader,
};
use tombola_core::payer::{JournalRow, PayerBook, Window};
use tombola_core::quote::{Quote, Service};
use tombola_core::reject::{Code, Reject};

#[derive(Debug)]
pub(crate) struct Buyer {
    number: usize,
    key: SecretKey,
    desks: Vec<Desk>,
    asks: BTreeMap<u64, Ask>,
    pub(crate) journal: BTreeMap<BookId, JournalRow>,
    /// Of every book ever: the end of its chain, and the highest index sent. For the observer only.
    issued: BTreeMap<BookId, (Preimage, u32)>,
}

/// Everything towards one payee.
#[derive(Debug)]
struct Desk {
    payee: AccountKey,
    hold: Option<Signed<Hold>>,
    window: Window,
    lines: BTreeMap<BookId, Line>,
    want: u64,
    paid: u64,
    /// Asks for no quote before this: the payee has said no.
    quiet_until: Timestamp,
}

/// One open book.
#[derive(Debug)]
struct Line {
    book: PayerBook,
    state: LineState,
    heard_at: Timestamp,
    last_record: Vec<u8>,
    finished: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineState {
    Asked,
    Open,
    Exhausted,
}

/// A request that is asked again until it is answered.
#[derive(Debug)]
struct Ask {
    desk: usize,
    to: Party,
    bytes: Vec<u8>,
    what: What,
    at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Hold,
    TopUp,
    Quote,
    Present,
}

impl Buyer {
    pub(crate) fn new(number: usize, payees: &[AccountKey], net: &mut Net) -> Self {
        let desk = |payee: &AccountKey| Desk {
            payee: *payee,
            hold: None,
            window: Window::new(net.options.window),
            lines: BTreeMap::new(),
            want: 0,
            paid: 0,
            quiet_until: Timestamp(0),
        };
        let desks = payees.iter().map(desk).collect();
        Self {
            number,
            key: SecretKey::from_seed(&net.dice.bytes()),
            desks,
            asks: BTreeMap::new(),
            journal: BTreeMap::new(),
            issued: BTreeMap::new(),
        }
    }

    pub(crate) fn account(&self) -> AccountKey {
        self.key.account()
    }

    pub(crate) fn key(&self) -> &SecretKey {
        &self.key
    }

    pub(crate) fn hold(&self, payee: usize) -> Option<&Signed<Hold>> {
        self.desks[payee].hold.as_ref()
    }

    /// Units that a payee has acknowledged.
    pub(crate) fn paid(&self, payee: usize) -> u64 {
        self.desks[payee].paid
    }

    pub(crate) fn window(&self, payee: usize) -> &Window {
        &self.desks[payee].window
    }

    pub(crate) fn secret_of(&self, book: &BookId) -> Preimage {
        self.issued[book].0
    }

    pub(crate) fn sent_of(&self, book: &BookId) -> u32 {
        self.issued[book].1
    }

    /// Tickets ever sent, in all books.
    pub(crate) fn sent(&self) -> u64 {
        self.issued.values().map(|(_, sent)| u64::from(*sent)).sum()
    }

    pub(crate) fn order(&mut self, payee: usize, units: u64, net: &mut Net) {
        self.desks[payee].want += units;
        self.work(payee, net);
    }

    /// Wants nothing more and ends its side of every book.
    pub(crate) fn finish(&mut self, net: &mut Net) {
        for n in 0..self.desks.len() {
            self.desks[n].want = 0;
            let ids: Vec<BookId> = self.desks[n].lines.keys().copied().collect();
            for id in ids {
                self.desks[n].lines.get_mut(&id).unwrap().finished = true;
                self.say(n, Stream::Book(id), Kind::Fin, Vec::new(), net);
            }
        }
    }

    /// The connection to a payee is gone: nobody knows what became of the tickets in flight.
    pub(crate) fn disconnected(&mut self, payee: usize, net: &mut Net) {
        let ids: Vec<BookId> = self.desks[payee].lines.keys().copied().collect();
        for id in ids {
            self.lose(payee, &id);
        }
        self.asks.retain(|_, ask| ask.to != Party::Payee(payee));
        self.work(payee, net);
    }

    fn lose(&mut self, n: usize, id: &BookId) {
        let desk = &mut self.desks[n];
        let Some(mut line) = desk.lines.remove(id) else { return };
        line.book.lost(&mut desk.window);
        self.journal.insert(*id, line.book.journal_row());
    }

    /// Does what is next: a hold, then books, then tickets as far as the window allows.
    fn work(&mut self, n: usize, net: &mut Net) {
        if self.desks[n].want == 0 {
            return;
        }
        if self.desks[n].hold.is_none() {
            self.open_hold(n, net);
            return;
        }
        let open = self.desks[n].lines.len() + self.asked(n, What::Quote);
        let is_quiet = net.now < self.desks[n].quiet_until;
        for _ in open..if is_quiet { 0 } else { net.options.books } {
            let service = Service::new("/units").unwrap();
            let request = PayeeRequest::Quote { service, price: None };
            self.ask(n, Party::Payee(n), What::Quote, encode(&request), net);
        }
        self.issue(n, net);
    }

    fn issue(&mut self, n: usize, net: &mut Net) {
        let Self { desks, issued, .. } = self;
        let Desk {
            lines, window, want, ..
        } = &mut desks[n];
        let in_flight: u64 = lines.values().map(|line| u64::from(line.book.in_flight())).sum();
        let mut left = want.saturating_sub(in_flight);
        let mut packets = Vec::new();
        for (id, line) in lines.iter_mut().filter(|(_, line)| line.state == LineState::Open) {
            let mut records = Vec::new();
            let count = u32::try_from(left).unwrap_or(u32::MAX);
            let sent = line.book.issue(count, window, &mut records);
            if sent > 0 {
                left -= u64::from(sent);
                line.last_record = records[records.len() - TICKET_BYTES..].to_vec();
                line.heard_at = net.now;
                issued.get_mut(id).unwrap().1 = line.book.sent();
                packets.push((*id, records));
            }
        }
        for (id, records) in packets {
            self.say(n, Stream::Book(id), Kind::Tickets, records, net);
        }
    }

    pub(crate) fn open_hold(&mut self, n: usize, net: &mut Net) {
        if self.asked(n, What::Hold) > 0 {
            return;
        }
        let options = net.options;
        let hold = HoldRequest {
            signer: self.account(),
            payee: self.desks[n].payee,
            face_value_min: options.face_value,
            face_value_max: options.face_value,
            book_length_max: options.book_length,
            expires_at: net.now.plus_ms(DAY_MS),
            redeem_by: net.now.plus_ms(3 * DAY_MS),
            cap: options.cap,
            fee_max: FEE_MAX,
        };
        let request = header(net);
        let command = EscrowCommand::OpenHold { request, hold };
        self.ask_escrow(n, What::Hold, command, net);
    }

    fn top_up(&mut self, n: usize, net: &mut Net) {
        let Some(hold) = self.desks[n].hold.as_ref().map(|hold| hold.body) else {
            return;
        };
        let cap = hold
            .cap
            .checked_add(net.options.cap)
            .unwrap()
            .min(net.options.spend_max);
        if self.asked(n, What::TopUp) > 0 || self.asked(n, What::Present) > 0 || cap <= hold.cap {
            return;
        }
        let request = header(net);
        let command = EscrowCommand::TopUpHold {
            request,
            hold: hold.id(),
            revision: hold.revision,
            cap,
        };
        self.ask_escrow(n, What::TopUp, command, net);
    }

    fn open_book(&mut self, n: usize, quote: Quote, net: &mut Net) {
        let Some(hold) = self.desks[n].hold else { return };
        let secret = Preimage(net.dice.bytes());
        let (face, length) = (net.options.face_value, net.options.book_length);
        let book = PayerBook::new(&hold.body, &quote, face, length, secret, &self.key).unwrap();
        let id = book.id();
        let open = OpenBook {
            hold,
            quote,
            book: *book.signed(),
        };
        self.issued.insert(id, (secret, 0));
        self.journal.insert(id, book.journal_row());
        let line = Line {
            book,
            state: LineState::Asked,
            heard_at: net.now,
            last_record: Vec::new(),
            finished: false,
        };
        self.desks[n].lines.insert(id, line);
        let bytes = encode(&PayeeRequest::OpenBook(Box::new(open)));
        self.say(n, Stream::Book(id), Kind::Ask, bytes, net);
    }

    pub(crate) fn receive(&mut self, packet: &Packet, net: &mut Net) {
        match (packet.stream, packet.kind) {
            (Stream::Book(id), Kind::Frame) => {
                let Party::Payee(n) = packet.from else { return };
                self.hear(n, &id, decode(&packet.bytes).unwrap(), net);
                self.work(n, net);
            }
            (Stream::Ask(number), Kind::Answer) => {
                // An answer that came twice finds nothing asked.
                let Some(ask) = self.asks.remove(&number) else { return };
                match packet.from {
                    Party::Escrow => self.escrow_said(&ask, decode(&packet.bytes).unwrap(), net),
                    Party::Payee(_) => self.payee_said(&ask, decode(&packet.bytes).unwrap(), net),
                    Party::Payer(_) => panic!("payers do not talk to each other"),
                }
                self.work(ask.desk, net);
            }
            other => panic!("{other:?}"),
        }
    }

    fn escrow_said(&mut self, ask: &Ask, answer: EscrowAnswer, net: &mut Net) {
        match answer {
            EscrowAnswer::Hold(hold) | EscrowAnswer::RevisionStale(hold) => {
                self.desks[ask.desk].hold = Some(hold);
                if ask.what == What::TopUp {
                    let request = PayeeRequest::PresentHold { hold };
                    self.ask(ask.desk, Party::Payee(ask.desk), What::Present, encode(&request), net);
                }
            }
            EscrowAnswer::Rejected(reject) => match reject.code {
                Code::InsufficientFunds | Code::RequestExpired => self.desks[ask.desk].want = 0,
                Code::HoldReleased | Code::HoldExpired => self.desks[ask.desk].hold = None,
                _ => panic!("{reject}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn payee_said(&mut self, ask: &Ask, answer: PayeeAnswer, net: &mut Net) {
        match answer {
            PayeeAnswer::Quote(quote) => self.open_book(ask.desk, quote, net),
            PayeeAnswer::HoldState { .. } => {}
            PayeeAnswer::Rejected(reject) => self.note_reject(ask.desk, reject, net),
            PayeeAnswer::Services { .. } | PayeeAnswer::Response(_) => panic!("{answer:?}"),
        }
    }

    fn hear(&mut self, n: usize, id: &BookId, frame: BookFrame, net: &mut Net) {
        let desk = &mut self.desks[n];
        let Some(line) = desk.lines.get_mut(id) else { return };
        line.heard_at = net.now;
        let news = match frame {
            BookFrame::Ack { through, .. } => {
                line.state = LineState::Open;
                line.book.acknowledge(through, &mut desk.window)
            }
            BookFrame::Exhausted { through, .. } => {
                let news = line.book.acknowledge(through, &mut desk.window);
                line.state = LineState::Exhausted;
                self.top_up(n, net);
                news
            }
            BookFrame::Closed { through, reject, .. } => {
                let news = line.book.closed_by_payee(through, reject, &mut desk.window);
                self.journal.insert(*id, line.book.journal_row());
                desk.lines.remove(id);
                self.note_reject(n, reject, net);
                news
            }
        };
        let desk = &mut self.desks[n];
        desk.want = desk.want.saturating_sub(u64::from(news));
        desk.paid += u64::from(news);
    }

    fn note_reject(&mut self, n: usize, reject: Reject, net: &mut Net) {
        net.rejects.push(reject);
        if !matches!(
            reject.code,
            Code::BookComplete | Code::BookRedeemed | Code::BookFinished
        ) {
            self.desks[n].quiet_until = net.now.plus_ms(SECOND_MS);
        }
        if matches!(reject.code, Code::HoldReleased | Code::HoldExpired) {
            self.desks[n].hold = None;
        }
    }

    /// Asks again what was not answered, shows the highest ticket again, gives up on dead books.
    pub(crate) fn tick(&mut self, net: &mut Net) {
        let due: Vec<u64> = self
            .asks
            .iter()
            .filter(|(_, ask)| net.now >= ask.at)
            .map(|(n, _)| *n)
            .collect();
        for number in due {
            let ask = self.asks.get_mut(&number).unwrap();
            ask.at = net.now.plus_ms(RETRY_MS);
            let packet = packet(self.number, ask.to, Stream::Ask(number), Kind::Ask, ask.bytes.clone());
            net.send(packet);
        }
        for n in 0..self.desks.len() {
            self.tick_desk(n, net);
            self.work(n, net);
        }
    }

    fn tick_desk(&mut self, n: usize, net: &mut Net) {
        let mut again = Vec::new();
        let mut dead = Vec::new();
        let mut exhausted = false;
        for (id, line) in &self.desks[n].lines {
            let waits = line.book.in_flight() > 0 || line.state != LineState::Open || line.finished;
            let silent_ms = net.now.0 - line.heard_at.0;
            exhausted |= line.state == LineState::Exhausted;
            if waits && silent_ms >= DEAD_MS {
                dead.push(*id);
            } else if waits && line.finished {
                again.push((*id, Kind::Fin, Vec::new()));
            } else if waits && !line.last_record.is_empty() {
                again.push((*id, Kind::Tickets, line.last_record.clone()));
            }
        }
        for (id, kind, bytes) in again {
            self.say(n, Stream::Book(id), kind, bytes, net);
        }
        for id in dead {
            self.lose(n, &id);
            self.say(n, Stream::Book(id), Kind::Fin, Vec::new(), net);
        }
        if exhausted {
            self.top_up(n, net);
        }
    }

    fn asked(&self, n: usize, what: What) -> usize {
        self.asks
            .values()
            .filter(|ask| ask.desk == n && ask.what == what)
            .count()
    }

    fn ask_escrow(&mut self, n: usize, what: What, command: EscrowCommand, net: &mut Net) {
        let account = self.account();
        self.ask(n, Party::Escrow, what, encode(&EscrowRequest { account, command }), net);
    }

    fn ask(&mut self, desk: usize, to: Party, what: What, bytes: Vec<u8>, net: &mut Net) {
        let number = net.number();
        let ask = Ask {
            desk,
            to,
            bytes: bytes.clone(),
            what,
            at: net.now.plus_ms(RETRY_MS),
        };
        self.asks.insert(number, ask);
        net.send(packet(self.number, to, Stream::Ask(number), Kind::Ask, bytes));
    }

    fn say(&self, n: usize, stream: Stream, kind: Kind, bytes: Vec<u8>, net: &mut Net) {
        net.send(packet(self.number, Party::Payee(n), stream, kind, bytes));
    }
}

fn packet(number: usize, to: Party, stream: Stream, kind: Kind, bytes: Vec<u8>) -> Packet {
    Packet {
        from: Party::Payer(number),
        to,
        stream,
        kind,
        bytes,
    }
}

fn header(net: &mut Net) -> RequestHeader {
    RequestHeader {
        id: RequestId(net.dice.bytes()),
        issued_at: net.now,
    }
}

pub(crate) const FEE_MAX: Fee = Fee {
    flat: tombola_core::amount::Amount(10),
    ppm: 20_000,
};
const RETRY_MS: u64 = 2 * SECOND_MS;
const DEAD_MS: u64 = 8 * SECOND_MS;
