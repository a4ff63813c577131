//! Deliveries over real nodes: what is sold, what is refused with which code, and that nobody pays twice for a unit.

pub(crate) mod market;
mod stalled;

use market::{Market, PRICE, UNIT, ask, read, read_to_end, request, service};
use std::sync::Mutex;
use tombola_core::amount::Amount;
use tombola_core::message::{PayeeAnswer, PayeeRequest};
use tombola_core::reject::{Code, Reject};
use tombola_net::{Connection, NetError};
use tombola_node::payer::{Delivered, PayerError, PayerEvent};

/// What a Request without a book is told.
async fn refusal(to: &Connection, name: &str, from_unit: u64) -> Option<Reject> {
    request(to, name, from_unit, None, None).await.err()
}

/// Buys a file with the payer of the loopback; `at` bytes of it something happens, once.
async fn get(market: &Market, name: &str, at: u64, happen: impl FnOnce() + Send) -> Result<Delivered, PayerError> {
    let payer = &market.nodes.payer;
    let address = market
        .nodes
        .payee
        .address()
        .clone()
        .with_path(name.trim_start_matches('/'));
    let output = market.directory.path().join("output");
    let order = payer.plan_get(&address, Some(Amount(5_000_000_000)), &output).await?;
    let happen = Mutex::new(Some(happen));
    let on_event = |event| {
        if let PayerEvent::Received { bytes, .. } = event
            && bytes >= at
            && let Some(happen) = happen.lock().unwrap().take()
        {
            happen();
        }
    };
    payer.get(&order, &on_event).await
}

/// Spec: D-07, P-03. Each check of a request, in its order; then a quote under its price.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_refused_by_the_first_rule_it_breaks() {
    let market = Market::open().await;
    market.sell("song", 3 * UNIT, 0);
    market.sell("other", UNIT, 0);
    let connection = market.connect().await;
    let (first, second) = (&connection, market.connect().await);
    let mut line = market.book(first, "/song", 3).await;
    let (id, ticket) = (line.id(), line.bearer());
    let mut unknown = id;
    unknown.0[0] ^= 1;
    let mut foreign = ticket;
    foreign.preimage.0[0] ^= 1;

    let error = |code| Some(Reject::of(code));
    let code = |result: Result<_, Reject>| result.err().map(|reject| reject.code);
    assert_eq!(refusal(first, "/none", 9).await, error(Code::ServiceUnknown));
    assert_eq!(
        refusal(first, "/song", 4).await,
        Some(Reject::compared(Code::UnitOutOfRange, 3, 4))
    );
    assert_eq!(
        refusal(first, "/song", 3).await,
        None,
        "at the end there is nothing, and nothing wrong"
    );
    assert_eq!(
        code(request(first, "/song", 0, Some(unknown), None).await),
        Some(Code::BookUnknown)
    );
    assert_eq!(
        code(request(first, "/other", 0, Some(id), None).await),
        Some(Code::PriceMismatch)
    );
    assert_eq!(
        code(request(&second, "/song", 0, Some(id), None).await),
        Some(Code::Unauthorized)
    );
    assert_eq!(
        code(request(&second, "/song", 0, Some(id), Some(foreign)).await),
        Some(Code::Unauthorized)
    );
    // The ticket itself lets its bearer in and pays: ticket and unit in one round trip.
    let (header, mut units) = request(&second, "/song", 0, Some(id), Some(ticket)).await.unwrap();
    assert_eq!((header.units, header.through), (3, 1));
    assert_eq!(
        read(&mut units, UNIT).await,
        std::fs::read(market.file("song")).unwrap()[..UNIT]
    );
    let price = PayeeRequest::Quote {
        service: service("/song"),
        price: Some(Amount(PRICE.0 - 1)),
    };
    let mismatch = Reject::compared(Code::PriceMismatch, PRICE.0, PRICE.0 - 1);
    assert_eq!(ask(first, &price).await.0, PayeeAnswer::Rejected(mismatch));
    market.stop().await;
}

