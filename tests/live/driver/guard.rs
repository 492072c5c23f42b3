//! Undoes what was done to the machine, also when this process is killed: a shell that waits for our end of its
//! standard input to close, then runs the lines it was given, last one first.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock},
};

/// A process is ended only if its command line holds the mark: its id may be somebody else's by then. A zombie has
/// no command line.
const SCRIPT: &str = r#"
lives() { grep -q "$2" "/proc/$1/cmdline" 2>/dev/null; }
end() {
    lives "$1" "$2" && kill "$1" && kill -CONT "$1"
    left=200
    while lives "$1" "$2" && [ "$left" -gt 0 ]; do sleep 0.1; left=$((left - 1)); done
}
end_all() {
    for process in /proc/[0-9]*; do lives "${process#/proc/}" "$1" && kill -9 "${process#/proc/}"; done
    grep -o " $1/[^ ]*" /proc/mounts | sort -r | while read -r mount; do umount -l "$mount"; done 2>/dev/null
}
drop_cgroup() {
    left=20
    while [ -d "$1" ] && [ "$left" -gt 0 ]; do
        find "$1" -depth -type d | while read -r inner; do
            for process in $(cat "$inner/cgroup.procs"); do kill -9 "$process"; done
            rmdir "$inner"
        done 2>/dev/null
        [ ! -d "$1" ] || sleep 0.1
        left=$((left - 1))
    done
}
undo=
while read -r line; do undo="$line
$undo"; done
eval "$undo"
"#;

static GUARD: OnceLock<Mutex<Child>> = OnceLock::new();

/// One line of shell, run when this process is gone.
pub fn at_end(line: &str) {
    let guard = GUARD.get_or_init(|| Mutex::new(start()));
    let mut guard = guard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let input = guard.stdin.as_mut().expect("the guard's input is open until the end");
    writeln!(input, "{line}").expect("the guard reads until we end");
}

fn start() -> Child {
    // A group of its own: a Ctrl-C that ends the tests must not end what cleans up behind them.
    let guard = Command::new("sh")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("there is a shell");
    // SAFETY: `finish` has the type that atexit(3) asks for and stays where it is for the process's life.
    unsafe { atexit(finish) };
    guard
}

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> i32;
}

/// On an ordinary end, passed or failed, the process waits, so that whoever looks afterwards finds nothing.
extern "C" fn finish() {
    if let Some(guard) = GUARD.get() {
        let mut guard = guard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        drop(guard.stdin.take());
        // Whatever came of it, there is nothing left to do.
        let _ = guard.wait();
    }
}
