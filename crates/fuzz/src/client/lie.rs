//! What is answered instead of the truth, and how.

use super::escrow::Bank;
use super::payee::Shop;
use crate::input::Input;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tombola_core::codec::{MESSAGE_BYTES_MAX, decode, encode};
use tombola_core::hold::Hold;
use tombola_core::key::{SecretKey, Signed};
use tombola_core::message::{EscrowAnswer, EscrowCommand, EscrowRequest};
use tombola_net::limits::DOWNLOAD_STREAM_BYTES_MAX;
use tombola_net::{Connection, Endpoint, RecvHalf, SendHalf};

/// Streams that are answered. Then the servers are gone, so that a purchase that goes on for what it is brought ends.
const STREAMS_MAX: usize = 64;
/// Bytes written at once after a frame's false length.
const CHUNK_BYTES: usize = 64 * 1_024;
/// More than a client's window takes without reading.
const CHUNKS_MAX: usize = (DOWNLOAD_STREAM_BYTES_MAX as usize + 2 * MESSAGE_BYTES_MAX).div_ceil(CHUNK_BYTES);

/// Contents: below the first of them the truth.
pub(super) const FLIPPED: u8 = 4;
pub(super) const SIGNED: u8 = 5;
pub(super) const OTHER: u8 = 6;
pub(super) const ANY: u8 = 7;
const CONTENTS: u8 = 8;

/// Ways to say it: below the first of them a frame.
const TWICE: u8 = 8;
const BOUNDLESS: u8 = 9;
const CUT: u8 = 10;
pub(super) const NOTHING: u8 = 11;
const RESET: u8 = 12;
const SILENT: u8 = 13;
const ENDED: u8 = 14;
pub(super) const CLOSED: u8 = 15;
pub(super) const WAYS: [u8; 8] = [TWICE, BOUNDLESS, CUT, NOTHING, RESET, SILENT, ENDED, CLOSED];
const WAYS_IN_ALL: u8 = 16;

/// Whose answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Payee,
    Escrow,
}

/// Whether more may be said on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    More,
    All,
}

/// Both servers, and the input that they lie by.
pub(super) struct Liar {
    lies: Mutex<Vec<u8>>,
    streams: AtomicUsize,
    was_swallowed: AtomicBool,
    pub(super) bank: Bank,
    pub(super) shop: Shop,
}

impl Liar {
    pub(super) fn new(lies: &[u8], bank: SecretKey, shop: SecretKey) -> Self {
        let escrow = bank.account();
        Self {
            lies: Mutex::new(lies.to_vec()),
            streams: AtomicUsize::new(0),
            was_swallowed: AtomicBool::new(false),
            bank: Bank::new(bank),
            shop: Shop::new(&shop, escrow),
        }
    }

    /// Whether a client has read a frame on that is longer than any may be.
    pub(super) fn was_swallowed(&self) -> bool {
        self.was_swallowed.load(Ordering::Relaxed)
    }

