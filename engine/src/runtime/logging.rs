//! Log lines that can never block or end the engine.
//!
//! A terminal that is not read, a full disk, a closed pipe: writing to standard error can wait or
//! fail, and the data path may do neither. So lines go through a bounded channel to a thread that
//! alone touches the file descriptor. When the channel is full, lines are dropped and counted, and
//! the count is the next line that gets through.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use env_logger::{Builder, Env, Target};
use parking_lot::Mutex;

use super::clock::Clock;
use crate::limiter::Limiter;

/// Lines waiting to be written. More than anyone reads while the terminal stands still.
const WAITING_MAX: usize = 4096;
/// How long a program that ends waits for its last words.
const FLUSH_WAIT: Duration = Duration::from_millis(500);

/// What threads complain of that others can cause.
static COMPLAINTS: Mutex<Limiter<&'static str>> = Mutex::new(Limiter::new());

/// Logs a warning of `kind`, `what` in full, unless there were such a moment ago: see
/// [`crate::limiter`]. For threads; who has a place of its own keeps a limiter there.
pub fn warn_sparingly(kind: &'static str, what: core::fmt::Arguments<'_>) {
    if let Some(left_out) = COMPLAINTS.lock().permit(Clock.now(), kind) {
        log::warn!("{what}{left_out}");
    }
}

enum Entry {
    Line(Vec<u8>),
    /// Everything before has been written: tell.
    Flush(Sender<()>),
}

/// Starts logging; `STANDIN_LOG` holds the filter, `info` without it. Ends with [`Logging::flush`].
#[derive(Debug, Clone)]
pub struct Logging {
    queue: Sender<Entry>,
}

impl core::fmt::Debug for Entry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Entry")
    }
}

impl Logging {
    /// Makes this the program's logger.
    pub fn start() -> io::Result<Self> {
        let (logging, pipe) = Self::over(io::stderr())?;
        let built = Builder::from_env(Env::new().filter_or("STANDIN_LOG", "info"))
            .format_timestamp_micros()
            .format_target(false)
            .target(Target::Pipe(Box::new(pipe)))
            .try_init();
        built.map_err(io::Error::other)?;
        Ok(logging)
    }

    /// The writing thread and both ends to it.
    fn over(out: impl Write + Send + 'static) -> io::Result<(Self, LinePipe)> {
        let (queue, lines) = bounded(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let pipe = LinePipe { queue: queue.clone(), lost: Arc::clone(&lost) };
        thread::Builder::new().name("log".into()).spawn(move || write_lines(out, &lines, &lost))?;
        Ok((Self { queue }, pipe))
    }

    /// Waits, not for long, until what was logged so far has been written.
    pub fn flush(&self) {
        let (done, wait) = bounded(1);
        if self.queue.send_timeout(Entry::Flush(done), FLUSH_WAIT).is_ok() {
            let _ = wait.recv_timeout(FLUSH_WAIT);
        }
    }
}

/// What `env_logger` writes into: one call, one line.
struct LinePipe {
    queue: Sender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Write for LinePipe {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.queue.try_send(Entry::Line(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread's whole life. Errors of `out` have nobody left to be told to.
fn write_lines(mut out: impl Write, lines: &Receiver<Entry>, lost: &AtomicU64) {
    for entry in lines {
        match entry {
            Entry::Line(line) => {
                let missing = lost.swap(0, Ordering::Relaxed);
                if missing != 0 {
                    let _ = writeln!(out, "[{missing} log lines were lost: nobody read them]");
                }
                let _ = out.write_all(&line);
            }
            Entry::Flush(done) => {
                let _ = out.flush();
                let _ = done.try_send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands still while locked, like a terminal after Ctrl-S.
    #[derive(Clone, Default)]
    struct Terminal(Arc<Mutex<Vec<u8>>>);

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_terminal_that_stands_still_stops_nobody() {
        let terminal = Terminal::default();
        let (logging, mut pipe) = Logging::over(terminal.clone()).unwrap();
        {
            let _held = terminal.0.lock();
            for _ in 0..WAITING_MAX + 100 {
                pipe.write_all(b"line\n").unwrap();
            }
        }
        logging.flush();
        let text = String::from_utf8(terminal.0.lock().clone()).unwrap();
        assert!(text.contains("log lines were lost: nobody read them]"), "{}", text.len());
        let written = text.lines().filter(|line| *line == "line").count();
        assert!((WAITING_MAX..WAITING_MAX + 100).contains(&written), "{written}");
    }

    #[test]
    fn a_full_disk_stops_nobody() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::StorageFull.into())
            }
        }
        let (logging, mut pipe) = Logging::over(Full).unwrap();
        pipe.write_all(b"line\n").unwrap();
        logging.flush();
        pipe.write_all(b"line\n").unwrap();
    }
}
