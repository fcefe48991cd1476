//! HTTP clients that ask without a pause while a server is renewed, and keep account of every request.
//!
//! They are as patient and as correct as any HTTP client: a connection that was kept open may be closed by the server
//! between two requests, and who finds it closed asks again on a new one (RFC 9112, 9.3.1). Nothing else is forgiven.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollTimeout, poll};

use super::{fds, wait_until};

/// How long a request may wait for its answer: a server that is started afresh on a loaded machine takes its time.
const ANSWER: Duration = Duration::from_secs(30);

/// Where a process listens, found by its descriptors: the first TCP socket it has, by number.
pub fn listening(pid: i32) -> Option<SocketAddr> {
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    // `sl local_address rem_address st … inode`: an address is the number as this machine has it in memory.
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    fds(pid).into_values().find_map(|target| {
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
        let row = rows.iter().find(|row| row.get(3) == Some(&"0A") && row.get(9) == Some(&inode.as_str()))?;
        let (ip, port) = row[1].split_once(':')?;
        let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
        Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_str_radix(port, 16).ok()?)))
    })
}

/// A port that nobody listens on, for a server that must be told a number. Not one of those that the kernel gives to
/// connections, and no two alike in one run of the tests.
pub fn free_port() -> u16 {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let from = usize::try_from(std::process::id()).expect("a small number") * 16;
    loop {
        let port = 10_000 + (from + COUNT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let port = u16::try_from(port).expect("below 30000");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// What one client, or several, met.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that were answered, in whole, with status 200.
    pub answered: u64,
    /// Connections that were refused.
    pub refused: u64,
    /// Requests that got no such answer, and why.
    pub failed: BTreeMap<String, u64>,
    /// Kept connections that were found closed; the request went over a new one.
    pub reopened: u64,
    /// Each body, and how often it came.
    pub bodies: BTreeMap<String, u64>,
}

impl Tally {
    /// Not one connection was refused, and not one request failed.
    #[track_caller]
    pub fn nothing_is_lost(&self) {
        assert!(self.refused == 0 && self.failed.is_empty(), "{self:?}");
    }
}

/// A request that failed.
#[derive(Debug)]
enum Failure {
    Refused,
    /// The connection ended before the first byte of an answer.
    Closed(String),
    Failed(String),
}

/// An answer to `GET /`: its body, and whether the connection may be used again.
struct Answer {
    body: String,
    keeps: bool,
}

fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address).map_err(|e| match e.kind() {
        ErrorKind::ConnectionRefused => Failure::Refused,
        _ => Failure::Failed(format!("connect: {e}")),
    })?;
    stream.set_read_timeout(Some(ANSWER)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    Ok(stream)
}

/// Sends a request and reads the whole answer.
fn ask(stream: &mut TcpStream, keep: bool) -> Result<Answer, Failure> {
    let connection = if keep { "keep-alive" } else { "close" };
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| Failure::Closed(format!("write: {e}")))?;
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    // True until the end of the stream.
    let mut more = |got: &mut Vec<u8>| match stream.read(&mut buffer) {
        Ok(0) if got.is_empty() => Err(Failure::Closed("closed without an answer".to_owned())),
        Ok(read) => {
            got.extend(&buffer[..read]);
            Ok(read > 0)
        }
        // A read with a timeout is interrupted by a stop and a CONT (signal(7)).
        Err(e) if e.kind() == ErrorKind::Interrupted => Ok(true),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err(Failure::Failed(format!("no answer within {ANSWER:?}")))
        }
        Err(e) if got.is_empty() => Err(Failure::Closed(format!("read: {e}"))),
        Err(e) => Err(Failure::Failed(format!("read, in the middle of an answer: {e}"))),
    };
    let head = loop {
        if let Some(at) = got.windows(4).position(|four| four == b"\r\n\r\n") {
            break String::from_utf8_lossy(&got.drain(..at + 4).collect::<Vec<u8>>()).to_lowercase();
        }
        if !more(&mut got)? {
            return Err(Failure::Failed("closed in the middle of a head".to_owned()));
        }
    };
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(Failure::Failed(status.to_owned()));
    }
    let field = |name: &str| head.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()));
    let length = field("content-length").map(|length| length.parse::<usize>().expect("a length"));
    while length.is_none_or(|length| got.len() < length) {
        if !more(&mut got)? {
            match length {
                Some(_) => return Err(Failure::Failed("closed in the middle of a body".to_owned())),
                None => break,
            }
        }
    }
    let keeps = length.is_some()
        && match field("connection") {
            Some(word) => word == "keep-alive",
            None => status.starts_with("http/1.1"),
        };
    Ok(Answer { body: String::from_utf8_lossy(&got).trim().to_owned(), keeps })
}

