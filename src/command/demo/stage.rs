//! The demo's stage: a mock and a Refrain before it, both in this process, on free ports.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    command::{
        failure::Failure,
        mock::{self, Options},
        serve,
    },
    config::{Admin, Config, Upstream},
};

/// Both servers, running.
pub(super) struct Stage {
    mock: mock::Running,
    proxy: serve::Running,
    /// Where Refrain listens.
    address: SocketAddr,
    /// Stops the mock.
    curtain: CancellationToken,
}

impl Stage {
    /// Starts both.
    pub(super) async fn set(options: Options) -> Result<Self, Failure> {
        let curtain = CancellationToken::new();
        let listener = TcpListener::bind(FREE).await;
        let mock = listener
            .and_then(|listener| mock::start(listener, options, curtain.clone().cancelled_owned()));
        let mock =
            mock.map_err(|error| Failure::new(format!("failed to start the mock: {error}")))?;
        let proxy = serve::start(config(&mock)?).await?;
        let address = proxy.proxy.first().copied();
        Ok(Self {
            mock,
            address: address.ok_or_else(|| Failure::new("the proxy listens nowhere"))?,
            proxy,
            curtain,
        })
    }

    /// Returns the upstream.
    pub(super) fn mock(&self) -> &mock::Running {
        &self.mock
    }

    /// Returns the addresses of both, a line each.
    pub(super) fn announcement(&self) -> String {
        let (mock, refrain) = (self.mock.base_url(), self.base_url());
        format!("mock       {mock}\nrefrain    {refrain}\n\n")
    }

    /// Returns what an SDK would be given as its base URL.
    pub(super) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Stops both and waits for their tasks.
    pub(super) async fn strike(self) {
        self.proxy.stop().await;
        self.curtain.cancel();
        self.mock.stopped().await;
    }
}

/// Returns the defaults with a free port, no admin listener, and the mock as the upstream.
fn config(mock: &mock::Running) -> Result<Config, Failure> {
    let base_url = mock.base_url();
    let unusable = |_| Failure::new(format!("`{base_url}` cannot be an upstream"));
    let defaults = Config::default();
    Ok(Config {
        listen: vec![FREE.to_owned()],
        admin: Admin {
            listen: None,
            token: None,
        },
        upstreams: vec![Upstream {
            name: "mock".to_owned(),
            base_url: base_url.parse().map_err(unusable)?,
            ..defaults.first_upstream().clone()
        }],
        ..defaults
    })
}

/// Loopback, on a free port.
const FREE: &str = "127.0.0.1:0";
