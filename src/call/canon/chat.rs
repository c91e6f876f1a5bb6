//! The canonical body of a chat completions request. Pure.
//!
//! # Scope
//! Applies [`request`]'s classification where the API reference speaks: to the top-level fields and to the members of a
//! message. Below that there are no exceptions: every member counts, and so does its `null`. Takes the facts of
//! [`Request`] on the way, in the same pass.

use crate::{
    config::Temperature,
    dialect::chat::request::{self, Class, Field, Request, Role},
};

use super::{
    Canonical, Options, Unkeyed,
    json::{EMPTY_ARRAY, EMPTY_OBJECT, FALSE, NULL, Scanner, TRUE},
    order::{Mark, Span},
    text,
};

/// Reads a whole body.
pub(super) fn canonicalise(
    mut scanner: Scanner<'_>,
    options: &Options,
) -> Result<Canonical, Unkeyed> {
    if scanner.peek() != Some(b'{') {
        scanner.value()?;
        scanner.end()?;
        return Err(Unkeyed::NotAnObject);
    }
    let mut reader = Reader {
        scanner,
        options,
        facts: Facts::default(),
    };
    reader.facts.request.temperature = Some(Temperature::DEFAULT);
    let start = reader.scanner.mark();
    reader.root()?;
    reader.scanner.end()?;
    reader.facts.check()?;
    Ok(reader.conclude(start))
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
    /// Whether `stream` asks for something other than a plain answer.
    streams: bool,
    /// Where `stream` is, unless it asks for a plain answer or a stream.
    stream: Option<Span>,
    /// Where `stream_options` is, unless null.
    stream_options: Option<Span>,
}

impl Reader<'_> {
    fn root(&mut self) -> Result<(), Unkeyed> {
        self.scanner.object()?;
        while self.scanner.name()? {
            let field = str::from_utf8(self.scanner.current())
                .ok()
                .and_then(Field::named);
            let counts = match field {
                Some(field) => self.field(field)?,
                None => self.unknown_field()?,
            };
            self.scanner.member(counts);
        }
        self.scanner.close()
    }

    /// Reads the value of a field that the API reference does not name; it counts.
    fn unknown_field(&mut self) -> Result<bool, Unkeyed> {
        let name = str::from_utf8(self.scanner.current()).unwrap_or_default();
        let (goes_beyond, shapes) = (request::may_go_beyond(name), request::may_shape(name));
        let mark = self.scanner.mark();
        self.scanner.value()?;
        let off = [NULL, FALSE].contains(&self.scanner.since(mark));
        self.facts.request.live_tools |= goes_beyond && !off;
        self.facts.request.shaped |= shapes && !off;
        Ok(true)
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
            (Field::Temperature, _) => self.temperature()?,
            (Field::N, _) => self.facts.request.choices = self.scanner.spelt()?.parse().ok(),
            _ => self.scanner.value()?,
        }
        let (value, span) = (self.scanner.since(mark), self.scanner.span(mark));
        self.facts.note(field, value, span);
        self.counts(field, mark)
    }

    fn counts(&mut self, field: Field, mark: Mark) -> Result<bool, Unkeyed> {
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
        self.scanner.array()?;
        while self.scanner.item()? {
            match self.scanner.peek() {
                Some(b'{') => self.message()?,
                _ => self.scanner.value()?,
            }
        }
        Ok(())
    }

    fn message(&mut self) -> Result<(), Unkeyed> {
        self.scanner.object()?;
        let (mut role, mut nulls) = (Role::Other, false);
        while self.scanner.name()? {
            let mark = self.scanner.mark();
            let next = self.scanner.peek();
            match self.scanner.current() {
                b"content" if next == Some(b'"') => self.content()?,
                b"role" => role = self.role()?,
                _ => self.scanner.value()?,
            }
            nulls |= self.scanner.since(mark) == NULL;
            self.scanner.member(true);
        }
        if nulls {
            self.scanner.drop_nulls(|member| role.may_be_null(member));
        }
        self.scanner.close()
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

    fn temperature(&mut self) -> Result<(), Unkeyed> {
        self.facts.request.temperature = match self.scanner.spelt()? {
            "null" => Some(Temperature::DEFAULT),
            text => Temperature::parse(text),
        };
        Ok(())
    }

    fn tools(&mut self) -> Result<(), Unkeyed> {
        self.scanner.array()?;
        while self.scanner.item()? {
            let mut kind_is_known = false;
            match self.scanner.peek() {
                Some(b'{') => self.object(|name, value| {
                    kind_is_known |= name == b"type"
                        && text::content(value).is_some_and(request::runs_at_the_caller);
                })?,
                _ => self.scanner.value()?,
            }
            self.facts.request.live_tools |= !kind_is_known;
        }
        Ok(())
    }

    fn response_format(&mut self) -> Result<(), Unkeyed> {
        let (mut json, mut prose) = (false, false);
        self.object(|name, value| {
            let kind = text::content(value).filter(|_| name == b"type");
            json |= kind.is_some_and(request::is_json_format);
            prose |= kind == Some("text");
        })?;
        self.facts.request.wants_json = json;
        self.facts.request.shaped |= !prose;
        Ok(())
    }

    /// Takes `include_usage` out: one entry serves those who ask for the usage and those who do not.
    fn stream_options(&mut self) -> Result<(), Unkeyed> {
        let mut usage = false;
        self.scanner.object()?;
        while self.scanner.name()? {
            let mark = self.scanner.mark();
            self.scanner.value()?;
            let value = self.scanner.since(mark);
            let is_choice = value == TRUE || value == FALSE;
            let taken = is_choice && self.scanner.current() == b"include_usage";
            usage |= taken && value == TRUE;
            self.scanner.member(!taken);
        }
        self.facts.request.include_usage = usage;
        self.scanner.close()
    }

    /// Reads an object all of whose members count, and shows each name and canonical value to `look`.
    fn object(&mut self, mut look: impl FnMut(&[u8], &[u8])) -> Result<(), Unkeyed> {
        self.scanner.object()?;
        while self.scanner.name()? {
            let mark = self.scanner.mark();
            self.scanner.value()?;
            look(self.scanner.current(), self.scanner.since(mark));
            self.scanner.member(true);
        }
        self.scanner.close()
    }
}

