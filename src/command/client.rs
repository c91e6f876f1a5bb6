//! The HTTP client of commands that ask a running Refrain, and where on this machine that is found.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use reqwest::{Client, redirect::Policy, retry};

use super::failure::Failure;

/// Makes a client that asks exactly once, exactly there: no proxy, no redirects, no retries. `timeout` bounds a call,
/// its body included.
pub(super) fn client(timeout: Duration) -> Result<Client, Failure> {
    // `main` has installed it; tests that call a command directly have not, and reqwest panics without one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .retry(retry::never())
        .timeout(timeout)
        .build()
        .map_err(|error| Failure::new(format!("failed to make an HTTP client: {error}")))
}

/// Returns where a client on this machine finds a listener that may listen on every interface.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
