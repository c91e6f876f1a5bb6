//! Unfolds a recorded completion into the stream that tells it (API reference, "The chat completion chunk object").
//! Pure.
//!
//! # The stream
//! For each choice: a chunk with the role and with what has nothing in it (`"refusal": null`), one for each other member
//! of the message (the reasoning first, as it was thought) and for each tool call, one with the finish reason. Then, where it was asked for, the usage in a
//! chunk without choices; then `data: [DONE]`. The same completion gives the same bytes.
//!
//! # Scope
//! What a member holds travels as it is written, blanks between tokens aside: an event is one line. Unknown members
//! stand at their level: of the top in the first chunk, of a choice beside its finish reason, of a message in its delta.
//! Left out is only what a plain answer says and a stream does not: that there are no `annotations`. A completion whose
//! stream would be out of all proportion to it (`GROWTH`) is not unfolded.

use super::{
    Unreadable,
    json::{self, Kind, Member},
};

/// A completion taken apart, and the stream as far as it is written.
struct Stream {
    /// Members that every chunk has, each with a comma behind it.
    common: Vec<u8>,
    /// Members that the first chunk has as well; empty once it is written.
    first: Vec<u8>,
    /// Whether the chunks have a `usage` of `null`, because the last one has the usage.
    tells_usage: bool,
    out: Vec<u8>,
    /// The most that it may become, bytes.
    limit: usize,
}

/// A choice taken apart.
struct Choice<'a> {
    index: u64,
    message: Vec<Member<'a>>,
    logprobs: Option<&'a str>,
    /// `"null"` if there is none.
    finish: &'a str,
    /// Unknown members, each with a comma in front.
    rest: Vec<u8>,
}

/// Unfolds a whole completion into a stream, which tells its usage if that is there and `usage` asks for it.
pub fn unfold(completion: &[u8], usage: bool) -> Result<Vec<u8>, Unreadable> {
    let members = json::object(completion)?;
    let known = |name: &str| {
        let mut members = members.iter();
        members.find_map(|member| (member.name == name).then_some(member.value.get()))
    };
    let usage = known("usage").filter(|value| usage && Kind::of(value) != Kind::Null);
    let mut stream = Stream::new(&members, usage.is_some(), completion.len());
    for (position, choice) in json::array(known("choices").ok_or(Unreadable)?)?
        .into_iter()
        .enumerate()
    {
        Choice::read(position, choice.get())?.unfold(&mut stream)?;
    }
    if let Some(usage) = usage {
        stream.usage(usage);
    }
    stream.out.extend_from_slice(b"data: [DONE]\n\n");
    Ok(stream.out)
}

impl Stream {
    fn new(members: &[Member<'_>], tells_usage: bool, length: usize) -> Self {
        let (mut common, mut first) = (Vec::new(), Vec::new());
        for member in members {
            match &*member.name {
                "choices" | "usage" | "object" => {}
                "id" | "created" | "model" | "system_fingerprint" | "service_tier" => {
                    write_member(member, &mut common);
                    common.push(b',');
                }
                _ => {
                    write_member(member, &mut first);
                    first.push(b',');
                }
            }
        }
        common.extend_from_slice(b"\"object\":\"chat.completion.chunk\",");
        Self {
            common,
            first,
            tells_usage,
            out: Vec::with_capacity(length * 2),
            limit: length * GROWTH + ALLOWANCE,
        }
    }

    /// Writes a chunk with this `delta` of choice `index`; `rest` is what stands beside it, each with a comma in front.
    fn chunk(
        &mut self,
        index: u64,
        delta: &[u8],
        rest: &[u8],
        finish: &str,
    ) -> Result<(), Unreadable> {
        if self.out.len() + self.common.len() + delta.len() > self.limit {
            return Err(Unreadable);
        }
        self.begin();
        let choice = format!("\"choices\":[{{\"index\":{index},\"delta\":{{");
        self.out.extend_from_slice(choice.as_bytes());
        self.out.extend_from_slice(delta);
        self.out.push(b'}');
        self.out.extend_from_slice(rest);
        self.out.extend_from_slice(b",\"finish_reason\":");
        json::write_compact(finish, &mut self.out);
        self.out.extend_from_slice(b"}]");
        if self.tells_usage {
            self.out.extend_from_slice(b",\"usage\":null");
        }
        self.out.extend_from_slice(b"}\n\n");
        Ok(())
    }

    /// Writes the chunk with the usage.
    fn usage(&mut self, usage: &str) {
        self.begin();
        self.out.extend_from_slice(b"\"choices\":[],\"usage\":");
        json::write_compact(usage, &mut self.out);
        self.out.extend_from_slice(b"}\n\n");
    }

    fn begin(&mut self) {
        self.out.extend_from_slice(b"data: {");
        self.out.extend_from_slice(&self.common);
        self.out.append(&mut self.first);
    }
}

impl<'a> Choice<'a> {
    fn read(position: usize, choice: &'a str) -> Result<Self, Unreadable> {
        let mut read = Self {
            index: position as u64,
            message: Vec::new(),
            logprobs: None,
            finish: "null",
            rest: Vec::new(),
        };
        for member in json::object(choice.as_bytes())? {
            let value = member.value.get();
            match &*member.name {
                "index" => read.index = value.parse().map_err(|_| Unreadable)?,
                "message" => read.message = json::object(value.as_bytes())?,
                "logprobs" => read.logprobs = Some(value),
                "finish_reason" => read.finish = value,
                // A delta of a completion's own would be taken for ours.
                "delta" => return Err(Unreadable),
                _ => {
                    read.rest.push(b',');
                    write_member(&member, &mut read.rest);
                }
            }
        }
        Ok(read)
    }

