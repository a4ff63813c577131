//! Core dumps off: a dump would put every key and passphrase on a disk.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use std::io;

/// Lets no core dump of this process be written from now on, and no other process of this user look into its memory.
///
/// # Errors
/// What the system said.
pub fn forbid_core_dumps() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    // Even with a limit of 0 the system would pipe a dump into a program that collects them.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
