//! One command to the escrow, chosen by bytes, good or bad, and what its answer tells.

use super::world::{PARTIES, World, account, public, secret};
use crate::input::Input;
use tombola_core::amount::{Amount, DAY_MS, HOUR_MS};
use tombola_core::book::{Anchor, Book};
use tombola_core::chain::{Chain, Preimage};
use tombola_core::claim::{Claim, ClaimBatch, Receipt};
use tombola_core::codec::List;
use tombola_core::draw::Reveal;
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::hold::{Delegation, Fee, Hold, Release};
use tombola_core::key::{RequestId, Signed};
use tombola_core::message::{
    ClaimAnswer, EscrowAnswer, EscrowCommand, EscrowRequest, Evidence, HoldRequest, PayoutPolicy, Reference, Share,
};
use tombola_core::odds::Threshold;
use tombola_ledger::ledger::{Command, Outcome};

const FACE: u64 = 1_000;
const LENGTH: u32 = 8;

/// A command that waits for its commit.
pub(super) struct Waiting {
    pub(super) command: Command,
    pub(super) asked: Asked,
}

/// What an answer is understood by.
pub(super) enum Asked {
    Claims(Vec<Claim>),
    Other,
}

/// What an answer tells.
pub(super) enum Answered {
    Opened(Hold),
    Raised(Hold),
    Receipts(Vec<(Claim, Receipt)>),
    Withdrawal(u64),
    Other,
}

impl Asked {
    pub(super) fn answered(self, outcome: &Outcome) -> Answered {
        let Outcome::Answer(draft) = outcome else {
            return Answered::Other;
        };
        match (draft.unsigned(), self) {
            (EscrowAnswer::Hold(hold), _) if hold.body.revision == 0 => Answered::Opened(hold.body),
            (EscrowAnswer::Hold(hold) | EscrowAnswer::RevisionStale(hold), _) => Answered::Raised(hold.body),
            (EscrowAnswer::WithdrawalPending { withdrawal, .. }, _) => Answered::Withdrawal(*withdrawal),
            (EscrowAnswer::Claimed { answers }, Self::Claims(claims)) => {
                assert_eq!(answers.as_slice().len(), claims.len(), "one answer of each claim");
                let paid = claims.into_iter().zip(answers.as_slice());
                Answered::Receipts(
                    paid.filter_map(|(claim, answer)| Some((claim, receipt(answer)?)))
                        .collect(),
                )
            }
            _ => Answered::Other,
        }
    }
}

fn receipt(answer: &ClaimAnswer) -> Option<Receipt> {
    match answer {
        ClaimAnswer::Receipt(receipt) => Some(receipt.body),
        ClaimAnswer::Refusal(_) => None,
    }
}

impl Waiting {
    /// The command that these bytes name, if there is what it is about.
    pub(super) fn choose(world: &mut World, action: u8, input: &mut Input<'_>) -> Option<Self> {
        let (party, number) = (input.below(PARTIES), input.byte());
        match action >> 3 {
            0 => Some(deposit(party, number, input)),
            1 => open(world, party, number, input),
            2 => top_up(world, number, input),
            3 => transfer(world, party, number, input),
            4 => claims(world, party, input),
            5 => Some(withdraw(world, party, number, input)),
            6 => release(world, input),
            7 => settle(world, number, input),
            8 => Some(account_rule(world, party, number, input)),
            9 => operator(world, party, number, input),
            10 => Some(delegate(world, number, input)),
            _ => again(world, party, number, input),
        }
    }

    fn request(world: &mut World, connection: usize, account_of: usize, command: EscrowCommand) -> Self {
        let request = EscrowRequest {
            account: account(account_of),
            command,
        };
        world.last = Some((connection, request.clone()));
        Self::of(world.verified(connection, request))
    }

    const fn of(command: Command) -> Self {
        let asked = Asked::Other;
        Self { command, asked }
    }
}

/// Mostly small; now and then as large as can be.
fn amount(number: u8, input: &mut Input<'_>) -> Amount {
    match number {
        255 => Amount(input.long()),
        254 => Amount(u64::MAX),
        _ => Amount(u64::from(number) * u64::from(input.byte())),
    }
}

fn reference(input: &mut Input<'_>) -> Reference {
    Reference::new(format!("r{}", input.byte() % 8)).expect("short")
}

fn deposit(party: usize, number: u8, input: &mut Input<'_>) -> Waiting {
    Waiting::of(Command::Deposit {
        account: public(party),
        amount: amount(number, input),
        reference: reference(input),
    })
}

