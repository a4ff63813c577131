//! Two endpoints on loopback: who gets in, what frames do, and what each side is told at the end.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop a test where it fails")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tombola_core::key::SecretKey;
use tombola_core::reject::Code;
use tombola_net::limits::{
    CONNECTIONS_PER_KEY_MAX, FAST_CONNECTIONS_MAX, FAST_STREAMS_MAX, IDLE_TIMEOUT, REQUEST_STREAMS_MAX, STREAMS_MAX,
};
use tombola_net::{Address, ClientKey, Connection, Endpoint, NetError, RecvHalf, ResetSalt, SendHalf};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn salt() -> ResetSalt {
    ResetSalt::new([9; 32])
}

fn server(client_key: ClientKey) -> (Endpoint, Address) {
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Endpoint::server(bind, &key(1), client_key, &salt()).unwrap();
    let port = server.local_addr().unwrap().port();
    (server, Address::new(key(1).account(), "127.0.0.1", port))
}

async fn accept(server: &Endpoint) -> Result<Connection, NetError> {
    server.accept().await.unwrap().establish().await
}

/// A connected pair: (at the client, at the server). The endpoints are returned to be kept alive.
async fn pair(client_key: ClientKey, client: Option<&SecretKey>) -> (Connection, Connection, Endpoint, Endpoint) {
    let (server, address) = server(client_key);
    let client = Endpoint::client(client).unwrap();
    let (at_client, at_server) = tokio::join!(client.connect(&address), accept(&server));
    (at_client.unwrap(), at_server.unwrap(), client, server)
}

/// Spec: N-02, N-04.
#[tokio::test]
async fn the_right_key_connects_and_frames_go_both_ways() {
    let (at_client, at_server, ..) = pair(ClientKey::NotAsked, None).await;
    assert_eq!(at_client.peer_key(), Some(key(1).account()));
    assert_eq!(at_server.peer_key(), None);

    let (mut send, mut recv) = at_client.open().await.unwrap();
    send.send_frame(b"one").await.unwrap();
    send.send_frame(b"").await.unwrap();
    send.write(b"bare").await.unwrap();
    send.finish().unwrap();

    let (mut answer, mut asked) = at_server.accept().await.unwrap();
    assert_eq!(asked.recv_frame(3).await, Ok(Some(b"one".to_vec())));
    assert_eq!(asked.recv_frame(3).await, Ok(Some(Vec::new())));
    let mut bare = Vec::new();
    while let Some(chunk) = asked.read_chunk(3).await.unwrap() {
        assert!(chunk.len() <= 3);
        bare.extend_from_slice(&chunk);
    }
    assert_eq!(bare, b"bare");
    answer.send_frame(&[7; 60_000]).await.unwrap();
    answer.finish().unwrap();

    assert_eq!(recv.recv_frame(60_000).await, Ok(Some(vec![7; 60_000])));
    assert_eq!(recv.recv_frame(60_000).await, Ok(None));
    answer.delivered().await.unwrap();
    let (sent, received) = at_client.udp_bytes();
    assert!(sent > 1_200 && received > 60_000, "{sent} {received}");
}

/// Spec: N-02.
#[tokio::test]
async fn another_key_than_the_pinned_one_is_refused() {
    let (server, mut address) = server(ClientKey::NotAsked);
    address.key = key(2).account();
    let client = Endpoint::client(None).unwrap();
    let (outcome, accepted) = tokio::join!(client.connect(&address), accept(&server));
    assert_eq!(
        outcome.unwrap_err(),
        NetError::WrongKey {
            expected: key(2).account(),
            given: key(1).account(),
        }
    );
    assert!(accepted.is_err());
}

