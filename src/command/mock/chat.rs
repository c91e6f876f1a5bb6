//! `POST /v1/chat/completions`.

use std::time::{Duration, SystemTime};

use super::{
    Options,
    ask::Ask,
    completion::Completion,
    fault::Fault,
    refusal::Refusal,
    reply::{Ending, Ids, Reply},
    say::Said,
};

/// Answers chat calls.
pub(super) struct Chat<'a> {
    options: &'a Options,
    ids: &'a Ids,
}

impl<'a> Chat<'a> {
    /// Makes one that answers as `options` say.
    pub(super) fn new(options: &'a Options, ids: &'a Ids) -> Self {
        Self { options, ids }
    }

    /// Answers the call with this body.
    pub(super) fn reply(&self, body: &[u8]) -> Result<Reply, Refusal> {
        let ask = Ask::read(body)?;
        let fault = Fault::of(&ask.model);
        if let Some(refusal) = fault.and_then(Fault::refusal) {
            return Err(refusal);
        }
        let completion = self.completion(&ask);
        let reply = self.form(&ask, &completion);
        Ok(match fault {
            Some(Fault::Cut) => reply.broken(Ending::Cut),
            Some(Fault::Stall) => reply.broken(Ending::Stall),
            Some(Fault::Slow) => reply.after(Fault::SLOW),
            _ => reply,
        })
    }

    fn completion(&self, ask: &Ask) -> Completion {
        let length = usize::try_from(self.options.tokens).unwrap_or(usize::MAX);
        let choices = 0..ask.choices();
        Completion {
            id: self.ids.fresh("chatcmpl-"),
            created: unix_seconds(),
            model: ask.model.clone(),
            prompt_tokens: ask.prompt_tokens(),
            logprobs: ask.logprobs(),
            choices: choices
                .map(|index| Said::answer(ask, index, length, self.ids))
                .collect(),
        }
    }

    /// Gives the completion its form: a stream comes at the pace of its tokens, an object when all of them are made.
    fn form(&self, ask: &Ask, completion: &Completion) -> Reply {
        let step = self.options.step();
        if ask.stream() {
            return Reply::stream(completion.to_events(ask.include_usage()), step)
                .after(self.options.latency);
        }
        let longest = completion
            .choices
            .iter()
            .map(Said::tokens)
            .max()
            .unwrap_or_default();
        let writing = step.saturating_mul(u32::try_from(longest).unwrap_or(u32::MAX));
        Reply::json(&completion.to_json()).after(self.options.latency.saturating_add(writing))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the mock plays another machine, which has a clock of its own"
)]
fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.as_ref().map_or(0, Duration::as_secs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;

    /// Returns how long the mock waits before the head of its answer to `model`, at 300 ms and 20 tokens/s.
    async fn head_after(model: &str, stream: bool) -> Duration {
        let options = Options {
            latency: Duration::from_millis(300),
            pace: 20,
            tokens: 24,
            ..Options::default()
        };
        let ids = Ids::default();
        let body = json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
        let reply = Chat::new(&options, &ids)
            .reply(body.to_string().as_bytes())
            .unwrap();
        let called = Instant::now();
        reply.send(called, &ids).await;
        called.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_plain_answer_comes_when_its_last_token_is_made() {
        assert_eq!(head_after("mock", true).await, Duration::from_millis(300));
        assert_eq!(head_after("mock", false).await, Duration::from_millis(1500));
    }

    #[tokio::test(start_paused = true)]
    async fn the_slow_model_starts_five_seconds_later() {
        assert_eq!(
            head_after("mock-slow", true).await,
            Duration::from_millis(5300)
        );
    }
}
