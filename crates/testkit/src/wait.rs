//! Waiting with a deadline, and ports.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Waits until `check` yields a value.
///
/// # Panics
/// Nothing came within `seconds`; the panic names `what`.
pub fn until<T>(what: &str, seconds: u64, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(patience(seconds));
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {} s in vain for {what}", patience(seconds));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `time`, in any unit, on this machine: an emulated one is slower.
#[must_use]
pub fn patience(time: u64) -> u64 {
    if std::env::var_os("FLUYT_VM").is_some() { time * 6 } else { time }
}

/// A TCP port of the loopback address that nobody listens on now.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on the loopback address");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// The whole answer to `GET path` of an HTTP/1.0 server; none when it cannot be had.
#[must_use]
pub fn http_get(address: &str, path: &str) -> Option<String> {
    let address = address.parse().ok()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(patience(5)))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    (!answer.is_empty()).then(|| String::from_utf8_lossy(&answer).into_owned())
}
