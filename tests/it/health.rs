//! `refrain health` finds the Refrain that runs with the same configuration, and tells whether it is ready.

use std::fs;

use tempfile::NamedTempFile;

use crate::support::{
    proxy::{Proxy, Run, proxy, run},
    upstream::{completion, upstream},
};

/// Asks with a configuration of `toml`.
async fn health(toml: &str) -> Run {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), toml).unwrap();
    let path = file.path().to_str().unwrap();
    run(&["health", "--config", path]).await
}

async fn started() -> Proxy {
    let up = upstream().answers(completion("hello")).start().await;
    proxy(&up).start().await
}

#[tokio::test]
async fn the_admin_listener_of_the_configuration_is_asked() {
    let proxy = started().await;
    let run = health(&format!("[admin]\nlisten = \"{}\"", proxy.admin)).await;
    assert_eq!(
        (run.code, run.out.as_str()),
        (Some(0), "ready\n"),
        "{run:?}"
    );
}

#[tokio::test]
async fn where_the_admin_listener_is_off_the_first_address_for_calls_is_asked() {
    let proxy = started().await;
    let toml = format!("listen = \"{}\"\n[admin]\nlisten = \"off\"", proxy.addr);
    let run = health(&toml).await;
    assert_eq!(
        (run.code, run.out.as_str()),
        (Some(0), "ready\n"),
        "{run:?}"
    );
}

#[tokio::test]
async fn a_refrain_that_has_ended_is_not_healthy() {
    let mut proxy = started().await;
    let toml = format!("[admin]\nlisten = \"{}\"", proxy.admin);
    proxy.kill().await;
    let run = health(&toml).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains("hint: "), "{run:?}");
}

#[tokio::test]
async fn a_configuration_that_is_wrong_is_told_as_such() {
    let run = health("[admin]\nlisten = 1").await;
    assert_eq!(run.code, Some(78), "{run:?}");
}

#[tokio::test]
async fn an_address_by_flag_outranks_a_configuration_that_is_wrong() {
    let proxy = started().await;
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), "nonsense = 1").unwrap();
    let path = file.path().to_str().unwrap();
    let admin = format!("http://{}", proxy.admin);
    let run = run(&["health", "--config", path, "--url", &admin]).await;
    assert_eq!(
        (run.code, run.out.as_str()),
        (Some(0), "ready\n"),
        "{run:?}"
    );
}
