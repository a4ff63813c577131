//! Money out, fees, signers and subscriptions, over the wire.

use super::*;
use crate::escrow::crowd::Asker;
use crate::escrow::subscribe::{self, Subscriber, Subscriptions};
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::hold::Delegation;
use tombola_core::limits::SUBSCRIPTIONS_PER_CONNECTION_MAX;
use tombola_core::message::StatementKind;
use tombola_net::{RecvHalf, SendHalf};

fn text(text: &str) -> Reference {
    Reference::new(text).unwrap()
}

async fn withdraw(client: &EscrowClient, amount: u64) -> u64 {
    let command = EscrowCommand::Withdraw {
        request: request_header(),
        amount: Amount(amount),
        destination: text("bank"),
        reference: text("mine"),
    };
    match client.request(command).await.unwrap() {
        EscrowAnswer::WithdrawalPending { withdrawal, .. } => withdrawal,
        other => panic!("{other:?}"),
    }
}

async fn state(client: &EscrowClient) -> (Amount, Amount) {
    match client.request(EscrowCommand::Account { holds_after: 0 }).await.unwrap() {
        EscrowAnswer::Account(state) => (state.balance, state.pending),
        other => panic!("{other:?}"),
    }
}

/// Spec.
#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_is_paid_or_comes_back() {
    let world = World::funded().await;
    let client = world.client(2);
    let paid = withdraw(&client, 3_000_000_000).await;
    let failed = withdraw(&client, 1_000_000_000).await;
    assert_eq!(state(&client).await, (Amount(6_000_000_000), Amount(4_000_000_000)));
    let pending = world.escrow.reader().pending_withdrawals(0, 10).await.unwrap();
    let numbers: Vec<u64> = pending.iter().map(|pending| pending.withdrawal).collect();
    assert_eq!(numbers, [paid, failed]);
    let after = world.escrow.reader().pending_withdrawals(paid, 10).await.unwrap();
    assert_eq!(after, pending[1..]);

    let reference = text("wire 1");
    let settle = async |number, outcome| world.escrow.settle(number, outcome, &reference).await;
    let first = settle(paid, PayoutOutcome::Paid).await.unwrap();
    assert_eq!(
        settle(paid, PayoutOutcome::Paid).await,
        Ok(first),
        "said twice, done once"
    );
    settle(failed, PayoutOutcome::Failed).await.unwrap();
    assert_eq!(state(&client).await, (Amount(7_000_000_000), Amount::ZERO));
    let other = settle(paid, PayoutOutcome::Failed).await;
    assert_eq!(other, Err(Reject::of(Code::WithdrawalSettled).into()));
    let none = settle(7_777, PayoutOutcome::Paid).await;
    assert_eq!(none, Err(Reject::compared(Code::WithdrawalUnknown, 0, 7_777).into()));
    let totals = world.escrow.status().await.unwrap().totals;
    assert_eq!(
        (totals.withdrawn, totals.pending, totals.conserved),
        (3_000_000_000, 0, true)
    );
    world.escrow.shutdown().await;
}

/// Spec: R-19.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_told_what_was_and_then_what_happens() {
    let world = World::funded().await;
    let client = world.client(2);
    let mut subscription = client.subscribe(0).await.unwrap();
    let page = subscription.next().await.unwrap().unwrap();
    assert_eq!(page.entries.as_slice().len(), 1);
    for n in 2..=4u64 {
        world.deposit(&format!("deposit {n}"), n).await.unwrap();
        let page = subscription.next().await.unwrap().unwrap();
        let [entry] = page.entries.as_slice() else {
            panic!("{page:?}")
        };
        assert_eq!(entry.sequence, n);
        assert!(matches!(entry.kind, StatementKind::Deposited { amount, .. } if amount == Amount(n)));
    }
    // Another one goes on anywhere.
    let mut late = client.subscribe(3).await.unwrap();
    assert_eq!(late.next().await.unwrap().unwrap().entries.as_slice()[0].sequence, 4);
    // Who drains ends what it began, and is not kept from it by those who wait.
    world.escrow.shutdown().await;
    assert_eq!(subscription.next().await, Ok(None));
}

