//! An HTTP/2 client that grants the room for what it is sent by hand.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{RecvStream, client};
use tokio::{net::TcpStream, task::JoinHandle};

use super::{client::Request, spawn, within};

/// An answer on its way to a client with a window of [`WINDOW`] bytes.
pub(crate) struct Miser {
    body: RecvStream,
    driver: JoinHandle<()>,
}

/// What the client takes before it has to grant more, bytes.
pub(crate) const WINDOW: usize = 16 << 10;

impl Miser {
    /// Sends `request` and waits for the head of the answer.
    pub(crate) async fn open(addr: SocketAddr, request: &Request) -> Self {
        Self::with_window(addr, request, WINDOW).await
    }

    async fn with_window(addr: SocketAddr, request: &Request, window: usize) -> Self {
        let stream = within("a connection", TcpStream::connect(addr)).await;
        let stream = stream.expect("the address accepts connections");
        let mut builder = client::Builder::new();
        let window = u32::try_from(window).expect("a small window");
        builder
            .initial_window_size(window)
            .initial_connection_window_size(1 << 24);
        let (mut sender, connection) = builder
            .handshake(stream)
            .await
            .expect("h2c by prior knowledge");
        let driver = spawn(async move { drop(connection.await) });
        let (head, body) = request.over_http2(addr);
        let (answer, mut upload) = sender.send_request(head, false).expect("an open stream");
        upload.send_data(body, true).expect("an open stream");
        let answer = within("the head of an answer", answer).await;
        let body = answer.expect("an answer").into_body();
        Self { body, driver }
    }

    /// Reads `length` bytes without granting room for more.
    pub(crate) async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let piece = self.piece().await.expect("the body goes on");
            bytes.extend(piece.expect("the body goes on"));
        }
        bytes
    }

    /// Waits until the head of the answer is there, and takes nothing of its body.
    pub(crate) async fn open_without_room(addr: SocketAddr, request: &Request) -> Self {
        Self::with_window(addr, request, 0).await
    }

    /// Grants room for another window.
    pub(crate) fn grant(&mut self) {
        let room = self.body.flow_control().release_capacity(WINDOW);
        room.expect("a whole window has been read");
    }

    /// Waits for the end; returns whether the stream was reset.
    pub(crate) async fn ends_by_reset(mut self) -> bool {
        let end = self.piece().await;
        end.is_some_and(|piece| piece.expect_err("the body is over").is_reset())
    }

    async fn piece(&mut self) -> Option<Result<Bytes, h2::Error>> {
        within("more of the body", self.body.data()).await
    }
}

impl Drop for Miser {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
