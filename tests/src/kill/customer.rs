//! A payer that buys one file after another, each until it is whole.

use super::shop::{Place, SURE, UNIT, UNITS};
use crate::dice::Dice;
use crate::process::{Node, Running, Signal, Town, atoms, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is paid in.
pub(super) const DEPOSIT: &str = "1000000";
/// The ceiling of a purchase, far above its cost.
const CEILING: &str = "8";
/// One file takes no longer, over however many blows.
const PATIENCE: Duration = Duration::from_secs(600);
/// Before a command that failed is repeated.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a command is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// What a command ends with that was killed.
const KILLED: i32 = -1;

/// What may be told of a peer that was struck, by exit code and code.
const TOLD: [(i32, &str); 5] = [
    (4, "payee_away"),
    (4, "escrow_away"),
    (1, "node_lost"),
    // Of a payee that cannot ask its escrow about a new hold.
    (1, "hold_unchecked"),
    // Of a hold that is full of winners, as its payee cannot redeem them for so long.
    (3, "ceiling_reached"),
];

/// One payer.
#[derive(Debug)]
pub(super) struct Customer<'a> {
    town: &'a Town,
    pub(super) home: String,
    /// Whether it works through a payer node.
    has_node: bool,
    hands: Mutex<Hands>,
    /// Units of the files that are whole, and those files.
    units: AtomicU64,
    files: AtomicU64,
    pub(super) seen: Mutex<Seen>,
}

/// Its processes.
#[derive(Debug, Default)]
struct Hands {
    node: Option<Node>,
    command: Option<Running>,
    partial: Option<PathBuf>,
    sure: SurePurchases,
}

/// Its purchases where every ticket wins.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct SurePurchases {
    begun: u64,
    ended: u64,
}

impl Hands {
    /// The command, if it has not ended.
    fn running(&mut self) -> Option<&Running> {
        let command = self.command.as_mut()?;
        command.is_running().then_some(command)
    }
}

/// What it saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Units that it bought where every ticket wins.
    pub(super) sure_units: u64,
    /// How often it or that payee was struck while it bought there: each time a window of tickets may be paid in vain.
    pub(super) lost_windows: u64,
    /// The largest cap that it was shown of each hold, in atomic units.
    pub(super) holds: BTreeMap<String, u64>,
    /// What failing commands told, and how often.
    pub(super) told: BTreeMap<String, u64>,
}

impl<'a> Customer<'a> {
    /// One with a deposit; the first has a node.
    pub(super) fn new(town: &'a Town, escrow: &Node, n: usize) -> Self {
        let home = format!("payer-{n}");
        town.payer(&home, escrow, DEPOSIT);
        let customer = Self {
            town,
            home,
            has_node: n == 0,
            hands: Mutex::default(),
            units: AtomicU64::new(0),
            files: AtomicU64::new(0),
            seen: Mutex::default(),
        };
        customer.hands().node = customer.start_node();
        customer
    }

    fn start_node(&self) -> Option<Node> {
        let home = self.town.arg(&self.home);
        self.has_node.then(|| Node::start(&["payer", "run", "--home", &home]))
    }

