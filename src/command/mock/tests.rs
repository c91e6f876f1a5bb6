//! The mock over real sockets.

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Parser;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::command::client::client;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    mock: Mock,
}

struct House {
    mock: Running,
    client: Client,
    shutdown: CancellationToken,
}

impl House {
    async fn new(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shutdown = CancellationToken::new();
        Self {
            mock: start(listener, options, shutdown.clone().cancelled_owned()).unwrap(),
            client: client(Duration::from_secs(20)).unwrap(),
            shutdown,
        }
    }

    async fn plain() -> Self {
        Self::new(Options::default()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        let url = format!("http://{}{path}", self.mock.address());
        self.client.post(url).json(body).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        let url = format!("http://{}{path}", self.mock.address());
        self.client.get(url).send().await.unwrap()
    }

    async fn chat(&self, body: &Value) -> Value {
        let response = self.post(CHAT, body).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }

    /// Returns the chunks of a stream that has ended as it should.
    async fn chunks(&self, body: &Value) -> Vec<Value> {
        let text = self.post(CHAT, body).await.text().await.unwrap();
        let text = text.strip_suffix("data: [DONE]\n\n").unwrap();
        events(text)
    }
}

fn events(text: &str) -> Vec<Value> {
    let events = text.split_terminator("\n\n");
    events
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect()
}

fn ask(question: &str) -> Value {
    json!({"model": "mock", "messages": [{"role": "user", "content": question}]})
}

fn with(mut body: Value, more: &Value) -> Value {
    let members = body.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    body
}

fn said(completion: &Value) -> &str {
    completion["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
}

/// Joins what the deltas at `pointer` say, choice `index`.
fn joined(chunks: &[Value], index: usize, pointer: &str) -> String {
    let choices = chunks
        .iter()
        .flat_map(|chunk| chunk["choices"].as_array().unwrap());
    choices
        .filter(|choice| choice["index"] == index)
        .filter_map(|choice| choice.pointer(pointer)?.as_str())
        .collect()
}

#[test]
fn the_default_options_are_those_of_the_command_line() {
    let cli = Cli::try_parse_from(["mock"]).unwrap();
    assert_eq!(cli.mock.options, Options::default());
    let cli = Cli::try_parse_from([
        "mock",
        "--latency",
        "1s",
        "--pace",
        "50",
        "--key",
        "a",
        "--key",
        "b",
    ])
    .unwrap();
    let chosen = Options {
        latency: Duration::from_secs(1),
        pace: 50,
        keys: vec!["a".into(), "b".into()],
        ..Options::default()
    };
    assert_eq!(cli.mock.options, chosen);
    assert_eq!(chosen.step(), Duration::from_millis(20));
}

#[test]
fn the_help_names_every_fault() {
    let mut command = <Cli as clap::CommandFactory>::command();
    let help = command.render_long_help().to_string();
    for fault in fault::Fault::ALL {
        assert!(help.contains(fault.model()), "{fault:?}");
    }
}

#[tokio::test]
async fn a_plain_answer_has_the_shape_of_the_api() {
    let house = House::plain().await;
    let response = house.post(CHAT, &ask("What is a cache?")).await;
    for name in ["x-request-id", "openai-processing-ms", "content-length"] {
        assert!(response.headers().contains_key(name), "{name}");
    }
    let completion: Value = response.json().await.unwrap();
    assert!(completion["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(completion["object"], "chat.completion");
    assert_eq!(completion["model"], "mock");
    assert!(completion["created"].as_u64().unwrap() > 1_700_000_000);
    let [choice] = completion["choices"].as_array().unwrap().as_slice() else {
        panic!("one choice");
    };
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(choice["message"]["role"], "assistant");
    assert!(said(&completion).contains("What is a cache?"));
    assert_eq!(said(&completion).split(' ').count(), 24);
    assert_eq!(
        completion["usage"]["total_tokens"],
        json!(completion["usage"]["prompt_tokens"].as_u64().unwrap() + 24)
    );
}

#[tokio::test]
async fn an_answer_depends_on_the_question_but_every_id_is_fresh() {
    let house = House::plain().await;
    let first = house.chat(&ask("one")).await;
    let again = house.chat(&ask("one")).await;
    let other = house.chat(&ask("two")).await;
    assert_eq!(said(&first), said(&again));
    assert_ne!(first["id"], again["id"]);
    assert_ne!(said(&first), said(&other));
}

#[tokio::test]
async fn the_question_is_the_last_user_message_in_either_form() {
    let house = House::plain().await;
    let parts = json!([{"type": "text", "text": "last one"}, {"type": "image_url", "image_url": {"url": "x"}}]);
    let body = json!({"model": "mock", "messages": [
        {"role": "user", "content": "first one"},
        {"role": "assistant", "content": null},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "hm"},
    ]});
    assert_eq!(
        said(&house.chat(&body).await),
        said(&house.chat(&ask("last one")).await)
    );
}

#[tokio::test]
async fn a_stream_says_what_the_plain_answer_says() {
    let house = House::plain().await;
    let plain = house.chat(&ask("hello")).await;
    let chunks = house
        .chunks(&with(ask("hello"), &json!({"stream": true})))
        .await;
    assert_eq!(joined(&chunks, 0, "/delta/content"), said(&plain));
    assert_eq!(joined(&chunks, 0, "/delta/role"), "assistant");
    assert_eq!(joined(&chunks, 0, "/finish_reason"), "stop");
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk")
    );
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[tokio::test]
async fn a_stream_ends_with_its_usage_if_that_was_asked_for() {
    let house = House::plain().await;
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let chunks = house.chunks(&with(ask("hello"), &more)).await;
    let plain = house.chat(&ask("hello")).await;
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], plain["usage"]);
    assert!(others.iter().all(|chunk| chunk["usage"].is_null()));
}

#[tokio::test]
async fn several_choices_differ_and_are_interleaved_in_a_stream() {
    let house = House::plain().await;
    let plain = house.chat(&with(ask("hello"), &json!({"n": 3}))).await;
    let chunks = house
        .chunks(&with(ask("hello"), &json!({"n": 3, "stream": true})))
        .await;
    let choices = plain["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3);
    for (index, choice) in choices.iter().enumerate() {
        let content = choice["message"]["content"].as_str().unwrap();
        assert_eq!(joined(&chunks, index, "/delta/content"), content);
    }
    assert_ne!(choices[0]["message"], choices[1]["message"]);
    let order: Vec<_> = chunks
        .iter()
        .take(6)
        .map(|chunk| chunk["choices"][0]["index"].clone())
        .collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    assert_eq!(plain["usage"]["completion_tokens"], 72);
}

#[tokio::test]
async fn tools_are_called_in_parallel_when_the_prompt_says_so() {
    let house = House::plain().await;
    let function = |name: &str| {
        let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}});
        json!({"type": "function", "function": {"name": name, "parameters": parameters}})
    };
    let tools = json!({"tools": [function("weather"), function("news")]});
    let plain = house.chat(&with(ask("please call tools"), &tools)).await;
    let choice = &plain["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert!(choice["message"]["content"].is_null());
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    let names: Vec<_> = calls.iter().map(|call| &call["function"]["name"]).collect();
    assert_eq!(names, ["weather", "news"]);

    let stream = with(
        with(ask("please call tools"), &tools),
        &json!({"stream": true}),
    );
    let chunks = house.chunks(&stream).await;
    assert_eq!(joined(&chunks, 0, "/finish_reason"), "tool_calls");
    for (index, call) in calls.iter().enumerate() {
        let deltas = chunks
            .iter()
            .filter_map(|chunk| chunk.pointer("/choices/0/delta/tool_calls/0"));
        let fragments: Vec<_> = deltas
            .filter(|delta| delta["index"] == index)
            .filter_map(|delta| delta["function"]["arguments"].as_str())
            .collect();
        assert!(fragments.len() > 3, "{fragments:?}");
        assert_eq!(fragments.concat(), call["function"]["arguments"]);
        let arguments: Value = serde_json::from_str(&fragments.concat()).unwrap();
        assert_eq!(arguments["days"], 7);
    }
}

