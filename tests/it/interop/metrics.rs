//! The metrics ports of real nodes under load, by a client and a parser that are not ours.

use super::python::scrape;
use serde_json::Value;
use std::collections::BTreeMap;
use tombola_core::amount::Amount;
use tombola_tests::process::{Node, Offer, Running, Signal, Town, number, ok, text};
use tombola_tests::without::is_without;

const UNIT: usize = 1_024;

const OFFER: Offer<'_> = Offer {
    price: "0.001",
    per: "1KiB",
    face_value_max: "0.002",
    redeem_at_value: "0.01",
};

/// Every number with its labels, and the kind of each family; panics where a rule of names is broken.
struct Scraped {
    values: BTreeMap<String, f64>,
    counters: Vec<String>,
}

impl Scraped {
    fn of(node: &Node) -> Self {
        let found = scrape(text(node.ready(), "metrics"));
        assert_eq!(
            text(&found, "content_type"),
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        let (mut values, mut counters) = (BTreeMap::new(), Vec::new());
        for (name, family) in found["families"].as_object().unwrap() {
            assert!(name.starts_with("tombola_"), "{name}");
            assert!(!text(family, "help").is_empty(), "{name}");
            let unit = text(family, "unit");
            assert!(unit.is_empty() || name.ends_with(&format!("_{unit}")), "{name} {unit}");
            for sample in family["samples"].as_array().unwrap() {
                let labels = sample["labels"].as_object().unwrap();
                let is_bounded = |key: &String| key == "reason" || key == "version";
                assert!(labels.keys().all(is_bounded), "{sample}");
                let reason = labels.get("reason").and_then(Value::as_str).unwrap_or_default();
                let name = format!("{}{reason}", text(sample, "name"));
                if text(family, "type") == "counter" {
                    counters.push(name.clone());
                }
                values.insert(name, sample["value"].as_f64().unwrap());
            }
        }
        Self { values, counters }
    }

    fn get(&self, name: &str) -> f64 {
        let value = self.values.get(&format!("tombola_{name}"));
        *value.unwrap_or_else(|| panic!("no {name} in {:?}", self.values.keys()))
    }

    /// No counter is lower than before, and none is gone.
    fn follows(&self, before: &Self) {
        for name in &before.counters {
            assert!(self.values[name] >= before.values[name], "{name}");
        }
    }
}

/// Atomic units of a decimal.
fn atoms(value: &Value, key: &str) -> f64 {
    Amount::parse(text(value, key), 9).unwrap().0 as f64
}

fn set_metrics(town: &Town, home: &str) {
    let path = town.path(home).join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let with = config.replace("# metrics_listen =", "metrics_listen = \"127.0.0.1:0\"");
    assert_ne!(config, with);
    std::fs::write(path, with).unwrap();
}

#[test]
fn metrics_of_nodes_under_load_only_grow_and_agree_with_status() {
    if is_without("interop") {
        return;
    }
    let town = Town::new();
    town.file("song", 3_000 * UNIT, 5);
    assert_eq!(town.escrow().end(Signal::TERM), 0);
    set_metrics(&town, "escrow");
    let escrow = town.run_escrow("127.0.0.1:0");
    assert_eq!(town.payee("payee", &escrow, OFFER).end(Signal::TERM), 0);
    set_metrics(&town, "payee");
    let payee = town.run_payee("payee", "127.0.0.1:0");
    town.payer("payer", &escrow, "20");
    set_metrics(&town, "payer");
    let payer = Node::start(&["payer", "run", "--home", &town.arg("payer")]);

    let (mut seller, mut ledger) = (Scraped::of(&payee), Scraped::of(&escrow));
    assert_eq!(seller.get("payee_tickets_total"), 0.0);
    let (url, output, home) = (format!("{}/song", payee.address()), town.arg("song"), town.arg("payer"));
    let buy = [
        "payer",
        "get",
        &url,
        "-o",
        &output,
        "--home",
        &home,
        "--spend-max",
        "10",
    ];
    let mut buying = Running::start(&buy);
    loop {
        let is_last = !buying.is_running();
        let (now, escrow_now) = (Scraped::of(&payee), Scraped::of(&escrow));
        now.follows(&seller);
        escrow_now.follows(&ledger);
        (seller, ledger) = (now, escrow_now);
        if is_last {
            break;
        }
    }
    assert_eq!(buying.finish().0, 0);
    let _ = town.ask("payee", "redeem", "payee");

    // Nothing moves any more, so both say the same.
    let (seller, ledger) = (Scraped::of(&payee), Scraped::of(&escrow));
    let (status, books) = (
        town.ask("payee", "status", "payee"),
        town.ask("escrow", "status", "escrow"),
    );
    for (name, key) in [
        ("tickets_total", "tickets"),
        ("records_total", "records"),
        ("winners_total", "winners"),
        ("units_total", "units"),
        ("claims_total", "claims"),
        ("winners_redeemed_total", "winners_redeemed"),
        ("open_holds", "open_holds"),
        ("unclaimed_books", "unclaimed_books"),
    ] {
        assert_eq!(
            seller.get(&format!("payee_{name}")),
            number(&status, key) as f64,
            "{key}"
        );
    }
    for (name, key) in [
        ("redeemed_atoms_total", "redeemed"),
        ("expected_atoms_total", "expected"),
        ("drawn_atoms_total", "drawn"),
        ("owed_atoms", "owed"),
        ("hold_capacity_atoms", "hold_capacity"),
        ("hold_room_atoms", "hold_room"),
    ] {
        assert_eq!(seller.get(&format!("payee_{name}")), atoms(&status, key), "{key}");
    }
    assert_eq!(seller.get("payee_tickets_total"), 3_000.0);
    assert_eq!(atoms(&status, "expected"), 3_000.0 * 1_000_000.0);
    // Every second one wins 0.002, with a deviation of 27 winners.
    let z = status["luck"].as_f64().unwrap();
    assert!(z.abs() < 6.0, "{status}");
    assert_eq!(seller.get("payee_luck"), z);
    assert_eq!(seller.get("payee_selling"), 1.0);
    assert!(status["tickets_per_second"].as_f64().unwrap() > 0.0, "{status}");
    for key in ["deposits", "balances", "held", "fees", "pending", "withdrawn"] {
        let total = if matches!(key, "deposits" | "withdrawn") {
            "_total"
        } else {
            ""
        };
        assert_eq!(
            ledger.get(&format!("escrow_{key}_atoms{total}")),
            atoms(&books, key),
            "{key}"
        );
    }
    assert_eq!(ledger.get("escrow_winners_total"), number(&books, "winners") as f64);
    assert_eq!(
        ledger.get("escrow_winners_total"),
        seller.get("payee_winners_redeemed_total")
    );
    assert_eq!(
        (ledger.get("escrow_serving"), ledger.get("escrow_conserved")),
        (1.0, 1.0)
    );
    let (buyer, bought) = (Scraped::of(&payer), town.ask("payer", "status", "payer"));
    assert_eq!(buyer.get("payer_payees"), 1.0);
    assert_eq!(buyer.get("payer_tickets_total"), 3_000.0);
    assert_eq!(buyer.get("payer_tickets_value_atoms_total"), 3_000.0 * 1_000_000.0);
    for key in ["expected", "drawn"] {
        assert_eq!(
            buyer.get(&format!("payer_{key}_atoms_total")),
            atoms(&bought, key),
            "{key}"
        );
        assert_eq!(atoms(&bought, key), atoms(&status, key), "{key}");
    }
    assert_eq!(buyer.get("payer_luck"), bought["luck"].as_f64().unwrap());
    for node in [payer, payee, escrow] {
        assert_eq!(node.end(Signal::TERM), 0);
    }
    assert_eq!(
        ok(&["payee", "status", "--home", &town.arg("payee")])["uptime_ms"],
        Value::Null
    );
}
