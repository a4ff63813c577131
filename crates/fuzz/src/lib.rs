//! Fuzz harnesses: ordinary functions of bytes that panic where a promise of the specification is broken.
//!
//! `cargo xtask fuzz` runs each of them under libfuzzer, from the vectors on. `cargo test -p tombola-fuzz` replays the
//! first inputs and everything in `tests/regressions/fuzz/NAME`, on any toolchain, so that what was found once stays
//! found.
//!
//! | harness | bytes are | what must hold |
//! | --- | --- | --- |
//! | [`decoder()`] | a message, object, row or event | no panic, one encoding of each value |
//! | [`text()`] | what people type | no panic, it reads as it prints |
//! | [`config()`], [`key_file()`], [`extract()`] | a file | no panic, a typed error, or it reads as it is written |
//! | [`certificate()`] | what a peer shows in its handshake | no panic, a key only where the bytes have it |
//! | [`claim()`] | changes to a good claim | the rules agree with a naive reading of the specification |
//! | [`payee_actions()`] | what happens to a payee | winners are covered, durable and paid; each index is drawn once |
//! | [`payer_actions()`] | what happens to a payer | the window keeps to its cap, the journal to what was acknowledged |
//! | [`escrow_actions()`] | commands to an escrow | money is conserved, the audit is clean |
//! | [`quic_peer()`] | streams of a peer | a real payee and a real escrow go on answering |
//! | [`client()`] | lies of payee and escrow | a real payer ends in bounded time, and keeps no more than it was announced |

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a harness says what is broken by panicking"
)]

mod certificate;
mod claim;
mod client;
mod config;
mod decoder;
mod escrow;
mod extract;
mod input;
mod key_file;
mod party;
mod payee;
mod payer;
mod quic;
mod seed;
mod text;

pub use certificate::certificate;
pub use claim::claim;
pub use client::client;
pub use config::config;
pub use decoder::decoder;
pub use escrow::escrow_actions;
pub use extract::extract;
pub use key_file::key_file;
pub use payee::payee_actions;
pub use payer::payer_actions;
pub use quic::quic_peer;
pub use seed::{seeds, write};
pub use text::text;

/// A harness by its name, which is that of its program.
pub type Target = (&'static str, fn(&[u8]));

/// Every harness.
pub const TARGETS: &[Target] = &[
    ("decoder", decoder),
    ("text", text),
    ("config", config),
    ("key_file", key_file),
    ("extract", extract),
    ("certificate", certificate),
    ("claim", claim),
    ("payee_actions", payee_actions),
    ("payer_actions", payer_actions),
    ("escrow_actions", escrow_actions),
    ("quic_peer", quic_peer),
    ("client", client),
];
