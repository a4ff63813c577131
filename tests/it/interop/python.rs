//! Python with the pinned packages, in a virtual environment below the target directory.

use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use tombola_tests::process::text;
use tombola_tests::workspace;

/// The oldest Python that the second implementation is written for.
const VERSION_MIN: (u32, u32) = (3, 11);

/// Runs the second implementation to its end: its one object.
///
/// # Panics
/// If it fails.
pub(super) fn ask(args: &[&str]) -> Value {
    finish(&[&["-m", "tombola_interop"], args].concat())
}

/// The families of a metrics port, as a strict parser reads them.
///
/// # Panics
/// If it does not answer, or not in OpenMetrics.
pub(super) fn scrape(url: &str) -> Value {
    let script = interop().join("openmetrics.py").display().to_string();
    finish(&[&script, url])
}

fn finish(args: &[&str]) -> Value {
    let mut command = Command::new(interpreter());
    command.args(args).stdin(Stdio::null());
    // Nothing is written into the sources.
    command.env("PYTHONPATH", interop()).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.output().unwrap();
    let (printed, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{args:?}: {printed}{errors}");
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{args:?}: {error}: {printed:?}"))
}

/// The account of a seed.
pub(super) fn account(seed: &str) -> String {
    text(&ask(&["account", "--seed", seed]), "account").to_owned()
}

fn interop() -> PathBuf {
    workspace().join("tests/interop")
}

/// The interpreter of the virtual environment, made once for each version of `requirements.txt`.
fn interpreter() -> &'static Path {
    static INTERPRETER: OnceLock<PathBuf> = OnceLock::new();
    INTERPRETER.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        // TARGET/PROFILE/deps/TEST
        let target = test.ancestors().nth(3).unwrap();
        // Other tests may be processes of their own.
        let lock = File::create(target.join("interop.lock")).unwrap();
        lock.lock().unwrap();
        let home = target.join("interop");
        let wanted = fs::read(interop().join("requirements.txt")).unwrap();
        let (interpreter, made_for) = (home.join("bin/python"), home.join("made-for"));
        let is_there = fs::read(&made_for).is_ok_and(|has| has == wanted) && is_usable(&interpreter);
        if !is_there {
            make(&home, &interpreter);
            fs::write(made_for, wanted).unwrap();
        }
        interpreter
    })
}

/// An environment without what is pinned is of no use, and one whose Python was removed neither.
fn is_usable(interpreter: &Path) -> bool {
    let mut imports = Command::new(interpreter);
    imports
        .args(["-c", "import aioquic, cryptography, prometheus_client"])
        .stderr(Stdio::null());
    imports.status().is_ok_and(|status| status.success())
}

fn make(home: &Path, interpreter: &Path) {
    find();
    if home.exists() {
        fs::remove_dir_all(home).unwrap();
    }
    let (home, requirements) = (home.as_os_str(), interop().join("requirements.txt"));
    run(Command::new("python3").args(["-m", "venv"]).arg(home));
    let mut install = Command::new(interpreter);
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
        "-r",
    ]);
    run(install.arg(requirements));
}

/// Finds Python with its `venv`, or installs both where that is possible.
fn find() {
    if is_installed() {
        return;
    }
    let (major, minor) = VERSION_MIN;
    let install = "apt-get install -y python3 python3-venv";
    let can_install = Path::new("/usr/bin/apt-get").exists() && rustix::process::geteuid().is_root();
    assert!(
        can_install,
        "there is no Python {major}.{minor} or later with venv here. Run `sudo {install}` or put one into PATH as \
         python3, or leave these tests out with `cargo xtask ci --without interop`"
    );
    println!("there is no Python {major}.{minor} or later with venv here; running `{install}`");
    for arguments in [
        &["update", "-q"][..],
        &["install", "-y", "-q", "python3", "python3-venv"][..],
    ] {
        let mut apt = Command::new("apt-get");
        apt.args(["-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        run(apt.env("DEBIAN_FRONTEND", "noninteractive"));
    }
    assert!(
        is_installed(),
        "`{install}` did not bring Python {major}.{minor} or later with venv"
    );
}

fn is_installed() -> bool {
    let (major, minor) = VERSION_MIN;
    let check = format!("import ensurepip, venv, sys; sys.exit(sys.version_info < ({major}, {minor}))");
    let mut python = Command::new("python3");
    let status = python
        .args(["-c", &check])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}
