//! Orders: what is going to be bought, and what it may cost, before anything is paid.

use super::paying::{Bill, HoldInUse, Paid, Spender};
use super::progress::Progress;
use super::{Inner, Payer, PayerError, PayerEvent};
use crate::estimate::{chance, winners_95};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tombola_core::amount::{Amount, Asset};
use tombola_core::hold::Fee;
use tombola_core::message::{HoldStatus, ResponseHeader};
use tombola_core::payee::TIP_SERVICE;
use tombola_core::payer::{HoldLimits, Purchase, Terms, plan};
use tombola_core::quote::{Quote, Service};
use tombola_core::reject::{Code, Reject};
use tombola_net::Address;

/// Without a ceiling of the user's, so many times the expected cost: the chance to reach it is below 1 in 10,000.
const CEILING_FACTOR: u64 = 3;

/// A planned purchase: shown to whoever pays, then carried out.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Order {
    /// Where.
    #[serde(serialize_with = "crate::payer::order::as_text")]
    pub address: Address,
    /// What.
    pub service: Service,
    /// A file, a tip, or payments alone.
    pub kind: OrderKind,
    /// Which asset the amounts are in.
    pub asset: Asset,
    /// Units to be paid, a ticket each.
    pub units: u64,
    /// Units that an earlier try has brought already.
    pub units_done: u64,
    /// Bytes of a unit.
    pub unit_bytes: u32,
    /// Bytes of the whole.
    pub size: u64,
    /// Price of a unit.
    pub price: Amount,
    /// What a winner costs.
    pub face_value: Amount,
    /// Expected cost.
    pub expected: Amount,
    /// 95 of 100 such purchases cost at least this ...
    pub low_95: Amount,
    /// ... and at most this.
    pub high_95: Amount,
    /// `min(spend_max, units * face)`.
    pub worst: Amount,
    /// Whether it costs its price exactly.
    pub is_exact: bool,
    /// The most that can leave the account.
    pub spend_max: Amount,
    /// Cap of the hold that pays, to be opened or open.
    pub hold_cap: Amount,
    /// Whether an open hold is used again.
    pub hold_reused: bool,
    /// What is left in that hold, or the cap of the new one.
    pub hold_left: Amount,
    /// What a winner costs the payee at the escrow.
    pub fee: Fee,
    #[serde(skip)]
    pub(super) purchase: Purchase,
    #[serde(skip)]
    pub(super) hold: Option<HoldStatus>,
    #[serde(skip)]
    pub(super) quote: Quote,
    #[serde(skip)]
    pub(super) header: Option<ResponseHeader>,
}

/// What an order is for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderKind {
    /// A service's bytes, into a file.
    Download {
        /// The file.
        output: PathBuf,
    },
    /// Money for nothing.
    Tip,
    /// Tickets for a service, without asking for its units.
    Payments,
}

/// What was paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Sent {
    /// Tickets that the payee acknowledged.
    pub tickets: u64,
    /// Their expected value.
    pub expected: Amount,
}

pub(super) fn as_text<S: serde::Serializer>(address: &Address, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(address)
}

/// What a plan is made from.
struct Wanted {
    address: Address,
    service: Service,
    kind: OrderKind,
    quote: Quote,
    header: Option<ResponseHeader>,
    units: u64,
    units_done: u64,
    spend_max: Option<Amount>,
}

impl Payer {
    /// Plans a download: asks what it is and what it costs; pays nothing.
    ///
    /// # Errors
    /// [`PayerError`] if a side is away or refuses, or nothing within the ceiling works.
    pub async fn plan_get(
        &self,
        address: &Address,
        spend_max: Option<Amount>,
        output: &Path,
    ) -> Result<Order, PayerError> {
        let link = self.inner.link(address);
        let service = service_of(address)?;
        let header = link.header(&service).await?;
        let units_done = super::download::resumable_units(output, &header)?;
        let quote = link.quote(&service, None).await?;
        let kind = OrderKind::Download {
            output: output.to_path_buf(),
        };
        let (address, header) = (address.clone(), Some(header));
        let units = header.map_or(0, |header| header.units.saturating_sub(units_done));
        self.plan(Wanted {
            address,
            service,
            kind,
            quote,
            header,
            units,
            units_done,
            spend_max,
        })
        .await
    }

