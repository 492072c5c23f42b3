//! A piece of work that takes a while: its name, its progress (a spinner with the latest message on a terminal, plain
//! lines else) and its time.

use std::{
    io::{BufRead, BufReader, IsTerminal, Read, stderr},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::command::{not_started, shown, tail};

pub(crate) struct Task {
    name: String,
    start: Instant,
    spinner: Option<ProgressBar>,
}

impl Task {
    /// Says what is being done, and why.
    pub(crate) fn start(name: &str, why: &str) -> Self {
        eprintln!("{name}: {why}");
        let spinner = stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {elapsed} {wide_msg}") {
                spinner.set_style(style);
            }
            spinner.enable_steady_tick(Duration::from_millis(120));
            spinner
        });
        Self { name: name.to_owned(), start: Instant::now(), spinner }
    }

    pub(crate) fn progress(&self, message: &str) {
        match &self.spinner {
            Some(spinner) => spinner.set_message(message.to_owned()),
            None => eprintln!("{}: {message}", self.name),
        }
    }

    /// Runs a program with its messages as the progress; fails with the last of them.
    pub(crate) fn run(&self, command: &mut Command) -> Result<()> {
        self.progress(&format!("$ {}", shown(command)));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| not_started(command))?;
        let (sender, messages) = mpsc::channel();
        for stream in [child.stdout.take().map(boxed), child.stderr.take().map(boxed)].into_iter().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    // The receiver lives until both streams end.
                    let _ = sender.send(line);
                }
            });
        }
        drop(sender);
        let mut said = String::new();
        for line in messages {
            if let Some(spinner) = &self.spinner {
                spinner.set_message(line.trim().to_owned());
            }
            said.push_str(&line);
            said.push('\n');
        }
        let status = child.wait().with_context(|| format!("lost `{}`", shown(command)))?;
        if !status.success() {
            self.clear();
            bail!("`{}` failed ({status}); the end of its messages:\n{}", shown(command), tail(&said, 20));
        }
        Ok(())
    }

    pub(crate) fn done(self) {
        self.clear();
        eprintln!("{}: done in {:.1} s", self.name, self.start.elapsed().as_secs_f64());
    }

    fn clear(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.clear();
    }
}

fn boxed(stream: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    Box::new(stream)
}
