//! Requests whose signatures, keys and draws were verified: pure, dear, and done on any core before the writer sees them.

use crate::keys::CheckedKeys;
use std::collections::HashMap;
use tombola_core::amount::Asset;
use tombola_core::claim::{Claim, ClaimBatch, Winnings};
use tombola_core::escrow::recovery::{self, Proved};
use tombola_core::escrow::{delegation, split};
use tombola_core::hold::Hold;
use tombola_core::key::{AccountKey, BadKey, HoldId, PublicKey, Signature, Tagged};
use tombola_core::message::{EscrowCommand, EscrowRequest, Evidence, RequestHash};
use tombola_core::reject::{Code, Reject};

/// The holds that a request's claims or release name, as far as the escrow knows them.
pub type KnownHolds = HashMap<HoldId, KnownHold>;

/// A hold whose signer's key was checked once for all its claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownHold {
    hold: Hold,
    signer: PublicKey,
}

impl KnownHold {
    /// Takes a hold that the ledger opened, in any revision.
    ///
    /// # Errors
    /// [`BadKey`] if its signer's key is not acceptable; the ledger opens no such hold.
    pub fn new(hold: Hold) -> Result<Self, BadKey> {
        let signer = hold.terms.signer.check()?;
        Ok(Self { hold, signer })
    }

    /// The hold.
    #[must_use]
    pub const fn hold(&self) -> &Hold {
        &self.hold
    }
}

/// A request with the result of verifying everything about it that needs no ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedRequest {
    connection: AccountKey,
    request: EscrowRequest,
    hash: RequestHash,
    proof: Proof,
}

/// What verifying showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// All is well.
    Sound,
    /// Something is wrong with the request as a whole.
    Unsound(Reject),
    /// What each claim of the batch proves.
    Claims(Vec<Result<Winnings, Reject>>),
    /// What each piece of evidence proves.
    Evidence(Vec<Result<Proved, Reject>>),
}

impl VerifiedRequest {
    /// Verifies a request that came in on the connection of a key. Spec: R-11.
    ///
    /// `holds` has the holds of [`holds_named`] in any of their revisions. About 0.2 ms for each claim of 1,000 tickets.
    #[must_use]
    pub fn verify(
        connection: AccountKey,
        request: EscrowRequest,
        escrow: &AccountKey,
        holds: &KnownHolds,
        keys: &CheckedKeys,
    ) -> Self {
        let hash = request.hash();
        let proof = prove(&connection, &request, escrow, holds, keys).unwrap_or_else(Proof::Unsound);
        Self {
            connection,
            request,
            hash,
            proof,
        }
    }

    /// Whose connection it came in on.
    #[must_use]
    pub const fn connection(&self) -> &AccountKey {
        &self.connection
    }

    /// What was asked.
    #[must_use]
    pub const fn request(&self) -> &EscrowRequest {
        &self.request
    }

    /// What its id is bound to.
    #[must_use]
    pub const fn hash(&self) -> &RequestHash {
        &self.hash
    }

    pub(crate) const fn proof(&self) -> &Proof {
        &self.proof
    }

    /// How many tickets verifying it walked and drew; far fewer than it may name, as most refusals come before the walk.
    #[must_use]
    pub fn tickets_walked(&self) -> u64 {
        let refusals: Vec<Option<Code>> = match &self.proof {
            Proof::Sound | Proof::Unsound(_) => Vec::new(),
            Proof::Claims(proofs) => proofs.iter().map(code_of).collect(),
            Proof::Evidence(proofs) => proofs.iter().map(code_of).collect(),
        };
        let walked = pieces_of(&self.request).into_iter().zip(refusals);
        let walked = walked.map(|(piece, refused)| piece.map_or(0, |claim| claim.tickets_walked(refused)));
        walked.map(u64::from).sum()
    }
}

fn code_of<T>(proof: &Result<T, Reject>) -> Option<Code> {
    proof.as_ref().err().map(|reject| reject.code)
}

