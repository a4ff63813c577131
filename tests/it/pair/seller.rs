//! A payee: its rules, its open books, and a disk that keeps only what it had time to keep.

use super::bank::Bank;
use super::buyer::FEE_MAX;
use super::net::{Event, Kind, Net, Opened, Packet, Party, Stream};
use std::collections::{BTreeMap, VecDeque};
use tombola_core::amount::{Amount, Asset, DAY_MS, SECOND_MS, Timestamp};
use tombola_core::book::{TICKET_BYTES, Ticket};
use tombola_core::claim::{Claim, ClaimBatch};
use tombola_core::codec::{List, decode, encode};
use tombola_core::hold::Release;
use tombola_core::key::{AccountKey, BookId, HoldId, QuoteId, SecretKey, Signed};
use tombola_core::limits::HOLD_CHECK_MS;
use tombola_core::message::{
    BookFrame, ClaimAnswer, EscrowAnswer, EscrowCommand, EscrowRequest, OpenBook, PayeeAnswer, PayeeRequest,
};
use tombola_core::payee::{HoldRow, PaidBy, Payee, PayeeBook, PayeeTerms, Settled, Taken, Task, WinnerRow};
use tombola_core::quote::{EpochSecret, Escrows};
use tombola_core::reject::{Code, Reject};

#[derive(Debug)]
pub(crate) struct Seller {
    number: usize,
    key: SecretKey,
    terms: PayeeTerms,
    pub(crate) payee: Payee,
    pub(crate) books: BTreeMap<BookId, Desk>,
    ended: BTreeMap<BookId, (u32, Reject)>,
    pub(crate) disk: Disk,
    epoch: [u8; 32],
    life: u32,
    checks: BTreeMap<u64, HoldId>,
    quiet_until: Timestamp,
    /// Units delivered in all its lives.
    pub(crate) served: u64,
}

/// An open book, or one that closes as soon as its winners are durable.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) book: PayeeBook,
    payer: usize,
    closing: Option<Reject>,
}

/// What a payee's store does with a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskState {
    Sound,
    Failing,
}

/// Rows that are durable, and writes that are not yet.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) state: DiskState,
    pub(crate) holds: BTreeMap<HoldId, HoldRow>,
    pub(crate) winners: BTreeMap<BookId, WinnerRow>,
    pending: VecDeque<Write>,
    /// Writes made durable.
    pub(crate) writes: u64,
}

#[derive(Debug, Clone)]
enum Write {
    Hold(HoldRow),
    Winner(Box<WinnerRow>),
    Settled(Settled),
    Released(HoldRow, Signed<Release>),
    Forget(HoldId),
}

impl Seller {
    pub(crate) fn new(number: usize, bank: &Bank, net: &mut Net) -> Self {
        let key = SecretKey::from_seed(&net.dice.bytes());
        let options = net.options;
        let terms = PayeeTerms {
            payee: key.account(),
            asset: Asset::USD,
            escrows: Escrows::new(vec![bank.account_key()]).unwrap(),
            fee_max: FEE_MAX,
            face_value_min: Amount(10),
            face_value_max: Amount(1_000_000),
            book_length_max: options.book_length,
            jump_max: options.jump_max,
            credit_units: options.credit_units,
            redeem_at_value: options.redeem_at_value,
            redeem_window_min_ms: DAY_MS,
            hold_life_max_ms: 90 * DAY_MS,
            opens_per_second_max: 1_000,
            asks_before: net.now.minus_ms(options.store_age_ms).plus_ms(HOLD_CHECK_MS),
        };
        let epoch: [u8; 32] = net.dice.bytes();
        let payee = Payee::new(terms.clone(), EpochSecret::new(epoch), vec![], vec![], net.now).unwrap();
        Self {
            number,
            key,
            terms,
            payee,
            books: BTreeMap::new(),
            ended: BTreeMap::new(),
            disk: Disk {
                state: DiskState::Sound,
                holds: BTreeMap::new(),
                winners: BTreeMap::new(),
                pending: VecDeque::new(),
                writes: 0,
            },
            epoch,
            life: 0,
            checks: BTreeMap::new(),
            quiet_until: Timestamp(0),
            served: 0,
        }
    }

    pub(crate) fn account(&self) -> AccountKey {
        self.key.account()
    }

