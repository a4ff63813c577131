//! Integration tests, one binary.

#![allow(clippy::unwrap_used, reason = "a test that fails may stop where it is")]

mod fairness;
mod pair;
mod properties;
mod spec;
mod tidy;
mod vectors;
