//! One connection of a payer, and how much unpaid work it may cause.
//!
//! A payee knows its payers by their holds only, so what is refused before a hold is looked at counts against the
//! connection, and what a hold's own books do against its payer, whichever connections they come on.

use crate::meter::Owed;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tombola_net::Connection;

/// Hashes that one connection may cost without paying, per second: a core does as many in 0.4 s. With
/// [`HASHES_PER_STREAM`] that is 20,000 streams a second, as many as books may be opened.
const HASHES_PER_CONNECTION_PER_SECOND: u64 = 8_000_000;
/// A stream with its request takes as long as this many hashes, or less.
const HASHES_PER_STREAM: u64 = 400;
/// Hashes a second that books of one payer may cost and then prove to be broken: at most 5 % of a core, 122 books a second
/// at the default `jump_max`.
pub(crate) const BROKEN_HASHES_PER_PAYER_PER_SECOND: u64 = 1_000_000;
/// Hashes counted for each ticket that a bad record made a payee look at: as for one that is drawn, though a jump that leads
/// nowhere is found out by the steps of the chain alone. Spec: B-05.
const HASHES_PER_TICKET: u64 = 2;

/// What a bad record costs at most.
pub(crate) fn hashes_of_jump(jump: u32) -> u64 {
    u64::from(jump).saturating_mul(HASHES_PER_TICKET)
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) number: u64,
    pub(crate) connection: Connection,
    owed: Mutex<Owed>,
}

impl Peer {
    pub(crate) fn new(connection: Connection, number: u64) -> Self {
        Self {
            number,
            connection,
            owed: Mutex::new(Owed::nothing(Instant::now())),
        }
    }

    /// Takes the next stream into account, and waits until the connection may have it: what it sends meanwhile stays in its
    /// windows, and other connections go on.
    pub(crate) async fn pace(&self) {
        self.charge(HASHES_PER_STREAM);
        loop {
            let wait = self
                .owed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .wait(HASHES_PER_CONNECTION_PER_SECOND, Instant::now());
            match wait {
                None => return,
                Some(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Adds what the connection has caused and not paid for.
    pub(crate) fn charge(&self, hashes: u64) {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        owed.charge(hashes, HASHES_PER_CONNECTION_PER_SECOND, Instant::now());
    }
}
