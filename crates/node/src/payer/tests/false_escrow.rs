//! An escrow that shows what is not so: the real one, with some of its answers altered on the way.

use crate::escrow_client::{EscrowClient, EscrowError};
use std::sync::{Arc, Mutex};
use tombola_core::codec::{List, MESSAGE_BYTES_MAX, decode, encode};
use tombola_core::hold::Hold;
use tombola_core::key::{AccountKey, SecretKey, Signed};
use tombola_core::message::{AccountState, EscrowAnswer, EscrowCommand, EscrowRequest, HoldStatus};
use tombola_net::{Address, ClientKey, Connection, Endpoint, NetError, ResetSalt};

/// What it alters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    None,
    /// The caps of holds, without signing them again.
    Unsigned,
    /// Whose holds they are, signed.
    Stranger,
    /// What holds have paid.
    Paid,
    /// The cap of a topped-up hold, signed.
    Cap,
    /// The same, of one that another revision is known of.
    StaleCap,
    /// The page of the statement that is asked for: the first, again and again.
    FirstPage,
}

pub(super) struct FalseEscrow {
    pub(super) address: Address,
    lie: Arc<Mutex<Lie>>,
}

struct Relay {
    /// The escrow's own, which it signs its lies with.
    key: SecretKey,
    client: EscrowClient,
    lie: Arc<Mutex<Lie>>,
    stranger: AccountKey,
}

impl FalseEscrow {
    /// Stands between a payer and its escrow, with the keys of both.
    pub(super) fn start(key: SecretKey, real: &Address, payer: &SecretKey) -> Self {
        let salt = ResetSalt::new([0; 32]);
        let endpoint = Endpoint::server(([127, 0, 0, 1], 0).into(), &key, ClientKey::Required, &salt).unwrap();
        let address = Address::new(real.key, "127.0.0.1", endpoint.local_addr().unwrap().port());
        let lie = Arc::new(Mutex::new(Lie::None));
        let relay = Arc::new(Relay {
            client: EscrowClient::new(real.clone(), payer).unwrap(),
            stranger: SecretKey::from_seed(&[99; 32]).account(),
            lie: Arc::clone(&lie),
            key,
        });
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let relay = Arc::clone(&relay);
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.establish().await {
                        // The payer goes away when it has enough.
                        drop(relay.serve(connection).await);
                    }
                });
            }
        });
        Self { address, lie }
    }

    pub(super) fn tell(&self, lie: Lie) {
        *self.lie.lock().unwrap() = lie;
    }
}

impl Relay {
    async fn serve(&self, connection: Connection) -> Result<(), NetError> {
        loop {
            let (mut send, mut recv) = connection.accept().await?;
            let Some(frame) = recv.recv_frame(MESSAGE_BYTES_MAX).await? else {
                continue;
            };
            let EscrowRequest { command, .. } = decode(&frame).unwrap();
            let lie = *self.lie.lock().unwrap();
            let command = match command {
                EscrowCommand::Statement { .. } if lie == Lie::FirstPage => EscrowCommand::Statement { after: 0 },
                other => other,
            };
            let answer = match self.client.request(command).await {
                Ok(answer) => self.alter(lie, answer),
                Err(EscrowError::Rejected(reject)) => EscrowAnswer::Rejected(reject),
                Err(error) => panic!("{error}"),
            };
            send.send_frame(&encode(&answer)).await?;
            send.finish()?;
        }
    }

    fn alter(&self, lie: Lie, answer: EscrowAnswer) -> EscrowAnswer {
        match answer {
            EscrowAnswer::Account(state) => {
                let holds = state
                    .holds
                    .as_slice()
                    .iter()
                    .map(|status| self.alter_status(lie, *status));
                EscrowAnswer::Account(AccountState {
                    holds: List::new(holds.collect()).unwrap(),
                    ..state
                })
            }
            EscrowAnswer::HoldStatus(status) => EscrowAnswer::HoldStatus(self.alter_status(lie, status)),
            EscrowAnswer::Hold(hold) => EscrowAnswer::Hold(self.alter_hold(lie == Lie::Cap, lie, hold)),
            EscrowAnswer::RevisionStale(hold) => {
                EscrowAnswer::RevisionStale(self.alter_hold(lie == Lie::StaleCap, lie, hold))
            }
            EscrowAnswer::Statement(mut page) => {
                page.more |= lie == Lie::FirstPage;
                EscrowAnswer::Statement(page)
            }
            other => other,
        }
    }

    fn alter_hold(&self, is_raised: bool, lie: Lie, mut hold: Signed<Hold>) -> Signed<Hold> {
        if lie == Lie::Unsigned {
            hold.body.revision += 1;
        }
        if is_raised {
            hold.body.cap.0 += 1;
            hold = Signed::new(hold.body, &self.key);
        }
        hold
    }

    fn alter_status(&self, lie: Lie, mut status: HoldStatus) -> HoldStatus {
        let hold = &mut status.hold;
        match lie {
            Lie::Unsigned => hold.body.cap.0 += 1,
            Lie::Stranger => {
                hold.body.terms.payer = self.stranger;
                *hold = Signed::new(hold.body, &self.key);
            }
            Lie::Paid => status.paid.0 = hold.body.cap.0 + 1,
            Lie::None | Lie::Cap | Lie::StaleCap | Lie::FirstPage => {}
        }
        status
    }
}
