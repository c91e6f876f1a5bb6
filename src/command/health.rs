//! `refrain health`: asks a running Refrain whether it is ready. Made for Docker's `HEALTHCHECK`.
//!
//! # Scope
//! Whom to ask follows from the configuration that Refrain runs with, as file and environment give it: the admin
//! listener, or the first address for calls where that is off. Flags that the running one was started with are unknown
//! here; `--url` stands for them, and with it no configuration is read.

use std::{error::Error as StdError, net::SocketAddr, time::Duration};

use super::{
    ConfigArgs,
    client::{client, reachable},
    failure::Failure,
    print,
};
use crate::config::Contact;

/// Ask a running Refrain whether it is ready
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Exits with 0 when it is ready, with 1 when it is not or does not answer within 2 s, with 78 when the
configuration that it would ask by is wrong.

Examples:
  refrain health                                 asks as REFRAIN_CONFIG and REFRAIN_ADMIN__LISTEN say
  refrain health --url http://127.0.0.1:8081     asks there")]
pub struct Health {
    #[command(flatten)]
    config: ConfigArgs,
    /// Ask this admin listener, whatever the configuration says
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

impl Health {
    /// Prints one line if Refrain is ready.
    ///
    /// # Errors
    /// When it is starting or draining, does not answer in time or cannot be reached, and when the configuration is wrong.
    pub async fn run(self) -> anyhow::Result<()> {
        let url = match &self.url {
            Some(admin) => format!("{}/readyz", origin(admin)),
            None => readiness(&self.config.contact()?)?,
        };
        let state = ask(&url).await?;
        Ok(print(&format!("{state}\n"))?)
    }
}

/// Returns the origin that the flag means, with or without a scheme.
pub(super) fn origin(flag: &str) -> String {
    let flag = flag.trim_end_matches('/');
    if flag.contains("://") {
        return flag.to_owned();
    }
    format!("http://{flag}")
}

/// Returns the origin of the configuration's admin listener.
pub(super) fn admin(contact: &Contact) -> Result<String, Failure> {
    let off = || Failure::new("the admin listener is switched off").hint("set `[admin] listen`");
    url(contact.admin.as_ref().ok_or_else(off)?, "")
}

/// Returns the URL that a Refrain of this configuration tells its readiness at.
fn readiness(contact: &Contact) -> Result<String, Failure> {
    let (listen, path) = match (&contact.admin, contact.listen.first()) {
        (Some(admin), _) => (admin, "/readyz"),
        (None, Some(first)) => (first, "/_refrain/readyz"),
        (None, None) => return Err(Failure::new("the configuration names no address")),
    };
    url(listen, path)
}

/// Returns the URL of `path` at a listener of this address.
fn url(listen: &str, path: &str) -> Result<String, Failure> {
    if listen.ends_with(":0") {
        return Err(
            Failure::new(format!("which port `{listen}` became is not known here"))
                .hint("it was printed at the start; `--url http://127.0.0.1:PORT` names it"),
        );
    }
    // A host name is reached by its name.
    let address = listen
        .parse()
        .map(reachable)
        .as_ref()
        .map_or_else(|_| listen.to_owned(), SocketAddr::to_string);
    Ok(format!("http://{address}{path}"))
}

/// Asks `url` and returns the first line that it says; anything but a 2xx is a failure.
async fn ask(url: &str) -> Result<String, Failure> {
    let unreachable = |error: reqwest::Error| {
        Failure::new(format!("no answer from `{url}`: {}", root_cause(&error))).hint(
            "is `refrain` running, with this configuration? `--url` names another admin listener",
        )
    };
    let response = client(TIMEOUT)?
        .get(url)
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

const TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tempfile::NamedTempFile;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::JoinSet,
    };

    use super::*;
    use crate::config::Sources;

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
        let said = ask(&format!("{admin}/readyz")).await;
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
        let failure = ask("http://127.0.0.1:1/readyz")
            .await
            .unwrap_err()
            .to_string();
        assert!(failure.contains("refused"), "{failure}");
        assert!(failure.contains("\nhint: "), "{failure}");
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_a_failure() {
        let (said, _) = asked("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nready").await;
        assert!(said.is_err());
    }

    fn contact(text: &str) -> Contact {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let path = Some(file.path().to_owned());
        Contact::load(Sources {
            path,
            ..Sources::default()
        })
        .unwrap()
    }

    #[test]
    fn whom_to_ask_follows_from_the_configuration() {
        let table = [
            ("", "http://127.0.0.1:8081/readyz"),
            (
                "[admin]\nlisten = '127.0.0.1:9'",
                "http://127.0.0.1:9/readyz",
            ),
            ("[admin]\nlisten = '0.0.0.0:9'", "http://127.0.0.1:9/readyz"),
            ("[admin]\nlisten = '[::]:9'", "http://[::1]:9/readyz"),
            ("[admin]\nlisten = 'ops:9'", "http://ops:9/readyz"),
            (
                "[admin]\nlisten = 'off'",
                "http://127.0.0.1:8080/_refrain/readyz",
            ),
            (
                "listen = ['0.0.0.0:7', '127.0.0.1:8']\n[admin]\nlisten = 'off'",
                "http://127.0.0.1:7/_refrain/readyz",
            ),
        ];
        for (file, expected) in table {
            let contact = contact(file);
            assert_eq!(readiness(&contact).unwrap(), expected, "{file}");
        }
    }

    #[test]
    fn a_port_that_only_the_start_knew_is_asked_for() {
        let contact = contact("[admin]\nlisten = '127.0.0.1:0'");
        let failure = readiness(&contact).unwrap_err().to_string();
        assert!(failure.contains("--url"), "{failure}");
    }

    #[test]
    fn the_flag_needs_no_scheme() {
        for (flag, expected) in [
            ("http://refrain:1/", "http://refrain:1"),
            ("localhost:1", "http://localhost:1"),
            ("https://refrain", "https://refrain"),
        ] {
            assert_eq!(origin(flag), expected, "{flag}");
        }
    }
}
