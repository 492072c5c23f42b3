//! What this process's own BPF maps and programs cost and lose, from their descriptors' `fdinfo` (aya does not
//! expose `recursion_misses`).

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

/// The descriptors, and what programs lost until they were last read, also those that are gone by now.
#[derive(Debug, Default)]
pub struct BpfCosts {
    descriptors: Vec<PathBuf>,
    /// By program.
    misses: HashMap<u64, u64>,
}

impl BpfCosts {
    /// Looks which there are: after any change of what is loaded.
    pub fn look(&mut self) {
        let list = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let bpf = list.filter(|entry| {
            fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("anon_inode:bpf"))
        });
        self.descriptors = bpf.map(|entry| Path::new("/proc/self/fdinfo").join(entry.file_name())).collect();
    }

    /// Time that our programs took so far, as far as the kernel's statistics were on; nanoseconds.
    pub fn run_time(&self) -> u64 {
        let texts = self.descriptors.iter().filter_map(|path| fs::read_to_string(path).ok());
        texts.filter_map(|text| number(&text, "run_time_ns:")).sum()
    }

    /// What the kernel charges for the maps, and how often it skipped a program of ours since the start because another
    /// was running on that CPU.
    pub fn read(&mut self) -> (u64, u64) {
        let mut maps = 0;
        for text in self.descriptors.iter().filter_map(|path| fs::read_to_string(path).ok()) {
            let get = |key: &str| number(&text, key);
            if text.contains("map_type:") {
                maps += get("memlock:").unwrap_or(0);
            }
            if let (Some(program), Some(misses @ 1..)) = (get("prog_id:"), get("recursion_misses:")) {
                self.misses.insert(program, misses);
            }
        }
        (maps, self.misses.values().sum())
    }
}

fn number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}
