//! The canonical body of a chat completions request.
//!
//! # Scope
//! Applies [`request`]'s classification where the API reference speaks: to the top-level fields and to the members of a
//! message. Below that there are no exceptions: every member counts, and so does its `null`. Takes the facts of
//! [`Request`] on the way, in the same pass.

use crate::dialect::chat::request::{self, Class, Field, Request, Role};

use super::{
    Canonical, Options, Unkeyed,
    json::{EMPTY_ARRAY, FALSE, NULL, Scanner, TRUE},
    text,
};

/// Reads a whole body.
pub(super) fn canonicalise(
    mut scanner: Scanner<'_>,
    options: &Options,
) -> Result<Canonical, Unkeyed> {
    if scanner.peek() != Some(b'{') {
        scanner.value()?;
        scanner.finish()?;
        return Err(Unkeyed::NotAnObject);
    }
    let mut reader = Reader {
        scanner,
        options,
        facts: Facts::default(),
    };
    reader.root()?;
    let Reader { scanner, facts, .. } = reader;
    let body = scanner.finish()?;
    let (request, delivery) = facts.conclude()?;
    Ok(Canonical {
        body,
        delivery,
        request,
    })
}

struct Reader<'a> {
    scanner: Scanner<'a>,
    options: &'a Options,
    facts: Facts,
}

/// What has been learnt so far.
#[derive(Default)]
struct Facts {
    request: Request,
    /// Whether `model` is a string.
    model: bool,
    /// Whether `messages` is an array.
    messages: bool,
    /// Canonical `stream`, unless it asks for a plain answer.
    stream: Vec<u8>,
    /// Canonical `stream_options`, unless null.
    stream_options: Vec<u8>,
}

impl Reader<'_> {
    fn root(&mut self) -> Result<(), Unkeyed> {
        let mut root = self.scanner.object()?;
        while let Some(name) = self.scanner.name(&mut root)? {
            let field = Field::named(self.scanner.text(name));
            let counts = match field {
                Some(field) => self.field(field)?,
                None => self.scanner.value().map(|()| true)?,
            };
            self.scanner.member(name, counts);
        }
        self.scanner.close(&root)
    }

    /// Reads the value of a field; returns whether it counts.
    fn field(&mut self, field: Field) -> Result<bool, Unkeyed> {
        let mark = self.scanner.mark();
        match (field, self.scanner.peek()) {
            (Field::Messages, Some(b'[')) => self.messages()?,
            (Field::Tools, Some(b'[')) => self.tools()?,
            (Field::Stop, Some(b'"')) => self.stop()?,
            (Field::ResponseFormat, Some(b'{')) => self.response_format()?,
            (Field::StreamOptions, Some(b'{')) => self.stream_options()?,
            _ => self.scanner.value()?,
        }
        self.facts.note(field, self.scanner.since(mark));
        self.counts(field, mark)
    }

    fn counts(&mut self, field: Field, mark: usize) -> Result<bool, Unkeyed> {
        let keyed = field.class() == Class::Keyed
            || self.options.keep.iter().any(|kept| kept == field.as_str());
        if !keyed || field.nullable() && self.scanner.since(mark) == NULL {
            return Ok(false);
        }
        match field.openai_default() {
            Some(default) if self.options.fold_openai_defaults => {
                Ok(!self.scanner.equals(mark, default)?)
            }
            _ => Ok(true),
        }
    }

    fn messages(&mut self) -> Result<(), Unkeyed> {
        self.facts.messages = true;
        let mut array = self.scanner.array()?;
        while self.scanner.item(&mut array)? {
            match self.scanner.peek() {
                Some(b'{') => self.message()?,
                _ => self.scanner.value()?,
            }
        }
        Ok(())
    }

    fn message(&mut self) -> Result<(), Unkeyed> {
        let mut message = self.scanner.object()?;
        let (mut role, mut nulls) = (Role::Other, false);
        while let Some(name) = self.scanner.name(&mut message)? {
            let mark = self.scanner.mark();
            let next = self.scanner.peek();
            match self.scanner.text(name) {
                "content" if next == Some(b'"') => self.content()?,
                "role" => role = self.role()?,
                _ => self.scanner.value()?,
            }
            nulls |= self.scanner.since(mark) == NULL;
            self.scanner.member(name, true);
        }
        if nulls {
            self.scanner
                .drop_nulls(&message, |member| role.may_be_null(member));
        }
        self.scanner.close(&message)
    }

    fn role(&mut self) -> Result<Role, Unkeyed> {
        let mark = self.scanner.mark();
        self.scanner.value()?;
        Ok(text::content(self.scanner.since(mark)).map_or(Role::Other, Role::named))
    }

    /// Reads the shorthand `"x"` as what it stands for, `[{"type": "text", "text": "x"}]`.
    fn content(&mut self) -> Result<(), Unkeyed> {
        self.scanner.write(b"[{\"text\xFF");
        self.scanner.string()?;
        self.scanner.write(b"\"type\xFF\"text\xFF}]");
        Ok(())
    }

    /// Reads the shorthand `"x"` as what it stands for, `["x"]`.
    fn stop(&mut self) -> Result<(), Unkeyed> {
        self.scanner.write(b"[");
        self.scanner.string()?;
        self.scanner.write(b"]");
        Ok(())
    }

    fn tools(&mut self) -> Result<(), Unkeyed> {
        let mut array = self.scanner.array()?;
        while self.scanner.item(&mut array)? {
            let mut kind_is_known = false;
            match self.scanner.peek() {
                Some(b'{') => self.object(|name, value| {
                    kind_is_known |= name == "type"
                        && text::content(value).is_some_and(request::runs_at_the_caller);
                })?,
                _ => self.scanner.value()?,
            }
            self.facts.request.live_tools |= !kind_is_known;
        }
        Ok(())
    }

    fn response_format(&mut self) -> Result<(), Unkeyed> {
        let mut json = false;
        self.object(|name, value| {
            json |= name == "type" && text::content(value).is_some_and(request::is_json_format);
        })?;
        self.facts.request.wants_json = json;
        Ok(())
    }

    fn stream_options(&mut self) -> Result<(), Unkeyed> {
        let mut usage = false;
        self.object(|name, value| usage |= name == "include_usage" && value == TRUE)?;
        self.facts.request.include_usage = usage;
        Ok(())
    }

    /// Reads an object all of whose members count, and shows each name and canonical value to `look`.
    fn object(&mut self, mut look: impl FnMut(&str, &[u8])) -> Result<(), Unkeyed> {
        let mut object = self.scanner.object()?;
        while let Some(name) = self.scanner.name(&mut object)? {
            let mark = self.scanner.mark();
            self.scanner.value()?;
            look(self.scanner.text(name), self.scanner.since(mark));
            self.scanner.member(name, true);
        }
        self.scanner.close(&object)
    }
}

