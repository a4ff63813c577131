//! The net between the parties, the clock and the dice; and what an observer of everything writes down.

use super::Options;
use std::collections::BTreeMap;
use tombola_core::amount::Timestamp;
use tombola_core::book::Book;
use tombola_core::claim::Refusal;
use tombola_core::draw::Reveal;
use tombola_core::key::BookId;
use tombola_core::reject::Reject;
use tombola_tests::dice::Dice;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Escrow,
    Payee(usize),
    Payer(usize),
}

/// On which stream of a connection something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stream {
    Ask(u64),
    Book(BookId),
}

/// What a packet's bytes are, as a stream's state tells on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ask,
    Answer,
    Tickets,
    Frame,
    Fin,
}

#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) from: Party,
    pub(crate) to: Party,
    pub(crate) stream: Stream,
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) enum Event {
    Packet(Packet),
    /// A payee's oldest write has come to an end, in this life of it.
    Disk {
        payee: usize,
        life: u32,
    },
}

/// A book as an observer who sees everything knows it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) payer: usize,
    pub(crate) book: Book,
    pub(crate) reveal: Reveal,
    /// The most that its payee has said it took.
    pub(crate) acknowledged: u32,
}

#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) options: Options,
    pub(crate) now: Timestamp,
    pub(crate) dice: Dice,
    /// Packets sent, and those of them to or from the escrow.
    pub(crate) packets: u64,
    pub(crate) escrow_packets: u64,
    pub(crate) is_escrow_away: bool,
    pub(crate) opened: BTreeMap<BookId, Opened>,
    pub(crate) refusals: Vec<Refusal>,
    /// What payees have told payers no to.
    pub(crate) rejects: Vec<Reject>,
    queue: BTreeMap<(Timestamp, u64), Event>,
    sequence: u64,
}

impl Net {
    pub(crate) fn new(seed: u64, options: Options, now: Timestamp) -> Self {
        Self {
            options,
            now,
            dice: Dice::new(seed),
            packets: 0,
            escrow_packets: 0,
            is_escrow_away: false,
            opened: BTreeMap::new(),
            refusals: Vec::new(),
            rejects: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
        }
    }

    pub(crate) fn send(&mut self, packet: Packet) {
        self.packets += 1;
        if packet.from == Party::Escrow || packet.to == Party::Escrow {
            self.escrow_packets += 1;
            if self.is_escrow_away {
                return;
            }
        }
        if self.dice.chance(self.options.drop) {
            return;
        }
        if self.dice.chance(self.options.repeat) {
            let delay = 1 + self.dice.below(self.options.delay_ms);
            self.at(delay, Event::Packet(packet.clone()));
        }
        let delay = 1 + self.dice.below(self.options.delay_ms);
        self.at(delay, Event::Packet(packet));
    }

    pub(crate) fn at(&mut self, delay_ms: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now.plus_ms(delay_ms), self.sequence), event);
    }

    /// A number for a new stream or request.
    pub(crate) fn number(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The next event; the clock goes on to it.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let ((at, _), event) = self.queue.pop_first()?;
        self.now = self.now.max(at);
        Some(event)
    }

    pub(crate) fn is_due(&self, until: Timestamp) -> bool {
        self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= until)
    }

    /// Loses everything on its way to or from a party.
    pub(crate) fn cut(&mut self, party: Party) {
        self.retain(|packet| packet.from != party && packet.to != party);
    }

    pub(crate) fn cut_between(&mut self, a: Party, b: Party) {
        self.retain(|packet| ![(a, b), (b, a)].contains(&(packet.from, packet.to)));
    }

    fn retain(&mut self, keep: impl Fn(&Packet) -> bool) {
        self.queue.retain(|_, event| match event {
            Event::Packet(packet) => keep(packet),
            Event::Disk { .. } => true,
        });
    }
}
