//! What a chat completions request can say, and which of it can change the answer. Pure.
//!
//! # Scope
//! Every field of OpenAI's API reference ("Create chat completion") is named and classified here, exhaustively: a new
//! one does not compile until someone has decided about it. A field that is not named here is not refused; it is keyed.

use super::form::Form;
use crate::config::Temperature;

/// A top-level field of the request that the API reference knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// `messages`.
    Messages,
    /// `model`.
    Model,
    /// `audio`: voice and format of spoken output.
    Audio,
    /// `frequency_penalty`.
    FrequencyPenalty,
    /// `function_call`, the older `tool_choice`.
    FunctionCall,
    /// `functions`, the older `tools`.
    Functions,
    /// `logit_bias`.
    LogitBias,
    /// `logprobs`.
    Logprobs,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
    /// `max_tokens`.
    MaxTokens,
    /// `metadata`: labels for the vendor's own dashboard.
    Metadata,
    /// `modalities`.
    Modalities,
    /// `n`: number of choices.
    N,
    /// `parallel_tool_calls`.
    ParallelToolCalls,
    /// `prediction`: text that the answer is expected to repeat.
    Prediction,
    /// `presence_penalty`.
    PresencePenalty,
    /// `prompt_cache_key`: routing hint for the vendor's prefix cache.
    PromptCacheKey,
    /// `prompt_cache_retention`: lifetime in the vendor's prefix cache.
    PromptCacheRetention,
    /// `reasoning_effort`.
    ReasoningEffort,
    /// `response_format`.
    ResponseFormat,
    /// `safety_identifier`: the end user, for abuse detection.
    SafetyIdentifier,
    /// `seed`.
    Seed,
    /// `service_tier`.
    ServiceTier,
    /// `stop`.
    Stop,
    /// `store`: whether the vendor keeps the completion.
    Store,
    /// `stream`.
    Stream,
    /// `stream_options`.
    StreamOptions,
    /// `temperature`.
    Temperature,
    /// `tool_choice`.
    ToolChoice,
    /// `tools`.
    Tools,
    /// `top_logprobs`.
    TopLogprobs,
    /// `top_p`.
    TopP,
    /// `user`: the end user, older form.
    User,
    /// `verbosity`.
    Verbosity,
    /// `web_search_options`.
    WebSearchOptions,
}

/// What a field has to do with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Part of the key.
    Keyed,
    /// Cannot change the answer; left out unless the operator keeps it.
    Ignored,
    /// Changes how the answer travels, not what it says; left out unless the operator keeps it.
    Delivery,
}

/// Who speaks in a message, as far as its nullable members depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `assistant`.
    Assistant,
    /// `function`, the older `tool`.
    Function,
    /// `developer`, `system`, `user`, `tool`, and what the reference does not name: no member is nullable.
    Other,
}

/// What a request asks for, as far as the rest of Refrain has to know.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about one request"
)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `model`, as sent.
    pub model: String,
    /// Whether the answer is asked for as a stream.
    pub stream: bool,
    /// Whether a stream is to end with its usage (`stream_options.include_usage`); never set for a plain call.
    pub include_usage: bool,
    /// Whether `response_format` asks for JSON.
    pub wants_json: bool,
    /// Whether the vendor is to keep the completion (`store`).
    pub stateful: bool,
    /// Whether the answer may draw on the outside world: web search, or a tool that the vendor runs.
    pub live_tools: bool,
    /// Whether the model may call tools or functions.
    pub tools: bool,
    /// Whether the answer is to have a shape that prose has not: JSON, whatever a grammar allows, sound.
    pub shaped: bool,
    /// How many choices are asked for (`n`); `None` where that is not stated, or no whole number below 256.
    pub choices: Option<u8>,
    /// The sampling temperature, the API's default where none is stated; `None` where what is stated is no number.
    pub temperature: Option<Temperature>,
}

impl Request {
    /// Returns the form that the answer is asked for in.
    pub fn form(&self) -> Form {
        if self.stream {
            Form::Stream {
                usage: self.include_usage,
            }
        } else {
            Form::Plain
        }
    }
}

