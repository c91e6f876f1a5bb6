//! An upstream is believed for its certificate alone, and is shown the proxy's where it asks.

use std::{net::SocketAddr, path::Path};

use crate::support::{
    client::{Answer, assert_refused, assert_verdict, chat},
    proxy::{Proxy, proxy_to, run},
    tls::{Authority, Certified, Front},
    upstream::{Upstream, completion, upstream},
};

/// Somebody who is nobody's authority but the operator's.
struct House {
    authority: Authority,
    shown: Certified,
    up: Upstream,
}

async fn house() -> House {
    let authority = Authority::called("ours");
    House {
        shown: authority.vouch_for("127.0.0.1"),
        authority,
        up: upstream().answers(completion("hello")).start().await,
    }
}

fn ca(path: &Path) -> String {
    format!("ca = \"{}\"", path.display())
}

fn client(certified: &Certified) -> String {
    let Certified { cert, key } = certified;
    format!("cert = \"{}\", key = \"{}\"", cert.display(), key.display())
}

async fn start(front: &Front, tls: &str) -> Proxy {
    let tls = format!("tls = {{ {tls} }}");
    proxy_to(&front.base_url())
        .with_upstream(&tls)
        .honest()
        .start()
        .await
}

/// Holds that nothing was sent, that the client is told `why`, and that nothing of ours stands in it.
async fn assert_unreachable(proxy: &Proxy, up: &Upstream, why: &str) {
    let answer: Answer = proxy.send(&chat("hi")).await;
    assert_refused(&answer, 502, "upstream_unreachable");
    let told = answer.text();
    assert!(told.contains(why), "{told}");
    assert!(
        !told.contains(".pem") && !told.contains("127.0.0.1"),
        "{told}"
    );
    assert_eq!(up.count(), 0, "nothing was sent");
    assert_eq!(
        proxy.call_line(1).await["error.kind"],
        "upstream_unreachable"
    );
}

#[tokio::test]
async fn an_authority_of_the_operators_vouches_for_its_upstream() {
    let house = house().await;
    let front = Front::start(&house.shown, house.up.addr).await;
    let proxy = start(&front, &ca(&house.authority.pem())).await;
    let answer = proxy.send(&chat("hi")).await;
    assert_verdict(&answer, "MISS");
    assert_eq!(answer.body, completion("hello").bytes());
    assert_verdict(&proxy.send(&chat("hi")).await, "HIT");
}

#[tokio::test]
async fn an_upstream_that_nobody_trusted_vouches_for_gets_nothing() {
    let house = house().await;
    let front = Front::start(&house.shown, house.up.addr).await;
    let why = "vouched for by nobody who is trusted";
    let other = Authority::called("another");
    for tls in [String::new(), ca(&other.pem())] {
        let proxy = start(&front, &tls).await;
        assert_unreachable(&proxy, &house.up, why).await;
    }
}

#[tokio::test]
async fn an_authority_of_the_operators_stands_in_place_of_the_systems() {
    let house = house().await;
    let front = Front::start(&house.shown, house.up.addr).await;
    let system = house.authority.pem();
    let words = format!("SSL_CERT_FILE={} exec \"$0\" \"$@\"", system.display());
    let words: &'static str = words.leak();
    let by_system = proxy_to(&front.base_url()).by_shell(words);
    assert_verdict(&by_system.start().await.send(&chat("hi")).await, "MISS");
    let other = Authority::called("another");
    let tls = format!("tls = {{ {} }}", ca(&other.pem()));
    let proxy = proxy_to(&front.base_url())
        .with_upstream(&tls)
        .honest()
        .by_shell(words);
    let answer = proxy.start().await.send(&chat("hi")).await;
    assert_refused(&answer, 502, "upstream_unreachable");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let house = house().await;
    let shown = house.authority.vouch_for("another.example");
    let front = Front::start(&shown, house.up.addr).await;
    let proxy = start(&front, &ca(&house.authority.pem())).await;
    assert_unreachable(&proxy, &house.up, "is for another name").await;
}

#[tokio::test]
async fn an_upstream_that_asks_is_shown_the_proxys_certificate() {
    let house = house().await;
    let clients = Authority::called("clients");
    let front = Front::asking(&house.shown, &clients, house.up.addr).await;
    let ca = ca(&house.authority.pem());
    let ours = client(&clients.vouch_for("refrain"));
    let proxy = start(&front, &format!("{ca}, {ours}")).await;
    assert_verdict(&proxy.send(&chat("hi")).await, "MISS");
}

#[tokio::test]
async fn an_upstream_that_wants_another_certificate_is_unreachable() {
    let house = house().await;
    let clients = Authority::called("clients");
    let front = Front::asking(&house.shown, &clients, house.up.addr).await;
    let ca = ca(&house.authority.pem());
    let another = Authority::called("another");
    let foreign = client(&another.vouch_for("refrain"));
    for tls in [ca.clone(), format!("{ca}, {foreign}")] {
        let proxy = start(&front, &tls).await;
        assert_unreachable(&proxy, &house.up, "it refused to speak TLS with the proxy").await;
    }
}

#[tokio::test]
async fn http2_is_spoken_below_a_certificate_of_the_operators_authority() {
    let house = house().await;
    let front = Front::over_http2(&house.shown, h2_upstream().await).await;
    let tls = format!("http = \"2\"\ntls = {{ {} }}", ca(&house.authority.pem()));
    let proxy = proxy_to(&front.base_url())
        .with_upstream(&tls)
        .honest()
        .start()
        .await;
    let answer = proxy.send(&chat("hi")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "over http2"));
}

#[tokio::test]
async fn files_that_cannot_be_used_are_told_by_the_check() {
    let authority = Authority::called("ours");
    let [one, two] = ["one", "two"].map(|name| authority.vouch_for(name));
    let file = authority.pem().with_file_name("proxy.toml");
    let pem = std::fs::read_to_string(&one.key).unwrap();
    let secret = pem.lines().nth(1).unwrap();
    for (tls, told) in [
        (
            "ca = \"/nowhere/ca.pem\"".to_owned(),
            "`/nowhere/ca.pem` cannot be read",
        ),
        (ca(&one.key), "holds no certificate"),
        (
            client(&Certified {
                cert: one.cert.clone(),
                key: one.cert.clone(),
            }),
            "holds no private key",
        ),
        (
            client(&Certified {
                cert: one.cert.clone(),
                key: two.key,
            }),
            "is the certificate of another key",
        ),
        (
            format!("cert = \"{}\"", one.cert.display()),
            "`cert` and `key` go together",
        ),
    ] {
        std::fs::write(&file, format!("[upstream]\ntls = {{ {tls} }}\n")).unwrap();
        let run = run(&["check", "--config", file.to_str().unwrap()]).await;
        assert_eq!(run.code, Some(78), "{tls}");
        assert!(run.err.contains(told), "{told}: {}", run.err);
        assert!(!run.err.contains(secret), "{}", run.err);
    }
}

/// Starts a server of HTTP/2 without TLS that answers one call after the other.
async fn h2_upstream() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    crate::support::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let head = http::Response::new(());
            let mut body = respond.send_response(head, false).unwrap();
            body.send_data("over http2".into(), true).unwrap();
        }
    });
    addr
}
