//! Generated sequences of commands against an escrow in the simplest words.
//!
//! `conformance.rs` compares stores with each other, byte by byte; here every store is compared with what the spec says:
//! what each command answers, and what everybody has afterwards.

mod bank;

use crate::money::{collect, number, pay_out, set_payout, settle, withdraw};
use crate::rules::audited;
use crate::splits::set_split;
use crate::stores::{Empty, Kind, Postgres, Redb, SharedModel, SoleModel};
use crate::world::{FACE, START, TestBook, World, code, key, secret};
use bank::{Ask, Bank, SIGN_MS, SIGNS, Step};
use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use std::marker::PhantomData;
use tempfile::TempDir;
use tombola_core::amount::{Amount, DAY_MS, HOUR_MS};
use tombola_core::codec::List;
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::hold::{Delegation, Hold};
use tombola_core::key::Signed;
use tombola_core::message::{EscrowAnswer, EscrowCommand, Evidence, ResubmitAnswer};
use tombola_core::reject::Code;
use tombola_ledger::ledger::{Command, Outcome};
use tombola_ledger::query::pending_withdrawals;
use tombola_ledger::store::Store;
use tombola_store::block_on::block_on;

/// A signer of account 2.
const SIGNER: u8 = 8;

/// The bank as a state machine, with so many writers.
struct Words<const WRITERS: usize>;

fn money() -> impl Strategy<Value = Ask> {
    let account = || 2u8..6;
    let outcome = || prop_oneof![Just(PayoutOutcome::Paid), Just(PayoutOutcome::Failed)];
    let hours = || prop_oneof![Just(0u64), Just(1), Just(24)];
    let threshold = || prop_oneof![Just(0u64), 100u64..5_000];
    prop_oneof![
        6 => (account(), 0u64..60_000, 0u8..12)
            .prop_map(|(account, amount, reference)| Ask::Deposit { account, amount, reference }),
        3 => (account(), account(), 0u64..9_000).prop_map(|(from, to, amount)| Ask::Transfer { from, to, amount }),
        4 => (account(), 0u64..9_000).prop_map(|(account, amount)| Ask::Withdraw { account, amount }),
        4 => (0usize..6, outcome(), 0u8..2)
            .prop_map(|(withdrawal, outcome, reference)| Ask::Settle { withdrawal, outcome, reference }),
        2 => (account(), threshold(), hours())
            .prop_map(|(account, threshold, hours)| Ask::SetPayout { account, threshold, hours }),
        2 => Just(Ask::PayOut),
        2 => (account(), 0u64..300, 0u8..4)
            .prop_map(|(account, amount, reference)| Ask::Collect { account, amount, reference }),
        3 => (prop_oneof![4 => Just(3u8), 1 => account()], prop::collection::vec((account(), 0u32..600_000), 0..4))
            .prop_map(|(account, shares)| Ask::SetSplit { account, shares }),
        2 => (1u64..6, prop_oneof![Just(0u64), 1u64..20_000])
            .prop_map(|(serial, spend_max)| Ask::Delegate { serial, spend_max }),
    ]
}

fn promises(holds: usize) -> impl Strategy<Value = Ask> {
    let hold = || 0..holds;
    prop_oneof![
        4 => (100u64..20_000).prop_map(|cap| Ask::Open { cap }),
        2 => (100u64..9_000).prop_map(|cap| Ask::OpenAsSigner { cap }),
        3 => (hold(), 1u64..30_000).prop_map(|(hold, cap)| Ask::TopUp { hold, cap }),
        10 => (hold(), 0u16..3, 1u32..9).prop_map(|(hold, book, through)| Ask::Claim { hold, book, through }),
        2 => hold().prop_map(|hold| Ask::Release { hold }),
        2 => hold().prop_map(|hold| Ask::Expire { hold }),
        1 => hold().prop_map(|hold| Ask::Resubmit { hold }),
        2 => (hold(), 0u16..3, 0u64..3_000).prop_map(|(hold, book, amount)| Ask::Refund { hold, book, amount }),
    ]
}

