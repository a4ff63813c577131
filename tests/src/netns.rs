//! Payer, payee and escrow on machines of their own, as far as their network goes: three network namespaces, each joined
//! to each by a cable that a test can cut and mend.
//!
//! No interface, address or route of the machine itself is touched. Namespaces need root; where it is missing the tests
//! say what to do, or that they are left out; none is left out silently.

use crate::debian;
use crate::without::is_without;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// What `cargo xtask ci --without` calls these tests.
const NAME: &str = "netns";
/// Makes the namespaces that it is given, and takes away what it has made when its input ends: when the handle is dropped,
/// or when the test is gone, however it went.
const KEEPER: &str = "made=
end() { for one in $made; do ip netns del \"$one\"; done; }
for one in \"$@\"; do
  why=$(ip netns add \"$one\" 2>&1) || { echo \"$why\"; end; exit 1; }
  made=\"$made $one\"
done
echo made
read -r _
end";

/// Who has a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// At 10.77.0.1.
    Payer,
    /// At 10.77.0.2.
    Payee,
    /// At 10.77.0.3.
    Escrow,
}

/// Cables between all three.
const CABLES: [(Party, Party); 3] = [
    (Party::Payer, Party::Payee),
    (Party::Payer, Party::Escrow),
    (Party::Payee, Party::Escrow),
];

impl Party {
    const ALL: [Self; 3] = [Self::Payer, Self::Payee, Self::Escrow];

    const fn name(self) -> &'static str {
        match self {
            Self::Payer => "payer",
            Self::Payee => "payee",
            Self::Escrow => "escrow",
        }
    }

    /// The one address, whichever cable it is reached by.
    #[must_use]
    pub const fn ip(self) -> &'static str {
        match self {
            Self::Payer => "10.77.0.1",
            Self::Payee => "10.77.0.2",
            Self::Escrow => "10.77.0.3",
        }
    }

    /// The hardware address of the end that is plugged in here of the cable to another.
    fn plug(self, to: Self) -> String {
        let digit = |party| match party {
            Self::Payer => 1,
            Self::Payee => 2,
            Self::Escrow => 3,
        };
        format!("02:00:00:00:0{}:0{}", digit(self), digit(to))
    }
}

/// A cable that carries nothing any more delivers to this one, which nobody has.
const NOWHERE: &str = "02:00:00:00:00:00";

/// The three namespaces, gone when dropped.
#[derive(Debug)]
pub struct Net {
    prefix: String,
    keeper: Child,
}

impl Net {
    /// Three namespaces with all cables whole; none with `--without netns`.
    ///
    /// # Panics
    /// Where namespaces cannot be made, with what to do.
    #[must_use]
    pub fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if is_without(NAME) {
            return None;
        }
        need_ip();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("tombola-{}-{number}", std::process::id());
        let keeper = keep(&Party::ALL.map(|party| format!("{prefix}-{}", party.name())));
        let net = Self { prefix, keeper };
        for (one, other) in CABLES {
            net.lay(one, other);
        }
        for party in Party::ALL {
            net.ip(party, &format!("address add {}/32 dev lo", party.ip()));
            net.ip(party, "link set lo up");
        }
        for (one, other) in CABLES {
            net.plug_in(one, other);
            net.plug_in(other, one);
        }
        Some(net)
    }

    /// Does something at a party's place: what it starts there, processes and threads, is there too.
    ///
    /// # Panics
    /// If the place cannot be entered, or the work panics.
    pub fn inside<T: Send>(&self, party: Party, work: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(self.name(party));
        let enter = || {
            let place = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let moved = move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network));
            assert!(moved.is_ok(), "{}: {moved:?}", path.display());
            work()
        };
        // A namespace is a thread's, and this one's thread ends with the work.
        let done = std::thread::scope(|scope| scope.spawn(enter).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// From now on nothing that either sends arrives at the other, and neither is told.
    pub fn cut(&self, one: Party, other: Party) {
        self.address_to(one, other, NOWHERE);
        self.address_to(other, one, NOWHERE);
    }

    /// Everything arrives again.
    pub fn mend(&self, one: Party, other: Party) {
        self.address_to(one, other, &other.plug(one));
        self.address_to(other, one, &one.plug(other));
    }

    fn name(&self, party: Party) -> String {
        format!("{}-{}", self.prefix, party.name())
    }

    /// An end in each of two namespaces, named for whom it leads to.
    fn lay(&self, one: Party, other: Party) {
        let (here, there) = (one.plug(other), other.plug(one));
        let far = format!("peer name {} address {there} netns {}", one.name(), self.name(other));
        self.ip(
            one,
            &format!("link add {} address {here} type veth {far}", other.name()),
        );
    }

    fn plug_in(&self, here: Party, there: Party) {
        self.ip(here, &format!("link set {} up", there.name()));
        let route = format!("{} dev {} src {}", there.ip(), there.name(), here.ip());
        self.ip(here, &format!("route add {route}"));
        self.address_to(here, there, &there.plug(here));
    }

    fn address_to(&self, here: Party, there: Party, plug: &str) {
        let (name, ip) = (there.name(), there.ip());
        self.ip(
            here,
            &format!("neighbour replace {ip} lladdr {plug} dev {name} nud permanent"),
        );
    }

    fn ip(&self, party: Party, what: &str) {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.name(party)]).args(what.split(' '));
        let status = ip.status();
        assert!(status.is_ok_and(|status| status.success()), "{ip:?}");
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // Its input ends, so it takes away what it has made, and ends.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Finds the program `ip`, or installs it where that is possible.
fn need_ip() {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let is_there = || {
        let mut ip = Command::new("ip");
        ip.arg("-V").stdout(Stdio::null()).status().is_ok()
    };
    if !is_there() {
        debian::install("iproute2", NAME);
        assert!(is_there(), "apt-get brought no `ip`; put its directory into PATH");
    }
}

/// Starts the keeper and waits until it has made what it keeps.
fn keep(names: &[String]) -> Child {
    let mut shell = Command::new("sh");
    shell.args(["-c", KEEPER, "keeper"]).args(names);
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // In a group of its own an interrupt from the terminal does not reach it before this process.
    let mut keeper = shell
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("sh: {error}"));
    let mut line = String::new();
    if let Some(out) = keeper.stdout.take() {
        let read = BufReader::new(out).read_line(&mut line);
        assert!(read.is_ok(), "{read:?}");
    }
    if line.trim() != "made" {
        let _ = keeper.wait();
        let sudo = "run the tests as root: `sudo -E env PATH=\"$PATH\" cargo xtask test`";
        let container = "start the container with `--cap-add SYS_ADMIN --cap-add NET_ADMIN`";
        let is_root = rustix::process::geteuid().is_root();
        let advice = if is_root { container } else { sudo };
        panic!(
            "no network namespace can be made here ({}): {advice}, or leave these tests out with \
             `cargo xtask test --without {NAME}`",
            line.trim()
        );
    }
    keeper
}
