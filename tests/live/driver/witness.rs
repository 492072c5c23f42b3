//! Reads cgroups beside memtrace, many times between two of its looks, so that what it says of a moment can be
//! compared with what cgroupfs said then.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use super::{
    cgroup::{Cgroup, Reading},
    in_vm,
    interval::Interval,
};

/// Of one cgroup, at one moment.
struct Sample {
    at: SystemTime,
    reading: Reading,
}

pub struct Witness {
    cgroups: Vec<Cgroup>,
    samples: Arc<Mutex<Vec<Vec<Sample>>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// Watches cgroups that stay for as long.
    pub fn of(cgroups: &[&Cgroup]) -> Witness {
        let cgroups: Vec<Cgroup> = cgroups.iter().map(|cgroup| (*cgroup).clone()).collect();
        let samples = Arc::new(Mutex::new(cgroups.iter().map(|_| Vec::new()).collect::<Vec<Vec<Sample>>>()));
        let over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (cgroups, samples, over) = (cgroups.clone(), Arc::clone(&samples), Arc::clone(&over));
            move || {
                while !over.load(Ordering::Relaxed) {
                    for (index, cgroup) in cgroups.iter().enumerate() {
                        let sample = Sample { at: SystemTime::now(), reading: cgroup.reading() };
                        samples.lock().expect("no holder of this lock panics")[index].push(sample);
                    }
                    thread::sleep(Duration::from_millis(if in_vm() { 300 } else { 40 }));
                }
            }
        });
        Witness { cgroups, samples, over, thread: Some(thread) }
    }

    /// Least and most that cgroupfs said of a kind around the moment of an interval, from the last look before it to
    /// the first one after it. `None`: there was no look, or not one on each side.
    pub fn around(&self, interval: &Interval, cgroup: &Cgroup, kind: &str) -> Option<(u64, u64)> {
        let index = self.cgroups.iter().position(|known| known.path == cgroup.path)?;
        let samples = self.samples.lock().expect("no holder of this lock panics");
        // The moment stands at the end of memtrace's reading, which takes a while on a busy machine.
        let to = interval.at();
        let from = to - Duration::from_millis(if in_vm() { 1500 } else { 250 });
        let first = samples[index].iter().rposition(|sample| sample.at <= from)?;
        let last = samples[index].iter().position(|sample| sample.at >= to)?;
        let values =
            samples[index].get(first..=last)?.iter().filter_map(|sample| sample.reading.get(kind).copied());
        let values: Vec<u64> = values.collect();
        Some((*values.iter().min()?, *values.iter().max()?))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It can only have panicked because a cgroup was gone, which another assertion will tell.
            let _ = thread.join();
        }
    }
}