    /// A new process on what the disk has kept: writes that were under way are lost.
    pub(crate) fn restart(&mut self, net: &mut Net) {
        self.life += 1;
        self.epoch = net.dice.bytes();
        self.disk.pending.clear();
        self.disk.state = DiskState::Sound;
        let holds = self.disk.holds.values().copied().collect();
        let winners = self.disk.winners.values().copied().collect();
        self.payee = Payee::new(
            self.terms.clone(),
            EpochSecret::new(self.epoch),
            holds,
            winners,
            net.now,
        )
        .unwrap();
        self.books.clear();
        self.ended.clear();
        self.checks.clear();
        self.quiet_until = Timestamp(0);
        self.run_tasks(net);
    }

    /// A new process on an empty store.
    pub(crate) fn lose_store(&mut self, net: &mut Net) {
        self.disk.holds.clear();
        self.disk.winners.clear();
        self.terms.asks_before = net.now.plus_ms(HOLD_CHECK_MS);
        self.restart(net);
    }

    /// Highest indices drawn, over all open books.
    pub(crate) fn drawn(&self) -> u64 {
        self.books.values().map(|desk| u64::from(desk.book.through())).sum()
    }

    /// Winners of all open books.
    pub(crate) fn winners(&self) -> u64 {
        self.books.values().map(|desk| u64::from(desk.book.winners())).sum()
    }

    /// A payer's connection is gone, and its books with it.
    pub(crate) fn disconnected(&mut self, payer: &AccountKey, net: &mut Net) {
        let is_gone = |desk: &&Desk| self.payee.payer(&desk.book.hold()) == Some(*payer);
        let gone = self.books.values().filter(is_gone);
        let gone: Vec<BookId> = gone.map(|desk| desk.book.id()).collect();
        for id in gone {
            self.close(&id, Reject::of(Code::StreamLost), net);
        }
    }

    pub(crate) fn receive(&mut self, packet: &Packet, net: &mut Net) {
        match (packet.from, packet.stream, packet.kind) {
            (Party::Escrow, Stream::Ask(number), Kind::Answer) => {
                self.escrow_said(number, decode(&packet.bytes).unwrap(), net);
            }
            (Party::Payer(payer), Stream::Book(id), Kind::Ask) => {
                let PayeeRequest::OpenBook(open) = decode(&packet.bytes).unwrap() else {
                    panic!("a book's stream begins with its opening")
                };
                self.open(payer, id, *open, net);
            }
            (Party::Payer(payer), Stream::Book(id), Kind::Tickets) => self.take(payer, &id, &packet.bytes, net),
            (Party::Payer(_), Stream::Book(id), Kind::Fin) => {
                if self.books.contains_key(&id) {
                    self.close(&id, Reject::of(Code::BookFinished), net);
                } else {
                    self.say_ended(packet.from, &id, net);
                }
            }
            (Party::Payer(_), stream @ Stream::Ask(_), Kind::Ask) => {
                let answer = self.answer(decode(&packet.bytes).unwrap(), net);
                let bytes = encode(&answer.unwrap_or_else(PayeeAnswer::Rejected));
                self.say(packet.from, stream, Kind::Answer, bytes, net);
            }
            other => panic!("{other:?}"),
        }
        self.resume_granted(net);
    }

    fn answer(&mut self, request: PayeeRequest, net: &mut Net) -> Result<PayeeAnswer, Reject> {
        match request {
            PayeeRequest::Quote { service, .. } => {
                let id = QuoteId(net.dice.bytes());
                let quote = self.payee.quote(&service, net.options.price, id, net.now)?;
                Ok(PayeeAnswer::Quote(quote))
            }
            PayeeRequest::PresentHold { hold } => {
                let (row, room) = self.payee.present_hold(&hold, net.now)?;
                self.write(Write::Hold(row), net);
                let revision = row.hold.body.revision;
                Ok(PayeeAnswer::HoldState { revision, room })
            }
            other => panic!("{other:?}"),
        }
    }

