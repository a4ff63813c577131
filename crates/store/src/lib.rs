//! The ledger's stores: [`RedbStore`](redb_store::RedbStore), embedded and durable,
//! [`PostgresStore`](postgres_store::PostgresStore), a database that several processes share, and
//! [`ModelStore`](model::ModelStore), in memory, the oracle that the others are compared with.
//! [`EscrowStore`](escrow_store::EscrowStore) is whichever of the first two an escrow was told to use.
//!
//! A store knows rows as bytes with a version and nothing of what they mean. The embedded ones are blocking and answer
//! at once, so their futures are ready at the first poll; those of a database are ready when a runtime elsewhere has
//! the answer. Run the ledger on a thread of its own with [`block_on`](block_on::block_on), where an fsync or a round
//! trip keeps nobody else waiting.

pub mod block_on;
pub mod escrow_store;
pub mod model;
pub mod postgres_store;
pub mod redb_file;
pub mod redb_store;