/// What a request brings that is proved piece by piece: claims, and evidence, of which only receipts have a claim.
#[must_use]
pub fn pieces_of(request: &EscrowRequest) -> Vec<Option<&Claim>> {
    match &request.command {
        EscrowCommand::Claim { batch, .. } => batch.claims.as_slice().iter().map(Some).collect(),
        EscrowCommand::Resubmit { evidence } => {
            let pieces = evidence.as_slice().iter();
            pieces
                .map(|piece| match piece {
                    Evidence::Receipt { claim, .. } => Some(claim),
                    Evidence::Hold(_) | Evidence::Release(_) => None,
                })
                .collect()
        }
        EscrowCommand::Info
        | EscrowCommand::Account { .. }
        | EscrowCommand::OpenHold { .. }
        | EscrowCommand::TopUpHold { .. }
        | EscrowCommand::HoldStatus { .. }
        | EscrowCommand::Release(_)
        | EscrowCommand::Delegate { .. }
        | EscrowCommand::Transfer { .. }
        | EscrowCommand::Withdraw { .. }
        | EscrowCommand::Statement { .. }
        | EscrowCommand::Subscribe { .. }
        | EscrowCommand::SetPayout { .. }
        | EscrowCommand::SetSplit { .. } => Vec::new(),
    }
}

/// The holds that verifying a request needs.
#[must_use]
pub fn holds_named(request: &EscrowRequest) -> Vec<HoldId> {
    match &request.command {
        EscrowCommand::Claim { batch, .. } => {
            let mut ids: Vec<HoldId> = batch.claims.as_slice().iter().map(|c| c.book.body.hold).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        }
        EscrowCommand::Release(release) => vec![release.body.hold],
        EscrowCommand::Resubmit { evidence } => evidence.as_slice().iter().map(hold_of).collect(),
        EscrowCommand::Info
        | EscrowCommand::Account { .. }
        | EscrowCommand::OpenHold { .. }
        | EscrowCommand::TopUpHold { .. }
        | EscrowCommand::HoldStatus { .. }
        | EscrowCommand::Delegate { .. }
        | EscrowCommand::Transfer { .. }
        | EscrowCommand::Withdraw { .. }
        | EscrowCommand::Statement { .. }
        | EscrowCommand::Subscribe { .. }
        | EscrowCommand::SetPayout { .. }
        | EscrowCommand::SetSplit { .. } => Vec::new(),
    }
}

/// The hold that a piece of evidence is about.
pub(crate) fn hold_of(piece: &Evidence) -> HoldId {
    match piece {
        Evidence::Hold(signed) => signed.body.id(),
        Evidence::Release(signed) => signed.body.hold,
        Evidence::Receipt { claim, .. } => claim.book.body.hold,
    }
}

