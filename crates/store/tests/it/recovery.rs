//! An escrow that lost the end of its ledger, and what its parties bring back. Over each store.

use crate::stores::on_each_store;
use crate::world::{START, TestBook, World, code, key, secret};
use tombola_core::amount::{Amount, DAY_MS, HOUR_MS, MINUTE_MS};
use tombola_core::claim::{Claim, Receipt};
use tombola_core::codec::List;
use tombola_core::hold::{Hold, Release};
use tombola_core::key::Signed;
use tombola_core::message::{EscrowAnswer, EscrowCommand, Evidence, HoldState, Phase, ResubmitAnswer};
use tombola_core::reject::Code;
use tombola_ledger::audit::audit;
use tombola_ledger::store::{Sharing, Store};
use tombola_store::block_on::block_on;
use tombola_store::model::ModelStore;

on_each_store! {
    what_parties_resubmit_makes_the_ledger_what_it_was
    a_top_up_and_receipts_in_any_order_come_to_the_same
    a_recovering_escrow_promises_nothing_new_and_pays_what_it_owes
    evidence_that_proves_nothing_changes_nothing
    a_hold_comes_back_out_of_money_that_nobody_folded
}

const CAP: u64 = 10_000;

/// What was signed after the backup was taken.
struct Lost {
    hold: Signed<Hold>,
    raised: Signed<Hold>,
    claims: [(Claim, Signed<Receipt>); 2],
    release: Signed<Release>,
    ended: Signed<Hold>,
}

/// One history goes on, the other one ends after the first deposit and a claim.
fn worlds<S: Store>(store: S) -> (World<ModelStore>, World<S>, Lost) {
    let mut whole = World::funded(ModelStore::new(store.sharing()));
    let mut restored = World::funded(store);
    begin(&mut whole);
    begin(&mut restored);
    let hold = whole.open_hold(CAP);
    let EscrowAnswer::Hold(raised) = whole.top_up(hold.body.id(), 0, 2 * CAP) else {
        panic!("raised")
    };
    let mut book = TestBook::sure(&hold.body, 2, 16);
    let first = book.claim(3);
    let second = TestBook::sure(&hold.body, 3, 16).claim(12);
    let claims = [first, second].map(|claim| (claim, whole.claim(claim).unwrap()));
    let ended = whole.open_hold(CAP);
    let paid = Amount(0);
    let release = Signed::new(
        Release {
            hold: ended.body.id(),
            paid,
        },
        &secret(3),
    );
    whole.ask(3, EscrowCommand::Release(release));
    let restored_at = restored.ledger.totals().time;
    restored.ledger.begin_recovery(restored_at);
    restored.ledger.set_epoch(1);
    let lost = Lost {
        hold,
        raised,
        claims,
        release,
        ended,
    };
    (whole, restored, lost)
}

/// What both histories have in common.
fn begin<S: Store>(world: &mut World<S>) {
    let old = world.open_hold(CAP);
    world.claim(TestBook::sure(&old.body, 1, 8).claim(2)).unwrap();
    world.now = world.now.plus_ms(1_000);
}

