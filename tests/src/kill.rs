//! An escrow, two payees and three payers at work, all of them the real program, whose processes are killed or stopped
//! at random moments; and what was promised to anybody, compared with the books in the end.
//!
//! Nobody waits for a process that is struck: downloads are repeated until they are whole, claims go on by themselves.
//! A seed decides who is struck and how long after the work went on; what runs at that moment is up to the machine.

mod books;
mod customer;
mod shop;

use crate::dice::Dice;
use crate::postgres::Server;
use crate::process::{Signal, Town, number};
use crate::writers::Writers;
use customer::Customer;
use shop::{SURE, Shop};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tombola_net::limits::IDLE_TIMEOUT;

/// One works through a payer node, the others by commands alone.
const CUSTOMERS: usize = 3;
/// After a blow, work must go on within this, however many timeouts are waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the work is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// The next blow comes at the earliest after so many units more.
const UNITS_BETWEEN: u64 = 5;
/// And at random within as many more.
const UNITS_MORE: u64 = 60;
/// And then at random within so many microseconds: anywhere in a commit.
const MOMENT_US: u64 = 20_000;

/// Where the escrow keeps its books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// One process with a file.
    File,
    /// Two processes with a database.
    Database,
}

/// What is done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL, and it is started again.
    Kill,
    /// SIGSTOP, and SIGCONT so long after.
    Pause(Duration),
}

impl Blow {
    /// Whether peers count who is struck as gone; one that says nothing for as long as a connection may idle is.
    fn cuts_connections(self) -> bool {
        match self {
            Self::Kill => true,
            Self::Pause(time) => time >= IDLE_TIMEOUT,
        }
    }
}

/// What is done, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Where the escrow keeps its books.
    pub store: Store,
    /// What is done to a process.
    pub blow: Blow,
    /// How often. Pauses go round: each process in turn.
    pub blows: u32,
    /// Decides who is struck, and when.
    pub seed: u64,
}

/// How far it is.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Tally {
    /// Blows so far, by who was struck.
    pub blows: BTreeMap<String, u32>,
    /// Units that arrived, each paid by a ticket.
    pub units: u64,
    /// Claims that the escrow has paid.
    pub claims: u64,
    /// Files that arrived whole.
    pub files: u64,
}

impl Tally {
    /// Blows in all.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.blows.values().sum()
    }
}

/// What was seen; nothing of it was wrong.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// Decides who was struck, and when.
    pub seed: u64,
    /// How long it took, in seconds, the checks included.
    pub seconds: f64,
    /// What was done.
    pub tally: Tally,
    /// Tickets charged, and the units that they brought, where every ticket wins.
    pub charged_for_units: (u64, u64),
    /// Winners that the payees have receipts for.
    pub winners: u64,
    /// What failing commands told: exit code and code, and how often.
    pub told: BTreeMap<String, u64>,
}

/// Why a run has no report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// It was told to end.
    Interrupted,
    /// There is no PostgreSQL, by `TOMBOLA_WITHOUT`.
    NoDatabase,
}

/// Strikes one process after another while all work, and then compares every promise with the books.
///
/// # Errors
/// [`Unfinished`]; nothing of it is left running.
///
/// # Panics
/// If a promise was broken, or work does not go on.
pub fn run(options: &Options, interrupted: &AtomicBool, tell: &mut dyn FnMut(&Tally)) -> Result<Report, Unfinished> {
    let began = Instant::now();
    let town = Town::new();
    let writers = match options.store {
        Store::File => Writers::with_file(&town),
        Store::Database => {
            let server = Server::shared().ok_or(Unfinished::NoDatabase)?;
            Writers::with_database(&town, &server.database())
        }
    };
    // With two processes, payers and payees talk to different ones.
    let (Some(first), Some(last)) = (writers.nodes().first(), writers.nodes().last()) else {
        return Err(Unfinished::NoDatabase);
    };
    let shops = Shop::all(&town, last);
    let customers: Vec<_> = (0..CUSTOMERS).map(|n| Customer::new(&town, first, n)).collect();
    let places: Vec<_> = shops.iter().map(Shop::place).collect();
    let mut world = World {
        town: &town,
        writers,
        shops,
        customers: &customers,
        interrupted,
        tally: Tally::default(),
        dice: Dice::new(options.seed),
    };
    let is_over = AtomicBool::new(false);
    let struck = std::thread::scope(|scope| {
        // Whatever ends this, a broken promise included, ends the customers.
        let _ending = Ending(&is_over);
        for customer in &customers {
            let (places, is_over, dice) = (&places, &is_over, Dice::new(world.dice.draw()));
            scope.spawn(move || customer.shop(places, dice, is_over, interrupted));
        }
        world.strike_often(options, tell)
    });
    struck?;
    world.tally.files = customers.iter().map(Customer::files).sum();
    world.tally.units = world.units();
    let compared = books::compare(&town, &world.writers, &mut world.shops, &customers);
    world.tally.claims = compared.claims;
    let World {
        writers, shops, tally, ..
    } = world;
    customers.into_iter().for_each(Customer::end);
    shops.into_iter().for_each(Shop::end);
    writers.end();
    Ok(Report {
        seed: options.seed,
        seconds: began.elapsed().as_secs_f64(),
        tally,
        charged_for_units: compared.charged_for_units,
        winners: compared.winners,
        told: compared.told,
    })
}