/// Authority and signatures of a request, and the winnings of its claims.
fn prove(
    connection: &AccountKey,
    request: &EscrowRequest,
    escrow: &AccountKey,
    holds: &KnownHolds,
    keys: &CheckedKeys,
) -> Result<Proof, Reject> {
    let account = &request.account;
    let unauthorized = Reject::of(Code::Unauthorized);
    if connection != account {
        // What is left may be a delegated signer's to ask: the ledger knows the delegation.
        delegation::check_command(&request.command)?;
    }
    match &request.command {
        EscrowCommand::Info => Ok(Proof::Sound),
        EscrowCommand::Withdraw { .. } | EscrowCommand::SetPayout { .. } => Ok(Proof::Sound),
        EscrowCommand::SetSplit { shares, .. } => {
            split::check(account, shares.as_slice())?;
            Ok(Proof::Sound)
        }
        // The account's signature is its authority, whoever brings it.
        EscrowCommand::Delegate { delegation, .. } => {
            if delegation.body.account != *account {
                return Err(unauthorized);
            }
            let key = account.check()?;
            keys.check(&delegation.body.signer)?;
            delegation.verify(&key)?;
            Ok(Proof::Sound)
        }
        EscrowCommand::Resubmit { evidence } => prove_evidence(evidence.as_slice(), escrow, holds).map(Proof::Evidence),
        EscrowCommand::Account { .. }
        | EscrowCommand::TopUpHold { .. }
        | EscrowCommand::HoldStatus { .. }
        | EscrowCommand::Subscribe { .. }
        | EscrowCommand::Statement { .. } => Ok(Proof::Sound),
        EscrowCommand::OpenHold { hold, .. } => {
            keys.check(&hold.signer)?;
            keys.check(&hold.payee)?;
            Ok(Proof::Sound)
        }
        EscrowCommand::Transfer { to, .. } => {
            keys.check(to)?;
            Ok(Proof::Sound)
        }
        // The payee's signature is its authority, so that a lost connection does not matter.
        EscrowCommand::Release(release) => {
            let known = holds.get(&release.body.hold).ok_or(Reject::of(Code::HoldUnknown))?;
            if known.hold.terms.payee != *account {
                return Err(unauthorized);
            }
            release.verify(&account.check()?)?;
            Ok(Proof::Sound)
        }
        EscrowCommand::Claim { batch, signature } => {
            check_batch(connection, account, escrow, batch, signature.as_ref())?;
            let claims = batch.claims.as_slice().iter();
            Ok(Proof::Claims(
                claims.map(|claim| prove_claim(claim, &batch.payee, holds)).collect(),
            ))
        }
    }
}

/// What each piece of evidence proves; each may name a hold that one before it shows. Spec: R-25.
fn prove_evidence(
    pieces: &[Evidence],
    escrow: &AccountKey,
    holds: &KnownHolds,
) -> Result<Vec<Result<Proved, Reject>>, Reject> {
    let escrow = escrow.check()?;
    let mut shown: HashMap<HoldId, Hold> = HashMap::new();
    let mut proofs = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let id = hold_of(piece);
        let hold = holds.get(&id).map(KnownHold::hold).or_else(|| shown.get(&id));
        // The writer knows the escrow's asset and compares it; here a hold's own is as good as any.
        let asset = match piece {
            Evidence::Hold(signed) => signed.body.terms.asset,
            Evidence::Release(_) | Evidence::Receipt { .. } => Asset::USD,
        };
        let proof = recovery::verify(piece, hold, &escrow, &asset);
        if let (Evidence::Hold(signed), Ok(_)) = (piece, &proof) {
            shown.insert(id, signed.body);
        }
        proofs.push(proof);
    }
    Ok(proofs)
}

/// Whether a batch is for this escrow and from its payee: on its connection, or with its signature. Spec: R-10.
fn check_batch(
    connection: &AccountKey,
    account: &AccountKey,
    escrow: &AccountKey,
    batch: &ClaimBatch,
    signature: Option<&Signature>,
) -> Result<(), Reject> {
    if batch.escrow != *escrow {
        return Err(Reject::of(Code::WrongEscrow));
    }
    if batch.payee != *account {
        return Err(Reject::of(Code::WrongPayee));
    }
    if batch.payee == *connection {
        return Ok(());
    }
    let signature = signature.ok_or(Reject::of(Code::WrongPayee))?;
    let bytes = tombola_core::codec::tagged_bytes(ClaimBatch::TAG, batch);
    Ok(batch.payee.check()?.verify_bytes(&bytes, signature)?)
}

/// What one claim proves, cheap before dear. Spec: R-11.
fn prove_claim(claim: &Claim, payee: &AccountKey, holds: &KnownHolds) -> Result<Winnings, Reject> {
    let known = holds.get(&claim.book.body.hold);
    let known = known.ok_or(Reject::of(Code::HoldUnknown))?;
    if known.hold.terms.payee != *payee {
        return Err(Reject::of(Code::WrongPayee));
    }
    claim.verify_by(&known.hold, &known.signer)
}