/// Spec: N-02.
#[tokio::test]
async fn a_client_without_a_key_is_refused_where_one_is_required() {
    let (server, address) = server(ClientKey::Required);
    let client = Endpoint::client(None).unwrap();
    let (outcome, accepted) = tokio::join!(client.connect(&address), accept(&server));
    assert!(accepted.is_err());
    // TLS 1.3 lets the client finish first; it is told right after.
    let told = match outcome {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    assert_eq!(told, NetError::KeyRequired);
}

/// Spec: K-01, N-02.
#[tokio::test]
async fn the_clients_key_is_seen_where_it_is_required() {
    let (at_client, at_server, ..) = pair(ClientKey::Required, Some(&key(3))).await;
    assert_eq!(at_server.peer_key(), Some(key(3).account()));
    assert_eq!(at_client.peer_key(), Some(key(1).account()));
}

/// Spec: N-04.
#[tokio::test]
async fn a_frame_over_the_limit_is_refused_before_its_bytes_come() {
    let (at_client, at_server, ..) = pair(ClientKey::NotAsked, None).await;
    let (mut send, _recv) = at_client.open().await.unwrap();
    // Only a header, and the end: whoever waited for the bytes would call the frame cut.
    send.write(&u32::MAX.to_le_bytes()).await.unwrap();
    send.finish().unwrap();
    let (_answer, mut asked) = at_server.accept().await.unwrap();
    let error = NetError::FrameTooLarge {
        limit: 65_536,
        given: 0xffff_ffff,
    };
    assert_eq!(asked.recv_frame(65_536).await, Err(error));
}

#[tokio::test]
async fn a_stream_that_ends_inside_of_a_frame_is_an_error() {
    let (at_client, at_server, ..) = pair(ClientKey::NotAsked, None).await;
    for cut in [&b"\x05\x00"[..], b"\x05\x00\x00\x00abc"] {
        let (mut send, _recv) = at_client.open().await.unwrap();
        send.write(cut).await.unwrap();
        send.finish().unwrap();
        let (_answer, mut asked) = at_server.accept().await.unwrap();
        assert_eq!(asked.recv_frame(100).await, Err(NetError::FrameCut));
    }
}

#[tokio::test]
async fn a_frame_whose_reader_was_cancelled_is_not_lost() {
    let (at_client, at_server, ..) = pair(ClientKey::NotAsked, None).await;
    let (mut send, _recv) = at_client.open().await.unwrap();
    send.write(b"\x04\x00\x00\x00ab").await.unwrap();
    let (_answer, mut asked) = at_server.accept().await.unwrap();
    // A whole frame on a later stream has arrived after the half, so the reader below has seen the half.
    let (mut later, _recv) = at_client.open().await.unwrap();
    later.send_frame(b"").await.unwrap();
    let (_answer, mut second) = at_server.accept().await.unwrap();
    tokio::select! {
        biased;
        frame = asked.recv_frame(4) => panic!("half a frame was taken for a whole one: {frame:?}"),
        frame = second.recv_frame(4) => assert_eq!(frame, Ok(Some(Vec::new()))),
    }
    send.write(b"cd").await.unwrap();
    assert_eq!(asked.recv_frame(4).await, Ok(Some(b"abcd".to_vec())));
}

/// Spec: N-05.
#[tokio::test]
async fn reset_and_stop_reach_the_other_side_with_their_codes() {
    let (at_client, at_server, ..) = pair(ClientKey::NotAsked, None).await;
    let (mut send, mut recv) = at_client.open().await.unwrap();
    send.send_frame(b"x").await.unwrap();
    let (mut answer, mut asked) = at_server.accept().await.unwrap();
    assert_eq!(asked.recv_frame(1).await, Ok(Some(b"x".to_vec())));
    send.reset(7);
    assert_eq!(asked.recv_frame(1).await, Err(NetError::StreamReset { code: 7 }));
    recv.stop(8);
    assert_eq!(answer.delivered().await, Err(NetError::StreamStopped { code: 8 }));
    assert_eq!(send.finish(), Err(NetError::StreamClosed));
}

/// Spec: N-06, N-08.
#[tokio::test]
async fn a_close_is_seen_with_its_code_and_a_drain_ends() {
    let (at_client, at_server, client, server) = pair(ClientKey::NotAsked, None).await;
    server.refuse_new();
    let port = server.local_addr().unwrap().port();
    let again = Address::new(key(1).account(), "127.0.0.1", port);
    assert_eq!(client.connect(&again).await.unwrap_err(), NetError::Refused);

    at_server.close(42, "going home");
    let told = NetError::ClosedByPeer {
        code: 42,
        reason: "going home".to_owned(),
    };
    assert_eq!(at_client.closed().await, told);
    assert_eq!(at_client.open().await.unwrap_err(), told);
    assert_eq!(at_server.close_reason(), Some(NetError::ClosedHere));
    server.close(0, "");
    server.wait_idle().await;
    assert!(server.accept().await.is_none());
    assert_eq!(server.open_connections(), 0);
}

/// The check: whoever is left of the two is waited for in `Endpoint::connect`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_handshake_that_is_refused_does_not_end_the_first() {
    let (server, address) = server(ClientKey::NotAsked);
    let client = Endpoint::client(None).unwrap();
    let connecting = tokio::spawn(async move { client.connect(&address).await });
    let first = server.accept().await.unwrap();
    // It has no answer yet, so another begins.
    drop(server.accept().await.unwrap());
    let at_server = first.establish().await.unwrap();
    let at_client = connecting.await.unwrap().unwrap();
    assert_eq!(at_client.close_reason(), None);
    drop(at_server);
}

