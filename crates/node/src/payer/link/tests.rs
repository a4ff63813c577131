use super::*;
use crate::config::PayerConfig;
use crate::payer::{Payer, PayerOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use tombola_core::key::SecretKey;
use tombola_net::{ClientKey, ResetSalt};

const PRICE: Amount = Amount(10);

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn payer(directory: &Path) -> Payer {
    let options = PayerOptions {
        key: key(2),
        // Nothing is asked of it.
        escrow: Address::new(key(1).account(), "127.0.0.1", 7_400),
        terms: PayerConfig::default().terms().unwrap(),
        store: directory.join("payer.redb"),
    };
    Payer::connect(options).unwrap()
}

/// An endpoint that takes connections and keeps them.
fn payee() -> (Endpoint, Address) {
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Endpoint::server(bind, &key(3), ClientKey::NotAsked, &ResetSalt::new([9; 32])).unwrap();
    let address = Address::new(key(3).account(), "127.0.0.1", server.local_addr().unwrap().port());
    let accepting = server.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(attempt) = accepting.accept().await {
            kept.push(attempt.establish().await);
        }
    });
    (server, address)
}

/// Property 5. Spec: B-16.
#[tokio::test]
async fn whatever_a_payee_does_to_its_connections_its_window_stays_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let payer = payer(directory.path());
    let (_first, address) = payee();
    let (_second, moved) = payee();
    let window = |link: &Link| link.window.lock().unwrap().clone();
    let link = payer.inner.link(&address);
    link.window.lock().unwrap().allow(Amount(1_000));
    for (round, place) in (1u32..).zip([&address, &address, &moved]) {
        let link = payer.inner.link(place);
        let connection = link.connection().await.unwrap();
        {
            let mut window = link.window.lock().unwrap();
            window.sent(4, PRICE);
            window.lost(3, PRICE);
        }
        connection.close(0, "");
        link.connection().await.unwrap();
        let (in_flight, lost) = (window(&link).in_flight(), window(&link).lost_value());
        let of = |tickets: u32| u128::from(tickets * round) * u128::from(PRICE.0);
        assert_eq!((in_flight, lost), ((u64::from(round), of(1)), of(3)), "round {round}");
    }
}
