//! What was promised, compared with the books: the statements of all, the payers' audits, and the escrow's own.

use super::customer::{Customer, DEPOSIT};
use super::shop::{PRICE, SURE, Shop};
use crate::process::{Town, atoms, number, run, text, wait_until};
use crate::writers::Writers;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tombola_core::amount::Amount;
use tombola_core::book::Book;
use tombola_core::codec::decode;
use tombola_core::key::Signed;
use tombola_core::limits::WINDOW_PRICES_DEFAULT;

/// What was found; nothing of it was wrong.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) claims: u64,
    pub(super) charged_for_units: (u64, u64),
    pub(super) winners: u64,
    pub(super) told: BTreeMap<String, u64>,
}

/// One book, by the payer's statement.
#[derive(Debug, Default, Clone, Copy)]
struct Charged {
    /// All that it cost.
    amount: u64,
    /// What its last receipt says that it came to.
    gross: u64,
    winners: u64,
    through: u64,
    fee: u64,
}

/// Compares everything, once all that was won is claimed.
///
/// # Panics
/// If anything is not as it was promised.
pub(super) fn compare(town: &Town, writers: &Writers, shops: &mut [Shop], customers: &[Customer<'_>]) -> Compared {
    shops.iter().for_each(|shop| redeem(town, shop));
    let mut compared = Compared::default();
    let mut by_shop: BTreeMap<String, Vec<Charged>> = BTreeMap::new();
    for customer in customers {
        let books = charges(town, customer);
        check_customer(town, customer, &books);
        let sure = shops.get(SURE).map(|shop| shop.account.to_string()).unwrap_or_default();
        let (drawn, units) = check_sure(customer, books.get(&sure).map_or(&[], Vec::as_slice));
        compared.charged_for_units.0 += drawn;
        compared.charged_for_units.1 += units;
        for (payee, charged) in books {
            by_shop.entry(payee).or_default().extend(charged);
        }
        for (told, times) in &customer.seen().told {
            *compared.told.entry(told.clone()).or_default() += times;
        }
    }
    for shop in shops {
        let charged = by_shop.remove(&shop.account.to_string()).unwrap_or_default();
        compared.winners += check_shop(town, shop, &charged);
    }
    assert!(by_shop.is_empty(), "charged by a stranger: {by_shop:?}");
    for audit in writers.audit(town) {
        compared.claims = number(&audit, "claims");
        assert_eq!(number(&audit, "winners"), compared.winners, "{audit}");
    }
    compared
}

/// Until nothing waits: a claim whose answer was lost is sent again.
fn redeem(town: &Town, shop: &Shop) {
    wait_until("every winner has its receipt", || {
        let done = town.ask("payee", "redeem", shop.name);
        assert_eq!(number(&done, "refusals"), 0, "{done}");
        number(&done, "unclaimed_books") == 0
    });
}

fn entries(statement: &Value, kind: &str) -> Vec<Value> {
    let entries = statement.get("entries").and_then(Value::as_array);
    let is_wanted = |entry: &&Value| text(entry, "kind") == kind;
    entries.into_iter().flatten().filter(is_wanted).cloned().collect()
}

/// Books by payee, each with all that was charged for it.
fn charges(town: &Town, customer: &Customer<'_>) -> BTreeMap<String, Vec<Charged>> {
    let statement = town.ask("payer", "statement", &customer.home);
    let mut books: BTreeMap<(String, String), Charged> = BTreeMap::new();
    for entry in entries(&statement, "charged") {
        let key = (text(&entry, "payee").to_owned(), text(&entry, "book").to_owned());
        let book = books.entry(key).or_default();
        // Claims of a book are cumulative, so its last receipt says all.
        assert!(number(&entry, "through") > book.through, "{entry}");
        *book = Charged {
            amount: book.amount + atoms(&entry, "amount"),
            gross: atoms(&entry, "gross"),
            winners: number(&entry, "winners"),
            through: number(&entry, "through"),
            fee: atoms(&entry, "fee"),
        };
        let face = signed_book(&entry).body.face_value;
        assert_eq!(book.gross, book.winners * face.0, "{entry}");
    }
    check_holds(customer, &entries(&statement, "held"));
    let mut by_payee: BTreeMap<String, Vec<Charged>> = BTreeMap::new();
    for ((payee, book), charged) in books {
        assert_eq!(charged.amount, charged.gross, "{book}: each winner once");
        by_payee.entry(payee).or_default().push(charged);
    }
    by_payee
}

fn signed_book(entry: &Value) -> Signed<Book> {
    let evidence = entry.get("evidence").unwrap_or(entry);
    let bytes = hex::decode(text(evidence, "book")).unwrap_or_default();
    decode(&bytes).unwrap_or_else(|error| panic!("{error}: {entry}"))
}

/// Every hold that the escrow ever showed is in the books, with no less than it showed.
fn check_holds(customer: &Customer<'_>, held: &[Value]) {
    let mut caps: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in held {
        let cap = caps.entry(text(entry, "hold")).or_default();
        *cap = atoms(entry, "cap").max(*cap);
    }
    for (hold, seen) in &customer.seen().holds {
        let cap = caps.get(hold.as_str()).copied();
        assert!(
            cap.is_some_and(|cap| cap >= *seen),
            "{hold}: {seen} were shown, and there are {cap:?}"
        );
    }
}

fn check_customer(town: &Town, customer: &Customer<'_>, books: &BTreeMap<String, Vec<Charged>>) {
    let audit = town.ask("payer", "audit", &customer.home);
    // A payer that was killed may not know how far a book was acknowledged whose payee was killed as well.
    let is_sound = audit.get("adds_up") == Some(&Value::Bool(true))
        && ["faults", "beyond"]
            .iter()
            .all(|what| audit.get(*what) == Some(&json!([])));
    let is_known = number(&audit, "unknown") == 0;
    assert!(is_sound, "{audit}");
    assert_eq!(audit.get("clean"), Some(&Value::Bool(is_known)), "{audit}");
    let charged: u64 = books.values().flatten().map(|book| book.amount).sum();
    assert_eq!(atoms(&audit, "charged"), charged, "{audit}");
    let balance = town.ask("payer", "balance", &customer.home);
    let deposit = Amount::parse(DEPOSIT, 9).map_or(0, |deposit| deposit.0);
    let whole = atoms(&balance, "balance") + atoms(&balance, "held") + charged;
    assert_eq!(whole, deposit, "{balance}");
}

/// Where every ticket wins: each unit that arrived was charged, and besides at most a window for each blow that met it
/// there. Gives both.
fn check_sure(customer: &Customer<'_>, books: &[Charged]) -> (u64, u64) {
    let drawn: u64 = books.iter().map(|book| book.through).sum();
    for book in books {
        assert_eq!(
            (book.winners, book.gross),
            (book.through, book.through * PRICE),
            "{book:?}"
        );
    }
    let seen = customer.seen();
    let (units, lost) = (seen.sure_units, seen.lost_windows * WINDOW_PRICES_DEFAULT);
    assert!(
        drawn >= units && drawn <= units + lost,
        "{}: {drawn} tickets charged for {units} units, and {lost} may be lost",
        customer.home
    );
    (drawn, units)
}

/// What the payee has receipts for is what the escrow credited, and what the payers were charged. Gives its winners.
fn check_shop(town: &Town, shop: &mut Shop, charged: &[Charged]) -> u64 {
    shop.promises(town);
    let status = town.ask("payee", "status", shop.name);
    let (exit, statement) = run(&["payee", "statement", "--home", &town.arg(shop.name)]);
    if exit != 0 {
        // Its account is made with the first hold for it, and nobody may have come that far.
        let told = (
            text(&statement["error"], "code"),
            charged.len(),
            number(&status, "winners_redeemed"),
        );
        assert_eq!(told, ("account_unknown", 0, 0), "{statement}");
        return 0;
    }
    let credited = entries(&statement, "redeemed");
    let credited: u64 = credited.iter().map(|entry| atoms(entry, "amount")).sum();
    let balance = atoms(&town.ask("payee", "balance", shop.name), "balance");
    let redeemed = atoms(&status, "redeemed");
    let (gross, fees, winners) = charged.iter().fold((0, 0, 0), |(gross, fees, winners), book| {
        (gross + book.gross, fees + book.fee, winners + book.winners)
    });
    assert_eq!(redeemed + fees, gross, "{status}");
    assert_eq!(balance, redeemed, "{status}");
    assert_eq!(credited, redeemed, "{status}");
    assert_eq!(number(&status, "winners_redeemed"), winners, "{status}");
    assert_eq!(
        (atoms(&status, "owed"), number(&status, "unclaimed_books")),
        (0, 0),
        "{status}"
    );
    winners
}
