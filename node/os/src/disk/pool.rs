//! The threads that do a data directory's work, and who may do without them.
//!
//! Threads are few and have small stacks, so that an idle node stays small. The queue is
//! bounded; when it is full the caller runs the operation itself, which slows down
//! exactly those that ask for too much.
//!
//! A small write into the page cache costs less than the two hops to a thread and back,
//! and every append makes one: so its caller may run it itself, if it gets the turn
//! ([`Pool::turn`]). What that write could wait for is a file system that is busy with its
//! journal, or a disk that hangs. Hence there is no turn while anything is under way that
//! changes the journal, or a commit takes long; and there is one turn only, so that the
//! first write to hang holds up one of the runtime's threads and never the last.
//!
//! For the same reason a thread that committed lingers for the next commit if the last one
//! came at once ([`Pool::linger`]).

#![expect(
    clippy::disallowed_methods,
    reason = "this crate is where the machine's clocks are read"
)]

use std::collections::VecDeque;
use std::hint;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use weir_base::BoxFuture;

use super::direct::AlignedBuffer;

/// Threads of one data directory: enough to overlap a commit's fsync with reads and
/// page-cache writes.
const THREADS: usize = 4;
/// Bytes of one thread's stack; what runs on it needs a few KiB.
const STACK_BYTES: usize = 128 * 1024;
/// Operations that may wait for a thread before callers run them themselves.
const QUEUE_MAX: usize = 1024;
/// A commit that takes longer says that the disk is not well.
const COMMIT_SLOW: Duration = Duration::from_millis(2);

/// How long a thread that committed looks out for the next commit, if the last one came
/// as soon: about what it takes to be put to sleep and woken, on both sides.
const LINGER_MAX: Duration = Duration::from_micros(40);

/// Pauses of the processor between two looks: a look takes a lock.
const SPINS: u32 = 32;

type Job = Box<dyn FnOnce() + Send>;

/// Whether others had better not wait for what an operation does to the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Data alone.
    Light,
    /// It commits to the file system's journal, or may.
    Heavy,
}

/// The threads. Dropping it lets them finish what is queued and joins none: a write in
/// flight must not be cut short, nor hold up the node's exit.
pub(super) struct Pool {
    shared: Arc<Shared>,
    /// Callers have threads to spare.
    has_turns: bool,
    began: Instant,
    buffer: Mutex<AlignedBuffer>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Heavy operations that are queued or run.
    heavy: AtomicUsize,
    /// A caller runs a small write.
    is_taken: AtomicBool,
    /// When the commit under way began, in nanoseconds since the pool did; 0 for none.
    commit_began: AtomicU64,
    /// When the last one ended, counted alike.
    commit_ended: AtomicU64,
    /// The last commit began soon after the one before it.
    is_brisk: AtomicBool,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Starts the threads. Callers get turns if the runtime that this is called in has
    /// more than one thread.
    pub(super) fn start() -> io::Result<Pool> {
        let shared = Arc::new(Shared::default());
        for index in 0..THREADS {
            let shared = shared.clone();
            thread::Builder::new()
                .name(format!("weir-disk-{index}"))
                .stack_size(STACK_BYTES)
                .spawn(move || serve(&shared))?;
        }
        Ok(Pool {
            shared,
            has_turns: Handle::try_current().is_ok_and(|r| r.metrics().num_workers() > 1),
            began: Instant::now(),
            buffer: Mutex::default(),
        })
    }

    /// Runs an operation on a thread; on the caller's if too many wait.
    pub(super) fn run<T: Send + 'static>(
        &self,
        weight: Weight,
        operation: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        let (job, answer) = self.job(weight, operation);
        let mut queue = self.shared.lock();
        if queue.jobs.len() >= QUEUE_MAX {
            drop(queue);
            job();
            return answer;
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.shared.wake.notify_one();
        answer
    }

