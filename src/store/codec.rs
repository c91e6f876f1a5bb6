//! The form of an entry outside of memory: a version, everything that identifies it, its answer, a checksum. Pure.
//!
//! ```text
//! "RFRN"  version u16  checksum [16]   key [32]  delivery u64  variant u16  flags u8  form u8  made u64  lifetime u64  status u16
//! usage 0 | 1 u64 u64   scope  upstream  dialect  model  namespace  tags*  generations*  (name value)*
//! length of the body u32   body, zstd
//! ```
//!
//! Numbers are little-endian; a text is its length (u32) and its bytes, a list (`*`) its count (u32) and its items. The
//! checksum is the first half of SHA-256 over all that follows it.
//!
//! # Scope
//! What comes from outside is not trusted: it is read only if its checksum holds, is never allocated by a length that it
//! states, and every refusal has a name ([`Damage`]). Whether it is the entry that was asked for is checked here, too:
//! a store that mixes up its rows must not be able to serve one caller's answer to another.

use std::{cell::RefCell, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};
use zstd::bulk::{Compressor, Decompressor};

use super::Label;
use crate::{
    call::{Slot, key::Key},
    dialect::{chat::form::Form, usage::Usage},
};

/// An entry as it is written and read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place.
    pub slot: Slot,
    /// Which of several answers to the same call it is; 0 where there is one.
    pub variant: u16,
    /// Whether it stands for an entry of another key. The body then is that key.
    pub alias: bool,
    /// The form that it was recorded in.
    pub form: Form,
    /// When the answer was complete, milliseconds of Unix time.
    pub made: u64,
    /// How long it is fresh from then on; whole milliseconds.
    pub lifetime: Duration,
    /// Status of the answer.
    pub status: StatusCode,
    /// Its tokens, where it tells.
    pub usage: Option<Usage>,
    /// Name of the upstream that made it.
    pub upstream: HeaderValue,
    /// What it can be found by, beside its key.
    pub label: Label,
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// The purge generations that it saw, as fingerprint of the name and value.
    pub generations: Vec<(u64, u64)>,
    /// The headers that outlive the exchange.
    pub headers: HeaderMap,
    /// The body, as recorded.
    pub body: Bytes,
}

/// What of an entry lies beside its envelope: whatever it can be found by without being read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// When the answer was complete, milliseconds of Unix time.
    pub made: u64,
    /// Name of the upstream that made it.
    pub upstream: Vec<u8>,
    /// What it can be found by, beside its key.
    pub label: Label,
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// The purge generations that it saw, as fingerprint of the name and value.
    pub generations: Vec<(u64, u64)>,
}

/// Why an envelope is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It does not begin as an envelope does.
    Magic,
    /// It is of a version that this Refrain does not know.
    Version,
    /// Its checksum does not hold.
    Checksum,
    /// It is another entry than the one asked for.
    Key,
    /// A part of it is cut off, left over, or not what it has to be.
    Form,
    /// Its body is larger than entries may be.
    TooLarge,
    /// Its body cannot be unpacked.
    Body,
}

// Their tables are larger than most bodies, so each thread keeps its own.
thread_local! {
    static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Why a record cannot be written: a part of it exceeds 4 GiB, or zstd failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the entry cannot be encoded")]
pub struct Unencodable;

impl Damage {
    /// Every kind of damage, in the order of the docs.
    pub const ALL: [Self; 7] = [
        Self::Magic,
        Self::Version,
        Self::Checksum,
        Self::Key,
        Self::Form,
        Self::TooLarge,
        Self::Body,
    ];

    /// Returns the name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Magic => "magic",
            Self::Version => "version",
            Self::Checksum => "checksum",
            Self::Key => "key",
            Self::Form => "form",
            Self::TooLarge => "too_large",
            Self::Body => "body",
        }
    }
}