    /// Plans a tip.
    ///
    /// # Errors
    /// As [`Self::plan_get`].
    pub async fn plan_tip(
        &self,
        address: &Address,
        amount: Amount,
        spend_max: Option<Amount>,
    ) -> Result<Order, PayerError> {
        let service = Service::new(TIP_SERVICE).map_err(Reject::from)?;
        let quote = self.inner.link(address).quote(&service, Some(amount)).await?;
        // A tip costs what the payer says, never what the payee answers. Spec: D-05.
        if quote.terms.ticket_price != amount {
            return Err(Reject::compared(Code::PriceMismatch, amount.0, quote.terms.ticket_price.0).into());
        }
        let (address, kind) = (address.clone(), OrderKind::Tip);
        let wanted = Wanted {
            address,
            service,
            kind,
            quote,
            header: None,
            units: 1,
            units_done: 0,
            spend_max,
        };
        self.plan(wanted).await
    }

    /// Plans payments for a service without asking for its units: for programs that know what they get for them.
    ///
    /// # Errors
    /// As [`Self::plan_get`].
    pub async fn plan_payments(
        &self,
        address: &Address,
        units: u64,
        spend_max: Option<Amount>,
    ) -> Result<Order, PayerError> {
        let service = service_of(address)?;
        let quote = self.inner.link(address).quote(&service, None).await?;
        let (address, kind) = (address.clone(), OrderKind::Payments);
        self.plan(Wanted {
            address,
            service,
            kind,
            quote,
            header: None,
            units,
            units_done: 0,
            spend_max,
        })
        .await
    }

    async fn plan(&self, wanted: Wanted) -> Result<Order, PayerError> {
        let quote = &wanted.quote.terms;
        let escrow = self.inner.escrow.address().key;
        if !quote.escrows.as_slice().contains(&escrow) {
            return Err(PayerError::NoCommonEscrow { escrow });
        }
        let info = self.inner.escrow.info().await?;
        // Amounts mean something in one asset only: the payee's, the escrow's and the payer's own must be the same.
        if quote.asset != info.asset || quote.asset != self.inner.terms.asset {
            return Err(Reject::of(Code::WrongAsset).into());
        }
        let terms = Terms {
            price: quote.ticket_price,
            face_value_min: quote.face_value_min,
            face_value_max: quote.face_value_max,
        };
        let limits = HoldLimits {
            face_value_min: info.face_value_min,
            cap_min: info.cap_min,
        };
        let purchase = purchase(&wanted, &terms, &limits)?;
        let hold = if purchase.units == 0 {
            None
        } else {
            self.inner.suitable_hold(quote, &purchase).await?
        };
        let (_, low, high) = winners_95(purchase.units, chance(purchase.threshold));
        let cost = |winners: u64| purchase.face_value.saturating_mul(winners).min(purchase.worst);
        Ok(Order {
            address: wanted.address,
            service: wanted.service,
            kind: wanted.kind,
            asset: quote.asset,
            units: purchase.units,
            units_done: wanted.units_done,
            unit_bytes: wanted.header.map_or(0, |header| header.unit_bytes),
            size: wanted.header.map_or(0, |header| header.size),
            price: purchase.price,
            face_value: purchase.face_value,
            expected: Amount(u64::try_from(purchase.expected()).unwrap_or(u64::MAX)),
            low_95: cost(low),
            high_95: cost(high),
            worst: purchase.worst,
            is_exact: purchase.is_exact(),
            spend_max: purchase.spend_max,
            hold_cap: hold.map_or(purchase.cap, |status| status.hold.body.cap),
            hold_reused: hold.is_some(),
            hold_left: hold.map_or(purchase.cap, |status| status.hold.body.cap.saturating_sub(status.paid)),
            fee: hold.map_or(info.fee, |status| status.hold.body.terms.fee),
            purchase,
            hold,
            quote: wanted.quote,
            header: wanted.header,
        })
    }

