//! Wall clocks that jump, below a real ledger and the writer's own tick.

use super::super::watched::WatchedClock;
use super::super::writer::tick;
use super::*;
use std::sync::Mutex;
use tombola_core::amount::{HOUR_MS, MINUTE_MS, SECOND_MS};
use tombola_core::escrow::Clocks;
use tombola_core::limits::{CLOCK_JUMP_MAX_MS, SERVED_GAP_MS};
use tombola_ledger::holds::HoldCache;
use tombola_ledger::store::Sharing;

const START: Timestamp = Timestamp(1_800_000_000_000);
const LIFE_MS: u64 = 6 * HOUR_MS;
const REDEEM_MS: u64 = 30 * HOUR_MS;
const YEARS_MS: u64 = 10 * 365 * DAY_MS;
const TICK_MS: u64 = SERVED_GAP_MS / 2;

/// What time it really is, and how far the wall clock is from that.
#[derive(Debug, Clone, Copy)]
struct Truth {
    passed_ms: u64,
    ahead_ms: i64,
}

impl Truth {
    fn clocks(self) -> Clocks {
        Clocks {
            wall: Timestamp(self.time().0.checked_add_signed(self.ahead_ms).unwrap()),
            ticking_ms: 5_000 + self.passed_ms,
        }
    }

    fn time(self) -> Timestamp {
        START.plus_ms(self.passed_ms)
    }
}

/// An escrow's ledger and clock, with a hold of a payer (2) to a payee (3).
struct Machine {
    truth: Arc<Mutex<Truth>>,
    clock: WatchedClock,
    ledger: Ledger<EscrowStore>,
    cache: HoldCache,
    hold: Option<Hold>,
    requests: u8,
    case: String,
    _directory: tempfile::TempDir,
}

impl Machine {
    fn start(case: String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = options(&directory);
        let store = Handle::current().block_on(options.store.open()).unwrap();
        let truth = Arc::new(Mutex::new(Truth {
            passed_ms: 0,
            ahead_ms: 0,
        }));
        let read = Arc::clone(&truth);
        let mut clock = WatchedClock::reading(Sharing::Sole, move || read.lock().unwrap().clocks());
        let ledger = block_on(Ledger::open(store, options.rules().unwrap(), clock.now())).unwrap();
        Self {
            truth,
            clock,
            ledger,
            cache: HoldCache::new(key(1).account()),
            hold: None,
            requests: 0,
            case,
            _directory: directory,
        }
    }

    fn truth(&self) -> Truth {
        *self.truth.lock().unwrap()
    }

    fn jump(&self, ms: i64) {
        self.truth.lock().unwrap().ahead_ms += ms;
    }

    fn set_right(&self) {
        self.truth.lock().unwrap().ahead_ms = 0;
    }

    /// Serves for so long, with the writer's ticks.
    fn serve(&mut self, ms: u64) {
        for _ in 0..ms / TICK_MS {
            self.truth.lock().unwrap().passed_ms += TICK_MS;
            tick(&mut self.ledger, &mut self.clock).unwrap();
            self.check();
        }
    }

    /// The process is stopped, or the machine suspended, until so long after the start.
    fn sleep_until(&self, passed_ms: u64) {
        let mut truth = self.truth.lock().unwrap();
        assert!(passed_ms >= truth.passed_ms);
        truth.passed_ms = passed_ms;
    }

    /// Nothing has happened too early.
    fn check(&self) {
        let (case, now) = (&self.case, self.truth().time());
        let time = self.ledger.standing().time;
        assert!(
            time <= now.plus_ms(CLOCK_JUMP_MAX_MS),
            "{case}: ledger time {time:?} at {now:?}"
        );
        if let Some(hold) = &self.hold {
            assert!(
                self.is_open() || now >= hold.terms.redeem_by,
                "{case}: expired at {now:?}"
            );
        }
    }

    fn is_open(&self) -> bool {
        self.ledger.totals().held > 0
    }

    fn ask(&mut self, party: u8, command: EscrowCommand) -> EscrowAnswer {
        let account = key(party).account();
        let request = EscrowRequest { account, command };
        let verified = block_on(self.cache.verify(self.ledger.store(), account, request)).unwrap();
        let outcome = self.execute(Command::Request(verified));
        match outcome {
            Outcome::Answer(draft) => draft.sign(&key(1)),
            other => panic!("{}: {other:?}", self.case),
        }
    }

    fn execute(&mut self, command: Command) -> Outcome {
        let now = self.clock.now();
        let outcome = block_on(self.ledger.execute(vec![command], now)).unwrap().remove(0);
        self.check();
        outcome
    }

