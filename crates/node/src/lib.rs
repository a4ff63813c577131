//! The three roles of Tombola as nodes: sockets, disks, clocks and keys around the rules of `tombola-core`.
//!
//! An [`escrow::Escrow`] keeps deposits, a [`payee::Payee`] sells, a [`payer::Payer`] buys. Each opens its store, makes
//! its promises durable before it tells anyone, and ends in good order. Nothing here decides about money: that is done
//! by the state machines of core and ledger, which are told what time it is and what is durable.
//!
//! | module | what |
//! | --- | --- |
//! | [`escrow`], [`payee`], [`payer`] | the roles |
//! | [`loopback`] | all three in one process, for demos, figures and tests |
//! | [`escrow_client`] | an account's connection to its escrow |
//! | [`home`], [`key_file`], [`config`], [`admin`] | a role's directory, key, settings and socket |
//! | [`metrics`] | rates, luck, and the port that Prometheus reads |
//! | [`disk`] | a store file with one writer and group commit |
//! | [`clock`], [`estimate`] | time and randomness; what a purchase is likely to cost |

pub mod admin;
pub mod clock;
pub mod config;
pub mod disk;
pub mod escrow;
pub mod escrow_client;
pub mod estimate;
pub mod home;
pub mod key_file;
pub mod loopback;
mod meter;
pub mod metrics;
pub mod payee;
pub mod payer;
pub mod reset_salt;
mod resubmit;
