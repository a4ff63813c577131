//! A proxy between a store and its server that cuts connections at a chosen message.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How long a server does not hear that its client is gone; longer than any of these tests has patience.
const SILENCE: Duration = Duration::from_secs(60);

/// Where the next commit's connection is cut, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Cut {
    Nowhere,
    /// The server never sees `COMMIT`.
    BeforeCommit,
    /// The server commits and its answer is lost.
    AfterCommit,
    /// As the first, but the connection stays open and nothing more is heard on it.
    SilentBeforeCommit,
    /// As the second, in silence.
    SilentAfterCommit,
    /// As the first, in silence, and `COMMIT` arrives after all, at [`Proxy::let_through`].
    Late,
}

impl Cut {
    const ALL: [Self; 6] = [
        Self::Nowhere,
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::SilentBeforeCommit,
        Self::SilentAfterCommit,
        Self::Late,
    ];

    const fn is_silent(self) -> bool {
        matches!(self, Self::SilentBeforeCommit | Self::SilentAfterCommit | Self::Late)
    }
}

/// Cuts the connections of commits; all others go through.
pub(super) struct Proxy {
    pub(super) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    server: String,
    cut: AtomicU8,
    /// Whether new connections are turned away.
    is_closed: AtomicBool,
    /// Whether the cut was made.
    is_cut: AtomicBool,
    /// Whether a late `COMMIT` goes on.
    is_late_let_through: AtomicBool,
    /// What a connection falls silent at, and how many more of them do.
    silent_at: Mutex<(&'static str, usize)>,
    has_fallen_silent: AtomicBool,
}

impl Shared {
    fn falls_silent_at(&self, message: &[u8]) -> bool {
        let mut silent_at = self.silent_at.lock().unwrap();
        let (text, left) = *silent_at;
        let is_said = left > 0 && message.windows(text.len()).any(|part| part == text.as_bytes());
        silent_at.1 -= usize::from(is_said);
        is_said
    }
}

impl Proxy {
    pub(super) fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server,
            cut: AtomicU8::new(Cut::Nowhere as u8),
            is_closed: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            is_late_let_through: AtomicBool::new(false),
            silent_at: Mutex::new(("", 0)),
            has_fallen_silent: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, shared) = (client.unwrap(), Arc::clone(&for_thread));
                if !shared.is_closed.load(Ordering::SeqCst) {
                    thread::spawn(move || carry(&client, &shared));
                }
            }
        });
        Self { port, shared }
    }

    /// The next commit is cut there, and then connections are turned away until [`Self::open`].
    pub(super) fn cut_and_close(&self, cut: Cut) {
        self.shared.is_cut.store(false, Ordering::SeqCst);
        self.shared.cut.store(cut as u8, Ordering::SeqCst);
    }

    /// The next connections on which this is said, so many of them, stay open, and neither that nor anything after it
    /// is heard.
    pub(super) fn fall_silent_at(&self, text: &'static str, connections: usize) {
        self.shared.has_fallen_silent.store(false, Ordering::SeqCst);
        *self.shared.silent_at.lock().unwrap() = (text, connections);
    }

    pub(super) fn has_fallen_silent(&self) -> bool {
        self.shared.has_fallen_silent.load(Ordering::SeqCst)
    }

    pub(super) fn open(&self) {
        self.shared.is_closed.store(false, Ordering::SeqCst);
    }

    pub(super) fn let_through(&self) {
        self.shared.is_late_let_through.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.shared.is_cut.load(Ordering::SeqCst)
    }
}

/// Carries one connection, message by message from the client, as bytes from the server.
fn carry(client: &TcpStream, shared: &Shared) {
    let Ok(server) = TcpStream::connect(&shared.server) else {
        return;
    };
    let (mut to_client, mut from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let is_muted = Arc::new(AtomicBool::new(false));
    let muted = Arc::clone(&is_muted);
    let (told, answered) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut bytes = [0; 65_536];
        while let Ok(length @ 1..) = from_server.read(&mut bytes) {
            if muted.load(Ordering::SeqCst) {
                let _ = told.send(());
            } else if to_client.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let _ = pass_on(
        client,
        &server,
        shared,
        &|| {
            is_muted.store(true, Ordering::SeqCst);
        },
        &|| answered.recv().is_ok(),
    );
    for stream in [client, &server] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn pass_on(
    mut client: &TcpStream,
    mut server: &TcpStream,
    shared: &Shared,
    mute: &dyn Fn(),
    answered: &dyn Fn() -> bool,
) -> std::io::Result<()> {
    let mut is_commit = false;
    // The first message has no type.
    let mut is_first = true;
    loop {
        let mut message = Vec::new();
        if !is_first {
            message.resize(1, 0);
            client.read_exact(&mut message)?;
        }
        is_first = false;
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        message.extend_from_slice(&length);
        let at = message.len();
        message.resize(at + usize::try_from(u32::from_be_bytes(length)).unwrap() - 4, 0);
        client.read_exact(&mut message[at..])?;
        if shared.falls_silent_at(&message) {
            shared.has_fallen_silent.store(true, Ordering::SeqCst);
            return stay_silent(client);
        }
        is_commit |= message.ends_with(b"SERIALIZABLE\0");
        if is_commit && message.first() == Some(&b'Q') && message.ends_with(b"COMMIT\0") {
            is_commit = false;
            let cut = Cut::ALL[usize::from(shared.cut.swap(Cut::Nowhere as u8, Ordering::SeqCst))];
            if cut != Cut::Nowhere {
                shared.is_closed.store(!cut.is_silent(), Ordering::SeqCst);
            }
            if cut == Cut::AfterCommit || cut == Cut::SilentAfterCommit {
                mute();
                server.write_all(&message)?;
                assert!(answered());
            }
            if cut != Cut::Nowhere {
                shared.is_cut.store(true, Ordering::SeqCst);
                if cut == Cut::Late {
                    while !shared.is_late_let_through.load(Ordering::SeqCst) {
                        thread::sleep(Duration::from_millis(2));
                    }
                    mute();
                    server.write_all(&message)?;
                    assert!(answered());
                    return Ok(());
                }
                if cut.is_silent() {
                    return stay_silent(client);
                }
                return Ok(());
            }
        }
        server.write_all(&message)?;
    }
}

/// Until the client gives up, and longer. What it says does not arrive.
fn stay_silent(mut client: &TcpStream) -> std::io::Result<()> {
    while client.read(&mut [0; 1_024])? > 0 {}
    thread::sleep(SILENCE);
    Ok(())
}
