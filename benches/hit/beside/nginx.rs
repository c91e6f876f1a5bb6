//! nginx with `proxy_cache` on the same POSTs, set up as somebody would who wants it fast.
//!
//! Its key is what an operator can write: method, URI, credential and the body as it stands. As many workers as there are
//! cores, as the others have threads; bodies and answers in memory buffers, open files kept, connections kept on both
//! sides, an access log in a buffer.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::geteuid;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{process::Server, report};

/// Starts nginx in front of `upstream`, in a directory of its own; `None`, loudly, where there is none.
pub(super) async fn start(upstream: SocketAddr) -> Result<Option<Server>> {
    let Some(version) = version() else {
        report::text("SKIPPED: nginx is not here: apt-get install nginx-light")?;
        return Ok(None);
    };
    let home = TempDir::new()?;
    let folder = home.path().to_str().context("a path that is no text")?;
    let address = free_address()?;
    let workers = thread::available_parallelism()?.get();
    let file = home.path().join("nginx.conf");
    fs::write(&file, configuration(folder, address, upstream, workers))?;
    let mut command = Command::new("nginx");
    command
        .args(["-e", "stderr", "-p", folder, "-c"])
        .arg(&file);
    let server = Server::at(command, address, home)?;
    listening(address).await?;
    report::text(&format!("{version}, {workers} workers"))?;
    Ok(Some(server.with_workers()?))
}

fn version() -> Option<String> {
    let said = Command::new("nginx").arg("-v").output().ok()?.stderr;
    let said = String::from_utf8_lossy(&said);
    Some(said.trim().rsplit(": ").next()?.to_owned())
}

/// Returns an address that was free a moment ago; nginx cannot be asked which one it took.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn listening(address: SocketAddr) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_err() {
        if Instant::now() > end {
            bail!("nginx does not listen on {address}");
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn configuration(
    folder: &str,
    address: SocketAddr,
    upstream: SocketAddr,
    workers: usize,
) -> String {
    // The directory is its owner's alone, whom the workers would not be.
    let user = if geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    format!(
        "{user}
daemon off;
worker_processes {workers};
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log {folder}/access.log combined buffer=64k flush=1s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_body_buffer_size 1m;
    client_body_in_single_buffer on;
    client_max_body_size 16m;
    keepalive_requests 1000000000;
    sendfile on;
    open_file_cache max=20000 inactive=10m;
    open_file_cache_valid 10m;
    proxy_cache_path {folder}/cache levels=1:2 keys_zone=answers:64m max_size=1g inactive=1d use_temp_path=off;
    upstream behind {{ server {upstream}; keepalive 64; }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            # The key is kept beside the answer and has to fit.
            proxy_buffer_size 32k;
            proxy_buffers 8 32k;
            proxy_cache answers;
            proxy_cache_methods POST;
            proxy_cache_key \"$request_method $request_uri $http_authorization $request_body\";
            proxy_cache_valid 200 1d;
            proxy_cache_lock on;
            add_header X-Cache $upstream_cache_status;
        }}
    }}
}}
"
    )
}

const PATIENCE: Duration = Duration::from_secs(5);
