//! Runs of tickets: however they are cut, the same becomes of them.

use super::*;

/// Tickets as a bad or careless payer may send them: `next` means the one after the highest sent so far.
#[derive(Debug, Clone, Copy)]
enum Sent {
    Next,
    Jump(u32),
    Repeat(u32),
    Forged,
    PastEnd,
    Zero,
}

fn sent() -> impl proptest::strategy::Strategy<Value = Sent> {
    use proptest::prelude::*;
    prop_oneof![
        60 => Just(Sent::Next),
        2 => (2..110u32).prop_map(Sent::Jump),
        2 => (0..50u32).prop_map(Sent::Repeat),
        1 => Just(Sent::Forged),
        1 => Just(Sent::PastEnd),
        1 => Just(Sent::Zero),
    ]
}

/// The tickets that a list of such words stands for, of a book whose good tickets are given.
fn spell(words: &[Sent], good: &[Ticket]) -> Vec<Ticket> {
    let mut top = 0usize;
    let good_at = |index: usize| good[index.clamp(1, good.len()) - 1];
    let spell = |word: &Sent| match word {
        Sent::Next | Sent::Jump(_) => {
            top += if let Sent::Jump(by) = word {
                usize::try_from(*by).unwrap()
            } else {
                1
            };
            good_at(top)
        }
        Sent::Repeat(back) => good_at(top.saturating_sub(usize::try_from(*back).unwrap())),
        Sent::Forged => Ticket {
            preimage: Preimage([0; 32]),
            ..good_at(top + 1)
        },
        Sent::PastEnd => Ticket {
            index: u32::try_from(good.len()).unwrap() + 1,
            ..good_at(1)
        },
        Sent::Zero => Ticket { index: 0, ..good_at(1) },
    };
    words.iter().map(spell).collect()
}

/// A payee that sells nothing while the tickets of these numbers ask, as when a write fails and another is durable later.
struct Pausing<'a> {
    payee: &'a mut Payee,
    asked: &'a mut u32,
    pause: std::ops::Range<u32>,
}

impl Room for Pausing<'_> {
    fn check_selling(&mut self) -> Result<(), Reject> {
        let number = std::mem::replace(self.asked, *self.asked + 1);
        if self.pause.contains(&number) {
            return Err(Reject::of(Code::NotSelling));
        }
        self.payee.check_selling()
    }

    fn reserve(&mut self, hold: &HoldId, book: &BookId) -> Result<(), Reject> {
        self.payee.reserve(hold, book)
    }

    fn win(&mut self, hold: &HoldId, book: &BookId) {
        self.payee.win(hold, book);
    }
}

/// Spec: B-14.
#[test]
fn a_pause_in_the_middle_of_a_run_takes_nothing_more_and_loses_nothing() {
    let mut w = World::new();
    let hold = w.hold(1_000_000, |_| ());
    let (tickets, mut book) = w.open(&hold, 300, 50);
    let (mut asked, mut told) = (0, 0);
    let mut paused = Pausing {
        payee: &mut w.payee,
        asked: &mut asked,
        pause: 20..21,
    };
    let stopped = book.take_all(&tickets, &mut paused, NOW, |_| told += 1);
    assert_eq!(stopped, Err(Reject::of(Code::NotSelling)));
    assert_eq!((told, book.through()), (20, 20));
    assert_eq!(
        book.take_all(&tickets[20..], &mut paused, NOW, |_| told += 1),
        Ok(()),
        "what was left is good when it sells again"
    );
    assert_eq!((told, book.through()), (50, 50));
}

/// Everything that can be seen of a book and of what it shares, after each of its answers.
fn everything(w: &World, book: &PayeeBook) -> String {
    format!("{book:?} {:?}", w.payee.exposure())
}

proptest::proptest! {
    #[test]
    fn however_tickets_are_split_into_runs_the_same_becomes_of_them(
        words in proptest::collection::vec(sent(), 1..200),
        sizes in proptest::collection::vec(1..70usize, 1..40),
        cap_faces in 1..30u64,
        price in 10..400u64,
        length in 100..300u32,
        top_up_after in proptest::option::of(0..20usize),
        late in proptest::option::weighted(0.1, 0..20usize),
        pause_from in 0..200u32,
        pause_length in 0..4u32,
    ) {
        let (mut one, mut many) = (World::new(), World::new());
        let hold = one.hold(cap_faces * FACE.0, |_| ());
        let more = one.topped_up(&hold, 2 * cap_faces * FACE.0);
        let (good, mut one_book) = one.open(&hold, price, length);
        let (_, mut many_book) = many.open(&hold, price, length);
        let tickets = spell(&words, &good);
        let mut left = tickets.as_slice();
        let pause = pause_from..pause_from + pause_length;
        let (mut one_asked, mut many_asked) = (0, 0);
        for (run_number, size) in sizes.into_iter().enumerate() {
            let (run, after) = left.split_at(size.min(left.len()));
            left = after;
            let now = if late.is_some_and(|at| at <= run_number) { hold.body.terms.expires_at } else { NOW };
            let mut singly = Vec::new();
            let mut room = Pausing { payee: &mut one.payee, asked: &mut one_asked, pause: pause.clone() };
            let one_by_one = run.iter().try_for_each(|ticket| {
                singly.push(one_book.take(ticket, &mut room, now)?);
                Ok::<(), Reject>(())
            });
            let mut told = Vec::new();
            let mut room = Pausing { payee: &mut many.payee, asked: &mut many_asked, pause: pause.clone() };
            let at_once = many_book.take_all(run, &mut room, now, |taken| told.push(taken));
            proptest::prop_assert_eq!((&told, at_once), (&singly, one_by_one));
            proptest::prop_assert_eq!(everything(&many, &many_book), everything(&one, &one_book));
            proptest::prop_assert_eq!(many_asked, one_asked);
            if at_once.is_err_and(|reject| reject.code == Code::NotSelling) {
                // As the driver does: what was not taken stays in its buffer until there is room or time for it.
                left = &tickets[tickets.len() - left.len() - run.len() + told.len()..];
            } else if let Err(reject) = at_once {
                // As the driver does: the book is closed, and what comes after is refused with the same words.
                one.payee.closed(&one_book.close(reject), now);
                many.payee.closed(&many_book.close(reject), now);
            }
            if top_up_after == Some(run_number) {
                one.payee.present_hold(&more, NOW).unwrap();
                many.payee.present_hold(&more, NOW).unwrap();
                proptest::prop_assert_eq!(one_book.resume(&mut one.payee), many_book.resume(&mut many.payee));
            }
        }
    }
}