    fn deposit(&mut self) {
        let amount = Amount(10 * FACE.0);
        let reference = Reference::new("first").unwrap();
        let command = deposit_command(&key(2).account(), amount, &reference).unwrap();
        assert!(
            matches!(self.execute(command), Outcome::Deposited { .. }),
            "{}",
            self.case
        );
    }

    /// Opens the hold, as somebody does whose clock is right.
    fn open_hold(&mut self) {
        self.requests += 1;
        let request = RequestHeader {
            id: RequestId([self.requests; 16]),
            // Parties go by the escrow's time. Spec: C-05.
            issued_at: self.ledger.standing().time,
        };
        let EscrowCommand::OpenHold { hold, .. } = open(request, 5 * FACE.0) else {
            unreachable!()
        };
        let hold = HoldRequest {
            expires_at: START.plus_ms(LIFE_MS),
            redeem_by: START.plus_ms(REDEEM_MS),
            ..hold
        };
        match self.ask(2, EscrowCommand::OpenHold { request, hold }) {
            EscrowAnswer::Hold(hold) => self.hold = Some(hold.body),
            other => panic!("{}: {other:?}", self.case),
        }
    }

    /// What a claim of so many winners in all pays.
    fn claim(&mut self, through: u32) -> u64 {
        let claim = claim(&self.hold.unwrap(), 1, 4, through);
        match self.ask(3, batch(vec![claim])) {
            EscrowAnswer::Claimed { answers } => match &answers.as_slice()[0] {
                ClaimAnswer::Receipt(receipt) => receipt.body.hold_paid_after.0,
                ClaimAnswer::Refusal(refusal) => panic!("{}: {refusal:?}", self.case),
            },
            other => panic!("{}: {other:?}", self.case),
        }
    }
}

/// What happens, one after another; the clock jumps after one of them.
const STEPS: [fn(&mut Machine); 7] = [
    |_| {},
    |machine| machine.serve(TICK_MS),
    Machine::deposit,
    Machine::open_hold,
    |machine| machine.serve(HOUR_MS),
    |machine| assert_eq!(machine.claim(1), FACE.0),
    |machine| machine.sleep_until(REDEEM_MS - 3 * HOUR_MS),
];

/// Spec: C-07, H-09, W-11, W-12.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_at_any_step_expires_no_hold_too_early_and_claims_are_paid() {
    let jumps = [
        SECOND_MS,
        CLOCK_JUMP_MAX_MS - 1,
        CLOCK_JUMP_MAX_MS + 1,
        DAY_MS,
        YEARS_MS,
    ];
    let all = move || {
        for (ms, sign) in jumps.into_iter().flat_map(|ms| [(ms, 1), (ms, -1)]) {
            for at in 0..STEPS.len() {
                jump_at(at, ms, sign);
            }
        }
    };
    tokio::task::spawn_blocking(all).await.unwrap();
}

fn jump_at(at: usize, ms: u64, sign: i64) {
    let mut machine = Machine::start(format!("{ms} ms times {sign} after step {at}"));
    for (number, step) in STEPS.iter().enumerate() {
        step(&mut machine);
        if number == at {
            machine.jump(sign * i64::try_from(ms).unwrap());
        }
    }
    // The hour of serving that an expiry needs, by the wrong clock.
    machine.serve(HOUR_MS + 10 * MINUTE_MS);
    let case = machine.case.clone();
    assert_eq!(machine.clock.jump().is_some(), ms > CLOCK_JUMP_MAX_MS, "{case}");
    assert_eq!((machine.is_open(), machine.claim(3)), (true, 3 * FACE.0), "{case}");
    machine.set_right();
    machine.serve(3 * HOUR_MS + 10 * MINUTE_MS);
    assert!(!machine.is_open(), "{case}: it expires when it is due");
    assert_eq!(machine.clock.jump(), None, "{case}");
}

/// Spec: C-07. Also what is due by either clock waits, and is done when the clock is right again.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_clock_is_off_nothing_expires_and_claims_of_what_is_due_are_paid() {
    let all = || {
        for ahead_ms in [i64::try_from(CLOCK_JUMP_MAX_MS).unwrap() + 1, 86_400_000] {
            let mut machine = Machine::start(format!("{ahead_ms} ms ahead"));
            machine.deposit();
            machine.open_hold();
            machine.sleep_until(REDEEM_MS - HOUR_MS);
            machine.jump(ahead_ms);
            machine.serve(4 * HOUR_MS);
            assert_eq!((machine.is_open(), machine.claim(2)), (true, 2 * FACE.0), "{ahead_ms}");
            machine.set_right();
            machine.serve(TICK_MS);
            assert!(
                !machine.is_open(),
                "{ahead_ms}: the hour was served by a clock that ticks"
            );
        }
    };
    tokio::task::spawn_blocking(all).await.unwrap();
}

