//! The ledger's stores: [`RedbStore`](redb_store::RedbStore), embedded and durable, and
//! [`ModelStore`](model::ModelStore), in memory, the oracle that the other one is compared with.
//!
//! A store knows rows as bytes with a version and nothing of what they mean. Both are blocking and answer at once, so
//! their futures are ready at the first poll: run the ledger on a thread of its own with
//! [`block_on`](block_on::block_on), where an fsync keeps nobody else waiting.

pub mod block_on;
pub mod model;
pub mod redb_store;
