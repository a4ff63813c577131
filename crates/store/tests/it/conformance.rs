//! One command sequence on the model and on another store: same outcomes, same balances, same heads, same rows. The
//! model is the oracle.

use crate::money::pay_out;
use crate::postgres::empty_store;
use crate::rules::audited;
use crate::signers::delegation;
use crate::world::{TestBook, World, balances, key, reference, secret};
use proptest::prelude::*;
use tombola_core::amount::{Amount, DAY_MS, HOUR_MS, MINUTE_MS};
use tombola_core::codec::List;
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::hold::{Delegation, Hold, Release};
use tombola_core::key::{HoldId, RequestId, Signed};
use tombola_core::message::{EscrowAnswer, EscrowCommand, HoldRequest, PayoutPolicy, RequestHeader, Share};
use tombola_core::odds::Threshold;
use tombola_ledger::ledger::{Command, Outcome};
use tombola_ledger::query::pending_withdrawals;
use tombola_ledger::store::{Range, Sharing, Store, Stored};
use tombola_ledger::{key::Key, row::Table};
use tombola_store::block_on::block_on;
use tombola_store::model::ModelStore;
use tombola_store::redb_store::RedbStore;

#[derive(Debug, Clone)]
enum Op {
    Deposit { account: u8, amount: u64, reference: u8 },
    Open { cap: u64, id: u8 },
    TopUp { hold: usize, revision: u32, cap: u64 },
    Claim { hold: usize, book: u16, winner: usize },
    Release { hold: usize, paid: Option<u64> },
    Transfer { from: u8, to: u8, amount: u64, id: u8 },
    Withdraw { account: u8, amount: u64 },
    Settle { withdrawal: usize, outcome: PayoutOutcome },
    SetPayout { account: u8, threshold: u64 },
    SetSplit { share: u8, ppm: u32 },
    Delegate { serial: u64, spend_max: u64 },
    Collect { amount: u64, reference: u8 },
    Expire { hold: usize },
    PayOut,
    Fold,
    Wait { ms: u64 },
    ExpireDue,
    Prune,
    Commit,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (2u8..5, 0u64..50_000, 0u8..6).prop_map(|(account, amount, reference)| Op::Deposit { account, amount, reference }),
        3 => (50u64..20_000, 0u8..12).prop_map(|(cap, id)| Op::Open { cap, id }),
        2 => (0usize..6, 0u32..3, 0u64..30_000).prop_map(|(hold, revision, cap)| Op::TopUp { hold, revision, cap }),
        8 => (0usize..6, 0u16..3, 0usize..20).prop_map(|(hold, book, winner)| Op::Claim { hold, book, winner }),
        2 => (0usize..6, proptest::option::of(0u64..20_000)).prop_map(|(hold, paid)| Op::Release { hold, paid }),
        2 => (2u8..5, 2u8..6, 0u64..5_000, 0u8..6).prop_map(|(from, to, amount, id)| Op::Transfer { from, to, amount, id }),
        2 => (2u8..5, 0u64..5_000).prop_map(|(account, amount)| Op::Withdraw { account, amount }),
        2 => (0usize..4, prop_oneof![Just(PayoutOutcome::Paid), Just(PayoutOutcome::Failed)])
            .prop_map(|(withdrawal, outcome)| Op::Settle { withdrawal, outcome }),
        1 => (2u8..5, 100u64..5_000).prop_map(|(account, threshold)| Op::SetPayout { account, threshold }),
        1 => (2u8..6, 0u32..1_000_001).prop_map(|(share, ppm)| Op::SetSplit { share, ppm }),
        1 => (0u64..4, 0u64..9_000).prop_map(|(serial, spend_max)| Op::Delegate { serial, spend_max }),
        1 => (0u64..200, 0u8..3).prop_map(|(amount, reference)| Op::Collect { amount, reference }),
        1 => Just(Op::PayOut),
        1 => Just(Op::Fold),
        1 => (0usize..6).prop_map(|hold| Op::Expire { hold }),
        1 => prop_oneof![Just(MINUTE_MS), Just(49 * HOUR_MS)].prop_map(|ms| Op::Wait { ms }),
        1 => Just(Op::ExpireDue),
        1 => Just(Op::Prune),
        3 => Just(Op::Commit),
    ]
}

