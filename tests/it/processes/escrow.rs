//! An escrow that is killed.

use super::{PRICE, SURE, UNIT, at_each, buy_over, connect, connect_with};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tombola_core::amount::{Amount, DAY_MS};
use tombola_core::claim::{Claim, ClaimBatch};
use tombola_core::codec::{List, encode};
use tombola_core::hold::{Fee, Hold};
use tombola_core::key::{BookId, SecretKey};
use tombola_core::message::{ClaimAnswer, EscrowAnswer, EscrowCommand, HoldRequest};
use tombola_net::Address;
use tombola_node::escrow_client::{EscrowClient, EscrowError};
use tombola_node::payer::{PayerError, PayerEvent};
use tombola_tests::process::{Node, Offer, Signal, Town, atoms, number, ok};
use tombola_tests::sure::SureBook;

const FACE: Amount = Amount(PRICE);
const PAYEES: u8 = 3;
const BOOKS: u16 = 60;
const LENGTH: u32 = 20;

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn payer_key() -> SecretKey {
    key(200)
}

/// A hold that pays all books of one payee.
async fn open_hold(payer: &EscrowClient, payee: u8) -> Hold {
    let info = payer.info().await.unwrap();
    let expires_at = info.time.plus_ms(DAY_MS);
    let hold = HoldRequest {
        signer: payer_key().account(),
        payee: key(payee).account(),
        face_value_min: FACE,
        face_value_max: FACE,
        book_length_max: LENGTH,
        expires_at,
        redeem_by: expires_at.plus_ms(DAY_MS),
        cap: FACE.saturating_mul(u64::from(BOOKS) * u64::from(LENGTH)),
        fee_max: Fee {
            flat: FACE,
            ppm: 1_000_000,
        },
    };
    let request = payer.request_header().await.unwrap();
    match payer.request(EscrowCommand::OpenHold { request, hold }).await.unwrap() {
        EscrowAnswer::Hold(hold) => hold.body,
        other => panic!("{other:?}"),
    }
}

/// A claim of a whole book of which every ticket wins.
fn claim(hold: &Hold, payee: u8, n: u16) -> Claim {
    let mut seed = [payee; 32];
    seed[..2].copy_from_slice(&n.to_le_bytes());
    let book = SureBook {
        seed,
        length: LENGTH,
        face_value: FACE,
    };
    book.claim(hold, &payer_key(), LENGTH).unwrap()
}

async fn redeem(client: &EscrowClient, claim: Claim) -> Result<ClaimAnswer, EscrowError> {
    let claims = List::new(vec![claim]).unwrap();
    let batch = ClaimBatch {
        escrow: client.address().key,
        payee: client.account(),
        claims,
    };
    match client.request(EscrowCommand::Claim { batch, signature: None }).await? {
        EscrowAnswer::Claimed { answers } => Ok(answers.into_vec().remove(0)),
        other => panic!("{other:?}"),
    }
}

/// Receipts by book, as the bytes that came.
type Receipts = BTreeMap<BookId, Vec<u8>>;

