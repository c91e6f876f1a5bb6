//! A chat completion, or a chunk of one, as far as it is read (API reference, "The chat completion object" and "… chunk
//! object"). Pure.
//!
//! # Scope
//! What has not the shape that the API reference gives is not read at all, but for a `usage` or `model`, which is then absent. A
//! member that is `null` is absent, and one that is not read may be anything. One of the answer or of a choice that is read and comes
//! twice is an error, and so is content behind content.

use crate::dialect::{
    glimpse::Glimpse,
    skim::{Malformed, Members, Quoted, Skim, Span},
    usage::Usage,
};

/// A completion or a chunk of one.
#[derive(Debug, Default)]
pub(super) struct Body<'a> {
    pub(super) model: Option<Span<'a>>,
    /// What is told of the tokens; an error where both counts cannot be read of it.
    pub(super) usage: Option<Result<Usage, Malformed>>,
    pub(super) error: Glimpse<'a>,
    /// At most [`MAX_CHOICES`]: many small ones would take far more memory than their bytes.
    pub(super) choices: Vec<Said<'a>>,
}

/// A member of `choices`.
#[derive(Debug, Default)]
pub(super) struct Said<'a> {
    pub(super) index: usize,
    pub(super) finish_reason: Option<Quoted<'a>>,
    pub(super) error: Glimpse<'a>,
    /// What a chunk adds.
    pub(super) delta: Words<'a>,
    /// What a plain answer says. Some servers repeat it in every chunk of a stream, beside the delta.
    pub(super) message: Words<'a>,
}

/// A `delta` or a `message`.
#[derive(Debug, Default)]
pub(super) struct Words<'a> {
    pub(super) content: Glimpse<'a>,
    /// Whether it says anything.
    pub(super) spoke: bool,
    /// Whether it calls a tool.
    pub(super) called: bool,
}

impl<'a> Body<'a> {
    /// Reads an object to its last byte.
    pub(super) fn read(json: &'a [u8]) -> Result<Self, Malformed> {
        let mut skim = Skim::new(json);
        skim.object()?;
        let mut body = Self::default();
        let mut members = Members::of(&["model", "usage", "error", "choices"]);
        while let Some(name) = members.next(&mut skim)? {
            match name {
                "model" => body.model = present(&mut skim)?,
                "usage" => body.usage = usage(&mut skim)?,
                "error" => body.error = Glimpse::of(skim.value()?)?,
                _ => body.choices = choices(&mut skim)?,
            }
        }
        skim.end()?;
        Ok(body)
    }
}

impl<'a> Said<'a> {
    fn read(skim: &mut Skim<'a>) -> Result<Self, Malformed> {
        skim.object()?;
        let mut said = Self::default();
        let mut members = Members::of(&["index", "finish_reason", "error", "delta", "message"]);
        while let Some(name) = members.next(skim)? {
            match name {
                "index" => said.index = index(skim)?,
                "finish_reason" => {
                    said.finish_reason = present(skim)?.map(Span::quoted).transpose()?;
                }
                "error" => said.error = Glimpse::of(skim.value()?)?,
                "delta" => said.delta = Words::read(skim)?,
                _ => said.message = Words::read(skim)?,
            }
        }
        Ok(said)
    }
}

impl<'a> Words<'a> {
    fn read(skim: &mut Skim<'a>) -> Result<Self, Malformed> {
        let mut words = Self::default();
        if skim.null()? {
            return Ok(words);
        }
        skim.object()?;
        while let Some(name) = skim.member()? {
            words.add(name, Glimpse::of(skim.value()?)?)?;
        }
        Ok(words)
    }

    fn add(&mut self, name: Quoted<'a>, value: Glimpse<'a>) -> Result<(), Malformed> {
        // Who speaks, not what is said; some servers name the assistant in every delta.
        if name.is("role") || name.is("name") {
            return Ok(());
        }
        self.spoke |= value.is_substance();
        if name.is("content") {
            if self.content.is_there() {
                return Err(Malformed);
            }
            self.content = value;
        } else if name.is("tool_calls") || name.is("function_call") {
            self.called |= value.is_substance();
        }
        Ok(())
    }
}

fn usage(skim: &mut Skim<'_>) -> Result<Option<Result<Usage, Malformed>>, Malformed> {
    if skim.null()? {
        return Ok(None);
    }
    let usage = Usage::read(skim)?;
    Ok(Some(usage.ok_or(Malformed)))
}

fn choices<'a>(skim: &mut Skim<'a>) -> Result<Vec<Said<'a>>, Malformed> {
    let mut choices = Vec::new();
    if skim.null()? {
        return Ok(choices);
    }
    skim.array()?;
    while skim.item()? {
        if choices.len() == MAX_CHOICES {
            return Err(Malformed);
        }
        choices.push(Said::read(skim)?);
    }
    Ok(choices)
}

/// Takes a value; `None` for `null`.
fn present<'a>(skim: &mut Skim<'a>) -> Result<Option<Span<'a>>, Malformed> {
    let value = skim.value()?;
    Ok((!value.is_null()).then_some(value))
}

/// Reads a choice's number, the first one's where it is not told.
fn index(skim: &mut Skim<'_>) -> Result<usize, Malformed> {
    let Some(value) = present(skim)? else {
        return Ok(0);
    };
    let index = value.count().and_then(|count| usize::try_from(count).ok());
    index.ok_or(Malformed)
}

/// The most choices that a request can ask for (API reference, `n`).
pub(super) const MAX_CHOICES: usize = 128;
