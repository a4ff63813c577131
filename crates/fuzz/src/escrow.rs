//! An escrow's ledger with bytes as its commands: whatever it is told, money is conserved and the audit is clean.

mod ask;
mod world;

pub(crate) use world::World;

use crate::input::Input;
use ask::Waiting;

/// Most commands of one input: the audit at the end replays them all.
const COMMANDS_MAX: usize = 48;

/// Batches of commands, what a node does from time to time, restarts and rollbacks.
pub fn escrow_actions(data: &[u8]) {
    run(data);
}

fn run(data: &[u8]) -> World {
    let mut input = Input::new(data);
    let mut world = World::new();
    let mut batch = Vec::new();
    for _ in 0..COMMANDS_MAX {
        if input.is_empty() {
            break;
        }
        // So often the commands so far are one commit.
        let action = input.byte();
        if batch.len() >= 8 || action & 0x80 != 0 {
            world.commit(std::mem::take(&mut batch));
        }
        let action = action & 0x7f;
        if let Some(upkeep) = action.checked_sub(96) {
            world.commit(std::mem::take(&mut batch));
            world.live(upkeep, &mut input);
        } else if let Some(waiting) = Waiting::choose(&mut world, action, &mut input) {
            batch.push(waiting);
        }
    }
    world.commit(batch);
    world.audit();
    world
}

/// A ledger in which something of most kinds has happened.
pub(crate) fn busy() -> World {
    run(&seeds()[0])
}

/// Deposits, a hold, claims, a release; then each kind of command by itself, and a rollback.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let deposit = [0, 0, 16, 39, 1];
    let open = [0x88, 0, 0, 100, 0, 0];
    let claim = [0xA0, 1, 0, 1, 3, 0];
    let start = [&deposit[..], &[0, 1, 255, 255, 2], &open].concat();
    let mut seeds = vec![
        [
            &start[..],
            &claim,
            &[0xA0, 1, 0, 1, 7, 0],
            &[0x98, 0, 1, 50, 0],
            &[0xB0, 0, 0],
            &[0xB8, 1, 0, 5, 0],
        ]
        .concat(),
        [&start[..], &[102, 0], &claim, &[103, 0], &[0xD8, 3, 0, 1, 0], &[104, 0]].concat(),
    ];
    for kind in 0..12u8 {
        seeds.push([&start[..], &[0x80 | (kind << 3), 1, 0, 1, 3, 0, 0, 7, 1, 2], &claim].concat());
    }
    for upkeep in 0..9u8 {
        seeds.push([&start[..], &claim, &[96 + upkeep, 3], &claim].concat());
    }
    seeds
}
