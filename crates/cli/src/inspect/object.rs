//! Objects and what there is to say about each: ids, and signatures whose key is inside.

use crate::output::{date, money};
use serde_json::{Map, Value, json};
use tombola_core::amount::{Amount, Asset};
use tombola_core::book::{Book, Ticket};
use tombola_core::claim::{Claim, ClaimBatch, Receipt, Refusal};
use tombola_core::codec::{decode, tagged_bytes};
use tombola_core::hold::{Delegation, Hold, HoldTerms, Release};
use tombola_core::key::{AccountKey, Signature, Signed, Tagged};
use tombola_core::message::{
    AccountState, BookFrame, Charge, ClaimAnswer, EscrowAnswer, EscrowCommand, EscrowInfo, EscrowRequest, Evidence,
    HoldRequest,
    HoldStatus, OpenBook, PayeeAnswer, PayeeRequest, ResponseHeader, ServiceOffer, StatementEntry, StatementKind,
    StatementPage, TransferReceipt,
};
use tombola_core::quote::{Quote, QuoteTerms};
use tombola_core::reject::Reject;

/// What is known about some bytes.
#[derive(Debug)]
pub(super) struct About {
    pub(super) kind: String,
    pub(super) fields: Value,
    ids: Map<String, Value>,
    summary: Map<String, Value>,
    signatures: Vec<Value>,
}

impl About {
    pub(super) fn new(kind: &str, fields: Value) -> Self {
        Self {
            kind: kind.to_owned(),
            fields,
            ids: Map::new(),
            summary: Map::new(),
            signatures: Vec::new(),
        }
    }

    pub(super) fn framed(mut self) -> Self {
        self.kind.push_str(" in a frame");
        self
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "type": self.kind,
            "ids": self.ids,
            "summary": self.summary,
            "signatures": self.signatures,
            "fields": self.fields,
        })
    }

    fn id(&mut self, name: &str, id: impl serde::Serialize) {
        self.ids.insert(name.to_owned(), json!(id));
    }

    fn say(&mut self, name: &str, value: impl serde::Serialize) {
        self.summary.insert(name.to_owned(), json!(value));
    }

    fn amount(&mut self, name: &str, amount: Amount, asset: Asset) {
        self.say(name, format!("{} {}", money(amount, asset), asset.name()));
    }

    /// A signature whose key is known.
    fn signed<T: Tagged>(&mut self, what: &str, object: &Signed<T>, by: &AccountKey) {
        let is_good = by.check().is_ok_and(|key| object.verify(&key).is_ok());
        self.signatures
            .push(json!({ "of": what, "by": by, "verifies": is_good }));
    }

    /// A signature whose key is in another object.
    fn unknown(&mut self, what: &str, signer: &str) {
        self.signatures
            .push(json!({ "of": what, "by": signer, "verifies": null }));
    }
}

/// What an object says about itself besides its fields.
trait Inspect {
    fn inspect(&self, _about: &mut About) {}
}

/// Every object that is encoded in exactly these bytes.
pub(super) fn objects(bytes: &[u8]) -> Vec<About> {
    let mut found = Vec::new();
    macro_rules! types {
        ($($name:literal $kind:ty,)*) => {
            $(if let Ok(object) = decode::<$kind>(bytes) {
                let mut about = About::new($name, json!(object));
                object.inspect(&mut about);
                found.push(about);
            })*
        };
    }
    types! {
        "Signed<Hold>" Signed<Hold>,
        "Signed<Book>" Signed<Book>,
        "Signed<ClaimBatch>" Signed<ClaimBatch>,
        "Signed<Receipt>" Signed<Receipt>,
        "Signed<Refusal>" Signed<Refusal>,
        "Signed<Release>" Signed<Release>,
        "Signed<Delegation>" Signed<Delegation>,
        "Claim" Claim,
        "Quote" Quote,
        "Ticket" Ticket,
        "Hold" Hold,
        "Book" Book,
        "Receipt" Receipt,
        "Refusal" Refusal,
        "Release" Release,
        "Delegation" Delegation,
        "ClaimBatch" ClaimBatch,
        "QuoteTerms" QuoteTerms,
        "PayeeRequest" PayeeRequest,
        "OpenBook" OpenBook,
        "PayeeAnswer" PayeeAnswer,
        "BookFrame" BookFrame,
        "ServiceOffer" ServiceOffer,
        "ResponseHeader" ResponseHeader,
        "EscrowRequest" EscrowRequest,
        "HoldRequest" HoldRequest,
        "EscrowAnswer" EscrowAnswer,
        "EscrowInfo" EscrowInfo,
        "AccountState" AccountState,
        "HoldStatus" HoldStatus,
        "ClaimAnswer" ClaimAnswer,
        "TransferReceipt" TransferReceipt,
        "StatementPage" StatementPage,
        "StatementEntry" StatementEntry,
        "Charge" Charge,
        "Reject" Reject,
    }
    found
}

