//! Small questions over loopback: is a port free, does a server answer.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

/// Deadline of connecting, and of each read.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// An answer over HTTP.
pub(super) struct Answer {
    status: u16,
    /// Head and body.
    pub(super) text: String,
}

impl Answer {
    pub(super) fn is_ok(&self) -> bool {
        self.status == 200
    }
}

/// Whether a server could listen on this port now.
pub(super) fn free_port(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The answer to a GET request; none if nobody answers in time.
pub(super) fn get(port: u16, path: &str) -> Option<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n");
    let text = exchange(port, &request, |_| false)?;
    let status = text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { status, text })
}

/// Whether a Redis server answers.
pub(super) fn pings(port: u16) -> bool {
    exchange(port, "PING\r\n", |text| text.ends_with("\r\n")).is_some_and(|text| text.starts_with("+PONG"))
}

/// Says something and reads until the other side closes, or what it said `is_complete`.
fn exchange(port: u16, said: &str, is_complete: impl Fn(&str) -> bool) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.write_all(said.as_bytes()).ok()?;
    let mut stream = stream.take(ANSWER_BYTES_MAX);
    let (mut text, mut buffer) = (String::new(), [0; 4_096]);
    loop {
        let read = stream.read(&mut buffer).ok()?;
        text.push_str(&String::from_utf8_lossy(buffer.get(..read)?));
        if read == 0 || is_complete(&text) {
            return Some(text);
        }
    }
}