    /// Runs an operation on a thread, however many wait: for those of which there are few.
    pub(super) fn run_queued<T: Send + 'static>(
        &self,
        weight: Weight,
        operation: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        let (job, answer) = self.job(weight, operation);
        self.shared.lock().jobs.push_back(job);
        self.shared.wake.notify_one();
        answer
    }

    fn job<T: Send + 'static>(
        &self,
        weight: Weight,
        operation: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> (Job, BoxFuture<'static, io::Result<T>>) {
        let (reply, answer) = oneshot::channel();
        let heavy = (weight == Weight::Heavy).then(|| Heavy::begin(self.shared.clone()));
        let job = Box::new(move || {
            let result = operation();
            drop(heavy);
            // The caller may have stopped waiting; the operation took effect all the same.
            reply.send(result).ok();
        });
        let answer = Box::pin(async move {
            answer
                .await
                .unwrap_or_else(|_| Err(io::Error::other("the disk thread panicked")))
        });
        (job, answer)
    }

    /// The right to write a little into the page cache on the caller's own thread, for as
    /// long as it is held.
    pub(super) fn turn(&self) -> Option<Turn<'_>> {
        let shared = &*self.shared;
        if !self.has_turns || shared.heavy.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let commit_began = shared.commit_began.load(Ordering::Relaxed);
        if commit_began > 0 && self.nanos().saturating_sub(commit_began) > nanos(COMMIT_SLOW) {
            return None;
        }
        let is_free = !shared.is_taken.swap(true, Ordering::Acquire);
        is_free.then_some(Turn(shared))
    }

    /// A commit is under way for as long as this is held.
    pub(super) fn commit(&self) -> Commit<'_> {
        let now = self.nanos().max(1);
        let gap = now.saturating_sub(self.shared.commit_ended.load(Ordering::Relaxed));
        let is_brisk = gap < nanos(LINGER_MAX);
        self.shared.is_brisk.store(is_brisk, Ordering::Relaxed);
        self.shared.commit_began.store(now, Ordering::Relaxed);
        Commit(self)
    }

    /// What `next` has for the thread that just committed, if that comes at once: who waited
    /// for the last commit may be about to ask for another.
    pub(super) fn linger<T>(&self, next: impl Fn() -> Option<T>) -> Option<T> {
        if !self.has_turns || !self.shared.is_brisk.load(Ordering::Relaxed) {
            return None;
        }
        let began = Instant::now();
        while began.elapsed() < LINGER_MAX {
            for _ in 0..SPINS {
                hint::spin_loop();
            }
            if let Some(next) = next() {
                return Some(next);
            }
        }
        self.shared.is_brisk.store(false, Ordering::Relaxed);
        None
    }

    /// What a commit is written from.
    pub(super) fn buffer(&self) -> &Mutex<AlignedBuffer> {
        &self.buffer
    }

    fn nanos(&self) -> u64 {
        nanos(self.began.elapsed())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

struct Heavy(Arc<Shared>);

impl Heavy {
    fn begin(shared: Arc<Shared>) -> Heavy {
        shared.heavy.fetch_add(1, Ordering::Relaxed);
        Heavy(shared)
    }
}

impl Drop for Heavy {
    fn drop(&mut self) {
        self.0.heavy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See [`Pool::turn`].
pub(super) struct Turn<'a>(&'a Shared);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.is_taken.store(false, Ordering::Release);
    }
}

/// See [`Pool::commit`].
pub(super) struct Commit<'a>(&'a Pool);

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        let shared = &self.0.shared;
        shared.commit_ended.store(self.0.nanos(), Ordering::Relaxed);
        shared.commit_began.store(0, Ordering::Relaxed);
    }
}

fn serve(shared: &Shared) {
    loop {
        let mut queue = shared.lock();
        let job = loop {
            if let Some(job) = queue.jobs.pop_front() {
                break job;
            }
            if queue.closed {
                return;
            }
            queue = shared
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        };
        drop(queue);
        job();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn there_is_one_turn_and_none_while_the_disk_is_busy_or_slow() {
        let pool = Pool::start().unwrap();
        let turn = pool.turn().unwrap();
        assert!(pool.turn().is_none(), "taken");
        drop(turn);

        let (go, gone) = mpsc::channel();
        let wait = move || gone.recv().map_err(io::Error::other);
        let heavy = pool.run(Weight::Heavy, wait);
        assert!(pool.turn().is_none(), "the journal is busy");
        go.send(()).unwrap();
        heavy.await.unwrap();
        drop(pool.turn().unwrap());

        let commit = pool.commit();
        drop(pool.turn().unwrap());
        while pool.turn().is_some() {
            thread::yield_now();
        }
        drop(commit);
        drop(pool.turn().unwrap());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thread_lingers_only_while_commit_follows_commit() {
        let pool = Pool::start().unwrap();
        assert_eq!(pool.linger(|| Some(7)), None, "nothing was committed");
        // Unless the machine was busy between the two.
        while pool.linger(|| Some(7)).is_none() {
            drop(pool.commit());
            drop(pool.commit());
        }
        assert_eq!(pool.linger(|| None::<()>), None);
        assert_eq!(pool.linger(|| Some(7)), None, "none came the last time");
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_gets_no_turn() {
        assert!(Pool::start().unwrap().turn().is_none());
    }

    #[tokio::test]
    async fn what_must_be_queued_is_not_run_by_its_caller() {
        let pool = Pool::start().unwrap();
        let (go, gone) = mpsc::channel::<()>();
        let gone = Arc::new(Mutex::new(gone));
        let hold = |gone: Arc<Mutex<mpsc::Receiver<()>>>| {
            move || {
                let held = gone.lock().unwrap_or_else(PoisonError::into_inner);
                held.recv().map_err(io::Error::other)
            }
        };
        let held: Vec<_> = (0..THREADS + QUEUE_MAX)
            .map(|_| pool.run_queued(Weight::Light, hold(gone.clone())))
            .collect();
        let here = thread::current().id();
        // The queue may have been short by those that threads took from it since.
        while pool.shared.lock().jobs.len() < QUEUE_MAX {
            drop(pool.run_queued(Weight::Light, hold(gone.clone())));
        }
        let by_caller = pool.run(Weight::Light, move || Ok(thread::current().id()));
        assert_eq!(by_caller.await.unwrap(), here);
        let queued = pool.run_queued(Weight::Light, move || Ok(thread::current().id()));
        drop(go);
        assert_ne!(queued.await.unwrap(), here);
        for held in held {
            held.await.unwrap_err();
        }
    }
}
