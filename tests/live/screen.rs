//! What reaches a terminal, and what becomes of it afterwards: names are anybody's input, and the terminal is the
//! reader's own.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _, path::PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::driver::{
    MIB, batches,
    bpf::left_behind,
    cgroup::Made,
    container::{self, Wanted},
    in_vm,
    memtrace::{self, Memtrace},
    output, skip,
    terminal::Terminal,
    wait_for,
    workload::Workload,
};

/// Each would do something to a terminal: colour, title, step back, turn the direction of writing, begin a line, erase.
const NAMES: [&str; 6] = [
    "\u{1b}[31mred",
    "\u{1b}]0;title\u{7}",
    "back\u{8}space\r",
    "\u{202e}txt.exe",
    "line\u{2028}line\u{85}",
    "\u{9b}2J",
];

fn nothing_left() {
    assert_eq!(left_behind(), Vec::<String>::new());
}

/// Whether a terminal would obey it, or a reader be deceived by it.
fn is_hostile(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cgroups with such names below one, so that a pattern picks them.
struct Hostile {
    named: [Made; 6],
    /// Not even UTF-8: it cannot be told as it is, but what it holds must not be lost.
    raw: PathBuf,
    workload: Option<Workload>,
    truth: u64,
    top: Made,
}

impl Hostile {
    fn make() -> Hostile {
        let top = Made::top("names");
        let raw = top.dir().join(OsStr::from_bytes(b"not-utf8-\xff\xfe"));
        let named = NAMES.map(|name| top.child(name));
        fs::create_dir(&raw).expect("the kernel takes any name but a newline");
        let workload = Workload::start_at(&raw, &["anon", "--total", "8M", "--hold", "forever"]);
        let truth = workload.done();
        Hostile { named, raw, workload: Some(workload), truth, top }
    }

    fn pattern(&self) -> String {
        format!("{}*", self.top.path)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.workload = None;
        wait_for("a cgroup to go", || fs::remove_dir(&self.raw).ok());
    }
}

#[test]
fn names_command_nobody() {
    let hostile = Hostile::make();
    let pattern = hostile.pattern();
    let print = |form: &[&str]| {
        let words = [&["top", "-i", "0.3", "-d", "0.8", "-c", &pattern], form].concat();
        let output = output::of(memtrace::command(&words).env("LC_ALL", "C.UTF-8"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let output = String::from_utf8(output.stdout).expect("UTF-8 whatever the names are");
        let obeyed: Vec<char> = output.chars().filter(|c| is_hostile(*c)).collect();
        assert!(obeyed.is_empty(), "{obeyed:?} in {output}");
        output
    };
    // In JSON they are escaped, not changed: a script gets the true path.
    let json = print(&["--json"]);
    let last: Value = serde_json::from_str(json.lines().last().expect("a line")).expect("JSON");
    let rows = last["containers"].as_array().expect("a list");
    for named in &hostile.named {
        let told = rows.iter().any(|row| row["container"]["cgroup"]["path"] == named.path);
        assert!(told, "{:?} has no row", named.path);
    }
    let sum: u64 = rows.iter().filter_map(|row| row["memory"]["current"].as_u64()).sum();
    let usage = hostile.top.usage();
    assert!(sum >= hostile.truth && sum.abs_diff(usage) <= batches() + MIB, "told {sum}, true {usage}");
    let table = print(&[]);
    assert!(table.contains(r"\x1b[31mred"), "{table}");

    let words = ["top", "-i", "0.3", "-c", &pattern];
    let mut terminal = Terminal::run(&mut memtrace::command(&words), 200, 40);
    terminal.await_words(r"\x1b[31mred");
    terminal.press("q");
    assert_eq!(terminal.wait().code(), Some(0));
    for name in NAMES {
        assert!(!terminal.written().contains(name), "{name:?} reached the terminal");
    }
    nothing_left();
}

/// What docker itself refuses as a name, Kubernetes' label brings all the same.
#[test]
fn a_containers_name_commands_nobody() {
    if in_vm() {
        return skip("a_containers_name_commands_nobody", "crun keeps no names");
    }
    let name = NAMES.concat();
    let label = format!("io.kubernetes.container.name={name}");
    let labels = [label.as_str()];
    let words = ["idle", "--hold", "forever"];
    let wanted = Wanted { name: "hostile", words: &words, labels: &labels, ..Wanted::default() };
    let mut container = container::run(&wanted);
    container.name = Some(name);
    container.done();
    let mut memtrace = Memtrace::top(&["-i", "0.3"]);
    let seen = memtrace.until("the name", |interval| {
        interval.row(&container.cgroup).is_some_and(|row| !row["container"]["name"].is_null())
    });
    memtrace.stop();
    let row = seen.last().and_then(|interval| interval.row(&container.cgroup)).expect("it was waited for");
    container.is(row).expect("the name is told as it is");
    let words = ["top", "-i", "0.3", "-d", "0.7", "-c", &container.id];
    let output = output::of(memtrace::command(&words).env("LC_ALL", "C.UTF-8"));
    let table = String::from_utf8(output.stdout).expect("UTF-8 whatever the name is");
    assert!(table.contains(r"\x1b[31mred") && !table.chars().any(is_hostile), "{table:?}");
}

#[test]
fn a_terminal_too_small() {
    let mut terminal = Terminal::run(&mut memtrace::command(&["top", "-i", "0.3"]), 20, 5);
    terminal.await_words("this is 20x5");
    assert!(!terminal.is_restored());
    terminal.press("q");
    assert_eq!(terminal.wait().code(), Some(0));
    assert!(terminal.is_restored(), "{:?}", terminal.written());
    nothing_left();
}

#[test]
fn a_terminal_is_given_back() {
    for signal in [None, Some(Signal::INT), Some(Signal::TERM), Some(Signal::HUP)] {
        let mut terminal = Terminal::run(&mut memtrace::command(&["top", "-i", "0.3"]), 80, 24);
        terminal.await_words("q quit");
        match signal {
            Some(signal) => terminal.signal(signal),
            // In raw mode a Ctrl-C is a key.
            None => terminal.press("\u{3}"),
        }
        assert_eq!(terminal.wait().code(), Some(0), "{signal:?}");
        assert!(terminal.is_restored(), "{signal:?}: {:?}", terminal.written());
    }
    nothing_left();
}
