//! Support for the integration tests and for `cargo xtask`: the vectors, and the checks of spec against code.
//!
//! Of our crates the library stands on core and net alone; what drives nodes in this process is in `it/`.

pub mod cargo;
pub mod chaos;
pub mod codes;
pub mod debian;
pub mod dice;
pub mod disk;
pub mod faketime;
pub mod faulty;
pub mod flood;
pub mod kill;
pub mod netns;
pub mod postgres;
pub mod process;
pub mod recorded;
pub mod rot;
pub mod secrets;
pub mod spec;
pub mod sure;
pub mod vectors;
pub mod without;
pub mod writers;

use std::path::{Path, PathBuf};

/// The root of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Every file below a directory whose name ends in one of `extensions`, in order of their paths.
///
/// # Errors
/// Whatever reading a directory gives.
pub fn files_below(directory: &Path, extensions: &[&str]) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(&next)? {
            let path = entry?.path();
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if path.is_dir() {
                pending.push(path);
            } else if extensions.contains(&extension) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
