//! Clients that keep an escrow busy whatever dies, and know afterwards what it must say.
//!
//! Each repeats a request, with the same id, until it is answered. So what was done in the end is known to the atom, and
//! an answer that came must come again, byte for byte.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tombola_core::amount::{Amount, DAY_MS, Timestamp};
use tombola_core::claim::{ClaimBatch, Receipt};
use tombola_core::codec::{List, encode};
use tombola_core::hold::{Fee, Hold, Release};
use tombola_core::key::{AccountKey, RequestId, SecretKey, Signed};
use tombola_core::message::{ClaimAnswer, EscrowAnswer, EscrowCommand, HoldRequest, Reference, RequestHeader};
use tombola_net::Address;
use tombola_node::admin::{self, RequestError};
use tombola_node::escrow_client::{EscrowClient, EscrowError};
use tombola_node::home::Home;
use tombola_tests::sure::SureBook;

const PAYERS: u8 = 4;
/// Two payers pay each payee.
const PAYEES: u8 = 2;
const FACE: Amount = Amount(1_000_000);
const LENGTH: u32 = 8;
/// Books of each hold, some claimed in two parts and some only in part.
const BOOKS: u8 = 3;
/// Between two holds a payer makes this many transfers.
const TRANSFERS: u64 = 4;
/// Nobody waits longer for one answer, over however many outages.
const PATIENCE: Duration = Duration::from_secs(90);
/// Before the same is asked again.
const PAUSE: Duration = Duration::from_millis(5);

fn payer_key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[10 + n; 32])
}

fn payee_key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[100 + n % PAYEES; 32])
}

/// Deposits go here under load; nothing leaves it.
fn saver_key() -> SecretKey {
    SecretKey::from_seed(&[200; 32])
}

/// A request whose answer came, and the answer.
struct Answered {
    command: EscrowCommand,
    answer: EscrowAnswer,
}

/// What came in and what went out of an account, and what its open holds keep of the difference.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    credit: u64,
    debit: u64,
    held: u64,
}

impl Expected {
    pub(crate) fn balance(&self) -> u64 {
        self.credit - self.debit - self.held
    }

    pub(crate) const fn held(&self) -> u64 {
        self.held
    }
}

/// What all clients came to.
#[derive(Default)]
pub(crate) struct Outcome {
    accounts: BTreeMap<AccountKey, Expected>,
    answered: BTreeMap<u8, Vec<Answered>>,
    deposits: Vec<(Value, Value)>,
    pub(crate) claims: u64,
}

impl Outcome {
    fn of(&mut self, key: &SecretKey) -> &mut Expected {
        self.accounts.entry(key.account()).or_default()
    }

    fn transferred(&mut self, from: &SecretKey, to: &SecretKey, amount: u64) {
        self.of(from).debit += amount;
        self.of(to).credit += amount;
    }

    fn keep(&mut self, client: u8, command: EscrowCommand, answer: EscrowAnswer) {
        let answered = self.answered.entry(client).or_default();
        answered.push(Answered { command, answer });
    }

    pub(crate) fn accounts(&self) -> impl Iterator<Item = (&AccountKey, &Expected)> {
        self.accounts.iter()
    }

    pub(crate) fn deposited(&self) -> u64 {
        let credits: u64 = self.accounts.values().map(|account| account.credit).sum();
        let debits: u64 = self.accounts.values().map(|account| account.debit).sum();
        credits - debits
    }
}

/// Clients at work on an escrow of one process or several.
pub(crate) struct Load {
    writers: Vec<Address>,
    homes: Vec<PathBuf>,
    answers: AtomicU64,
    /// Tries that ended without an answer.
    lost: AtomicU64,
    is_over: AtomicBool,
    /// All clients have ended, or one of them has failed.
    has_ended: AtomicBool,
    outcome: Mutex<Outcome>,
}

