//! Transfers, refunds and statements of an account.

use super::{Owner, reference_of};
use crate::exit::Failure;
use crate::output::Output;
use crate::payer::{entry_json, entry_text, statement_text};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;
use tombola_core::amount::Amount;
use tombola_core::key::{AccountKey, BookId};
use tombola_core::message::{EscrowAnswer, EscrowCommand, StatementEntry, StatementKind, StatementPage};
use tombola_node::config::Money;
use tombola_node::escrow_client::EscrowError;

/// How long a statement that is followed waits before it asks for an escrow again that went away.
const RETRY: Duration = Duration::from_secs(1);

impl Owner {
    pub(super) async fn transfer(
        &self,
        to: AccountKey,
        amount: Amount,
        reference: &str,
        book: Option<BookId>,
        output: Output,
    ) -> Result<(), Failure> {
        let command = EscrowCommand::Transfer {
            request: self.header().await?,
            to,
            amount,
            reference: reference_of("reference", reference)?,
            book,
        };
        let EscrowAnswer::Transferred(receipt) = self.ask(command).await? else {
            return Err(self.failed(EscrowError::Unintelligible));
        };
        let result = json!({
            "from": receipt.from,
            "to": to,
            "amount": self.money(receipt.amount),
            "reference": receipt.reference,
            "book": book,
            "at": receipt.at,
            "height": receipt.height,
        });
        output.result(&result, || {
            let about = book.map(|book| format!(" for book {book}")).unwrap_or_default();
            format!("{} moved to {to}{about}", self.money(receipt.amount))
        });
        Ok(())
    }

    /// Finds whom a book's winners were paid by, and gives some of it back.
    pub(super) async fn refund(
        &self,
        book: BookId,
        amount: &Money,
        reference: &str,
        output: Output,
    ) -> Result<(), Failure> {
        let amount = self.amount("amount", amount)?;
        let mut after = 0;
        let payer = loop {
            let page = self.page(after).await?;
            let redeemed = page.entries.as_slice().iter().find_map(|entry| match &entry.kind {
                StatementKind::Redeemed(redeemed) if redeemed.charge.receipt.body.book == book => {
                    Some(redeemed.charge.hold.body.terms.payer)
                }
                _ => None,
            });
            match (redeemed, page.entries.as_slice().last()) {
                (Some(payer), _) => break payer,
                (None, Some(last)) if page.more => after = last.sequence,
                (None, _) => {
                    let message = format!("nothing was redeemed of book {book}, so there is no payer to refund");
                    return Err(Failure::new("book_unknown", message).next("tombola payee statement lists the books"));
                }
            }
        };
        self.transfer(payer, amount, reference, Some(book), output).await
    }

    async fn page(&self, after: u64) -> Result<StatementPage, Failure> {
        match self.ask(EscrowCommand::Statement { after }).await? {
            EscrowAnswer::Statement(page) => Ok(page),
            _ => Err(self.failed(EscrowError::Unintelligible)),
        }
    }

    /// All there is after a sequence number.
    pub(super) async fn statement(&self, after: u64, output: Output) -> Result<(), Failure> {
        let (mut entries, mut after) = (Vec::new(), after);
        loop {
            let page = self.page(after).await?;
            entries.extend(
                page.entries
                    .as_slice()
                    .iter()
                    .map(|entry| entry_json(entry, self.asset)),
            );
            match page.entries.as_slice().last() {
                Some(last) if page.more => after = last.sequence,
                _ => break,
            }
        }
        output.result(&json!({ "entries": entries }), || statement_text(&entries));
        Ok(())
    }
}

/// Prints each entry as it happens, until the process is told to end; an escrow that goes away is waited for.
pub(crate) async fn follow(owner: &Owner, after: u64, output: Output) -> Result<(), Failure> {
    let mut after = after;
    // Who cannot begin is told so; who has begun goes on.
    let mut open = Some(
        owner
            .client
            .subscribe(after)
            .await
            .map_err(|error| owner.failed(error))?,
    );
    loop {
        match open.as_mut() {
            Some(subscription) => match subscription.next().await {
                Ok(Some(page)) => {
                    for entry in page.entries.as_slice() {
                        after = entry.sequence;
                        print(owner, entry, output);
                    }
                }
                Ok(None) | Err(EscrowError::Away(_)) => open = None,
                Err(error) => return Err(owner.failed(error)),
            },
            None => {
                sleep(RETRY).await;
                open = owner.client.subscribe(after).await.ok();
            }
        }
    }
}

fn print(owner: &Owner, entry: &StatementEntry, output: Output) {
    let shown = entry_json(entry, owner.asset);
    output.result(&shown, || entry_text(&shown));
}
