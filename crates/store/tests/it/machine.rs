//! Generated sequences of commands against a few maps that know nothing of rows, logs or stores.
//!
//! `conformance.rs` compares stores with each other, byte by byte; here every store is compared with what the spec says
//! in the simplest words: what each command answers, and what everybody has afterwards.

use crate::rules::audited;
use crate::stores::{Empty, Kind, Postgres, Redb, SharedModel};
use crate::world::{FACE, FEE, TestBook, World};
use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use tempfile::TempDir;
use tombola_core::hold::Hold;
use tombola_core::message::EscrowAnswer;
use tombola_core::reject::Code;
use tombola_ledger::store::{Sharing, Store};

/// What can be asked. Every command says by which writer, where there are two.
#[derive(Debug, Clone)]
enum Ask {
    Deposit { account: u8, amount: u64, reference: u8 },
    Open { cap: u64 },
    TopUp { hold: usize, cap: u64 },
    Claim { hold: usize, book: u16, through: u32 },
    Release { hold: usize },
    Transfer { from: u8, to: u8, amount: u64 },
    Fold,
}

#[derive(Debug, Clone)]
struct Step {
    writer: usize,
    ask: Ask,
}

/// A hold in the simplest words.
#[derive(Debug, Clone)]
struct SimpleHold {
    cap: u64,
    paid: u64,
    revision: u32,
    is_open: bool,
    /// Winners paid by book; every ticket wins.
    books: BTreeMap<u16, u32>,
}

/// The bank in the simplest words.
#[derive(Debug, Clone, Default)]
struct Bank {
    balances: BTreeMap<u8, u64>,
    references: BTreeMap<u8, (u8, u64)>,
    holds: Vec<SimpleHold>,
    fees: u64,
    /// What the last command is answered.
    answer: Option<Code>,
}

impl Bank {
    fn ask(&mut self, ask: &Ask) -> Result<(), Code> {
        match ask {
            Ask::Deposit {
                account,
                amount,
                reference,
            } => self.deposit(*account, *amount, *reference),
            Ask::Open { cap } => {
                let balance = self.balances.get_mut(&2).ok_or(Code::AccountUnknown)?;
                *balance = balance.checked_sub(*cap).ok_or(Code::InsufficientFunds)?;
                self.balances.entry(3).or_default();
                self.holds.push(SimpleHold {
                    cap: *cap,
                    paid: 0,
                    revision: 0,
                    is_open: true,
                    books: BTreeMap::new(),
                });
                Ok(())
            }
            Ask::TopUp { hold, cap } => self.top_up(*hold, *cap),
            Ask::Claim { hold, book, through } => self.claim(*hold, *book, *through),
            Ask::Release { hold } => {
                let hold = self.holds.get_mut(*hold).ok_or(Code::HoldUnknown)?;
                if hold.is_open {
                    hold.is_open = false;
                    *self.balances.entry(2).or_default() += hold.cap - hold.paid;
                }
                Ok(())
            }
            Ask::Transfer { from, to, amount } => {
                let balance = *self.balances.get(from).ok_or(Code::AccountUnknown)?;
                if *amount == 0 {
                    return Err(Code::AmountZero);
                }
                if from == to {
                    return Err(Code::BadTerms);
                }
                let left = balance.checked_sub(*amount).ok_or(Code::InsufficientFunds)?;
                self.balances.insert(*from, left);
                *self.balances.entry(*to).or_default() += amount;
                Ok(())
            }
            Ask::Fold => Ok(()),
        }
    }

    fn deposit(&mut self, account: u8, amount: u64, reference: u8) -> Result<(), Code> {
        if let Some(before) = self.references.get(&reference) {
            return if *before == (account, amount) {
                Ok(())
            } else {
                Err(Code::ReferenceReused)
            };
        }
        if amount == 0 {
            return Err(Code::AmountZero);
        }
        self.references.insert(reference, (account, amount));
        *self.balances.entry(account).or_default() += amount;
        Ok(())
    }

    fn top_up(&mut self, hold: usize, cap: u64) -> Result<(), Code> {
        let hold = self.holds.get_mut(hold).ok_or(Code::HoldUnknown)?;
        if !hold.is_open {
            return Err(Code::HoldReleased);
        }
        let more = cap.checked_sub(hold.cap).filter(|more| *more > 0);
        let more = more.ok_or(Code::CapOutOfRange)?;
        let balance = self.balances.entry(2).or_default();
        *balance = balance.checked_sub(more).ok_or(Code::InsufficientFunds)?;
        hold.cap = cap;
        hold.revision += 1;
        Ok(())
    }

    fn claim(&mut self, hold: usize, book: u16, through: u32) -> Result<(), Code> {
        let hold = self.holds.get_mut(hold).ok_or(Code::HoldUnknown)?;
        let before = hold.books.get(&book).copied().unwrap_or(0);
        if through <= before {
            return Ok(());
        }
        if !hold.is_open {
            return Err(Code::HoldReleased);
        }
        let winners = u64::from(through - before);
        if hold.paid + winners * FACE.0 > hold.cap {
            return Err(Code::ClaimOverCap);
        }
        hold.paid += winners * FACE.0;
        hold.books.insert(book, through);
        self.fees += winners * FEE.0;
        *self.balances.entry(3).or_default() += winners * (FACE.0 - FEE.0);
        Ok(())
    }
}