impl Reader<'_> {
    /// Puts together what has been read from `start` on.
    fn conclude(self, start: Mark) -> Canonical {
        let Self { scanner, facts, .. } = self;
        let mut body = Vec::with_capacity(scanner.since(start).len());
        scanner.copy(scanner.span(start), &mut body);
        let mut delivery = Vec::new();
        if facts.streams {
            scanner.copy(facts.stream.unwrap_or_default(), &mut delivery);
            let before = delivery.len();
            scanner.copy(facts.stream_options.unwrap_or_default(), &mut delivery);
            if delivery.get(before..) == Some(EMPTY_OBJECT) {
                delivery.truncate(before);
            }
        }
        let mut request = facts.request;
        request.include_usage &= request.stream;
        Canonical {
            body,
            delivery,
            request,
        }
    }
}

impl Facts {
    /// Takes what a top-level field tells; in doubt the call is stateful and its tools are live.
    fn note(&mut self, field: Field, value: &[u8], span: Span) {
        let request = &mut self.request;
        match field {
            Field::Model => self.model(value),
            Field::Stream => {
                request.stream = value == TRUE;
                let is_plain = value == NULL || value == FALSE;
                self.streams = !is_plain;
                self.stream = (!is_plain && value != TRUE).then_some(span);
            }
            Field::StreamOptions => self.stream_options = (value != NULL).then_some(span),
            Field::Store => request.stateful = value != NULL && value != FALSE,
            Field::WebSearchOptions => request.live_tools |= value != NULL,
            Field::Tools => {
                request.tools |= value != NULL && value != EMPTY_ARRAY;
                request.live_tools |= value != NULL && !value.starts_with(b"[");
            }
            Field::Audio => request.shaped |= value != NULL,
            Field::ResponseFormat => request.shaped |= value != NULL && !value.starts_with(b"{"),
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

    /// Refuses a request without the fields that every one has.
    fn check(&self) -> Result<(), Unkeyed> {
        if !self.model {
            return Err(Unkeyed::NoModel);
        }
        if !self.messages {
            return Err(Unkeyed::NoMessages);
        }
        Ok(())
    }
}