/// Spec: D-06, D-01, P-03. What is listed is what is there.
#[tokio::test(flavor = "multi_thread")]
async fn only_regular_files_below_the_root_are_served() {
    let market = Market::open().await;
    let outside = market.directory.path().join("secret");
    std::fs::write(&outside, b"secret").unwrap();
    std::fs::create_dir(market.file("sub")).unwrap();
    market.sell("sub/song", 10, 0);
    std::os::unix::fs::symlink(&outside, market.file("link")).unwrap();
    std::os::unix::fs::symlink(market.directory.path(), market.file("up")).unwrap();
    std::os::unix::fs::symlink(market.file("sub/song"), market.file("inside")).unwrap();
    let fifo = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        market.file("pipe"),
        rustix::fs::FileType::Fifo,
        fifo,
        0,
    )
    .unwrap();
    let connection = market.connect().await;
    for name in [
        "/../secret",
        "/sub/../../secret",
        "/link",
        "/up/secret",
        "/pipe",
        "/sub",
        "/sub/",
        "/",
        "//sub/song",
        "/sub//song",
        "/./sub/song",
        "/sub/./song",
        "/sub/../sub/song",
        "sub/song",
        "",
        "..",
        "/..",
    ] {
        let refused = refusal(&connection, name, 0).await.map(|reject| reject.code);
        assert_eq!(refused, Some(Code::ServiceUnknown), "{name:?}");
    }
    for name in ["/sub/song", "/inside"] {
        assert_eq!(refusal(&connection, name, 0).await, None, "{name}");
    }
    let (answer, _) = ask(&connection, &PayeeRequest::Services { after: None }).await;
    let PayeeAnswer::Services { services, .. } = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = services
        .as_slice()
        .iter()
        .map(|offer| offer.service.as_str().to_owned())
        .collect();
    assert_eq!(names, ["/sub/song"], "a list names what is there, not what leads there");
    market.stop().await;
}

/// Spec: N-05. Half an answer never looks like a whole one.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_short_breaks_its_delivery_off() {
    let market = Market::open().await;
    let content = market.sell("song", 4 * UNIT, 0);
    let connection = market.connect().await;
    let mut line = market.book(&connection, "/song", 4).await;
    line.pay(1).await;
    let (_, mut units) = request(&connection, "/song", 0, Some(line.id()), None).await.unwrap();
    assert_eq!(read(&mut units, UNIT).await, content[..UNIT]);
    std::fs::File::options()
        .write(true)
        .open(market.file("song"))
        .unwrap()
        .set_len(10)
        .unwrap();
    line.pay(1).await;
    let reset = NetError::StreamReset {
        code: u64::from(Code::Unavailable.number()),
    };
    assert_eq!(read_to_end(units).await, Err(reset));
    // What was paid and not sent stays in the pool: the mended file is delivered for it.
    std::fs::write(market.file("song"), &content).unwrap();
    let (_, mut units) = request(&connection, "/song", 1, Some(line.id()), None).await.unwrap();
    assert_eq!(read(&mut units, UNIT).await, content[UNIT..2 * UNIT]);
    market.stop().await;
}

/// Spec: D-04. The pool outlives stream and connection, and each unit is paid once.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_paid_and_not_brought_is_brought_on_another_connection() {
    let market = Market::open().await;
    let content = market.sell("song", 8 * UNIT, 0);
    let connection = market.connect().await;
    let mut line = market.book(&connection, "/song", 8).await;
    line.pay(5).await;
    let (id, bearer) = (line.id(), line.bearer());
    connection.close(0, "gone");
    let connection = market.connect().await;
    let (header, units) = request(&connection, "/song", 0, Some(id), Some(bearer)).await.unwrap();
    assert_eq!(header.through, 5);
    assert_eq!(
        read_to_end(units).await.unwrap(),
        content[..5 * UNIT],
        "five were paid, and five are brought"
    );
    let (_, units) = request(&connection, "/song", 5, Some(id), Some(bearer)).await.unwrap();
    assert_eq!(read_to_end(units).await.unwrap(), b"", "a closed book draws nothing");
    market.stop().await;
}

