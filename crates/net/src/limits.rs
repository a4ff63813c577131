//! Every limit of the transport, each with its reason.

use std::time::Duration;

/// A silent peer is given up after this long; short enough that a payer notices a dead payee within a book's idle time.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Clients ping this often, so that an idle but wanted connection survives three lost pings. Servers never ping: whoever
/// wants a connection pays for it.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Packets of unknown connections are answered at most this often: 1,024 peers of a process that was killed are told within
/// about a second, and a flood is answered with fewer and smaller packets than it has.
pub const RESET_INTERVAL: Duration = Duration::from_millis(1);
/// A handshake takes two round trips; whoever needs longer holds a place that others want.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The next address of a host is tried after this long, while earlier ones go on (RFC 8305 recommends 250 ms).
pub const NEXT_ADDRESS_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one host that are tried.
pub const ADDRESSES_MAX: usize = 8;

/// Connections of one server. Each may buffer [`CONNECTION_BYTES_MAX`].
pub const CONNECTIONS_MAX: usize = 1_024;
/// Handshakes at once: each costs two signatures (50 us), so a full queue is worked off in 15 ms.
pub const HANDSHAKES_MAX: usize = 256;
/// From this many handshakes at once a client must first prove its source address by a Retry.
pub const HANDSHAKES_UNPROVEN_MAX: usize = 64;
/// Attempts that wait to be looked at; the accept loop only admits, so it keeps up.
pub const INCOMING_MAX: usize = 1_024;
/// Early bytes kept per waiting attempt: a client hello with its certificate request fits.
pub const INCOMING_BYTES_MAX: u64 = 16 * 1_024;
/// Early bytes kept over all waiting attempts.
pub const INCOMING_BYTES_TOTAL_MAX: u64 = 4 * 1_024 * 1_024;
/// TLS messages buffered out of order; a handshake is under 2 KiB.
pub const CRYPTO_BYTES_MAX: usize = 16 * 1_024;

/// Streams a client may have open at a server: 64 books of one hold, and as many requests again twice over.
pub const STREAMS_MAX: u32 = 256;
/// Unread bytes of one stream at a payee: 29,000 tickets in flight, enough for 26 million a second on loopback.
pub const TICKET_STREAM_BYTES_MAX: u32 = 1_024 * 1_024;
/// Unread bytes over all streams of one connection at a payee.
pub const TICKET_CONNECTION_BYTES_MAX: u32 = 2 * 1_024 * 1_024;
/// Unread bytes of one stream at an escrow: two messages of 64 KiB.
pub const REQUEST_STREAM_BYTES_MAX: u32 = 128 * 1_024;
/// Unread bytes over all streams of one connection at an escrow: eight claim batches in flight.
pub const REQUEST_CONNECTION_BYTES_MAX: u32 = 512 * 1_024;
/// Bytes sent by a server and not yet acknowledged, per connection: 20 MB/s of a file over a 100 ms path.
pub const SERVER_SEND_BYTES_MAX: u64 = 2 * 1_024 * 1_024;
/// Unread bytes of one stream at a client: a download of 80 MB/s over a 100 ms path.
pub const DOWNLOAD_STREAM_BYTES_MAX: u32 = 8 * 1_024 * 1_024;
/// Unread bytes over all streams at a client: two such downloads.
pub const DOWNLOAD_CONNECTION_BYTES_MAX: u32 = 16 * 1_024 * 1_024;
/// Bytes sent by a client and not yet acknowledged: tickets and requests over a 100 ms path.
pub const CLIENT_SEND_BYTES_MAX: u64 = 4 * 1_024 * 1_024;

/// What one connection can make a server buffer.
pub const CONNECTION_BYTES_MAX: u64 = TICKET_CONNECTION_BYTES_MAX as u64 + SERVER_SEND_BYTES_MAX;
/// What all connections together can make a server buffer.
pub const NODE_BYTES_MAX: u64 = 4 * 1_024 * 1_024 * 1_024;

/// Bytes of a close reason that are kept of what a peer sent.
pub const CLOSE_REASON_BYTES_MAX: usize = 256;
/// Bytes of the frame length in front of each frame.
pub const FRAME_HEADER_BYTES: usize = 4;

const _: () = assert!(CONNECTIONS_MAX as u64 * CONNECTION_BYTES_MAX <= NODE_BYTES_MAX);
const _: () = assert!(REQUEST_CONNECTION_BYTES_MAX <= TICKET_CONNECTION_BYTES_MAX);
const _: () = assert!(HANDSHAKES_UNPROVEN_MAX < HANDSHAKES_MAX && HANDSHAKES_MAX <= CONNECTIONS_MAX);
const _: () = assert!(KEEP_ALIVE.as_millis() * 3 < IDLE_TIMEOUT.as_millis());
// A whole message always fits the window of its stream, or its reader would wait for ever.
const _: () = assert!(REQUEST_STREAM_BYTES_MAX as usize > tombola_core::codec::MESSAGE_BYTES_MAX + FRAME_HEADER_BYTES);
/// A frame's buffer grows by at most this much ahead of the bytes that have arrived, so that a length alone costs a peer's
/// counterpart next to nothing.
pub const FRAME_STEP_BYTES: usize = 4_096;