/// The check: `subscribe::page` asks the budget. Spec: R-19, N-11.
#[tokio::test(flavor = "multi_thread")]
async fn who_follows_an_account_works_off_first_what_its_key_owes() {
    let world = World::funded().await;
    let client = world.client(2);
    let began = std::time::Instant::now();
    world.escrow.shared.budgets().owe(key(2).account(), 2);
    let mut subscription = client.subscribe(0).await.unwrap();
    let page = subscription.next().await.unwrap().unwrap();
    assert_eq!(page.entries.as_slice().len(), 1);
    let waited = began.elapsed();
    assert!(
        waited >= Duration::from_secs(1),
        "{waited:?}: one of two seconds' worth may be owed"
    );
    world.escrow.shutdown().await;
}

/// Spec: R-19.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_eight_subscriptions_and_a_stranger_has_none() {
    let world = World::funded().await;
    let client = world.client(2);
    let mut open = Vec::new();
    for _ in 0..SUBSCRIPTIONS_PER_CONNECTION_MAX {
        let mut subscription = client.subscribe(0).await.unwrap();
        subscription.next().await.unwrap().unwrap();
        open.push(subscription);
    }
    let limit = u64::try_from(SUBSCRIPTIONS_PER_CONNECTION_MAX).unwrap();
    let mut ninth = client.subscribe(0).await.unwrap();
    let busy = Reject::compared(Code::Busy, limit, limit);
    assert_eq!(ninth.next().await, Err(EscrowError::Rejected(busy)));
    // One that ends makes room.
    drop(open.pop());
    loop {
        match client.subscribe(0).await.unwrap().next().await {
            Ok(page) => break assert!(page.is_some()),
            Err(error) => assert_eq!(error, EscrowError::Rejected(busy)),
        }
    }
    let stranger = EscrowClient::of_account(world.escrow.address().clone(), &key(9), key(2).account()).unwrap();
    let refused = stranger.subscribe(0).await.unwrap().next().await;
    assert_eq!(refused, Err(EscrowError::Rejected(Reject::of(Code::Unauthorized))));
    world.escrow.shutdown().await;
}

/// So many deposits to the payer, with references that begin with a word.
async fn many_deposits(world: &World, word: &str, count: usize) {
    let deposit = |n: usize| Command::Deposit {
        account: key(2).account().check().unwrap(),
        amount: Amount(1),
        reference: Reference::new(format!("{word} {n}")).unwrap(),
    };
    let outcomes = world.escrow.shared.submit((0..count).map(deposit).collect()).await;
    assert!(
        outcomes
            .unwrap()
            .iter()
            .all(|one| matches!(one, Outcome::Deposited { .. }))
    );
}

/// A stream of the payer's to a server of our own that reads nothing; the stream lives as long as what comes with it.
async fn unread_stream() -> ((SendHalf, RecvHalf), impl Sized) {
    let (bind, salt) = (([127, 0, 0, 1], 0).into(), tombola_net::ResetSalt::new([0; 32]));
    let server = Endpoint::server(bind, &key(9), ClientKey::Required, &salt).unwrap();
    let port = server.local_addr().unwrap().port();
    let address = Address::new(key(9).account(), "127.0.0.1", port);
    let client = Endpoint::client(Some(&key(2))).unwrap();
    let accept = async { server.accept().await.unwrap().establish().await.unwrap() };
    let (connection, unread) = tokio::join!(client.connect(&address), accept);
    let connection = connection.unwrap();
    let stream = connection.open().await.unwrap();
    (stream, (unread, connection, client, server))
}

/// The payer follows its own account.
fn subscriber() -> Subscriber {
    let (account, address) = (key(2).account(), Ipv6Addr::LOCALHOST);
    let asker = Asker { key: account, address };
    Subscriber { asker, account }
}

