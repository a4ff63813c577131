//! Every limit of the protocol, each with its reason. Spec: L-01.

use crate::amount::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};

/// Longest book. 65,536 tickets walk and draw in 7 ms, which bounds the work one claim can cost an escrow.
pub const BOOK_LENGTH_MAX: u32 = 65_536;
/// Default longest book: its signature costs each ticket 6 ns, and a payer's chain takes 10 KiB.
pub const BOOK_LENGTH_DEFAULT: u32 = 4_096;
/// Default farthest jump between tickets: one bogus record makes a payee hash at most this often (0.2 ms).
pub const JUMP_DEFAULT: u32 = 4_096;
/// Open books of one hold: a payer's parallel streams, and a bound on a payee's memory per payer.
pub const OPEN_BOOKS_PER_HOLD_MAX: usize = 64;
/// Opened quote ids kept at once; when full, opening is refused rather than an id forgotten.
pub const OPENED_QUOTES_MAX: usize = 1 << 20;
/// Holds a payee keeps state of at once; of as many that have ended it remembers that they have.
pub const HOLDS_MAX: usize = 1 << 20;
/// Books one payer may open at a payee per second: each costs the payee one signature check (25 us).
pub const OPENS_PER_SECOND_MAX: u32 = 20_000;
/// How long a quote may live: the payee keeps its id that long.
pub const QUOTE_LIFE_MS: u64 = 60 * SECOND_MS;
/// A quoting secret is replaced this often.
pub const QUOTE_EPOCH_MS: u64 = 24 * HOUR_MS;
/// A payee takes no ticket this close to the expiry of a hold.
pub const EXPIRY_MARGIN_MS: u64 = 60 * SECOND_MS;
/// The least time between `expires_at` and `redeem_by`.
pub const REDEEM_WINDOW_MIN_MS: u64 = 24 * HOUR_MS;
/// The default time between `expires_at` and `redeem_by`.
pub const REDEEM_WINDOW_DEFAULT_MS: u64 = 7 * DAY_MS;
/// The default life of a hold.
pub const HOLD_LIFE_DEFAULT_MS: u64 = 30 * DAY_MS;
/// The longest an escrow promises anything: expiry and redeem_by lie within it.
pub const HOLD_LIFE_MAX_MS: u64 = 400 * DAY_MS;
/// The longest time from a hold's opening to its redeem_by that a payee accepts by default: twice what payers ask for by
/// default, and more.
pub const HOLD_LIFE_ACCEPTED_MS: u64 = 90 * DAY_MS;
/// An escrow expires a hold this long after `redeem_by`, so that a claim in flight still lands.
pub const EXPIRE_GRACE_MS: u64 = 5 * MINUTE_MS;
/// An escrow expires holds only after serving claims without a gap for this long: an outage costs no payee its winners.
pub const EXPIRE_SERVED_MS: u64 = HOUR_MS;
/// Two signs of life of an escrow that lie farther apart are a gap in its serving; its driver gives one twice as often.
pub const SERVED_GAP_MS: u64 = MINUTE_MS;
/// A wall clock that is farther than this from what the ticking one makes of it has jumped: below it, a hold that expires
/// too early does so within its grace.
pub const CLOCK_JUMP_MAX_MS: u64 = 5 * MINUTE_MS;
/// How fast small steps of a wall clock are forgotten, in millionths of the time that passes: twice what NTP slews at most.
pub const CLOCK_FOLLOWED_PPM: u64 = 1_000;
/// Open holds of one account.
pub const OPEN_HOLDS_PER_ACCOUNT_MAX: u32 = 1_000;
/// A book without a new ticket for this long, with nothing owed, is closed.
pub const BOOK_IDLE_MS: u64 = 60 * SECOND_MS;
/// A hold without open book, winner or debt for this long is released.
pub const HOLD_IDLE_MS: u64 = 10 * MINUTE_MS;
/// A hold opened less than this after the payee's store was made or restored is checked with the escrow first.
pub const HOLD_CHECK_MS: u64 = 10 * MINUTE_MS;
/// A request issued longer ago is refused.
pub const REQUEST_AGE_MAX_MS: u64 = 24 * HOUR_MS;
/// A request issued farther ahead is refused.
pub const REQUEST_AHEAD_MAX_MS: u64 = 5 * MINUTE_MS;
/// The answer of an accepted request is kept this long and repeated byte for byte.
pub const ANSWER_KEPT_MS: u64 = 48 * HOUR_MS;
/// Ended holds with their books, and settled withdrawals, are kept this long: whoever was away for a month still gets
/// its last receipt, and a file of payout results can be imported again. Their entries of statements stay.
pub const ENDED_KEPT_MS: u64 = 30 * DAY_MS;
/// Claims of one batch: 128 x 248 bytes stay below one message.
pub const CLAIMS_PER_BATCH_MAX: usize = 128;
/// Items of one page of an answer: 100 x 300 bytes stay below one message.
pub const PAGE_ITEMS_MAX: usize = 100;
/// Bytes of a service name.
pub const SERVICE_BYTES_MAX: usize = 512;
/// Bytes of a reference or destination.
pub const REFERENCE_BYTES_MAX: usize = 128;
/// Escrows one quote may name.
pub const ESCROWS_MAX: usize = 8;
/// Payees one delegation may name.
pub const PAYEES_MAX: usize = 32;
/// Delegated signers that one account's ledger remembers: devices and tills of one owner.
pub const SIGNERS_PER_ACCOUNT_MAX: u32 = 1_000;
/// Accounts among which one payee's credits are divided: each is a posting of every claim.
pub const SHARES_MAX: usize = 32;
/// All shares of a split together, in millionths.
pub const SHARES_PPM_MAX: u64 = 1_000_000;
/// The shortest schedule of a payout policy, and the least time between two payouts of one: each is a payment of the operator's.
pub const PAYOUT_EVERY_MIN_MS: u64 = HOUR_MS;
/// Pieces of evidence in one request: 64 x 464 bytes stay below one message.
pub const EVIDENCE_MAX: usize = 64;
/// The highest epoch of an escrow: the part of a hold's serial that counts rollbacks has 24 bits.
pub const EPOCH_MAX: u32 = (1 << 24) - 1;
/// Subscriptions of one connection: a bound on the readers that one peer keeps busy.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 8;
/// Entries that may wait for a slow subscriber before it is cut off.
pub const SUBSCRIPTION_LAG_MAX: u64 = 1_000;
/// Bytes of one unit of a file service.
pub const UNIT_BYTES_MAX: u32 = 1 << 24;
/// A payer's unacknowledged tickets are worth at most this many prices, or one face value if that is more.
pub const WINDOW_PRICES_DEFAULT: u64 = 64;
/// Hashes that requests on the connections of one key may cost an escrow per second: claims of 1,000
/// tickets at 2,950 a second in batches of 128, at 2,160 one by one. Spec: N-11.
pub const HASHES_PER_PAYEE_PER_SECOND: u64 = 8_000_000;