    fn open(&mut self, payer: usize, id: BookId, open: OpenBook, net: &mut Net) {
        let to = Party::Payer(payer);
        if let Some(desk) = self.books.get(&id) {
            let through = desk.book.ack_through();
            self.ack(to, &id, through, net);
            return;
        }
        if self.ended.contains_key(&id) {
            self.say_ended(to, &id, net);
            return;
        }
        let reveal = EpochSecret::new(self.epoch).reveal(&open.quote.terms);
        let book = open.book.body;
        let reject = match self.payee.open_book(open, net.now) {
            Ok(opened) => {
                let opened_book = Opened {
                    payer,
                    book,
                    reveal,
                    acknowledged: 0,
                };
                net.opened.insert(id, opened_book);
                if let Some(row) = opened.hold_row {
                    self.write(Write::Hold(row), net);
                }
                let desk = Desk {
                    book: opened.book,
                    payer,
                    closing: None,
                };
                self.books.insert(id, desk);
                self.ack(to, &id, 0, net);
                return;
            }
            Err(reject) => reject,
        };
        let frame = BookFrame::Closed {
            through: 0,
            reject,
            next_quote: None,
        };
        self.say(to, Stream::Book(id), Kind::Frame, encode(&frame), net);
        self.run_tasks(net);
    }

    fn take(&mut self, payer: usize, id: &BookId, records: &[u8], net: &mut Net) {
        let to = Party::Payer(payer);
        let Some(desk) = self.books.get_mut(id) else {
            self.say_ended(to, id, net);
            return;
        };
        let mut end = None;
        for record in records.chunks(TICKET_BYTES) {
            let ticket = Ticket::from_bytes(record.try_into().unwrap());
            match desk.book.take(&ticket, &mut self.payee, net.now) {
                Ok(Taken::Drawn | Taken::Repeat | Taken::Exhausted { .. }) => {}
                Err(reject) if reject.code == Code::NotSelling => break,
                Err(reject) => {
                    end = Some(reject);
                    break;
                }
            }
        }
        self.after_draws(id, net);
        if let Some(reject) = end {
            self.close(id, reject, net);
        }
        self.run_tasks(net);
    }

    /// Begins the write of new winners, and says what may be said before it ends.
    fn after_draws(&mut self, id: &BookId, net: &mut Net) {
        let Some(desk) = self.books.get_mut(id) else { return };
        if let Some(row) = desk.book.begin_write() {
            self.write(Write::Winner(Box::new(row)), net);
        }
        self.report(id, net);
    }

    fn report(&mut self, id: &BookId, net: &mut Net) {
        let Some(desk) = self.books.get_mut(id) else { return };
        let through = desk.book.ack_through();
        while desk.book.serve(PaidBy::Tickets) {
            self.served += 1;
        }
        let to = Party::Payer(desk.payer);
        let is_complete = desk.book.is_complete() && through == desk.book.through();
        if desk.book.is_exhausted() {
            let frame = BookFrame::Exhausted {
                through,
                need: desk.book.face_value(),
                has: Amount(0),
            };
            self.note_acknowledged(id, through, net);
            self.say(to, Stream::Book(*id), Kind::Frame, encode(&frame), net);
        } else {
            self.ack(to, id, through, net);
        }
        if is_complete {
            self.close(id, Reject::of(Code::BookComplete), net);
        }
    }

    pub(crate) fn close(&mut self, id: &BookId, reject: Reject, net: &mut Net) {
        let Some(desk) = self.books.get_mut(id) else { return };
        let reject = *desk.closing.get_or_insert(reject);
        desk.book.close(reject);
        if let Some(row) = desk.book.begin_write() {
            self.write(Write::Winner(Box::new(row)), net);
        }
        self.end_if_durable(id, net);
    }

    /// A closed book is handed on, and its claim may leave, once its winners are durable.
    fn end_if_durable(&mut self, id: &BookId, net: &mut Net) {
        let Some(desk) = self.books.get_mut(id) else { return };
        let Some(reject) = desk.closing else { return };
        if desk.book.ack_through() < desk.book.through() {
            return;
        }
        while desk.book.serve(PaidBy::Tickets) {
            self.served += 1;
        }
        let closing = desk.book.close(reject);
        let (through, to) = (desk.book.through(), Party::Payer(desk.payer));
        self.books.remove(id);
        self.ended.insert(*id, (through, closing.reject));
        self.payee.closed(&closing, net.now);
        self.note_acknowledged(id, through, net);
        self.say_ended(to, id, net);
        self.resume_granted(net);
        self.run_tasks(net);
    }

