//! How a command asks the admin listener of a running Refrain.
//!
//! # Scope
//! Address and token are the configuration's, as file and environment give it, unless flags name them; where both flags
//! are given, no configuration is read. Nothing else of it has to hold: whoever purges need not have the secrets of Redis.

use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde_json::Value;

use super::{
    ConfigArgs,
    client::client,
    failure::Failure,
    health::{admin, origin, root_cause},
};

/// Whom to ask, and as whom.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Operator {
    #[command(flatten)]
    config: ConfigArgs,
    /// Ask this admin listener, whatever the configuration says
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Its token; without it, the configuration's, which `REFRAIN_ADMIN__TOKEN` can be
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

impl Operator {
    /// Sends what `request` makes of a client and the URL of `path`, and returns what is told within `patience`. `undone`
    /// says what has not happened where that is refused.
    pub(super) async fn ask(
        &self,
        path: &str,
        request: impl FnOnce(&Client, &str) -> RequestBuilder,
        patience: Duration,
        undone: &str,
    ) -> anyhow::Result<Value> {
        let (admin, token) = self.whom()?;
        let url = format!("{admin}{path}");
        let mut request = request(&client(patience)?, &url);
        if let Some(token) = token.filter(|token| !token.is_empty()) {
            request = request.bearer_auth(token);
        }
        let unreachable = |error: reqwest::Error| {
            Failure::new(format!("no answer from `{url}`: {}", root_cause(&error))).hint(
                "is `refrain` running, and is this its `[admin] listen`? `--url` names another address",
            )
        };
        let response = request.send().await.map_err(unreachable)?;
        let is_done = response.status().is_success();
        let told = response.json::<Value>().await.map_err(unreachable)?;
        if is_done {
            return Ok(told);
        }
        let message = told.pointer("/error/message").and_then(Value::as_str);
        let message = message.unwrap_or("the answer is not Refrain's");
        Err(Failure::new(format!("{undone}: {message}")).into())
    }

    /// Returns the origin of the admin listener, and its token.
    fn whom(&self) -> anyhow::Result<(String, Option<String>)> {
        if let (Some(url), Some(token)) = (&self.url, &self.token) {
            return Ok((origin(url), Some(token.clone())));
        }
        let contact = self.config.contact()?;
        let origin = match &self.url {
            Some(url) => origin(url),
            None => admin(&contact)?,
        };
        if let Some(token) = &self.token {
            return Ok((origin, Some(token.clone())));
        }
        let configured = contact.token?;
        Ok((origin, configured.map(|token| token.expose().to_owned())))
    }
}
