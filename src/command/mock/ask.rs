//! What a chat call asks for, as far as it changes the shape of the answer.

use serde::Deserialize;
use serde_json::Value;

use super::refusal::Refusal;

/// A chat completion request (OpenAI API reference, "Create chat completion").
#[derive(Debug, Deserialize)]
pub(super) struct Ask {
    /// The model's name; some ask for a fault.
    pub(super) model: String,
    messages: Vec<Message>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<usize>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    response_format: Option<Value>,
    tools: Option<Vec<Tool>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
}

/// A tool that the model may call; only functions are called.
#[derive(Debug, Deserialize)]
pub(super) struct Tool {
    function: Option<Function>,
}

/// A function that the model may call.
#[derive(Debug, Deserialize)]
pub(super) struct Function {
    /// Its name.
    pub(super) name: String,
    /// JSON Schema of its arguments.
    #[serde(default)]
    pub(super) parameters: Value,
}

/// What the text of the answer has to be.
pub(super) enum Output<'a> {
    /// Anything.
    Prose,
    /// Some JSON object.
    Object,
    /// JSON that fits this JSON Schema.
    Schema(&'a Value),
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Value,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl Ask {
    /// Reads a request body.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let ask: Self = serde_json::from_slice(body).map_err(|error| Refusal::bad_json(&error))?;
        match ask.choices() {
            1..=MAX_CHOICES => Ok(ask),
            _ => Err(Refusal::bad_request(&format!(
                "`n` must be in 1..={MAX_CHOICES}."
            ))),
        }
    }

    /// Returns whether the answer is wanted as a stream of events.
    pub(super) fn stream(&self) -> bool {
        self.stream == Some(true)
    }

    /// Returns whether a stream shall end with its usage.
    pub(super) fn include_usage(&self) -> bool {
        let options = self.stream_options.as_ref();
        options.and_then(|options| options.include_usage) == Some(true)
    }

    /// Returns how many answers are wanted.
    pub(super) fn choices(&self) -> usize {
        self.n.unwrap_or(1)
    }

    /// Returns how many alternatives each token's log probability comes with, if they are wanted at all.
    pub(super) fn logprobs(&self) -> Option<usize> {
        (self.logprobs == Some(true)).then(|| self.top_logprobs.unwrap_or(0))
    }

    /// Returns the bound on the answer's length, tokens.
    pub(super) fn max_tokens(&self) -> Option<usize> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// Returns the text of the last user message.
    pub(super) fn question(&self) -> String {
        let last = self.messages.iter().rfind(|message| message.role == "user");
        last.map(Message::text).unwrap_or_default()
    }

    /// Returns what the text of the answer has to be.
    pub(super) fn output(&self) -> Output<'_> {
        let Some(format) = &self.response_format else {
            return Output::Prose;
        };
        match format.get("type").and_then(Value::as_str) {
            Some("json_object") => Output::Object,
            Some("json_schema") => format
                .pointer("/json_schema/schema")
                .map_or(Output::Object, Output::Schema),
            _ => Output::Prose,
        }
    }

    /// Returns the functions that the answer shall call: two, in parallel, if the last message asks to `call tools`.
    pub(super) fn calls(&self) -> Vec<&Function> {
        if !self.wants_calls() {
            return Vec::new();
        }
        let tools = self.tools.iter().flatten();
        let functions: Vec<_> = tools.filter_map(|tool| tool.function.as_ref()).collect();
        let count = if self.parallel_tool_calls == Some(false) {
            1
        } else {
            2
        };
        functions.into_iter().cycle().take(count).collect()
    }

    /// Returns the length of the prompt, roughly: a token is four bytes, a message costs three more.
    pub(super) fn prompt_tokens(&self) -> usize {
        let tokens = |message: &Message| 3 + message.text().len().div_ceil(4);
        self.messages.iter().map(tokens).sum()
    }

    /// A tool's result ends the exchange: without that an agent would call tools for ever.
    fn wants_calls(&self) -> bool {
        let forbidden = self.tool_choice.as_ref().and_then(Value::as_str) == Some("none");
        let last = self.messages.last();
        !forbidden
            && last.is_some_and(|message| {
                message.role == "user" && message.text().contains("call tools")
            })
    }
}

impl Message {
    /// Returns the text, whether it came as a string or in parts.
    fn text(&self) -> String {
        match &self.content {
            Value::String(text) => text.clone(),
            Value::Array(parts) => parts
                .iter()
                .filter_map(|part| part.get("text")?.as_str())
                .collect(),
            _ => String::new(),
        }
    }
}

/// Largest `n`, as at OpenAI.
const MAX_CHOICES: usize = 128;
