//! `cargo xtask install` into a folder of its own: what is there then is complete, what bash makes of it, and that
//! nothing is left of it afterwards.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `None` where there is no cargo to call, as in a machine that only got the tests.
fn xtask(args: &[&str]) -> Option<Output> {
    let mut cargo = Command::new(env::var_os("CARGO")?);
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).args([
        "run",
        "--quiet",
        "--package",
        "xtask",
    ]);
    let output = cargo.args(["--", "install"]).args(args).output().expect("cargo runs");
    Some(output)
}

/// All files below a folder, relative to it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).expect("below it").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The long options that `--help` tells of.
fn told(memtrace: &Path, command: &str) -> Vec<String> {
    let output = Command::new(memtrace).args([command, "--help"]).output().expect("it runs");
    let help = text(&output.stdout);
    let words =
        help.lines().filter(|line| line.trim_start().starts_with('-')).flat_map(str::split_whitespace);
    let options = words.filter_map(|word| word.strip_prefix("--"));
    options.map(|word| word.split(['[', '=', ',']).next().unwrap_or(word).to_owned()).collect()
}

/// What bash would offer after these words.
fn offered(completion: &Path, words: &[&str]) -> String {
    let script = format!(
        "source '{}' || exit 1; complete -p memtrace >/dev/null || exit 2\n\
         COMP_WORDS=({}); COMP_CWORD={}; _memtrace memtrace \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"\n\
         echo \"${{COMPREPLY[*]}}\"",
        completion.display(),
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        words.len() - 1,
    );
    let output = Command::new("bash").args(["--norc", "-c", &script]).output().expect("bash runs");
    assert!(output.status.success(), "{:?}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn what_is_installed_is_complete_and_goes_again() {
    let scratch = tempfile::tempdir().expect("a folder");
    let prefix = scratch.path().join("prefix");
    let shown = prefix.to_string_lossy().into_owned();
    // Somebody else's.
    fs::create_dir_all(prefix.join("bin")).expect("a folder");
    fs::write(prefix.join("bin/other"), "").expect("a file");

    let binary = env!("CARGO_BIN_EXE_memtrace");
    let Some(done) = xtask(&["--prefix", &shown, "--binary", binary]) else {
        println!("skipping what_is_installed_is_complete_and_goes_again: no cargo here");
        return;
    };
    assert!(done.status.success(), "{}", text(&done.stderr));
    let memtrace = prefix.join("bin/memtrace");
    let read = |path: &str| fs::read_to_string(prefix.join("share").join(path)).expect(path);
    let bash = "bash-completion/completions/memtrace";
    let fish = read("fish/vendor_completions.d/memtrace.fish");
    let zsh = read("zsh/site-functions/_memtrace");
    for command in ["top", "doctor"] {
        let page = read(&format!("man/man1/memtrace-{command}.1")).replace(r"\-", "-");
        let offered = offered(&prefix.join("share").join(bash), &["memtrace", command, "--"]);
        let told = told(&memtrace, command);
        assert!(told.contains(&"json".to_owned()), "{told:?}");
        for option in &told {
            let word = format!("--{option}");
            assert!(offered.split_whitespace().any(|offer| offer == word), "{word}: {offered}");
            assert!(page.contains(&word) && zsh.contains(&word), "{word}");
            assert!(fish.contains(&format!("-l {option}")), "{word}");
        }
        assert!(!offered.contains("--attach") && !page.contains("--attach"), "hidden ones stay hidden");
    }
    let sorts = offered(&prefix.join("share").join(bash), &["memtrace", "top", "--sort", "growth_a"]);
    assert_eq!(sorts.trim(), "growth_anon");
    assert!(read("man/man1/memtrace.1").contains("EXIT STATUS"));

    let fish = "fish/vendor_completions.d/memtrace.fish";
    for (shell, file) in [("bash", bash), ("zsh", "zsh/site-functions/_memtrace"), ("fish", fish)] {
        match Command::new(shell).current_dir(prefix.join("share")).args(["-n", file]).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {}", text(&output.stderr)),
            Err(error) => println!("skipping the syntax for {shell}: {error}"),
        }
    }

    let again = xtask(&["--prefix", &shown, "--binary", binary]).expect("as before");
    assert!(again.status.success(), "{}", text(&again.stderr));
    let gone = xtask(&["--prefix", &shown, "--uninstall"]).expect("as before");
    assert!(gone.status.success(), "{}", text(&gone.stderr));
    assert_eq!(files(&prefix), [PathBuf::from("bin/other")]);
    assert!(!prefix.join("share").exists(), "folders that it made");
    let nothing = xtask(&["--prefix", &shown, "--uninstall"]).expect("as before");
    assert!(!nothing.status.success() && text(&nothing.stderr).contains("nothing was installed below"));
}
