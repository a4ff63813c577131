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
/// A handshake without an answer is begun anew after this long, while the first goes on: one bit that flips in a Retry
/// makes quinn deaf to every further one (RFC 9000 section 17.2.5.2 has the first *valid* one count).
pub const NEXT_HANDSHAKE_DELAY: Duration = Duration::from_secs(2);
/// The next address of a host is tried after this long, while earlier ones go on (RFC 8305 recommends 250 ms).
pub const NEXT_ADDRESS_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one host that are tried.
pub const ADDRESSES_MAX: usize = 8;

/// Connections of one server, handshakes included.
pub const CONNECTIONS_MAX: usize = 1_024;
/// From this many connections on a client must first prove its source address by a Retry: then a node is no longer idle
/// enough to spare its clients a round trip.
pub const CONNECTIONS_UNPROVEN_MAX: usize = CONNECTIONS_MAX / 4;
/// Connections from one IPv4 address or IPv6 /64: many homes share one, and four of them still leave nobody out.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = CONNECTIONS_MAX / 4;
/// Connections of one key at a server that demands keys: an account's devices, tills and restarts.
pub const CONNECTIONS_PER_KEY_MAX: usize = 32;
/// Handshakes at once: each costs two signatures (50 us), so a full queue is worked off in 15 ms.
pub const HANDSHAKES_MAX: usize = 256;
/// Handshakes at once of one IPv4 address or IPv6 /64 that is proven: 16 hosts that begin them and fall silent fill the
/// queue, not one. Many homes behind one address take turns of a round trip or two.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = HANDSHAKES_MAX / 16;
/// The same of one IPv4 /24 or IPv6 /48: four of what one party comes by easily fill the queue.
pub const HANDSHAKES_PER_RANGE_MAX: usize = HANDSHAKES_MAX / 4;
/// From this many handshakes at once a client must first prove its source address by a Retry.
pub const HANDSHAKES_UNPROVEN_MAX: usize = 64;
/// Handshakes a second for addresses that are not proven, over all: 4 % of a core. More need a Retry, which costs a tenth.
pub const UNPROVEN_PER_SECOND: u32 = 256;
/// Handshakes a second for one IPv4 /24 or IPv6 /48 whose address is proven: 2 % of a core.
pub const PROVEN_PER_SECOND: u32 = 128;
/// The same at once: all clients of one large office after an outage.
pub const PROVEN_BURST: u32 = 512;
/// Address ranges whose handshakes are counted at once: 12 bytes each.
pub const ADDRESS_RANGES_MAX: usize = 65_536;
/// Attempts that wait to be looked at; the accept loop only admits, so it keeps up.
pub const INCOMING_MAX: usize = 1_024;
/// Early bytes kept per waiting attempt: a client hello with its certificate request fits.
pub const INCOMING_BYTES_MAX: u64 = 16 * 1_024;
/// Early bytes kept over all waiting attempts.
pub const INCOMING_BYTES_TOTAL_MAX: u64 = 4 * 1_024 * 1_024;
/// TLS messages buffered out of order; a handshake is under 2 KiB.
pub const CRYPTO_BYTES_MAX: usize = 16 * 1_024;

/// Connections of a payee that have the large windows below, because they have opened a book: the others get the small
/// ones, and stay slower over long paths.
pub const FAST_CONNECTIONS_MAX: usize = 64;
/// Streams a client may have open at a payee before it has paid.
pub const STREAMS_MAX: u32 = 32;
/// Streams of a fast connection: 64 books of one hold, and as many requests again twice over.
pub const FAST_STREAMS_MAX: u32 = 256;
/// Unread bytes of one stream at a payee: 29,000 tickets in flight, enough for 26 million a second on loopback.
pub const TICKET_STREAM_BYTES_MAX: u32 = 1_024 * 1_024;
/// Unread bytes over all streams of one connection at a payee before it has paid: one message of 64 KiB, and what opens books.
pub const TICKET_CONNECTION_BYTES_MAX: u32 = 96 * 1_024;
/// The same of a fast connection.
pub const FAST_CONNECTION_BYTES_MAX: u32 = 2 * 1_024 * 1_024;
/// Bytes sent by a server and not yet acknowledged, per connection: 1.3 MB/s over a 100 ms path.
pub const SERVER_SEND_BYTES_MAX: u64 = 128 * 1_024;
/// The same of a fast connection: 20 MB/s of a file over a 100 ms path.
pub const FAST_SEND_BYTES_MAX: u64 = 2 * 1_024 * 1_024;
/// Frames of one connection at a payee that are being received or answered, together: two of the longest.
pub const FRAMES_BYTES_MAX: usize = 128 * 1_024;
/// Answers of one connection at a payee that are being made or wait to be sent, together: two of the longest.
pub const ANSWERS_BYTES_MAX: usize = 128 * 1_024;

/// Streams a client may have open at an escrow: requests in flight, and 8 subscriptions.
pub const REQUEST_STREAMS_MAX: u32 = 64;
/// Unread bytes of one stream at an escrow: a message of 64 KiB with room to spare.
pub const REQUEST_STREAM_BYTES_MAX: u32 = 128 * 1_024;
/// Unread bytes over all streams of one connection at an escrow: four claim batches in flight.
pub const REQUEST_CONNECTION_BYTES_MAX: u32 = 128 * 1_024;
/// Frames of one connection at an escrow that are being received or answered, together: six claim batches.
pub const REQUEST_FRAMES_BYTES_MAX: usize = 192 * 1_024;
/// Answers of one connection at an escrow that are being made or wait to be sent, together: as many answers to them.
pub const REQUEST_ANSWERS_BYTES_MAX: usize = 192 * 1_024;
/// What subscriptions of one connection at an escrow send at once, all together: a page of 64 KiB.
pub const SUBSCRIPTION_PAGE_BYTES_MAX: usize = 66 * 1_024;

