//! Logs: one JSON object per line, the message under `msg`.
//!
//! Lines are handed to a thread through a bounded queue, so that a slow reader of the log never holds up a pick.
//! Lines beyond the queue are dropped and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use structured_logger::{Builder, json::new_writer};

use crate::config::Level;

pub mod beat;

/// Lines that wait for the writer, a few hundred bytes each: half a second of picks at 1,000 a second and 16 lines.
const QUEUE_LINES: usize = 8192;

/// How long lines are gathered before they are written. A pick writes several: waking the writer for each of them would
/// cost more than the pick, on the cores that the gateway needs.
const GATHER: Duration = Duration::from_millis(20);

/// How long the last lines may take to be written when the process ends.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

enum Entry {
    Line(Vec<u8>),
    /// Everything before it is written: answer.
    Flush(SyncSender<()>),
}

/// Handle on the log of the process.
#[derive(Debug)]
pub struct Logs {
    queue: SyncSender<Entry>,
    dropped: Counter,
}

/// Makes `out` the log of the process; lines that did not fit are counted in `dropped`.
///
/// Fails if the process has a logger already.
pub fn init(
    level: Level,
    out: impl Write + Send + 'static,
    dropped: Counter,
) -> Result<Arc<Logs>, log::SetLoggerError> {
    let (queue, lines) = sync_channel(QUEUE_LINES);
    let logs = Arc::new(Logs { queue, dropped });
    Builder::with_level(level.name())
        .with_default_writer(new_writer(Lines(Arc::clone(&logs))))
        .with_msg_field()
        .try_init()?;
    std::thread::spawn(move || write_lines(&lines, out));
    Ok(logs)
}

impl Logs {
    /// Waits until everything logged so far is written, for a bounded time.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        // A full queue or a writer that is gone: the deadline passes and the process ends without those lines.
        if self.queue.try_send(Entry::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_DEADLINE);
        }
    }
}

/// The end of the queue that the logger writes to, one whole line a call.
struct Lines(Arc<Logs>);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.0.queue.try_send(Entry::Line(line.to_vec())) {
            self.0.dropped.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_lines(entries: &Receiver<Entry>, out: impl Write) {
    let mut out = io::BufWriter::new(out);
    loop {
        let waiting = entries.try_recv().or_else(|_| {
            // Nothing waits: let the reader see what there is, then sleep until there is more.
            let _ = out.flush();
            let first = entries.recv();
            std::thread::sleep(GATHER);
            first
        });
        let Ok(entry) = waiting else { return };
        match entry {
            // Nobody reads the log any more: nothing better can be done with the line.
            Entry::Line(line) => drop(out.write_all(&line)),
            Entry::Flush(done) => {
                let _ = out.flush();
                let _ = done.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_nobody_reads_drops_lines_and_counts_them() {
        let (queue, lines) = sync_channel(1);
        let logs = Arc::new(Logs { queue, dropped: Counter::default() });
        let mut writer = Lines(Arc::clone(&logs));
        for line in ["first\n", "second\n", "third\n"] {
            writer.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(logs.dropped.get(), 2);
        drop((writer, logs));
        let mut written = Vec::new();
        write_lines(&lines, &mut written);
        assert_eq!(written, b"first\n");
    }
}