/// As well if the first is the one that is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_handshake_that_is_refused_late_does_not_end_the_second() {
    let (server, address) = server(ClientKey::NotAsked);
    let client = Endpoint::client(None).unwrap();
    let connecting = tokio::spawn(async move { client.connect(&address).await });
    let first = server.accept().await.unwrap();
    let second = server.accept().await.unwrap();
    drop(first);
    let at_server = second.establish().await.unwrap();
    let at_client = connecting.await.unwrap().unwrap();
    assert_eq!(at_client.close_reason(), None);
    drop(at_server);
}

/// Spec: N-03.
#[tokio::test]
async fn every_address_of_a_host_is_tried() {
    // "localhost" may resolve to ::1 first, where nobody listens.
    let (server, mut address) = server(ClientKey::NotAsked);
    address.host = "localhost".to_owned();
    let client = Endpoint::client(None).unwrap();
    let (outcome, accepted) = tokio::join!(client.connect(&address), accept(&server));
    assert_eq!(outcome.unwrap().peer_key(), Some(key(1).account()));
    accepted.unwrap();
}

#[tokio::test]
async fn ipv6_works() {
    // As in tombola_tests::without, which is built on this crate.
    let without = std::env::var("TOMBOLA_WITHOUT").unwrap_or_default();
    if without.split(',').any(|name| name == "ipv6") {
        println!("NOT RUN: ipv6");
        return;
    }
    let bind = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let server = Endpoint::server(bind, &key(1), ClientKey::NotAsked, &salt());
    let server = server.expect("::1 is there; if not, run cargo xtask test --without ipv6");
    let address = Address::new(key(1).account(), "::1", server.local_addr().unwrap().port());
    let client = Endpoint::client(None).unwrap();
    let (outcome, accepted) = tokio::join!(client.connect(&address), accept(&server));
    assert!(outcome.is_ok() && accepted.is_ok());
}

#[tokio::test]
async fn a_host_that_does_not_exist_is_named() {
    let client = Endpoint::client(None).unwrap();
    let address = Address::new(key(1).account(), "nobody.invalid", 1);
    match client.connect(&address).await.unwrap_err() {
        NetError::Resolve { host, .. } => assert_eq!(host, "nobody.invalid"),
        error => panic!("{error}"),
    }
}

/// A stream with the header of the longest message and nothing more; returned to be kept open.
async fn announce(at_client: &Connection, at_server: &Connection) -> (SendHalf, RecvHalf) {
    let (mut send, _) = at_client.open().await.unwrap();
    send.write(&65_536u32.to_le_bytes()).await.unwrap();
    let (_, asked) = at_server.accept().await.unwrap();
    (send, asked)
}

