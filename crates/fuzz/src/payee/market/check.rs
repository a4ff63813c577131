//! What must hold of books, acknowledgements and holds, by this harness's own count.

use super::{FACE, HOLDS, Market};
use crate::input::Input;
use tombola_core::amount::{Amount, HOUR_MS};
use tombola_core::key::BookId;
use tombola_core::payee::PayeeBook;
use tombola_core::reject::{Code, Reject};

impl Market {
    /// What must hold after whatever happened.
    pub(in crate::payee) fn check(&mut self) {
        let ids: Vec<BookId> = self.sold.keys().copied().collect();
        for id in ids {
            let Some(book) = self.sold.get_mut(&id).and_then(|sold| sold.machine.take()) else {
                continue;
            };
            self.check_acknowledged(id, &book);
            if let Some(sold) = self.sold.get_mut(&id) {
                assert_eq!(
                    book.winners(),
                    sold.winners_through(book.through()),
                    "each index is drawn once"
                );
                sold.machine = Some(book);
            }
        }
        self.check_exposure();
    }

    /// No acknowledgement passes a winner that is not durable, and none is taken back.
    pub(in crate::payee) fn check_acknowledged(&mut self, id: BookId, book: &PayeeBook) {
        let durable = self.disk.winners_through(&id);
        let Some(sold) = self.sold.get_mut(&id) else { return };
        let acknowledged = book.ack_through();
        assert!(acknowledged >= sold.acknowledged, "an acknowledgement stands");
        assert!(acknowledged <= book.through());
        sold.acknowledged = acknowledged;
        let last_win = (1..=acknowledged).zip(&sold.wins).filter(|(_, wins)| **wins).last();
        assert!(
            last_win.is_none_or(|(index, _)| index <= durable),
            "no acknowledgement past an undurable winner"
        );
    }

    /// Per hold, by this harness's own count: what was paid and what is owed is covered.
    fn check_exposure(&self) {
        let mut owed = [0u64; HOLDS];
        for (id, sold) in &self.sold {
            let durable = self.disk.winners_through(id);
            let drawn = sold.machine.as_ref().map_or(durable, PayeeBook::through);
            let won = u64::from(sold.winners_through(drawn)) * FACE.0;
            let paid = sold.receipt.map_or(0, |receipt| receipt.gross.0);
            owed[sold.hold] += won.saturating_sub(paid);
        }
        for (promise, owed) in self.promises.iter().zip(owed) {
            assert!(
                promise.paid + owed <= promise.hold.body.cap.0,
                "cap - paid - liabilities >= 0"
            );
        }
        let exposure = self.payee.exposure();
        let known = self.disk.holds.values();
        let left: u64 = known.map(|row| row.hold.body.cap.0 - row.paid.0).sum();
        let taken = exposure.liabilities.0 + exposure.reservations.0;
        assert!(taken <= left, "cap - paid - liabilities - reservations >= 0");
    }

    /// In the end everything is closed and claimed, and every durable winner is paid.
    pub(in crate::payee) fn settle_everything(&mut self) {
        for id in self.order.clone() {
            self.close_with(id, Reject::of(Code::Draining));
        }
        self.check();
        for _ in 0..40 {
            self.now = self.now.plus_ms(2 * HOUR_MS);
            self.tick(&mut Input::new(&[]));
            self.check_exposure();
        }
        assert!(self.disk.winners.is_empty(), "every durable winner is paid");
        assert_eq!(self.payee.exposure().liabilities, Amount::ZERO);
    }
}
