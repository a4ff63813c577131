use super::{Bill, Paid, Spender};
use crate::key_file;
use crate::loopback::{Loopback, LoopbackOptions};
use crate::payee::{FileCatalog, Payee, PayeeOptions};
use crate::payer::progress::{Progress, SILENCE_MAX};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tombola_core::amount::Amount;

const TICKETS: u64 = 10;
/// A payee that was started again answers long before this.
const PATIENCE: Duration = Duration::from_secs(60);

fn catalog(directory: &Path) -> FileCatalog {
    FileCatalog::new(directory, Amount(1_000_000), 1_024).unwrap()
}

/// The three nodes, of which the payee sells a song from a directory of `home`, and that directory.
async fn song_sellers(home: &Path, options: &LoopbackOptions) -> (Loopback, PathBuf) {
    let files = home.join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("song"), [1; 20 * 1_024]).unwrap();
    let nodes = Loopback::start(home, options, catalog(&files)).await.unwrap();
    (nodes, files)
}

/// Its payee is started again between the quote and the book, and the next connection is there before the book is.
/// Spec: Q-04, W-02.
#[tokio::test(flavor = "multi_thread")]
async fn a_book_on_a_quote_that_its_payee_no_longer_knows_is_followed_by_one_on_a_fresh_quote() {
    let (directory, options) = (tempfile::tempdir().unwrap(), LoopbackOptions::default());
    let (nodes, files) = song_sellers(directory.path(), &options).await;
    let Loopback { escrow, payee, payer } = nodes;
    let address = payee.address().clone();
    let song = address.clone().with_path("song");
    let order = payer.plan_payments(&song, TICKETS, Some(Amount(1_000_000_000)));
    let order = order.await.unwrap();
    let bill = Bill {
        service: order.service.clone(),
        price: order.price,
        face_value: order.face_value,
        tickets: TICKETS,
    };
    let hold = payer.inner.hold_for(&order, &|_| ()).await.unwrap();
    let link = payer.inner.link(&order.address);
    let (opened_in, mut opened) = mpsc::unbounded_channel();
    let progress = Arc::new(Progress::new(SILENCE_MAX));
    let mut spender = Spender::new(
        Arc::clone(&payer.inner),
        Arc::clone(&link),
        bill,
        hold,
        opened_in,
        progress,
    );
    let quote = spender.fresh_quote().await.unwrap();
    let (book, quote) = spender.prepare(quote).await.unwrap().unwrap();

    payee.shutdown().await;
    let home = directory.path().join("payee");
    let again = PayeeOptions {
        key: key_file::read(&home.join(key_file::KEY_FILE)).unwrap(),
        listen: format!("{}:{}", address.host, address.port).parse().unwrap(),
        escrow: escrow.address().clone(),
        terms: options.payee.terms().unwrap(),
        store: home.join("payee.redb"),
    };
    let payee = Payee::serve(again, catalog(&files)).await.unwrap();
    // Another purchase over this link finds the connection gone.
    let another = async { while link.quote(&order.service, None).await.is_err() {} };
    tokio::time::timeout(PATIENCE, another).await.unwrap();
    let refused = spender.open(book, quote).await.unwrap();
    spender.current = Some(refused);

    let (_unlimited, allowed) = watch::channel(u64::MAX);
    let paid = spender.pay(allowed, &|_| ()).await.unwrap();
    assert!(matches!(paid, Paid::InFull), "{paid:?}");
    assert_eq!(spender.acknowledged(), TICKETS);
    assert_ne!(opened.recv().await.unwrap().book, refused);
    drop(spender);
    Loopback { escrow, payee, payer }.stop().await;
}

/// Spec: S-01.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_book_is_in_the_journal_with_what_its_payee_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let (nodes, _files) = song_sellers(directory.path(), &LoopbackOptions::default()).await;
    let song = nodes.payee.address().clone().with_path("song");
    let order = nodes
        .payer
        .plan_payments(&song, TICKETS, Some(Amount(1_000_000_000)))
        .await
        .unwrap();
    let sent = nodes.payer.send(&order, &|_| ()).await.unwrap();
    assert_eq!(sent.tickets, TICKETS);
    let store = &nodes.payer.inner.store;
    store.flush().await.unwrap();
    let journal = store.journal().unwrap();
    let acknowledged = journal.values().map(|row| row.acknowledged.map(u64::from));
    assert_eq!(acknowledged.sum::<Option<u64>>(), Some(TICKETS), "{journal:?}");
    nodes.stop().await;
}