impl ReferenceStateMachine for Bank {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(bank: &Self) -> BoxedStrategy<Step> {
        let holds = bank.holds.len().max(1);
        let account = || 2u8..6;
        let ask = prop_oneof![
            3 => (account(), 0u64..60_000, 0u8..12)
                .prop_map(|(account, amount, reference)| Ask::Deposit { account, amount, reference }),
            3 => (100u64..20_000).prop_map(|cap| Ask::Open { cap }),
            2 => (0..holds, 1u64..30_000).prop_map(|(hold, cap)| Ask::TopUp { hold, cap }),
            8 => (0..holds, 0u16..3, 1u32..9).prop_map(|(hold, book, through)| Ask::Claim { hold, book, through }),
            1 => (0..holds).prop_map(|hold| Ask::Release { hold }),
            3 => (account(), account(), 0u64..9_000).prop_map(|(from, to, amount)| Ask::Transfer { from, to, amount }),
            1 => Just(Ask::Fold),
        ];
        (0usize..2, ask).prop_map(|(writer, ask)| Step { writer, ask }).boxed()
    }

    /// A hold must be there to be named.
    fn preconditions(bank: &Self, step: &Step) -> bool {
        match &step.ask {
            Ask::TopUp { hold, .. } | Ask::Claim { hold, .. } | Ask::Release { hold } => *hold < bank.holds.len(),
            Ask::Deposit { .. } | Ask::Open { .. } | Ask::Transfer { .. } | Ask::Fold => true,
        }
    }

    fn apply(mut bank: Self, step: &Step) -> Self {
        bank.answer = bank.ask(&step.ask).err();
        bank
    }
}

/// Ledgers over one store: one, or two where writers share it.
struct Ledgers<S: Store> {
    worlds: Vec<World<S>>,
    holds: Vec<Hold>,
    _home: Option<TempDir>,
}

impl<S: Store> Ledgers<S> {
    fn ask(&mut self, step: &Step, bank: &Bank) -> Result<(), Code> {
        let index = step.writer % self.worlds.len();
        let world = &mut self.worlds[index];
        match &step.ask {
            Ask::Deposit {
                account,
                amount,
                reference,
            } => world.deposit(*account, *amount, &reference.to_string()).map(|_| ()),
            Ask::Open { cap } => {
                let hold = world.open_hold_as(world.hold_request(*cap))?;
                self.holds.push(hold.body);
                Ok(())
            }
            Ask::TopUp { hold, cap } => {
                let (id, simple) = (self.holds[*hold].id(), &bank.holds[*hold]);
                // The machine has raised the revision already if this is to succeed.
                let revision = simple.revision - u32::from(bank.answer.is_none());
                match world.top_up(id, revision, *cap) {
                    EscrowAnswer::Hold(_) => Ok(()),
                    other => Err(crate::world::code(&other)),
                }
            }
            Ask::Claim { hold, book, through } => {
                let claim = TestBook::sure(&self.holds[*hold], *book, 8).claim(*through);
                world.claim(claim).map(|_| ())
            }
            Ask::Release { hold } => match world.release(self.holds[*hold].id(), bank.holds[*hold].paid) {
                EscrowAnswer::Released { .. } => Ok(()),
                other => Err(crate::world::code(&other)),
            },
            Ask::Transfer { from, to, amount } => world.transfer(*from, *to, *amount),
            Ask::Fold => {
                world.fold();
                Ok(())
            }
        }
    }
}

/// The ledger over one kind of store, as the machine drives it.
struct Over<K>(PhantomData<K>);

impl<K: Kind> StateMachineTest for Over<K> {
    type SystemUnderTest = Option<Ledgers<K::Store>>;
    type Reference = Bank;

    fn init_test(_: &Bank) -> Option<Ledgers<K::Store>> {
        let Empty { store, home } = K::empty()?;
        let writers = match store.sharing() {
            Sharing::Sole => 1,
            Sharing::Shared => 2,
        };
        Some(Ledgers {
            worlds: (0..writers)
                .map(|writer| World::open_as(writer, store.clone()).unwrap())
                .collect(),
            holds: Vec::new(),
            _home: home,
        })
    }

    fn apply(mut ledgers: Option<Ledgers<K::Store>>, bank: &Bank, step: Step) -> Option<Ledgers<K::Store>> {
        if let Some(ledgers) = &mut ledgers {
            assert_eq!(ledgers.ask(&step, bank).err(), bank.answer, "{step:?}");
        }
        ledgers
    }

    fn teardown(ledgers: Option<Ledgers<K::Store>>, bank: Bank) {
        let Some(mut ledgers) = ledgers else { return };
        for (account, balance) in &bank.balances {
            for world in &mut ledgers.worlds {
                assert_eq!(world.balance(*account), *balance, "account {account}");
            }
        }
        for (hold, simple) in ledgers.holds.iter().zip(&bank.holds) {
            let status = ledgers.worlds[0].status(hold.id());
            assert_eq!((status.paid.0, status.hold.body.cap.0), (simple.paid, simple.cap));
        }
        let report = audited(&ledgers.worlds[0]);
        assert_eq!((report.findings, report.fees), (vec![], u128::from(bank.fees)));
    }
}

prop_state_machine! {
    // A failing case is printed with its seed.
    #![proptest_config(Config { cases: 24, failure_persistence: None, ..Config::default() })]

    #[test]
    fn redb_does_what_the_simplest_words_say(sequential 1..60 => Over<Redb>);

    #[test]
    fn two_writers_do_what_the_simplest_words_say(sequential 1..60 => Over<SharedModel>);
}

prop_state_machine! {
    #![proptest_config(Config { cases: 6, failure_persistence: None, ..Config::default() })]

    #[test]
    fn two_writers_on_postgres_do_what_the_simplest_words_say(sequential 1..40 => Over<Postgres>);
}
