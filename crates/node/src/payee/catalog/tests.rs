//! Hashes of files: computed once, and in nobody's way.

use super::*;
use crate::config::PayeeConfig;
use crate::payee::shared::Shared;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tombola_core::key::SecretKey;

const HASH: ContentHash = ContentHash([7; 32]);
const VERSION: FileVersion = (1, 2, 3, 4);

#[test]
fn many_that_ask_first_at_once_compute_one_hash() {
    let (cache, computed, start) = (HashCache::default(), AtomicU32::new(0), Barrier::new(8));
    let ask = |version| {
        cache.get(Path::new("song"), version, || {
            computed.fetch_add(1, Ordering::Relaxed);
            // Time for the others to ask.
            (0..8).for_each(|_| std::thread::yield_now());
            Ok(HASH)
        })
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                assert_eq!(ask(VERSION), Ok(HASH));
            });
        }
    });
    assert_eq!(computed.load(Ordering::Relaxed), 1);
    ask((1, 2, 3, 5)).unwrap();
    assert_eq!(computed.load(Ordering::Relaxed), 2, "another version is another hash");
}

#[test]
fn however_many_files_are_hashed_at_once_some_threads_are_left_for_others() {
    let (cache, began) = (HashCache::default(), Barrier::new(HASHING_MAX + 1));
    let end = Barrier::new(HASHING_MAX + 1);
    let names: Vec<_> = (0..HASHING_MAX).map(|n| PathBuf::from(n.to_string())).collect();
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| {
                let hash = cache.get(name, VERSION, || {
                    began.wait();
                    end.wait();
                    Ok(HASH)
                });
                assert_eq!(hash, Ok(HASH));
            });
        }
        began.wait();
        let limit = u64::try_from(HASHING_MAX).unwrap();
        let one_more = cache.get(Path::new("song"), VERSION, || Ok(HASH));
        // The others are let go first: a failure must not leave them waiting.
        end.wait();
        assert_eq!(one_more, Err(Reject::compared(Code::Busy, limit, limit)));
    });
    assert_eq!(cache.get(Path::new("song"), VERSION, || Ok(HASH)), Ok(HASH));
}

#[test]
fn a_hash_that_could_not_be_computed_is_tried_again() {
    let cache = HashCache::default();
    let failed = cache.get(Path::new("song"), VERSION, || Err(ErrorKind::Other.into()));
    assert_eq!(failed, Err(Reject::of(Code::Unavailable)));
    assert_eq!(cache.get(Path::new("song"), VERSION, || Ok(HASH)), Ok(HASH));
}

/// Sells anything; what is named `/large` is hashed when somebody says so.
struct SlowDisk {
    hashes: HashCache,
    began: Mutex<Sender<()>>,
    may_end: Mutex<Receiver<()>>,
}

impl Catalog for SlowDisk {
    fn list(&self, _: Asset, _: Option<&Service>) -> (Vec<ServiceOffer>, bool) {
        (Vec::new(), false)
    }

    fn find(&self, service: &Service) -> Result<Content, Reject> {
        let hash = self.hashes.get(Path::new(service.as_str()), VERSION, || {
            if service.as_str() == "/large" {
                self.began.lock().unwrap().send(()).unwrap();
                self.may_end.lock().unwrap().recv().unwrap();
            }
            Ok(HASH)
        })?;
        Ok(Content {
            hash,
            ..Content::from_bytes(Amount(1_000), 1_024, *b"text")
        })
    }
}

fn payee(directory: &tempfile::TempDir, catalog: SlowDisk) -> Arc<Shared> {
    let (escrow, payee) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[3; 32]));
    let escrow = tombola_net::Address::new(escrow.account(), "127.0.0.1", 7_400);
    let terms = PayeeConfig::default().terms().unwrap();
    let store = directory.path().join("payee.redb");
    crate::payee::open(&payee, &escrow, &terms, &store, Arc::new(catalog)).unwrap()
}

/// Spec: D-06.
#[tokio::test]
async fn while_a_file_is_hashed_others_are_sold_however_many_ask_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let ((began, has_begun), (end, may_end)) = (channel(), channel());
    let shared = payee(
        &directory,
        SlowDisk {
            hashes: HashCache::default(),
            began: Mutex::new(began),
            may_end: Mutex::new(may_end),
        },
    );
    let quote = |name: &str| {
        let (shared, service) = (Arc::clone(&shared), Service::new(name).unwrap());
        tokio::spawn(async move { shared.quote(&service, None).await })
    };
    let first = quote("/large");
    tokio::task::spawn_blocking(move || has_begun.recv().unwrap())
        .await
        .unwrap();
    // More than there are threads for what blocks.
    let waiting: Vec<_> = (0..600).map(|_| quote("/large")).collect();
    let small = tokio::time::timeout(Duration::from_secs(60), quote("/small")).await;
    assert!(small.expect("it waits for nobody").unwrap().is_ok());
    assert!(!first.is_finished());

    end.send(()).unwrap();
    first.await.unwrap().unwrap();
    let limit = u64::try_from(HASHING_PER_FILE_MAX).unwrap();
    let mut answered = 0;
    for one in waiting {
        match one.await.unwrap() {
            Ok(_) => answered += 1,
            Err(reject) => assert_eq!(reject, Reject::compared(Code::Busy, limit, limit)),
        }
    }
    // With the first, which computed it, and whoever was held up until it was there.
    assert!((HASHING_PER_FILE_MAX - 1..600).contains(&answered), "{answered}");
    quote("/large").await.unwrap().unwrap();
}

/// Spec: D-06.
#[test]
fn only_regular_files_that_are_below_the_root_are_found() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().unwrap();
    let (root, secret) = (directory.path().join("files"), directory.path().join("secret"));
    std::fs::create_dir_all(root.join("songs")).unwrap();
    std::fs::write(&secret, b"key").unwrap();
    std::fs::write(root.join("songs/one"), b"one!").unwrap();
    symlink(root.join("songs/one"), root.join("in")).unwrap();
    symlink(&secret, root.join("out")).unwrap();
    symlink(directory.path(), root.join("up")).unwrap();
    let catalog = FileCatalog::new(&root, Amount(1), 1_024).unwrap();
    let find = |name: &str| {
        let found = Service::new(name).map_err(Reject::from);
        let found = found.and_then(|service| catalog.find(&service));
        found.map(|content| content.size)
    };
    assert_eq!([find("/songs/one"), find("/in")], [Ok(4), Ok(4)]);
    for name in [
        "/out",
        "/up/secret",
        "/../secret",
        "/songs/../../secret",
        "/songs",
        "/none",
    ] {
        assert!(find(name).is_err(), "{name}");
    }
    let (listed, _) = catalog.list(Asset::USD, None);
    let names: Vec<_> = listed.iter().map(|offer| offer.service.as_str()).collect();
    assert_eq!(names, ["/songs/one"]);
}
