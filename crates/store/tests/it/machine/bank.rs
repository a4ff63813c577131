//! An escrow in the simplest words: a few maps that know nothing of rows, versions, logs or stores.

use crate::world::{FACE, FEE};
use std::collections::BTreeMap;
use tombola_core::amount::{DAY_MS, HOUR_MS, MINUTE_MS};
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::message::HoldState;
use tombola_core::reject::Code;

/// What can be asked.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Deposit {
        account: u8,
        amount: u64,
        reference: u8,
    },
    Open {
        cap: u64,
    },
    OpenAsSigner {
        cap: u64,
    },
    TopUp {
        hold: usize,
        cap: u64,
    },
    Claim {
        hold: usize,
        book: u16,
        through: u32,
    },
    Release {
        hold: usize,
    },
    Expire {
        hold: usize,
    },
    ExpireDue,
    Resubmit {
        hold: usize,
    },
    Transfer {
        from: u8,
        to: u8,
        amount: u64,
    },
    Refund {
        hold: usize,
        book: u16,
        amount: u64,
    },
    Withdraw {
        account: u8,
        amount: u64,
    },
    Settle {
        withdrawal: usize,
        outcome: PayoutOutcome,
        reference: u8,
    },
    SetPayout {
        account: u8,
        threshold: u64,
        hours: u64,
    },
    PayOut,
    SetSplit {
        account: u8,
        shares: Vec<(u8, u32)>,
    },
    Delegate {
        serial: u64,
        spend_max: u64,
    },
    Collect {
        account: u8,
        amount: u64,
        reference: u8,
    },
    Recover,
    Reopen,
    /// Nobody serves for so long.
    Pause {
        hours: u64,
    },
    /// All serve for an hour without a gap.
    Serve,
    Prune,
    Fold,
}

/// By whom.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) writer: usize,
    pub(super) ask: Ask,
}

/// Signs of life within the hour of [`Ask::Serve`].
pub(super) const SIGNS: u64 = 67;
/// From one to the next.
pub(super) const SIGN_MS: u64 = 55_000;
const PAYOUT_FEE: u64 = 25;
const PAYOUT_MIN: u64 = 100;
const KEPT_MS: u64 = 30 * DAY_MS;

#[derive(Debug, Clone)]
pub(super) struct SimpleHold {
    pub(super) cap: u64,
    pub(super) paid: u64,
    pub(super) revision: u32,
    pub(super) state: HoldState,
    pub(super) is_forgotten: bool,
    is_signers: bool,
    due_at: u64,
    ended_at: u64,
    /// Winners paid by book; every ticket wins.
    books: BTreeMap<u16, u32>,
}

#[derive(Debug, Clone)]
pub(super) struct SimpleWithdrawal {
    pub(super) account: u8,
    amount: u64,
    end: Option<(PayoutOutcome, u8, u64)>,
    is_forgotten: bool,
}

#[derive(Debug, Clone)]
struct SimplePolicy {
    threshold: u64,
    hours: u64,
    set_at: u64,
    paid_at: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct SimpleSigner {
    delegation: Option<(u64, u64)>,
    committed: u64,
}

/// The bank.
#[derive(Debug, Clone, Default)]
pub(super) struct Bank {
    pub(super) balances: BTreeMap<u8, u64>,
    pub(super) holds: Vec<SimpleHold>,
    pub(super) withdrawals: Vec<SimpleWithdrawal>,
    pub(super) withdrawn: u64,
    /// By writer.
    pub(super) fees: Vec<u64>,
    pub(super) recovering: bool,
    deposits: BTreeMap<u8, (u8, u64)>,
    collections: BTreeMap<u8, (u8, u64)>,
    policies: BTreeMap<u8, SimplePolicy>,
    splits: BTreeMap<u8, Vec<(u8, u32)>>,
    signer: SimpleSigner,
    now: u64,
    served_since: u64,
    /// What the last command is answered, with a number where it tells one.
    pub(super) answer: Option<Result<u64, Code>>,
}

impl Bank {
    pub(super) fn with_writers(writers: usize) -> Self {
        Self {
            fees: vec![0; writers],
            ..Self::default()
        }
    }

    /// What an account has asked for and not got yet.
    pub(super) fn pending(&self, account: u8) -> u64 {
        let waiting = self.withdrawals.iter();
        let waiting = waiting.filter(|one| one.account == account && one.end.is_none());
        waiting.map(|one| one.amount).sum()
    }

