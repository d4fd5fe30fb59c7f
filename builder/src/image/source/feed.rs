//! A stream that a thread makes while another one reads it.

use super::Tarball;
use anyhow::{Result, anyhow};
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// Bytes that are handed over at once, and how many such may wait.
const PIECE: usize = 256 << 10;
const WAITING: usize = 8;

/// What the maker has to tell at the end.
type Told = Result<Vec<String>>;

/// The maker's end.
#[derive(Debug)]
pub struct Feed {
    pieces: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Write for Feed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(bytes.get(..most).unwrap_or_default());
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(most)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        // The reader has gone: it failed, and says why.
        self.pieces.send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The reader's end. The thread has ended when this has gone.
#[derive(Debug)]
pub struct Fed {
    pieces: Option<Receiver<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
    maker: Option<JoinHandle<Told>>,
    told: Vec<String>,
}

/// Starts a thread that makes a stream.
pub fn feed(make: impl FnOnce(&mut Feed) -> Told + Send + 'static) -> Fed {
    let (send, receive) = sync_channel(WAITING);
    let maker = thread::spawn(move || {
        let mut feed = Feed { pieces: send, piece: Vec::with_capacity(PIECE) };
        let told = make(&mut feed)?;
        feed.flush()?;
        Ok(told)
    });
    Fed { pieces: Some(receive), piece: Vec::new(), at: 0, maker: Some(maker), told: Vec::new() }
}

impl Fed {
    fn join(&mut self) -> Result<()> {
        self.pieces = None;
        let Some(maker) = self.maker.take() else { return Ok(()) };
        self.told = maker.join().map_err(|_| anyhow!("what made the archive stopped: please report this"))??;
        Ok(())
    }
}

impl Read for Fed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            let Some(next) = self.pieces.as_ref().and_then(|pieces| pieces.recv().ok()) else {
                // The end, unless the maker failed.
                self.join().map_err(|error| io::Error::other(format!("{error:#}")))?;
                return Ok(0);
            };
            (self.piece, self.at) = (next, 0);
        }
        let rest = self.piece.get(self.at..).unwrap_or_default();
        let most = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..most), rest.get(..most)) {
            to.copy_from_slice(from);
        }
        self.at += most;
        Ok(most)
    }
}

impl Tarball for Fed {
    fn finish(mut self: Box<Self>) -> Result<Vec<String>> {
        while let Some(Ok(_)) = self.pieces.as_ref().map(Receiver::recv) {}
        self.join()?;
        Ok(std::mem::take(&mut self.told))
    }
}

impl Drop for Fed {
    /// A maker that is not read any more sees that at its next piece, and takes away what it made for the time.
    fn drop(&mut self) {
        // Whoever cares has called `finish`.
        let _ = self.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn all_of_it_comes_through_and_then_what_is_told() {
        let content: Vec<u8> = (0_u32..500_000).flat_map(u32::to_le_bytes).collect();
        let sent = content.clone();
        let mut fed = feed(move |out| {
            out.write_all(&sent)?;
            Ok(vec!["3 sockets".to_owned()])
        });
        let mut read = Vec::new();
        fed.read_to_end(&mut read).unwrap();
        assert!(read == content);
        assert_eq!(Box::new(fed).finish().unwrap(), ["3 sockets"]);
    }

    #[test]
    fn a_maker_that_fails_is_heard_in_reading_and_at_the_end() {
        let fail = |out: &mut Feed| {
            out.write_all(b"abc")?;
            out.flush()?;
            bail!("no such tree")
        };
        let error = feed(fail).read_to_end(&mut Vec::new()).unwrap_err().to_string();
        assert_eq!(error, "no such tree");
        let error = Box::new(feed(fail)).finish().unwrap_err().to_string();
        assert_eq!(error, "no such tree");
    }

    #[test]
    fn a_reader_that_goes_stops_the_maker() {
        let (send, ended) = std::sync::mpsc::channel();
        let fed = feed(move |out| {
            let error = io::copy(&mut io::repeat(1), out).unwrap_err();
            send.send(error.kind()).unwrap();
            Err(error.into())
        });
        drop(fed);
        assert_eq!(ended.recv().unwrap(), io::ErrorKind::BrokenPipe);
    }
}
