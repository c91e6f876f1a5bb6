//! A TCP proxy in front of a server that does to its replies what networks and sick servers do, as the test says.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

use super::spawn;

/// A proxy that passes on what it is sent, and replies as its mood is; it ends with its value.
pub(crate) struct Fault {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    mood: watch::Sender<Mood>,
    server: JoinHandle<()>,
}

/// What happens to replies, and to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Nothing.
    Well,
    /// Each piece of a reply comes this much later.
    Slow(Duration),
    /// Replies are lost, so that a later one comes in the place of an earlier.
    Lossy,
    /// A reply breaks off in its middle, and the connection with it.
    Half,
    /// A reply stops in its middle, and nothing comes any more.
    Stuck,
    /// Connections break, and new ones at once.
    Cut,
}

impl Fault {
    /// Starts it in front of the server at `behind`, in a good mood.
    pub(crate) async fn before(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a bound listener");
        let (mood, seen) = watch::channel(Mood::Well);
        let server = spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A hang-up on either side is what a test may want.
                let passed = pass(client, behind, seen.clone());
                spawn(async { drop(passed.await) });
            }
        });
        Self { addr, mood, server }
    }

    /// Changes its mood, for the connections that stand as well.
    pub(crate) fn is(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(
    client: TcpStream,
    behind: SocketAddr,
    mut mood: watch::Receiver<Mood>,
) -> io::Result<()> {
    if *mood.borrow() == Mood::Cut {
        return Ok(());
    }
    let server = TcpStream::connect(behind).await?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (mut asked, told) = client.into_split();
    let (answers, mut ask) = server.into_split();
    let replies = reply(answers, told, mood.clone());
    tokio::select! {
        done = copy(&mut asked, &mut ask) => done.map(drop),
        done = replies => done,
        _ = mood.wait_for(|mood| *mood == Mood::Cut) => Ok(()),
    }
}

async fn reply(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mood: watch::Receiver<Mood>,
) -> io::Result<()> {
    let mut piece = vec![0; 16 << 10];
    loop {
        let length = from.read(&mut piece).await?;
        let (whole, half) = (&piece[..length], &piece[..length / 2]);
        let mood = *mood.borrow();
        match mood {
            _ if length == 0 => return Ok(()),
            Mood::Well => to.write_all(whole).await?,
            Mood::Slow(by) => {
                sleep(by).await;
                to.write_all(whole).await?;
            }
            Mood::Lossy => {}
            Mood::Half => return to.write_all(half).await,
            Mood::Stuck => {
                to.write_all(half).await?;
                return std::future::pending().await;
            }
            Mood::Cut => return Ok(()),
        }
    }
}
