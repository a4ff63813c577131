//! A server and a connection to it over the transport of the nodes, with nothing of the protocol: for floors.

use super::buyer::text;
use tokio::task::JoinHandle;
use tombola_core::key::SecretKey;
use tombola_net::{Address, ClientKey, Connection, Endpoint, RecvHalf, ResetSalt, SendHalf};

pub(super) struct Bare {
    pub(super) connection: Connection,
    serving: JoinHandle<Result<(), String>>,
    /// Both end their connections when dropped.
    _endpoints: [Endpoint; 2],
}

impl Bare {
    /// `serve` has the server's end of the connection.
    pub(super) async fn start<S>(serve: impl FnOnce(Connection) -> S + Send + 'static) -> Result<Self, String>
    where
        S: Future<Output = Result<(), String>> + Send,
    {
        let key = SecretKey::from_seed(&[7; 32]);
        let (listen, salt) = (([127, 0, 0, 1], 0).into(), ResetSalt::new([0; 32]));
        let server = Endpoint::server(listen, &key, ClientKey::NotAsked, &salt).map_err(text)?;
        let address = Address::new(key.account(), "127.0.0.1", server.local_addr().map_err(text)?.port());
        let accepting = server.clone();
        let serving = tokio::spawn(async move {
            let incoming = accepting.accept().await.ok_or("closed")?;
            serve(incoming.establish().await.map_err(text)?).await
        });
        let client = Endpoint::client(None).map_err(text)?;
        let connection = client.connect(&address).await.map_err(text)?;
        Ok(Self {
            connection,
            serving,
            _endpoints: [client, server],
        })
    }

    /// Closes the connection, and waits for what served it.
    pub(super) async fn stop(self) -> Result<(), String> {
        self.connection.close(0, "done");
        self.serving.await.map_err(text)?
    }
}

/// Answers each stream of a connection by a task of its own, until the connection is closed.
pub(super) async fn answer_each<A>(
    connection: Connection,
    answer: impl Fn(SendHalf, RecvHalf) -> A + Send,
) -> Result<(), String>
where
    A: Future<Output = Result<(), String>> + Send + 'static,
{
    while let Ok((send, recv)) = connection.accept().await {
        tokio::spawn(answer(send, recv));
    }
    Ok(())
}
