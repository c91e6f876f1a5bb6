//! What an answer says that it cost, in tokens. Pure.
//!
//! # Scope
//! Exact or absent: nothing is counted, estimated or completed here, and a `usage` that cannot be read is none.

use serde::Deserialize;

/// The tokens of one answer, as its upstream counted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input_tokens: u64,
    /// Tokens of the answer over all choices, reasoning included.
    pub output_tokens: u64,
}

/// The members of a chat completion's `usage` that are read (API reference, "The chat completion object").
#[derive(Deserialize)]
struct Chat {
    prompt_tokens: u64,
    completion_tokens: u64,
}

impl Usage {
    /// Reads the `usage` object of a chat completion or of a chunk of one; `None` unless both counts are there.
    pub fn of_chat(json: &str) -> Option<Self> {
        let counts: Chat = serde_json::from_str(json).ok()?;
        Some(Self {
            input_tokens: counts.prompt_tokens,
            output_tokens: counts.completion_tokens,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("{}", None, "empty"),
            ("null", None, "null"),
            ("", None, "nothing"),
        ];
        for (json, expected, why) in table {
            let usage = Usage::of_chat(json).map(|usage| (usage.input_tokens, usage.output_tokens));
            assert_eq!(usage, expected, "{why}");
        }
    }
}