#[tokio::test]
async fn tools_are_not_called_unasked() {
    let house = House::plain().await;
    let tool = json!({"type": "function", "function": {"name": "weather"}});
    let unasked = with(ask("what is the weather?"), &json!({"tools": [tool]}));
    let without = ask("call tools");
    let forbidden = with(
        ask("call tools"),
        &json!({"tools": [tool], "tool_choice": "none"}),
    );
    let mut answered = with(ask("call tools"), &json!({"tools": [tool]}));
    let result = json!({"role": "tool", "tool_call_id": "call_1", "content": "rain"});
    answered["messages"].as_array_mut().unwrap().push(result);
    for body in [unasked, without, forbidden, answered] {
        let completion = house.chat(&body).await;
        assert_eq!(completion["choices"][0]["finish_reason"], "stop", "{body}");
    }
}

#[tokio::test]
async fn json_is_answered_where_json_is_asked_for() {
    let house = House::plain().await;
    let format = json!({"response_format": {"type": "json_object"}});
    let completion = house.chat(&with(ask("hi"), &format)).await;
    let object: Value = serde_json::from_str(said(&completion)).unwrap();
    assert!(object.is_object());

    let schema = json!({"type": "object", "properties": {"title": {"type": "string"}, "pages": {"type": "integer"}}});
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "book", "schema": schema}}});
    let completion = house.chat(&with(ask("hi"), &format)).await;
    let book: Value = serde_json::from_str(said(&completion)).unwrap();
    assert!(book["title"].is_string());
    assert!(book["pages"].is_i64());
}

