use super::*;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::task::JoinSet;
use tombola_core::reject::Code;
use tombola_net::{ClientKey, ResetSalt};

/// Requests on their way when the connection is lost: not more than a connection has streams.
const REQUESTS: usize = 48;

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

async fn accept(server: &Endpoint) -> Connection {
    server.accept().await.unwrap().establish().await.unwrap()
}

/// Reads a request and answers that there is no answer now.
async fn refuse(mut send: SendHalf, mut recv: RecvHalf) {
    recv.recv_frame(MESSAGE_BYTES_MAX).await.unwrap().unwrap();
    let answer = EscrowAnswer::Rejected(Reject::of(Code::Unavailable));
    send.send_frame(&encode(&answer)).await.unwrap();
    send.finish().unwrap();
}

/// Loses the first connection when all requests are on it, and answers what comes on others.
async fn lose_one(server: Endpoint) {
    let first = accept(&server).await;
    let mut asked = Vec::new();
    for _ in 0..REQUESTS {
        asked.push(first.accept().await.unwrap());
    }
    first.close(0, "cut");
    loop {
        let connection = accept(&server).await;
        tokio::spawn(async move {
            while let Ok((send, recv)) = connection.accept().await {
                tokio::spawn(refuse(send, recv));
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_were_lost_together_share_the_next_connection() {
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Endpoint::server(bind, &key(1), ClientKey::Required, &ResetSalt::new([9; 32])).unwrap();
    let address = Address::new(key(1).account(), "127.0.0.1", server.local_addr().unwrap().port());
    let serving = tokio::spawn(lose_one(server));
    let client = Arc::new(EscrowClient::new(address, &key(2)).unwrap());
    let mut asking = JoinSet::new();
    for _ in 0..REQUESTS {
        let client = Arc::clone(&client);
        asking.spawn(async move { client.request(EscrowCommand::Info).await });
    }
    let answered = EscrowError::Rejected(Reject::of(Code::Unavailable));
    for answer in asking.join_all().await {
        assert_eq!(answer, Err(answered.clone()));
    }
    assert_eq!(client.connections(), 2, "nobody closed the one that others had made");
    serving.abort();
}

#[tokio::test]
async fn a_failed_connection_is_given_up_and_a_newer_one_kept() {
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Endpoint::server(bind, &key(1), ClientKey::Required, &ResetSalt::new([9; 32])).unwrap();
    let address = Address::new(key(1).account(), "127.0.0.1", server.local_addr().unwrap().port());
    let client = EscrowClient::new(address, &key(2)).unwrap();
    let (failed, _first) = tokio::join!(client.connect(), accept(&server));
    let failed = failed.unwrap();
    client.forget(&failed).await;
    assert!(failed.close_reason().is_some() && !client.is_connected().await);
    let (newer, _second) = tokio::join!(client.connect(), accept(&server));
    client.forget(&failed).await;
    assert!(newer.unwrap().close_reason().is_none() && client.is_connected().await);
}
