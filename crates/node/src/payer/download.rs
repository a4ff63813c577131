//! Downloads: tickets out on one stream, units in on another, into a partial file that any later try goes on from.

#[cfg(test)]
mod tests;

use super::link::Link;
use super::order::{Order, OrderKind};
use super::paying::{Bill, Ended, HoldInUse, Opened, Paid, Spender, lock_window};
use super::progress::Progress;
use super::{Payer, PayerError, PayerEvent};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tombola_core::amount::Amount;
use tombola_core::book::Ticket;
use tombola_core::chain::Preimage;
use tombola_core::key::BookId;
use tombola_core::message::{ContentHash, HoldState, ResponseHeader};
use tombola_core::payer::Purchase;
use tombola_core::reject::{Code, Reject};
use tombola_net::RecvHalf;

/// How often a lost payee is looked for before the download ends, to be gone on with by a later command.
const ATTEMPTS_MAX: u32 = 6;
/// Pause before the first further try; doubles.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(250);
/// Bytes read from a delivery at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A finished download.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Delivered {
    /// The file.
    pub output: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of it, checked.
    pub content_hash: ContentHash,
    /// Tickets that this purchase paid.
    pub tickets: u64,
    /// Their expected value.
    pub expected: Amount,
}

/// How many units an earlier try left beside the output file, if they are of this very version.
///
/// # Errors
/// [`PayerError::Exists`] if the output file is there already.
pub(super) fn resumable_units(output: &Path, header: &ResponseHeader) -> Result<u64, PayerError> {
    if output.exists() {
        return Err(PayerError::Exists {
            path: output.to_path_buf(),
        });
    }
    Ok(Partial::load(output, header).map_or(0, |partial| partial.units_done()))
}

impl Payer {
    /// Carries out a download. The partial file `OUTPUT.part` and what it takes to go on with it, `OUTPUT.part.json`,
    /// stay when it is cut short; planning the same download again goes on from there without paying twice.
    ///
    /// # Errors
    /// [`PayerError::Ceiling`] at the ceiling; [`PayerError::Net`] if the payee stays away; otherwise as the sides refuse.
    pub async fn get(
        &self,
        order: &Order,
        on_event: &(dyn Fn(PayerEvent) + Send + Sync),
    ) -> Result<Delivered, PayerError> {
        let (OrderKind::Download { output }, Some(header)) = (&order.kind, order.header) else {
            return Err(PayerError::Unintelligible);
        };
        let mut partial = Partial::load(output, &header).map_or_else(|| Partial::create(output, &header), Ok)?;
        partial.lock()?;
        let mut run = Run::new(self, order, &partial.sidecar);
        let mut attempt = 0;
        let mut has_replaced = false;
        loop {
            let (done_before, given_up_before) = (partial.units_done(), run.given_up);
            match run.attempt(&mut partial, on_event).await {
                Ok(()) => break,
                Err(PayerError::Net(error)) => {
                    attempt = next_attempt(
                        attempt,
                        partial.units_done().saturating_sub(done_before),
                        run.given_up.saturating_sub(given_up_before),
                    );
                    if attempt > ATTEMPTS_MAX {
                        return Err(PayerError::Net(error));
                    }
                    tracing::info!(%error, attempt, "the payee went away");
                    on_event(PayerEvent::Reconnecting { attempt });
                    tokio::time::sleep(ATTEMPT_PAUSE * 2u32.saturating_pow(attempt - 1)).await;
                }
                // A hold that has ended meanwhile is replaced, if its escrow says so too, by what the ceiling has left.
                Err(PayerError::PayeeRejected(reject))
                    if matches!(reject.code, Code::HoldReleased | Code::HoldExpired) && !has_replaced =>
                {
                    has_replaced = true;
                    run.replace_hold(reject).await?;
                }
                Err(error) => return Err(error),
            }
        }
        let expected = order.purchase.threshold.expected(order.face_value, run.tickets);
        partial.finish(output)?;
        Ok(Delivered {
            output: output.clone(),
            size: header.size,
            content_hash: header.content_hash,
            tickets: run.tickets,
            expected: Amount(u64::try_from(expected).unwrap_or(u64::MAX)),
        })
    }
}

/// Which further try comes next: the first again if the one before brought units, but not where the payee brings a unit
/// now and then and keeps what else was paid.
const fn next_attempt(attempt: u32, brought: u64, given_up: u64) -> u32 {
    if brought > 0 && given_up == 0 {
        1
    } else {
        attempt.saturating_add(1)
    }
}