/// Spec: B-13, P-05.
#[tokio::test(flavor = "multi_thread")]
async fn a_book_that_is_redeemed_says_so_and_brings_the_next_quote() {
    let market = Market::open().await;
    market.sell("song", 8 * UNIT, 0);
    let connection = market.connect().await;
    let mut line = market.book(&connection, "/song", 100).await;
    line.pay(3).await;
    let redeemed = market.nodes.payee.redeem().await.unwrap();
    assert_eq!(
        (redeemed.receipts, redeemed.refusals, redeemed.unclaimed_books),
        (1, 0, 0)
    );
    let (through, code, next) = line.closed().await;
    assert_eq!((through, code), (3, Code::BookRedeemed));
    assert_eq!(next.unwrap().terms.service, service("/song"));
    market.stop().await;
}

/// Spec: B-13, P-05.
#[tokio::test(flavor = "multi_thread")]
async fn a_book_is_over_when_its_last_ticket_is_drawn() {
    let market = Market::open().await;
    market.sell("song", 8 * UNIT, 0);
    let connection = market.connect().await;
    let mut line = market.book(&connection, "/song", 3).await;
    line.pay(3).await;
    let (through, code, _) = line.closed().await;
    assert_eq!((through, code), (3, Code::BookComplete));
    market.stop().await;
}

/// Spec: B-13, P-05. Whoever ends its side in order is told so; a reset counts as a loss.
#[tokio::test(flavor = "multi_thread")]
async fn a_book_ends_with_its_stream_and_says_how() {
    let market = Market::open().await;
    market.sell("song", 8 * UNIT, 0);
    let connection = market.connect().await;
    let mut finished = market.book(&connection, "/song", 10).await;
    let mut lost = market.book(&connection, "/song", 10).await;
    finished.pay(2).await;
    lost.pay(1).await;
    finished.finish();
    lost.reset();
    assert_eq!(finished.closed().await, (2, Code::BookFinished, None));
    assert_eq!(lost.closed().await, (1, Code::StreamLost, None));
    market.stop().await;
}