fn life() -> impl Strategy<Value = Ask> {
    prop_oneof![
        2 => prop_oneof![Just(1u64), Just(49), Just(30 * 24)].prop_map(|hours| Ask::Pause { hours }),
        1 => Just(Ask::Serve),
        2 => Just(Ask::ExpireDue),
        2 => Just(Ask::Prune),
        2 => Just(Ask::Fold),
        1 => Just(Ask::Recover),
        3 => Just(Ask::Reopen),
    ]
}

impl<const WRITERS: usize> ReferenceStateMachine for Words<WRITERS> {
    type State = Bank;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Bank> {
        Just(Bank::with_writers(WRITERS)).boxed()
    }

    fn transitions(bank: &Bank) -> BoxedStrategy<Step> {
        let holds = bank.holds.len().max(1);
        let ask = prop_oneof![5 => money(), 6 => promises(holds), 2 => life()];
        (0..WRITERS, ask).prop_map(|(writer, ask)| Step { writer, ask }).boxed()
    }

    /// What is named must have been made, and is not begun twice.
    fn preconditions(bank: &Bank, step: &Step) -> bool {
        match &step.ask {
            Ask::TopUp { hold, .. }
            | Ask::Claim { hold, .. }
            | Ask::Release { hold }
            | Ask::Expire { hold }
            | Ask::Refund { hold, .. } => *hold < bank.holds.len(),
            // A hold that was forgotten is none that was lost.
            Ask::Resubmit { hold } => bank.holds.get(*hold).is_some_and(|hold| !hold.is_forgotten),
            Ask::Settle { withdrawal, .. } => *withdrawal < bank.withdrawals.len(),
            Ask::Recover => !bank.recovering,
            Ask::Reopen => bank.recovering,
            _ => true,
        }
    }

    fn apply(mut bank: Bank, step: &Step) -> Bank {
        bank.answer = Some(bank.ask(step));
        bank
    }
}

/// Ledgers over one store, one for each writer.
struct Ledgers<S: Store> {
    worlds: Vec<World<S>>,
    holds: Vec<Signed<Hold>>,
    withdrawals: Vec<u64>,
    /// Which of them recovers.
    recovers: Option<usize>,
    _home: Option<TempDir>,
}