/// Payers have the numbers 1 to 3, payees 4 to 6; the signer 7 asks for payer 1.
fn open(world: &mut World, party: usize, number: u8, input: &mut Input<'_>) -> Option<Waiting> {
    let payer = 1 + party % 3;
    let bad = input.byte();
    let connection = if number & 1 == 0 { payer } else { 7 };
    let cap = Amount(u64::from(input.short()) + 100);
    let life = input.pick(&[2 * HOUR_MS, DAY_MS, 300 * DAY_MS, 500 * DAY_MS]);
    let now = world.now;
    let hold = HoldRequest {
        signer: account(if connection == 7 { 7 } else { payer }),
        payee: account(if bad == 1 { payer } else { 4 + input.below(3) }),
        face_value_min: Amount(if bad == 2 { 0 } else { 10 }),
        face_value_max: Amount(FACE),
        book_length_max: if bad == 3 { u32::MAX } else { 4_096 },
        expires_at: now.plus_ms(life),
        redeem_by: now.plus_ms(if bad == 4 { 0 } else { life + DAY_MS }),
        cap,
        fee_max: Fee {
            flat: Amount(2),
            ppm: if bad == 5 { 0 } else { 10_000 },
        },
    };
    let request = world.header();
    Some(Waiting::request(
        world,
        connection,
        payer,
        EscrowCommand::OpenHold { request, hold },
    ))
}

fn top_up(world: &mut World, number: u8, input: &mut Input<'_>) -> Option<Waiting> {
    let hold = world.hold(input)?.hold;
    let payer = payer_of(&hold)?;
    let command = EscrowCommand::TopUpHold {
        request: world.header(),
        hold: hold.id(),
        revision: hold.revision.wrapping_add(u32::from(number & 1)),
        cap: Amount(hold.cap.0.wrapping_add(u64::from(input.short()))),
    };
    Some(Waiting::request(world, payer, payer, command))
}

fn payer_of(hold: &Hold) -> Option<usize> {
    (0..PARTIES).find(|party| account(*party) == hold.terms.payer)
}

fn payee_of(hold: &Hold) -> Option<usize> {
    (0..PARTIES).find(|party| account(*party) == hold.terms.payee)
}

fn transfer(world: &mut World, party: usize, number: u8, input: &mut Input<'_>) -> Option<Waiting> {
    let book = world.hold(input).and_then(|known| known.books.keys().next().copied());
    let command = EscrowCommand::Transfer {
        request: world.header(),
        to: account(input.below(PARTIES)),
        amount: amount(number, input),
        reference: reference(input),
        book: book.filter(|_| number & 1 == 0),
    };
    Some(Waiting::request(world, party, party, command))
}

/// Up to three claims of one payee, in which something may be wrong.
fn claims(world: &mut World, party: usize, input: &mut Input<'_>) -> Option<Waiting> {
    let hold = world.hold(input)?.hold;
    let payee = payee_of(&hold)?;
    let mut claims = Vec::new();
    for _ in 0..1 + party % 3 {
        let (book, through) = (input.byte() % 4, 1 + u32::from(input.byte()) % LENGTH);
        let mut claim = claim_of(&hold, book, through);
        match input.byte() {
            1 => claim.preimage.0[0] ^= 1,
            2 => claim.reveal.0[0] ^= 1,
            3 => claim.book.signature.0[0] ^= 1,
            4 => claim.through = LENGTH + 1,
            _ => {}
        }
        claims.push(claim);
    }
    let batch = ClaimBatch {
        escrow: account(0),
        payee: account(payee),
        claims: List::new(claims.clone()).ok()?,
    };
    let signature = None;
    let command = EscrowCommand::Claim { batch, signature };
    let connection = if party == 7 { 7 } else { payee };
    let waiting = Waiting::request(world, connection, payee, command);
    let asked = Asked::Claims(claims);
    Some(Waiting { asked, ..waiting })
}

/// A claim of a book of which every ticket wins, of the first two numbers, or every second.
fn claim_of(hold: &Hold, number: u8, through: u32) -> Claim {
    let secret_of_book = [number; 32];
    let reveal = Reveal(secret_of_book);
    let mut chain = Chain::new(Preimage(secret_of_book), LENGTH);
    let body = Book {
        hold: hold.id(),
        commitment: reveal.commitment(),
        anchor: Anchor(chain.anchor().0),
        length: LENGTH,
        face_value: Amount(FACE >> (number & 1)),
        threshold: if number < 2 {
            Threshold::ALWAYS
        } else {
            Threshold(u64::MAX / 2)
        },
    };
    let signer = (0..PARTIES).find(|party| account(*party) == hold.terms.signer);
    Claim {
        book: Signed::new(body, secret(signer.unwrap_or_default())),
        reveal,
        through,
        preimage: chain.preimage(through).unwrap_or(Preimage([0; 32])),
    }
}

fn withdraw(world: &mut World, party: usize, number: u8, input: &mut Input<'_>) -> Waiting {
    let command = EscrowCommand::Withdraw {
        request: world.header(),
        amount: amount(number, input),
        destination: reference(input),
        reference: reference(input),
    };
    Waiting::request(world, party, party, command)
}

