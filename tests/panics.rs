//! A panic is counted and told by its place, never by what it says. A process of its own: the hook is the process's.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use refrain::ledger::panics;

/// What was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_panic_is_counted_and_told_without_what_it_says() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .init();
    panics::watch();
    assert_eq!(panics::count(), 0);
    let failing = std::thread::spawn(|| panic!("the prompt was `my secret`"));
    assert!(failing.join().is_err());
    assert_eq!(panics::count(), 1);
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let line = log.lines().find(|line| line.contains("panicked")).unwrap();
    assert!(line.contains("tests/panics.rs:"), "{line}");
    assert!(line.contains("ERROR"), "{line}");
    assert!(!log.contains("secret"), "{log}");
}