/// Returns the envelope of `record`.
pub fn encode(record: &Record) -> Result<Vec<u8>, Unencodable> {
    let body = packed(&record.body)?;
    let mut out = Writer(Vec::with_capacity(body.len() + 1024));
    out.bytes(MAGIC);
    out.bytes(&VERSION.to_le_bytes());
    out.bytes(&[0; CHECKSUM]);
    out.record(record)?;
    out.length(record.body.len())?;
    out.bytes(&body);
    let mut envelope = out.0;
    if let Some((front, content)) = envelope.split_at_mut_checked(PREFIX) {
        let checksum = checksum(content);
        let place = front.iter_mut().skip(PREFIX - CHECKSUM);
        place.zip(checksum).for_each(|(to, from)| *to = from);
    }
    Ok(envelope)
}

/// Packs a body.
fn packed(body: &[u8]) -> Result<Vec<u8>, Unencodable> {
    PACKER.with_borrow_mut(|packer| {
        let packer = match packer {
            Some(packer) => packer,
            None => packer.insert(Compressor::new(LEVEL).map_err(|_| Unencodable)?),
        };
        packer.compress(body).map_err(|_| Unencodable)
    })
}

/// Unpacks a body of at most `length` bytes.
fn unpack(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    UNPACKER.with_borrow_mut(|unpacker| {
        let unpacker = match unpacker {
            Some(unpacker) => unpacker,
            None => unpacker.insert(Decompressor::new().ok()?),
        };
        unpacker.decompress(packed, length).ok()
    })
}

/// Returns the card of `record`.
pub fn encode_card(record: &Record) -> Result<Vec<u8>, Unencodable> {
    let mut out = Writer(Vec::with_capacity(256));
    out.bytes(&record.made.to_le_bytes());
    out.label(&record.upstream, &record.label)?;
    out.tags(&record.tags)?;
    out.generations(&record.generations)?;
    Ok(out.0)
}

/// Reads a card back.
pub fn decode_card(card: &[u8]) -> Result<Card, Damage> {
    let mut input = Reader(card);
    let made = input.number()?;
    let (upstream, label) = input.label()?;
    Ok(Card {
        made,
        upstream: upstream.to_vec(),
        label,
        tags: input.list(Reader::string)?,
        generations: input.list(Reader::pair)?,
    })
}

/// Reads the entry of `slot` back, whose body has at most `limit` bytes.
pub fn decode(envelope: &[u8], slot: &Slot, limit: usize) -> Result<Record, Damage> {
    let mut input = Reader(envelope);
    let stated = input.prefix()?;
    if !checksum(input.0).eq(stated) {
        return Err(Damage::Checksum);
    }
    let found = input.slot()?;
    if found != *slot {
        return Err(Damage::Key);
    }
    let record = input.record(found)?;
    let headers = input.headers()?;
    let length = input.length()?;
    if length > limit {
        return Err(Damage::TooLarge);
    }
    let body = unpack(input.0, length).ok_or(Damage::Body)?;
    if body.len() != length {
        return Err(Damage::Body);
    }
    Ok(Record {
        headers,
        body: Bytes::from(body),
        ..record
    })
}

/// Reads what stands in front of an envelope, which may be cut off behind that: the slot of an entry, and what its card
/// would say. It is not verified, so it is good for finding and deleting, and for nothing else.
pub fn decode_head(front: &[u8]) -> Result<(Slot, Card), Damage> {
    let mut input = Reader(front);
    input.prefix()?;
    let slot = input.slot()?;
    let record = input.record(slot)?;
    let card = Card {
        made: record.made,
        upstream: record.upstream.as_bytes().to_vec(),
        label: record.label,
        tags: record.tags,
        generations: record.generations,
    };
    Ok((slot, card))
}

/// Returns the milliseconds of a duration, at most what fits.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn checksum(content: &[u8]) -> impl Iterator<Item = u8> + use<> {
    Sha256::digest(content).into_iter().take(CHECKSUM)
}

