//! The command line from outside, as far as no probe is needed: words, ranges, statuses, help.

use assert_cmd::Command;

fn memtrace(args: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("memtrace").expect("the binary").args(args).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("an exit status"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn usage_errors_are_2_and_say_what_is_wrong() {
    for (args, words) in [
        (&["top", "--nonsense"][..], "--nonsense"),
        (&["nonsense"][..], "nonsense"),
        (&["top", "-i", "fast"][..], "not a number of seconds"),
        (&["top", "-i", "0"][..], "from 0.1 to 86400"),
        (&["top", "-i", "-1"][..], "-1"),
        (&["top", "-d", "1e9"][..], "from 0.1 to 86400"),
        (&["top", "-n", "0"][..], "0 is not in"),
        (&["top", "-c", "[a"][..], "[a"),
        (&["top", "--sort", "beauty"][..], "beauty"),
        (&["top", "--attach", "uprobe"][..], "tp_btf, raw_tp, fentry, tracepoint, kprobe"),
        (&["diagnose", "-d", "0"][..], "from 0.1 to 86400"),
        (&["diagnose", "-c", "[a"][..], "[a"),
        (&["diagnose", "--sort", "growth"][..], "--sort"),
        (&["top", "--attach", "nothing=kprobe"][..], "cgroup_life"),
        (&["lines", "--nonsense"][..], "--nonsense"),
        (&["lines", "-i", "0"][..], "from 0.1 to 86400"),
        (&["lines", "-n", "0"][..], "0 is not in"),
        (&["lines", "-c", "[a"][..], "[a"),
        (&["lines", "--sort", "growth"][..], "growth"),
        (&["lines", "--json", "--histogram"][..], "cannot be used with"),
        (&["lines", "--json", "--flow"][..], "cannot be used with"),
        (&["lines", "--attach", "nothing=kprobe"][..], "cgroup_life"),
        (&["dirty", "--sort", "growth"][..], "growth"),
        (&["dirty", "-n", "0"][..], "0 is not in"),
        (&["dirty", "--attach", "dirty=uprobe"][..], "tp_btf"),
        (&["syscalls", "--sort", "growth"][..], "growth"),
        (&["syscalls", "--attach", "syscall=kprobe"][..], "no alternative kprobe"),
        (&["stuck", "--threshold", "0"][..], "from 0.1 to 86400"),
        (&["stuck", "--sort", "growth"][..], "growth"),
        (&["cgroups", "-i", "0"][..], "from 0.1 to 86400"),
        (&["cgroups", "--sort", "growth"][..], "--sort"),
        (&[][..], "Usage: memtrace"),
    ] {
        let (status, stdout, stderr) = memtrace(args);
        assert_eq!(status, 2, "{args:?}: {stderr}");
        assert!(stderr.contains(words), "{args:?}: {stderr}");
        assert!(stdout.is_empty(), "{args:?}: {stdout}");
    }
}

/// Every word of the table columns is one that `--sort` takes.
#[test]
fn help_lists_what_sort_takes() {
    let rows: Vec<&str> = tracer::metric::sort_words().collect();
    let streams: Vec<&str> = tracer::metric::stream::sort_words().collect();
    let dirty: Vec<&str> = tracer::metric::dirty::sort_words().collect();
    let calls: Vec<&str> = tracer::metric::call::sort_words().collect();
    for (command, words) in [("top", rows), ("lines", streams), ("dirty", dirty), ("syscalls", calls)] {
        let (status, stdout, _) = memtrace(&[command, "--help"]);
        assert_eq!(status, 0);
        for word in words {
            assert!(stdout.contains(word), "{word} is missing in:\n{stdout}");
        }
    }
}

#[test]
fn help_reads_as_agreed() {
    for (name, args) in [
        ("help", &["--help"][..]),
        ("help_top", &["top", "--help"][..]),
        ("help_lines", &["lines", "--help"][..]),
        ("help_dirty", &["dirty", "--help"][..]),
        ("help_cgroups", &["cgroups", "--help"][..]),
        ("help_stuck", &["stuck", "--help"][..]),
        ("help_syscalls", &["syscalls", "--help"][..]),
        ("help_diagnose", &["diagnose", "--help"][..]),
        ("help_doctor", &["doctor", "--help"][..]),
    ] {
        let (status, stdout, _) = memtrace(args);
        assert_eq!(status, 0);
        insta::with_settings!({ snapshot_path => "golden/cli", prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, stdout);
        });
    }
}

#[test]
fn version_names_the_tool() {
    let (status, stdout, _) = memtrace(&["--version"]);
    assert_eq!((status, stdout.trim()), (0, concat!("memtrace ", env!("CARGO_PKG_VERSION"))));
}

/// The generated pages are what the binary says; `cargo xtask bless` renews them.
#[test]
fn generated_docs_are_fresh() {
    for page in ["probes", "metrics"] {
        let (status, stdout, _) = memtrace(&["generate-docs", page]);
        assert_eq!(status, 0);
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(format!("{page}.md"));
        let written = std::fs::read_to_string(&path).expect("the page");
        assert!(written == stdout, "docs/{page}.md is stale: run `cargo xtask docs`");
    }
}
