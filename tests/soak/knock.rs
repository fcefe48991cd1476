//! Somebody who connects to the socket of `--listen`, all along.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

#[derive(Clone)]
pub enum Door {
    Tcp(String),
    Unix(PathBuf),
}

impl Door {
    fn knock(&self) -> std::io::Result<()> {
        match self {
            Self::Tcp(address) => TcpStream::connect(address).map(drop),
            Self::Unix(path) => UnixStream::connect(path).map(drop),
        }
    }
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    /// Somebody has removed the socket's file.
    removed: AtomicBool,
    times: AtomicU64,
    refused: Mutex<Option<String>>,
}

pub struct Knocker {
    door: Door,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Knocker {
    pub fn new(door: Door) -> Self {
        let shared = Arc::new(Shared::default());
        let (there, at) = (shared.clone(), door.clone());
        let thread = std::thread::spawn(move || {
            while !there.over.load(Ordering::SeqCst) {
                let before = there.removed.load(Ordering::SeqCst);
                let knocked = at.knock();
                if let Err(error) = knocked
                    && !before
                    && !there.removed.load(Ordering::SeqCst)
                    && !there.over.load(Ordering::SeqCst)
                {
                    *there.refused.lock().expect("a lock") = Some(format!("a connection was refused: {error}"));
                    return;
                }
                there.times.fetch_add(1, Ordering::SeqCst);
                // Often, but not so often that what nobody accepts fills the queue.
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { door, shared, thread: Some(thread) }
    }

    /// The first refusal.
    pub fn refused(&self) -> Option<String> {
        self.shared.refused.lock().expect("a lock").clone()
    }

    pub fn times(&self) -> u64 {
        self.shared.times.load(Ordering::SeqCst)
    }

    /// From now on, until it answers again, it may refuse.
    pub fn removed(&self) {
        self.shared.removed.store(true, Ordering::SeqCst);
    }

    /// Whether it answers. Then it must go on to answer.
    pub fn answers(&self) -> bool {
        let answers = self.door.knock().is_ok();
        if answers {
            self.shared.removed.store(false, Ordering::SeqCst);
        }
        answers
    }

    /// It may end now.
    pub fn finish(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a thread");
        }
    }
}

impl Drop for Knocker {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
    }
}
