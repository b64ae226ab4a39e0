//! Sending a mail to a simulated server whose answers are given octets.

use std::sync::{Mutex, PoisonError};

use super::*;

/// The server: answers waiting to be read, and commands that were written.
#[derive(Debug)]
struct Memory {
    answers: VecDeque<u8>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Stream for Memory {
    fn peer(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 25)))
    }
}

impl AsyncRead for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A line at a time, as over a network.
        while buffer.remaining() > 0
            && let Some(octet) = self.answers.pop_front()
        {
            buffer.put_slice(&[octet]);
            if octet == b'\n' {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(octets);
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Sends a message to a server that answers with these octets, whatever it receives. Returns what it received, and the
/// error.
///
/// # Panics
/// If there is no memory for a runtime.
pub fn converse(mail: &Mail, message: &str, answers: &[u8]) -> (Vec<u8>, Result<(), SmtpError>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let memory = Memory { answers: answers.iter().copied().collect(), heard: Arc::clone(&heard) };
    let conversation = async {
        let from = envelope(&mail.from, &mail.helo)?;
        talk(memory, mail, from, message.as_bytes()).await
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    #[allow(clippy::expect_used, reason = "never in the daemon")]
    let outcome = runtime.expect("a runtime").block_on(conversation);
    let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    (heard, outcome)
}
