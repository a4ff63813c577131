//! Messages about money that leaves, is divided, or was lost: payouts, splits, evidence.

use super::sample::{Sample, list};
use tombola_core::amount::{Amount, DAY_MS, Timestamp};
use tombola_core::key::Signed;
use tombola_core::message::{
    AccountState, Charge, EscrowAnswer, EscrowCommand, Evidence, PayoutPolicy, Redemption, Reference, ResubmitAnswer,
    Share, SharePaid, Shares, StatementKind,
};
use tombola_core::reject::{Code, Reject};

fn text(text: &str) -> Reference {
    Reference::new(text).expect("a short text")
}

pub(crate) fn policy() -> PayoutPolicy {
    PayoutPolicy {
        threshold: Amount(1_000_000_000_000),
        every_ms: 30 * DAY_MS,
        destination: text("bank:DE00"),
    }
}

/// Royalties: 70 % and 20 %; the payee keeps 10 %.
pub(crate) fn shares(sample: &Sample) -> Shares {
    let share = |account, ppm| Share { account, ppm };
    list(vec![
        share(sample.payer.account(), 700_000),
        share(sample.signer.account(), 200_000),
    ])
}

pub(crate) fn commands(sample: &Sample) -> Vec<(&'static str, EscrowCommand)> {
    let request = sample.request();
    let evidence = vec![
        Evidence::Hold(sample.signed_hold()),
        Evidence::Receipt {
            claim: sample.claim(),
            receipt: Signed::new(sample.receipt(), &sample.escrow),
        },
        Evidence::Release(Signed::new(sample.release(), &sample.payee)),
    ];
    let policy = Some(policy());
    let shares = shares(sample);
    vec![
        ("a payout policy", EscrowCommand::SetPayout { request, policy }),
        ("no payout policy", EscrowCommand::SetPayout { request, policy: None }),
        ("a split", EscrowCommand::SetSplit { request, shares }),
        (
            "no split",
            EscrowCommand::SetSplit {
                request,
                shares: Shares::default(),
            },
        ),
        (
            "resubmit a hold, a receipt and a release",
            EscrowCommand::Resubmit {
                evidence: list(evidence),
            },
        ),
    ]
}

pub(crate) fn answers(sample: &Sample, at: Timestamp) -> Vec<(&'static str, EscrowAnswer)> {
    let refused = Reject::compared(Code::ResubmittedTooOld, at.0, at.minus_ms(1).0);
    let answers = vec![
        ResubmitAnswer::Restored,
        ResubmitAnswer::Known,
        ResubmitAnswer::Refused(refused),
    ];
    vec![
        (
            "a withdrawal",
            EscrowAnswer::WithdrawalPending {
                withdrawal: 5,
                at,
                fee: Amount(250_000_000),
            },
        ),
        (
            "an account with a payout policy and a split",
            EscrowAnswer::Account(AccountState {
                account: sample.payee.account(),
                balance: Amount(8_000_000_000),
                held: Amount::ZERO,
                open_holds: 0,
                holds: list(vec![]),
                more: false,
                pending: Amount(1_000_000_000),
                payout: Some(policy()),
                shares: shares(sample),
            }),
        ),
        ("a payout policy is set", EscrowAnswer::PayoutSet { at }),
        ("a split is set", EscrowAnswer::SplitSet { at }),
        (
            "restored, known and refused",
            EscrowAnswer::Resubmitted { answers: list(answers) },
        ),
    ]
}

pub(crate) fn kinds(sample: &Sample, charge: &Charge) -> Vec<(&'static str, StatementKind)> {
    let receipt = &charge.receipt.body;
    let credit = Amount(receipt.gross.0 - receipt.fee.0);
    let divided = tombola_core::escrow::split::divide(credit, shares(sample).as_slice());
    let first: SharePaid = divided.shares[0];
    vec![
        (
            "redeemed alone",
            StatementKind::Redeemed(Box::new(Redemption {
                charge: *charge,
                shares: list(vec![]),
            })),
        ),
        (
            "redeemed and shared",
            StatementKind::Redeemed(Box::new(Redemption {
                charge: *charge,
                shares: list(divided.shares),
            })),
        ),
        (
            "withdrawn",
            StatementKind::Withdrawn {
                withdrawal: 5,
                amount: Amount(1_000_000_000),
                fee: Amount(250_000_000),
                destination: text("bank:DE00"),
                reference: text("invoice 17"),
            },
        ),
        (
            "a withdrawal was paid",
            StatementKind::WithdrawalPaid {
                withdrawal: 5,
                reference: text("wire 4712"),
            },
        ),
        (
            "a withdrawal failed",
            StatementKind::WithdrawalFailed {
                withdrawal: 5,
                amount: Amount(1_000_000_000),
                reference: text("account closed"),
            },
        ),
        (
            "a share",
            StatementKind::Shared {
                payee: sample.payee.account(),
                book: receipt.book,
                amount: first.amount,
            },
        ),
        ("not a signer's to see", StatementKind::Private),
    ]
}