    fn resume_granted(&mut self, net: &mut Net) {
        for id in self.payee.take_granted() {
            if let Some(desk) = self.books.get_mut(&id) {
                desk.book.resume(&mut self.payee);
                self.after_draws(&id, net);
            }
        }
    }

    pub(crate) fn tick(&mut self, net: &mut Net) {
        let idle = self.books.values().filter(|desk| desk.book.is_idle(net.now));
        let idle: Vec<BookId> = idle.map(|desk| desk.book.id()).collect();
        for id in idle {
            self.close(&id, Reject::of(Code::BookIdle), net);
        }
        self.run_tasks(net);
        self.resume_granted(net);
    }

    fn run_tasks(&mut self, net: &mut Net) {
        let may_ask = net.now >= self.quiet_until;
        for task in self.payee.tick(net.now) {
            match task {
                Task::Close(id, code) => self.close(&id, Reject::of(code), net),
                Task::Claim(claims) if may_ask => self.claim(claims, net),
                Task::Check(hold) if may_ask => {
                    let number = net.number();
                    let hold = hold.body.id();
                    self.checks.insert(number, hold);
                    self.ask(number, EscrowCommand::HoldStatus { hold }, net);
                }
                Task::Release(release) => {
                    let signed = Signed::new(release, &self.key);
                    if let Ok(row) = self.payee.released(signed) {
                        self.write(Write::Released(row, signed), net);
                    }
                }
                Task::SendRelease(release) if may_ask => {
                    let kept = self.disk.holds.get(&release.body.hold);
                    if kept.is_some_and(|row| row.release == Some(release)) {
                        self.send_release(release, net);
                    }
                }
                Task::Forget(hold) => {
                    self.terms.asks_before = self.payee.asks_before();
                    self.write(Write::Forget(hold), net);
                }
                Task::Claim(_) | Task::Check(_) | Task::SendRelease(_) => {}
            }
        }
    }

    fn claim(&mut self, claims: Vec<Claim>, net: &mut Net) {
        self.quiet_until = net.now.plus_ms(5 * SECOND_MS);
        for claim in &claims {
            let id = claim.book.body.id();
            assert!(
                !self.books.contains_key(&id),
                "no reveal leaves before its book is closed"
            );
        }
        let batch = ClaimBatch {
            escrow: self.terms.escrows.as_slice()[0],
            payee: self.account(),
            claims: List::new(claims).unwrap(),
        };
        let number = net.number();
        self.ask(number, EscrowCommand::Claim { batch, signature: None }, net);
    }

    fn send_release(&mut self, release: Signed<Release>, net: &mut Net) {
        self.quiet_until = net.now.plus_ms(5 * SECOND_MS);
        let number = net.number();
        self.ask(number, EscrowCommand::Release(release), net);
    }

