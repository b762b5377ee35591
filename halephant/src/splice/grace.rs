//! [`Grace`]: waits until every program that was running is done.
//!
//! A program reads a flow's words at its beginning and acts on them until its end. Userspace that has taken a flow back
//! knows the end of every run that began before from an RCU grace period, which `membarrier` waits for. It takes
//! milliseconds and blocks, so one thread waits for all flows that ask in the meantime.
#![allow(unsafe_code)]

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll};
use std::thread;

use nix::unistd::geteuid;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use tokio::sync::oneshot;

use super::error::{Fault, SpliceError};

const MEMBARRIER_CMD_QUERY: libc::c_int = 0;
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Clone)]
pub struct Grace {
    jobs: Sender<Job>,
}

impl Grace {
    pub fn start() -> Result<Self, SpliceError> {
        if membarrier(MEMBARRIER_CMD_QUERY).is_none_or(|commands| commands & MEMBARRIER_CMD_GLOBAL == 0) {
            return Err(SpliceError::Membarrier);
        }
        let (jobs, asked) = channel();
        thread::Builder::new()
            .name("splice-grace".into())
            .spawn(move || wait_for(&asked))
            .map_err(|source| SpliceError::System("starting a thread", source))?;
        Ok(Self { jobs })
    }

    /// Runs `job` once every program that is running now is done.
    pub fn afterwards(&self, job: impl FnOnce() + Send + 'static) {
        // Without the thread the process is ending.
        let _ = self.jobs.send(Box::new(job));
    }

    /// Asks for a grace period.
    pub fn period(&self) -> Grant {
        let (done, wait) = oneshot::channel();
        self.afterwards(move || {
            let _ = done.send(());
        });
        Grant(wait)
    }
}

/// A grace period that was asked for.
pub struct Grant(oneshot::Receiver<()>);

impl Grant {
    /// Ready once every program that ran when it was asked for is done.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Pin::new(&mut self.0).poll(cx).map_err(|_| Fault::Grace)
    }
}

/// Waiting takes none; the thread is started when the process still has all of them. Root loses them when it becomes another
/// user, which all threads must be able to do.
fn give_up_rights() {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    if let Err(error) = set_capabilities(None, sets) {
        tracing::debug!(%error, "capabilities of a thread");
    }
}

fn wait_for(asked: &Receiver<Job>) {
    if !geteuid().is_root() {
        give_up_rights();
    }
    while let Ok(first) = asked.recv() {
        let jobs: Vec<Job> = std::iter::once(first).chain(asked.try_iter()).collect();
        if membarrier(MEMBARRIER_CMD_GLOBAL).is_none() {
            // Cannot be: the query said that it works. Without the wait no answer is the safe one.
            tracing::error!(error = %io::Error::last_os_error(), "membarrier failed");
            return;
        }
        for job in jobs {
            job();
        }
    }
}

fn membarrier(command: libc::c_int) -> Option<libc::c_int> {
    // SAFETY: no pointers.
    let answer = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    libc::c_int::try_from(answer).ok().filter(|answer| *answer >= 0)
}