/// Says that the work is over.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Who can be struck.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Escrow(usize),
    Payee(usize),
    Payer(usize),
}

impl Victim {
    /// Whether that customer may lose tickets that it has sent where every ticket wins.
    fn may_cost(self, customer: usize) -> bool {
        match self {
            Self::Escrow(_) => false,
            Self::Payee(n) => n == SURE,
            Self::Payer(n) => n == customer,
        }
    }

    const fn role(self) -> &'static str {
        match self {
            Self::Escrow(_) => "escrow",
            Self::Payee(_) => "payee",
            Self::Payer(_) => "payer",
        }
    }
}

/// All processes, and who strikes them.
struct World<'a> {
    town: &'a Town,
    writers: Writers,
    shops: Vec<Shop>,
    customers: &'a [Customer<'a>],
    interrupted: &'a AtomicBool,
    tally: Tally,
    dice: Dice,
}

impl World<'_> {
    fn strike_often(&mut self, options: &Options, tell: &mut dyn FnMut(&Tally)) -> Result<(), Unfinished> {
        while self.tally.total() < options.blows {
            let more = UNITS_BETWEEN + self.dice.below(UNITS_MORE);
            self.await_units(more)?;
            let victim = self.victim(options.blow);
            self.shops.iter_mut().for_each(|shop| shop.promises(self.town));
            // Units come after acknowledgements; the blow is to come anywhere in what follows. This waits for nothing.
            std::thread::sleep(Duration::from_micros(self.dice.below(MOMENT_US)));
            let before: Vec<_> = self.customers.iter().map(Customer::sure_purchases).collect();
            if !self.strike(victim, options.blow)? {
                continue;
            }
            for (n, (customer, before)) in self.customers.iter().zip(before).enumerate() {
                if options.blow.cuts_connections() && victim.may_cost(n) {
                    customer.was_struck_since(before);
                }
            }
            *self.tally.blows.entry(victim.role().to_owned()).or_default() += 1;
            self.shops.iter_mut().for_each(|shop| shop.promises(self.town));
            self.look();
            tell(&self.tally);
        }
        self.await_units(UNITS_MORE)
    }

    /// Each role as often as any other; pauses go round.
    fn victim(&mut self, blow: Blow) -> Victim {
        let processes = [self.writers.nodes().len(), self.shops.len(), self.customers.len()];
        let (role, one) = match blow {
            Blow::Kill => {
                let role = self.dice.index(3);
                (role, self.dice.index(processes.get(role).copied().unwrap_or(1)))
            }
            Blow::Pause(_) => {
                let n = usize::try_from(self.tally.total()).unwrap_or(0);
                let role = n % 3;
                (role, n / 3 % processes.get(role).copied().unwrap_or(1))
            }
        };
        match role {
            0 => Victim::Escrow(one),
            1 => Victim::Payee(one),
            _ => Victim::Payer(one),
        }
    }

    /// Whether there was a process to strike: a payer may be between two commands.
    fn strike(&mut self, victim: Victim, blow: Blow) -> Result<bool, Unfinished> {
        match (victim, blow) {
            (Victim::Escrow(n), Blow::Kill) => self.writers.kill(self.town, n),
            (Victim::Payee(n), Blow::Kill) => {
                let Some(shop) = self.shops.get_mut(n) else {
                    return Ok(false);
                };
                shop.kill(self.town);
            }
            (Victim::Payer(n), Blow::Kill) => {
                return Ok(self.customers.get(n).is_some_and(Customer::kill));
            }
            (victim, Blow::Pause(time)) => {
                if !self.signal(victim, Signal::STOP) {
                    return Ok(false);
                }
                let waited = self.sleep(time);
                self.signal(victim, Signal::CONT);
                waited?;
            }
        }
        Ok(true)
    }

    /// Says whether there was somebody to take it.
    fn signal(&self, victim: Victim, signal: Signal) -> bool {
        match victim {
            Victim::Escrow(n) => {
                let node = self.writers.nodes().get(n);
                node.is_some_and(|node| {
                    node.signal(signal);
                    true
                })
            }
            Victim::Payee(n) => self.shops.get(n).is_some_and(|shop| {
                shop.signal(signal);
                true
            }),
            Victim::Payer(n) => self.customers.get(n).is_some_and(|customer| customer.signal(signal)),
        }
    }

    /// The length of a pause is what is tested: nothing else is waited for.
    fn sleep(&self, time: Duration) -> Result<(), Unfinished> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.fail_if_interrupted()?;
            std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    fn await_units(&self, more: u64) -> Result<(), Unfinished> {
        let (wanted, began) = (self.units() + more, Instant::now());
        while self.units() < wanted {
            self.fail_if_interrupted()?;
            let at = self.units();
            assert!(
                began.elapsed() < PATIENCE,
                "{at} units, and not {wanted} in {PATIENCE:?}"
            );
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn fail_if_interrupted(&self) -> Result<(), Unfinished> {
        match self.interrupted.load(Ordering::Relaxed) {
            true => Err(Unfinished::Interrupted),
            false => Ok(()),
        }
    }

    fn units(&self) -> u64 {
        self.customers.iter().map(Customer::units).sum()
    }

    /// What has been done so far, for whoever watches.
    fn look(&mut self) {
        self.tally.files = self.customers.iter().map(Customer::files).sum();
        self.tally.units = self.units();
        self.tally.claims = number(&self.town.ask("escrow", "status", "escrow"), "claims");
    }
}
