//! The ledger over its stores: what must hold over each of them, and that they never differ.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop where something is not as expected"
)]

mod audit;
mod between;
mod conformance;
mod contention;
mod disks;
mod durability;
mod extracts;
mod fees;
mod machine;
mod meddled;
mod money;
mod postgres;
mod pruning;
mod recovery;
mod requests;
mod rot;
mod rules;
mod signers;
mod splits;
mod stores;
mod world;
mod writers;
