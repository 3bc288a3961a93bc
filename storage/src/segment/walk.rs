//! Walks the frames of a segment file, reading it in large pieces.
//!
//! Each frame names the one before it. A disk may put a write where it does not belong, and a
//! frame so displaced is intact: only that chain tells it from the one that was there.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use weir_base::DiskFile;

use super::frame::{FRAME_PROBE_BYTES, Frame};

/// A window over a file that moves forward frame by frame.
pub(crate) struct Walk {
    file: Arc<dyn DiskFile>,
    /// File position of the window's first byte.
    position: u64,
    window: Bytes,
    /// Bytes to read at a time.
    step: usize,
    /// No byte at or beyond this position is read.
    limit: u64,
    /// Checksum of the frame before the position, which the one there must name; `None` if that
    /// is not known.
    chain: Option<u32>,
}

/// What is at the walk's position.
#[derive(Debug, Clone)]
pub(crate) struct Walked {
    pub(crate) frame: Frame,
    pub(crate) position: u64,
    /// The whole frame.
    pub(crate) bytes: Bytes,
}

impl Walk {
    pub(crate) fn new(file: Arc<dyn DiskFile>, position: u64, limit: u64, step: usize) -> Walk {
        Walk {
            file,
            position,
            window: Bytes::new(),
            step: step.max(FRAME_PROBE_BYTES),
            limit,
            chain: None,
        }
    }

    /// The frame at the position must name `chain` as its predecessor's checksum, if that is
    /// known.
    pub(crate) fn after(self, chain: Option<u32>) -> Walk {
        Walk { chain, ..self }
    }

