//! Peers that ask and do not read: what they cost, and whom they keep waiting.

use super::market::{Line, Market, read_to_end, request};
use std::path::Path;
use std::time::{Duration, Instant};
use tombola_core::reject::Code;
use tombola_net::limits::DOWNLOAD_STREAM_BYTES_MAX;
use tombola_net::{Connection, NetError, RecvHalf};

/// The longest there may be, and twice what a client takes of a stream that nobody reads.
const LONG_UNIT: usize = 2 * DOWNLOAD_STREAM_BYTES_MAX as usize;
/// Longer than any limit of these tests, shorter than a stuck test.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);

/// Two paid units that were asked for on one connection and are not read: all that it takes without being read is full.
struct Stalled {
    _connection: Connection,
    lines: [Line; 2],
    downloads: [RecvHalf; 2],
}

async fn stall(market: &Market) -> Stalled {
    let connection = market.connect().await;
    let mut lines = [
        market.book(&connection, "/long", 2).await,
        market.book(&connection, "/long", 2).await,
    ];
    let mut downloads = Vec::new();
    for line in &mut lines {
        line.pay(1).await;
        let (_, recv) = request(&connection, "/long", 0, Some(line.id()), None).await.unwrap();
        downloads.push(recv);
    }
    let Ok(downloads) = downloads.try_into() else {
        panic!("there are two")
    };
    Stalled {
        _connection: connection,
        lines,
        downloads,
    }
}

/// Memory of this process that is its own, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

fn open_files(path: &Path) -> usize {
    let path = path.canonicalize().unwrap();
    let files = std::fs::read_dir("/proc/self/fd").unwrap();
    files
        .filter(|file| std::fs::read_link(file.as_ref().unwrap().path()).is_ok_and(|to| to == path))
        .count()
}

async fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Spec: N-10. Payer and payee are one process here, so what the payer holds unread counts as well: 16 MiB a connection.
#[tokio::test(flavor = "multi_thread")]
async fn units_that_nobody_reads_cost_a_payee_two_parts_of_a_connection() {
    const CONNECTIONS: usize = 8;
    let market = Market::with(0, LONG_UNIT).await;
    let content = market.sell("long", LONG_UNIT, 0);
    let before = resident();
    let mut stalled = Vec::new();
    for _ in 0..CONNECTIONS {
        stalled.push(stall(&market).await);
    }
    // All that the clients take has come.
    let taken = CONNECTIONS * LONG_UNIT;
    wait_until("unread bytes come", || resident() >= before + taken).await;
    let cost = resident() - before - taken;
    println!("{} MiB besides the {} MiB that came", cost >> 20, taken >> 20);
    // A unit for each request would be as much again, twice.
    assert!(cost < taken / 2, "{cost}");
    // Whoever reads in the end gets all of it.
    let Some(Stalled {
        downloads: [first, second],
        ..
    }) = stalled.pop()
    else {
        panic!("there are some")
    };
    let (first, second) = tokio::join!(read_to_end(first), read_to_end(second));
    assert!(first.unwrap() == content && second.unwrap() == content);
    drop(stalled);
    market.stop().await;
}

/// Spec: N-10, D-04. What was paid stays paid, and the unit is sent again, on another connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_not_read_gives_way_to_the_next_one() {
    let market = Market::with(0, LONG_UNIT).await;
    let content = market.sell("long", LONG_UNIT, 0);
    let mut stalled = stall(&market).await;
    let bearer = stalled.lines[0].bearer();
    let other = market.connect().await;
    let (_, anew) = request(&other, "/long", 0, Some(stalled.lines[0].id()), Some(bearer))
        .await
        .unwrap();
    let whole = tokio::time::timeout(PATIENCE, read_to_end(anew)).await.unwrap();
    assert!(whole.unwrap() == content);
    // Half an answer never looks like a whole one. Spec: N-05.
    let [cut, _] = stalled.downloads;
    assert_eq!(
        read_to_end(cut).await.err(),
        Some(NetError::StreamReset {
            code: u64::from(Code::Busy.number())
        })
    );
    market.stop().await;
}

/// Spec: N-10.
#[tokio::test(flavor = "multi_thread")]
async fn a_book_whose_acknowledgements_are_not_taken_is_closed() {
    let market = Market::with(0, LONG_UNIT).await;
    market.sell("long", LONG_UNIT, 0);
    let mut stalled = stall(&market).await;
    let open_books = || market.nodes.payee.status().unwrap().exposure.open_books;
    assert_eq!(open_books(), 2);
    wait_until("the windows are full", || open_files(&market.file("long")) == 0).await;
    stalled.lines[0].send(1).await;
    wait_until("the book is closed", || open_books() == 1).await;
    drop(stalled);
    market.stop().await;
}

/// Spec: D-02.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_for_money_has_no_file_open() {
    let market = Market::open().await;
    let first = market.sell("song", super::UNIT, 0);
    let connection = market.connect().await;
    let mut line = market.book(&connection, "/song", 2).await;
    let (header, waiting) = request(&connection, "/song", 0, Some(line.id()), None).await.unwrap();
    wait_until("the file is closed", || open_files(&market.file("song")) == 0).await;
    line.pay(1).await;
    assert_eq!(read_to_end(waiting).await.unwrap(), first);

    // What is for sale by the time it is paid for is another version: nothing of it is mixed into the first.
    let (_, waiting) = request(&connection, "/song", 0, Some(line.id()), None).await.unwrap();
    let mut line = market.book(&connection, "/song", 2).await;
    let (same, late) = request(&connection, "/song", 0, Some(line.id()), None).await.unwrap();
    assert_eq!(same.content_hash, header.content_hash);
    wait_until("the file is closed", || open_files(&market.file("song")) == 0).await;
    market.sell("song", super::UNIT, 1);
    line.pay(1).await;
    let unavailable = u64::from(Code::Unavailable.number());
    assert_eq!(
        read_to_end(late).await.err(),
        Some(NetError::StreamReset { code: unavailable })
    );
    drop(waiting);
    market.stop().await;
}
