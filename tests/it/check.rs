//! The command line: what is wrong is said at once, with its place, and the exit code tells the kind.

use std::io::Write;

use tempfile::NamedTempFile;

use crate::support::{
    client::{assert_verdict, chat},
    proxy::{proxy, run},
    upstream::upstream,
};

fn file(toml: &str) -> NamedTempFile {
    let mut file = NamedTempFile::with_suffix(".toml").unwrap();
    file.write_all(toml.as_bytes()).unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[tokio::test]
async fn a_good_file_is_fine() {
    for toml in ["", "[cache]\nttl = \"1h\"\n"] {
        let file = file(toml);
        let run = run(&["check", "--config", path(&file)]).await;
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{run:?}");
        assert_eq!(run.out.lines().count(), 1, "{run:?}");
    }
}

#[tokio::test]
async fn every_problem_is_reported_with_its_place_and_exit_code_78() {
    let file = file("[cache]\nthreshhold = 1\nttl = \"soon\"\n\n[limits]\ndrain = 5\n");
    for command in ["check", "serve"] {
        let run = run(&[command, "--config", path(&file)]).await;
        assert_eq!(run.code, Some(78), "{run:?}");
        for place in [":2:", ":3:", ":6:"] {
            let problem = run.err.lines().find(|line| line.contains(place));
            let problem = problem.unwrap_or_else(|| panic!("nothing at {place} in {}", run.err));
            assert!(problem.starts_with("error: "), "{problem}");
        }
        assert!(run.err.contains("hint: "), "{}", run.err);
        assert!(!run.err.contains("Error {"), "{}", run.err);
    }
}

#[tokio::test]
async fn two_listeners_that_take_the_same_place_by_another_name_are_found() {
    let file = file(
        "listen = [\"localhost:8080\", \"127.0.0.1:8080\"]\n[admin]\nlisten = \"LOCALHOST:8080\"\n",
    );
    let run = run(&["check", "--config", path(&file)]).await;
    assert_eq!(run.code, Some(78), "{run:?}");
    for problem in [
        "listen[1]: `127.0.0.1:8080` takes the same place as `localhost:8080`",
        "`admin.listen` (`LOCALHOST:8080`) takes the same place as `listen` (`localhost:8080`)",
    ] {
        assert!(run.err.contains(problem), "{}", run.err);
    }
}

#[tokio::test]
async fn the_printed_file_is_complete_and_passes_its_own_check() {
    let printed = run(&["check", "--print"]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert_eq!(printed.out, include_str!("../../proxy.toml"));
    let file = file(&printed.out);
    assert_eq!(run(&["check", "--config", path(&file)]).await.code, Some(0));
}

#[tokio::test]
async fn a_mistaken_command_line_is_exit_code_2() {
    for args in [
        &["--no-such-flag"][..],
        &["no-such-command"],
        &["check", "--config"],
    ] {
        let run = run(args).await;
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.err.starts_with("error: "), "{run:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let run = run(&["check", "--config", "/no/such/proxy.toml"]).await;
    assert_eq!(run.code, Some(78), "{run:?}");
    assert!(run.err.contains("/no/such/proxy.toml"), "{run:?}");
}

#[tokio::test]
async fn an_address_in_use_is_a_run_time_error() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = run(&["--listen", &address, "--admin", "127.0.0.1:0"]).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains(&address), "{run:?}");
}

#[tokio::test]
async fn health_asks_the_running_proxy() {
    let up = upstream().start().await;
    let proxy = proxy(&up).start().await;
    let url = format!("http://{}", proxy.admin);
    let ready = run(&["health", "--url", &url]).await;
    assert_eq!(ready.code, Some(0), "{ready:?}");
    drop(proxy);
    let gone = run(&["health", "--url", &url]).await;
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(gone.err.starts_with("error: "), "{gone:?}");
}

#[tokio::test]
async fn help_names_every_command() {
    let help = run(&["--help"]).await;
    assert_eq!(help.code, Some(0), "{help:?}");
    for command in ["serve", "check", "health", "mock", "demo"] {
        assert!(help.out.contains(command), "{command} in {}", help.out);
    }
}

#[tokio::test]
async fn an_empty_file_serves() {
    let up = upstream().start().await;
    let proxy = proxy(&up).with("").start().await;
    assert_verdict(&proxy.send(&chat("hi")).await, "MISS");
}