    pub(crate) fn file(&self) -> Arc<dyn DiskFile> {
        self.file.clone()
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Moves to `position`, whatever is before it.
    pub(crate) fn seek(&mut self, position: u64) {
        let inside = position
            .checked_sub(self.position)
            .and_then(|ahead| usize::try_from(ahead).ok())
            .filter(|ahead| *ahead <= self.window.len());
        self.window = inside.map_or_else(Bytes::new, |ahead| self.window.slice(ahead..));
        self.position = position;
        self.chain = None;
    }

    /// The intact frame at the position, head only: the batch is not read for it.
    pub(crate) async fn probe(&mut self) -> io::Result<Option<Frame>> {
        self.fill(FRAME_PROBE_BYTES).await?;
        Ok(Frame::probe(&self.window))
    }

    /// The frame at the position, whole, if its head is intact, all of it is there, and it
    /// follows the one that was passed.
    pub(crate) async fn here(&mut self) -> io::Result<Option<Walked>> {
        let Some(frame) = self.probe().await? else {
            return Ok(None);
        };
        let is_displaced = self.chain.is_some_and(|chain| chain != frame.previous);
        if is_displaced && !weir_base::mutant!(M35) {
            return Ok(None);
        }
        self.fill(frame.size()).await?;
        if self.window.len() < frame.size() {
            return Ok(None);
        }
        Ok(Some(Walked {
            frame,
            position: self.position,
            bytes: self.window.slice(..frame.size()),
        }))
    }

    /// Moves `size` bytes on, whatever they are.
    pub(crate) fn skip(&mut self, size: usize) {
        self.seek(self.position + size as u64);
    }

    /// Moves behind `frame`, which is at the position.
    pub(crate) fn pass(&mut self, frame: &Frame) {
        self.skip(frame.size());
        self.chain = Some(frame.crc);
    }

    /// The next intact frame head at or behind the position, at whatever byte it begins;
    /// the position is then there. Also tells whether any byte passed over was not zero.
    pub(crate) async fn search(&mut self) -> io::Result<(Option<Frame>, bool)> {
        const MAGIC: [u8; 4] = super::frame::FRAME_MAGIC.to_le_bytes();
        let mut dirty = false;
        loop {
            self.fill(FRAME_PROBE_BYTES).await?;
            if self.window.is_empty() {
                return Ok((None, dirty));
            }
            if let Some(frame) = Frame::probe(&self.window) {
                return Ok((Some(frame), dirty));
            }
            // Reserved space reads as zero: pass it quickly.
            let zeros = self.window.iter().take_while(|byte| **byte == 0).count();
            if zeros > 0 {
                self.skip(zeros);
                continue;
            }
            dirty = true;
            let next = self.window[1..]
                .windows(MAGIC.len())
                .position(|four| four == MAGIC)
                .map(|at| at + 1);
            let next = next.unwrap_or_else(|| self.window.len().saturating_sub(3).max(1));
            self.skip(next);
        }
    }

    /// Makes the window at least `need` bytes long, if the file has as many.
    async fn fill(&mut self, need: usize) -> io::Result<()> {
        if self.window.len() >= need {
            return Ok(());
        }
        let left = self.limit.saturating_sub(self.position);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let len = need.max(self.step).min(left);
        if len > self.window.len() {
            // What is held of a frame is read again with the rest of it: to join the two would
            // copy both.
            self.window = self.file.read_at(self.position, len).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Mutex;

    use bytes::BytesMut;
    use weir_base::batch::BatchBuilder;
    use weir_base::env::BoxFuture;
    use weir_base::{LeaderEpoch, Offset, Timestamp};

    use super::super::frame::FrameContext;
    use super::*;

    /// A file that remembers where what it handed out lies in memory.
    struct Noted {
        content: Bytes,
        handed: Mutex<Vec<Range<usize>>>,
    }

    fn place(bytes: &Bytes) -> Range<usize> {
        let from = bytes.as_ptr().addr();
        from..from + bytes.len()
    }

    fn read_only<T: Send + 'static>() -> BoxFuture<'static, io::Result<T>> {
        Box::pin(async { Err(io::ErrorKind::ReadOnlyFilesystem.into()) })
    }

    impl DiskFile for Noted {
        fn read_at(&self, offset: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
            let from = usize::try_from(offset).unwrap().min(self.content.len());
            let to = (from + len).min(self.content.len());
            let bytes = Bytes::copy_from_slice(&self.content[from..to]);
            self.handed.lock().unwrap().push(place(&bytes));
            Box::pin(async { Ok(bytes) })
        }

        fn write_at(&self, _: u64, _: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
            read_only()
        }

        fn write_at_and_sync(&self, _: u64, _: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
            read_only()
        }

        fn sync_data(&self) -> BoxFuture<'static, io::Result<()>> {
            read_only()
        }

        fn allocate(&self, _: u64) -> BoxFuture<'static, io::Result<()>> {
            read_only()
        }

        fn truncate(&self, _: u64) -> BoxFuture<'static, io::Result<()>> {
            read_only()
        }

        fn size(&self) -> BoxFuture<'static, io::Result<u64>> {
            let size = self.content.len() as u64;
            Box::pin(async move { Ok(size) })
        }
    }

    #[tokio::test]
    async fn a_frame_is_a_slice_of_what_was_read_wherever_the_window_ends() {
        let mut content = BytesMut::new();
        for base in 0..5 {
            let batch = BatchBuilder::new(Timestamp(1))
                .record(None, Some(&[7; 400]))
                .build()
                .stamped(Offset(base), LeaderEpoch(1));
            let context = FrameContext {
                generation: 1,
                durable: Offset(0),
                appended_at: Timestamp(1),
            };
            Frame::encode(&batch, 0, context, &mut content);
            content.extend_from_slice(batch.body());
        }
        let content = content.freeze();
        for step in [100, 700, 1_300, 10_000] {
            let file = Arc::new(Noted {
                content: content.clone(),
                handed: Mutex::default(),
            });
            let limit = content.len() as u64;
            let mut walk = Walk::new(file.clone(), 0, limit, step);
            let mut held = Vec::new();
            while let Some(found) = walk.here().await.unwrap() {
                let at = place(&found.bytes);
                let handed = file.handed.lock().unwrap();
                let inside = |read: &Range<usize>| read.start <= at.start && at.end <= read.end;
                assert!(handed.iter().any(inside), "step {step}: copied");
                drop(handed);
                assert!(found.frame.batch(&found.bytes).is_some());
                walk.skip(found.frame.size());
                // Kept, so that no later read lies where an earlier one did.
                held.push(found.bytes);
            }
            assert_eq!(held.len(), 5, "step {step}");
        }
    }
}
