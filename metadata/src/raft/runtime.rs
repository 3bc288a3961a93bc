//! openraft's runtime on Weir's seams: its clock, its tasks and its randomness all come
//! from the node's [`Env`], so that a simulated run is the same run twice.
//!
//! openraft calls its runtime through types, not values. The node that a call belongs
//! to is therefore carried in a task local: [`scope`] enters it, and every task that
//! openraft starts inherits it. A call from outside of it is a bug and panics.

use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::async_runtime::AsyncOneshotSendExt;
use openraft::{AsyncRuntime, OptionalSend};
use tokio::sync::oneshot;
use weir_base::{BoxFuture, Entropy, Env, Monotonic};

/// What openraft may touch of one node.
#[derive(Clone)]
struct Seams {
    env: Env,
    entropy: Entropy,
}

tokio::task_local! {
    static SEAMS: Seams;
}

/// Runs `future`, and all that openraft starts within it, on `env`. `entropy` is the
/// stream its election timeouts are drawn from.
pub(crate) async fn scope<F: Future>(env: &Env, entropy: &Entropy, future: F) -> F::Output {
    let seams = Seams {
        env: env.clone(),
        entropy: entropy.clone(),
    };
    SEAMS.scope(seams, future).await
}

/// What openraft's storage suite runs on: it makes tokio runtimes of its own.
#[cfg(test)]
pub(crate) static OUTSIDE: std::sync::OnceLock<(Env, Entropy)> = std::sync::OnceLock::new();

fn seams() -> Seams {
    if let Ok(seams) = SEAMS.try_with(Clone::clone) {
        return seams;
    }
    #[cfg(test)]
    if let Some((env, entropy)) = OUTSIDE.get().cloned() {
        return Seams { env, entropy };
    }
    panic!("openraft was called outside of runtime::scope")
}

/// The runtime.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct EnvRuntime;

/// Monotonic time of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EnvInstant(Monotonic);

impl openraft::Instant for EnvInstant {
    fn now() -> Self {
        Self(seams().env.clock.now())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for EnvInstant {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0 + rhs)
    }
}

impl AddAssign<Duration> for EnvInstant {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Duration> for EnvInstant {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        // Early in a process, "a timeout ago" lies before its start.
        Self(Monotonic(self.0.0.saturating_sub(nanos(rhs))))
    }
}

impl SubAssign<Duration> for EnvInstant {
    fn sub_assign(&mut self, rhs: Duration) {
        *self = *self - rhs;
    }
}

impl Sub for EnvInstant {
    type Output = Duration;
    fn sub(self, rhs: Self) -> Duration {
        self.0 - rhs.0
    }
}

/// A boxed future that may be shared between threads, as openraft asks of its timers.
pub(crate) struct Shared<T>(Mutex<BoxFuture<'static, T>>);

impl<T> Future for Shared<T> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.0
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .poll(cx)
    }
}

/// A task's result.
pub(crate) struct Joined<T>(oneshot::Receiver<T>);

impl<T> Future for Joined<T> {
    type Output = Result<T, TaskStopped>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|result| result.map_err(|_| TaskStopped))
    }
}

/// A task ended without a result: it was aborted, or panicked, which stops the node.
#[derive(Debug)]
pub(crate) struct TaskStopped;

impl fmt::Display for TaskStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task was stopped")
    }
}

/// A deadline passed.
#[derive(Debug)]
pub(crate) struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline has elapsed")
    }
}

/// A future with a deadline. The future is polled first: ready always wins.
pub(crate) struct Deadline<F> {
    future: Pin<Box<F>>,
    timer: Shared<()>,
}

impl<R, F: Future<Output = R>> Future for Deadline<F> {
    type Output = Result<R, Elapsed>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(result) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(result));
        }
        Pin::new(&mut self.timer).poll(cx).map(|()| Err(Elapsed))
    }
}

/// The node's randomness in the form that openraft draws from.
pub(crate) struct EnvRng(Entropy);

impl rand_core_06::RngCore for EnvRng {
    fn next_u32(&mut self) -> u32 {
        u32::try_from(self.0.next_u64() >> 32).unwrap_or(u32::MAX)
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core_06::Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

/// Sends one value.
pub(crate) struct Sender<T>(oneshot::Sender<T>);

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T: OptionalSend> AsyncOneshotSendExt<T> for Sender<T> {
    fn send(self, value: T) -> Result<(), T> {
        self.0.send(value)
    }
}

impl AsyncRuntime for EnvRuntime {
    type JoinError = TaskStopped;
    type JoinHandle<T: OptionalSend + 'static> = Joined<T>;
    type Sleep = Shared<()>;
    type Instant = EnvInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Deadline<T>;
    type ThreadLocalRng = EnvRng;
    type OneshotSender<T: OptionalSend> = Sender<T>;
    type OneshotReceiverError = oneshot::error::RecvError;
    type OneshotReceiver<T: OptionalSend> = oneshot::Receiver<T>;

    fn spawn<T>(future: T) -> Joined<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let seams = seams();
        let (tx, rx) = oneshot::channel();
        seams.env.tasks.clone().spawn(
            "raft",
            SEAMS.scope(seams, async move {
                // Nobody may wait for the result.
                drop(tx.send(future.await));
            }),
        );
        Joined(rx)
    }

    fn sleep(duration: Duration) -> Shared<()> {
        Self::sleep_until(<EnvInstant as openraft::Instant>::now() + duration)
    }

    fn sleep_until(deadline: EnvInstant) -> Shared<()> {
        Shared(Mutex::new(seams().env.clock.sleep_until(deadline.0)))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Deadline<F> {
        Deadline {
            future: Box::pin(future),
            timer: Self::sleep(duration),
        }
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: EnvInstant,
        future: F,
    ) -> Deadline<F> {
        Deadline {
            future: Box::pin(future),
            timer: Self::sleep_until(deadline),
        }
    }

    fn is_panic(_: &TaskStopped) -> bool {
        // A panic never gets here: it stops the node.
        false
    }

    fn thread_rng() -> EnvRng {
        EnvRng(seams().entropy)
    }

    fn oneshot<T: OptionalSend>() -> (Sender<T>, oneshot::Receiver<T>) {
        let (tx, rx) = oneshot::channel();
        (Sender(tx), rx)
    }
}