impl Load {
    pub(crate) fn new(writers: Vec<Address>, homes: Vec<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            writers,
            homes,
            answers: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            outcome: Mutex::default(),
        })
    }

    /// Answers so far.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Tries without an answer so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Everybody finishes what was begun.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether nobody works any more, which is a failure before [`Self::end`].
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Works until it is told to end.
    pub(crate) async fn work(self: &Arc<Self>) -> Outcome {
        let _ending = Ending(self);
        for n in 0..PAYERS {
            self.deposit(&payer_key(n), 1_000, &format!("payer {n}")).await;
        }
        let mut clients = JoinSet::new();
        for n in 0..PAYERS {
            let (holds, opened) = unbounded_channel();
            let (payer, payee) = (Arc::clone(self), Arc::clone(self));
            clients.spawn(async move { payer.pay(n, holds).await });
            clients.spawn(async move { payee.redeem(n, opened).await });
        }
        let operator = Arc::clone(self);
        clients.spawn(async move { operator.take_in().await });
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut *self.outcome.lock().unwrap())
    }

    /// One payee sends one claim so often at once, over some connections to each process in turn.
    pub(crate) async fn race(self: &Arc<Self>, times: usize, connections: usize) -> Outcome {
        let (payer, payee) = (payer_key(0), payee_key(0));
        self.deposit(&payer, 1_000, "payer 0").await;
        let client = self.client(&payer, 0);
        let EscrowAnswer::Info(info) = self.ask(&client, &EscrowCommand::Info).await else {
            panic!("an escrow says who it is");
        };
        let headers = [1, 2].map(|id| RequestHeader {
            id: RequestId([id; 16]),
            issued_at: info.time,
        });
        let hold = self.open_hold(&client, 0, info.time, headers).await;
        let clients: Vec<_> = (0..connections).map(|n| Arc::new(self.client(&payee, n))).collect();
        let command = claim(&clients[0], &payer, &hold, 0, LENGTH);
        let mut racing = JoinSet::new();
        for n in 0..times {
            let (load, client, command) = (Arc::clone(self), Arc::clone(&clients[n % connections]), command.clone());
            racing.spawn(async move { load.ask(&client, &command).await });
        }
        let answers = racing.join_all().await;
        let first = answers.first().cloned().unwrap();
        assert!(answers.iter().all(|answer| *answer == first), "one receipt for all");
        let paid = receipt(&first).gross.0;
        assert_eq!(paid, FACE.0 * u64::from(LENGTH));
        let mut outcome = self.outcome.lock().unwrap();
        outcome.claims = 1;
        outcome.transferred(&payer, &payee, paid);
        outcome.of(&payer).held -= paid;
        outcome.keep(PAYERS, command, first);
        std::mem::take(&mut *outcome)
    }

    /// The process that a client talks to: others than the one it talked to before, where there are others.
    fn client(&self, key: &SecretKey, n: usize) -> EscrowClient {
        let address = self.writers[n % self.writers.len()].clone();
        EscrowClient::new(address, key).unwrap()
    }

    async fn ask(&self, client: &EscrowClient, command: &EscrowCommand) -> EscrowAnswer {
        let until = Instant::now() + PATIENCE;
        loop {
            match client.request(command.clone()).await {
                Ok(answer) => {
                    self.answers.fetch_add(1, Ordering::Relaxed);
                    return answer;
                }
                Err(EscrowError::Rejected(reject)) if !reject.code.is_retryable() => panic!("{command:?}: {reject}"),
                Err(EscrowError::Rejected(_) | EscrowError::Away(_)) => {}
                Err(error) => panic!("{command:?}: {error}"),
            }
            assert!(Instant::now() < until, "no answer in {PATIENCE:?}: {command:?}");
            self.lost.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Transfers and opens holds.
    async fn pay(&self, n: u8, holds: UnboundedSender<Hold>) {
        let (key, payee) = (payer_key(n), payee_key(n));
        let client = self.client(&key, usize::from(n));
        let EscrowAnswer::Info(info) = self.ask(&client, &EscrowCommand::Info).await else {
            panic!("an escrow says who it is");
        };
        let mut turn = 0;
        let mut header = || {
            turn += 1;
            let mut id = [n; 16];
            id[..8].copy_from_slice(&u64::to_le_bytes(turn));
            RequestHeader {
                id: RequestId(id),
                issued_at: info.time,
            }
        };
        while !self.is_over() {
            for amount in 1..=TRANSFERS {
                let command = EscrowCommand::Transfer {
                    request: header(),
                    to: payee.account(),
                    amount: Amount(amount),
                    reference: Reference::new("under load").unwrap(),
                    book: None,
                };
                let answer = self.ask(&client, &command).await;
                let mut outcome = self.outcome.lock().unwrap();
                outcome.transferred(&key, &payee, amount);
                outcome.keep(n, command, answer);
            }
            let hold = self.open_hold(&client, n, info.time, [header(), header()]).await;
            // The payee reads on until this side is dropped.
            holds.send(hold).unwrap();
        }
    }

    /// Opens a hold for half of what the payee will claim, and then raises it.
    async fn open_hold(&self, client: &EscrowClient, n: u8, now: Timestamp, headers: [RequestHeader; 2]) -> Hold {
        let cap = FACE.saturating_mul(u64::from(BOOKS) * u64::from(LENGTH));
        let [opening, topping_up] = headers;
        let expires_at = now.plus_ms(DAY_MS);
        let hold = HoldRequest {
            signer: payer_key(n).account(),
            payee: payee_key(n).account(),
            face_value_min: FACE,
            face_value_max: FACE,
            book_length_max: LENGTH,
            expires_at,
            redeem_by: expires_at.plus_ms(2 * DAY_MS),
            cap: Amount(cap.0 / 2),
            fee_max: Fee {
                flat: FACE,
                ppm: 1_000_000,
            },
        };
        let open = EscrowCommand::OpenHold { request: opening, hold };
        let opened = self.ask(client, &open).await;
        let EscrowAnswer::Hold(hold) = &opened else {
            panic!("{opened:?}");
        };
        let top_up = EscrowCommand::TopUpHold {
            request: topping_up,
            hold: hold.body.id(),
            revision: hold.body.revision,
            cap,
        };
        let topped_up = self.ask(client, &top_up).await;
        let EscrowAnswer::Hold(hold) = &topped_up else {
            panic!("{topped_up:?}");
        };
        let hold = hold.body;
        assert_eq!(hold.cap, cap);
        let mut outcome = self.outcome.lock().unwrap();
        outcome.of(&payer_key(n)).held += cap.0;
        outcome.keep(n, open, opened);
        outcome.keep(n, top_up, topped_up);
        hold
    }

    /// Redeems the books of each hold, and releases every second one.
    async fn redeem(&self, n: u8, mut holds: UnboundedReceiver<Hold>) {
        let (payer, payee) = (payer_key(n), payee_key(n));
        let client = self.client(&payee, usize::from(n) + 1);
        let mut holds_seen = 0u64;
        while let Some(hold) = holds.recv().await {
            let mut paid = 0;
            for book in 0..BOOKS {
                let last = if book == 0 { LENGTH / 2 } else { LENGTH };
                let mut claims = Vec::new();
                // A book that is claimed in two parts answers both with its last receipt from then on.
                for through in [LENGTH / 2, last] {
                    let command = claim(&client, &payer, &hold, book, through);
                    let answer = self.ask(&client, &command).await;
                    let receipt = receipt(&answer);
                    assert_eq!((receipt.winners, receipt.through), (through, through));
                    let before = claims.iter().map(|(_, _, gross)| *gross).max().unwrap_or(0);
                    assert_eq!(receipt.hold_paid_after.0, paid + receipt.gross.0, "each winner once");
                    claims.push((command, answer, receipt.gross.0.max(before)));
                }
                let (_, last_answer, gross) = claims.last().cloned().unwrap();
                assert_eq!(gross, FACE.0 * u64::from(last));
                paid += gross;
                let mut outcome = self.outcome.lock().unwrap();
                outcome.claims += if book == 0 { 1 } else { 2 };
                for (command, _, _) in claims {
                    outcome.keep(PAYERS + n, command, last_answer.clone());
                }
            }
            holds_seen += 1;
            let is_released = holds_seen.is_multiple_of(2);
            if is_released {
                self.release(&client, n, &hold, paid).await;
            }
            let mut outcome = self.outcome.lock().unwrap();
            outcome.transferred(&payer, &payee, paid);
            outcome.of(&payer).held -= if is_released { hold.cap.0 } else { paid };
        }
    }

    async fn release(&self, client: &EscrowClient, n: u8, hold: &Hold, paid: u64) {
        let release = Release {
            hold: hold.id(),
            paid: Amount(paid),
        };
        let command = EscrowCommand::Release(Signed::new(release, &payee_key(n)));
        let answer = self.ask(client, &command).await;
        assert!(
            matches!(&answer, EscrowAnswer::Released { returned, .. } if returned.0 == hold.cap.0 - paid),
            "{answer:?}"
        );
        self.outcome.lock().unwrap().keep(PAYERS + n, command, answer);
    }

    /// Deposits, one after another.
    async fn take_in(&self) {
        for n in 0u64.. {
            if self.is_over() {
                break;
            }
            self.deposit(&saver_key(), 1 + n % 3, &format!("saver {n}")).await;
        }
    }

    /// Deposits whole units.
    async fn deposit(&self, key: &SecretKey, amount: u64, reference: &str) {
        let account = key.account();
        let amount_text = amount.to_string();
        let request =
            json!({ "command": "deposit", "account": account, "amount": amount_text, "reference": reference });
        // At another process each time.
        let first = usize::try_from(amount).unwrap();
        let done = self.operate(&request, first).await;
        let mut outcome = self.outcome.lock().unwrap();
        outcome.of(key).credit += amount * 1_000_000_000;
        outcome.deposits.push((request, done));
    }

    /// Asks a process as its operator does.
    async fn operate(&self, request: &Value, n: usize) -> Value {
        let home = Home::open(&self.homes[n % self.homes.len()]).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            match admin::request(&home, request, |_| ()).await {
                Ok(done) => {
                    self.answers.fetch_add(1, Ordering::Relaxed);
                    return done;
                }
                Err(RequestError::Failed(error)) if !["busy", "unavailable"].contains(&error.code.as_str()) => {
                    panic!("{request}: {error}")
                }
                Err(_) => {}
            }
            assert!(Instant::now() < until, "no answer in {PATIENCE:?}: {request}");
            self.lost.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks everything again that was answered, each at another process where there is one. Gives the number.
    pub(crate) async fn ask_again(self: &Arc<Self>, outcome: &mut Outcome) -> usize {
        let mut clients = JoinSet::new();
        let mut count = outcome.deposits.len();
        for (n, answered) in std::mem::take(&mut outcome.answered) {
            count += answered.len();
            let load = Arc::clone(self);
            clients.spawn(async move {
                let key = if n < PAYERS {
                    payer_key(n)
                } else {
                    payee_key(n - PAYERS)
                };
                let client = load.client(&key, usize::from(n) + usize::from(n < PAYERS));
                for Answered { command, answer } in answered {
                    let again = load.ask(&client, &command).await;
                    assert_eq!(again, answer, "{command:?}");
                    assert_eq!(encode(&again), encode(&answer), "{command:?}");
                }
                client.close().await;
            });
        }
        for (n, (request, done)) in outcome.deposits.iter().enumerate() {
            let again = self.operate(request, n).await;
            for key in ["account", "amount", "reference", "at", "height"] {
                assert_eq!(again[key], done[key], "{key} of {request}");
            }
        }
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        count
    }
}

/// Says that the work has ended, by a failure as well.
struct Ending<'a>(&'a Load);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Ordering::Relaxed);
    }
}

/// A claim of a book of which every ticket wins.
fn claim(client: &EscrowClient, payer: &SecretKey, hold: &Hold, n: u8, through: u32) -> EscrowCommand {
    let mut seed = hold.id().0;
    seed[0] = n;
    let book = SureBook {
        seed,
        length: LENGTH,
        face_value: FACE,
    };
    let claim = book.claim(hold, payer, through).unwrap();
    let batch = ClaimBatch {
        escrow: client.address().key,
        payee: client.account(),
        claims: List::new(vec![claim]).unwrap(),
    };
    EscrowCommand::Claim { batch, signature: None }
}

fn receipt(answer: &EscrowAnswer) -> Receipt {
    match answer {
        EscrowAnswer::Claimed { answers } => match answers.as_slice() {
            [ClaimAnswer::Receipt(receipt)] => receipt.body,
            _ => panic!("{answer:?}"),
        },
        _ => panic!("{answer:?}"),
    }
}
