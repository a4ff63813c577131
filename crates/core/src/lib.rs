//! The Tombola protocol: probabilistic micropayments by lottery tickets, as a library without I/O.
//!
//! A payer hands over tickets whose expected value is the price. Nearly all lose and never leave the two parties; the
//! few that win are redeemed against the issuer's escrow. This crate has the objects, the codec, the hash chain, the
//! draw, and the rules of payer, payee and escrow as state machines.
//!
//! It has no clock, no socket, no disk, no thread, no `async` and no randomness of its own: time and random bytes are
//! arguments, and nothing that depends on a fact being durable leaves a state machine before its driver has said that
//! the fact is. So the same code runs in the node, in a simulator and in a fuzzer.
//!
//! ```
//! use tombola_core::{amount::Amount, chain::{Chain, Preimage}, odds::Threshold};
//!
//! // A ticket worth 0.0001 that pays 0.10 when it wins: one in a thousand does.
//! let threshold = Threshold::for_price(Amount(100_000), Amount(100_000_000))?;
//! assert_eq!(threshold.tickets_per_win(), 1_000);
//! // In real life the secret comes fresh from the operating system for each book.
//! let mut chain = Chain::new(Preimage([7; 32]), 4_096);
//! assert!(chain.preimage(1).is_some());
//! # Ok::<(), tombola_core::odds::BadTerms>(())
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`amount`], [`key`], [`codec`], [`limits`], [`reject`] | the ground: money, time, keys, bytes, bounds, errors |
//! | [`chain`], [`draw`], [`odds`] | the lottery |
//! | [`hold`], [`quote`], [`book`], [`claim`] | the signed objects and the rules that read only them |
//! | [`message`] | the wire |
//! | [`payer`], [`payee`], [`escrow`] | the three parties' rules |

#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, reason = "tests compute on small numbers")
)]

pub mod amount;
pub mod book;
pub mod chain;
pub mod claim;
pub mod codec;
pub mod draw;
pub mod escrow;
pub mod hold;
pub mod key;
pub mod limits;
pub mod message;
pub mod odds;
pub mod payee;
pub mod payer;
pub mod quote;
pub mod reject;