/// Whether a payee has said where a book stands after it closed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastWord {
    Said,
    Unsaid,
}

/// One download over as many connections as it takes.
struct Run<'a> {
    payer: &'a Payer,
    order: &'a Order,
    link: Arc<Link>,
    hold: Option<HoldInUse>,
    tickets: u64,
    /// Units that books have paid for of which nothing more will be heard.
    given_up: u64,
    progress: Arc<Progress>,
}

impl<'a> Run<'a> {
    /// What an earlier process has seen of the payee counts on.
    fn new(payer: &'a Payer, order: &'a Order, sidecar: &Sidecar) -> Self {
        let link = payer.inner.link(&order.address);
        let value_max = payer.inner.terms.window_value(order.face_value, order.price);
        {
            let mut window = lock_window(&link);
            window.allow(value_max);
            window.remember(u128::from(sidecar.lost), u128::from(sidecar.undelivered));
        }
        Self {
            payer,
            order,
            link,
            hold: None,
            tickets: 0,
            given_up: sidecar.owed,
            progress: Arc::new(Progress::new(payer.inner.silence_max)),
        }
    }

    async fn attempt(
        &mut self,
        partial: &mut Partial,
        on_event: &(dyn Fn(PayerEvent) + Send + Sync),
    ) -> Result<(), PayerError> {
        partial.truncate_to_units()?;
        self.progress.made();
        self.collect_paid(partial, on_event).await?;
        let left = partial.units() - partial.units_done();
        if left == 0 {
            return Ok(());
        }
        if let Some(short) = lock_window(&self.link).shortfall() {
            return Err(short.into());
        }
        let hold = match self.hold.clone() {
            Some(hold) => hold,
            None => self.payer.inner.hold_for(self.order, on_event).await?,
        };
        self.hold = Some(hold.clone());
        let order = self.order;
        let bill = Bill {
            service: order.service.clone(),
            price: order.price,
            face_value: order.face_value,
            tickets: left,
        };
        let ahead = lock_window(&self.link).ahead(order.price);
        let (opened_in, opened) = mpsc::unbounded_channel();
        let mut spender = Spender::new(
            Arc::clone(&self.payer.inner),
            Arc::clone(&self.link),
            bill,
            hold,
            opened_in,
            Arc::clone(&self.progress),
        );
        let (allow, allowed) = watch::channel(ahead);
        let tickets_before = self.tickets;
        let on_paying = |event: PayerEvent| match event {
            // The spender counts its own connection, who watches the whole purchase.
            PayerEvent::Acknowledged { tickets } => on_event(PayerEvent::Acknowledged {
                tickets: tickets_before + tickets,
            }),
            other => on_event(other),
        };
        let deliveries = self.receive_all(partial, opened, allow, on_event);
        let (paid, received) = tokio::join!(spender.pay(allowed, &on_paying), deliveries);
        self.take_stock(partial, &spender)?;
        let is_whole = partial.units_done() == partial.units();
        match paid {
            _ if is_whole => Ok(()),
            Ok(Paid::Ceiling { need, has }) => Err(PayerError::Ceiling {
                need,
                has,
                received: partial.received,
                size: partial.header.size,
            }),
            Ok(Paid::InFull | Paid::Stopped) => {
                received?;
                // Paid and not delivered: asked for again on the next try, with the book that paid.
                Err(PayerError::Net(tombola_net::NetError::Lost))
            }
            Err(error) => Err(error),
        }
    }

    /// How far one connection got.
    fn take_stock(&mut self, partial: &mut Partial, spender: &Spender) -> Result<(), PayerError> {
        self.tickets += spender.acknowledged();
        self.hold = Some(spender.hold.clone());
        partial.sidecar.paid += spender.acknowledged();
        for ended in &spender.ended {
            partial.sidecar.note(ended);
        }
        self.settle(partial)
    }

    /// Opens another hold in place of one that has ended, with what the ceiling has left.
    async fn replace_hold(&mut self, reject: Reject) -> Result<(), PayerError> {
        let Some(hold) = self.hold.take() else {
            return Err(PayerError::PayeeRejected(reject));
        };
        let status = self.payer.inner.hold_status(hold.hold.body.id()).await?;
        if status.state == HoldState::Open {
            // The payee's word alone ends no hold: it could still claim from it.
            return Err(PayerError::PayeeRejected(reject));
        }
        let spent = status.paid.saturating_sub(hold.paid);
        let spend_max = self.order.spend_max.saturating_sub(spent);
        let purchase = Purchase {
            spend_max,
            cap: self.order.purchase.cap.min(spend_max),
            ..self.order.purchase
        };
        self.hold = Some(self.payer.inner.open_hold(&self.order.quote.terms, &purchase).await?);
        Ok(())
    }

