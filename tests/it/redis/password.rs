//! The password of Redis is told to Redis, and to nobody else: not in a log, a page, an answer, a complaint.

use std::io::Write as _;

use tempfile::NamedTempFile;

use super::{ERRORS, UP, ask, echo};
use crate::support::{
    client::chat,
    proxy::{Proxy, proxy, run},
    redis::{Plan, redis},
};

#[tokio::test]
async fn the_password_of_redis_is_shown_by_nothing_that_runs() {
    let right = || redis().password(CANARY);
    let user = || redis().acl("refrain", CANARY, "~* &* +@all");
    let plans: [(Plan, &str, bool); 6] = [
        (right(), "redis://:PASSWORD@ADDR", true),
        (user(), "redis://refrain:PASSWORD@ADDR/0", true),
        (right().tls(), "rediss://:PASSWORD@ADDR", true),
        // Wrong; to a server that knows no TLS; and to one that is no sentinel.
        (redis().password("other"), "redis://:PASSWORD@ADDR", false),
        (right(), "rediss://:PASSWORD@ADDR", false),
        (right(), "redis+sentinel://:PASSWORD@ADDR/main", false),
    ];
    for (plan, url, works) in plans {
        let Some(mut server) = plan.start().await else {
            return;
        };
        let up = echo().await;
        let url = url
            .replace("PASSWORD", SPELLED)
            .replace("ADDR", &server.addr.to_string());
        let trace = "[log]\nlevel = \"trace\"";
        let setup = proxy(&up).with(trace).with_redis_at(&url);
        let setup = match server.ca() {
            None => setup,
            Some(ca) => setup.with_env("REFRAIN_STORE__REDIS_CA", ca.to_string_lossy()),
        };
        let proxy = setup.start().await;
        if works {
            proxy.counted(UP, 1.0).await;
            shows_nothing(&proxy).await;
            server.kill().await;
            proxy.fell_to_zero(UP).await;
        } else {
            proxy.counted(ERRORS, 2.0).await;
        }
        proxy.logged("redis is away").await;
        shows_nothing(&proxy).await;
    }
}

/// Asserts that whatever a proxy answers and has printed holds nothing of the password.
async fn shows_nothing(proxy: &Proxy) {
    let mut answers = Vec::new();
    for path in ["/readyz", "/healthz", "/metrics", "/api/stats", "/api/none"] {
        answers.push(proxy.admin(path).await);
    }
    answers.push(ask(proxy, "hi").await);
    answers.push(proxy.send(&chat("").body("{")).await);
    let answers = answers
        .iter()
        .map(|answer| format!("{:?} {}", answer.headers, answer.text()));
    let shown: String = answers.chain([proxy.printed()]).collect();
    assert!(shown.contains("redis"), "it shows what it would show");
    is_not_in(&shown);
}

#[tokio::test]
async fn the_password_of_redis_is_repeated_by_no_complaint() {
    for url in [
        "redis://:PASSWORD@127.0.0.1:1",
        "redis://:PASSWORD@127.0.0.1:1/x",
        "redis://:PASSWORD@127.0.0.1:0",
        "redis://:PASSWORD@",
        "redis://:PASSWORD@h?x",
        "redis://PASSWORD@h",
        "redis://h:PASSWORD",
        "redis://:PASSWORD%zz@h",
        "redis://a,b/PASSWORD",
        "redis+sentinel://:PASSWORD@h",
        "valkey://:PASSWORD@h",
        "PASSWORD",
        "${PASSWORD",
        "redis://:${NONE}PASSWORD@h",
    ] {
        let url = url.replace("PASSWORD", SPELLED);
        let mut file = NamedTempFile::with_suffix(".toml").unwrap();
        writeln!(
            file,
            "[store]\nredis = '{url}'\npath = '/x'\nredis_ca = '/none'"
        )
        .unwrap();
        let path = file.path().to_str().unwrap();
        for args in [
            &["check", "--config", path][..],
            &["serve", "--config", path],
            &["--redis", &url, "--listen", "no address"],
            &["check", "--print"],
        ] {
            let run = run(args).await;
            is_not_in(&format!("{run:?}"));
        }
    }
}

/// Asserts that no piece of the password is in `text`.
fn is_not_in(text: &str) {
    for piece in [CANARY, SPELLED, &CANARY[..12], &CANARY[13..]] {
        assert!(!text.contains(piece), "{piece} in {text}");
    }
}

/// What may not be seen, and how it is written in an address.
const CANARY: &str = "canary-8c0d1e@5b/47f9a2-hush";
const SPELLED: &str = "canary-8c0d1e%405b%2F47f9a2-hush";