impl Facts {
    /// Takes what a top-level field tells; in doubt the call is stateful and its tools are live.
    fn note(&mut self, field: Field, value: &[u8]) {
        let request = &mut self.request;
        match field {
            Field::Model => self.model(value),
            Field::Stream => {
                request.stream = value == TRUE;
                self.stream = without(&[NULL, FALSE], value);
            }
            Field::StreamOptions => self.stream_options = without(&[NULL], value),
            Field::Store => request.stateful = value != NULL && value != FALSE,
            Field::WebSearchOptions => request.live_tools |= value != NULL,
            Field::Tools => {
                request.tools |= value != NULL && value != EMPTY_ARRAY;
                request.live_tools |= value != NULL && !value.starts_with(b"[");
            }
            Field::Functions => request.tools |= value != NULL && value != EMPTY_ARRAY,
            _ => {}
        }
    }

    fn model(&mut self, value: &[u8]) {
        if let Some(model) = text::content(value) {
            self.model = true;
            self.request.live_tools |= request::searches_by_itself(model);
            model.clone_into(&mut self.request.model);
        }
    }

    /// Returns the facts and the canonical delivery.
    fn conclude(self) -> Result<(Request, Vec<u8>), Unkeyed> {
        let Self {
            mut request,
            model,
            messages,
            stream: mut delivery,
            stream_options,
        } = self;
        if !model {
            return Err(Unkeyed::NoModel);
        }
        if !messages {
            return Err(Unkeyed::NoMessages);
        }
        request.include_usage &= request.stream;
        if !delivery.is_empty() {
            delivery.extend_from_slice(&stream_options);
        }
        Ok((request, delivery))
    }
}

/// Returns a copy of `value`, empty for one of those that mean the same as absence.
fn without(absent: &[&[u8]], value: &[u8]) -> Vec<u8> {
    if absent.contains(&value) {
        Vec::new()
    } else {
        value.to_vec()
    }
}
