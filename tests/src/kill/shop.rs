//! A payee that sells one file, and what it said that it has.

use crate::process::{Node, Offer, Signal, Town, atoms, number};
use tombola_core::key::AccountKey;
use tombola_net::Address;

/// Bytes of a unit.
pub(super) const UNIT: usize = 1_024;
/// Units of the file.
pub(super) const UNITS: u64 = 600;
/// Price of a unit, in atomic units.
pub(super) const PRICE: u64 = 1_000_000;
/// What is sold everywhere.
const SONG: &str = "song";

/// Every ticket wins, so all accounts can be compared to the atom; and one of 50 wins, so most books lose for long.
const OFFERS: [(&str, Offer<'static>); 2] = [
    (
        "sure",
        Offer {
            price: "0.001",
            per: "1KiB",
            face_value_max: "0.001",
            redeem_at_value: "0.05",
        },
    ),
    (
        "lottery",
        Offer {
            price: "0.001",
            per: "1KiB",
            face_value_max: "0.05",
            redeem_at_value: "0.1",
        },
    ),
];
/// Where every ticket wins.
pub(super) const SURE: usize = 0;

/// A payee that runs.
#[derive(Debug)]
pub(super) struct Shop {
    pub(super) name: &'static str,
    pub(super) account: AccountKey,
    node: Option<Node>,
    socket: String,
    content: Vec<u8>,
    /// Winners and atomic units that it had receipts for.
    had: (u64, u64),
}

/// Where it sells, and what must arrive.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) url: String,
    pub(super) content: Vec<u8>,
}

impl Shop {
    /// One for each offer.
    pub(super) fn all(town: &Town, escrow: &Node) -> Vec<Self> {
        let bytes = usize::try_from(UNITS).unwrap_or(0) * UNIT - 100;
        let content = town.file(SONG, bytes, 11);
        let shops = OFFERS.iter().map(|(name, offer)| {
            let node = town.payee(name, escrow, *offer);
            let address: Address = node.address().parse().unwrap_or_else(|error| panic!("{error}"));
            Self {
                name,
                account: address.key,
                socket: node.socket(),
                node: Some(node),
                content: content.clone(),
                had: (0, 0),
            }
        });
        shops.collect()
    }

    pub(super) fn place(&self) -> Place {
        let address = self.node.as_ref().map_or("", Node::address);
        Place {
            url: format!("{address}/{SONG}"),
            content: self.content.clone(),
        }
    }

    /// Kills it and starts it again at the same address.
    pub(super) fn kill(&mut self, town: &Town) {
        if let Some(node) = self.node.take() {
            node.kill();
        }
        self.node = Some(town.run_payee(self.name, &self.socket));
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(node) = &self.node {
            node.signal(signal);
        }
    }

    /// Looks at what it has receipts for: it never has less than it once said.
    ///
    /// # Panics
    /// If it does.
    pub(super) fn promises(&mut self, town: &Town) {
        let status = town.ask("payee", "status", self.name);
        let has = (number(&status, "winners_redeemed"), atoms(&status, "redeemed"));
        let had = self.had;
        assert!(
            has.0 >= had.0 && has.1 >= had.1,
            "receipts for {had:?}, and now {status}"
        );
        assert_eq!(number(&status, "refusals"), 0, "{status}");
        self.had = has;
    }

    pub(super) fn end(mut self) {
        if let Some(node) = self.node.take() {
            assert_eq!(node.end(Signal::TERM), 0, "{}", self.name);
        }
    }
}