fn resubmit<S: Store>(world: &mut World<S>, pieces: Vec<Evidence>) -> Vec<Result<&'static str, Code>> {
    let evidence = List::new(pieces).unwrap();
    match world.ask(9, EscrowCommand::Resubmit { evidence }) {
        EscrowAnswer::Resubmitted { answers } => answers
            .into_vec()
            .into_iter()
            .map(|answer| match answer {
                ResubmitAnswer::Restored => Ok("restored"),
                ResubmitAnswer::Known => Ok("known"),
                ResubmitAnswer::Refused(reject) => Err(reject.code),
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn receipt((claim, receipt): (Claim, Signed<Receipt>)) -> Evidence {
    Evidence::Receipt { claim, receipt }
}

fn check_audit<S: Store>(world: &World<S>) {
    let config = tombola_core::escrow::EscrowConfig {
        epoch: 1,
        ..crate::world::config()
    };
    let report = block_on(audit(world.ledger.store(), &config)).unwrap();
    assert!(report.conserved, "{:?}", report.findings);
}

/// Spec: R-25.
fn what_parties_resubmit_makes_the_ledger_what_it_was<S: Store>(store: S) {
    let (mut whole, mut restored, lost) = worlds(store);
    let pieces = vec![
        Evidence::Hold(lost.raised),
        Evidence::Hold(lost.hold),
        Evidence::Hold(lost.ended),
        receipt(lost.claims[0]),
        receipt(lost.claims[1]),
        Evidence::Release(lost.release),
    ];
    let first = resubmit(&mut restored, pieces.clone());
    assert_eq!(first[0], Ok("restored"));
    assert_eq!(first[1], Ok("known"), "a lower revision");
    assert!(first[2..].iter().all(|answer| *answer == Ok("restored")), "{first:?}");
    assert!(
        resubmit(&mut restored, pieces)
            .iter()
            .all(|answer| *answer == Ok("known"))
    );
    for account in [2, 3] {
        let (was, is) = (whole.account(account), restored.account(account));
        assert_eq!(
            (was.balance, was.held, was.open_holds),
            (is.balance, is.held, is.open_holds)
        );
    }
    assert_eq!(restored.status(lost.hold.body.id()), whole.status(lost.hold.body.id()));
    assert_eq!(restored.status(lost.ended.body.id()).state, HoldState::Released);
    for (claim, receipt) in lost.claims {
        assert_eq!(
            restored.claim(claim),
            Ok(receipt),
            "the receipt of before, byte for byte"
        );
    }
    check_audit(&restored);
    restored.fold();
    let EscrowAnswer::Statement(page) = restored.ask(3, EscrowCommand::Statement { after: 0 }) else {
        panic!("a statement")
    };
    let shown = format!("{:?}", page.entries);
    for (_, receipt) in lost.claims {
        assert!(
            shown.contains(&format!("{receipt:?}")),
            "the statement shows the receipt that stands"
        );
    }
}

fn a_top_up_and_receipts_in_any_order_come_to_the_same<S: Store>(store: S) {
    let (mut whole, mut restored, lost) = worlds(store);
    let early = resubmit(&mut restored, vec![receipt(lost.claims[1]), Evidence::Hold(lost.hold)]);
    assert_eq!(early, [Err(Code::HoldUnknown), Ok("restored")]);
    let over = resubmit(&mut restored, vec![receipt(lost.claims[1]), receipt(lost.claims[0])]);
    assert_eq!(
        over,
        [Err(Code::ClaimOverCap), Ok("restored")],
        "the top-up comes first"
    );
    let late = resubmit(
        &mut restored,
        vec![Evidence::Hold(lost.raised), receipt(lost.claims[1])],
    );
    assert_eq!(late, [Ok("restored"), Ok("restored")]);
    assert_eq!(restored.status(lost.hold.body.id()), whole.status(lost.hold.body.id()));
    check_audit(&restored);
}

/// Spec: H-10, R-24.
fn a_recovering_escrow_promises_nothing_new_and_pays_what_it_owes<S: Store>(store: S) {
    let (_, mut world, lost) = worlds(store);
    let asked = world.hold_request(CAP);
    assert_eq!(world.open_hold_as(asked), Err(Code::Recovering));
    let request = world.header();
    let transfer = EscrowCommand::Transfer {
        request,
        to: key(3),
        amount: Amount(1),
        reference: crate::world::reference("r"),
        book: None,
    };
    assert_eq!(code(&world.ask(2, transfer)), Code::Recovering);
    resubmit(&mut world, vec![Evidence::Hold(lost.hold)]);
    assert_eq!(code(&world.top_up(lost.hold.body.id(), 0, 2 * CAP)), Code::Recovering);
    assert!(
        world.claim(TestBook::sure(&lost.hold.body, 7, 4).claim(4)).is_ok(),
        "claims are served"
    );
    assert_eq!(world.deposit(2, 5, "late"), Ok(world.ledger.totals().height));
    world.now = world.now.plus_ms(9 * DAY_MS / 4);
    world.live(HOUR_MS + MINUTE_MS);
    assert_eq!(
        block_on(world.ledger.expire_due(100, world.now)),
        Ok(Vec::new()),
        "nothing expires"
    );

    world.ledger.end_recovery(world.now);
    assert_eq!(world.ledger.standing().phase, Phase::Open);
    let evidence = List::new(vec![Evidence::Hold(lost.hold)]).unwrap();
    assert_eq!(
        code(&world.ask(3, EscrowCommand::Resubmit { evidence })),
        Code::NotRecovering
    );
    let early = block_on(world.ledger.expire_due(100, world.now)).unwrap();
    assert!(
        early
            .iter()
            .all(|outcome| !matches!(outcome, tombola_ledger::ledger::Outcome::Expired { .. })),
        "{early:?}"
    );
    let asked = world.hold_request(CAP);
    let hold = world.open_hold_as(asked).unwrap();
    assert_eq!(
        hold.body.terms.serial,
        1 << 40 | 1,
        "no serial of before is given out again"
    );
    check_audit(&world);
}

/// Spec: R-25.
fn evidence_that_proves_nothing_changes_nothing<S: Store>(store: S) {
    let (_, mut world, lost) = worlds(store);
    let height = world.ledger.totals().height;
    let forged = Signed::new(lost.hold.body, &secret(2));
    let mut old = lost.hold.body;
    // Clocks of several writers may differ a little.
    let slack_ms = match world.ledger.store().sharing() {
        Sharing::Sole => 0,
        Sharing::Shared => MINUTE_MS,
    };
    old.terms.opened_at = START.minus_ms(slack_ms + 1);
    let mut foreign = lost.hold.body;
    foreign.terms.asset = tombola_core::amount::Asset::new("EUR", 2).unwrap();
    let mut rich = lost.hold.body;
    rich.cap = Amount(u64::MAX);
    let mut stranger = lost.hold.body;
    stranger.terms.payer = key(7);
    let mut taken = lost.hold.body;
    taken.terms.serial = 1;
    let sign = |hold: Hold| Evidence::Hold(Signed::new(hold, &secret(1)));
    let answers = resubmit(
        &mut world,
        vec![
            Evidence::Hold(forged),
            sign(old),
            sign(foreign),
            sign(rich),
            sign(stranger),
            sign(taken),
            Evidence::Release(lost.release),
            receipt(lost.claims[0]),
        ],
    );
    let expected = [
        Code::BadSignature,
        Code::ResubmittedTooOld,
        Code::WrongAsset,
        Code::InsufficientFunds,
        Code::AccountUnknown,
        Code::HoldMismatch,
        Code::HoldUnknown,
        Code::HoldUnknown,
    ];
    assert_eq!(answers, expected.map(Err));
    assert_eq!(world.ledger.totals().height, height);
}

/// Spec: G-06, R-25.
fn a_hold_comes_back_out_of_money_that_nobody_folded<S: Store>(store: S) {
    let mut whole = World::funded(ModelStore::new(store.sharing()));
    let mut world = World::funded(store);
    let hold = whole.open_hold(CAP);
    let EscrowAnswer::Hold(raised) = whole.top_up(hold.body.id(), 0, 2 * CAP) else {
        panic!("raised")
    };
    world.ledger.begin_recovery(START);
    let first = resubmit(&mut world, vec![Evidence::Hold(hold)]);
    assert_eq!(first, [Ok("restored")]);
    // More came in since.
    world.deposit(2, 1_000_000, "late").unwrap();
    let mut rich = raised;
    rich.body.cap = Amount(1_500_000);
    let rich = Signed::new(rich.body, &secret(1));
    assert_eq!(resubmit(&mut world, vec![Evidence::Hold(rich)]), [Ok("restored")]);
    let state = world.account(2);
    assert_eq!((state.balance.0, state.held.0), (500_000, 1_500_000));
}