/// Unread bytes of one stream at a client: a download of 80 MB/s over a 100 ms path.
pub const DOWNLOAD_STREAM_BYTES_MAX: u32 = 8 * 1_024 * 1_024;
/// Unread bytes over all streams at a client: two such downloads.
pub const DOWNLOAD_CONNECTION_BYTES_MAX: u32 = 16 * 1_024 * 1_024;
/// Bytes sent by a client and not yet acknowledged: tickets and requests over a 100 ms path.
pub const CLIENT_SEND_BYTES_MAX: u64 = 4 * 1_024 * 1_024;

/// What QUIC and TLS keep of a connection besides what it sends and receives: 30 KiB were measured.
pub const CONNECTION_STATE_BYTES: u64 = 48 * 1_024;
/// What a stream costs besides its bytes: its state in QUIC, and the task that serves it.
pub const STREAM_STATE_BYTES: u64 = 4 * 1_024;
/// What one connection can make a payee hold before it has paid.
pub const CONNECTION_BYTES_MAX: u64 = CONNECTION_STATE_BYTES
    + STREAMS_MAX as u64 * STREAM_STATE_BYTES
    + TICKET_CONNECTION_BYTES_MAX as u64
    + SERVER_SEND_BYTES_MAX
    + FRAMES_BYTES_MAX as u64
    + ANSWERS_BYTES_MAX as u64;
/// What a fast connection can make it hold on top of that.
pub const FAST_BYTES_MAX: u64 = (FAST_STREAMS_MAX - STREAMS_MAX) as u64 * STREAM_STATE_BYTES
    + (FAST_CONNECTION_BYTES_MAX - TICKET_CONNECTION_BYTES_MAX) as u64
    + FAST_SEND_BYTES_MAX
    - SERVER_SEND_BYTES_MAX;
/// What one connection can make an escrow hold.
pub const REQUEST_BYTES_MAX: u64 = CONNECTION_STATE_BYTES
    + REQUEST_STREAMS_MAX as u64 * STREAM_STATE_BYTES
    + REQUEST_CONNECTION_BYTES_MAX as u64
    + SERVER_SEND_BYTES_MAX
    + REQUEST_FRAMES_BYTES_MAX as u64
    + REQUEST_ANSWERS_BYTES_MAX as u64
    + SUBSCRIPTION_PAGE_BYTES_MAX as u64;
/// What all peers together can make a node hold: a small server has this much to spare.
pub const NODE_BYTES_MAX: u64 = 1_024 * 1_024 * 1_024;

/// Bytes of a close reason that are kept of what a peer sent.
pub const CLOSE_REASON_BYTES_MAX: usize = 256;
/// Bytes of the frame length in front of each frame.
pub const FRAME_HEADER_BYTES: usize = 4;
/// A frame's buffer grows by at most this much ahead of the bytes that have arrived, so that a length alone costs a peer's
/// counterpart next to nothing.
pub const FRAME_STEP_BYTES: usize = 4_096;

/// What waits before any connection: attempts, and the count of their addresses.
const WAITING_BYTES: u64 = INCOMING_BYTES_TOTAL_MAX + ADDRESS_RANGES_MAX as u64 * 12;
const _: () = assert!(
    CONNECTIONS_MAX as u64 * CONNECTION_BYTES_MAX + FAST_CONNECTIONS_MAX as u64 * FAST_BYTES_MAX + WAITING_BYTES
        <= NODE_BYTES_MAX
);
const _: () = assert!(CONNECTIONS_MAX as u64 * REQUEST_BYTES_MAX + WAITING_BYTES <= NODE_BYTES_MAX);
const _: () = assert!(HANDSHAKES_UNPROVEN_MAX < HANDSHAKES_MAX && HANDSHAKES_MAX <= CONNECTIONS_MAX);
const _: () =
    assert!(HANDSHAKES_PER_ADDRESS_MAX < HANDSHAKES_PER_RANGE_MAX && HANDSHAKES_PER_RANGE_MAX < HANDSHAKES_MAX);
const _: () = assert!(KEEP_ALIVE.as_millis() * 3 < IDLE_TIMEOUT.as_millis());
// A whole message always fits the windows and budgets that it passes, or its reader would wait for ever.
const MESSAGE_BYTES: usize = tombola_core::codec::MESSAGE_BYTES_MAX + FRAME_HEADER_BYTES;
const _: () = assert!(REQUEST_STREAM_BYTES_MAX as usize > MESSAGE_BYTES);
const _: () = assert!(REQUEST_CONNECTION_BYTES_MAX as usize > MESSAGE_BYTES);
const _: () = assert!(TICKET_CONNECTION_BYTES_MAX as usize > MESSAGE_BYTES);
const _: () = assert!(FRAMES_BYTES_MAX > MESSAGE_BYTES && REQUEST_FRAMES_BYTES_MAX > MESSAGE_BYTES);
const _: () = assert!(ANSWERS_BYTES_MAX > MESSAGE_BYTES && REQUEST_ANSWERS_BYTES_MAX > MESSAGE_BYTES);
const _: () = assert!(SUBSCRIPTION_PAGE_BYTES_MAX > MESSAGE_BYTES);
