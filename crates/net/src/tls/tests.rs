use super::*;
use quinn::VarInt;
use rcgen::{CertificateParams, DistinguishedName as Name, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, date_time_ymd};
use rustls::client::ClientSessionMemoryCache;
use rustls::server::ServerSessionMemoryCache;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn serve(config: quinn::ServerConfig) -> quinn::Endpoint {
    let server = quinn::Endpoint::server(config, loopback()).unwrap();
    let accepting = server.clone();
    tokio::spawn(async move {
        while let Some(attempt) = accepting.accept().await {
            if let Ok(connection) = attempt.await {
                tokio::spawn(async move {
                    while let Ok((mut send, _)) = connection.accept_bi().await {
                        let _ = send.write_all(b"x").await;
                    }
                });
            }
        }
    });
    server
}

/// Connects with one configuration; a byte from the server shows that everything it sends first has arrived.
async fn connect(config: &quinn::ClientConfig, server: &quinn::Endpoint) -> Result<Handshake, quinn::ConnectionError> {
    let client = quinn::Endpoint::client(loopback()).unwrap();
    let at = server.local_addr().unwrap();
    let connecting = client.connect_with(config.clone(), at, SERVER_NAME).unwrap();
    let (connection, handshake) = match connecting.into_0rtt() {
        Ok((connection, accepted)) => {
            accepted.await;
            (connection, Handshake::Early)
        }
        Err(connecting) => (connecting.await?, Handshake::Full),
    };
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    recv.read_exact(&mut [0]).await.unwrap();
    connection.close(VarInt::from_u32(0), b"");
    client.wait_idle().await;
    Ok(handshake)
}

#[derive(Debug, PartialEq, Eq)]
enum Handshake {
    Full,
    Early,
}

/// Counts how often a certificate is looked at; a resumed handshake looks at none.
#[derive(Debug)]
struct Counting(PinnedServer, AtomicUsize);

impl ServerCertVerifier for Counting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn counting() -> Arc<Counting> {
    let pinned = PinnedServer {
        pinned: key(1).account(),
        stranger: Arc::default(),
    };
    Arc::new(Counting(pinned, AtomicUsize::new(0)))
}

fn quic_client(tls: rustls::ClientConfig) -> quinn::ClientConfig {
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

/// Our client, but willing to resume and to send early data.
fn willing_client(verifier: Arc<Counting>) -> quinn::ClientConfig {
    let mut tls = rustls_client(verifier, None).unwrap();
    tls.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(8)));
    tls.enable_early_data = true;
    quic_client(tls)
}

/// Our server, but handing out tickets and taking early data.
fn willing_server() -> quinn::ServerConfig {
    let mut tls = rustls_server(&identity(&key(1)).unwrap(), ClientKey::NotAsked).unwrap();
    tls.session_storage = ServerSessionMemoryCache::new(8);
    tls.send_tls13_tickets = 2;
    tls.max_early_data_size = u32::MAX;
    quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()))
}

/// Spec: N-01.
#[tokio::test]
async fn a_second_connection_is_a_full_handshake_without_early_data() {
    let ours = server_config(&identity(&key(1)).unwrap(), ClientKey::NotAsked).unwrap();
    let cases = [
        // Two willing sides do it, so this test can see it.
        (Offer::Willing, willing_server(), Handshake::Early, 1),
        // Our server grants it to no client, and our client asks it of no server.
        (Offer::Willing, ours, Handshake::Full, 2),
        (Offer::Ours, willing_server(), Handshake::Full, 2),
    ];
    for (offer, server, second, certificates) in cases {
        let verifier = counting();
        let client = match offer {
            Offer::Ours => quic_client(rustls_client(Arc::clone(&verifier) as _, None).unwrap()),
            Offer::Willing => willing_client(Arc::clone(&verifier)),
        };
        let server = serve(server);
        assert_eq!(connect(&client, &server).await, Ok(Handshake::Full));
        assert_eq!(connect(&client, &server).await, Ok(second), "{offer:?}");
        assert_eq!(verifier.1.load(Ordering::Relaxed), certificates, "{offer:?}");
        server.close(VarInt::from_u32(0), b"");
    }
}

#[derive(Debug, Clone, Copy)]
enum Offer {
    Ours,
    Willing,
}

/// A certificate for a key with everything else odd: another name, dates long past, an authority's extensions.
fn odd_certificate(key: &HandshakeKey) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(vec!["somebody.else.example".to_owned()]).unwrap();
    params.distinguished_name = Name::new();
    params.distinguished_name.push(DnType::CommonName, "not a node");
    params.not_before = date_time_ymd(1999, 1, 1);
    params.not_after = date_time_ymd(2000, 1, 1);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let mut strange = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    strange.set_criticality(true);
    params.custom_extensions.push(strange);
    params.self_signed(key).unwrap().der().clone()
}

/// Spec: N-02.
#[tokio::test]
async fn only_the_key_of_a_certificate_counts() {
    let handshake_key = HandshakeKey::new(&key(1));
    let odd = identity_with(odd_certificate(&handshake_key), handshake_key);
    let server = serve(server_config(&odd, ClientKey::Required).unwrap());
    let (client, _) = client_config(key(1).account(), Some(&odd)).unwrap();
    assert_eq!(connect(&client, &server).await, Ok(Handshake::Full));
}

/// Spec: N-02.
#[tokio::test]
async fn a_certificate_does_not_help_without_its_key() {
    // The certificate is public; whoever copies it cannot sign the handshake.
    let copied = identity(&key(1)).unwrap().cert[0].clone();
    let thief = identity_with(copied, HandshakeKey::new(&key(2)));
    let server = serve(server_config(&thief, ClientKey::NotAsked).unwrap());
    let (client, _) = client_config(key(1).account(), None).unwrap();
    assert!(connect(&client, &server).await.is_err());

    let server = serve(server_config(&identity(&key(3)).unwrap(), ClientKey::Required).unwrap());
    let (client, _) = client_config(key(3).account(), Some(&thief)).unwrap();
    let endpoint = quinn::Endpoint::client(loopback()).unwrap();
    let at = server.local_addr().unwrap();
    // The client is done one flight before the server has judged it.
    if let Ok(connection) = endpoint.connect_with(client, at, SERVER_NAME).unwrap().await {
        assert!(matches!(
            connection.closed().await,
            quinn::ConnectionError::ConnectionClosed(_)
        ));
    }
}

/// Spec: N-02.
#[test]
fn other_keys_than_ed25519_and_garbage_are_no_identity() {
    let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
    assert!(key_of(params.self_signed(&other).unwrap().der()).is_none());
    assert!(key_of(&[0x30, 0x03, 1, 2, 3]).is_none());

    let good = certificate(&key(1)).unwrap();
    assert_eq!(key_of(&good).unwrap().account(), key(1).account());
    for cut in 0..good.len() {
        assert!(key_of(&good[..cut]).is_none(), "{cut}");
    }
    // A key of small order signs for everybody.
    let at = good.windows(32).position(|w| w == key(1).account().0).unwrap();
    let mut weak = good;
    weak[at..at + 32].copy_from_slice(&[[1].as_slice(), &[0; 31]].concat());
    assert!(key_of(&weak).is_none());
}