/// Spec: R-19.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_does_not_read_is_cut_off_when_a_thousand_entries_wait() {
    let world = World::funded().await;
    // More than the window of a stream holds.
    many_deposits(&world, "before", 4_000).await;
    let (stream, _unread) = unread_stream().await;
    let subscriptions = Subscriptions::default();
    let serving = subscribe::serve(&world.escrow.shared, subscriber(), &subscriptions, 0, stream);
    let happening = async {
        for n in 0.. {
            many_deposits(&world, &format!("meanwhile {n}"), 100).await;
        }
    };
    let ended = tokio::select! {
        ended = timeout(Duration::from_secs(20), serving) => ended,
        () = happening => unreachable!("it goes on until the subscription ends"),
    };
    // Whether the last frame was taken before that is the peer's affair.
    assert!(ended.is_ok(), "it is cut off");
    world.escrow.shutdown().await;
}

/// The check: `Subscriptions::page`, held until its client has taken it. Spec: N-07, N-10.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_not_taken_is_the_only_one_of_its_connection() {
    let world = World::funded().await;
    many_deposits(&world, "before", 4_000).await;
    let (stream, _unread) = unread_stream().await;
    let subscriptions = Subscriptions::default();
    let serving = subscribe::serve(&world.escrow.shared, subscriber(), &subscriptions, 0, stream);
    // Another subscription gets its turn as long as pages go out, and then no more.
    let others = async { while timeout(Duration::from_secs(2), subscriptions.page()).await.is_ok() {} };
    tokio::select! {
        ended = serving => panic!("nothing happened that it could be too slow for: {ended:?}"),
        waited = timeout(Duration::from_secs(60), others) => assert!(waited.is_ok(), "pages are kept beside one another"),
    }
    assert!(subscriptions.page().await.is_some(), "the next one has its turn");
    world.escrow.shutdown().await;
}

/// Spec.
#[tokio::test(flavor = "multi_thread")]
async fn a_signer_opens_holds_and_moves_nothing_else() {
    let world = World::funded().await;
    let now = clock::now();
    let delegation = Delegation {
        escrow: key(1).account(),
        account: key(2).account(),
        signer: key(4).account(),
        spend_max: Amount(5 * FACE.0),
        face_value_max: FACE,
        payees: List::default(),
        expires_at: now.plus_ms(2 * DAY_MS),
        serial: 1,
    };
    let command = EscrowCommand::Delegate {
        request: request_header(),
        delegation: Signed::new(delegation, &key(2)),
    };
    let signer = EscrowClient::of_account(world.escrow.address().clone(), &key(4), key(2).account()).unwrap();
    let EscrowCommand::OpenHold { hold, .. } = open(request_header(), 3 * FACE.0) else {
        unreachable!()
    };
    let ask = || EscrowCommand::OpenHold {
        request: request_header(),
        hold: HoldRequest {
            signer: key(4).account(),
            ..hold
        },
    };
    let unauthorized = Err(EscrowError::Rejected(Reject::of(Code::Unauthorized)));
    assert_eq!(signer.request(ask()).await, unauthorized);
    // It carries its own authority, so the signer may bring it.
    let delegated = signer.request(command).await;
    assert_eq!(delegated, Ok(EscrowAnswer::Delegated { serial: 1 }));
    assert!(matches!(signer.request(ask()).await, Ok(EscrowAnswer::Hold(_))));
    let over = Reject::compared(Code::OverSpendMax, 5 * FACE.0, 6 * FACE.0);
    assert_eq!(signer.request(ask()).await, Err(EscrowError::Rejected(over)));
    let away = EscrowCommand::Transfer {
        request: request_header(),
        to: key(4).account(),
        amount: Amount(1),
        reference: text("mine now"),
        book: None,
    };
    assert_eq!(signer.request(away).await, unauthorized);
    world.escrow.shutdown().await;
}
