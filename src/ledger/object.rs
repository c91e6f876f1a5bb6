//! A flat JSON object, written member by member.
//!
//! Every call writes one. Its names and many of its values are literals; a serializer would look through each of their
//! bytes for something to escape, which is most of the work. What is literal is inlined to where its length is known, so
//! that it costs a few moves and no copy.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::date;

/// An object under way; [`Object::close`] ends it.
#[derive(Debug)]
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Object<'a> {
    pub(super) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out }
    }

    pub(super) fn close(self) {
        // Every member ends with a comma.
        self.out.pop_if(|last| *last == b',');
        self.out.push(b'}');
    }

    /// Adds a text from anywhere, if there is one.
    #[inline]
    pub(super) fn text<'v>(&mut self, name: &'static str, value: impl Into<Option<&'v str>>) {
        match value.into() {
            Some(plain) if is_plain(plain) => self.plain(name, plain),
            value => self.value(name, value),
        }
    }

    /// Adds a word of ours, which has nothing to escape, if there is one.
    #[inline]
    pub(super) fn word<'v>(&mut self, name: &'static str, value: impl Into<Option<&'v str>>) {
        if let Some(plain) = value.into() {
            self.plain(name, plain);
        }
    }

    /// Adds a date.
    #[inline]
    pub(super) fn date(&mut self, name: &'static str, time: SystemTime) {
        self.name(name);
        self.out.push(b'"');
        date::write(self.out, time);
        self.out.extend_from_slice(b"\",");
    }

    /// Adds a time as milliseconds, to the microsecond, if there is one.
    #[inline]
    pub(super) fn millis(&mut self, name: &'static str, time: Option<Duration>) {
        if let Some(time) = time {
            self.name(name);
            write_millis(self.out, time);
            self.out.push(b',');
        }
    }

    /// Adds a value of any other kind, if there is one.
    #[inline]
    pub(super) fn value(&mut self, name: &'static str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.name(name);
            // Numbers, truth values and texts have a form in JSON.
            let _ = serde_json::to_writer(&mut *self.out, &value);
            self.out.push(b',');
        }
    }

    #[inline]
    fn plain(&mut self, name: &'static str, plain: &str) {
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(plain.as_bytes());
        self.out.extend_from_slice(b"\",");
    }

    #[inline]
    fn name(&mut self, name: &'static str) {
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

/// Appends `time` in milliseconds, to the microsecond: `1.500`.
pub(super) fn write_millis(out: &mut Vec<u8>, time: Duration) {
    let whole = time.as_secs() * 1_000 + u64::from(time.subsec_millis());
    // Writing to a Vec does not fail.
    let _ = serde_json::to_writer(&mut *out, &whole);
    out.push(b'.');
    out.extend_from_slice(&date::thousandths(time.subsec_micros()));
}

/// Returns whether every byte stands for itself in a JSON string (RFC 8259 §7). Looks at all of them, as that goes in
/// vectors.
fn is_plain(text: &str) -> bool {
    let special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    text.bytes()
        .fold(0, |seen, byte| seen | u8::from(special(byte)))
        == 0
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
            object.millis("time", Some(Duration::from_micros(61_000_050)));
            object.millis("no time", None);
            object.date(
                "date",
                SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            );
        });
        let expected = json!({
            "text": "a", "word": "b", "value": 1.5, "time": 61_000.05, "date": "1970-01-01T00:00:01.500Z",
        });
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
