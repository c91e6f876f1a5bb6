//! A flat JSON object, written member by member.
//!
//! Every call writes one. Its names and many of its values are literals; a serializer would look through each of their
//! bytes for something to escape, which is most of the work.

use std::{fmt::Display, io::Write};

use serde::Serialize;

/// An object under way; [`Object::close`] ends it.
#[derive(Debug)]
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    pub(super) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    pub(super) fn close(self) {
        self.out.push(b'}');
    }

    /// Adds a text from anywhere, if there is one.
    pub(super) fn text<'v>(&mut self, name: &'static str, value: impl Into<Option<&'v str>>) {
        match value.into() {
            Some(plain) if plain.bytes().all(is_plain) => self.plain(name, plain),
            value => self.value(name, value),
        }
    }

    /// Adds a word of ours, which has nothing to escape, if there is one.
    pub(super) fn word(&mut self, name: &'static str, value: impl Into<Option<&'static str>>) {
        if let Some(plain) = value.into() {
            self.plain(name, plain);
        }
    }

    /// Adds what is shown with nothing to escape, as a text.
    pub(super) fn shown(&mut self, name: &'static str, value: impl Display) {
        self.name(name);
        // Writing to a Vec does not fail.
        let _ = write!(self.out, "\"{value}\"");
    }

    /// Adds a value of any other kind, if there is one.
    pub(super) fn value(&mut self, name: &'static str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.name(name);
            // Numbers, truth values and texts have a form in JSON.
            let _ = serde_json::to_writer(&mut *self.out, &value);
        }
    }

    fn plain(&mut self, name: &'static str, plain: &str) {
        self.name(name);
        self.quoted(plain);
    }

    fn name(&mut self, name: &'static str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.quoted(name);
        self.out.push(b':');
    }

    fn quoted(&mut self, plain: &str) {
        self.out.push(b'"');
        self.out.extend_from_slice(plain.as_bytes());
        self.out.push(b'"');
    }
}

/// Returns whether a byte stands for itself in a JSON string (RFC 8259 §7).
fn is_plain(byte: u8) -> bool {
    byte >= b' ' && byte != b'"' && byte != b'\\'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn object(fill: impl FnOnce(&mut Object<'_>)) -> Value {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        fill(&mut object);
        object.close();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn members_of_every_kind_are_json() {
        let written = object(|object| {
            object.text("text", "a");
            object.text("no text", None);
            object.word("word", Some("b"));
            object.word("no word", None);
            object.value("value", Some(1.5));
            object.value("no value", None::<bool>);
            object.shown("shown", 7);
        });
        let expected = json!({ "text": "a", "word": "b", "value": 1.5, "shown": "7" });
        assert_eq!(written, expected);
        assert_eq!(object(|_| {}), json!({}));
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_as_it_was(text in any::<String>()) {
            let written = object(|object| object.text("text", text.as_str()));
            prop_assert_eq!(written, json!({ "text": text }));
        }
    }
}
