//! A client for single calls whose answers are read whole, piece by piece, or not at all.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use crate::script::CREDENTIAL;

/// A connection to a server; closed when dropped.
#[derive(Debug)]
pub(crate) struct Client {
    server: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    _connection: JoinSet<()>,
}

impl Client {
    /// Connects.
    pub(crate) async fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Its calls tell how it ended.
            let _ = connection.await;
        });
        Ok(Self {
            server,
            sender,
            _connection: tasks,
        })
    }

    /// Asks a chat question; returns the answer as soon as its head is there.
    pub(crate) async fn chat(&mut self, question: &str) -> Result<Response<Incoming>> {
        let request =
            Request::post("/v1/chat/completions").header(header::CONTENT_TYPE, "application/json");
        self.send(request, Full::from(question.to_owned())).await
    }

    /// Downloads what is at `path`; returns as soon as the head is there.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Response<Incoming>> {
        self.send(Request::get(path), Full::default()).await
    }

    async fn send(
        &mut self,
        request: http::request::Builder,
        body: Full<Bytes>,
    ) -> Result<Response<Incoming>> {
        let request = request
            .header(header::HOST, self.server.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {CREDENTIAL}"))
            .body(body)?;
        let response = self.sender.send_request(request).await?;
        ensure!(
            response.status() == StatusCode::OK,
            "refused: {}",
            response.status()
        );
        Ok(response)
    }
}
