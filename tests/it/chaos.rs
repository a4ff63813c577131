//! The three nodes over networks that lose, repeat, reorder, corrupt, cut, go dark and change addresses. `TOMBOLA_SEED`
//! chooses the same faults again; the order in which packets come is up to the machine.

mod given_up;
mod lost_answer;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tombola_core::amount::Amount;
use tombola_core::key::SecretKey;
use tombola_core::message::Reference;
use tombola_net::{Address, ClientKey, Endpoint, ResetSalt};
use tombola_node::escrow::{Escrow, EscrowOptions, WitnessOptions};
use tombola_node::key_file;
use tombola_node::loopback::LoopbackOptions;
use tombola_node::payee::{FileCatalog, Payee, PayeeOptions};
use tombola_node::payer::{Delivered, Payer, PayerEvent, PayerOptions};
use tombola_tests::chaos::{Faults, Proxy, Way};
use tombola_tests::dice::{SEED, seed};

const PRICE: Amount = Amount(1_000_000);
const UNIT: u32 = 1_024;
const UNITS: u64 = 200;
/// A bad day: a few of a hundred packets suffer something.
const BAD: Faults = Faults {
    loss: 30,
    duplicate: 30,
    delay: 100,
    corrupt: 20,
    truncate: 10,
};
const NONE: Faults = Faults {
    loss: 0,
    duplicate: 0,
    delay: 0,
    corrupt: 0,
    truncate: 0,
};

/// Three nodes, a proxy on each of their ways, and a file for sale. Every ticket wins.
struct World {
    directory: TempDir,
    escrow: Escrow,
    payee: Payee,
    payer: Payer,
    to_payee: Proxy,
    payer_to_escrow: Proxy,
    payee_to_escrow: Proxy,
    content: Vec<u8>,
}

fn options() -> LoopbackOptions {
    let mut options = LoopbackOptions::default();
    options.payee.face_value_max = "0.001".parse().unwrap();
    options.payee.redeem_at_value = "1000".parse().unwrap();
    options
}

async fn serve(directory: &TempDir, escrow: Address) -> Payee {
    let home = directory.path().join("payee");
    std::fs::create_dir_all(&home).unwrap();
    let file = home.join(key_file::KEY_FILE);
    let key = key_file::read(&file).or_else(|_| key_file::create(&file)).unwrap();
    let terms = options().payee.terms().unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let catalog = FileCatalog::new(&directory.path().join("files"), PRICE, UNIT).unwrap();
    let store = home.join("payee.redb");
    let options = PayeeOptions {
        key,
        listen,
        escrow,
        terms,
        store,
    };
    Payee::serve(options, catalog).await.unwrap()
}

fn socket(address: &Address) -> SocketAddr {
    format!("{}:{}", address.host, address.port).parse().unwrap()
}

fn through(proxy: &Proxy, address: &Address) -> Address {
    Address::new(address.key, "127.0.0.1", proxy.address().port())
}

impl World {
    async fn start(faults: Faults) -> Self {
        let (seed, options) = (seed(), options());
        println!("{SEED}={seed}");
        let directory = tempfile::tempdir().unwrap();
        let home = |role: &str| {
            let home = directory.path().join(role);
            std::fs::create_dir_all(&home).unwrap();
            home
        };
        let content: Vec<u8> = (0..UNITS * u64::from(UNIT)).map(|at| (at % 251) as u8).collect();
        std::fs::write(home("files").join("song"), &content).unwrap();
        let escrow = Escrow::serve(EscrowOptions {
            key: key_file::create(&home("escrow").join(key_file::KEY_FILE)).unwrap(),
            listen: options.escrow.listen,
            terms: options.escrow.terms().unwrap(),
            name: options.escrow.name.clone(),
            store: home("escrow").join("escrow.redb").into(),
            witness: WitnessOptions::at(home("escrow").join("witness")),
        })
        .await
        .unwrap();
        let proxy = |to: SocketAddr, number: u64| Proxy::start(to, faults, seed ^ (number << 32));
        let at_escrow = socket(escrow.address());
        let payer_to_escrow = proxy(at_escrow, 1).await.unwrap();
        let payee_to_escrow = proxy(at_escrow, 2).await.unwrap();
        let payee = serve(&directory, through(&payee_to_escrow, escrow.address())).await;
        let to_payee = proxy(socket(payee.address()), 3).await.unwrap();
        let payer = Payer::connect(PayerOptions {
            key: key_file::create(&home("payer").join(key_file::KEY_FILE)).unwrap(),
            escrow: through(&payer_to_escrow, escrow.address()),
            terms: options.payer.terms().unwrap(),
            store: home("payer").join("payer.redb"),
        })
        .unwrap();
        let reference = Reference::new("deposit").unwrap();
        escrow
            .deposit(&payer.account(), options.deposit, &reference)
            .await
            .unwrap();
        Self {
            directory,
            escrow,
            payee,
            payer,
            to_payee,
            payer_to_escrow,
            payee_to_escrow,
            content,
        }
    }

