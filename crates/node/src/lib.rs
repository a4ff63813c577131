//! The node.

pub mod admin;
pub mod clock;
pub mod config;
pub mod disk;
pub mod escrow;
pub mod escrow_client;
pub mod estimate;
pub mod home;
pub mod key_file;
pub mod payee;
pub mod payer;