    /// Buys until it is told to end, and then finishes what it has begun.
    pub(super) fn shop(&self, places: &[Place], mut dice: Dice, is_over: &AtomicBool, interrupted: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            let one = dice.index(places.len());
            let Some(place) = places.get(one) else { return };
            let sure = u64::from(one == SURE);
            self.hands().sure.begun += sure;
            let Some(output) = self.buy(place, interrupted) else {
                return;
            };
            self.hands().sure.ended += sure;
            let arrived = std::fs::read(&output).unwrap_or_default();
            assert!(arrived == place.content, "{} is not what was sold", output.display());
            // Another one is bought under another name; this one is no longer of use.
            let _ = std::fs::remove_file(&output);
            if one == SURE {
                self.seen().sure_units += UNITS;
            }
            self.look_at_holds(interrupted);
        }
    }

    /// Repeats a download until it is whole; none if it is told to end.
    fn buy(&self, place: &Place, interrupted: &AtomicBool) -> Option<PathBuf> {
        let name = format!("{}-{}", self.home, self.files.load(Ordering::Relaxed));
        let (output, home) = (self.town.arg(&name), self.town.arg(&self.home));
        let get = [
            "payer",
            "get",
            &place.url,
            "-o",
            &output,
            "--spend-max",
            CEILING,
            "--home",
            &home,
        ];
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "{output} is not whole after {PATIENCE:?}");
            self.hands().partial = Some(PathBuf::from(format!("{output}.part")));
            let (code, told) = self.carry_out(&get, interrupted)?;
            match code {
                0 => break,
                // It was killed between giving the file its name and saying so.
                KILLED if Path::new(&output).exists() => break,
                KILLED => {}
                code => {
                    self.hear(code, &told);
                    std::thread::sleep(PAUSE);
                }
            }
        }
        self.units.fetch_add(UNITS, Ordering::Relaxed);
        self.hands().partial = None;
        self.files.fetch_add(1, Ordering::Relaxed);
        Some(PathBuf::from(output))
    }

    /// What a command comes to; others may strike it meanwhile. None if all is told to end.
    fn carry_out(&self, args: &[&str], interrupted: &AtomicBool) -> Option<(i32, Value)> {
        let mut hands = self.hands();
        // Under the lock: whoever strikes a node keeps commands away until there is another.
        hands.command = Some(Running::start(args));
        drop(hands);
        loop {
            let mut hands = self.hands();
            if hands.running().is_none() {
                let ended = hands.command.take();
                drop(hands);
                return ended.map(Running::finish);
            }
            if interrupted.load(Ordering::Relaxed) {
                *hands = Hands::default();
                return None;
            }
            drop(hands);
            std::thread::sleep(LOOK);
        }
    }

    /// A failure says what it is, both numbers where it has any, and what to do next; and it is one that was to be.
    fn hear(&self, code: i32, told: &Value) {
        let error = told.get("error").unwrap_or(told);
        let name = text(error, "code");
        assert!(TOLD.contains(&(code, name)), "{code}: {told}");
        assert!(
            !text(error, "message").is_empty() && !text(error, "next").is_empty(),
            "{told}"
        );
        assert_eq!(error.get("need").is_some(), error.get("has").is_some(), "{told}");
        *self.seen().told.entry(format!("{code} {name}")).or_default() += 1;
    }

    /// Keeps what the escrow says of its holds, if it is there.
    fn look_at_holds(&self, interrupted: &AtomicBool) {
        let args = ["payer", "balance", "--home", &self.town.arg(&self.home)];
        let told = match self.carry_out(&args, interrupted) {
            Some((0, told)) => told,
            Some((KILLED, _)) | None => return,
            Some((code, told)) => return self.hear(code, &told),
        };
        let mut seen = self.seen();
        for hold in told.get("holds").and_then(Value::as_array).into_iter().flatten() {
            let most = seen.holds.entry(text(hold, "hold").to_owned()).or_default();
            *most = atoms(hold, "cap").max(*most);
        }
    }

    /// Kills its node, which is started again, or its command. Says whether there was one.
    pub(super) fn kill(&self) -> bool {
        let mut hands = self.hands();
        if let Some(node) = hands.node.take() {
            node.kill();
            // The command is told so, and would otherwise do the work itself and keep the next node out.
            while hands.running().is_some() {
                std::thread::sleep(LOOK);
            }
            hands.node = self.start_node();
        } else {
            let Some(command) = hands.running() else { return false };
            command.signal(Signal::KILL);
        }
        true
    }

    /// Sends a signal to its node, or to its command. Says whether there was one.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        let mut hands = self.hands();
        if let Some(node) = &hands.node {
            node.signal(signal);
        } else {
            let Some(command) = hands.running() else { return false };
            command.signal(signal);
        }
        true
    }

    /// What it has begun to buy where every ticket wins, and has.
    pub(super) fn sure_purchases(&self) -> SurePurchases {
        self.hands().sure
    }

    /// It or that payee was struck since then: what it bought there at that moment may have lost a window.
    pub(super) fn was_struck_since(&self, before: SurePurchases) {
        if before.begun > before.ended || self.sure_purchases().begun > before.begun {
            self.seen().lost_windows += 1;
        }
    }

    /// Units that arrived so far.
    pub(super) fn units(&self) -> u64 {
        let hands = self.hands();
        let arrived = hands.partial.as_deref().map_or(0, units_in);
        arrived + self.units.load(Ordering::Relaxed)
    }

    /// Files that arrived whole.
    pub(super) fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    pub(super) fn end(self) {
        let hands = self.hands.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = hands.node {
            assert_eq!(node.end(Signal::TERM), 0, "{}", self.home);
        }
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn units_in(partial: &Path) -> u64 {
    let bytes = std::fs::metadata(partial).map_or(0, |found| found.len());
    bytes / u64::try_from(UNIT).unwrap_or(1)
}
