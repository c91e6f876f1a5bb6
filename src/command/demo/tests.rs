//! The demo's parts: measuring against a real mock, judging and drawing what was made up here.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

use super::*;
use crate::command::mock::Options;

fn taking(verdict: &str, reason: &str, millis: [u64; 2], body: &str) -> Taking {
    let [first_byte, total] = millis.map(Duration::from_millis);
    Taking {
        verdict: verdict.to_owned(),
        reason: reason.to_owned(),
        first_byte,
        total,
        body: body.into(),
    }
}

type Spoil = fn(&mut Vec<Act>);

/// The acts of a demo in which everything is as the script claims.
fn acts() -> Vec<Act> {
    let mut upstream = 0;
    let acts = script::SCENES.iter().enumerate().map(|(place, scene)| {
        upstream += scene.claim.upstream;
        let body = scene.claim.replays.unwrap_or(place).to_string();
        let verdicts = scene.claim.verdicts.iter();
        let takings = verdicts.flat_map(|&(count, verdict)| {
            let (reason, millis) = if verdict == "HIT" {
                ("", [1, 2])
            } else {
                ("not_found", [300, 700])
            };
            vec![taking(verdict, reason, millis, &body); count]
        });
        Act {
            scene: *scene,
            takings: takings.collect(),
            upstream,
        }
    });
    acts.collect()
}

async fn mock(options: Options) -> mock::Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    mock::start(listener, options, std::future::pending()).unwrap()
}

#[test]
fn a_demo_that_went_as_claimed_is_fine() {
    assert_eq!(broken(&acts()), Vec::<String>::new());
    assert!(Show { acts: acts() }.check().is_ok());
}

#[test]
fn every_claim_that_does_not_hold_is_named() {
    let cases: [(Spoil, &str); 5] = [
        (
            |acts| acts[1].takings[0].verdict = "MISS".into(),
            "again: X-Cache was MISS, not HIT",
        ),
        (
            |acts| acts[1].takings[0].verdict.clear(),
            "again: X-Cache was none, not HIT",
        ),
        (
            |acts| acts[1].takings[0].body.push(b'!'),
            "again: the answers are not equal byte for byte",
        ),
        (
            |acts| acts[8].takings[7].verdict = "HIT".into(),
            "X-Cache was 1 HIT, 1 MISS, 18 COLLAPSED, not 1 MISS, 19 COLLAPSED",
        ),
        (
            |acts| acts[8].upstream += 1,
            "20 at once: 2 upstream calls, not 1",
        ),
    ];
    for (spoil, expected) in cases {
        let mut acts = acts();
        spoil(&mut acts);
        let failure = Show { acts }.check().unwrap_err().to_string();
        assert!(failure.contains(expected), "{failure}");
        assert!(!failure.contains(';'), "{failure}");
    }
}

#[test]
fn callers_of_one_flight_get_one_answer() {
    let mut acts = acts();
    acts[8].takings[3].body.clear();
    let failure = Show { acts }.check().unwrap_err().to_string();
    assert!(failure.contains("not equal byte for byte"), "{failure}");
}

#[test]
fn the_table_is_easy_to_read() {
    let mut table = picture::table(&acts());
    insta::assert_snapshot!(table.force_no_tty(), @r#"
    ┌─────────────────────────────┬──────────────────────┬───────────┬────────────┬──────────┬────────────────┐
    │ call                        ┆ X-Cache              ┆ reason    ┆ first byte ┆    total ┆ upstream calls │
    ╞═════════════════════════════╪══════════════════════╪═══════════╪════════════╪══════════╪════════════════╡
    │ "What is a cache?"          ┆ MISS                 ┆ not_found ┆     300 ms ┆   700 ms ┆              1 │
    │   again                     ┆ HIT                  ┆           ┆     1.0 ms ┆   2.0 ms ┆              1 │
    │   at temperature 0.7        ┆ MISS                 ┆ not_found ┆     300 ms ┆   700 ms ┆              2 │
    │   with another API key      ┆ MISS                 ┆ not_found ┆     300 ms ┆   700 ms ┆              3 │
    │   Cache-Control: no-cache   ┆ MISS                 ┆ not_found ┆     300 ms ┆   700 ms ┆              4 │
    │   again                     ┆ HIT                  ┆           ┆     1.0 ms ┆   2.0 ms ┆              4 │
    │ "Sing me a song.", streamed ┆ MISS                 ┆ not_found ┆     300 ms ┆   700 ms ┆              5 │
    │   again                     ┆ HIT                  ┆           ┆     1.0 ms ┆   2.0 ms ┆              5 │
    │ "All together!", 20 at once ┆ 1 MISS, 19 COLLAPSED ┆ not_found ┆   ≤ 300 ms ┆ ≤ 700 ms ┆              6 │
    └─────────────────────────────┴──────────────────────┴───────────┴────────────┴──────────┴────────────────┘
    "#);
    insta::assert_snapshot!(
        picture::summary(&acts()),
        @"28 calls, 6 of them upstream. The same question again took 2.0 ms instead of 700 ms: 350 times faster."
    );
}

#[test]
fn what_to_run_next_stands_below() {
    let picture = Show { acts: acts() }.picture();
    assert!(picture.contains("\n  refrain --upstream "), "{picture}");
    assert!(picture.contains("\n  export OPENAI_BASE_URL="), "{picture}");
}

#[tokio::test]
async fn without_a_proxy_no_claim_about_the_cache_holds() {
    let mock = mock(Options::default()).await;
    let show = Show::play(&mock.base_url(), &mock).await.unwrap();
    assert_eq!(show.acts.len(), script::SCENES.len());
    assert_eq!(mock.calls(), 28);
    let failure = show.check().unwrap_err().to_string();
    assert!(failure.contains("X-Cache was none, not HIT"), "{failure}");
    assert!(failure.contains("20 upstream calls, not 1"), "{failure}");
    assert!(failure.contains("not equal byte for byte"), "{failure}");
}

#[tokio::test]
async fn a_stream_is_measured_to_its_end() {
    let mock = mock(Options::default()).await;
    let client = client(DEADLINE).unwrap();
    let streams = script::SCENES
        .iter()
        .find(|scene| scene.ask.stream)
        .unwrap();
    let taking = Taking::of(&client, &mock.base_url(), &streams.ask)
        .await
        .unwrap();
    assert!(taking.body.ends_with(b"data: [DONE]\n\n"));
    assert!(taking.first_byte <= taking.total);
}

#[tokio::test]
async fn verdict_and_reason_are_those_of_the_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    let mut task = JoinSet::new();
    task.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut call = Vec::new();
        while !call.ends_with(b"}") {
            call.push(socket.read_u8().await.unwrap());
        }
        let answer = "HTTP/1.1 200 OK\r\nX-Cache: MISS\r\nX-Cache-Reason: refresh\r\ncontent-length: 2\r\n\r\nhi";
        socket.write_all(answer.as_bytes()).await.unwrap();
    });
    let ask = &script::SCENES[0].ask;
    let taking = Taking::of(&client(DEADLINE).unwrap(), &base_url, ask)
        .await
        .unwrap();
    assert_eq!(
        (taking.verdict.as_str(), taking.reason.as_str()),
        ("MISS", "refresh")
    );
    assert_eq!(taking.body, b"hi");
    task.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn an_error_of_the_upstream_ends_the_demo() {
    let options = Options {
        keys: vec!["sk-other".into()],
        ..Options::default()
    };
    let mock = mock(options).await;
    let failure = Show::play(&mock.base_url(), &mock)
        .await
        .unwrap_err()
        .to_string();
    assert!(failure.contains("401"), "{failure}");
}
