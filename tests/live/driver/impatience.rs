//! Somebody who asks for an end again and again while something else is done.

use std::{
    process::Child,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::matrix;

/// Asks with a pause in between until the work is done; gives what it gave, and how many clients asked. None of them is
/// left behind.
pub fn during<T, const ASKED: usize>(
    pause: Duration,
    ask: impl Fn() -> [Child; ASKED] + Send,
    work: impl FnOnce() -> T,
) -> (T, u64) {
    let over = AtomicBool::new(false);
    let stop = &over;
    thread::scope(|scope| {
        let retries = scope.spawn(move || {
            let mut clients: Vec<Child> = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                clients.extend(ask());
                thread::sleep(pause);
            }
            let count = clients.len() as u64;
            for mut client in clients {
                let _ = client.kill();
                let _ = client.wait();
            }
            count
        });
        // Also where it panics, or the other thread would go on.
        let done = matrix::caught(work);
        over.store(true, Ordering::Relaxed);
        let count = retries.join().expect("clients can be started");
        (done.unwrap_or_else(|why| panic!("{why}")), count)
    })
}