/// Asks on a connection of its own.
fn ask_afresh(address: SocketAddr) -> Result<Answer, Failure> {
    ask(&mut connect(address)?, false)
}

/// The body of one answer.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn get(address: SocketAddr) -> String {
    ask_afresh(address).unwrap_or_else(|failure| panic!("{address}: {failure:?}")).body
}

/// A client that asks over one connection as long as that lasts.
struct Keeper {
    address: SocketAddr,
    stream: Option<TcpStream>,
    reopened: u64,
}

impl Keeper {
    fn ask(&mut self) -> Result<Answer, Failure> {
        if let Some(mut stream) = self.stream.take() {
            match ask(&mut stream, true) {
                Err(Failure::Closed(_)) => self.reopened += 1,
                answer => return self.keep(stream, answer),
            }
        }
        let mut stream = connect(self.address)?;
        let answer = ask(&mut stream, true);
        self.keep(stream, answer)
    }

    fn keep(&mut self, stream: TcpStream, answer: Result<Answer, Failure>) -> Result<Answer, Failure> {
        self.stream = Some(stream).filter(|_| answer.as_ref().is_ok_and(|answer| answer.keeps));
        answer
    }
}

/// What the clients share with the test.
#[derive(Default)]
struct Shared {
    over: AtomicBool,
    /// Requests that came to their end, by client.
    done: [AtomicU64; 2],
    tally: Mutex<Tally>,
}

/// Two clients at work: one opens a connection for each request, one keeps its connection open.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts them, and waits until each had an answer.
    #[track_caller]
    pub fn on(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared::default());
        let mut keeper = Keeper { address, stream: None, reopened: 0 };
        let fresh = client(0, &shared, move || (ask_afresh(address), 0));
        let kept = client(1, &shared, move || {
            let answer = keeper.ask();
            (answer, std::mem::take(&mut keeper.reopened))
        });
        let load = Self { shared, threads: vec![fresh, kept] };
        load.goes_on();
        load
    }

    /// Waits until each client has begun a request and had it answered, or failed, from now on.
    #[track_caller]
    pub fn goes_on(&self) {
        let done = || self.shared.done.each_ref().map(|count| count.load(Ordering::Relaxed));
        let before = done();
        // The first to end may have begun before.
        wait_until("each client has had an answer", || {
            done().iter().zip(before).all(|(now, before)| *now >= before + 2)
        });
    }

    /// Waits until a client has had this answer.
    #[track_caller]
    pub fn meets(&self, body: &str) {
        wait_until("a client has had the answer", || {
            self.shared.tally.lock().expect("a lock").bodies.contains_key(body)
        });
    }

    /// Ends it, and says what was met.
    #[track_caller]
    pub fn end(mut self) -> Tally {
        self.shared.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("a client"));
        std::mem::take(&mut *self.shared.tally.lock().expect("a lock"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

/// A thread that asks until it is over, and tells what it meets.
fn client(
    number: usize,
    shared: &Arc<Shared>,
    mut ask: impl FnMut() -> (Result<Answer, Failure>, u64) + Send + 'static,
) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        while !shared.over.load(Ordering::Relaxed) {
            let (answer, reopened) = ask();
            let mut tally = shared.tally.lock().expect("a lock");
            tally.reopened += reopened;
            match answer {
                Ok(answer) => {
                    tally.answered += 1;
                    *tally.bodies.entry(answer.body).or_default() += 1;
                }
                Err(Failure::Refused) => tally.refused += 1,
                Err(Failure::Closed(why) | Failure::Failed(why)) => *tally.failed.entry(why).or_default() += 1,
            }
            drop(tally);
            shared.done[number].fetch_add(1, Ordering::Relaxed);
            // The server's turn: without it the clients are all that a small machine does.
            let _ = poll(&mut [], PollTimeout::from(1_u8));
        }
    })
}
