//! A child process that cannot outlive its owner, with its output in files.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How often something that is waited for is looked at.
pub const POLL: Duration = Duration::from_millis(20);
/// Longest wait for a stopped process's threads.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Lines of a log that are shown when a test fails.
const TAIL_LINES: usize = 40;

/// A started program. Dropping it kills the process by its pid; a panic prints the end of its logs first.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Start `command`, its output going to `NAME.stdout` and `NAME.stderr` in `directory` (appended when they exist).
    ///
    /// # Errors
    /// When the files cannot be made or the program cannot be started.
    pub fn start(name: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let stdout = directory.join(format!("{name}.stdout"));
        let stderr = directory.join(format!("{name}.stderr"));
        let open = |path: &Path| {
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("opening {}", path.display()))
        };
        let child =
            command.stdin(Stdio::null()).stdout(open(&stdout)?).stderr(open(&stderr)?).spawn().with_context(
                || format!("starting {name}: {}", Path::new(command.get_program()).display()),
            )?;
        Ok(Process { name: name.to_owned(), child, stdout, stderr })
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// User and system CPU time spent so far (`/proc/PID/stat`, Linux).
    ///
    /// # Errors
    /// When the process is gone or the system has no `/proc`.
    pub fn cpu_time(&self) -> Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).context("reading /proc")?;
        // The second field may hold blanks; the rest is counted from the closing parenthesis: 14 and 15 of proc(5).
        let rest = text.rsplit(')').next().unwrap_or_default();
        let ticks: u64 =
            rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// First line on stdout that `accept` makes something of.
    ///
    /// # Errors
    /// When the process ends first or `limit` passes; with the end of its logs.
    pub async fn wait_for_line<T>(
        &mut self,
        limit: Duration,
        accept: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let text = std::fs::read_to_string(&self.stdout).unwrap_or_default();
            // A last line without its end is still being written.
            let complete = text.rfind('\n').map_or("", |end| &text[..end]);
            if let Some(found) = complete.lines().rev().find_map(&accept) {
                return Ok(found);
            }
            self.check_running()?;
            if Instant::now() > deadline {
                bail!("{} was not ready after {limit:?}\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Wait until `ready` says so.
    ///
    /// # Errors
    /// When the process ends first or `limit` passes; with the end of its logs.
    pub async fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl AsyncFnMut() -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !ready().await {
            self.check_running()?;
            if Instant::now() > deadline {
                bail!("{}: {what}: not within {limit:?}\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Fail when the process has ended.
    ///
    /// # Errors
    /// With its exit status and the end of its logs.
    pub fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait().context("asking for the exit status")? {
            Some(status) => bail!("{} ended: {status}\n{}", self.name, self.log_tail()),
            None => Ok(()),
        }
    }

    /// SIGSTOP, and wait until all its threads have stopped: it keeps its sockets and answers nothing.
    ///
    /// # Errors
    /// When the process is gone, does not stop in time, or the system has no `/proc`.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let deadline = Instant::now() + STOP_LIMIT;
        while !self.stopped()? {
            if Instant::now() > deadline {
                bail!("{} did not stop within {STOP_LIMIT:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether every thread is stopped: the third field of proc(5) is `T`.
    fn stopped(&self) -> Result<bool> {
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid())).context("reading /proc")? {
            // A thread may have ended since.
            let text = std::fs::read_to_string(thread.context("reading /proc")?.path().join("stat"));
            if text.is_ok_and(|text| !text.rsplit(')').next().unwrap_or_default().starts_with(" T")) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGTERM, then wait for the end.
    ///
    /// # Errors
    /// When it does not end within `limit`; it is killed then.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().context("asking for the exit status")? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.kill();
                bail!("{} did not end within {limit:?} after SIGTERM\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// SIGKILL, and wait for the end. Does nothing when it has ended already.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("{signal:?} to {}", self.name))
    }

    /// Everything written to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Everything written to stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// The last lines of both outputs, with the process's name.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let tail = |text: String| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
        };
        format!("--- {}: end of its output\n{}\n{}\n---", self.name, tail(self.stdout()), tail(self.stderr()))
    }
}

fn read_lossy(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        self.kill();
    }
}