    /// Carries out a tip or payments.
    ///
    /// # Errors
    /// [`PayerError::Ceiling`] if the hold ran dry first; otherwise as the sides refuse or go away.
    pub async fn send(&self, order: &Order, on_event: &(dyn Fn(PayerEvent) + Send + Sync)) -> Result<Sent, PayerError> {
        let link = self.inner.link(&order.address);
        let hold = self.inner.hold_for(order, on_event).await?;
        let bill = Bill {
            service: order.service.clone(),
            price: order.price,
            face_value: order.face_value,
            tickets: order.units,
        };
        let (opened, _) = mpsc::unbounded_channel();
        let progress = Arc::new(Progress::new(self.inner.silence_max));
        let mut spender = Spender::new(Arc::clone(&self.inner), link, bill, hold, opened, progress);
        let (_unlimited, allowed) = watch::channel(u64::MAX);
        let result = spender.pay(allowed, on_event).await;
        let tickets = spender.acknowledged();
        match result? {
            Paid::InFull | Paid::Stopped => {
                let expected = order.purchase.threshold.expected(order.face_value, tickets);
                Ok(Sent {
                    tickets,
                    expected: Amount(u64::try_from(expected).unwrap_or(u64::MAX)),
                })
            }
            Paid::Ceiling { need, has } => Err(PayerError::Ceiling {
                need,
                has,
                received: tickets,
                size: order.units,
            }),
        }
    }
}

impl Inner {
    /// The hold of an order: the one it named, or a new one.
    pub(super) async fn hold_for(
        self: &Arc<Self>,
        order: &Order,
        on_event: &(dyn Fn(PayerEvent) + Send + Sync),
    ) -> Result<HoldInUse, PayerError> {
        if let Some(status) = order.hold {
            // A hold serves one purchase at a time: what another adds to it would raise the ceiling of this one.
            if let Some(lease) = self.lease(status.hold.body.id()) {
                let left = status.hold.body.cap.saturating_sub(status.paid);
                on_event(PayerEvent::HoldReused { left });
                let cap_max = Amount(status.paid.0.saturating_add(order.spend_max.0));
                return Ok(HoldInUse {
                    hold: status.hold,
                    cap_max,
                    room: left,
                    paid: status.paid,
                    _lease: lease,
                });
            }
        }
        let hold = self.open_hold(&order.quote.terms, &order.purchase).await?;
        on_event(PayerEvent::HoldOpened {
            cap: hold.hold.body.cap,
        });
        Ok(hold)
    }
}

fn purchase(wanted: &Wanted, terms: &Terms, limits: &HoldLimits) -> Result<Purchase, PayerError> {
    if wanted.units == 0 {
        // An empty file, or one that an earlier try has paid for to the end: nothing to pay, but still to be fetched.
        let spend_max = wanted.spend_max.unwrap_or_default();
        let one = plan(1, terms, limits, Amount(u64::MAX))?;
        return Ok(Purchase {
            units: 0,
            cap: Amount::ZERO,
            spend_max,
            worst: Amount::ZERO,
            ..one
        });
    }
    let total = terms.price.saturating_mul(wanted.units);
    let smallest = terms
        .face_value_min
        .max(limits.face_value_min)
        .max(limits.cap_min)
        .max(terms.price);
    // A single ticket that always wins costs its price and no more; what is drawn for needs room for bad luck.
    let is_exact = wanted.units == 1 && terms.price >= terms.face_value_min.max(limits.face_value_min);
    let factor = if is_exact { 1 } else { CEILING_FACTOR };
    let ceiling = wanted
        .spend_max
        .unwrap_or_else(|| total.saturating_mul(factor).max(smallest));
    Ok(plan(wanted.units, terms, limits, ceiling)?)
}

fn service_of(address: &Address) -> Result<Service, PayerError> {
    Ok(Service::new(format!("/{}", address.path)).map_err(Reject::from)?)
}