/// What one run showed.
#[derive(Debug, PartialEq)]
struct Seen {
    outcomes: Vec<Outcome>,
    rows: Vec<(Key, Stored)>,
}

fn play<S: Store>(store: S, ops: &[Op]) -> Seen {
    let mut world = World::funded(store);
    let mut outcomes = Vec::new();
    let mut batch: Vec<Command> = Vec::new();
    for op in ops.iter().chain([&Op::Commit]) {
        let holds = known_holds(&mut world);
        match op {
            Op::Commit => outcomes.extend(world.run(std::mem::take(&mut batch))),
            Op::Wait { ms } => {
                outcomes.extend(world.run(std::mem::take(&mut batch)));
                world.live((*ms).min(HOUR_MS + MINUTE_MS));
                world.now = world.now.plus_ms(ms.saturating_sub(HOUR_MS));
            }
            Op::ExpireDue => outcomes.extend(block_on(world.ledger.expire_due(3, world.now)).unwrap()),
            Op::Prune => {
                block_on(world.ledger.prune(3, world.now)).unwrap();
            }
            Op::PayOut => {
                pay_out(&mut world);
            }
            Op::Fold => world.fold(),
            other => batch.extend(command(&mut world, &holds, other)),
        }
    }
    let report = audited(&world);
    assert_eq!(report.findings, []);
    let money = balances(&mut world, &[2, 3, 4, 5]);
    let sum: u64 = money.values().flatten().map(|(balance, held)| balance + held).sum();
    let outside = report.fees + report.pending + report.withdrawn;
    assert_eq!(u128::from(sum) + outside, report.deposits);
    Seen {
        outcomes,
        rows: all_rows(world.ledger.store()),
    }
}

/// Holds that are committed, open or not, by their serial.
fn known_holds<S: Store>(world: &mut World<S>) -> Vec<Hold> {
    let EscrowAnswer::Statement(page) = world.ask(2, EscrowCommand::Statement { after: 0 }) else {
        return Vec::new();
    };
    let mut holds: Vec<Hold> = Vec::new();
    for entry in page.entries.as_slice() {
        if let tombola_core::message::StatementKind::Held { hold, .. } = &entry.kind {
            holds.retain(|known| known.id() != hold.body.id());
            holds.push(hold.body);
        }
    }
    holds.sort_by_key(|hold| hold.terms.serial);
    holds
}

fn command<S: Store>(world: &mut World<S>, holds: &[Hold], op: &Op) -> Option<Command> {
    let header = |world: &World<S>, id: u8| RequestHeader {
        id: RequestId([id; 16]),
        issued_at: world.now,
    };
    Some(match op {
        Op::Deposit {
            account,
            amount,
            reference,
        } => World::<S>::deposit_command(*account, *amount, &reference.to_string()),
        Op::Open { cap, id } => {
            let request = header(world, *id);
            let hold = HoldRequest {
                redeem_by: world.now.plus_ms(2 * DAY_MS),
                ..world.hold_request(*cap)
            };
            world.verified(2, 2, EscrowCommand::OpenHold { request, hold })
        }
        Op::TopUp { hold, revision, cap } => {
            let request = world.header();
            let (hold, revision, cap) = (holds.get(*hold)?.id(), *revision, Amount(*cap));
            let top_up = EscrowCommand::TopUpHold {
                request,
                hold,
                revision,
                cap,
            };
            world.verified(2, 2, top_up)
        }
        Op::Claim { hold, book, winner } => {
            let mut book = TestBook::new(holds.get(*hold)?, *book, 32, Threshold(u64::MAX / 3));
            let index = *book.winners().get(*winner).unwrap_or(&1);
            let claim = world.claim_command(vec![book.claim(index)]);
            world.verified(3, 3, claim)
        }
        Op::Release { hold, paid } => {
            let hold: HoldId = holds.get(*hold)?.id();
            let paid = paid.map_or_else(|| world.status(hold).paid, Amount);
            let release = Signed::new(Release { hold, paid }, &secret(3));
            world.verified(3, 3, EscrowCommand::Release(release))
        }
        Op::Transfer { from, to, amount, id } => {
            let transfer = EscrowCommand::Transfer {
                request: header(world, 100 + *id),
                to: key(*to),
                amount: Amount(*amount),
                reference: reference("t"),
                book: None,
            };
            world.verified(*from, *from, transfer)
        }
        Op::Expire { hold } => Command::Expire {
            hold: holds.get(*hold)?.id(),
        },
        Op::Wait { .. } | Op::ExpireDue | Op::Prune | Op::PayOut | Op::Fold | Op::Commit => return None,
        money => return command_on_money(world, money),
    })
}

