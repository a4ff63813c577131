//! Properties 1, 4 and 7: no overdraft, anyone can check, money is conserved.

use crate::pair::{Dice, Options, World};
use tombola_core::amount::{Amount, DAY_MS, MINUTE_MS};
use tombola_core::chain::Preimage;
use tombola_core::draw::Reveal;
use tombola_core::hold::Fee;
use tombola_core::key::{RequestId, SecretKey, Signed};
use tombola_core::message::{Charge, EscrowAnswer, EscrowCommand, HoldRequest, RequestHeader, StatementKind};
use tombola_core::payer::{ChargeFault, JournalRow, audit_charge};
use tombola_core::reject::Code;

fn code(answer: &EscrowAnswer) -> Option<Code> {
    match answer {
        EscrowAnswer::Rejected(reject) => Some(reject.code),
        _ => None,
    }
}

fn request(world: &mut World, payee: usize, cap: u64) -> EscrowCommand {
    let now = world.net.now;
    EscrowCommand::OpenHold {
        request: RequestHeader {
            id: RequestId(world.net.dice.bytes()),
            issued_at: now,
        },
        hold: HoldRequest {
            signer: world.buyers[0].account(),
            payee: world.sellers[payee].account(),
            face_value_min: Amount(100),
            face_value_max: Amount(1_000),
            book_length_max: 100,
            expires_at: now.plus_ms(DAY_MS),
            redeem_by: now.plus_ms(3 * DAY_MS),
            cap: Amount(cap),
            fee_max: Fee {
                flat: Amount(10),
                ppm: 20_000,
            },
        },
    }
}

/// Property 1. Watches `core/escrow.rs::check_funds`.
/// Spec: H-06, H-08.
#[test]
fn no_cent_is_promised_twice() {
    let options = Options {
        payees: 2,
        ..Options::default()
    };
    let mut world = World::new(1, options);
    world.deposit(0, 1_000);
    let payer = world.buyers[0].account();
    let first = request(&mut world, 0, 600);
    let EscrowAnswer::Hold(hold) = world.ask(payer, first) else {
        panic!("there is money for the first")
    };
    let second = request(&mut world, 1, 401);
    assert_eq!(code(&world.ask(payer, second)), Some(Code::InsufficientFunds));
    let raise = EscrowCommand::TopUpHold {
        request: RequestHeader {
            id: RequestId([9; 16]),
            issued_at: world.net.now,
        },
        hold: hold.body.id(),
        revision: 0,
        cap: Amount(1_001),
    };
    assert_eq!(code(&world.ask(payer, raise)), Some(Code::InsufficientFunds));
    let third = request(&mut world, 1, 400);
    assert_eq!(code(&world.ask(payer, third)), None);
    assert_eq!(world.balance(payer), 0);
    world.check();
    world.audit();
}

/// Property 7. Watches `ledger/decide/money.rs::deposit` (once for each reference) and `core/escrow.rs::judge`
/// (a repeated claim pays nothing); `ledger/decide.rs::book` asserts the sums at each event.
/// Spec.
#[test]
fn what_comes_twice_moves_money_once() {
    let options = Options {
        repeat: 1_000,
        ..Options::default()
    };
    let mut world = World::new(2, options);
    world.deposit(0, 500_000);
    let payer = world.buyers[0].account();
    world.bank.repeat_deposit(payer, Amount(500_000), world.net.now);
    assert_eq!(world.balance(payer), 500_000);
    world.pay(500);
    world.live(MINUTE_MS);
    world.finish();
    world.live(MINUTE_MS);
    world.end_holds();
    world.check_settled();
    let report = world.audit();
    let claims = u64::try_from(world.charges(0).len()).unwrap();
    assert!(
        report.claims > 0 && report.claims == claims,
        "a repeated claim is no event"
    );
    assert_eq!(report.deposits, 500_000);
    assert_eq!(report.deposits, report.balances + report.fees);
}

/// One honest charge, with what it takes to lie about it.
fn charged() -> (World, Charge, JournalRow) {
    let mut world = World::funded(3, Options::default());
    world.pay(200);
    world.drive();
    world.finish();
    world.drive();
    let account = world.buyers[0].account();
    let charges = world
        .statement(account)
        .into_iter()
        .filter_map(|entry| match entry.kind {
            StatementKind::Charged(charge) => Some(*charge),
            _ => None,
        });
    let charge = charges.max_by_key(|charge| charge.receipt.body.height).unwrap();
    let row = world.buyers[0].journal[&charge.claim.book.body.id()];
    (world, charge, row)
}