/// Spec: N-10.
#[tokio::test]
async fn frames_that_are_only_announced_take_the_budget_of_their_own_connection() {
    let (at_client, at_server, client, server) = pair(ClientKey::NotAsked, None).await;
    let mut reading = tokio::task::JoinSet::new();
    let mut kept = Vec::new();
    // Two of the longest are all the memory that a connection has for frames.
    for _ in 0..2 {
        let (send, mut asked) = announce(&at_client, &at_server).await;
        let mut polled = tokio::spawn(async move { asked.recv_frame(65_536).await });
        assert!(futures_pending(&mut polled).await);
        reading.spawn(polled);
        kept.push(send);
    }
    let (mut send, _) = at_client.open().await.unwrap();
    send.send_frame(b"small").await.unwrap();
    let (_, mut asked) = at_server.accept().await.unwrap();
    let late = tokio::spawn(async move { asked.recv_frame(65_536).await.map(|frame| (frame, asked)) });
    // Another connection is served meanwhile.
    let address = Address::new(key(1).account(), "127.0.0.1", server.local_addr().unwrap().port());
    let (second, second_at_server) = tokio::join!(client.connect(&address), accept(&server));
    let (second, second_at_server) = (second.unwrap(), second_at_server.unwrap());
    let (mut other, _) = second.open().await.unwrap();
    other.send_frame(b"another").await.unwrap();
    let (_, mut asked) = second_at_server.accept().await.unwrap();
    assert_eq!(asked.recv_frame(10).await, Ok(Some(b"another".to_vec())));
    assert!(!late.is_finished(), "five bytes more than the budget has");
    // One of the two gives up, and the third is read.
    kept.remove(0).reset(0);
    let (frame, _asked) = late.await.unwrap().unwrap();
    assert_eq!(frame, Some(b"small".to_vec()));
    reading.abort_all();
}

/// Lets a task run until it waits.
async fn futures_pending<T>(task: &mut tokio::task::JoinHandle<T>) -> bool {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    !task.is_finished()
}

/// Spec: N-10.
#[tokio::test]
async fn answers_that_are_not_taken_keep_others_of_the_connection_waiting() {
    let (_at_client, at_server, ..) = pair(ClientKey::NotAsked, None).await;
    let first = at_server.set_aside(65_536).await;
    let _second = at_server.set_aside(65_536).await;
    let waiting = at_server.clone();
    let mut third = tokio::spawn(async move { waiting.set_aside(1).await });
    assert!(futures_pending(&mut third).await);
    drop(first);
    drop(third.await.unwrap());
}

/// Spec: N-07.
#[tokio::test]
async fn a_peer_has_few_streams_until_it_pays_and_then_as_many_as_it_needs() {
    let (at_client, at_server, ..) = pair(ClientKey::NotAsked, None).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS_MAX {
        streams.push(at_client.open().await.unwrap());
    }
    let waiting = at_client.clone();
    let mut next = tokio::spawn(async move { waiting.open().await });
    assert!(futures_pending(&mut next).await);
    at_server.become_fast();
    streams.push(next.await.unwrap().unwrap());
    for _ in STREAMS_MAX + 1..FAST_STREAMS_MAX {
        streams.push(at_client.open().await.unwrap());
    }
}

/// Opens as many streams as there may be, after the server has widened them if it does, and no more.
async fn open_streams(at_client: &Connection, at_server: &Connection, streams_max: u32) {
    at_server.become_fast();
    let mut streams = vec![at_client.open().await.unwrap()];
    // Whatever the server allows with it has arrived with its answer.
    streams[0].0.send_frame(b"one").await.unwrap();
    let (mut answer, mut asked) = at_server.accept().await.unwrap();
    assert_eq!(asked.recv_frame(3).await, Ok(Some(b"one".to_vec())));
    answer.send_frame(b"two").await.unwrap();
    assert_eq!(streams[0].1.recv_frame(3).await, Ok(Some(b"two".to_vec())));
    for _ in 1..streams_max {
        streams.push(at_client.open().await.unwrap());
    }
    let waiting = at_client.clone();
    let mut next = tokio::spawn(async move { waiting.open().await });
    assert!(futures_pending(&mut next).await, "more than {streams_max} streams");
}

/// All connections of an escrow are alike. Spec: N-07.
#[tokio::test]
async fn a_client_of_an_escrow_has_so_many_streams_and_never_more() {
    let (at_client, at_server, ..) = pair(ClientKey::Required, Some(&key(3))).await;
    open_streams(&at_client, &at_server, REQUEST_STREAMS_MAX).await;
}

/// Spec: N-10.
#[tokio::test]
async fn places_of_fast_connections_run_out() {
    let (server, address) = server(ClientKey::NotAsked);
    let client = Endpoint::client(None).unwrap();
    let mut kept = Vec::new();
    for place in 0..=FAST_CONNECTIONS_MAX {
        let (at_client, at_server) = tokio::join!(client.connect(&address), accept(&server));
        let (at_client, at_server) = (at_client.unwrap(), at_server.unwrap());
        at_server.become_fast();
        if place == FAST_CONNECTIONS_MAX {
            open_streams(&at_client, &at_server, STREAMS_MAX).await;
        }
        kept.push((at_client, at_server));
    }
}