/// Three payees claim book by book; the moment comes after so many receipts of all of them.
async fn claim_until(
    address: &Address,
    claims: &BTreeMap<u8, Vec<Claim>>,
    moment: u64,
    kill: impl FnOnce(),
) -> Receipts {
    let receipts = Arc::new(Mutex::new(Receipts::new()));
    let (count, reached) = (Arc::new(AtomicU64::new(0)), Arc::new(tokio::sync::Notify::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for (payee, claims) in claims.clone() {
        let (receipts, count, reached) = (Arc::clone(&receipts), Arc::clone(&count), Arc::clone(&reached));
        let client = EscrowClient::new(address.clone(), &key(payee)).unwrap();
        tasks.spawn(async move {
            for claim in claims {
                let Ok(answer) = redeem(&client, claim).await else {
                    return;
                };
                assert!(matches!(answer, ClaimAnswer::Receipt(_)), "{answer:?}");
                receipts.lock().unwrap().insert(claim.book.body.id(), encode(&answer));
                if count.fetch_add(1, Ordering::Relaxed) + 1 == moment {
                    reached.notify_one();
                }
            }
        });
    }
    reached.notified().await;
    kill();
    // What was on its way to the dead escrow is not waited for: it is claimed again by others.
    tasks.shutdown().await;
    std::mem::take(&mut *receipts.lock().unwrap())
}

async fn claim_all(address: &Address, claims: &BTreeMap<u8, Vec<Claim>>) -> Receipts {
    let mut receipts = Receipts::new();
    for (payee, claims) in claims {
        let client = EscrowClient::new(address.clone(), &key(*payee)).unwrap();
        for claim in claims {
            let answer = redeem(&client, *claim).await.unwrap();
            assert!(matches!(answer, ClaimAnswer::Receipt(_)), "{answer:?}");
            receipts.insert(claim.book.body.id(), encode(&answer));
        }
        client.close().await;
    }
    receipts
}

fn kill_during_claims(moment: u64) {
    let town = Town::new();
    let escrow = town.escrow();
    let (address, socket): (Address, _) = (escrow.address().parse().unwrap(), escrow.socket());
    let home = town.arg("escrow");
    let account = payer_key().account().to_string();
    ok(&[
        "escrow",
        "deposit",
        &account,
        "100",
        "--reference",
        "r",
        "--home",
        &home,
    ]);
    let runtime = tokio::runtime::Handle::current();
    let (claims, before, escrow) = runtime.block_on(async {
        let payer = EscrowClient::new(address.clone(), &payer_key()).unwrap();
        let mut claims = BTreeMap::new();
        for payee in 1..=PAYEES {
            let hold = open_hold(&payer, payee).await;
            claims.insert(payee, (0..BOOKS).map(|n| claim(&hold, payee, n)).collect::<Vec<_>>());
        }
        let before = claim_until(&address, &claims, moment, || escrow.kill()).await;
        (claims, before, town.run_escrow(&socket))
    });
    assert!(u64::try_from(before.len()).unwrap() >= moment);
    let after = runtime.block_on(claim_all(&address, &claims));
    for (book, receipt) in &before {
        assert_eq!(
            after.get(book),
            Some(receipt),
            "{book}: the receipt from before the kill, byte for byte"
        );
    }
    assert_eq!(runtime.block_on(claim_all(&address, &claims)), after, "and again");
    println!(
        "moment {moment}: {} receipts before, {} in all",
        before.len(),
        after.len()
    );

    let audit = town.ask("escrow", "audit", "escrow");
    assert_eq!(audit["conserved"], true, "{audit}");
    let fees = atoms(&audit, "fees");
    let paid = u64::from(PAYEES) * u64::from(BOOKS) * u64::from(LENGTH) * FACE.0;
    let balance = |account: &str| atoms(&ok(&["escrow", "account", account, "--home", &home]), "balance");
    let earned: u64 = (1..=PAYEES)
        .map(|payee| balance(&key(payee).account().to_string()))
        .sum();
    assert_eq!(earned + fees, paid, "every winner is paid once");
    assert_eq!(balance(&account), 100_000_000_000 - paid);
    assert_eq!(escrow.end(Signal::INT), 0);
}

#[test]
fn killed_during_claims_an_escrow_loses_no_receipt_and_pays_nothing_twice() {
    at_each(&[1, 17, 80, 150], kill_during_claims);
}

/// A payee redeems 50 winners at a time while it sells; the escrow is gone for a moment in between.
fn kill_during_a_download(moment: u64) {
    let town = Town::new();
    let mut escrow = Some(town.escrow());
    let (first, units) = (escrow.as_ref().unwrap(), 600);
    let socket = first.socket();
    let content = town.file("song", units * UNIT, moment);
    let offer = Offer {
        redeem_at_value: "0.05",
        ..SURE
    };
    let node = town.payee("payee", first, offer);
    town.payer("payer", first, "10");
    let payer = connect(&town, first);
    let (url, output) = (format!("{}/song", node.address()), town.path("song"));
    let kill = || {
        escrow.take().unwrap().kill();
        escrow = Some(town.run_escrow(&socket));
    };
    let redeem = || drop(town.ask("payee", "redeem", "payee"));
    let bought = buy_over(&payer, &url, &output, moment, kill, redeem);
    assert_eq!(std::fs::read(&output).unwrap(), content);
    let status = town.ask("payee", "status", "payee");
    let charged: u64 = bought.charges.iter().map(|charge| charge.amount.0).sum();
    let paid = u64::try_from(units).unwrap();
    println!(
        "moment {moment}: {} charges for {} tickets",
        bought.charges.len(),
        bought.done.tickets
    );
    assert_eq!((bought.done.tickets, charged), (paid, paid * PRICE), "each unit once");
    assert_eq!(
        (number(&status, "winners_redeemed"), number(&status, "refusals")),
        (paid, 0),
        "{status}"
    );
    assert_eq!(node.end(Signal::TERM), 0);
    assert_eq!(town.ask("escrow", "audit", "escrow")["conserved"], true);
    let escrow: Node = escrow.unwrap();
    assert_eq!(escrow.end(Signal::TERM), 0);
}

/// Spec: W-01. The hold runs dry while the escrow is away: the purchase waits, and goes on by itself.
#[test]
fn a_purchase_waits_for_an_escrow_that_it_needs_and_not_for_ever() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let town = Town::new();
    let escrow = Mutex::new(Some(town.escrow()));
    let (socket, units) = (escrow.lock().unwrap().as_ref().unwrap().socket(), 200);
    let content = town.file("song", units * UNIT, 1);
    let node = town.payee("payee", escrow.lock().unwrap().as_ref().unwrap(), SURE);
    town.payer("payer", escrow.lock().unwrap().as_ref().unwrap(), "10");
    let (url, output) = (format!("{}/song", node.address()).parse().unwrap(), town.path("song"));
    let buy = |patience_ms, on_event: &(dyn Fn(PayerEvent) + Send + Sync)| {
        let payer = connect_with(&town, escrow.lock().unwrap().as_ref().unwrap(), |terms| {
            terms.escrow_patience_ms = patience_ms;
        });
        let done = runtime.block_on(async {
            let order = payer.plan_get(&url, Some(super::CEILING), &output).await.unwrap();
            payer.get(&order, on_event).await
        });
        runtime.block_on(payer.shutdown());
        done
    };
    let kill = |event: PayerEvent| {
        if matches!(event, PayerEvent::Acknowledged { tickets } if tickets >= 5) {
            drop(escrow.lock().unwrap().take());
        }
    };
    let given_up = buy(1, &kill);
    assert!(
        matches!(given_up, Err(PayerError::Escrow(EscrowError::Away(_)))),
        "{given_up:?}"
    );
    *escrow.lock().unwrap() = Some(town.run_escrow(&socket));
    let waits = AtomicU64::new(0);
    let done = buy(300_000, &|event| match event {
        PayerEvent::EscrowAway { .. } if waits.fetch_add(1, Ordering::Relaxed) == 0 => {
            *escrow.lock().unwrap() = Some(town.run_escrow(&socket));
        }
        event if waits.load(Ordering::Relaxed) == 0 => kill(event),
        _ => {}
    });
    println!("{} waits; {done:?}", waits.load(Ordering::Relaxed));
    assert!(waits.into_inner() > 0, "it had to wait");
    assert_eq!((done.is_ok(), std::fs::read(&output).unwrap()), (true, content));
    assert_eq!(node.end(Signal::TERM), 0);
}

#[test]
fn a_download_goes_on_over_the_death_of_the_escrow() {
    at_each(&[60, 330], kill_during_a_download);
}
