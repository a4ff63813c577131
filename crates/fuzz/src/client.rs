//! Servers that answer anything to a real payer and a real client of an escrow, which end in bounded time with a result
//! or a typed error.
//!
//! The servers are honest as long as the input says nothing else: a lie is told in the middle of a purchase that went
//! well so far. All of it runs on one thread, by a clock that goes on when nothing else does, so nobody waits for a peer
//! that is silent.

mod escrow;
mod lie;
mod payee;

use crate::input::Input;
use lie::{Liar, Role};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::timeout;
use tombola_core::amount::Amount;
use tombola_core::key::SecretKey;
use tombola_core::message::EscrowCommand;
use tombola_net::{Address, ClientKey, Endpoint, ResetSalt};
use tombola_node::config::PayerConfig;
use tombola_node::escrow_client::{EscrowClient, EscrowError};
use tombola_node::payer::{Payer, PayerError, PayerEvent, PayerOptions};

/// What a client does: one input, one of them.
const ACTIONS: usize = 7;
/// No work goes on for longer, by its own clock: each of the streams that are answered may be the one unit that a
/// purchase goes on for, and the silence before it.
const PATIENCE: Duration = Duration::from_secs(24 * 3_600);
/// How long a subscriber listens; entries may come at any time, so silence ends no subscription.
const LISTEN: Duration = Duration::from_secs(60);
/// Entries and pages that a subscriber reads.
const PAGES_MAX: usize = 16;
/// A download is tried again on what it left.
const TRIES_MAX: usize = 2;
const CEILING: Amount = Amount(8_000_000_000);

/// Answers of payee and escrow, and what a client asks them for: it ends, and keeps nothing that it was not told of.
pub fn client(data: &[u8]) {
    // What came of it is the business of its user.
    let _ = run(data);
}

fn run(data: &[u8]) -> Result<(), PayerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut input = Input::new(data);
        let action = input.below(ACTIONS);
        let world = World::start(input.rest());
        let outcome = world.act(action).await;
        assert!(!world.liar.was_swallowed(), "a frame beyond its bound was read on");
        outcome
    })
}

struct World {
    liar: Arc<Liar>,
    escrow: Address,
    payee: Address,
    home: TempDir,
}

impl World {
    fn start(lies: &[u8]) -> Self {
        let bank = SecretKey::from_seed(&[1; 32]);
        let shop = SecretKey::from_seed(&[3; 32]);
        let address = |key: &SecretKey, endpoint: &Endpoint| {
            let port = endpoint.local_addr().expect("a socket").port();
            Address::new(key.account(), "127.0.0.1", port)
        };
        let serve = |key: &SecretKey, client_key| {
            Endpoint::server(([127, 0, 0, 1], 0).into(), key, client_key, &ResetSalt::new([0; 32])).expect("a socket")
        };
        let at_bank = serve(&bank, ClientKey::Required);
        let at_shop = serve(&shop, ClientKey::NotAsked);
        let (escrow, payee) = (address(&bank, &at_bank), address(&shop, &at_shop).with_path("song"));
        let liar = Arc::new(Liar::new(lies, bank, shop));
        Arc::clone(&liar).listen(Role::Escrow, at_bank);
        Arc::clone(&liar).listen(Role::Payee, at_shop);
        Self {
            liar,
            escrow,
            payee,
            home: tempfile::tempdir().expect("a directory"),
        }
    }

    async fn act(&self, action: usize) -> Result<(), PayerError> {
        let key = SecretKey::from_seed(&[2; 32]);
        if action >= 5 {
            let client = EscrowClient::new(self.escrow.clone(), &key).expect("a socket");
            let outcome = match action {
                5 => in_time(ask(&client)).await,
                _ => in_time(listen(&client)).await,
            };
            client.close().await;
            return Ok(outcome?);
        }
        let config = PayerConfig {
            // It is waited for by a clock that does not go on by itself.
            escrow_patience_ms: 0,
            ..PayerConfig::default()
        };
        let payer = Payer::connect(PayerOptions {
            key,
            escrow: self.escrow.clone(),
            terms: config.terms().expect("within its ranges"),
            store: self.home.path().join("payer.redb"),
        })
        .expect("an empty directory");
        let outcome = in_time(self.pay(&payer, action)).await;
        // This waits for the disk, which has no part in the clock.
        payer.shutdown().await;
        outcome
    }

