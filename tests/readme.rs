//! What the README shows is what the tool does: its commands parse, its table has the columns there are.

use std::{fs, path::Path};

use assert_cmd::Command;

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    fs::read_to_string(path).expect("the README")
}

#[test]
fn the_two_commands_and_every_link_are_there() {
    let readme = readme();
    for command in ["cargo xtask top", "cargo xtask test"] {
        assert!(readme.contains(&format!("$ {command}")), "{command}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for link in readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(root.join(link).exists(), "{link} does not exist");
    }
}

/// Each `$ sudo memtrace ...` of the README is accepted: with `--help` added nothing runs.
#[test]
fn every_command_shown_is_one() {
    let readme = readme();
    let mut seen = 0;
    for line in readme.lines().filter_map(|line| line.strip_prefix("$ sudo memtrace ")) {
        let line = line.split('#').next().expect("a command").trim().replace('\'', "");
        let status = Command::cargo_bin("memtrace")
            .expect("the binary")
            .args(line.split_whitespace())
            .arg("--help")
            .output()
            .expect("it runs")
            .status;
        assert!(status.success(), "{line}");
        seen += 1;
    }
    assert!(seen >= 2, "the README shows commands");
}

/// The plain rows of the README have today's columns, in today's widths.
#[test]
fn the_table_shown_is_today_s() {
    let readme = readme();
    let titles = tracer::view::table::header();
    assert!(readme.contains(titles.trim_end()), "the README's table has other columns than:\n{titles}");
}