    pub(super) fn ask(&mut self, step: &Step) -> Result<u64, Code> {
        let done = |()| 0;
        match &step.ask {
            Ask::Open { .. }
            | Ask::OpenAsSigner { .. }
            | Ask::TopUp { .. }
            | Ask::Transfer { .. }
            | Ask::Refund { .. }
            | Ask::Withdraw { .. }
            | Ask::Expire { .. }
                if self.recovering =>
            {
                Err(Code::Recovering)
            }
            Ask::Deposit {
                account,
                amount,
                reference,
            } => self.deposit(*account, *amount, *reference).map(done),
            Ask::Open { cap } => self.open(*cap).map(done),
            Ask::OpenAsSigner { cap } => self.open_as_signer(*cap).map(done),
            Ask::TopUp { hold, cap } => self.top_up(*hold, *cap).map(done),
            Ask::Claim { hold, book, through } => self.claim(step.writer, *hold, *book, *through).map(done),
            Ask::Release { hold } => self.release(*hold).map(done),
            Ask::Expire { hold } => self.expire(*hold).map(done),
            Ask::ExpireDue => Ok(self.expire_due()),
            Ask::Resubmit { .. } if self.recovering => Ok(0),
            Ask::Resubmit { .. } => Err(Code::NotRecovering),
            Ask::Transfer { from, to, amount } => self.transfer(*from, *to, *amount).map(done),
            Ask::Refund { amount, .. } => self.transfer(3, 2, *amount).map(done),
            Ask::Withdraw { account, amount } => self.withdraw(*account, *amount).map(done),
            Ask::Settle {
                withdrawal,
                outcome,
                reference,
            } => self.settle(step.writer, *withdrawal, *outcome, *reference).map(done),
            Ask::SetPayout {
                account,
                threshold,
                hours,
            } => self.set_payout(*account, *threshold, *hours).map(done),
            Ask::PayOut => Ok(self.pay_out()),
            Ask::SetSplit { account, shares } => self.set_split(*account, shares).map(done),
            Ask::Delegate { serial, spend_max } => self.delegate(*serial, *spend_max).map(done),
            Ask::Collect {
                account,
                amount,
                reference,
            } => self.collect(step.writer, *account, *amount, *reference).map(done),
            other => {
                self.live(other);
                Ok(0)
            }
        }
    }