impl<S: Store> Ledgers<S> {
    fn ask(&mut self, step: &Step, bank: &Bank) -> Result<u64, Code> {
        let world = &mut self.worlds[step.writer];
        let done = |answer: EscrowAnswer| match answer {
            EscrowAnswer::Rejected(reject) => Err(reject.code),
            _ => Ok(0),
        };
        match &step.ask {
            Ask::Deposit {
                account,
                amount,
                reference,
            } => world.deposit(*account, *amount, &reference.to_string()).map(|_| 0),
            Ask::Open { cap } => {
                self.holds.push(world.open_hold_as(world.hold_request(*cap))?);
                Ok(0)
            }
            Ask::OpenAsSigner { cap } => {
                let mut hold = world.hold_request(*cap);
                hold.signer = key(SIGNER);
                let request = world.header();
                match world.ask_as(SIGNER, 2, EscrowCommand::OpenHold { request, hold }) {
                    EscrowAnswer::Hold(hold) => self.holds.push(hold),
                    other => return Err(code(&other)),
                }
                Ok(0)
            }
            Ask::TopUp { hold, cap } => {
                // The bank has raised the revision already if this is to succeed.
                let revision = bank.holds[*hold].revision - u32::from(bank.answer == Some(Ok(0)));
                done(world.top_up(self.holds[*hold].body.id(), revision, *cap))
            }
            Ask::Claim { hold, book, through } => {
                let claim = TestBook::sure(&self.holds[*hold].body, *book, 8).claim(*through);
                world.claim(claim).map(|_| 0)
            }
            Ask::Release { hold } => done(world.release(self.holds[*hold].body.id(), bank.holds[*hold].paid)),
            Ask::Expire { hold } => {
                let hold = self.holds[*hold].body.id();
                match world.run_one(Command::Expire { hold }) {
                    Outcome::Rejected(reject) => Err(reject.code),
                    _ => Ok(0),
                }
            }
            Ask::Resubmit { hold } => {
                let evidence = List::new(vec![Evidence::Hold(self.holds[*hold])]).unwrap();
                match world.ask(9, EscrowCommand::Resubmit { evidence }) {
                    EscrowAnswer::Resubmitted { answers } => assert_eq!(answers.as_slice(), [ResubmitAnswer::Known]),
                    other => return Err(code(&other)),
                }
                Ok(0)
            }
            Ask::Transfer { from, to, amount } => world.transfer(*from, *to, *amount).map(|()| 0),
            Ask::Refund { hold, book, amount } => {
                let book = TestBook::sure(&self.holds[*hold].body, *book, 8).id();
                world.refund(3, 2, *amount, Some(book)).map(|()| 0)
            }
            Ask::Withdraw { account, amount } => {
                let answer = withdraw(world, *account, *amount, "bank");
                done(answer.clone())?;
                self.withdrawals.push(number(&answer));
                Ok(0)
            }
            Ask::Settle {
                withdrawal,
                outcome,
                reference,
            } => settle(world, self.withdrawals[*withdrawal], *outcome, &reference.to_string()).map(|_| 0),
            Ask::SetSplit { account, shares } => done(set_split(world, *account, shares)),
            Ask::Delegate { serial, spend_max } => done(delegate(world, *serial, *spend_max)),
            Ask::Collect {
                account,
                amount,
                reference,
            } => collect(world, *account, *amount, &reference.to_string()).map(|_| 0),
            Ask::SetPayout {
                account,
                threshold: 0,
                hours: 0,
            } => {
                let request = world.header();
                done(world.ask(*account, EscrowCommand::SetPayout { request, policy: None }))
            }
            Ask::SetPayout {
                account,
                threshold,
                hours,
            } => done(set_payout(world, *account, *threshold, hours * HOUR_MS, "iban")),
            other => Ok(self.live(step.writer, other, bank)),
        }
    }

    /// What is no command.
    fn live(&mut self, writer: usize, ask: &Ask, bank: &Bank) -> u64 {
        let world = &mut self.worlds[writer];
        match ask {
            Ask::PayOut => {
                let made = pay_out(world);
                self.find_withdrawals(bank);
                return u64::try_from(made).unwrap();
            }
            Ask::ExpireDue => {
                let outcomes = block_on(world.ledger.expire_due(100, world.now)).unwrap();
                let ended = outcomes.iter().filter(|o| matches!(o, Outcome::Expired { .. }));
                return u64::try_from(ended.count()).unwrap();
            }
            Ask::Prune => while block_on(world.ledger.prune(100, world.now)).unwrap() > 0 {},
            Ask::Fold => world.fold(),
            Ask::Recover => {
                world.ledger.begin_recovery(world.ledger.totals().time);
                self.recovers = Some(writer);
                world.run(Vec::new());
            }
            Ask::Reopen => {
                let world = &mut self.worlds[self.recovers.take().unwrap()];
                world.ledger.end_recovery(world.now);
                world.run(Vec::new());
            }
            Ask::Pause { hours } => self.pass(hours * HOUR_MS),
            _ => (0..SIGNS).for_each(|_| self.pass(SIGN_MS)),
        }
        0
    }

    /// Time passes, and then every writer shows a sign of life.
    fn pass(&mut self, ms: u64) {
        for world in &mut self.worlds {
            world.now = world.now.plus_ms(ms);
            world.run(Vec::new());
        }
    }