    async fn pay(&self, payer: &Payer, action: usize) -> Result<(), PayerError> {
        let ceiling = Some(CEILING);
        match action {
            0 => {
                let output = self.home.path().join("song");
                let mut outcome = Ok(());
                for _ in 0..TRIES_MAX {
                    outcome = self.get(payer, &output).await;
                    if outcome.is_ok() {
                        break;
                    }
                }
                outcome
            }
            1 => {
                let order = payer.plan_tip(&self.payee, payee::PRICE, ceiling).await?;
                payer.send(&order, &|_| ()).await.map(drop)
            }
            2 => {
                let order = payer.plan_payments(&self.payee, payee::UNITS, ceiling).await?;
                payer.send(&order, &|_| ()).await.map(drop)
            }
            3 => payer.balance().await.map(drop),
            _ => payer.audit().await.map(drop),
        }
    }

    /// Whatever a payee announces and brings: no more is kept than it announced, and what is whole is what it announced.
    async fn get(&self, payer: &Payer, output: &Path) -> Result<(), PayerError> {
        let order = payer.plan_get(&self.payee, Some(CEILING), output).await?;
        let see = |event| {
            if let PayerEvent::Received { bytes, size } = event {
                assert!(bytes <= size && size == order.size, "{bytes} bytes of {size}");
            }
        };
        let got = payer.get(&order, &see).await;
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let kept = size(&output.with_extension("part"));
        assert!(kept <= order.size, "{kept} bytes of {}", order.size);
        let delivered = got?;
        assert_eq!((delivered.size, size(output)), (order.size, order.size));
        let spent = u128::from(delivered.expected.0);
        assert!(
            spent <= u128::from(order.price.0) * u128::from(order.units),
            "{order:?}"
        );
        Ok(())
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it ends, whatever it is told")
}

/// What a payee or an operator's program asks an escrow.
async fn ask(client: &EscrowClient) -> Result<(), EscrowError> {
    client.info().await?;
    client.request_header().await?;
    client.request(EscrowCommand::Account { holds_after: 0 }).await?;
    client.request(EscrowCommand::Statement { after: 0 }).await?;
    Ok(())
}

async fn listen(client: &EscrowClient) -> Result<(), EscrowError> {
    let mut subscription = client.subscribe(0).await?;
    for _ in 0..PAGES_MAX {
        match timeout(LISTEN, subscription.next()).await {
            Ok(page) => {
                if page?.is_none() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    Ok(())
}

/// Each action among honest servers, and with each lie at one of the first answers; a download with one at any later.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for action in (0..).take(ACTIONS) {
        seeds.push(vec![action]);
        for place in [0, 2] {
            let honest = vec![0; 2 * place];
            for content in [lie::FLIPPED, lie::SIGNED, lie::OTHER, lie::ANY] {
                seeds.push([&[action], honest.as_slice(), &[content, 9, 0, 5, 2, 1]].concat());
            }
            for way in lie::WAYS {
                seeds.push([&[action], honest.as_slice(), &[0, way, 3]].concat());
            }
        }
    }
    // What these say depends on what is answered then: a unit, a frame of a book, or how it is said.
    seeds.extend((8..48).map(|honest| [vec![0; honest], vec![payee::TOO_MUCH]].concat()));
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_lie_every_client_gets_what_it_asks_for() {
        for action in (0..).take(ACTIONS) {
            assert_eq!(run(&[action]), Ok(()), "action {action}");
        }
    }

    #[test]
    fn a_lie_is_told_where_the_input_says_so() {
        let nothing = run(&[3, 0, lie::NOTHING]);
        assert_eq!(nothing, Err(PayerError::Escrow(EscrowError::Unintelligible)));
    }
}