    /// What is no command.
    fn live(&mut self, ask: &Ask) {
        match ask {
            Ask::Recover => self.recovering = true,
            Ask::Reopen => {
                self.recovering = false;
                self.served_since = self.now;
            }
            Ask::Pause { hours } => {
                self.now += hours * HOUR_MS;
                self.served_since = self.now;
            }
            Ask::Serve => self.now += SIGNS * SIGN_MS,
            Ask::Prune => {
                for hold in &mut self.holds {
                    hold.is_forgotten |= hold.state != HoldState::Open && hold.ended_at + KEPT_MS <= self.now;
                }
                for one in &mut self.withdrawals {
                    one.is_forgotten |= one.end.is_some_and(|(_, _, at)| at + KEPT_MS <= self.now);
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, account: u8, amount: u64) -> Result<(), Code> {
        let balance = self.balances.get_mut(&account).ok_or(Code::AccountUnknown)?;
        *balance = balance.checked_sub(amount).ok_or(Code::InsufficientFunds)?;
        Ok(())
    }

    fn give(&mut self, account: u8, amount: u64) {
        *self.balances.entry(account).or_default() += amount;
    }

    fn known(&mut self, account: u8) -> Result<(), Code> {
        self.take(account, 0)
    }

    fn deposit(&mut self, account: u8, amount: u64, reference: u8) -> Result<(), Code> {
        if once(&self.deposits, reference, (account, amount))? {
            return Ok(());
        }
        if amount == 0 {
            return Err(Code::AmountZero);
        }
        self.deposits.insert(reference, (account, amount));
        self.give(account, amount);
        Ok(())
    }

    fn collect(&mut self, writer: usize, account: u8, amount: u64, reference: u8) -> Result<(), Code> {
        if once(&self.collections, reference, (account, amount))? {
            return Ok(());
        }
        if amount == 0 {
            return Err(Code::AmountZero);
        }
        let fees = &mut self.fees[writer];
        *fees = fees.checked_sub(amount).ok_or(Code::InsufficientFunds)?;
        self.collections.insert(reference, (account, amount));
        self.give(account, amount);
        Ok(())
    }

    fn open(&mut self, cap: u64) -> Result<(), Code> {
        self.take(2, cap)?;
        self.give(3, 0);
        self.holds.push(SimpleHold {
            cap,
            paid: 0,
            revision: 0,
            state: HoldState::Open,
            is_forgotten: false,
            is_signers: false,
            due_at: self.now + 2 * DAY_MS + 5 * MINUTE_MS,
            ended_at: 0,
            books: BTreeMap::new(),
        });
        Ok(())
    }

    fn open_as_signer(&mut self, cap: u64) -> Result<(), Code> {
        let (_, spend_max) = self.signer.delegation.ok_or(Code::Unauthorized)?;
        if spend_max == 0 {
            return Err(Code::DelegationRevoked);
        }
        if self.signer.committed + cap > spend_max {
            return Err(Code::OverSpendMax);
        }
        self.open(cap)?;
        self.signer.committed += cap;
        self.holds.last_mut().unwrap().is_signers = true;
        Ok(())
    }

    fn hold(&mut self, hold: usize) -> Result<&mut SimpleHold, Code> {
        let found = self.holds.get_mut(hold).filter(|hold| !hold.is_forgotten);
        found.ok_or(Code::HoldUnknown)
    }

    fn open_hold(&mut self, hold: usize) -> Result<&mut SimpleHold, Code> {
        let hold = self.hold(hold)?;
        match hold.state {
            HoldState::Open => Ok(hold),
            HoldState::Released => Err(Code::HoldReleased),
            HoldState::Expired => Err(Code::HoldExpired),
        }
    }

    fn top_up(&mut self, hold: usize, cap: u64) -> Result<(), Code> {
        let before = self.open_hold(hold)?.cap;
        let more = cap.checked_sub(before).filter(|more| *more > 0);
        let more = more.ok_or(Code::CapOutOfRange)?;
        self.take(2, more)?;
        let hold = self.open_hold(hold)?;
        hold.cap = cap;
        hold.revision += 1;
        if hold.is_signers {
            self.signer.committed += more;
        }
        Ok(())
    }

    fn claim(&mut self, writer: usize, hold: usize, book: u16, through: u32) -> Result<(), Code> {
        let before = self.hold(hold)?.books.get(&book).copied().unwrap_or(0);
        if through <= before {
            return Ok(());
        }
        let hold = self.open_hold(hold)?;
        let winners = u64::from(through - before);
        if hold.paid + winners * FACE.0 > hold.cap {
            return Err(Code::ClaimOverCap);
        }
        hold.paid += winners * FACE.0;
        hold.books.insert(book, through);
        self.fees[writer] += winners * FEE.0;
        let credit = winners * (FACE.0 - FEE.0);
        // Each share ends at a place of the whole, rounded down; what is behind the last one is the payee's.
        let (mut end_ppm, mut given) = (0, 0);
        for (account, ppm) in self.splits.get(&3).cloned().unwrap_or_default() {
            end_ppm += u64::from(ppm);
            let end = credit * end_ppm / 1_000_000;
            self.give(account, end - given);
            given = end;
        }
        self.give(3, credit - given);
        Ok(())
    }

    fn end(&mut self, hold: usize, state: HoldState) {
        let now = self.now;
        let hold = &mut self.holds[hold];
        (hold.state, hold.ended_at) = (state, now);
        let left = hold.cap - hold.paid;
        if hold.is_signers {
            self.signer.committed -= left;
        }
        self.give(2, left);
    }

    fn release(&mut self, hold: usize) -> Result<(), Code> {
        match self.hold(hold)?.state {
            HoldState::Open => self.end(hold, HoldState::Released),
            HoldState::Released => {}
            HoldState::Expired => return Err(Code::HoldExpired),
        }
        Ok(())
    }

    fn expire(&mut self, hold: usize) -> Result<(), Code> {
        let now = self.now;
        if self.open_hold(hold)?.due_at > now {
            return Err(Code::TimeOutOfRange);
        }
        if now - self.served_since < HOUR_MS {
            return Err(Code::Busy);
        }
        self.end(hold, HoldState::Expired);
        Ok(())
    }

    fn expire_due(&mut self) -> u64 {
        if self.recovering {
            return 0;
        }
        let ended = (0..self.holds.len()).filter(|hold| self.expire(*hold).is_ok());
        u64::try_from(ended.count()).unwrap()
    }

    fn transfer(&mut self, from: u8, to: u8, amount: u64) -> Result<(), Code> {
        self.known(from)?;
        if amount == 0 {
            return Err(Code::AmountZero);
        }
        if from == to {
            return Err(Code::BadTerms);
        }
        self.take(from, amount)?;
        self.give(to, amount);
        Ok(())
    }

    fn withdraw(&mut self, account: u8, amount: u64) -> Result<(), Code> {
        self.known(account)?;
        if amount == 0 {
            return Err(Code::AmountZero);
        }
        if amount < PAYOUT_MIN {
            return Err(Code::PayoutTooSmall);
        }
        self.take(account, amount)?;
        self.withdrawals.push(SimpleWithdrawal {
            account,
            amount,
            end: None,
            is_forgotten: false,
        });
        Ok(())
    }

    fn settle(&mut self, writer: usize, number: usize, outcome: PayoutOutcome, reference: u8) -> Result<(), Code> {
        let now = self.now;
        let found = self.withdrawals.get_mut(number).filter(|one| !one.is_forgotten);
        let one = found.ok_or(Code::WithdrawalUnknown)?;
        match one.end {
            Some((said, by, _)) if (said, by) == (outcome, reference) => return Ok(()),
            Some(_) => return Err(Code::WithdrawalSettled),
            None => one.end = Some((outcome, reference, now)),
        }
        let (account, amount) = (one.account, one.amount);
        match outcome {
            PayoutOutcome::Paid => {
                self.withdrawn += amount - PAYOUT_FEE;
                self.fees[writer] += PAYOUT_FEE;
            }
            PayoutOutcome::Failed => self.give(account, amount),
        }
        Ok(())
    }

    fn set_payout(&mut self, account: u8, threshold: u64, hours: u64) -> Result<(), Code> {
        self.known(account)?;
        let policy = SimplePolicy {
            threshold,
            hours,
            set_at: self.now,
            paid_at: None,
        };
        self.policies.remove(&account);
        if threshold > 0 || hours > 0 {
            self.policies.insert(account, policy);
        }
        Ok(())
    }

    fn pay_out(&mut self) -> u64 {
        let mut made = 0;
        for (account, policy) in self.policies.clone() {
            let balance = self.balances[&account];
            let has_rested = policy.paid_at.is_none_or(|at| self.now >= at + HOUR_MS);
            let is_over = policy.threshold > 0 && balance >= policy.threshold && has_rested;
            let since = policy.paid_at.unwrap_or(policy.set_at);
            let is_time = policy.hours > 0 && self.now >= since + policy.hours * HOUR_MS;
            if !self.recovering && (is_over || is_time) && self.withdraw(account, balance).is_ok() {
                self.policies.get_mut(&account).unwrap().paid_at = Some(self.now);
                made += 1;
            }
        }
        made
    }

    fn set_split(&mut self, account: u8, shares: &[(u8, u32)]) -> Result<(), Code> {
        for (n, (to, ppm)) in shares.iter().enumerate() {
            if *ppm == 0 {
                return Err(Code::BadTerms);
            }
            if *to == account {
                return Err(Code::SplitToSelf);
            }
            if shares[..n].iter().any(|(before, _)| before == to) {
                return Err(Code::ShareRepeated);
            }
        }
        if shares.iter().map(|(_, ppm)| ppm).sum::<u32>() > 1_000_000 {
            return Err(Code::SharesOver);
        }
        self.known(account)?;
        for (to, _) in shares {
            self.give(*to, 0);
        }
        self.splits.insert(account, shares.to_vec());
        Ok(())
    }

    fn delegate(&mut self, serial: u64, spend_max: u64) -> Result<(), Code> {
        self.known(2)?;
        match self.signer.delegation {
            Some(current) if current == (serial, spend_max) => return Ok(()),
            Some((current, _)) if serial <= current => return Err(Code::DelegationStale),
            Some(_) | None => self.signer.delegation = Some((serial, spend_max)),
        }
        Ok(())
    }
}

/// Whether this was done before; the same name for anything else is refused.
fn once(done: &BTreeMap<u8, (u8, u64)>, reference: u8, what: (u8, u64)) -> Result<bool, Code> {
    match done.get(&reference) {
        None => Ok(false),
        Some(before) if *before == what => Ok(true),
        Some(_) => Err(Code::ReferenceReused),
    }
}