    /// Finds those that policies made, of which each account has one at most.
    fn find_withdrawals(&mut self, bank: &Bank) {
        let waiting = block_on(pending_withdrawals(self.worlds[0].ledger.store(), 0, 1_000)).unwrap();
        for made in &bank.withdrawals[self.withdrawals.len()..] {
            let found = waiting.iter().find(|one| {
                let is_known = self.withdrawals.contains(&one.withdrawal);
                one.account == key(made.account) && !is_known
            });
            self.withdrawals.push(found.unwrap().withdrawal);
        }
    }
}

fn delegate<S: Store>(world: &mut World<S>, serial: u64, spend_max: u64) -> EscrowAnswer {
    let body = Delegation {
        escrow: key(1),
        account: key(2),
        signer: key(SIGNER),
        spend_max: Amount(spend_max),
        face_value_max: FACE,
        payees: List::default(),
        expires_at: START.plus_ms(10_000 * DAY_MS),
        serial,
    };
    let delegation = Signed::new(body, &secret(2));
    let request = world.header();
    world.ask(2, EscrowCommand::Delegate { request, delegation })
}

/// The ledger over one kind of store, as the machine drives it.
struct Over<K, const WRITERS: usize>(PhantomData<K>);

impl<K: Kind, const WRITERS: usize> StateMachineTest for Over<K, WRITERS> {
    type SystemUnderTest = Option<Ledgers<K::Store>>;
    type Reference = Words<WRITERS>;

    fn init_test(_: &Bank) -> Option<Ledgers<K::Store>> {
        let Empty { store, home } = K::empty()?;
        let writers = 0..u32::try_from(WRITERS).unwrap();
        Some(Ledgers {
            worlds: writers
                .map(|writer| World::open_as(writer, store.clone()).unwrap())
                .collect(),
            holds: Vec::new(),
            withdrawals: Vec::new(),
            recovers: None,
            _home: home,
        })
    }

    fn apply(mut ledgers: Option<Ledgers<K::Store>>, bank: &Bank, step: Step) -> Option<Ledgers<K::Store>> {
        if let Some(ledgers) = &mut ledgers {
            assert_eq!(Some(ledgers.ask(&step, bank)), bank.answer, "{step:?}");
        }
        ledgers
    }

    fn teardown(ledgers: Option<Ledgers<K::Store>>, bank: Bank) {
        let Some(mut ledgers) = ledgers else { return };
        for (account, balance) in &bank.balances {
            for world in &mut ledgers.worlds {
                let state = world.account(*account);
                let seen = (state.balance.0, state.pending.0);
                assert_eq!(seen, (*balance, bank.pending(*account)), "account {account}");
            }
        }
        for (hold, simple) in ledgers.holds.iter().zip(&bank.holds) {
            if !simple.is_forgotten {
                let status = ledgers.worlds[0].status(hold.body.id());
                let seen = (status.paid.0, status.hold.body.cap.0, status.state);
                assert_eq!(seen, (simple.paid, simple.cap, simple.state));
            }
        }
        let report = audited(&ledgers.worlds[0]);
        let fees = u128::from(bank.fees.iter().sum::<u64>());
        let seen = (report.findings, report.fees, report.withdrawn);
        assert_eq!(seen, (vec![], fees, u128::from(bank.withdrawn)));
    }
}

prop_state_machine! {
    // A failing case is printed with its seed.
    #![proptest_config(Config { cases: 24, failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_model_does_what_the_simplest_words_say(sequential 1..80 => Over<SoleModel, 1>);

    #[test]
    fn redb_does_what_the_simplest_words_say(sequential 1..60 => Over<Redb, 1>);

    #[test]
    fn two_writers_do_what_the_simplest_words_say(sequential 1..80 => Over<SharedModel, 2>);
}

prop_state_machine! {
    #![proptest_config(Config { cases: 5, failure_persistence: None, max_shrink_iters: 30, ..Config::default() })]

    #[test]
    fn two_writers_on_postgres_do_what_the_simplest_words_say(sequential 1..40 => Over<Postgres, 2>);
}
