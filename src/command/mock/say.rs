//! What the mock says: prose, JSON or tool calls, all made from the question.

use std::iter;

use serde_json::{Value, json};

use super::{
    ask::{Ask, Function, Output},
    dice::Dice,
    reply::Ids,
    sample::sample,
};

/// One choice of a completion.
pub(super) enum Said {
    /// Text.
    Text {
        /// Its tokens; joined they are the text.
        tokens: Vec<String>,
        /// Whether it was cut at the caller's bound.
        cut: bool,
    },
    /// Tool calls, in parallel.
    Calls(Vec<ToolCall>),
}

/// A call of a function.
pub(super) struct ToolCall {
    /// Fresh id.
    pub(super) id: String,
    /// The function's name.
    pub(super) name: String,
    /// Its arguments, in fragments; joined they are a JSON object.
    pub(super) arguments: Vec<String>,
}

impl Said {
    /// Makes the choice `index` of the answer to `ask`, `length` tokens of prose where prose is wanted.
    pub(super) fn answer(ask: &Ask, index: usize, length: usize, ids: &Ids) -> Self {
        let question = ask.question();
        let mut dice = Dice::of(&question, index);
        let calls = ask.calls();
        if !calls.is_empty() {
            let calls = calls
                .into_iter()
                .map(|function| ToolCall::new(function, &mut dice, ids));
            return Self::Calls(calls.collect());
        }
        let mut tokens = match ask.output() {
            Output::Prose => prose(&question, length, dice),
            Output::Object => {
                fragments(&json!({"answer": prose(&question, length, dice).concat()}))
            }
            Output::Schema(schema) => fragments(&sample(schema, &mark(&mut dice))),
        };
        let bound = ask.max_tokens().unwrap_or(usize::MAX);
        let cut = tokens.len() > bound;
        tokens.truncate(bound);
        Self::Text { tokens, cut }
    }

    /// Returns the length, tokens.
    pub(super) fn tokens(&self) -> usize {
        match self {
            Self::Text { tokens, .. } => tokens.len(),
            Self::Calls(calls) => calls.iter().map(|call| call.arguments.len()).sum(),
        }
    }

    /// Returns the `finish_reason`.
    pub(super) fn finish_reason(&self) -> &'static str {
        match self {
            Self::Text { cut: false, .. } => "stop",
            Self::Text { cut: true, .. } => "length",
            Self::Calls(_) => "tool_calls",
        }
    }
}

impl ToolCall {
    fn new(function: &Function, dice: &mut Dice, ids: &Ids) -> Self {
        let arguments = match sample(&function.parameters, &mark(dice)) {
            Value::Object(members) => Value::Object(members),
            _ => json!({}),
        };
        Self {
            id: ids.fresh("call_"),
            name: function.name.clone(),
            arguments: fragments(&arguments),
        }
    }
}

/// Makes `length` tokens: a mark, the question (or its beginning), then words.
fn prose(question: &str, length: usize, mut dice: Dice) -> Vec<String> {
    let opening = format!("[{}] You asked: {question}", mark(&mut dice));
    let rest = iter::from_fn(|| dice.choose(&WORDS).copied());
    let words = opening
        .split_whitespace()
        .take(length.div_ceil(2))
        .chain(rest);
    words.take(length).enumerate().map(token).collect()
}

/// Returns the word with the blank that parts it from the one before.
fn token((index, word): (usize, &str)) -> String {
    let blank = if index == 0 { "" } else { " " };
    format!("{blank}{word}")
}

/// Returns the JSON text in pieces that end anywhere, as a model's tokens do.
fn fragments(value: &Value) -> Vec<String> {
    let text: Vec<char> = value.to_string().chars().collect();
    text.chunks(FRAGMENT)
        .map(|piece| piece.iter().collect())
        .collect()
}

/// Returns eight hex digits that tell one question from another.
fn mark(dice: &mut Dice) -> String {
    format!("{:08x}", dice.next() >> 32)
}

/// Length of a fragment of JSON, characters.
const FRAGMENT: usize = 6;

const WORDS: [&str; 24] = [
    "again", "the", "same", "verse", "returns", "and", "every", "voice", "joins", "in", "while",
    "a", "quiet", "chord", "holds", "until", "another", "line", "begins", "so", "we", "sing", "it",
    "once",
];
