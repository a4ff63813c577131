//! The payee.
