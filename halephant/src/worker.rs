//! The worker threads, each with a current-thread runtime of its own.
//!
//! A client lives on one worker from accept to end. A server connection belongs to the reactor of the worker that last
//! used it and is moved when a client of another one checks it out.

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::Handle;

/// The position of a worker in [`Workers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerId(pub usize);

thread_local! {
    static CURRENT: Cell<Option<WorkerId>> = const { Cell::new(None) };
}

/// Handles to every worker's runtime.
#[derive(Clone, Debug)]
pub struct Workers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    handles: Vec<Handle>,
    next: AtomicUsize,
}

impl Workers {
    /// `handles` must not be empty.
    pub fn new(handles: Vec<Handle>) -> Self {
        assert!(!handles.is_empty(), "a proxy has at least one worker");
        Self(Arc::new(Inner { handles, next: AtomicUsize::new(0) }))
    }

    /// Marks the calling thread as this worker.
    pub fn enter(id: WorkerId) {
        CURRENT.with(|current| current.set(Some(id)));
    }

    /// The worker that the calling thread is, if it is one.
    pub fn current() -> Option<WorkerId> {
        CURRENT.with(Cell::get)
    }

    /// The calling worker, or the next in turn when the caller is not a worker.
    pub fn here_or_next(&self) -> WorkerId {
        Self::current()
            .unwrap_or_else(|| WorkerId(self.0.next.fetch_add(1, Ordering::Relaxed) % self.0.handles.len()))
    }

    pub fn spawn_on(&self, id: WorkerId, task: impl Future<Output = ()> + Send + 'static) {
        self.0.handles[id.0].spawn(task);
    }

    pub fn len(&self) -> usize {
        self.0.handles.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.handles.is_empty()
    }
}
