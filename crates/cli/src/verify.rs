//! `tombola verify`: what evidence proves, offline, and never more.

mod log;

use crate::exit::{CHECK_FAILED, Failure};
use crate::inspect::read_input;
use crate::output::{Output, date, money};
use clap::Subcommand;
use serde_json::{Value, json};
use tombola_core::book::Book;
use tombola_core::claim::{Claim, Refusal, Winnings};
use tombola_core::codec::{DecodeError, decode};
use tombola_core::hold::Hold;
use tombola_core::key::Signed;
use tombola_core::reject::{Code, Reject};

/// Check evidence offline: nobody is asked, and the word of nobody is taken.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tombola verify claim hold.bin book.bin claim.bin
  tombola verify claim hold.bin book.bin claim.bin --refusal refusal.bin
  tombola verify receipt receipt.bin --log log.bin
  tombola verify log log.bin another.bin")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Whether hold, book and claim prove that an escrow owes a payee.
    Claim {
        /// The hold as the escrow signed it: a file of bytes or hex, or hex.
        hold: String,
        /// The book as the payer signed it.
        book: String,
        /// The claim.
        claim: String,
        /// The escrow's signed refusal of the claim, if there is one.
        #[arg(long, value_name = "FILE|HEX")]
        refusal: Option<String>,
    },
    /// Whether the escrow signed a receipt, and whether the event that it names paid what it says.
    Receipt {
        /// The receipt: a file of bytes or hex, or hex.
        receipt: String,
        /// An extract of the log, by tombola escrow log.
        #[arg(long, value_name = "FILE")]
        log: Option<String>,
    },
    /// Whether an extract of a log holds together, and whether another extract or a receipt is of the same history.
    Log {
        /// The extract.
        extract: String,
        /// Another extract of the same log, or a receipt.
        other: Option<String>,
    },
}

pub(crate) fn run(args: &Args, output: Output) -> Result<(), Failure> {
    let (hold, book, claim, refusal) = match &args.what {
        What::Claim {
            hold,
            book,
            claim,
            refusal,
        } => (hold, book, claim, refusal),
        What::Receipt { receipt, log } => return log::receipt(receipt, log.as_deref(), output),
        What::Log { extract, other } => return log::log(extract, other.as_deref(), output),
    };
    let hold: Signed<Hold> = object("hold", decode(&read_input(hold)?))?;
    let book: Signed<Book> = object("book", decode(&read_input(book)?))?;
    let claim: Claim = object("claim", decode(&read_input(claim)?))?;
    let refusal: Option<Signed<Refusal>> = match refusal {
        Some(refusal) => Some(object("refusal", decode(&read_input(refusal)?))?),
        None => None,
    };

    let mut checks = Checks::default();
    let winnings = checks.claim(&hold, &book, &claim);
    let refusal_json = refusal.as_ref().map(|refusal| checks.refusal(refusal, &hold, &claim));
    let is_sound = checks.is_sound();
    let mut result = json!({ "valid": is_sound, "checks": checks.list, "refusal": refusal_json });
    let Some(winnings) = winnings.filter(|_| is_sound) else {
        let failure = Failure::new(CHECK_FAILED, "this proves nothing: a check fails")
            .next("look at the failing check; its code is explained in proto-spec.md");
        return Err(output.found(result, || checks.text(), failure));
    };
    let statement = statement(&hold.body, &winnings, &mut result);
    output.result(&result, || {
        let added = result
            .get("refusal")
            .and_then(|refusal| refusal.get("adds"))
            .and_then(Value::as_str);
        let added = added.map(|added| format!("\n{added}")).unwrap_or_default();
        format!("{}\n{statement}{added}", checks.text())
    });
    Ok(())
}

fn object<T>(what: &str, decoded: Result<T, DecodeError>) -> Result<T, Failure> {
    decoded.map_err(|error| {
        let code = Reject::from(error).code;
        Failure::new(code.name(), format!("the {what} is not one: {error}")).next("tombola inspect shows what it is")
    })
}

/// The sentence that evidence supports; its parts go into the result.
fn statement(hold: &Hold, winnings: &Winnings, result: &mut Value) -> String {
    let terms = &hold.terms;
    let show = |amount| money(amount, terms.asset);
    // What the payee is credited: the fee stays with the escrow.
    let owed = show(winnings.gross.saturating_sub(winnings.fee));
    let (escrow, payee, asset) = (terms.escrow, terms.payee, terms.asset.name());
    let statement =
        format!("escrow {escrow} owes payee {payee} {owed} {asset} unless it shows a receipt, release or spent hold");
    let parts = json!({
        "escrow": escrow,
        "payee": payee,
        "asset": asset,
        "owed": owed,
        "gross": show(winnings.gross),
        "fee": show(winnings.fee),
        "winners": winnings.winners,
        "through": winnings.through,
        "hold": hold.id(),
        "book": winnings.book,
        "redeem_by": terms.redeem_by,
        "unless": ["receipt", "release", "spent hold"],
        "statement": statement,
    });
    if let (Some(result), Value::Object(parts)) = (result.as_object_mut(), parts) {
        result.extend(parts);
    }
    statement
}

