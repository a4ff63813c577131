//! The payer's rules, one claim a test.
