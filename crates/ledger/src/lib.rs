//! The escrow's double-entry ledger: commands in, postings out, over a [`Store`](store::Store); pure.
//!
//! A [`Ledger`](ledger::Ledger) is the one writer of a store. It decides a whole batch of commands against loaded rows,
//! each command seeing what the ones before it did, commits once, and only then tells the outcomes: no answer leaves
//! before the fact it states is durable. It makes and checks no signature: what came from outside was verified
//! beforehand on other cores ([`request::VerifiedRequest`]), and answers leave as drafts to be signed there too
//! ([`draft::Draft`]). It has no clock and starts no thread: time is an argument, and the futures are those of its store.
//!
//! | module | what |
//! | --- | --- |
//! | [`request`], [`holds`] | what was verified beforehand, and the holds that needs |
//! | [`ledger`] | the writer: commands, outcomes, group commit |
//! | [`draft`] | answers whose signatures are still blank |
//! | [`event`], [`audit`], [`extract`] | the log, its replay from zero, and parts of it that anyone can check |
//! | [`query`] | answers that change nothing, from any reader |
//! | [`store`], [`key`], [`row`] | what a store must do, and what is in it |
//!
//! Invariants, asserted at each event in release builds: postings sum to zero; no row goes negative; for each account
//! balance + held + pending = credits - debits; deposits = balances + held + fees + pending + withdrawn.

#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        reason = "tests compute on small numbers"
    )
)]

/// Stops the program on a violated invariant: our bug, never a peer's or a disk's. Active in release builds.
macro_rules! invariant {
    ($holds:expr, $($what:tt)+) => {
        assert!($holds, $($what)+)
    };
}

pub mod audit;
mod decide;
pub mod draft;
pub mod event;
pub mod extract;
mod fold;
pub mod holds;
pub mod key;
pub mod keys;
pub mod ledger;
mod pages;
mod prefetch;
pub mod query;
pub mod request;
pub mod row;
pub mod store;
mod view;
