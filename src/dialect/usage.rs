//! What an answer says that it cost, in tokens. Pure.
//!
//! # Scope
//! Exact or absent: nothing is counted, estimated or completed here, and a `usage` that cannot be read is none.

use super::skim::{Malformed, Members, Skim};

/// The tokens of one answer, as its upstream counted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input_tokens: u64,
    /// Tokens of the answer over all choices, reasoning included.
    pub output_tokens: u64,
}

impl Usage {
    /// Reads the `usage` of a chat completion or of a chunk of one; `None` unless both counts are there. An error only where it
    /// is no JSON, or not UTF-8.
    pub(crate) fn read(skim: &mut Skim<'_>) -> Result<Option<Self>, Malformed> {
        let mut ahead = skim.clone();
        if let Ok(usage) = Self::counts(&mut ahead)
            && ahead.is_text_since(skim)
        {
            *skim = ahead;
            return Ok(usage);
        }
        // No object, or one with a member that comes twice or cannot be read.
        skim.value().map(|_| None)
    }

    /// Reads both counts (API reference, "The chat completion object").
    fn counts(skim: &mut Skim<'_>) -> Result<Option<Self>, Malformed> {
        skim.object()?;
        let mut members = Members::of(&["prompt_tokens", "completion_tokens"]);
        let (mut input, mut output) = (None, None);
        while let Some(name) = members.next(skim)? {
            let count = skim.value()?.count();
            match name {
                "prompt_tokens" => input = count,
                _ => output = count,
            }
        }
        Ok(input.zip(output).map(Self::of))
    }

    fn of((input_tokens, output_tokens): (u64, u64)) -> Self {
        Self {
            input_tokens,
            output_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Option<Usage>, Malformed> {
        let mut skim = Skim::new(json.as_bytes());
        let usage = Usage::read(&mut skim)?;
        skim.end().map(|()| usage)
    }

    #[test]
    fn usage_is_exact_or_absent() {
        let table = [
            (
                r#"{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}"#,
                Some((9, 12)),
                "plain",
            ),
            (
                r#"{"prompt_tokens":0,"completion_tokens":0,"completion_tokens_details":{"reasoning_tokens":0}}"#,
                Some((0, 0)),
                "zero is a count",
            ),
            (
                r#"{"prompt_tokens":18446744073709551615,"completion_tokens":1}"#,
                Some((u64::MAX, 1)),
                "beyond 2^53",
            ),
            (r#"{"prompt_tokens":9}"#, None, "half of it"),
            (
                r#"{"prompt_tokens":9,"completion_tokens":null}"#,
                None,
                "null",
            ),
            (
                r#"{"prompt_tokens":9,"completion_tokens":1.5}"#,
                None,
                "not a count",
            ),
            (
                r#"{"prompt_tokens":-1,"completion_tokens":1}"#,
                None,
                "negative",
            ),
            (
                r#"{"prompt_tokens":9,"prompt_tokens":8,"completion_tokens":1}"#,
                None,
                "said twice",
            ),
            (
                r#"{"prompt_tokens":1e2,"completion_tokens":1}"#,
                None,
                "a float by its spelling",
            ),
            (
                r#"{"prompt_tokens":-0,"completion_tokens":1}"#,
                None,
                "a float, too",
            ),
            (
                r#"{"prompt_tokens":18446744073709551616,"completion_tokens":1}"#,
                None,
                "beyond 2^64",
            ),
            (
                r#"{"\u0070rompt_tokens":9,"x":["\ud800"],"completion_tokens":12}"#,
                Some((9, 12)),
                "another spelling, and a stranger",
            ),
            (
                r#"{"prompt_tokens":9,"completion_tokens":12,"\ud800":0}"#,
                None,
                "a name that is no text",
            ),
            ("[9,12]", None, "by position"),
            ("{}", None, "empty"),
            ("null", None, "null"),
            ("7", None, "of another shape"),
            ("\"[9,12]\"", None, "a text"),
        ];
        for (json, expected, why) in table {
            let usage = expected.map(Usage::of);
            assert_eq!(read(json), Ok(usage), "{why}");
        }
    }

    #[test]
    fn what_is_no_json_is_more_than_absent() {
        for json in ["", "{", "{\"prompt_tokens\":01}", "nul", "{} {}"] {
            assert_eq!(read(json), Err(Malformed), "{json}");
        }
        for json in [&b"{\"x\":\"\xff\"}"[..], b"{\"\xff\":1}", b"[\"\xff\"]"] {
            assert_eq!(Usage::read(&mut Skim::new(json)), Err(Malformed));
        }
    }
}
