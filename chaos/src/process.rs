//! A child process that is killed when its guard is dropped, stopped or not, and the programs that become one.

use crate::Failed;
use std::{
    collections::VecDeque,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// The programs under test, as they were built beside this one.
pub(crate) struct Tools {
    pub(crate) meshctl: PathBuf,
    pub(crate) echo: PathBuf,
}

impl Tools {
    /// Returns the programs of the build that this program is of.
    ///
    /// # Errors
    ///
    /// Returns which of them is not there.
    pub(crate) fn beside_this_program() -> Result<Self, Failed> {
        let own = std::env::current_exe()?;
        let directory = own.parent().ok_or("this program is nowhere")?;
        let tools = Self { meshctl: directory.join("meshctl"), echo: directory.join("examples/echo") };
        let missing = [&tools.meshctl, &tools.echo].into_iter().find(|path| !path.exists());
        match missing {
            Some(path) => {
                Err(format!("there is no {}: `cargo xtask chaos` builds it", path.display()).into())
            }
            None => Ok(tools),
        }
    }
}

/// A running child.
pub(crate) struct Process {
    name: String,
    child: Child,
    said: Arc<Mutex<Said>>,
}

/// What a child has said.
#[derive(Default)]
struct Said {
    /// The first lines of stdout: the addresses.
    first: Vec<String>,
    /// The last lines of stderr.
    last: VecDeque<String>,
    panics: usize,
}

impl Process {
    /// Starts `command`; `name` is what reports call it.
    ///
    /// # Errors
    ///
    /// Returns why it does not start.
    pub(crate) fn start(name: &str, command: &mut Command) -> Result<Self, Failed> {
        let spawned = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = spawned.map_err(|error| format!("{name} does not start: {error}"))?;
        let said = Arc::<Mutex<Said>>::default();
        if let Some(out) = child.stdout.take() {
            tokio::spawn(listen(out, Arc::clone(&said), Said::on_out));
        }
        if let Some(log) = child.stderr.take() {
            tokio::spawn(listen(log, Arc::clone(&said), Said::on_log));
        }
        Ok(Self { name: name.to_owned(), child, said })
    }

    /// Returns the rest of the first line of stdout that begins with `start`, as soon as it is there.
    ///
    /// # Errors
    ///
    /// Returns that the process ended or was silent, and what it logged.
    pub(crate) async fn line(&mut self, start: &str) -> Result<String, Failed> {
        let until = Instant::now() + PATIENCE;
        loop {
            let found =
                locked(&self.said).first.iter().find_map(|line| line.strip_prefix(start)).map(str::to_owned);
            if let Some(rest) = found {
                return Ok(rest);
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() >= until {
                let how = ended.map_or_else(|| "is silent".to_owned(), |status| format!("ended ({status})"));
                return Err(format!("{} {how} and did not say `{start}`; {}", self.name, self.log()).into());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns its number.
    pub(crate) fn id(&self) -> u32 {
        // 0 is nobody's: there is nothing in /proc of a process that has ended.
        self.child.id().unwrap_or(0)
    }

    /// Returns how often a thread of it has panicked.
    pub(crate) fn panics(&self) -> usize {
        locked(&self.said).panics
    }

    /// Stops it: it keeps its connections, and does nothing.
    ///
    /// # Errors
    ///
    /// Returns why it was not stopped.
    pub(crate) async fn stop(&self) -> Result<(), Failed> {
        self.signal("STOP").await
    }

    /// Ends it without giving it a chance to notice.
    ///
    /// # Errors
    ///
    /// Returns why it was not ended.
    pub(crate) async fn kill(&mut self) -> Result<(), Failed> {
        Ok(self.child.kill().await?)
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    ///
    /// Returns why it was not sent.
    pub(crate) async fn terminate(&self) -> Result<(), Failed> {
        self.signal("TERM").await
    }

    /// Waits for its end, at most so long; `None` if it has not ended then.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be waited for.
    pub(crate) async fn ended(&mut self, within: Duration) -> Result<Option<ExitStatus>, Failed> {
        Ok(timeout(within, self.child.wait()).await.ok().transpose()?)
    }

    /// By the one tool that every Unix has.
    async fn signal(&self, name: &str) -> Result<(), Failed> {
        let Some(id) = self.child.id() else { return Err(format!("{} has ended", self.name).into()) };
        let status = Command::new("kill").args([format!("-{name}"), id.to_string()]).status().await?;
        if status.success() { Ok(()) } else { Err(format!("kill -{name} {}: {status}", self.name).into()) }
    }

    fn log(&self) -> String {
        let said = locked(&self.said);
        let last: Vec<&str> = said.last.iter().rev().take(5).rev().map(String::as_str).collect();
        if last.is_empty() {
            "it logged nothing".to_owned()
        } else {
            format!("it logged:\n{}", last.join("\n"))
        }
    }
}

/// Even a busy machine starts a process in that time.
const PATIENCE: Duration = Duration::from_secs(30);

async fn listen(stream: impl AsyncRead + Unpin, said: Arc<Mutex<Said>>, on_line: fn(&mut Said, String)) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        on_line(&mut locked(&said), line);
    }
}

impl Said {
    fn on_out(&mut self, line: String) {
        if self.first.len() < LINES_MAX {
            self.first.push(line);
        }
    }

    fn on_log(&mut self, line: String) {
        self.panics += usize::from(line.contains("panicked at"));
        if self.last.len() == LINES_MAX {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

const LINES_MAX: usize = 32;

fn locked(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}
