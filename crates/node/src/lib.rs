//! The node.

pub mod admin;
pub mod config;
pub mod home;
pub mod key_file;