fn release(world: &mut World, input: &mut Input<'_>) -> Option<Waiting> {
    let hold = world.hold(input)?.hold;
    let payee = payee_of(&hold)?;
    let paid = world.paid_of(&hold.id()).wrapping_add(u64::from(input.byte() & 1));
    let release = Release {
        hold: hold.id(),
        paid: Amount(paid),
    };
    let release = Signed::new(release, secret(payee));
    Some(Waiting::request(world, payee, payee, EscrowCommand::Release(release)))
}

fn settle(world: &World, number: u8, input: &mut Input<'_>) -> Option<Waiting> {
    let known = world.withdrawals.get(input.below(world.withdrawals.len()));
    Some(Waiting::of(Command::Settle {
        withdrawal: known.copied().unwrap_or_else(|| u64::from(number)),
        outcome: input.pick(&[PayoutOutcome::Paid, PayoutOutcome::Failed]),
        reference: reference(input),
    }))
}

/// A payout policy or a split.
fn account_rule(world: &mut World, party: usize, number: u8, input: &mut Input<'_>) -> Waiting {
    let request = world.header();
    let command = match number % 3 {
        0 => {
            let shares = (0..input.below(5)).map(|_| Share {
                account: account(input.below(PARTIES)),
                ppm: u32::from(input.short()) * 8,
            });
            let shares = List::new(shares.collect()).unwrap_or_default();
            EscrowCommand::SetSplit { request, shares }
        }
        1 => {
            let policy = PayoutPolicy {
                threshold: Amount(u64::from(input.short())),
                every_ms: input.pick(&[0, 1, HOUR_MS, DAY_MS]),
                destination: reference(input),
            };
            let policy = Some(policy);
            EscrowCommand::SetPayout { request, policy }
        }
        _ => EscrowCommand::SetPayout { request, policy: None },
    };
    Waiting::request(world, party, party, command)
}

fn operator(world: &World, party: usize, number: u8, input: &mut Input<'_>) -> Option<Waiting> {
    let command = match number % 2 {
        0 => Command::CollectFees {
            account: public(party),
            amount: amount(number, input),
            reference: reference(input),
        },
        _ => Command::Expire {
            hold: world.hold(input)?.hold.id(),
        },
    };
    Some(Waiting::of(command))
}

fn delegate(world: &mut World, number: u8, input: &mut Input<'_>) -> Waiting {
    let body = Delegation {
        escrow: account(0),
        account: account(1),
        signer: account(7),
        spend_max: Amount(u64::from(input.short())),
        face_value_max: Amount(FACE),
        payees: List::default(),
        expires_at: world.now.plus_ms(u64::from(number) * DAY_MS),
        serial: u64::from(input.byte() % 8),
    };
    let signer = if number == 200 { 2 } else { 1 };
    let delegation = Signed::new(body, secret(signer));
    let request = world.header();
    Waiting::request(world, 7, 1, EscrowCommand::Delegate { request, delegation })
}

/// The last request once more, as it was or under its id with another body; evidence; or a question.
fn again(world: &mut World, party: usize, number: u8, input: &mut Input<'_>) -> Option<Waiting> {
    match number % 5 {
        0 => {
            let (connection, request) = world.last.clone()?;
            Some(Waiting::of(world.verified(connection, request)))
        }
        1 => {
            let (connection, request) = world.last.clone()?;
            let id = request.command.request().map_or(RequestId([0; 16]), |header| header.id);
            let mut header = world.header();
            header.id = id;
            let command = EscrowCommand::SetPayout {
                request: header,
                policy: None,
            };
            let account = request.account;
            Some(Waiting::of(
                world.verified(connection, EscrowRequest { account, command }),
            ))
        }
        2 => evidence(world, party, input),
        3 => Some(Waiting::request(
            world,
            party,
            party,
            EscrowCommand::Statement { after: 0 },
        )),
        _ => {
            let hold = world.hold(input)?.hold;
            let command = EscrowCommand::HoldStatus { hold: hold.id() };
            let payer = payer_of(&hold)?;
            Some(Waiting::request(world, payer, payer, command))
        }
    }
}

/// What the escrow signed, and may have lost since.
fn evidence(world: &mut World, party: usize, input: &mut Input<'_>) -> Option<Waiting> {
    let known = world.hold(input)?;
    let mut pieces = vec![Evidence::Hold(Signed::new(known.hold, secret(0)))];
    for (claim, receipt) in known.claims.iter().take(3) {
        let receipt = Signed::new(*receipt, secret(0));
        pieces.push(Evidence::Receipt { claim: *claim, receipt });
    }
    if input.byte() & 1 == 1 {
        pieces.reverse();
    }
    let evidence = List::new(pieces).ok()?;
    Some(Waiting::request(
        world,
        party,
        party,
        EscrowCommand::Resubmit { evidence },
    ))
}