impl Inspect for Hold {
    fn inspect(&self, about: &mut About) {
        let HoldTerms {
            asset,
            fee,
            expires_at,
            redeem_by,
            face_value_min,
            face_value_max,
            ..
        } = self.terms;
        about.id("hold", self.id());
        about.amount("cap", self.cap, asset);
        about.amount("face_value_min", face_value_min, asset);
        about.amount("face_value_max", face_value_max, asset);
        about.amount("fee_flat", fee.flat, asset);
        about.say("expires_at", date(expires_at));
        about.say("redeem_by", date(redeem_by));
        if let Err(reject) = self.check_shape() {
            about.say("breaks a rule", reject.code);
        }
    }
}

impl Inspect for Signed<Hold> {
    fn inspect(&self, about: &mut About) {
        self.body.inspect(about);
        about.signed("hold", self, &self.body.terms.escrow);
    }
}

impl Inspect for Book {
    fn inspect(&self, about: &mut About) {
        about.id("book", self.id());
        about.id("hold", self.hold);
        about.say("odds", format!("1 in {}", self.threshold.tickets_per_win()));
    }
}

impl Inspect for Signed<Book> {
    fn inspect(&self, about: &mut About) {
        self.body.inspect(about);
        about.unknown("book", "the hold's signer");
    }
}

impl Inspect for Claim {
    fn inspect(&self, about: &mut About) {
        self.book.inspect(about);
        about.id("claim", self.hash());
        let is_opened = self.reveal.commitment() == self.book.body.commitment;
        about.say("the reveal opens the commitment", is_opened);
    }
}

impl Inspect for ClaimBatch {
    fn inspect(&self, about: &mut About) {
        about.say("claims", self.claims.as_slice().len());
    }
}

impl Inspect for Signed<ClaimBatch> {
    fn inspect(&self, about: &mut About) {
        self.body.inspect(about);
        about.signed("batch", self, &self.body.payee);
    }
}

impl Inspect for Receipt {
    fn inspect(&self, about: &mut About) {
        about.id("book", self.book);
        about.say("at", date(self.at));
    }
}

impl Inspect for Signed<Receipt> {
    fn inspect(&self, about: &mut About) {
        self.body.inspect(about);
        about.signed("receipt", self, &self.body.escrow);
    }
}

impl Inspect for Refusal {
    fn inspect(&self, about: &mut About) {
        about.id("book", self.book);
        about.id("claim", self.claim_hash);
        about.say("at", date(self.at));
    }
}

impl Inspect for Signed<Refusal> {
    fn inspect(&self, about: &mut About) {
        self.body.inspect(about);
        about.signed("refusal", self, &self.body.escrow);
    }
}

impl Inspect for Release {
    fn inspect(&self, about: &mut About) {
        about.id("hold", self.hold);
    }
}

impl Inspect for Signed<Release> {
    fn inspect(&self, about: &mut About) {
        self.body.inspect(about);
        about.unknown("release", "the hold's payee");
    }
}

impl Inspect for Delegation {
    fn inspect(&self, about: &mut About) {
        about.say("expires_at", date(self.expires_at));
    }
}

impl Inspect for Signed<Delegation> {
    fn inspect(&self, about: &mut About) {
        self.body.inspect(about);
        about.signed("delegation", self, &self.body.account);
    }
}

impl Inspect for QuoteTerms {
    fn inspect(&self, about: &mut About) {
        about.id("quote", self.quote_id);
        about.amount("ticket_price", self.ticket_price, self.asset);
        about.amount("face_value_min", self.face_value_min, self.asset);
        about.amount("face_value_max", self.face_value_max, self.asset);
        about.say("expires_at", date(self.expires_at));
    }
}

impl Inspect for Quote {
    fn inspect(&self, about: &mut About) {
        self.terms.inspect(about);
    }
}

impl Inspect for OpenBook {
    fn inspect(&self, about: &mut About) {
        self.hold.inspect(about);
        self.book.body.inspect(about);
        self.quote.inspect(about);
        about.signed("book", &self.book, &self.hold.body.terms.signer);
        if let Err(reject) = self.book.body.check_hold(&self.hold.body) {
            about.say("breaks a rule", reject.code);
        }
    }
}

impl Inspect for PayeeRequest {
    fn inspect(&self, about: &mut About) {
        match self {
            Self::OpenBook(open) => open.inspect(about),
            Self::PresentHold { hold } => hold.inspect(about),
            Self::Services { .. } | Self::Quote { .. } | Self::Request { .. } => {}
        }
    }
}

impl Inspect for PayeeAnswer {
    fn inspect(&self, about: &mut About) {
        match self {
            Self::Quote(quote) => quote.inspect(about),
            Self::Rejected(reject) => reject.inspect(about),
            Self::Services { .. } | Self::HoldState { .. } | Self::Response(_) => {}
        }
    }
}

impl Inspect for BookFrame {
    fn inspect(&self, about: &mut About) {
        let (Self::Ack { next_quote, .. } | Self::Closed { next_quote, .. }) = self else {
            return;
        };
        if let Some(quote) = next_quote {
            quote.inspect(about);
        }
    }
}

impl Inspect for Reject {
    fn inspect(&self, about: &mut About) {
        about.say("advice", self.code.advice());
    }
}