fn form_byte(form: Form) -> u8 {
    match form {
        Form::Plain => 0,
        Form::Stream { usage: false } => 1,
        Form::Stream { usage: true } => 2,
    }
}

/// An envelope in the making.
struct Writer(Vec<u8>);

impl Writer {
    /// Writes all but the body. Taking the type apart by name makes a new field fail to compile until it is written.
    fn record(&mut self, record: &Record) -> Result<(), Unencodable> {
        let Record {
            slot: Slot { key, delivery },
            variant,
            alias,
            form,
            made,
            lifetime,
            status,
            usage,
            upstream,
            label,
            tags,
            generations,
            headers,
            body: _,
        } = record;
        self.bytes(key.as_bytes());
        self.bytes(&delivery.to_le_bytes());
        self.bytes(&variant.to_le_bytes());
        self.bytes(&[u8::from(*alias), form_byte(*form)]);
        self.bytes(&made.to_le_bytes());
        self.bytes(&millis(*lifetime).to_le_bytes());
        self.bytes(&status.as_u16().to_le_bytes());
        self.usage(*usage);
        self.label(upstream, label)?;
        self.tags(tags)?;
        self.generations(generations)?;
        self.headers(headers)
    }

    fn tags(&mut self, tags: &[String]) -> Result<(), Unencodable> {
        self.list(tags, |out, tag| out.text(tag.as_bytes()))
    }

    fn generations(&mut self, generations: &[(u64, u64)]) -> Result<(), Unencodable> {
        self.list(generations, |out, (name, value)| {
            out.bytes(&name.to_le_bytes());
            out.bytes(&value.to_le_bytes());
            Ok(())
        })
    }

    fn usage(&mut self, usage: Option<Usage>) {
        let Some(usage) = usage else {
            return self.bytes(&[0]);
        };
        self.bytes(&[1]);
        self.bytes(&usage.input_tokens.to_le_bytes());
        self.bytes(&usage.output_tokens.to_le_bytes());
    }

    fn label(&mut self, upstream: &HeaderValue, label: &Label) -> Result<(), Unencodable> {
        let Label {
            scope,
            dialect,
            model,
            namespace,
        } = label;
        self.text(scope)?;
        self.text(upstream.as_bytes())?;
        self.text(dialect.as_bytes())?;
        self.text(model.as_bytes())?;
        self.text(namespace.as_bytes())
    }

    fn headers(&mut self, headers: &HeaderMap) -> Result<(), Unencodable> {
        self.length(headers.len())?;
        for (name, value) in headers {
            self.text(name.as_str().as_bytes())?;
            self.text(value.as_bytes())?;
        }
        Ok(())
    }

    fn list<T>(
        &mut self,
        items: &[T],
        item: impl Fn(&mut Self, &T) -> Result<(), Unencodable>,
    ) -> Result<(), Unencodable> {
        self.length(items.len())?;
        items.iter().try_for_each(|one| item(self, one))
    }

    fn text(&mut self, text: &[u8]) -> Result<(), Unencodable> {
        self.length(text.len())?;
        self.bytes(text);
        Ok(())
    }

