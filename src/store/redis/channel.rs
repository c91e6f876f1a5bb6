//! The channel: what replicas tell each other at once, and whether this one hears it.
//!
//! ```text
//! publish ──▶ Redis ──▶ a connection of its own ──▶ every Ears
//!    beat, every second ──────────▶ heard back: all is well
//! ```
//!
//! # Scope
//! News are best effort: what nobody hears is lost, and who was deaf for a while does not know what it missed. So a
//! replica listens for its own beat, says that it is deaf where that does not come, and that it hears again when it does.
//! What follows from news, and from not hearing, is up to who has [`Ears`].

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt as _};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep, timeout_at},
};

use super::{Link, Trouble, layout::Layout, message::Message};

/// The channel; clones share it.
#[derive(Clone)]
pub struct Channel(Arc<Inner>);

struct Inner {
    link: Link,
    name: String,
    /// Tells this replica's beats from those of others.
    sender: u64,
    beats: AtomicU64,
    hearing: AtomicBool,
    news: broadcast::Sender<Heard>,
}

/// What is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Somebody has said something; maybe this replica itself.
    Message(Message),
    /// From now on, or for a while already, news are missed.
    Lost,
    /// From now on news are heard.
    Back,
}

/// Who listens.
#[derive(Debug)]
pub struct Ears {
    news: broadcast::Receiver<Heard>,
    /// Whether what was missed by listening too slowly is over.
    is_back: bool,
}

impl Channel {
    /// Makes the channel that goes by `link`. Nothing is heard until [`listen`] runs.
    ///
    /// [`listen`]: Channel::listen
    pub fn new(link: Link, layout: &Layout) -> Self {
        Self(Arc::new(Inner {
            link,
            name: layout.channel(),
            // Two replicas alike would take each other's beats for their own: unlikely, and what they hear is the same.
            sender: getrandom::u64().unwrap_or_default(),
            beats: AtomicU64::new(0),
            hearing: AtomicBool::new(false),
            news: broadcast::Sender::new(NEWS),
        }))
    }

    /// Tells all replicas, this one included.
    pub async fn publish(&self, message: &Message) -> Result<(), Trouble> {
        let Inner { link, name, .. } = &*self.0;
        link.publish(name, &message.encode(), PATIENCE).await
    }

    /// Returns whether news are heard.
    pub fn is_hearing(&self) -> bool {
        self.0.hearing.load(Ordering::Acquire)
    }

    /// Returns ears for what is heard from now on.
    pub fn ears(&self) -> Ears {
        Ears {
            news: self.0.news.subscribe(),
            is_back: false,
        }
    }

    /// Listens, and makes the connection anew as often as it breaks or keeps silent, for ever.
    pub async fn listen(self) {
        loop {
            if let Ok(news) = self.0.link.subscribe(&self.0.name).await {
                tokio::select! {
                    () = self.0.beat() => {}
                    () = self.0.hear(news) => {}
                }
                self.0.lost();
            }
            sleep(PAUSE).await;
        }
    }
}

impl Inner {
    /// Sends beats, for ever.
    async fn beat(&self) {
        loop {
            let beat = Message::Beat {
                sender: self.sender,
                number: self.beats.fetch_add(1, Ordering::Relaxed),
            };
            // That it did not go is found out by not hearing it.
            let _ = self
                .link
                .publish(&self.name, &beat.encode(), PATIENCE)
                .await;
            sleep(BEAT).await;
        }
    }

    /// Hears what comes, until nothing more does or the beat fails to come.
    async fn hear(&self, news: impl Stream<Item = Vec<u8>>) {
        let mut news = std::pin::pin!(news);
        let mut beat = Instant::now();
        while let Ok(Some(bytes)) = timeout_at(beat + SILENCE, news.next()).await {
            match Message::decode(&bytes) {
                Some(Message::Beat { sender, .. }) if sender == self.sender => {
                    beat = Instant::now();
                    self.back();
                }
                Some(Message::Beat { .. }) | None => {}
                Some(message) => self.tell(Heard::Message(message)),
            }
            if beat.elapsed() >= SILENCE {
                return;
            }
        }
    }

    fn back(&self) {
        if !self.hearing.swap(true, Ordering::AcqRel) {
            tracing::debug!("redis is heard");
            self.tell(Heard::Back);
        }
    }

    fn lost(&self) {
        if self.hearing.swap(false, Ordering::AcqRel) {
            tracing::debug!("redis is not heard");
            self.tell(Heard::Lost);
        }
    }

    fn tell(&self, heard: Heard) {
        // Without ears there is nobody to be told.
        let _ = self.news.send(heard);
    }
}

impl Ears {
    /// Returns ears for what a test says.
    #[cfg(test)]
    pub(crate) fn of(news: &broadcast::Sender<Heard>) -> Self {
        Self {
            news: news.subscribe(),
            is_back: false,
        }
    }

    /// Returns what is heard next; `None` when the channel is gone. Who does not keep up has missed something, and is told.
    pub async fn next(&mut self) -> Option<Heard> {
        if std::mem::take(&mut self.is_back) {
            return Some(Heard::Back);
        }
        match self.news.recv().await {
            Ok(heard) => Some(heard),
            Err(RecvError::Lagged(_)) => {
                self.is_back = true;
                Some(Heard::Lost)
            }
            Err(RecvError::Closed) => None,
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Channel({}, hearing: {})",
            self.0.name,
            self.is_hearing()
        )
    }
}

/// Between two beats.
const BEAT: Duration = Duration::from_secs(1);
/// How long the beat may fail to come.
const SILENCE: Duration = Duration::from_secs(3);
/// Before the next try to listen.
const PAUSE: Duration = Duration::from_millis(500);
/// For something to be published.
const PATIENCE: Duration = Duration::from_millis(500);
/// News that may wait for ears.
const NEWS: usize = 1024;

#[cfg(test)]
mod tests;