impl Inspect for EscrowRequest {
    fn inspect(&self, about: &mut About) {
        about.id("request_hash", self.hash());
        match &self.command {
            EscrowCommand::Release(release) => about.signed("release", release, &self.account),
            EscrowCommand::Delegate { delegation, .. } => delegation.inspect(about),
            EscrowCommand::Claim { batch, signature } => {
                batch.inspect(about);
                if let Some(signature) = signature {
                    about.signatures.push(batch_signature(batch, signature));
                }
            }
            EscrowCommand::Info
            | EscrowCommand::Account { .. }
            | EscrowCommand::OpenHold { .. }
            | EscrowCommand::TopUpHold { .. }
            | EscrowCommand::HoldStatus { .. }
            | EscrowCommand::Transfer { .. }
            | EscrowCommand::Withdraw { .. }
            | EscrowCommand::Statement { .. }
            | EscrowCommand::Subscribe { .. }
            | EscrowCommand::SetPayout { .. }
            | EscrowCommand::SetSplit { .. } => {}
            EscrowCommand::Resubmit { evidence } => evidence.as_slice().iter().for_each(|item| item.inspect(about)),
        }
    }
}

impl Inspect for Evidence {
    fn inspect(&self, about: &mut About) {
        match self {
            Self::Hold(hold) => hold.inspect(about),
            Self::Release(release) => release.inspect(about),
            Self::Receipt { claim, receipt } => {
                claim.inspect(about);
                receipt.inspect(about);
            }
        }
    }
}

fn batch_signature(batch: &ClaimBatch, signature: &Signature) -> Value {
    let bytes = tagged_bytes(ClaimBatch::TAG, batch);
    let key = batch.payee.check();
    let is_good = key.is_ok_and(|key| key.verify_bytes(&bytes, signature).is_ok());
    json!({ "of": "batch", "by": batch.payee, "verifies": is_good })
}

impl Inspect for EscrowAnswer {
    fn inspect(&self, about: &mut About) {
        match self {
            Self::Rejected(reject) => reject.inspect(about),
            Self::Account(state) => state.inspect(about),
            Self::Hold(hold) | Self::RevisionStale(hold) => hold.inspect(about),
            Self::HoldStatus(status) => status.inspect(about),
            Self::Claimed { answers } => answers.as_slice().iter().for_each(|answer| answer.inspect(about)),
            Self::Statement(page) => page.inspect(about),
            Self::Info(_)
            | Self::Released { .. }
            | Self::Delegated { .. }
            | Self::Transferred(_)
            | Self::WithdrawalPending { .. }
            | Self::PayoutSet { .. }
            | Self::SplitSet { .. }
            | Self::Resubmitted { .. } => {}
        }
    }
}

impl Inspect for AccountState {
    fn inspect(&self, about: &mut About) {
        for status in self.holds.as_slice() {
            about.signed("hold", &status.hold, &status.hold.body.terms.escrow);
        }
    }
}

impl Inspect for HoldStatus {
    fn inspect(&self, about: &mut About) {
        self.hold.inspect(about);
    }
}

impl Inspect for ClaimAnswer {
    fn inspect(&self, about: &mut About) {
        match self {
            Self::Receipt(receipt) => about.signed("receipt", receipt, &receipt.body.escrow),
            Self::Refusal(refusal) => about.signed("refusal", refusal, &refusal.body.escrow),
        }
    }
}

impl Inspect for StatementPage {
    fn inspect(&self, about: &mut About) {
        self.entries.as_slice().iter().for_each(|entry| entry.inspect(about));
    }
}

impl Inspect for StatementEntry {
    fn inspect(&self, about: &mut About) {
        match &self.kind {
            StatementKind::Held { hold, .. } => about.signed("hold", hold, &hold.body.terms.escrow),
            StatementKind::Charged(charge) => charge.inspect(about),
            StatementKind::Redeemed(redemption) => redemption.charge.inspect(about),
            StatementKind::Deposited { .. }
            | StatementKind::Returned { .. }
            | StatementKind::Sent { .. }
            | StatementKind::Received { .. }
            | StatementKind::Withdrawn { .. }
            | StatementKind::WithdrawalPaid { .. }
            | StatementKind::WithdrawalFailed { .. }
            | StatementKind::Shared { .. }
            | StatementKind::Private => {}
        }
    }
}

impl Inspect for Charge {
    fn inspect(&self, about: &mut About) {
        let terms = &self.hold.body.terms;
        about.signed("hold", &self.hold, &terms.escrow);
        about.signed("book", &self.claim.book, &terms.signer);
        about.signed("receipt", &self.receipt, &self.receipt.body.escrow);
        if let Err(reject) = self.claim.verify(&self.hold.body) {
            about.say("the claim does not hold", reject.code);
        }
    }
}

impl Inspect for Ticket {}
impl Inspect for ServiceOffer {}
impl Inspect for ResponseHeader {}
impl Inspect for HoldRequest {}
impl Inspect for EscrowInfo {}
impl Inspect for TransferReceipt {}