/// Spec: H-09.
#[tokio::test(flavor = "multi_thread")]
async fn an_escrow_that_turned_somebody_away_expires_nothing_for_another_hour() {
    let all = || {
        let mut machine = Machine::start("crowded".to_owned());
        machine.deposit();
        machine.open_hold();
        machine.sleep_until(REDEEM_MS);
        machine.serve(HOUR_MS - MINUTE_MS);
        let now = machine.clock.now();
        machine.ledger.serve_anew(now);
        machine.serve(HOUR_MS - MINUTE_MS);
        assert_eq!((machine.is_open(), machine.claim(2)), (true, 2 * FACE.0));
        machine.serve(2 * MINUTE_MS);
        assert!(!machine.is_open());
    };
    tokio::task::spawn_blocking(all).await.unwrap();
}

/// Spec: C-07. A minute in each half minute is no gap in serving, and an hour of it was an hour's theft.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_creeps_ahead_is_no_hour_of_serving() {
    let all = || {
        let mut machine = Machine::start("creeping".to_owned());
        machine.deposit();
        machine.open_hold();
        machine.serve(TICK_MS);
        for _ in 0..60 * 60 {
            machine.jump(29_000);
            machine.serve(TICK_MS);
        }
        assert!(machine.clock.jump().is_some() && machine.is_open());
    };
    tokio::task::spawn_blocking(all).await.unwrap();
}

/// Spec: C-06, C-07. Where a database's clock is the judge ledger time is not, so every step of a tick must look anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_jump_within_a_tick_moves_nothing_by_its_date() {
    let all = || {
        // The first reading is the start's, the second that of the sign of life.
        for last_right in 2..=4 {
            let mut machine = Machine::start(format!("{last_right} right readings"));
            let mut readings = 0;
            let read = move || {
                readings += 1;
                let ahead_ms = if readings > last_right { 86_400_000 } else { 0 };
                Truth { passed_ms: 0, ahead_ms }.clocks()
            };
            machine.clock = WatchedClock::reading(Sharing::Shared, read);
            tick(&mut machine.ledger, &mut machine.clock).unwrap();
            assert!(machine.clock.jump().is_some(), "{last_right}");
            machine.check();
        }
    };
    tokio::task::spawn_blocking(all).await.unwrap();
}

/// Spec: C-06, C-07.
#[test]
fn an_escrow_alone_goes_by_the_earlier_clock_and_one_of_several_by_its_own() {
    let day_ms: i64 = 86_400_000;
    for (sharing, ahead_ms, expected) in [
        (Sharing::Sole, day_ms, START),
        (Sharing::Sole, -day_ms, START.minus_ms(DAY_MS)),
        (Sharing::Shared, day_ms, START.plus_ms(DAY_MS)),
        (Sharing::Shared, -day_ms, START.minus_ms(DAY_MS)),
    ] {
        let mut readings = [0, ahead_ms, ahead_ms].into_iter();
        let read = move || {
            let ahead_ms = readings.next().unwrap();
            Truth { passed_ms: 0, ahead_ms }.clocks()
        };
        let mut clock = WatchedClock::reading(sharing, read);
        assert_eq!(clock.now(), expected, "{sharing:?} {ahead_ms}");
        assert_eq!(clock.believed(), None);
    }
}

/// Spec: C-07. The names are what a watcher of the log goes by.
#[test]
fn a_jump_is_told_once_and_its_end_as_well() {
    let told = Told::default();
    let truth = Arc::new(Mutex::new(Truth {
        passed_ms: 0,
        ahead_ms: 0,
    }));
    let read = Arc::clone(&truth);
    tracing::subscriber::with_default(told.clone(), || {
        let mut clock = WatchedClock::reading(Sharing::Sole, move || read.lock().unwrap().clocks());
        for ahead_ms in [0, 300_000, 300_001, 86_400_000, 0, -300_001, 0] {
            truth.lock().unwrap().ahead_ms = ahead_ms;
            clock.now();
            clock.believed();
        }
        // A start whose clock is behind the ledger, and one after a month of standing still.
        super::super::watched::compare(START, START.plus_ms(300_001));
        super::super::watched::compare(START, START.plus_ms(300_000));
        super::super::watched::compare(START.plus_ms(30 * DAY_MS), START);
    });
    let names = ["clock_skew", "clock_right", "clock_skew", "clock_right", "clock_skew"];
    assert_eq!(*told.0.lock().unwrap(), names);
}

/// Keeps the names of events.
#[derive(Debug, Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl tracing::field::Visit for Told {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "event" {
            let name = format!("{value:?}");
            self.0.lock().unwrap().push(name.trim_matches('"').to_owned());
        }
    }
}

impl tracing::Subscriber for Told {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
