//! Calls that go on in the background, and which of them failed.

use super::{Echo, Reply, get};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

/// A thread that calls without a pause.
pub(crate) struct Caller {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Calls>>,
}

/// What came of the calls.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) made: usize,
    pub(crate) failed: Vec<String>,
}

impl Caller {
    /// Lets `echo` call `url` until the end.
    pub(crate) fn of(echo: &Echo, url: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, url, stopped) = (echo.plain, url.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut calls = Calls::default();
            while !stopped.load(Ordering::Relaxed) {
                calls.count(&batch(address, &url));
            }
            calls
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops calling and returns what came of it.
    pub(crate) fn end(mut self) -> Calls {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Calls {
    fn count(&mut self, reply: &Reply) {
        for outcome in reply.json().as_array().unwrap() {
            self.made += 1;
            if outcome["status"] != 200 || !outcome["error"].is_null() {
                self.failed.push(outcome.to_string());
            }
        }
    }
}

fn batch(address: SocketAddr, url: &str) -> Reply {
    get(address, &format!("/mesh/call?url={url}&count=20&concurrency=4"))
}
