//! HTTP/1.1 as bytes (RFC 9112): heads and framed bodies, read strictly and without any library's opinion.
//!
//! # Scope
//! Client and scripted upstream share this reader. It never repairs: a body that ends early, a chunk that is not
//! framed as written, is an error, because how a body ended is what the tests ask.

use std::io;

use tokio::{io::AsyncReadExt, net::tcp::OwnedReadHalf};

/// The head of a message, as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// Every byte up to and with the blank line.
    pub(crate) raw: Vec<u8>,
    /// The request line or the status line.
    pub(crate) start: String,
    /// Names as spelled, values trimmed, in order.
    pub(crate) headers: Fields,
}

/// Header or trailer fields in the order of the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

/// Where the reader stands in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// This many bytes are left of a body with a length.
    Length(usize),
    /// A chunk's size line comes next.
    ChunkSize,
    /// This many bytes are left of a chunk.
    Chunk(usize),
    /// The body goes on until the connection ends.
    ToEnd,
    /// The body is over.
    Done,
}

/// The reading half of a connection.
#[derive(Debug)]
pub(crate) struct Reader {
    half: OwnedReadHalf,
    buffer: Vec<u8>,
    /// Trailer fields of the last chunked body.
    pub(crate) trailers: Fields,
}

impl Fields {
    /// Returns the first value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Returns every value of `name`, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        let values = self.0.iter().filter(named);
        values.map(|(_, value)| value.as_str()).collect()
    }

    /// Takes fields from lines of `name: value`.
    fn read(lines: &str) -> Self {
        let pairs = lines.split("\r\n").filter_map(|line| line.split_once(':'));
        Self(
            pairs
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
        )
    }
}

impl Body {
    /// Returns how the body under `head` is framed; `otherwise` is what no framing field at all means.
    pub(crate) fn under(head: &Head, otherwise: Self) -> Self {
        if head.headers.get("transfer-encoding") == Some("chunked") {
            return Self::ChunkSize;
        }
        match head.headers.get("content-length") {
            Some(length) => Self::Length(length.parse().expect("a Content-Length is a number")),
            None => otherwise,
        }
    }
}

impl Reader {
    /// Starts to read a connection.
    pub(crate) fn new(half: OwnedReadHalf) -> Self {
        Self {
            half,
            buffer: Vec::new(),
            trailers: Fields::default(),
        }
    }

    /// Reads the next head; `None` where the connection ended cleanly before its first byte.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let raw: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Ok(Some(Head::read(raw)));
            }
            if !self.fill().await? {
                let clean = self.buffer.is_empty();
                return clean
                    .then_some(None)
                    .ok_or(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads the next piece of a body; `None` at its proper end, an error where it broke off.
    pub(crate) async fn piece(&mut self, body: &mut Body) -> io::Result<Option<Vec<u8>>> {
        loop {
            match *body {
                Body::Done => return Ok(None),
                Body::Length(0) => *body = Body::Done,
                Body::Length(left) => {
                    let piece = self.at_most(left).await?;
                    *body = Body::Length(left - piece.len());
                    return Ok(Some(piece));
                }
                Body::ToEnd => {
                    if self.buffer.is_empty() && !self.fill().await? {
                        *body = Body::Done;
                        continue;
                    }
                    return Ok(Some(std::mem::take(&mut self.buffer)));
                }
                Body::ChunkSize => *body = self.chunk_size().await?,
                Body::Chunk(left) => {
                    let piece = self.at_most(left).await?;
                    *body = match left - piece.len() {
                        0 => self.chunk_end().await?,
                        left => Body::Chunk(left),
                    };
                    return Ok(Some(piece));
                }
            }
        }
    }

    /// Reads whatever comes next, outside any framing; empty when the connection ended.
    pub(crate) async fn raw(&mut self) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Waits until the other side ends the connection; what it still sends is kept.
    pub(crate) async fn end(&mut self) {
        while matches!(self.fill().await, Ok(true)) {}
    }

    async fn chunk_size(&mut self) -> io::Result<Body> {
        let line = self.line().await?;
        let digits = line.split(';').next().unwrap_or_default();
        match usize::from_str_radix(digits, 16).map_err(invalid)? {
            0 => self.read_trailers().await,
            size => Ok(Body::Chunk(size)),
        }
    }

    async fn chunk_end(&mut self) -> io::Result<Body> {
        match self.line().await?.as_str() {
            "" => Ok(Body::ChunkSize),
            junk => Err(invalid(format!("`{junk}` after a chunk"))),
        }
    }

    async fn read_trailers(&mut self) -> io::Result<Body> {
        let mut lines = String::new();
        loop {
            match self.line().await?.as_str() {
                "" => break,
                line => lines.extend([line, "\r\n"]),
            }
        }
        self.trailers = Fields::read(&lines);
        Ok(Body::Done)
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map_err(invalid);
            }
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn at_most(&mut self, most: usize) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty() && !self.fill().await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = most.min(self.buffer.len());
        Ok(self.buffer.drain(..length).collect())
    }

    /// Reads once; false at the end of the connection.
    async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(16 * 1024);
        Ok(self.half.read_buf(&mut self.buffer).await? > 0)
    }
}

impl Head {
    fn read(raw: Vec<u8>) -> Self {
        let text = String::from_utf8_lossy(&raw).into_owned();
        let (start, fields) = text.split_once("\r\n").expect("a head ends with CRLF");
        Self {
            start: start.to_owned(),
            headers: Fields::read(fields),
            raw,
        }
    }
}

/// Returns where `needle` first stands in `hay`.
pub(crate) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len())
        .position(|window| window == needle)
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