    fn length(&mut self, length: usize) -> Result<(), Unencodable> {
        let length = u32::try_from(length).map_err(|_| Unencodable)?;
        self.bytes(&length.to_le_bytes());
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// What is left to read of an envelope.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads what stands before the content; returns the checksum that it states.
    fn prefix(&mut self) -> Result<[u8; CHECKSUM], Damage> {
        if self.array() != Ok(*MAGIC) {
            return Err(Damage::Magic);
        }
        if u16::from_le_bytes(self.array()?) != VERSION {
            return Err(Damage::Version);
        }
        self.array()
    }

    fn slot(&mut self) -> Result<Slot, Damage> {
        Ok(Slot {
            key: Key::from_bytes(self.array()?),
            delivery: self.number()?,
        })
    }

    /// Reads all that stands between the slot and the headers.
    fn record(&mut self, slot: Slot) -> Result<Record, Damage> {
        let variant = u16::from_le_bytes(self.array()?);
        let alias = self.flag()?;
        let form = self.form()?;
        let made = self.number()?;
        let lifetime = Duration::from_millis(self.number()?);
        let status = u16::from_le_bytes(self.array()?);
        let usage = self.usage()?;
        let (upstream, label) = self.label()?;
        let upstream = HeaderValue::from_bytes(upstream).map_err(|_| Damage::Form)?;
        Ok(Record {
            slot,
            variant,
            alias,
            form,
            made,
            lifetime,
            status: StatusCode::from_u16(status).map_err(|_| Damage::Form)?,
            usage,
            upstream,
            label,
            tags: self.list(Self::string)?,
            generations: self.list(Self::pair)?,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        })
    }

    /// Reads the name of the upstream and the label.
    fn label(&mut self) -> Result<(&'a [u8], Label), Damage> {
        let scope = self.text()?.to_vec();
        let upstream = self.text()?;
        let label = Label {
            scope,
            dialect: self.string()?,
            model: self.string()?,
            namespace: self.string()?,
        };
        Ok((upstream, label))
    }

    fn pair(&mut self) -> Result<(u64, u64), Damage> {
        Ok((self.number()?, self.number()?))
    }

    fn usage(&mut self) -> Result<Option<Usage>, Damage> {
        if !self.flag()? {
            return Ok(None);
        }
        Ok(Some(Usage {
            input_tokens: self.number()?,
            output_tokens: self.number()?,
        }))
    }

    fn headers(&mut self) -> Result<HeaderMap, Damage> {
        let mut headers = HeaderMap::new();
        for _ in 0..self.length()? {
            let name = HeaderName::from_bytes(self.text()?).map_err(|_| Damage::Form)?;
            let value = HeaderValue::from_bytes(self.text()?).map_err(|_| Damage::Form)?;
            headers.try_append(name, value).map_err(|_| Damage::Form)?;
        }
        Ok(headers)
    }

    /// Reads a list; it grows with what is read of it, not by its count.
    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, Damage>) -> Result<Vec<T>, Damage> {
        (0..self.length()?).map(|_| item(self)).collect()
    }

    fn string(&mut self) -> Result<String, Damage> {
        let text = std::str::from_utf8(self.text()?).map_err(|_| Damage::Form)?;
        Ok(text.to_owned())
    }

    fn text(&mut self) -> Result<&'a [u8], Damage> {
        let length = self.length()?;
        self.take(length)
    }

    fn flag(&mut self) -> Result<bool, Damage> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Damage::Form),
        }
    }

    fn form(&mut self) -> Result<Form, Damage> {
        let [byte] = self.array()?;
        let form = Form::ALL.into_iter().find(|form| form_byte(*form) == byte);
        form.ok_or(Damage::Form)
    }

    fn length(&mut self) -> Result<usize, Damage> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| Damage::Form)
    }

    fn number(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Damage::Form)?;
        self.0 = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Damage::Form)?;
        self.0 = rest;
        Ok(taken)
    }
}

const MAGIC: &[u8; 4] = b"RFRN";
/// To be raised with every change of the form. Entries of other versions are misses.
const VERSION: u16 = 1;
/// Bytes of the checksum.
const CHECKSUM: usize = 16;
/// Bytes before the content: magic, version, checksum.
const PREFIX: usize = 4 + 2 + CHECKSUM;
/// The first bytes of an envelope, by which it can be told from every other.
pub(super) const IDENTITY: usize = PREFIX;
/// Where it is said when the answer was made: behind the slot, the variant, the flags and the form.
pub(super) const MADE: usize = PREFIX + 32 + 8 + 2 + 2;
/// zstd's own default: text shrinks to a third or less, at some 200 MB/s.
const LEVEL: i32 = 3;

#[cfg(test)]
mod tests;