/// Spec: P-04, P-05.
#[tokio::test(flavor = "multi_thread")]
async fn tickets_may_follow_before_the_book_is_open() {
    let market = Market::open().await;
    market.sell("song", 8 * UNIT, 0);
    let connection = market.connect().await;
    // Once a book is open the hold is known, and no later opening waits for the escrow.
    let first = market.book(&connection, "/song", 10).await;
    let mut early = market.begin_book(&connection, "/song", 10).await;
    early.pay(3).await;
    assert_eq!((early.book.acknowledged(), first.book.acknowledged()), (3, 0));
    market.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_with_the_next_book_when_one_is_redeemed() {
    let market = Market::open().await;
    let content = market.sell("song", 400 * UNIT, 0);
    let (redeem, wanted) = tokio::sync::oneshot::channel();
    let buying = get(&market, "/song", 100 * 1_024, move || redeem.send(()).unwrap());
    let redeeming = async {
        wanted.await.unwrap();
        market.nodes.payee.redeem().await.unwrap()
    };
    let (done, redeemed) = tokio::join!(buying, redeeming);
    assert_eq!(done.unwrap().tickets, 400, "each unit is paid once");
    assert_eq!(redeemed.refusals, 0);
    assert!(market.nodes.payee.status().unwrap().winners_redeemed >= 100);
    assert_eq!(std::fs::read(market.directory.path().join("output")).unwrap(), content);
    market.stop().await;
}

/// Spec: N-08, B-13.
#[tokio::test(flavor = "multi_thread")]
async fn a_payee_that_shuts_down_ends_its_books_with_draining() {
    let market = Market::open().await;
    market.sell("song", UNIT, 0);
    let connection = market.connect().await;
    let mut line = market.book(&connection, "/song", 100).await;
    line.pay(2).await;
    let mut late = market.begin_book(&connection, "/song", 1).await;
    let Market {
        nodes,
        directory: _directory,
        client,
        ..
    } = market;
    let (shut, (through, code, next)) = tokio::join!(nodes.payee.shutdown(), line.closed());
    assert_eq!((shut, through, code, next), ((), 2, Code::Draining, None));
    // Whether it was opened just before or not, the answer to a book in that moment is the same.
    assert_eq!(late.closed().await.1, Code::Draining);
    nodes.payer.shutdown().await;
    client.close().await;
    nodes.escrow.shutdown().await;
}

/// Spec: D-03.
#[tokio::test(flavor = "multi_thread")]
async fn credit_is_lent_once_to_an_account_and_tickets_pay_it_back() {
    let market = Market::with(3, UNIT).await;
    let content = market.sell("song", 20 * UNIT, 0);
    let connection = market.connect().await;
    let mut line = market.book(&connection, "/song", 20).await;
    let (_, mut units) = request(&connection, "/song", 0, Some(line.id()), None).await.unwrap();
    assert_eq!(
        read(&mut units, 3 * UNIT).await,
        content[..3 * UNIT],
        "three before any ticket"
    );
    let mut other = market.book(&connection, "/song", 20).await;
    let (_, mut more) = request(&connection, "/song", 0, Some(other.id()), None).await.unwrap();
    assert_eq!(
        market.nodes.payee.status().unwrap().units,
        3,
        "none of them on another book"
    );
    other.pay(1).await;
    assert_eq!(read(&mut more, UNIT).await, content[..UNIT]);
    line.pay(2).await;
    assert_eq!(
        read(&mut units, UNIT).await,
        content[3 * UNIT..4 * UNIT],
        "paid units are good for more credit"
    );
    let status = market.nodes.payee.status().unwrap();
    assert!(status.exposure.units_lent <= 3, "{status:?}");
    market.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_costs_nothing_and_a_short_last_unit_one_ticket() {
    let market = Market::open().await;
    let output = market.directory.path().join("output");
    for (bytes, tickets) in [(0, 0), (1, 1), (UNIT, 1), (2 * UNIT + 1, 3)] {
        let content = market.sell("song", bytes, 0);
        let done = get(&market, "/song", 0, || ()).await.unwrap();
        assert_eq!((done.tickets, done.size), (tickets, u64::try_from(bytes).unwrap()));
        assert_eq!(std::fs::read(&output).unwrap(), content);
        std::fs::remove_file(&output).unwrap();
    }
    market.stop().await;
}

/// Spec: D-02. What replaces a file on disk is another version, which a delivery that has begun does not see.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_is_delivered_as_it_was_begun() {
    let market = Market::open().await;
    let content = market.sell("song", 300 * UNIT, 0);
    let replace = || {
        market.sell("new", 300 * UNIT, 1);
        std::fs::rename(market.file("new"), market.file("song")).unwrap();
    };
    get(&market, "/song", 50 * 1_024, replace).await.unwrap();
    assert_eq!(std::fs::read(market.directory.path().join("output")).unwrap(), content);
    market.stop().await;
}

/// Spec: D-02. A download that is cut goes on with the same version or begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn two_versions_of_a_file_are_never_spliced() {
    let market = Market::open().await;
    let output = market.directory.path().join("output");
    // A write into the open file: its bytes are of no version, and are not passed off as one.
    market.sell("song", 300 * UNIT, 0);
    let done = get(&market, "/song", 50 * 1_024, || {
        drop(market.sell("song", 300 * UNIT, 1))
    })
    .await;
    assert!(
        matches!(done, Err(PayerError::ContentMismatch | PayerError::Net(_))),
        "{done:?}"
    );
    assert!(!output.exists());
    // The partial file is of another version than what is sold now: it is begun anew.
    let content = market.sell("song", 300 * UNIT, 2);
    let done = get(&market, "/song", 0, || ()).await.unwrap();
    assert_eq!((done.tickets, std::fs::read(&output).unwrap()), (300, content));
    std::fs::remove_file(&output).unwrap();
    // A new version between two books of one download.
    market.sell("song", 300 * UNIT, 3);
    let (changed, wanted) = tokio::sync::oneshot::channel();
    let replace = || {
        market.sell("new", 300 * UNIT, 4);
        std::fs::rename(market.file("new"), market.file("song")).unwrap();
        changed.send(()).unwrap();
    };
    let buying = get(&market, "/song", 50 * 1_024, replace);
    let redeeming = async {
        wanted.await.unwrap();
        market.nodes.payee.redeem().await.unwrap()
    };
    let (done, _) = tokio::join!(buying, redeeming);
    assert_eq!(done, Err(PayerError::ContentMismatch));
    assert!(!output.exists());
    market.stop().await;
}