    /// Counts what is paid and has not come against the payee, here and in the sidecar: a payee that acknowledges and
    /// does not deliver gets no more than one that does not acknowledge, however often it drops the connection.
    fn settle(&self, partial: &mut Partial) -> Result<(), PayerError> {
        let value = |units: u64| u128::from(units).saturating_mul(u128::from(self.order.price.0));
        let owed = partial.sidecar.paid.saturating_sub(partial.units_done());
        let before = std::mem::replace(&mut partial.sidecar.owed, owed);
        let (lost, undelivered) = {
            let mut window = lock_window(&self.link);
            window.settle(value(before), value(owed));
            (window.lost_value(), window.undelivered_value())
        };
        partial.sidecar.lost = u64::try_from(lost).unwrap_or(u64::MAX);
        partial.sidecar.undelivered = u64::try_from(undelivered).unwrap_or(u64::MAX);
        partial.save_sidecar()
    }

    /// Fetches what earlier books have paid for and not brought.
    async fn collect_paid(
        &mut self,
        partial: &mut Partial,
        on_event: &(dyn Fn(PayerEvent) + Send + Sync),
    ) -> Result<(), PayerError> {
        for paid in partial.sidecar.books.clone() {
            let Some((book, bearer)) = paid.parse() else { continue };
            match self.collect(partial, book, bearer, on_event).await {
                Ok(()) => {}
                // The payee has restarted, or the book's hold has ended: what it drew it drew. Any other refusal may pass.
                Err(PayerError::PayeeRejected(reject))
                    if matches!(
                        reject.code,
                        Code::BookUnknown | Code::Unauthorized | Code::ServiceUnknown
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        partial.sidecar.books.clear();
        // What has come was paid, if only by a book of which nothing more will be heard.
        partial.sidecar.paid = partial.sidecar.paid.max(partial.units_done());
        self.settle(partial)?;
        self.given_up = partial.sidecar.owed;
        Ok(())
    }

    /// Fetches what one of them has paid for, and then asks where it stands: only now that its pool is empty the payee
    /// has closed it, and draws no more of it.
    async fn collect(
        &self,
        partial: &mut Partial,
        book: BookId,
        bearer: Ticket,
        on_event: &(dyn Fn(PayerEvent) + Send + Sync),
    ) -> Result<(), PayerError> {
        let (service, from) = (&self.order.service, partial.units_done());
        let (header, recv) = self.link.request(service, from, Some(book), Some(bearer)).await?;
        partial.check_version(&header)?;
        partial.receive(recv, &self.progress, on_event, &|_| ()).await?;
        let end = self
            .link
            .request(service, partial.units(), Some(book), Some(bearer))
            .await;
        match end {
            Ok((header, _)) => self.find(partial, &book, header.through, LastWord::Said),
            // What it said before it closed the book is not its last word, and may be less than it drew.
            Err(PayerError::PayeeRejected(_)) => self.find(partial, &book, header.through, LastWord::Unsaid),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The payee has said where a book stands: what it drew without an acknowledgement is paid as well.
    fn find(&self, partial: &mut Partial, book: &BookId, through: u32, last_word: LastWord) {
        let units = u32::try_from(partial.units()).unwrap_or(u32::MAX);
        let Some(paid) = partial.sidecar.books.iter_mut().find(|paid| paid.book == *book) else {
            return;
        };
        let in_flight = std::mem::take(&mut paid.in_flight);
        // An earlier process that was killed left no word of how far it got.
        let drawn_max = if in_flight > 0 { in_flight } else { units };
        let drawn = through.saturating_sub(paid.acknowledged).min(drawn_max);
        paid.acknowledged += drawn;
        if in_flight > 0 {
            lock_window(&self.link).found(in_flight, drawn, self.order.price);
        }
        let through = paid.acknowledged;
        partial.sidecar.paid += u64::from(drawn);
        // Where all has come the payee may not have closed the book yet, so what it says is not its last word.
        if last_word == LastWord::Said && partial.units_done() < partial.units() {
            self.payer.inner.store.found(*book, through);
        }
    }

    async fn receive_all(
        &self,
        partial: &mut Partial,
        mut opened: mpsc::UnboundedReceiver<Opened>,
        allow: watch::Sender<u64>,
        on_event: &(dyn Fn(PayerEvent) + Send + Sync),
    ) -> Result<(), PayerError> {
        let (first, price) = (partial.units_done(), self.order.price);
        let counted = AtomicU64::new(first);
        while partial.units_done() < partial.units() {
            let Some(book) = opened.recv().await else { return Ok(()) };
            partial.sidecar.books.push(PaidBook::new(book.book, &book.bearer));
            partial.save_sidecar()?;
            let (service, from) = (&self.order.service, partial.units_done());
            let (header, recv) = self.link.request(service, from, Some(book.book), None).await?;
            partial.check_version(&header)?;
            partial
                .receive(recv, &self.progress, on_event, &|done| {
                    let before = counted.swap(done, Ordering::Relaxed);
                    let mut window = lock_window(&self.link);
                    window.delivered(done - before, price);
                    allow.send_replace(done - first + window.ahead(price));
                })
                .await?;
        }
        Ok(())
    }
}

/// What stands beside a partial file.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Sidecar {
    version: u32,
    content_hash: String,
    size: u64,
    unit_bytes: u32,
    /// Books that have paid for units of this file, by which the payee knows what it still owes.
    books: Vec<PaidBook>,
    /// Tickets that payees are known to have drawn for this file.
    #[serde(default)]
    paid: u64,
    /// How many more these were than units that had come, when that was last counted against the payee.
    #[serde(default)]
    owed: u64,
    /// What had been lost with the payee's connections then, in atomic units.
    #[serde(default)]
    lost: u64,
    /// What the payee had been paid and had not delivered then, of this file and others, in atomic units.
    #[serde(default)]
    undelivered: u64,
}

impl Sidecar {
    /// Writes down where a book of this file ended. One that the payee never opened is not here, and was not paid from.
    fn note(&mut self, ended: &Ended) {
        for paid in self.books.iter_mut().filter(|paid| paid.book == ended.book) {
            paid.acknowledged = ended.acknowledged;
            paid.in_flight = ended.in_flight;
        }
    }
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PaidBook {
    book: BookId,
    index: u32,
    preimage: String,
    /// Highest index that the payee has acknowledged, as far as it was written down.
    #[serde(default)]
    acknowledged: u32,
    /// Tickets above it that were in flight when its stream was lost.
    #[serde(default)]
    in_flight: u32,
}

impl PaidBook {
    fn new(book: BookId, bearer: &Ticket) -> Self {
        Self {
            book,
            index: bearer.index,
            preimage: bearer.preimage.to_string(),
            acknowledged: 0,
            in_flight: 0,
        }
    }

    fn parse(&self) -> Option<(BookId, Ticket)> {
        let mut preimage = [0u8; 32];
        hex::decode_to_slice(&self.preimage, &mut preimage).ok()?;
        Some((
            self.book,
            Ticket {
                index: self.index,
                preimage: Preimage(preimage),
            },
        ))
    }
}

const SIDECAR_VERSION: u32 = 1;

/// A partial file: its bytes so far, and its sidecar.
#[derive(Debug)]
struct Partial {
    file: File,
    path: PathBuf,
    sidecar_path: PathBuf,
    sidecar: Sidecar,
    header: ResponseHeader,
    received: u64,
}

impl Partial {
    fn paths(output: &Path) -> (PathBuf, PathBuf) {
        let with = |suffix: &str| {
            let mut name = output.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        (with(".part"), with(".part.json"))
    }

    /// What an earlier try left, if it is of this version; anything else is begun anew.
    fn load(output: &Path, header: &ResponseHeader) -> Option<Self> {
        let (path, sidecar_path) = Self::paths(output);
        let sidecar: Sidecar = serde_json::from_slice(&std::fs::read(&sidecar_path).ok()?).ok()?;
        let is_same = sidecar.version == SIDECAR_VERSION
            && sidecar.content_hash == header.content_hash.to_string()
            && sidecar.size == header.size
            && sidecar.unit_bytes == header.unit_bytes;
        if !is_same {
            return None;
        }
        let mut file = OpenOptions::new().read(true).append(true).open(&path).ok()?;
        let received = file.seek(SeekFrom::End(0)).ok()?.min(header.size);
        Some(Self {
            file,
            path,
            sidecar_path,
            sidecar,
            header: *header,
            received,
        })
    }

    fn create(output: &Path, header: &ResponseHeader) -> Result<Self, PayerError> {
        let (path, sidecar_path) = Self::paths(output);
        let fault = |error: std::io::Error| PayerError::File {
            path: path.clone(),
            kind: error.kind(),
        };
        let mut options = OpenOptions::new();
        // Truncated by hand: append and truncate exclude each other.
        let file = options
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(fault)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| PayerError::InUse { path: path.clone() })?;
        file.set_len(0).map_err(fault)?;
        let sidecar = Sidecar {
            version: SIDECAR_VERSION,
            content_hash: header.content_hash.to_string(),
            size: header.size,
            unit_bytes: header.unit_bytes,
            books: Vec::new(),
            paid: 0,
            owed: 0,
            lost: 0,
            undelivered: 0,
        };
        let partial = Self {
            file,
            path,
            sidecar_path,
            sidecar,
            header: *header,
            received: 0,
        };
        partial.save_sidecar()?;
        Ok(partial)
    }

    /// Two purchases never write one file, in whatever processes they run. The lock ends with the file handle.
    fn lock(&self) -> Result<(), PayerError> {
        flock(&self.file, FlockOperation::NonBlockingLockExclusive).map_err(|_| PayerError::InUse {
            path: self.path.clone(),
        })
    }

    fn fault(&self, error: &std::io::Error) -> PayerError {
        PayerError::File {
            path: self.path.clone(),
            kind: error.kind(),
        }
    }

    fn units(&self) -> u64 {
        self.header.units
    }

    fn units_done(&self) -> u64 {
        if self.received == self.header.size {
            return self.header.units;
        }
        self.received / u64::from(self.header.unit_bytes.max(1))
    }

    /// A unit that was cut in the middle is asked for again.
    fn truncate_to_units(&mut self) -> Result<(), PayerError> {
        let whole = self.units_done() * u64::from(self.header.unit_bytes);
        self.received = whole.min(self.header.size);
        self.file.set_len(self.received).map_err(|error| self.fault(&error))
    }

    /// Two versions of a file are never spliced.
    fn check_version(&self, header: &ResponseHeader) -> Result<(), PayerError> {
        let is_same = header.content_hash == self.header.content_hash && header.size == self.header.size;
        if is_same {
            Ok(())
        } else {
            Err(PayerError::ContentMismatch)
        }
    }

    fn save_sidecar(&self) -> Result<(), PayerError> {
        let text = serde_json::to_vec_pretty(&self.sidecar).map_err(|_| PayerError::Unintelligible)?;
        crate::home::write_file(&self.sidecar_path, &text, 0o600, crate::home::Existing::Replace).map_err(|error| {
            PayerError::File {
                path: self.sidecar_path.clone(),
                kind: error.kind(),
            }
        })
    }

    /// Takes a delivery to its end, as long as it goes forward.
    async fn receive(
        &mut self,
        mut recv: RecvHalf,
        progress: &Progress,
        on_event: &(dyn Fn(PayerEvent) + Send + Sync),
        on_units: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), PayerError> {
        self.truncate_to_units()?;
        let mut units = self.units_done();
        while let Some(bytes) = progress.within(recv.read_chunk(CHUNK_BYTES)).await? {
            progress.made();
            let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if count > self.header.size - self.received {
                return Err(PayerError::ContentMismatch);
            }
            self.file.write_all(&bytes).map_err(|error| self.fault(&error))?;
            self.received += count;
            on_event(PayerEvent::Received {
                bytes: self.received,
                size: self.header.size,
            });
            if self.units_done() > units {
                units = self.units_done();
                on_units(units);
            }
        }
        Ok(())
    }

    /// Checks the whole content, and gives the file its name.
    fn finish(mut self, output: &Path) -> Result<(), PayerError> {
        self.file.sync_all().map_err(|error| self.fault(&error))?;
        self.file.seek(SeekFrom::Start(0)).map_err(|error| self.fault(&error))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fault(&error)),
            }
        }
        if <[u8; 32]>::from(hasher.finalize()) != self.header.content_hash.0 {
            return Err(PayerError::ContentMismatch);
        }
        std::fs::rename(&self.path, output).map_err(|error| self.fault(&error))?;
        // What stays behind is only of use to a download that is not finished.
        let _ = std::fs::remove_file(&self.sidecar_path);
        Ok(())
    }
}
