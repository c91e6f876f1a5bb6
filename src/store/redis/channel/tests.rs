use futures_util::stream;

use super::*;
use crate::{
    answer::tasks::Tasks,
    call::{Slot, key::Key},
    config::Config,
};

/// A channel whose Redis is nowhere.
async fn channel() -> Channel {
    let config: Config = "store.redis = 'redis://127.0.0.1:1'".parse().unwrap();
    let tasks = Tasks::default();
    let greeting = |_| async { Ok(()) };
    let link = Link::start(config.store.redis.unwrap(), &tasks, greeting).await;
    Channel::new(link, &Layout::new("refrain:"))
}

fn beat(sender: u64) -> Vec<u8> {
    Message::Beat { sender, number: 1 }.encode()
}

fn done() -> Message {
    Message::Done(Slot {
        key: Key::from_bytes([7; 32]),
        delivery: 1,
    })
}

#[tokio::test(start_paused = true)]
async fn what_is_said_is_heard_once_the_own_beat_is() {
    let channel = channel().await;
    let mut ears = channel.ears();
    let own = channel.0.sender;
    let said = [
        beat(own ^ 1),
        done().encode(),
        b"?".to_vec(),
        Vec::new(),
        beat(own),
        beat(own),
    ];
    channel.0.hear(stream::iter(said)).await;
    assert!(channel.is_hearing());
    assert_eq!(ears.next().await, Some(Heard::Message(done())));
    assert_eq!(ears.next().await, Some(Heard::Back), "told once");
    channel.0.lost();
    channel.0.lost();
    assert_eq!(ears.next().await, Some(Heard::Lost));
    assert!(!channel.is_hearing());
    drop(channel);
    assert_eq!(ears.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn who_misses_its_own_beat_is_deaf_whatever_else_it_hears() {
    let channel = channel().await;
    let others = stream::unfold((), |()| async {
        sleep(BEAT / 2).await;
        Some((done().encode(), ()))
    });
    let begun = Instant::now();
    channel.0.hear(others).await;
    assert!(begun.elapsed() >= SILENCE);
    let begun = Instant::now();
    channel.0.hear(stream::pending()).await;
    assert!(begun.elapsed() >= SILENCE);
}

#[tokio::test(start_paused = true)]
async fn who_listens_too_slowly_is_told_that_it_missed_something() {
    let channel = channel().await;
    let mut ears = channel.ears();
    for _ in 0..=NEWS {
        channel.0.tell(Heard::Message(done()));
    }
    assert_eq!(ears.next().await, Some(Heard::Lost));
    assert_eq!(ears.next().await, Some(Heard::Back));
    assert_eq!(ears.next().await, Some(Heard::Message(done())));
}