/// Money out, and to whom it goes.
fn command_on_money<S: Store>(world: &mut World<S>, op: &Op) -> Option<Command> {
    let request = world.header();
    let (account, command) = match op {
        Op::Withdraw { account, amount } => {
            let (destination, amount) = (reference("bank"), Amount(*amount));
            let withdraw = EscrowCommand::Withdraw {
                request,
                amount,
                destination,
                reference: reference("mine"),
            };
            (*account, withdraw)
        }
        Op::SetPayout { account, threshold } => {
            let policy = PayoutPolicy {
                threshold: Amount(*threshold),
                every_ms: HOUR_MS,
                destination: reference("iban"),
            };
            let policy = Some(policy);
            (*account, EscrowCommand::SetPayout { request, policy })
        }
        Op::SetSplit { share, ppm } => {
            let (account, ppm) = (key(*share), *ppm);
            let shares = List::new(vec![Share { account, ppm }]).unwrap();
            (3, EscrowCommand::SetSplit { request, shares })
        }
        Op::Delegate { serial, spend_max } => {
            let body = Delegation {
                spend_max: Amount(*spend_max),
                ..delegation(world, *serial, |_| {})
            };
            let delegation = Signed::new(body, &secret(2));
            (2, EscrowCommand::Delegate { request, delegation })
        }
        Op::Settle { withdrawal, outcome } => {
            let waiting = block_on(pending_withdrawals(world.ledger.store(), 0, 10)).unwrap();
            return Some(Command::Settle {
                withdrawal: waiting.get(*withdrawal)?.withdrawal,
                outcome: *outcome,
                reference: reference("wire"),
            });
        }
        Op::Collect {
            amount,
            reference: name,
        } => {
            return Some(Command::CollectFees {
                account: key(5).check().unwrap(),
                amount: Amount(*amount),
                reference: reference(&name.to_string()),
            });
        }
        _ => return None,
    };
    Some(world.verified(account, account, command))
}

pub(crate) fn all_rows<S: Store>(store: &S) -> Vec<(Key, Stored)> {
    let mut rows = Vec::new();
    for table in Table::ALL {
        let range = Range {
            from: Key::from_bytes(*table, &[0; 8]),
            to: None,
            limit: usize::MAX,
        };
        rows.extend(block_on(store.scan(&range)).unwrap());
    }
    rows
}

proptest! {
    // A failing case is printed with its seed.
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn redb_does_what_the_model_does(ops in prop::collection::vec(op(), 30..150)) {
        let home = tempfile::tempdir().unwrap();
        let redb = RedbStore::open(home.path().join("ledger.redb")).unwrap();
        let (model, redb) = (play(ModelStore::default(), &ops), play(redb, &ops));
        prop_assert_eq!(model, redb);
    }
}

proptest! {
    // Fewer and shorter: each commit waits for the disk of a server, and each case has a database of its own.
    #![proptest_config(ProptestConfig { cases: 5, max_shrink_iters: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn postgres_does_what_the_model_does(ops in prop::collection::vec(op(), 30..80)) {
        if let Some(postgres) = empty_store() {
            let model = ModelStore::new(Sharing::Shared);
            let (model, postgres) = (play(model, &ops), play(postgres, &ops));
            prop_assert_eq!(model, postgres);
        }
    }
}
