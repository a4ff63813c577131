//! Requests: repeated, reused, late, early, unauthorised. Over each store.

use crate::conformance::all_rows;
use crate::stores::on_each_store;
use crate::world::{START, World, code, config, key, reference, secret};
use tombola_core::amount::{Amount, DAY_MS, HOUR_MS, MINUTE_MS, Timestamp};
use tombola_core::codec::{List, encode};
use tombola_core::key::AccountKey;
use tombola_core::message::{EscrowAnswer, EscrowCommand, EscrowRequest, Phase, RequestHeader, Share};
use tombola_core::reject::Code;
use tombola_ledger::query::{self, Standing};
use tombola_ledger::store::Store;
use tombola_store::block_on::block_on;

on_each_store! {
    a_repeated_request_moves_money_once_and_gets_the_same_bytes
    a_request_id_is_bound_to_its_body_and_its_connection
    a_refusal_is_judged_anew
    old_and_early_requests_are_refused
    what_a_request_shows_by_itself_comes_before_its_id_its_time_and_the_phase
    kept_answers_are_forgotten_after_48_hours_a_few_at_a_time
    only_the_account_itself_asks_and_acts
    a_stranger_has_no_account_and_sees_who_the_escrow_is
    a_reader_answers_questions_and_nothing_else
}

fn transfer(request: RequestHeader, amount: u64) -> EscrowCommand {
    EscrowCommand::Transfer {
        request,
        to: key(4),
        amount: Amount(amount),
        reference: reference("rent"),
        book: None,
    }
}

/// Asks as account 2, past the writer, as a node answers questions.
fn read<S: Store>(world: &World<S>, command: EscrowCommand) -> EscrowAnswer {
    let (account, phase) = (key(2), Phase::Open);
    let request = EscrowRequest { account, command };
    let snapshot = block_on(world.ledger.store().snapshot()).unwrap();
    let standing = Standing { time: world.now, phase };
    let answered = block_on(query::answer(&snapshot, &config(), &standing, &account, &request));
    answered.unwrap().draft.sign(&secret(1))
}

/// Spec.
fn a_repeated_request_moves_money_once_and_gets_the_same_bytes<S: Store>(store: S) {
    let mut world = World::funded(store);
    let header = world.header();
    let first = world.ask(2, transfer(header, 70));
    assert!(matches!(&first, EscrowAnswer::Transferred(receipt) if receipt.amount.0 == 70));
    let hold = world.hold_request(5_000);
    let request = world.header();
    let open = EscrowCommand::OpenHold { request, hold };
    let opened = world.ask(2, open.clone());
    // Even long after a fresh request as old as this would be refused.
    world.now = START.plus_ms(47 * HOUR_MS);
    assert_eq!(encode(&world.ask(2, transfer(header, 70))), encode(&first));
    assert_eq!(encode(&world.ask(2, open)), encode(&opened));
    assert_eq!((world.balance(4), world.account(2).open_holds), (70, 1));
}

/// Spec: R-02.
fn a_request_id_is_bound_to_its_body_and_its_connection<S: Store>(store: S) {
    let mut world = World::funded(store);
    world.deposit(3, 1_000, "second").unwrap();
    let header = world.header();
    world.ask(2, transfer(header, 70));
    assert_eq!(code(&world.ask(2, transfer(header, 71))), Code::RequestIdReused);
    assert_eq!(world.balance(4), 70);
    // Another connection may have drawn the same id.
    assert!(matches!(
        world.ask(3, transfer(header, 70)),
        EscrowAnswer::Transferred(_)
    ));
    assert_eq!(world.balance(4), 140);
    // What is kept is looked at before the time: this is old as well.
    world.now = START.plus_ms(47 * HOUR_MS);
    assert_eq!(code(&world.ask(2, transfer(header, 71))), Code::RequestIdReused);
}

/// Spec: R-02.
fn a_refusal_is_judged_anew<S: Store>(store: S) {
    let mut world = World::funded(store);
    let header = world.header();
    assert_eq!(
        code(&world.ask(2, transfer(header, 2_000_000))),
        Code::InsufficientFunds
    );
    world.deposit(2, 1_000_000, "second").unwrap();
    assert!(matches!(
        world.ask(2, transfer(header, 2_000_000)),
        EscrowAnswer::Transferred(_)
    ));
    assert_eq!(
        code(&world.ask(2, transfer(world_header(START), 1))),
        Code::InsufficientFunds
    );
}

fn world_header(issued_at: Timestamp) -> RequestHeader {
    RequestHeader {
        id: tombola_core::key::RequestId([77; 16]),
        issued_at,
    }
}