    fn escrow_said(&mut self, number: u64, answer: EscrowAnswer, net: &mut Net) {
        match answer {
            EscrowAnswer::Claimed { answers } => {
                for answer in answers.into_vec() {
                    self.claim_answered(&answer, net);
                }
            }
            EscrowAnswer::HoldStatus(status) => {
                // What an earlier process asked is nobody's question any more.
                if let Some(asked) = self.checks.remove(&number)
                    && let Some(row) = self.payee.checked(&asked, &status, net.now).unwrap()
                {
                    self.write(Write::Hold(row), net);
                }
            }
            EscrowAnswer::Released { hold, .. } => {
                if let Some(row) = self.payee.release_known(&hold) {
                    self.write(Write::Hold(row), net);
                }
            }
            EscrowAnswer::Rejected(reject) => match self.checks.remove(&number) {
                Some(hold) => self.payee.check_failed(&hold),
                None => panic!("the escrow refused an honest payee: {reject}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn claim_answered(&mut self, answer: &ClaimAnswer, net: &mut Net) {
        match answer {
            ClaimAnswer::Receipt(receipt) => match self.payee.receive(receipt, net.now) {
                Ok(settled) => {
                    self.quiet_until = Timestamp(0);
                    self.write(Write::Settled(settled), net);
                }
                // A repeated answer finds its book settled.
                Err(reject) => assert_eq!(reject.code, Code::BookUnknown),
            },
            ClaimAnswer::Refusal(refusal) => {
                net.refusals.push(refusal.body);
                self.payee.refused(refusal, net.now).ok();
            }
        }
    }

    fn write(&mut self, write: Write, net: &mut Net) {
        self.disk.pending.push_back(write);
        self.begin_disk(net);
    }

    fn begin_disk(&self, net: &mut Net) {
        let (payee, life) = (self.number, self.life);
        net.at(net.options.disk_ms, Event::Disk { payee, life });
    }

    /// The disk works again; what it could not write is the probe.
    pub(crate) fn heal_disk(&mut self, net: &mut Net) {
        self.disk.state = DiskState::Sound;
        for _ in 0..self.disk.pending.len() {
            self.begin_disk(net);
        }
    }

    /// The oldest write has come to its end.
    pub(crate) fn disk_done(&mut self, life: u32, net: &mut Net) {
        if life != self.life || self.disk.pending.is_empty() {
            return;
        }
        if self.disk.state == DiskState::Failing {
            self.payee.store_failed();
            return;
        }
        let Some(write) = self.disk.pending.pop_front() else {
            return;
        };
        self.disk.apply(&write);
        self.payee.store_recovered();
        match write {
            Write::Winner(row) => {
                let id = row.claim.book.body.id();
                if let Some(desk) = self.books.get_mut(&id) {
                    desk.book.written();
                    self.after_durable(&id, net);
                }
            }
            Write::Released(_, release) => {
                self.payee.release_kept(&release.body.hold);
                self.send_release(release, net);
            }
            Write::Hold(_) | Write::Settled(_) | Write::Forget(_) => {}
        }
        self.run_tasks(net);
    }

    fn after_durable(&mut self, id: &BookId, net: &mut Net) {
        if self.books.get(id).is_some_and(|desk| desk.closing.is_some()) {
            if let Some(row) = self.books.get_mut(id).and_then(|desk| desk.book.begin_write()) {
                self.write(Write::Winner(Box::new(row)), net);
            }
            self.end_if_durable(id, net);
        } else {
            self.after_draws(id, net);
        }
    }

    fn ack(&self, to: Party, id: &BookId, through: u32, net: &mut Net) {
        self.note_acknowledged(id, through, net);
        let frame = BookFrame::Ack {
            through,
            next_quote: None,
        };
        self.say(to, Stream::Book(*id), Kind::Frame, encode(&frame), net);
    }

    fn note_acknowledged(&self, id: &BookId, through: u32, net: &mut Net) {
        let opened = net.opened.get_mut(id).unwrap();
        opened.acknowledged = opened.acknowledged.max(through);
    }

    fn say_ended(&self, to: Party, id: &BookId, net: &mut Net) {
        // A book that never opened here: its opening was lost, and the payer finds out by itself.
        let Some((through, reject)) = self.ended.get(id).copied() else {
            return;
        };
        let frame = BookFrame::Closed {
            through,
            reject,
            next_quote: None,
        };
        self.say(to, Stream::Book(*id), Kind::Frame, encode(&frame), net);
    }

    fn ask(&self, number: u64, command: EscrowCommand, net: &mut Net) {
        let account = self.account();
        let bytes = encode(&EscrowRequest { account, command });
        self.say(Party::Escrow, Stream::Ask(number), Kind::Ask, bytes, net);
    }

    fn say(&self, to: Party, stream: Stream, kind: Kind, bytes: Vec<u8>, net: &mut Net) {
        net.send(Packet {
            from: Party::Payee(self.number),
            to,
            stream,
            kind,
            bytes,
        });
    }
}

impl Disk {
    fn apply(&mut self, write: &Write) {
        self.writes += 1;
        match write {
            Write::Hold(row) | Write::Released(row, _) => {
                self.holds.insert(row.hold.body.id(), *row);
            }
            Write::Winner(row) => {
                self.winners.insert(row.claim.book.body.id(), **row);
            }
            Write::Settled(settled) => {
                self.holds.insert(settled.hold.hold.body.id(), settled.hold);
                self.winners.remove(&settled.book);
            }
            Write::Forget(hold) => {
                self.holds.remove(hold);
            }
        }
    }
}
