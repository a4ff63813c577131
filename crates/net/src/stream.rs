//! Frames and bare bytes on one bidirectional stream. A frame is a u32 little-endian length and as many bytes.

use crate::budget::{Budget, SetAside};
use crate::error::NetError;
use crate::limits::{FRAME_HEADER_BYTES, FRAME_STEP_BYTES};
use bytes::Bytes;
use quinn::{RecvStream, SendStream, VarInt};
use std::sync::Arc;

/// The sending half of a stream. Dropping it finishes the stream; where half an answer must not look like a whole one,
/// [`SendHalf::reset`] it first.
#[derive(Debug)]
pub struct SendHalf {
    stream: SendStream,
}

impl SendHalf {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self { stream }
    }

    /// Sends one frame. Not cancel-safe: a dropped future may have sent a part.
    ///
    /// # Errors
    /// [`NetError::FrameTooLarge`] over `u32::MAX` bytes; otherwise as [`SendHalf::write`].
    pub async fn send_frame(&mut self, body: &[u8]) -> Result<(), NetError> {
        let length = u32::try_from(body.len()).map_err(|_| NetError::FrameTooLarge {
            limit: usize::try_from(u32::MAX).unwrap_or(usize::MAX),
            given: body.len(),
        })?;
        // One write, so that a small frame is one STREAM frame in one packet.
        let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + body.len());
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(body);
        Ok(self.stream.write_chunk(Bytes::from(frame)).await?)
    }

    /// Sends bare bytes, waiting while the peer's window is full. Not cancel-safe.
    ///
    /// # Errors
    /// [`NetError::StreamStopped`] if the peer does not want more, or why the connection ended.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), NetError> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Says that nothing more follows.
    ///
    /// # Errors
    /// [`NetError::StreamClosed`] if it was finished or reset before.
    pub fn finish(&mut self) -> Result<(), NetError> {
        self.stream.finish().map_err(|_| NetError::StreamClosed)
    }

    /// Waits until the peer's transport has everything, finish included. Closing a connection drops what is on its way,
    /// so wait for this before closing after a last word.
    ///
    /// # Errors
    /// [`NetError::StreamStopped`] if the peer did not want all of it, or why the connection ended.
    pub async fn delivered(&mut self) -> Result<(), NetError> {
        match self.stream.stopped().await? {
            None => Ok(()),
            Some(code) => Err(NetError::StreamStopped {
                code: code.into_inner(),
            }),
        }
    }

    /// Gives up: the peer sees [`NetError::StreamReset`]. Does nothing on a finished or reset stream.
    pub fn reset(&mut self, code: u32) {
        // Already closed means there is nothing left to give up.
        let _ = self.stream.reset(VarInt::from_u32(code));
    }
}

/// The receiving half of a stream.
#[derive(Debug)]
pub struct RecvHalf {
    stream: RecvStream,
    frame: PartialFrame,
    budget: Arc<Budget>,
    /// For the frame that is being received, or was received last.
    held: Option<SetAside>,
}

/// What has arrived of the frame being read; kept here so that a dropped [`RecvHalf::recv_frame`] loses nothing.
#[derive(Debug, Default)]
struct PartialFrame {
    header: [u8; FRAME_HEADER_BYTES],
    /// Bytes of header and body that have arrived.
    have: usize,
    body: Vec<u8>,
}

impl RecvHalf {
    pub(crate) fn new(stream: RecvStream, budget: Arc<Budget>) -> Self {
        Self {
            stream,
            frame: PartialFrame::default(),
            budget,
            held: None,
        }
    }

    /// Receives one frame of at most `bytes_max`, or `None` if the stream ended before another frame. Cancel-safe.
    ///
    /// At a server its bytes count against the connection until this half is read again or dropped, so keep it until the
    /// frame is answered; while there is no room for a frame it stays in the window of the transport.
    ///
    /// # Errors
    /// [`NetError::FrameTooLarge`] before anything is allocated, [`NetError::FrameCut`] if the stream ends inside of a
    /// frame, [`NetError::StreamReset`] if the peer gave up, or why the connection ended.
    pub async fn recv_frame(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, NetError> {
        if self.frame.have == 0 {
            self.held = None;
        }
        while self.frame.have < FRAME_HEADER_BYTES {
            match self.stream.read(&mut self.frame.header[self.frame.have..]).await? {
                Some(count) => self.frame.have += count,
                None if self.frame.have == 0 => return Ok(None),
                None => return Err(NetError::FrameCut),
            }
        }
        let length = usize::try_from(u32::from_le_bytes(self.frame.header)).unwrap_or(usize::MAX);
        if length > bytes_max {
            return Err(NetError::FrameTooLarge {
                limit: bytes_max,
                given: length,
            });
        }
        if self.held.is_none() {
            // All of it at once: frames that each wait for their rest would wait for each other.
            self.held = Some(self.budget.frame(length).await);
        }
        while self.frame.have - FRAME_HEADER_BYTES < length {
            let at = self.frame.have - FRAME_HEADER_BYTES;
            // Memory follows the bytes that have come, not the length that was promised.
            self.frame.body.resize(length.min(at + FRAME_STEP_BYTES), 0);
            match self.stream.read(&mut self.frame.body[at..]).await? {
                Some(count) => self.frame.have += count,
                None => return Err(NetError::FrameCut),
            }
        }
        Ok(Some(std::mem::take(&mut self.frame).body))
    }

    /// Receives the next bare bytes, at most `bytes_max`, or `None` at the end of the stream. Cancel-safe. Not to be
    /// mixed into a frame that is half read.
    ///
    /// # Errors
    /// [`NetError::StreamReset`] if the peer gave up, or why the connection ended.
    pub async fn read_chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, NetError> {
        self.held = None;
        let chunk = self.stream.read_chunk(bytes_max, true).await?;
        Ok(chunk.map(|chunk| chunk.bytes))
    }

    /// Tells the peer to send no more. Does nothing on a stream that has ended.
    pub fn stop(&mut self, code: u32) {
        // Already ended means there is nothing left to stop.
        let _ = self.stream.stop(VarInt::from_u32(code));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, ClientKey, Endpoint, ResetSalt};
    use std::net::{Ipv4Addr, SocketAddr};
    use tombola_core::key::SecretKey;

    /// Spec: N-04, N-11.
    #[tokio::test]
    async fn a_frame_that_was_only_announced_takes_little_memory() {
        const ANNOUNCED: usize = 16 * FRAME_STEP_BYTES;
        let key = SecretKey::from_seed(&[1; 32]);
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Endpoint::server(bind, &key, ClientKey::NotAsked, &ResetSalt::new([9; 32])).unwrap();
        let address = Address::new(key.account(), "127.0.0.1", server.local_addr().unwrap().port());
        let client = Endpoint::client(None).unwrap();
        let accepting = async { server.accept().await.unwrap().establish().await };
        let (at_client, at_server) = tokio::join!(client.connect(&address), accepting);
        let (mut send, _recv) = at_client.as_ref().unwrap().open().await.unwrap();
        send.write(&u32::try_from(ANNOUNCED).unwrap().to_le_bytes())
            .await
            .unwrap();
        send.write(b"a few bytes").await.unwrap();
        let (_answer, mut asked) = at_server.as_ref().unwrap().accept().await.unwrap();
        while asked.frame.have <= FRAME_HEADER_BYTES {
            tokio::select! {
                biased;
                frame = asked.recv_frame(ANNOUNCED) => panic!("not all of it has come: {frame:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        let taken = asked.frame.body.capacity();
        assert!(taken <= 2 * FRAME_STEP_BYTES, "{taken} bytes for a few");
    }
}
