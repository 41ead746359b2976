//! A child process that is killed when its guard is dropped, and whose output is shown if the test fails.

use super::{PATIENCE, within};
use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

type Lines = Arc<Mutex<Vec<String>>>;

/// A running child.
pub(crate) struct Process {
    name: String,
    child: Child,
    out: Lines,
    err: Lines,
}

impl Process {
    /// Starts `command`; `name` is how a failing test calls it.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start ({command:?}): {error}"));
        let out = collect(child.stdout.take().unwrap());
        let err = collect(child.stderr.take().unwrap());
        Self { name: name.to_owned(), child, out, err }
    }

    /// Returns the rest of the first line of stdout that begins with `start`, as soon as it is there.
    #[track_caller]
    pub(crate) fn line(&mut self, start: &str) -> String {
        let found = within(PATIENCE, || self.said(start).map(Ok).or_else(|| self.ended().map(Err)));
        match found {
            Some(Ok(rest)) => rest,
            Some(Err(status)) => panic!("{} ended ({status}) before it said `{start}`", self.name),
            None => panic!("{} did not say `{start}` within {PATIENCE:?}", self.name),
        }
    }

    /// Returns the rest of the first line of stdout that begins with `start`, if there is one by now.
    pub(crate) fn said(&self, start: &str) -> Option<String> {
        let out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.iter().find_map(|line| line.strip_prefix(start)).map(str::to_owned)
    }

    /// Returns everything it has logged by now.
    pub(crate) fn log(&self) -> String {
        self.err.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Returns everything it has printed by now.
    pub(crate) fn output(&self) -> String {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Returns how it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        let name = self.name.clone();
        super::eventually(&format!("{name} ended"), || self.ended())
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        signal("TERM", self.child.id());
    }

    /// Ends it without giving it a chance to notice.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let mut text = format!("--- {} printed\n{}\n", self.name, self.output());
            let _ = writeln!(text, "--- {} logged\n{}\n---", self.name, self.log());
            eprint!("{text}");
        }
    }
}

/// Returns the command for the example `name`, which is built by whatever builds the tests of the whole package.
#[track_caller]
pub(crate) fn command(name: &str) -> Command {
    let path = target().join("examples").join(name);
    assert!(
        path.exists(),
        "{} is not there: run `cargo test --workspace`, which builds the examples",
        path.display()
    );
    Command::new(path)
}

/// Returns the directory with the binaries of this build, e.g. `target/debug`.
pub(crate) fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().to_owned()
}

/// Sends a signal, by the one tool every Unix has.
pub(crate) fn signal(name: &str, process: u32) {
    let status = Command::new("kill").args([format!("-{name}"), process.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{name} {process}: {status}");
}

fn collect(stream: impl Read + Send + 'static) -> Lines {
    let lines = Lines::default();
    let sink = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            sink.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
    lines
}
