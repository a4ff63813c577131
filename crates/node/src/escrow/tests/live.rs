//! An audit of an escrow that is at work.

use super::{FACE, World, batch, claim};

const BOOKS: u8 = 120;

/// Spec: G-05.
#[tokio::test(flavor = "multi_thread")]
async fn an_audit_beside_claims_that_go_on_is_sound_and_tells_how_far_it_is() {
    let world = World::funded().await;
    let hold = world.open_hold(2 * u64::from(BOOKS) * FACE.0).await.body;
    let payee = world.client(3);
    let claiming = tokio::spawn(async move {
        for n in 0..BOOKS {
            payee.request(batch(vec![claim(&hold, n, 4, 2)])).await.unwrap();
        }
    });
    let mut seen = Vec::new();
    while !claiming.is_finished() {
        let (tell, told) = std::sync::mpsc::channel();
        let reader = world.escrow.reader();
        let report = reader.audit_with(move |progress| tell.send(progress).unwrap());
        let report = report.await.unwrap();
        assert_eq!(report.findings, []);
        let last = told.into_iter().last().unwrap();
        assert_eq!((last.events, last.of), (report.events, report.events));
        seen.push(report.claims);
    }
    claiming.await.unwrap();
    assert!(seen.is_sorted(), "{seen:?}");
    let beside = seen.iter().filter(|claims| (1..u64::from(BOOKS)).contains(*claims));
    assert!(beside.count() > 0, "no audit was made between two claims: {seen:?}");
    let report = world.escrow.reader().audit().await.unwrap();
    assert_eq!((report.claims, report.conserved), (u64::from(BOOKS), true));
    world.escrow.shutdown().await;
}