// A kept answer must outlive the oldest request that can still be repeated.
const _: () = assert!(ANSWER_KEPT_MS > REQUEST_AGE_MAX_MS + REQUEST_AHEAD_MAX_MS);
// A quote's id is kept until it expires, by the secret of its own epoch.
const _: () = assert!(QUOTE_LIFE_MS < QUOTE_EPOCH_MS);
// A clock that is believed expires no hold before its `redeem_by` by the one that ticks.
const _: () = assert!(CLOCK_JUMP_MAX_MS <= EXPIRE_GRACE_MS);
const _: () = assert!(HOLD_LIFE_DEFAULT_MS + REDEEM_WINDOW_DEFAULT_MS <= HOLD_LIFE_ACCEPTED_MS);
const _: () = assert!(HOLD_LIFE_ACCEPTED_MS <= HOLD_LIFE_MAX_MS);
const _: () = assert!(BOOK_LENGTH_DEFAULT <= BOOK_LENGTH_MAX);
// Batches and pages fit one message with room for their envelope.
const _: () = assert!(CLAIMS_PER_BATCH_MAX * 400 < crate::codec::MESSAGE_BYTES_MAX);
const _: () = assert!(PAGE_ITEMS_MAX * 400 < crate::codec::MESSAGE_BYTES_MAX);
// Evidence fits one message with room for its envelope.
const _: () = assert!(EVIDENCE_MAX * 500 < crate::codec::MESSAGE_BYTES_MAX);
