//! Clients that ask on and on while a test does something else.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::task::JoinHandle;

use super::said;
use crate::support::{client::chat, proxy::Proxy, spawn, within};

/// Clients that ask one thing after the other, half of it again and again, and get the right answer each time.
pub(super) struct Load {
    answered: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Has some clients begin.
    pub(super) fn on(proxy: &Proxy) -> Self {
        let (answered, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let clients = (0..CLIENTS).map(|client| {
            let (addr, answered, over) = (proxy.addr, answered.clone(), over.clone());
            spawn(async move {
                let mut number = 0;
                while !over.load(Ordering::Relaxed) {
                    number += 1;
                    let prompt = match number % 2 {
                        0 => format!("known {}", number % 10),
                        _ => format!("new {number} of {client}"),
                    };
                    let answer = chat(&prompt).send(addr).await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    let text = &answer.json()["choices"][0]["message"]["content"];
                    assert_eq!(text, &said(&prompt));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Self {
            clients: clients.collect(),
            answered,
            over,
        }
    }

    /// Waits until so many more calls have been answered.
    pub(super) async fn goes_on(&self, more: usize) {
        let enough = self.answered.load(Ordering::Relaxed) + more;
        let answered = async {
            while self.answered.load(Ordering::Relaxed) < enough {
                assert!(!self.clients.iter().any(JoinHandle::is_finished));
                tokio::task::yield_now().await;
            }
        };
        within("calls to be answered", answered).await;
    }

    /// Has the clients end; fails when a call of theirs has failed.
    pub(super) async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        for client in self.clients {
            within("a client to end", client)
                .await
                .expect("no call fails");
        }
    }
}

const CLIENTS: usize = 4;
