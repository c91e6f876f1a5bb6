//! `refrain health`: asks a running Refrain whether it is ready. Made for Docker's `HEALTHCHECK`.

use std::{error::Error as StdError, time::Duration};

use super::{client::client, failure::Failure, print};

/// Ask a running Refrain whether it is ready
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Exits with 0 when it is ready, with 1 when it is not or does not answer within 2 s.

Example:
  refrain health --url http://127.0.0.1:8081")]
pub struct Health {
    /// The admin listener [default: `$REFRAIN_ADMIN__LISTEN`, else `127.0.0.1:8081`]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

impl Health {
    /// Prints one line if Refrain is ready.
    ///
    /// # Errors
    /// When it is starting or draining, does not answer in time or cannot be reached.
    pub async fn run(self) -> Result<(), Failure> {
        let listen = std::env::var("REFRAIN_ADMIN__LISTEN").ok();
        let admin = admin_url(self.url.as_deref(), listen.as_deref())?;
        let state = ask(&admin).await?;
        print(&format!("{state}\n"))
    }
}

/// Returns the origin to ask: the flag, else the address the admin listener was configured with, else its default.
pub(super) fn admin_url(flag: Option<&str>, listen: Option<&str>) -> Result<String, Failure> {
    let address = match (flag, listen.unwrap_or(DEFAULT_LISTEN)) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, "off") => return Err(switched_off()),
        (None, listen) => reachable(listen),
    };
    if address.contains("://") {
        return Ok(address);
    }
    Ok(format!("http://{address}"))
}

/// Returns an address that can be connected to: a listener on every interface is reached over loopback.
fn reachable(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some(("0.0.0.0" | "", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => listen.to_owned(),
    }
}

/// Asks `/readyz` and returns what it says; anything but a 2xx is a failure.
async fn ask(admin: &str) -> Result<String, Failure> {
    let url = format!("{admin}/readyz");
    let unreachable = |error: reqwest::Error| {
        Failure::new(format!("no answer from `{url}`: {}", root_cause(&error))).hint(
            "is `refrain` running, and is this its `[admin] listen`? `--url` names another address",
        )
    };
    let response = client(TIMEOUT)?
        .get(&url)
        .send()
        .await
        .map_err(unreachable)?;
    let status = response.status();
    let said = response.text().await.map_err(unreachable)?;
    let said = said.lines().next().unwrap_or_default().trim();
    if !status.is_success() {
        return Err(
            Failure::new(format!("`{url}` is not ready: {status} {said}"))
                .hint("it is starting or draining; its log says more"),
        );
    }
    Ok(match said {
        "" => "ready".to_owned(),
        said => said.to_owned(),
    })
}

/// Returns the innermost cause, which is what the operator can act on.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("timed out after {} s", TIMEOUT.as_secs());
    }
    let mut cause: &dyn StdError = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn switched_off() -> Failure {
    Failure::new("the admin listener is switched off by REFRAIN_ADMIN__LISTEN")
        .hint("give it an address such as `127.0.0.1:8081`")
}

const DEFAULT_LISTEN: &str = "127.0.0.1:8081";
const TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::JoinSet,
    };

    use super::*;

    /// Asks a listener that answers one call with `answer`; returns what came of it and the head of the call.
    async fn asked(answer: &'static str) -> (Result<String, Failure>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = format!("http://{}", listener.local_addr().unwrap());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
            socket.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        });
        let said = ask(&admin).await;
        (said, task.join_next().await.unwrap().unwrap())
    }

    #[tokio::test]
    async fn a_ready_refrain_is_reported_in_one_line() {
        let (said, head) =
            asked("HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\ndegraded\nmore\r\n").await;
        assert_eq!(said.unwrap(), "degraded");
        assert!(head.starts_with("GET /readyz HTTP/1.1\r\n"), "{head}");
        let (said, _) = asked("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(said.unwrap(), "ready");
    }

    #[tokio::test]
    async fn anything_but_a_2xx_is_a_failure_with_a_hint() {
        let (said, _) =
            asked("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 8\r\n\r\ndraining").await;
        let failure = said.unwrap_err().to_string();
        assert!(
            failure.contains("is not ready: 503 Service Unavailable draining\nhint: "),
            "{failure}"
        );
        let redirect =
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let (said, _) = asked(redirect).await;
        assert!(said.unwrap_err().to_string().contains("302"));
    }

    #[tokio::test]
    async fn a_refrain_that_does_not_run_is_a_failure_with_a_hint() {
        let failure = ask("http://127.0.0.1:1").await.unwrap_err().to_string();
        assert!(failure.contains("refused"), "{failure}");
        assert!(failure.contains("\nhint: "), "{failure}");
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_a_failure() {
        let (said, _) = asked("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nready").await;
        assert!(said.is_err());
    }

    #[test]
    fn the_address_comes_from_the_flag_then_the_environment_then_the_default() {
        let cases = [
            (None, None, "http://127.0.0.1:8081"),
            (None, Some("127.0.0.1:9"), "http://127.0.0.1:9"),
            (None, Some("0.0.0.0:8081"), "http://127.0.0.1:8081"),
            (None, Some("[::]:8081"), "http://[::1]:8081"),
            (None, Some(":8081"), "http://127.0.0.1:8081"),
            (
                Some("http://refrain:1/"),
                Some("127.0.0.1:9"),
                "http://refrain:1",
            ),
            (Some("localhost:1"), None, "http://localhost:1"),
            (Some("https://refrain"), Some("off"), "https://refrain"),
        ];
        for (flag, listen, expected) in cases {
            assert_eq!(
                admin_url(flag, listen).unwrap(),
                expected,
                "{flag:?} {listen:?}"
            );
        }
        assert!(admin_url(None, Some("off")).is_err());
    }
}