#[tokio::test]
async fn every_token_has_its_log_probability_when_asked_for() {
    let house = House::plain().await;
    let more = json!({"logprobs": true, "top_logprobs": 3});
    let completion = house.chat(&with(ask("hi"), &more)).await;
    let entries = completion["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    let tokens: String = entries
        .iter()
        .map(|entry| entry["token"].as_str().unwrap())
        .collect();
    assert_eq!(tokens, said(&completion));
    for entry in entries {
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert!(
            top.iter()
                .all(|other| other["logprob"].as_f64() <= entry["logprob"].as_f64())
        );
        assert!(entry["logprob"].as_f64().unwrap() <= 0.0);
    }
    let stream = with(with(ask("hi"), &more), &json!({"stream": true}));
    let chunks = house.chunks(&stream).await;
    assert_eq!(joined(&chunks, 0, "/logprobs/content/0/token"), tokens);
    assert!(house.chat(&ask("hi")).await["choices"][0]["logprobs"].is_null());
}

#[tokio::test]
async fn an_answer_above_the_callers_bound_is_cut() {
    let house = House::plain().await;
    for name in ["max_tokens", "max_completion_tokens"] {
        let completion = house.chat(&with(ask("hi"), &json!({name: 5}))).await;
        assert_eq!(
            completion["choices"][0]["finish_reason"], "length",
            "{name}"
        );
        assert_eq!(said(&completion).split(' ').count(), 5, "{name}");
    }
    let completion = house
        .chat(&with(ask("hi"), &json!({"max_tokens": 24})))
        .await;
    assert_eq!(completion["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn with_keys_chosen_other_keys_get_a_401() {
    let options = Options {
        keys: vec!["sk-one".into(), "sk-two".into()],
        ..Options::default()
    };
    let house = House::new(options).await;
    let cases = [
        (
            Some(("authorization", "Bearer sk-one")),
            StatusCode::OK,
            Value::Null,
        ),
        (Some(("api-key", "sk-two")), StatusCode::OK, Value::Null),
        (
            Some(("authorization", "Bearer sk-three")),
            StatusCode::UNAUTHORIZED,
            json!("invalid_api_key"),
        ),
        (
            Some(("authorization", "sk-one")),
            StatusCode::UNAUTHORIZED,
            Value::Null,
        ),
        (None, StatusCode::UNAUTHORIZED, Value::Null),
    ];
    for (header, status, code) in cases {
        let mut request = house
            .client
            .post(format!("{}/chat/completions", house.mock.base_url()));
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let response = request.json(&ask("hi")).send().await.unwrap();
        assert_eq!(response.status(), status, "{header:?}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], code, "{header:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_in_the_form_of_the_api() {
    let house = House::plain().await;
    let many = with(ask("hi"), &json!({"n": 129}));
    let cases = [
        (
            house.post(CHAT, &json!("text")).await,
            StatusCode::BAD_REQUEST,
        ),
        (
            house.post(CHAT, &json!({"model": "mock"})).await,
            StatusCode::BAD_REQUEST,
        ),
        (house.post(CHAT, &many).await, StatusCode::BAD_REQUEST),
        (
            house.post("/v1/nothing", &json!({})).await,
            StatusCode::NOT_FOUND,
        ),
        (house.get(CHAT).await, StatusCode::NOT_FOUND),
    ];
    for (response, status) in cases {
        assert_eq!(response.status(), status);
        let body: Value = response.json().await.unwrap();
        assert!(body["error"]["message"].is_string(), "{body}");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert!(body["error"].as_object().unwrap().contains_key("param"));
    }
}

#[tokio::test]
async fn some_models_answer_with_an_error() {
    let house = House::plain().await;
    for (model, status) in [("mock-401", 401), ("mock-429", 429), ("mock-500", 500)] {
        let response = house
            .post(CHAT, &with(ask("hi"), &json!({"model": model})))
            .await;
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(
            response.headers().contains_key("retry-after"),
            status == 429,
            "{model}"
        );
        let body: Value = response.json().await.unwrap();
        assert!(body["error"]["message"].is_string(), "{model}");
    }
}

#[tokio::test]
async fn a_cut_stream_delivers_three_events_and_then_breaks() {
    let house = House::plain().await;
    let body = with(ask("hi"), &json!({"model": "mock-cut", "stream": true}));
    let mut response = house.post(CHAT, &body).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut text = Vec::new();
    let broken = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => text.extend_from_slice(&chunk),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken, "the stream must not end as if it were whole");
    assert_eq!(events(std::str::from_utf8(&text).unwrap()).len(), 3);
}

#[tokio::test]
async fn a_cut_plain_answer_is_shorter_than_announced() {
    let house = House::plain().await;
    let response = house
        .post(CHAT, &with(ask("hi"), &json!({"model": "mock-cut"})))
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.bytes().await.is_err());
}

#[tokio::test]
async fn stopping_ends_a_stalled_stream() {
    let house = House::plain().await;
    let body = with(ask("hi"), &json!({"model": "mock-stall", "stream": true}));
    let mut response = house.post(CHAT, &body).await;
    assert!(response.chunk().await.unwrap().is_some());
    house.shutdown.cancel();
    house.mock.stopped().await;
    while let Ok(chunk) = response.chunk().await {
        assert!(
            chunk.is_some(),
            "the stream must not end as if it were whole"
        );
    }
}

#[tokio::test]
async fn calls_are_counted_by_kind() {
    let house = House::plain().await;
    let stats = async |house: &House| {
        house
            .get("/mock/stats")
            .await
            .json::<Value>()
            .await
            .unwrap()
    };
    assert_eq!(stats(&house).await, json!({"calls": {}, "total": 0}));
    house.chat(&ask("one")).await;
    house.chat(&ask("one")).await;
    house.get("/v1/models").await;
    house.get("/v1/nothing").await;
    let expected = json!({"calls": {"chat": 2, "models": 1, "other": 1}, "total": 4});
    assert_eq!(stats(&house).await, expected);
    assert_eq!(house.mock.calls(), 4);
}

#[tokio::test]
async fn the_models_are_listed() {
    let house = House::plain().await;
    let list: Value = house.get("/v1/models").await.json().await.unwrap();
    let data = list["data"].as_array().unwrap();
    assert!(data.iter().any(|model| model["id"] == "mock-429"));
    assert!(data.iter().all(|model| model["object"] == "model"));
}

#[tokio::test]
async fn one_text_has_one_embedding_in_either_encoding() {
    let house = House::plain().await;
    let body = json!({"model": "mock", "input": ["one", "two", "one"], "dimensions": 5});
    let list: Value = house
        .post("/v1/embeddings", &body)
        .await
        .json()
        .await
        .unwrap();
    let vector = |index: usize| list["data"][index]["embedding"].as_array().unwrap();
    assert_eq!(vector(0).len(), 5);
    assert_eq!(vector(0), vector(2));
    assert_ne!(vector(0), vector(1));

    let body =
        json!({"model": "mock", "input": "one", "dimensions": 5, "encoding_format": "base64"});
    let list: Value = house
        .post("/v1/embeddings", &body)
        .await
        .json()
        .await
        .unwrap();
    let bytes = STANDARD
        .decode(list["data"][0]["embedding"].as_str().unwrap())
        .unwrap();
    let numbers = bytes
        .as_chunks()
        .0
        .iter()
        .map(|chunk| f32::from_le_bytes(*chunk));
    let numbers: Vec<_> = numbers.map(|number| json!(number)).collect();
    assert_eq!(&numbers, vector(0));
}

#[tokio::test]
async fn http_2_is_spoken_too() {
    let house = House::plain().await;
    let client = Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let url = format!("{}/chat/completions", house.mock.base_url());
    let response = client.post(url).json(&ask("hi")).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert_eq!(response.status(), StatusCode::OK);
}

const CHAT: &str = "/v1/chat/completions";