/// Spec: N-07.
#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_given_up_in_time_by_both() {
    let (server, address) = server(ClientKey::NotAsked);
    let between = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let nobody = Address::new(address.key, "127.0.0.1", between.local_addr().unwrap().port());
    let client = Endpoint::client(None).unwrap();
    let attempt = tokio::spawn(async move { client.connect(&nobody).await.map(drop) });
    let mut first = [0; 2_048];
    let bytes = between.recv(&mut first).await.unwrap();
    let to = (Ipv4Addr::LOCALHOST, address.port);
    between.send_to(&first[..bytes], to).await.unwrap();
    let began = std::time::Instant::now();
    assert_eq!(accept(&server).await.map(drop), Err(NetError::TimedOut));
    assert_eq!(server.turned_away().unfinished, 1);
    assert_eq!(
        attempt.await.unwrap(),
        Err(NetError::TimedOut),
        "nor does the client wait"
    );
    // Before either would find the connection idle.
    assert!(began.elapsed() < IDLE_TIMEOUT / 2, "{:?}", began.elapsed());
}

/// Spec: N-11.
#[tokio::test]
async fn a_key_with_too_many_connections_is_told_so() {
    let (server, address) = server(ClientKey::Required);
    let client = Endpoint::client(Some(&key(3))).unwrap();
    let mut kept = Vec::new();
    for _ in 0..CONNECTIONS_PER_KEY_MAX {
        let (at_client, at_server) = tokio::join!(client.connect(&address), accept(&server));
        kept.push((at_client.unwrap(), at_server.unwrap()));
    }
    let (at_client, at_server) = tokio::join!(client.connect(&address), accept(&server));
    let limit = CONNECTIONS_PER_KEY_MAX;
    assert_eq!(at_server.map(drop), Err(NetError::KeyConnections { limit }));
    let told = match at_client {
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    assert!(
        matches!(&told, NetError::ClosedByPeer { code, reason } if *code == u64::from(Code::Busy.number()) && reason.contains("32")),
        "{told:?}"
    );
    assert_eq!(server.turned_away().key, 1);
    // Another key has a place.
    let other = Endpoint::client(Some(&key(4))).unwrap();
    let (at_client, at_server) = tokio::join!(other.connect(&address), accept(&server));
    at_client.unwrap();
    at_server.unwrap();
}

/// An escrow's clients prove their address first, and it costs them nothing but a round trip. Spec: N-07.
#[tokio::test]
async fn an_escrow_asks_for_a_retry_and_an_idle_payee_does_not() {
    for (client_key, retries) in [(ClientKey::Required, 1), (ClientKey::NotAsked, 0)] {
        let (_at_client, _at_server, _client, server) = pair(client_key, Some(&key(3))).await;
        assert_eq!(server.turned_away().unproven, retries, "{client_key:?}");
    }
}

/// Spec: N-09.
#[test]
fn a_server_that_is_killed_and_restarted_tells_its_old_peers_at_once() {
    // The server has a runtime of its own: dropped, nothing of it says goodbye, as after a kill.
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (at_client, at_server) = (runtime(), runtime());
    let (listening, address) = at_server.block_on(async { server(ClientKey::NotAsked) });
    let bound = listening.local_addr().unwrap();
    let accepting = at_server.spawn({
        let listening = listening.clone();
        async move { accept(&listening).await.unwrap() }
    });
    let client = at_client.block_on(async { Endpoint::client(None).unwrap() });
    let connection = at_client.block_on(client.connect(&address)).unwrap();
    let accepted = at_server.block_on(accepting).unwrap();
    drop(at_server);
    drop((listening, accepted));

    at_client.block_on(async {
        let _again = Endpoint::server(bound, &key(1), ClientKey::NotAsked, &salt()).unwrap();
        // A late acknowledgement may have been answered already.
        if let Ok((mut send, _recv)) = connection.open().await {
            let _ = send.send_frame(b"still there?").await;
        }
        // Without the reset it would be `TimedOut`, when the idle timeout is over.
        assert_eq!(connection.closed().await, NetError::Lost);
    });
}
