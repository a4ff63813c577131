//! The escrow's rules.
