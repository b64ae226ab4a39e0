//! A mail for a server of which only the octets are there that it would answer.

use std::sync::{Mutex, PoisonError};

use super::*;

/// The server: answers waiting to be read, commands that were written.
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
        // A line at a time, as it would come over a network.
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

/// Sends a message to a server that answers with these octets, whatever it hears. What it heard, and what went wrong.
pub async fn converse(
    mail: &Mail,
    message: &str,
    answers: &[u8],
) -> (Vec<u8>, Result<(), SmtpError>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let memory = Memory { answers: answers.iter().copied().collect(), heard: Arc::clone(&heard) };
    let outcome = match envelope(&mail.from, &mail.helo) {
        Ok(from) => talk(memory, mail, from, message.as_bytes()).await,
        Err(e) => Err(e),
    };
    let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    (heard, outcome)
}