/// Checks in their order, each with its outcome.
#[derive(Debug, Default)]
struct Checks {
    list: Vec<Value>,
}

impl Checks {
    fn note(&mut self, what: &str, outcome: Result<(), Reject>) -> bool {
        let is_ok = outcome.is_ok();
        let code = outcome.err().map(|reject| reject.code.name());
        self.list.push(json!({ "check": what, "ok": is_ok, "code": code }));
        is_ok
    }

    fn is_sound(&self) -> bool {
        self.list
            .iter()
            .all(|check| check.get("ok") == Some(&Value::Bool(true)))
    }

    fn text(&self) -> String {
        let line = |check: &Value| {
            let what = crate::output::text(check, "check");
            match check.get("code").and_then(Value::as_str) {
                None => format!("ok    {what}"),
                Some(code) => format!("FAIL  {what}: {code}"),
            }
        };
        self.list.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn claim(&mut self, hold: &Signed<Hold>, book: &Signed<Book>, claim: &Claim) -> Option<Winnings> {
        let terms = &hold.body.terms;
        let by_escrow = terms.escrow.check().map_err(Reject::from);
        let by_escrow = by_escrow.and_then(|key| Ok(hold.verify(&key)?));
        self.note("the escrow signed the hold", by_escrow);
        self.note("the hold keeps to the rules of holds", hold.body.check_shape());
        let by_signer = terms.signer.check().map_err(Reject::from);
        let by_signer = by_signer.and_then(|key| Ok(book.verify(&key)?));
        self.note("the hold's signer signed the book", by_signer);
        self.note("the book keeps to the hold", book.body.check_hold(&hold.body));
        let same = match claim.book.body == book.body {
            true => Ok(()),
            false => Err(Reject::of(Code::BookUnknown)),
        };
        self.note("the claim is of this book", same);
        let winnings = claim.verify(&hold.body);
        let what = "the claim's commitment, chain and every draw";
        self.note(what, winnings.as_ref().map(|_| ()).map_err(|reject| *reject));
        let winnings = winnings.ok()?;
        let over = Reject::compared(Code::ClaimOverCap, winnings.gross.0, hold.body.cap.0);
        let within = if winnings.gross <= hold.body.cap {
            Ok(())
        } else {
            Err(over)
        };
        self.note("the winners fit the hold's cap", within);
        Some(winnings)
    }

    /// Checks a refusal and says what it adds.
    fn refusal(&mut self, refusal: &Signed<Refusal>, hold: &Signed<Hold>, claim: &Claim) -> Value {
        let (body, terms) = (&refusal.body, &hold.body.terms);
        let by_escrow = terms.escrow.check().map_err(Reject::from);
        let by_escrow = by_escrow.and_then(|key| Ok(refusal.verify(&key)?));
        self.note("the escrow signed the refusal", by_escrow);
        let is_same_escrow = body.escrow == terms.escrow;
        let same = if is_same_escrow {
            Ok(())
        } else {
            Err(Reject::of(Code::WrongEscrow))
        };
        self.note("the refusal is of the hold's escrow", same);
        let is_of_claim = body.claim_hash == claim.hash() && body.book == claim.book.body.id();
        let same = if is_of_claim {
            Ok(())
        } else {
            Err(Reject::of(Code::BookUnknown))
        };
        self.note("the refusal is of this claim", same);
        let adds = adds(body, &hold.body);
        json!({
            "code": body.code,
            "at": body.at,
            "cap": money(body.cap, terms.asset),
            "paid": money(body.paid, terms.asset),
            "revision": body.revision,
            "adds": adds,
        })
    }
}

/// What a refusal that is sound adds to a claim that is sound.
fn adds(refusal: &Refusal, hold: &Hold) -> String {
    let terms = &hold.terms;
    let (at, code) = (date(refusal.at), refusal.code);
    if refusal.at > terms.redeem_by {
        let redeem_by = date(terms.redeem_by);
        return format!(
            "the refusal ({code}) is dated {at}, after redeem_by {redeem_by}: it proves no default, as the hold may have expired"
        );
    }
    if refusal.revision == hold.revision && refusal.cap != hold.cap {
        let (hers, ours) = (money(refusal.cap, terms.asset), money(hold.cap, terms.asset));
        return format!(
            "the refusal ({code}) says that revision {} has cap {hers}, the hold says {ours}: the escrow contradicts itself",
            hold.revision
        );
    }
    let (paid, cap) = (money(refusal.paid, terms.asset), money(refusal.cap, terms.asset));
    let excuse = match code {
        Code::ClaimOverCap => format!("it says that {paid} of {cap} are spent: receipts must show it"),
        Code::HoldReleased => "it says that the hold was released: the payee's signed release must show it".to_owned(),
        Code::HoldExpired => "the hold may not expire before redeem_by, so this is no excuse".to_owned(),
        _ => "the objects above hold by themselves, so this is no excuse".to_owned(),
    };
    format!(
        "the escrow refused it ({code}) on {at}, before redeem_by: a default unless it shows a receipt, release or spent hold; {excuse}"
    )
}
