//! The table of the spec's section 21: what each role does when another one is away, or its clock steps.
//!
//! Where hours pass or clocks step, the rules run on a virtual clock; where somebody is away, real nodes do. What kills
//! do to real processes is in `processes`.

mod escrow;
mod payee;
mod payer;

use crate::pair::{Options, World};
use std::path::Path;
use tombola_core::amount::{Amount, DAY_MS, Timestamp};
use tombola_core::chain::Preimage;
use tombola_core::key::{AccountKey, QuoteId, RequestId};
use tombola_core::message::{EscrowCommand, HoldRequest, OpenBook, RequestHeader};
use tombola_core::payer::PayerBook;
use tombola_core::quote::{Quote, Service};
use tombola_node::config::EscrowConfig;
use tombola_node::escrow::EscrowOptions;
use tombola_node::key_file;

/// A world in which every ticket wins.
fn sure() -> Options {
    Options {
        price: Amount(1_000),
        window: Amount(64_000),
        ..Options::default()
    }
}

fn quote(world: &mut World) -> Quote {
    let (id, now) = (QuoteId(world.net.dice.bytes()), world.net.now);
    let service = Service::new("/units").unwrap();
    world.sellers[0]
        .payee
        .quote(&service, world.net.options.price, id, now)
        .unwrap()
}

/// A book of payer 0 for a quote, as it comes to the payee.
fn opening(world: &mut World, quote: Quote) -> OpenBook {
    let hold = *world.buyers[0].hold(0).unwrap();
    let (face, secret) = (world.net.options.face_value, Preimage(world.net.dice.bytes()));
    let book = PayerBook::new(&hold.body, &quote, face, 10, secret, world.buyers[0].key()).unwrap();
    OpenBook {
        hold,
        quote,
        book: *book.signed(),
    }
}

fn hold_request(world: &World, payee: AccountKey) -> HoldRequest {
    let now = world.net.now;
    HoldRequest {
        signer: world.buyers[0].account(),
        payee,
        face_value_min: Amount(1_000),
        face_value_max: Amount(1_000),
        book_length_max: 256,
        expires_at: now.plus_ms(DAY_MS),
        redeem_by: now.plus_ms(3 * DAY_MS),
        cap: Amount(5_000),
        fee_max: tombola_core::hold::Fee {
            flat: Amount(10),
            ppm: 20_000,
        },
    }
}

fn escrow_options(home: &Path, listen: std::net::SocketAddr) -> EscrowOptions {
    let config = EscrowConfig::default();
    EscrowOptions {
        key: key_file::read(&home.join(key_file::KEY_FILE)).unwrap(),
        listen,
        terms: config.terms().unwrap(),
        name: config.name,
        store: home.join("escrow.redb").into(),
        witness: tombola_node::escrow::WitnessOptions::at(home.join("witness")),
    }
}

/// An `OpenHold` of payer 0.
fn open_hold_by(world: &World, id: RequestId, issued_at: Timestamp) -> EscrowCommand {
    EscrowCommand::OpenHold {
        request: RequestHeader { id, issued_at },
        hold: hold_request(world, world.sellers[0].account()),
    }
}