    /// Downloads the song; when so many tickets are acknowledged, something happens, once.
    async fn download(&self, moment: u64, happen: impl FnOnce() + Send) -> Delivered {
        let output = self.directory.path().join("song.got");
        let url: Address = format!("{}/song", through(&self.to_payee, self.payee.address()))
            .parse()
            .unwrap();
        let happen = Mutex::new(Some(happen));
        let on_event = |event: PayerEvent| match event {
            PayerEvent::Acknowledged { tickets } if tickets >= moment => {
                if let Some(happen) = happen.lock().unwrap().take() {
                    happen();
                }
            }
            PayerEvent::Reconnecting { attempt } => println!("reconnecting, try {attempt}"),
            _ => {}
        };
        let order = self.payer.plan_get(&url, Some(Amount(8_000_000_000)), &output);
        let order = order.await.unwrap();
        let done = self.payer.get(&order, &on_event).await.unwrap();
        assert_eq!(std::fs::read(&output).unwrap(), self.content);
        assert!(happen.into_inner().unwrap().is_none(), "the moment never came");
        done
    }

    /// All three say the same, to the atom, and nothing was paid twice beyond a window.
    async fn check(self, done: Delivered) {
        for proxy in [&self.to_payee, &self.payer_to_escrow, &self.payee_to_escrow] {
            proxy.heal();
            proxy.set(NONE);
        }
        self.payee.redeem().await.unwrap();
        let redeemed = self.payee.status().unwrap();
        let audit = self.payer.audit().await.unwrap();
        assert!(audit.is_clean(), "{audit:?}");
        assert_eq!(audit.charged.0, redeemed.winners_redeemed * PRICE.0);
        assert_eq!(audit.winners, redeemed.winners_redeemed);
        assert!(done.tickets <= audit.winners, "{done:?} {audit:?}");
        // A window of 64 prices may be lost with each of two connections.
        assert!((UNITS..=UNITS + 128).contains(&audit.winners), "{done:?} {audit:?}");
        let escrow = self.escrow.reader().audit().await.unwrap();
        assert!(escrow.findings.is_empty(), "{escrow:?}");
        self.payer.shutdown().await;
        self.payee.shutdown().await;
        self.escrow.shutdown().await;
    }
}

/// Passes packets on between a client and a server, and flips a bit at the end of the first of the server's.
async fn spoil_the_first_answer(front: UdpSocket, server: SocketAddr) -> io::Result<()> {
    let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    back.connect(server).await?;
    let (mut request, mut answer) = ([0; 2_048], [0; 2_048]);
    let (mut client, mut spoiled) = (None, 0);
    loop {
        tokio::select! {
            came = front.recv_from(&mut request) => {
                let (bytes, from) = came?;
                client = Some(from);
                back.send(&request[..bytes]).await?;
            }
            came = back.recv(&mut answer) => {
                let bytes = came?;
                answer[bytes - 1] ^= u8::from(spoiled == 0);
                spoiled += 1;
                front.send_to(&answer[..bytes], client.unwrap()).await?;
            }
        }
    }
}

/// A client takes the first Retry for one, whatever happened to it on the way, and is deaf to those that follow. The check:
/// `NEXT_HANDSHAKE_DELAY` in `Endpoint::connect`. Spec: N-02.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_first_retry_was_corrupted_gets_through() {
    let (key, salt) = (SecretKey::from_seed(&[1; 32]), ResetSalt::new([0; 32]));
    let server = Endpoint::server(([127, 0, 0, 1], 0).into(), &key, ClientKey::Required, &salt).unwrap();
    let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = Address::new(key.account(), "127.0.0.1", front.local_addr().unwrap().port());
    let relay = tokio::spawn(spoil_the_first_answer(front, server.local_addr().unwrap()));
    let serving = server.clone();
    let serving = tokio::spawn(async move {
        while let Some(incoming) = serving.accept().await {
            tokio::spawn(incoming.establish());
        }
    });
    let client = Endpoint::client(Some(&SecretKey::from_seed(&[2; 32]))).unwrap();
    client.connect(&address).await.unwrap();
    assert!(server.turned_away().unproven > 1, "the first Retry was enough");
    server.close(0, "done");
    serving.await.unwrap();
    relay.abort();
}

/// Spec: D-03, N-01.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_over_a_bad_network_is_whole_and_paid_once() {
    let world = World::start(BAD).await;
    let done = world.download(0, || ()).await;
    world.check(done).await;
}

/// Spec: D-03.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_goes_dark_for_a_while_loses_no_download() {
    for ways in [&[Way::ToServer][..], &[Way::ToClient], &[Way::ToServer, Way::ToClient]] {
        let world = World::start(NONE).await;
        let dark = || ways.iter().for_each(|way| world.to_payee.darken(*way));
        let healing = async {
            // Light again when the first retransmissions were lost as well.
            while ways.iter().all(|way| world.to_payee.swallowed(*way) < 5) {
                tokio::task::yield_now().await;
            }
            world.to_payee.heal();
        };
        let (done, ()) = tokio::join!(world.download(20, dark), healing);
        world.check(done).await;
    }
}

/// A NAT forgets the payer in the middle of a download, and the download goes on. Spec: N-07.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payer_whose_address_changes_goes_on_at_once() {
    let world = World::start(NONE).await;
    let began = std::time::Instant::now();
    let done = world.download(20, || world.to_payee.rebind()).await;
    // Without migration the connection is dead, and found out by its idle timeout.
    assert!(
        began.elapsed() < tombola_net::limits::IDLE_TIMEOUT,
        "{:?}",
        began.elapsed()
    );
    world.check(done).await;
}