    fn unfold(self, stream: &mut Stream) -> Result<(), Unreadable> {
        let mut logprobs = Vec::new();
        if let Some(value) = self.logprobs {
            logprobs.extend_from_slice(b",\"logprobs\":");
            json::write_compact(value, &mut logprobs);
        }
        let is_blank = |member: &Member<'_>| json::is_blank(member.value.get());
        let (quiet, mut spoken): (Vec<_>, Vec<_>) = self
            .message
            .iter()
            .filter(|member| member.name != "annotations" || !is_blank(member))
            .partition(|member| member.name == "role" || is_blank(member));
        // A stable sort: all else stays in its order.
        spoken.sort_by_key(|member| !member.name.starts_with("reasoning"));
        stream.chunk(self.index, &delta(&quiet), b"", "null")?;
        for member in spoken {
            match &*member.name {
                "tool_calls" => self.calls(member.value.get(), stream)?,
                // The logprobs are those of the words they stand beside.
                "content" | "refusal" => {
                    let beside = std::mem::take(&mut logprobs);
                    stream.chunk(self.index, &delta(&[member]), &beside, "null")?;
                }
                _ => stream.chunk(self.index, &delta(&[member]), b"", "null")?,
            }
        }
        logprobs.extend_from_slice(&self.rest);
        stream.chunk(self.index, b"", &logprobs, self.finish)
    }

    /// Writes a chunk for each tool call, with its place in the list as `index`.
    fn calls(&self, calls: &str, stream: &mut Stream) -> Result<(), Unreadable> {
        for (position, call) in json::array(calls)?.into_iter().enumerate() {
            let mut delta = format!("\"tool_calls\":[{{\"index\":{position}").into_bytes();
            for member in json::object(call.get().as_bytes())? {
                if member.name != "index" {
                    delta.push(b',');
                    write_member(&member, &mut delta);
                }
            }
            delta.extend_from_slice(b"}]");
            stream.chunk(self.index, &delta, b"", "null")?;
        }
        Ok(())
    }
}

/// Returns the members of a delta.
fn delta(members: &[&Member<'_>]) -> Vec<u8> {
    let mut delta = Vec::new();
    for member in members {
        if !delta.is_empty() {
            delta.push(b',');
        }
        write_member(member, &mut delta);
    }
    delta
}

fn write_member(member: &Member<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(member.key.get().as_bytes());
    out.push(b':');
    json::write_compact(member.value.get(), out);
}

/// How many times as long as its completion a stream may be, beside [`ALLOWANCE`].
const GROWTH: usize = 4;
/// For the chunks of short completions, bytes: 128 choices of one word make some 100 KB.
const ALLOWANCE: usize = 1 << 20;

#[cfg(test)]
mod tests;
