//! A child's output, read by threads of their own, so that no child waits for a reader.

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver},
    },
    thread,
};

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