/// Property 4. Watches `core/payer/audit.rs::audit_charge`: hold, claim, receipt, sum and journal, one by one.
/// Spec: S-02.
#[test]
fn the_payers_audit_finds_every_lie() {
    let (world, honest, row) = charged();
    let escrow = world.bank.account_key();
    let payer = world.buyers[0].account();
    let audit = |charge: &Charge, row: Option<&JournalRow>| audit_charge(charge, &escrow, &payer, row);
    let good = audit(&honest, Some(&row)).unwrap();
    assert_eq!(good.beyond, Some(0));
    assert_eq!(audit(&honest, None).unwrap().beyond, None);
    let short = JournalRow {
        acknowledged: Some(good.through - 1),
        ..row
    };
    assert_eq!(audit(&honest, Some(&short)).unwrap().beyond, Some(1));

    let mut forged = honest;
    forged.claim.book = Signed::new(honest.claim.book.body, &SecretKey::from_seed(&[7; 32]));
    assert!(matches!(audit(&forged, None), Err(ChargeFault::Claim(r)) if r.code == Code::BadSignature));
    let mut forged = honest;
    forged.claim.preimage.0[0] ^= 1;
    assert!(matches!(audit(&forged, None), Err(ChargeFault::Claim(_))));
    let mut raised = honest;
    raised.hold.body.cap.0 += 1;
    assert!(matches!(audit(&raised, None), Err(ChargeFault::Hold(_))));
    let mut unsigned = honest;
    unsigned.receipt.body.at.0 += 1;
    assert!(matches!(audit(&unsigned, None), Err(ChargeFault::Receipt(_))));
    let mut more = honest.receipt.body;
    more.gross.0 += 1_000;
    let more = Charge {
        receipt: Signed::new(more, world.bank.key()),
        ..honest
    };
    assert!(matches!(audit(&more, None), Err(ChargeFault::Sum { .. })));
    let taken = Charge {
        amount: Amount(honest.amount.0 + 1),
        ..honest
    };
    assert!(matches!(audit(&taken, None), Err(ChargeFault::Sum { .. })));
}

/// Property 4. Watches `core/claim.rs::verify_with` and `count_winners`: hold, book and claim prove what was drawn,
/// never more, and a claim that proves nothing is refused.
/// Spec: R-11.
#[test]
fn a_claim_proves_its_winners_and_no_more() {
    let (world, charge, _) = charged();
    let (hold, claim) = (charge.hold.body, charge.claim);
    let proved = claim.verify(&hold).unwrap();
    let opened = &world.net.opened[&proved.book];
    let draw = tombola_core::draw::Draw::new(&proved.book, &opened.reveal, opened.book.threshold);
    let mut chain = tombola_core::chain::Chain::new(world.buyers[0].secret_of(&proved.book), opened.book.length);
    let wins = |index: u32, chain: &mut tombola_core::chain::Chain| draw.wins(index, &chain.preimage(index).unwrap());
    let count = (1..=proved.through).filter(|index| wins(*index, &mut chain)).count();
    assert_eq!(usize::try_from(proved.winners).unwrap(), count);
    assert_eq!(proved.gross, Amount(u64::from(proved.winners) * 1_000));
    for index in 1..=opened.book.length {
        let mut other = claim;
        other.through = index;
        other.preimage = chain.preimage(index).unwrap();
        assert_eq!(other.verify(&hold).is_ok(), wins(index, &mut chain), "index {index}");
    }
    let mut dice = Dice::new(1);
    let mut foreign = claim;
    while foreign.preimage == claim.preimage || !draw.wins(claim.through, &foreign.preimage) {
        foreign.preimage = Preimage(dice.bytes());
    }
    assert_eq!(foreign.verify(&hold).unwrap_err().code, Code::ChainBroken);
    let mut other = claim;
    other.reveal = Reveal([0; 32]);
    assert_eq!(other.verify(&hold).unwrap_err().code, Code::CommitmentMismatch);
}