/// Spec: R-02.
fn old_and_early_requests_are_refused<S: Store>(store: S) {
    let mut world = World::funded(store);
    let old = world_header(START.minus_ms(DAY_MS + 1));
    assert_eq!(code(&world.ask(2, transfer(old, 1))), Code::RequestExpired);
    let early = world_header(START.plus_ms(5 * MINUTE_MS + 1));
    assert_eq!(code(&world.ask(2, transfer(early, 1))), Code::RequestInFuture);
}

/// Spec, K-02.
fn what_a_request_shows_by_itself_comes_before_its_id_its_time_and_the_phase<S: Store>(store: S) {
    let mut world = World::funded(store);
    let used = world.header();
    world.ask(2, transfer(used, 70));
    let old = world_header(START.minus_ms(DAY_MS + 1));
    let fresh = world.header();
    let time = world.ledger.totals().time;
    world.ledger.begin_recovery(time);
    let no_key = AccountKey([0; 32]);
    for request in [used, old, fresh] {
        let mut hold = world.hold_request(5_000);
        hold.payee = no_key;
        assert_eq!(
            code(&world.ask(2, EscrowCommand::OpenHold { request, hold })),
            Code::BadKey
        );
        let nothing = Share {
            account: key(4),
            ppm: 0,
        };
        let shares = List::new(vec![nothing]).unwrap();
        assert_eq!(
            code(&world.ask(2, EscrowCommand::SetSplit { request, shares })),
            Code::BadTerms
        );
    }
    let codes = [used, old, fresh].map(|request| code(&world.ask(2, transfer(request, 71))));
    assert_eq!(codes, [Code::RequestIdReused, Code::RequestExpired, Code::Recovering]);
}

/// Spec: R-02.
fn kept_answers_are_forgotten_after_48_hours_a_few_at_a_time<S: Store>(store: S) {
    let mut world = World::funded(store);
    for _ in 0..5 {
        let header = world.header();
        world.ask(2, transfer(header, 1));
    }
    let prune = |world: &mut World<S>| block_on(world.ledger.prune(2, world.now)).unwrap();
    world.now = START.plus_ms(48 * HOUR_MS);
    assert_eq!(prune(&mut world), 0);
    world.now = world.now.plus_ms(1);
    let rows = all_rows(world.ledger.store()).len();
    assert_eq!([2, 2, 1, 0], [(); 4].map(|()| prune(&mut world)));
    assert_eq!(all_rows(world.ledger.store()).len(), rows - 10);
}

/// Spec: A-01, H-10, R-01, R-08.
fn only_the_account_itself_asks_and_acts<S: Store>(store: S) {
    let mut world = World::funded(store);
    world.deposit(4, 5, "four").unwrap();
    let hold = world.open_hold(5_000).body.id();
    let request = world.header();
    let commands = [
        transfer(request, 1),
        EscrowCommand::OpenHold {
            request,
            hold: world.hold_request(500),
        },
        EscrowCommand::TopUpHold {
            request,
            hold,
            revision: 0,
            cap: Amount(6_000),
        },
        EscrowCommand::HoldStatus { hold },
        EscrowCommand::Account { holds_after: 0 },
        EscrowCommand::Statement { after: 0 },
    ];
    for command in commands {
        assert_eq!(code(&world.ask_as(4, 2, command)), Code::Unauthorized);
    }
    // A stranger's own request about somebody else's hold.
    assert_eq!(
        code(&world.ask(4, EscrowCommand::HoldStatus { hold })),
        Code::Unauthorized
    );
    let request = world.header();
    let raise = EscrowCommand::TopUpHold {
        request,
        hold,
        revision: 0,
        cap: Amount(6_000),
    };
    assert_eq!(code(&world.ask(4, raise)), Code::Unauthorized);
    assert!(matches!(
        world.ask(3, EscrowCommand::HoldStatus { hold }),
        EscrowAnswer::HoldStatus(_)
    ));
    assert_eq!(world.balance(2), 995_000);
}

/// Spec.
fn a_stranger_has_no_account_and_sees_who_the_escrow_is<S: Store>(store: S) {
    let mut world = World::funded(store);
    assert_eq!(
        code(&world.ask(9, EscrowCommand::Account { holds_after: 0 })),
        Code::AccountUnknown
    );
    let EscrowAnswer::Info(info) = world.ask(9, EscrowCommand::Info) else {
        panic!()
    };
    assert_eq!((info.height, info.time), (1, START));
}

/// A node sends what changes something to its writer; a reader that is asked for it does not offer it. Spec: X-01.
fn a_reader_answers_questions_and_nothing_else<S: Store>(store: S) {
    let mut world = World::funded(store);
    let command = transfer(world.header(), 70);
    assert_eq!(code(&read(&world, command)), Code::NotOffered);
    let shown = read(&world, EscrowCommand::Account { holds_after: 0 });
    assert!(matches!(shown, EscrowAnswer::Account(_)), "{shown:?}");
}
