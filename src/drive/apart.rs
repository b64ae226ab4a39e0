//! Work that takes an unknown time, apart from everything else.

use std::io;

use tokio::sync::oneshot;

/// Runs this on a thread of its own: not one of the runtime, which has few and would wait for them at the end. The thread
/// goes on when the future is dropped.
///
/// # Errors
/// If the kernel refuses a thread, or if it panicked.
pub async fn apart<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().spawn(move || done.send(run()))?;
    result.await.map_err(io::Error::other)
}
