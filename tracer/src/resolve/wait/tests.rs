//! Stacks of real tasks, and of other kernels by their source, each with the phrase that it must lead to.

use std::{fs, path::Path};

use super::{Blocker, call, look, mount::Mounts, parse, phrase::Known, state};

/// `## name`, then `call`, `file`, `mount`, `path`, `blocker`, `cgroup`, frames, and what it must say after `=>`. Frames are separated by
/// blanks; `mounts` are the lines of mountinfo, up to the first case.
fn check(path: &Path, wrong: &mut Vec<String>) -> usize {
    let text = fs::read_to_string(path).expect("a fixture can be read");
    let (mounts, cases) = text.split_once("\n## ").expect("there are cases");
    let mounts = Mounts::parse(mounts);
    let mut count = 0;
    for case in cases.split("\n## ") {
        let name = case.lines().next().unwrap_or_default();
        let field = |key: &str| case.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let stack =
            field("stack ").unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let blocker = field("blocker ").map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let kind =
                ["mutex", "semaphore", "rwsem"].into_iter().find(|kind| *kind == words[0]).expect("a kind");
            let owner = words.get(1).map(|pid| pid.parse().expect("a pid"));
            Blocker { kind, owner: owner.map(|pid| (pid, pid, words[2].to_owned())) }
        });
        let known = Known {
            stack: &stack,
            wchan: stack.first().map(String::as_str),
            file: field("file "),
            mount_id: field("mount ").map(|id| id.parse().expect("a number")),
            path: field("path "),
            mounts: Some(&mounts),
            host: Some(&mounts),
            blocker: blocker.as_ref(),
            frozen_cgroup: field("cgroup ") == Some("frozen"),
            io: false,
        };
        let says = field("=>").filter(|words| !words.is_empty());
        let found = known.phrase();
        if found.as_deref() != says {
            wrong.push(format!("{}: {name}: {found:?}, not {says:?}", path.display()));
        }
        count += 1;
    }
    count
}

#[test]
fn every_recorded_wait_says_what_it_waits_on() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/wait");
    let files: Vec<_> = fs::read_dir(dir)
        .expect("there are fixtures")
        .map(|file| file.expect("it is there").path())
        .collect();
    assert!(files.len() >= 5, "{files:?}");
    let mut wrong = Vec::new();
    let cases: usize = files.iter().map(|path| check(path, &mut wrong)).sum();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(cases > 60, "{cases}");
}

#[test]
fn a_stopped_child_is_told() {
    let mut child = std::process::Command::new("sleep").arg("100").spawn().expect("it can be run");
    let pid = child.id();
    let signal = |signal| {
        // SAFETY: a plain system call on a child of ours that has not been waited for.
        unsafe { libc::kill(pid as i32, signal) };
    };
    signal(libc::SIGSTOP);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let stopped = loop {
        let told = look(pid, None).expect("it lives");
        if told.state == 'T' || std::time::Instant::now() > until {
            break told;
        }
        std::thread::yield_now();
    };
    let again = look(pid, Some(&stopped));
    signal(libc::SIGKILL);
    child.wait().expect("it ends");
    assert_eq!(
        (stopped.state, stopped.pid, stopped.sigkill_pending()),
        ('T', pid, Some(false)),
        "{stopped:?}"
    );
    assert_eq!(again.as_ref(), Some(&stopped), "it has not moved");
    assert_eq!(look(pid, None), None, "it is gone");
    assert_eq!(state(u32::MAX), None);
}

#[test]
fn a_call_of_two_files_tells_no_mount() {
    assert_eq!(call::first("copy_file_range"), call::First::Start);
    assert_eq!(parse::call("running"), None);
}
