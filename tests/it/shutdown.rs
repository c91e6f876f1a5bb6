//! SIGTERM drains: what runs is finished, what is new is refused, and the exit code is 0. SIGHUP ends nothing.

use tokio::net::TcpStream;

use crate::support::{
    client::{End, chat, chat_stream},
    gate,
    proxy::proxy,
    upstream::{completion, stream, upstream},
};

#[tokio::test]
async fn a_running_stream_is_finished_whole() {
    let reply = stream(&["a", "b", "c"]);
    let gate = gate();
    let up = upstream()
        .answers(reply.clone().pausing_after(2, &gate))
        .start()
        .await;
    let proxy = proxy(&up).start().await;
    let mut exchange = proxy.open(&chat_stream("hi")).await;
    exchange.body(reply.first(2).len()).await;
    proxy.terminate();
    proxy.refusing().await;
    gate.open();
    let answer = exchange.finish().await;
    assert_eq!((answer.body, answer.end), (reply.bytes(), End::Clean));
    assert_eq!(proxy.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_call_that_waits_for_its_head_is_finished_too() {
    let gate = gate();
    let up = upstream()
        .answers(completion("hello").after(&gate))
        .start()
        .await;
    let proxy = proxy(&up).start().await;
    let exchange = proxy.open(&chat("hi")).await;
    up.arrived(1).await;
    proxy.terminate();
    proxy.refusing().await;
    gate.open();
    assert_eq!(exchange.finish().await.body, completion("hello").bytes());
    assert_eq!(proxy.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_hangup_is_warned_about_and_ends_neither_the_process_nor_a_call() {
    let gate = gate();
    let held = completion("hello").after(&gate);
    let up = upstream().answers(held).start().await;
    let proxy = proxy(&up).start().await;
    let exchange = proxy.open(&chat("hi")).await;
    up.arrived(1).await;
    proxy.hang_up();
    let line = proxy.logged("no reload: restart to take up changes").await;
    assert_eq!(line["level"], "WARN", "{line}");
    gate.open();
    assert_eq!(exchange.finish().await.body, completion("hello").bytes());
    assert_eq!(proxy.admin("/readyz").await.status, 200);
    proxy.terminate();
    assert_eq!(proxy.exit().await.code(), Some(0));
}

#[tokio::test]
async fn readiness_fails_while_calls_drain_and_health_does_not() {
    let gate = gate();
    let up = upstream()
        .answers(completion("hello").after(&gate))
        .start()
        .await;
    let proxy = proxy(&up).start().await;
    let exchange = proxy.open(&chat("hi")).await;
    up.arrived(1).await;
    proxy.terminate();
    proxy.refusing().await;
    assert_eq!(proxy.admin("/readyz").await.status, 503);
    assert_eq!(proxy.admin("/healthz").await.status, 200);
    gate.open();
    assert_eq!(exchange.finish().await.status, 200);
    assert_eq!(proxy.exit().await.code(), Some(0));
}

#[tokio::test]
async fn idle_and_silent_connections_do_not_hold_it_up() {
    let up = upstream().answers(completion("hello")).start().await;
    let proxy = proxy(&up).start().await;
    let mut idle = proxy.open(&chat("hi")).await;
    assert_eq!(idle.next().await.status, 200);
    let _silent = TcpStream::connect(proxy.addr).await.unwrap();
    proxy.terminate();
    assert_eq!(proxy.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_call_that_never_ends_is_aborted_when_the_time_to_drain_is_over() {
    let up = upstream()
        .answers(stream(&["a"]).silent_after(2))
        .start()
        .await;
    let proxy = proxy(&up).with("[limits]\ndrain = \"200ms\"").start().await;
    let mut exchange = proxy.open(&chat_stream("hi")).await;
    exchange.body(1).await;
    proxy.terminate();
    assert_eq!(exchange.finish().await.end, End::Aborted);
    let line = proxy.call_line(1).await;
    assert_eq!(
        line["error.kind"], "cut_off",
        "a call cut off leaves its line, too"
    );
    assert_eq!(proxy.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_cuts_what_is_under_way_and_every_call_leaves_its_line() {
    let reply = stream(&["a"]).silent_after(2);
    let up = upstream().answers(reply).start().await;
    let proxy = proxy(&up).with("[limits]\ndrain = \"1h\"").start().await;
    let mut exchanges = Vec::new();
    for target in ["/v1/chat/completions", "/v1/passed"] {
        let mut exchange = proxy.open(&chat_stream("hi").at(target)).await;
        exchange.body(1).await;
        exchanges.push(exchange);
    }
    proxy.terminate();
    proxy.logged("draining").await;
    proxy.terminate();
    for exchange in exchanges {
        assert_eq!(exchange.finish().await.end, End::Aborted);
    }
    proxy.logged("stopped by a second signal").await;
    let lines = proxy.call_lines(2).await;
    for line in &lines {
        assert_eq!(line["error.kind"], "cut_off", "{line}");
    }
    assert_eq!(proxy.exit().await.code(), Some(0));
}

#[tokio::test]
async fn an_answer_to_the_close_is_no_clean_end_when_the_time_to_drain_is_over() {
    let reply = stream(&["a"]).silent_after(2);
    let up = upstream().answers(reply.clone()).start().await;
    for target in ["/v1/chat/completions", "/v1/passed"] {
        let proxy = proxy(&up).with("[limits]\ndrain = \"200ms\"").start().await;
        let call = chat_stream("hi").at(target);
        let mut exchange = call.open_http10(proxy.addr).await;
        let came = exchange.body(reply.bytes().len()).await;
        assert_eq!(came, reply.bytes());
        proxy.terminate();
        assert_eq!(exchange.finish().await.end, End::Aborted);
        assert_eq!(proxy.exit().await.code(), Some(0));
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_does_not_keep_the_process_from_ending() {
    let mut proxy = std::process::Command::new(env!("CARGO_BIN_EXE_refrain"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "off",
            "--log-level",
            "trace",
        ])
        .args(["--upstream", "http://127.0.0.1:9"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe for the log stays open and unread; at this level a few calls fill it.
    let log = proxy.stderr.take();
    let banner = std::io::BufReader::new(proxy.stdout.take().unwrap());
    let base = std::io::BufRead::lines(banner)
        .map_while(Result::ok)
        .find_map(|line| {
            Some(
                line.strip_prefix("export OPENAI_BASE_URL=http://")?
                    .to_owned(),
            )
        })
        .unwrap();
    let address = base.trim_end_matches("/v1").parse().unwrap();
    for _ in 0..300 {
        crate::support::client::chat("hi").send(address).await;
    }
    let pid = rustix::process::Pid::from_child(&proxy);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = tokio::task::spawn_blocking(move || proxy.wait());
    let ended = crate::support::within("the end of the process", ended).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(0));
    drop(log);
}
