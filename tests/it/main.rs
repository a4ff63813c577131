//! Integration tests, one binary.

mod spec;
mod tidy;
mod vectors;
