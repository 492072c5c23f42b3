//! A child's output, read by threads of their own, so that no child waits for a reader.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use super::{in_vm, patience};

/// Runs a command to its end, and ends it when that does not come: no test may hang on what it tests.
pub fn of(command: &mut Command) -> Output {
    of_within(command, patience())
}

/// For what is meant to take long.
pub fn of_within(command: &mut Command, patience: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let all = |mut stream: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // Broken off, it is as long as it is.
            let _ = stream.read_to_end(&mut bytes);
            bytes
        })
    };
    let stdout = all(Box::new(child.stdout.take().expect("its output is a pipe")));
    let stderr = all(Box::new(child.stderr.take().expect("its messages are a pipe")));
    let start = Instant::now();
    let status = loop {
        match child.try_wait().expect("it is our child") {
            Some(status) => break status,
            None if start.elapsed() > patience => {
                child.kill().and_then(|()| child.wait()).expect("it is our child");
                panic!("{command:?} took longer than {} s and was ended", patience.as_secs());
            }
            // Emulated, looking takes a while.
            None => thread::sleep(Duration::from_millis(if in_vm() { 50 } else { 5 })),
        }
    };
    let joined = |bytes: thread::JoinHandle<Vec<u8>>| bytes.join().expect("it does nothing but read");
    Output { status, stdout: joined(stdout), stderr: joined(stderr) }
}

/// Lines as they come; the end of the output closes the channel.
pub fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Takes what comes as fast as it comes, and forgets it.
pub fn drained(mut stream: impl Read + Send + 'static) {
    thread::spawn(move || {
        let mut piece = vec![0; 256 << 10];
        while stream.read(&mut piece).is_ok_and(|taken| taken > 0) {}
    });
}

/// All that came so far.
#[derive(Clone, Default)]
pub struct Gathered(Arc<Mutex<String>>);

impl Gathered {
    pub fn of(stream: impl Read + Send + 'static) -> Gathered {
        let gathered = Gathered::default();
        let text = gathered.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let mut text = text.0.lock().expect("no holder of this lock panics");
                text.push_str(&String::from_utf8_lossy(&line));
                text.push('\n');
            }
        });
        gathered
    }

    pub fn text(&self) -> String {
        self.0.lock().expect("no holder of this lock panics").clone()
    }
}