impl Field {
    /// Every field, in the order of the type.
    pub const ALL: [Self; 35] = [
        Self::Messages,
        Self::Model,
        Self::Audio,
        Self::FrequencyPenalty,
        Self::FunctionCall,
        Self::Functions,
        Self::LogitBias,
        Self::Logprobs,
        Self::MaxCompletionTokens,
        Self::MaxTokens,
        Self::Metadata,
        Self::Modalities,
        Self::N,
        Self::ParallelToolCalls,
        Self::Prediction,
        Self::PresencePenalty,
        Self::PromptCacheKey,
        Self::PromptCacheRetention,
        Self::ReasoningEffort,
        Self::ResponseFormat,
        Self::SafetyIdentifier,
        Self::Seed,
        Self::ServiceTier,
        Self::Stop,
        Self::Store,
        Self::Stream,
        Self::StreamOptions,
        Self::Temperature,
        Self::ToolChoice,
        Self::Tools,
        Self::TopLogprobs,
        Self::TopP,
        Self::User,
        Self::Verbosity,
        Self::WebSearchOptions,
    ];

    /// Returns the field of this name, letter case included.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "messages" => Self::Messages,
            "model" => Self::Model,
            "audio" => Self::Audio,
            "frequency_penalty" => Self::FrequencyPenalty,
            "function_call" => Self::FunctionCall,
            "functions" => Self::Functions,
            "logit_bias" => Self::LogitBias,
            "logprobs" => Self::Logprobs,
            "max_completion_tokens" => Self::MaxCompletionTokens,
            "max_tokens" => Self::MaxTokens,
            "metadata" => Self::Metadata,
            "modalities" => Self::Modalities,
            "n" => Self::N,
            "parallel_tool_calls" => Self::ParallelToolCalls,
            "prediction" => Self::Prediction,
            "presence_penalty" => Self::PresencePenalty,
            "prompt_cache_key" => Self::PromptCacheKey,
            "prompt_cache_retention" => Self::PromptCacheRetention,
            "reasoning_effort" => Self::ReasoningEffort,
            "response_format" => Self::ResponseFormat,
            "safety_identifier" => Self::SafetyIdentifier,
            "seed" => Self::Seed,
            "service_tier" => Self::ServiceTier,
            "stop" => Self::Stop,
            "store" => Self::Store,
            "stream" => Self::Stream,
            "stream_options" => Self::StreamOptions,
            "temperature" => Self::Temperature,
            "tool_choice" => Self::ToolChoice,
            "tools" => Self::Tools,
            "top_logprobs" => Self::TopLogprobs,
            "top_p" => Self::TopP,
            "user" => Self::User,
            "verbosity" => Self::Verbosity,
            "web_search_options" => Self::WebSearchOptions,
            _ => return None,
        })
    }

    /// Returns the name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Model => "model",
            Self::Audio => "audio",
            Self::FrequencyPenalty => "frequency_penalty",
            Self::FunctionCall => "function_call",
            Self::Functions => "functions",
            Self::LogitBias => "logit_bias",
            Self::Logprobs => "logprobs",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxTokens => "max_tokens",
            Self::Metadata => "metadata",
            Self::Modalities => "modalities",
            Self::N => "n",
            Self::ParallelToolCalls => "parallel_tool_calls",
            Self::Prediction => "prediction",
            Self::PresencePenalty => "presence_penalty",
            Self::PromptCacheKey => "prompt_cache_key",
            Self::PromptCacheRetention => "prompt_cache_retention",
            Self::ReasoningEffort => "reasoning_effort",
            Self::ResponseFormat => "response_format",
            Self::SafetyIdentifier => "safety_identifier",
            Self::Seed => "seed",
            Self::ServiceTier => "service_tier",
            Self::Stop => "stop",
            Self::Store => "store",
            Self::Stream => "stream",
            Self::StreamOptions => "stream_options",
            Self::Temperature => "temperature",
            Self::ToolChoice => "tool_choice",
            Self::Tools => "tools",
            Self::TopLogprobs => "top_logprobs",
            Self::TopP => "top_p",
            Self::User => "user",
            Self::Verbosity => "verbosity",
            Self::WebSearchOptions => "web_search_options",
        }
    }

    /// Returns what the field has to do with the key.
    pub fn class(self) -> Class {
        match self {
            Self::Messages
            | Self::Model
            | Self::Audio
            | Self::FrequencyPenalty
            | Self::FunctionCall
            | Self::Functions
            | Self::LogitBias
            | Self::Logprobs
            | Self::MaxCompletionTokens
            | Self::MaxTokens
            | Self::Modalities
            | Self::N
            | Self::ParallelToolCalls
            | Self::Prediction
            | Self::PresencePenalty
            | Self::ReasoningEffort
            | Self::ResponseFormat
            | Self::Seed
            | Self::ServiceTier
            | Self::Stop
            | Self::Store
            | Self::Temperature
            | Self::ToolChoice
            | Self::Tools
            | Self::TopLogprobs
            | Self::TopP
            | Self::Verbosity
            | Self::WebSearchOptions => Class::Keyed,
            Self::Metadata
            | Self::PromptCacheKey
            | Self::PromptCacheRetention
            | Self::SafetyIdentifier
            | Self::User => Class::Ignored,
            Self::Stream | Self::StreamOptions => Class::Delivery,
        }
    }

    /// Returns whether the API reference names the field as nullable, so that `null` equals its absence.
    pub fn nullable(self) -> bool {
        match self {
            Self::Audio
            | Self::FrequencyPenalty
            | Self::LogitBias
            | Self::Logprobs
            | Self::MaxCompletionTokens
            | Self::MaxTokens
            | Self::Metadata
            | Self::Modalities
            | Self::N
            | Self::Prediction
            | Self::PresencePenalty
            | Self::PromptCacheRetention
            | Self::ReasoningEffort
            | Self::Seed
            | Self::ServiceTier
            | Self::Stop
            | Self::Store
            | Self::Stream
            | Self::StreamOptions
            | Self::Temperature
            | Self::TopLogprobs
            | Self::TopP
            | Self::Verbosity => true,
            Self::Messages
            | Self::Model
            | Self::FunctionCall
            | Self::Functions
            | Self::ParallelToolCalls
            | Self::PromptCacheKey
            | Self::ResponseFormat
            | Self::SafetyIdentifier
            | Self::ToolChoice
            | Self::Tools
            | Self::User
            | Self::WebSearchOptions => false,
        }
    }

    /// Returns the value, as JSON, that the API reference gives as the default whatever the model and the other fields.
    ///
    /// Defaults that depend on them have none here: `reasoning_effort` on the model, `tool_choice` and `function_call`
    /// on whether there are tools.
    pub fn openai_default(self) -> Option<&'static str> {
        match self {
            Self::Temperature | Self::TopP | Self::N => Some("1"),
            Self::FrequencyPenalty | Self::PresencePenalty => Some("0"),
            Self::Logprobs | Self::Store => Some("false"),
            Self::ParallelToolCalls => Some("true"),
            Self::ServiceTier => Some(r#""auto""#),
            Self::Verbosity => Some(r#""medium""#),
            Self::Modalities => Some(r#"["text"]"#),
            Self::ResponseFormat => Some(r#"{"type":"text"}"#),
            Self::Messages
            | Self::Model
            | Self::Audio
            | Self::FunctionCall
            | Self::Functions
            | Self::LogitBias
            | Self::MaxCompletionTokens
            | Self::MaxTokens
            | Self::Metadata
            | Self::Prediction
            | Self::PromptCacheKey
            | Self::PromptCacheRetention
            | Self::ReasoningEffort
            | Self::SafetyIdentifier
            | Self::Seed
            | Self::Stop
            | Self::Stream
            | Self::StreamOptions
            | Self::ToolChoice
            | Self::Tools
            | Self::TopLogprobs
            | Self::User
            | Self::WebSearchOptions => None,
        }
    }
}

impl Role {
    /// Returns the role of this name.
    pub fn named(name: &str) -> Self {
        match name {
            "assistant" => Self::Assistant,
            "function" => Self::Function,
            _ => Self::Other,
        }
    }

    /// Returns whether the API reference names this member of the role's messages as nullable.
    pub fn may_be_null(self, member: &str) -> bool {
        match self {
            Self::Assistant => matches!(member, "content" | "refusal" | "audio" | "function_call"),
            Self::Function => member == "content",
            Self::Other => false,
        }
    }
}

/// Returns whether a tool of this type acts only through the caller, who runs it and sends back what it found.
pub fn runs_at_the_caller(tool_type: &str) -> bool {
    matches!(tool_type, "function" | "custom")
}

/// Returns whether a `response_format` of this type asks for JSON.
pub fn is_json_format(format_type: &str) -> bool {
    matches!(format_type, "json_object" | "json_schema")
}

/// Returns whether a field, unknown to OpenAI, binds the answer to a grammar: vLLM's `guided_json` and its kin, `SGLang`'s
/// `regex` and `ebnf`, llama.cpp's `grammar` and `json_schema`.
pub fn may_shape(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "structured_outputs",
        "regex",
        "ebnf",
        "grammar",
        "json_schema",
    ];
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Returns whether models of this name search the web by themselves: OpenAI's `gpt-4o-search-preview` and
/// `gpt-5-search-api`, Perplexity's `sonar`, and whatever has OpenRouter's suffix `:online`.
pub fn searches_by_itself(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    model.contains("-search-")
        || model.ends_with("-search")
        || model.ends_with(":online")
        || name == "sonar"
        || name.starts_with("sonar-")
}

/// Returns whether a field, unknown to OpenAI or spelt in another case than its own, makes an answer draw on the
/// outside world, or the vendor keep it: xAI's `search_parameters`, OpenRouter's `plugins`, Qwen's `enable_search`.
/// Servers in Go read a field in any letter case.
pub fn may_go_beyond(name: &str) -> bool {
    const NAMES: [&str; 5] = [
        "search_parameters",
        "plugins",
        "enable_search",
        "web_search_options",
        "store",
    ];
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config;

    #[test]
    fn every_field_is_found_by_its_own_name_only() {
        for (at, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(field as usize, at, "ALL follows the order of the type");
            assert_eq!(Field::named(field.as_str()), Some(field));
            assert_eq!(Field::named(&field.as_str().to_uppercase()), None);
        }
        assert_eq!(Field::ALL.len(), Field::WebSearchOptions as usize + 1);
        assert_eq!(Field::named(""), None);
        assert_eq!(Field::named("num_ctx"), None);
    }

    #[test]
    fn only_the_documented_fields_are_left_out_of_the_key() {
        let left_out: Vec<_> = Field::ALL
            .into_iter()
            .filter(|field| field.class() != Class::Keyed)
            .map(Field::as_str)
            .collect();
        assert_eq!(
            left_out,
            [
                "metadata",
                "prompt_cache_key",
                "prompt_cache_retention",
                "safety_identifier",
                "stream",
                "stream_options",
                "user"
            ]
        );
    }

    #[test]
    fn the_operator_may_keep_exactly_what_is_ignored() {
        let ignored = Field::ALL.into_iter().filter_map(|field| {
            let is_ignored = field.class() == Class::Ignored;
            is_ignored.then_some(field.as_str())
        });
        let ignored: HashSet<_> = ignored.collect();
        assert_eq!(HashSet::from(config::KEEPABLE), ignored);
    }

    #[test]
    fn search_models_are_told_by_their_name() {
        let cases = [
            ("gpt-4o-search-preview", true),
            ("gpt-4o-mini-search-preview-2025-03-11", true),
            ("gpt-5-search-api", true),
            ("gpt-4o", false),
            ("research-assistant", false),
            ("", false),
        ];
        for (model, expected) in cases {
            assert_eq!(searches_by_itself(model), expected, "{model}");
        }
    }
}
