//! A payee's rules with bytes as what happens to it: openings, tickets, writes, top-ups, receipts, time, and restarts.
//!
//! Beside it a naive count is kept of what every book has won, from the preimages and reveals that only this harness
//! knows both of.

mod disk;
mod market;

use crate::input::Input;
use market::Market;

/// Most that happens in one input.
const ACTIONS_MAX: usize = 96;

/// See the module.
pub fn payee_actions(data: &[u8]) {
    let mut input = Input::new(data);
    let mut market = Market::new(&mut input);
    for _ in 0..ACTIONS_MAX {
        if input.is_empty() {
            break;
        }
        match input.byte() % 16 {
            0 | 1 => market.open(&mut input),
            2..=5 => market.present_tickets(&mut input),
            6 => market.begin_write(&mut input),
            7 => market.finish_write(&mut input),
            8 => market.top_up(&mut input),
            9 => market.close(&mut input),
            10 | 11 => market.tick(&mut input),
            12 => market.restart(&mut input),
            13 => market.pass(&mut input),
            14 => market.fail_or_recover(&mut input),
            _ => market.serve(&mut input),
        }
        market.check();
    }
    market.settle_everything();
}

/// A book that is opened, paid, won and redeemed; jumps; a hold that runs dry and is topped up; a restart.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let open = [0, 0, 1, 0, 0];
    let pay = |index: u8| [2, 0, index, 0, 0];
    let keep = [6, 0, 7, 0];
    let redeem = [9, 0, 10, 0, 0, 0];
    vec![
        [&[0][..], &open, &pay(1), &pay(1), &keep, &redeem].concat(),
        [&[1][..], &open, &pay(8), &keep, &pay(8), &[12, 0], &redeem].concat(),
        [
            &[2][..],
            &open,
            &open,
            &pay(3),
            &[2, 1, 3, 0, 0],
            &[8, 0, 255],
            &keep,
            &redeem,
        ]
        .concat(),
        [&[0][..], &open, &[2, 0, 3, 1, 0], &open, &[13, 3], &redeem].concat(),
        [
            &[3][..],
            &open,
            &pay(4),
            &[14, 0],
            &pay(2),
            &[14, 1],
            &pay(2),
            &keep,
            &redeem,
        ]
        .concat(),
    ]
}
