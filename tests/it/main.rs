//! Integration tests, one binary.

#![allow(clippy::unwrap_used, reason = "a test that fails may stop where it is")]

mod away;
mod chaos;
mod custody;
mod delivery;
mod disks;
mod examples;
mod fairness;
mod flood;
mod format;
mod interop;
mod kill;
mod outage;
mod pair;
mod partition;
mod power;
mod processes;
mod properties;
mod removal;
mod sharing;
mod spec;
mod tidy;
mod vectors;
mod walkthrough;
