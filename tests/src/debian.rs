//! Programs of the distribution that a test needs and this machine lacks.

use std::path::Path;
use std::process::Command;

/// Installs a package where that is possible: as root, with apt-get.
///
/// # Panics
/// Where it is not, with what to do: `without` is the name by which `cargo xtask ci --without` leaves these tests out.
pub fn install(package: &str, without: &str) {
    let is_debian = Path::new("/usr/bin/apt-get").exists();
    assert!(
        is_debian && rustix::process::geteuid().is_root(),
        "there is no {package} here. Run `sudo apt-get install -y {package}`, or leave these tests out with \
         `cargo xtask ci --without {without}`"
    );
    println!("there is no {package} here; running `apt-get install -y {package}`");
    let lock = ["-o", "DPkg::Lock::Timeout=300"];
    for arguments in [&["update", "-q"][..], &["install", "-y", "-q", package][..]] {
        let mut apt = Command::new("apt-get");
        let status = apt
            .args(lock)
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{apt:?}");
    }
}
