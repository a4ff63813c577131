//! The eight properties, and storms over all of them.
//!
//! Each test names the check that it watches, as `file::function`; without that check it fails.

mod money;
mod payee;
mod storm;