    /// Takes what is next from the input.
    pub(super) fn choose<T>(&self, choice: impl FnOnce(&mut Input<'_>) -> T) -> T {
        let mut lies = self.lies.lock().unwrap_or_else(PoisonError::into_inner);
        let mut input = Input::new(&lies);
        let chosen = choice(&mut input);
        let used = lies.len() - input.rest().len();
        lies.drain(..used);
        chosen
    }

    pub(super) fn listen(self: Arc<Self>, role: Role, endpoint: Endpoint) {
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let liar = Arc::clone(&self);
                tokio::spawn(async move {
                    let Ok(connection) = incoming.establish().await else {
                        return;
                    };
                    while let Ok((send, recv)) = connection.accept().await {
                        if liar.streams.fetch_add(1, Ordering::Relaxed) >= STREAMS_MAX {
                            connection.close(0, "enough");
                            return;
                        }
                        tokio::spawn(Arc::clone(&liar).serve(role, connection.clone(), send, recv));
                    }
                });
            }
        });
    }

    async fn serve(self: Arc<Self>, role: Role, connection: Connection, send: SendHalf, mut recv: RecvHalf) {
        // A client may be gone before it has asked.
        let Ok(Some(frame)) = recv.recv_frame(MESSAGE_BYTES_MAX).await else {
            return;
        };
        match role {
            Role::Payee => self.serve_payer(&connection, &frame, send, recv).await,
            Role::Escrow => {
                let request = decode(&frame).expect("a client's requests are well-formed");
                self.serve_client(&connection, request, send).await;
            }
        }
    }

    async fn serve_client(&self, connection: &Connection, request: EscrowRequest, mut send: SendHalf) {
        let is_subscribed = matches!(request.command, EscrowCommand::Subscribe { .. });
        let answer = encode(&self.bank.answer(request));
        while self.tell(connection, &mut send, "EscrowAnswer", &answer).await == Said::More {
            if !is_subscribed {
                let _ = send.finish();
                return;
            }
            // A subscription goes on for as long as there is something to say, and is left open.
            if self.choose(|input| input.is_empty()) {
                connection.closed().await;
                return;
            }
        }
    }

    /// Says something, or something else, in one way or another.
    pub(super) async fn tell(&self, connection: &Connection, send: &mut SendHalf, kind: &str, truth: &[u8]) -> Said {
        let (bytes, way) = self.choose(|input| (self.alter(input, kind, truth), input.byte() % WAYS_IN_ALL));
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let said = match way {
            ..TWICE => send.send_frame(&bytes).await,
            TWICE => {
                let first = send.send_frame(&bytes).await;
                first.and(send.send_frame(&bytes).await)
            }
            BOUNDLESS => {
                self.say_without_end(send).await;
                return Said::All;
            }
            CUT => {
                let (half, _) = bytes.split_at(bytes.len() / 2);
                let _ = send.write(&[&length, half].concat()).await;
                let _ = send.finish();
                return Said::All;
            }
            NOTHING => {
                let _ = send.finish();
                return Said::All;
            }
            RESET => {
                send.reset(self.choose(|input| u32::from(input.byte())));
                return Said::All;
            }
            SILENT => {
                connection.closed().await;
                return Said::All;
            }
            ENDED => {
                let _ = send.send_frame(&bytes).await;
                let _ = send.finish();
                return Said::All;
            }
            _ => {
                connection.close(self.choose(|input| u32::from(input.byte())), "enough");
                return Said::All;
            }
        };
        // Whoever has heard enough is told no more.
        said.map_or(Said::All, |()| Said::More)
    }

    /// A frame that is longer than any may be: nobody reads it to its end.
    async fn say_without_end(&self, send: &mut SendHalf) {
        let length = self.choose(|input| u32::MAX - u32::from(input.short()));
        let mut said = send.write(&length.to_le_bytes()).await;
        for _ in 0..CHUNKS_MAX {
            if said.is_err() {
                return;
            }
            said = send.write(&[0; CHUNK_BYTES]).await;
        }
        self.was_swallowed.store(true, Ordering::Relaxed);
    }

    fn alter(&self, input: &mut Input<'_>, kind: &str, truth: &[u8]) -> Vec<u8> {
        match input.byte() % CONTENTS {
            ..FLIPPED => truth.to_vec(),
            FLIPPED => flip(input, truth.to_vec()),
            SIGNED => self.sign_again(input, truth),
            OTHER => {
                let others: Vec<_> = ANSWERS.iter().filter(|(of, _)| of == kind).collect();
                let (_, other) = others[usize::from(input.byte()) % others.len()];
                flip(input, other.clone())
            }
            _ => {
                let count = usize::from(input.short()) % 2_048;
                input.bytes(count).to_vec()
            }
        }
    }

    /// Another hold, with a good signature; other answers are not signed.
    fn sign_again(&self, input: &mut Input<'_>, truth: &[u8]) -> Vec<u8> {
        let mut alter = |hold: &mut Signed<Hold>| {
            if let Ok(body) = decode::<Hold>(&flip(input, encode(&hold.body))) {
                *hold = self.bank.sign(body);
            }
        };
        match decode::<EscrowAnswer>(truth) {
            Ok(EscrowAnswer::Hold(mut hold)) => {
                alter(&mut hold);
                encode(&EscrowAnswer::Hold(hold))
            }
            Ok(EscrowAnswer::HoldStatus(mut status)) => {
                alter(&mut status.hold);
                encode(&EscrowAnswer::HoldStatus(status))
            }
            _ => flip(input, truth.to_vec()),
        }
    }
}

/// Changes up to four bytes, one at least.
fn flip(input: &mut Input<'_>, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..=input.below(4) {
        let (place, change) = (usize::from(input.short()), input.byte());
        let place = place % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= change.max(1);
        }
    }
    bytes
}

/// Answers of the vectors, by their types.
static ANSWERS: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let is_answer = |kind: &str| ["EscrowAnswer", "PayeeAnswer", "BookFrame"].contains(&kind);
    let all = crate::seed::vectors().into_iter();
    all.filter(|(kind, _)| is_answer(kind)).collect()
});
