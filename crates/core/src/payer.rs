//! The payer's rules: what a purchase may cost, issuing books, the window of unacknowledged tickets, and the audit.
//!
//! A payer's money leaves it only through its holds, which its escrow enforces. What is left to it is to choose a hold
//! and a book ([`plan()`]), to pay no further ahead than it wants to trust a payee ([`Window`]), and to check
//! afterwards that every draw it was charged for really won ([`audit_charge`]).

mod audit;
mod issuer;
mod plan;
#[cfg(test)]
mod tests;
mod window;

pub use audit::{Audited, ChargeFault, JournalRow, audit_charge};
pub use issuer::PayerBook;
pub use plan::{HoldLimits, PlanError, Purchase, Terms, plan};
pub use window::{Shortfall, Window};
