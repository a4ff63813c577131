//! soon

