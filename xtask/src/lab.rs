//! `cargo xtask lab`: the incidents and their siblings, made for real; whether `memtrace diagnose` told each of them and
//! nothing else, and after how long. A scene is a live test that prints `lab {...}`; what it asserts, it asserts in any run
//! of the tests. The time is judged here only.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::{
    artifact::Artifacts,
    live::{self, Ran},
    setup::{Purpose, set_up},
    test::tally::Tally,
    vm,
};

/// A name on the command line, the tests that are its scenes (beginnings of their names), and what goes wrong in it.
const SCENES: &[(&str, &[&str], &str)] = &[
    (
        "endless-line",
        &["endless_line::"],
        "a container that never ends its line, and a containerd that waits for it",
    ),
    (
        "cannot-be-stopped",
        &["unstoppable::", "unstoppable_pod::"],
        "containers hung on a frozen file system and on FUSE; docker stop or the kubelet, again and again",
    ),
    (
        "dead-cgroups",
        &["dead_cgroups::those_that_died"],
        "removed cgroups whose page cache and tmpfs files outlive them",
    ),
    ("importer", &["dirty_incident::"], "qemu-img dirties page cache faster than its disk takes it"),
    (
        "pileup",
        &["pileup::an_exporter", "pileup::the_same"],
        "an exporter that runs du at each request, and is asked faster than it answers",
    ),
    (
        "growing",
        &["lab::growing::"],
        "anonymous memory, tmpfs, slab, socket buffers that grow towards a limit; a leak that swap takes in",
    ),
    (
        "harmless",
        &["lab::harmless::"],
        "page cache, a heap that is filled once, a fork bomb under its limit, a crash loop",
    ),
    (
        "nfs",
        &["lab::nfs::"],
        "containers that read, write and look up files of an NFS server that answers nothing; one cannot be killed",
    ),
    (
        "outside",
        &["lab::outside::"],
        "anonymous memory and a tmpfs that grow in no container and no unit, until the host has no memory left",
    ),
    ("together", &["lab::together::"], "two at once, each innocent of the other's"),
    ("pairs", &["lab::pairs::"], "two of the five incidents at once, in all ten pairs"),
    (
        "storm",
        &["lab::storm::"],
        "memtrace itself in 64 MiB, without a processor, stopped for a while, beside 2,000 cgroups",
    ),
    ("quiet", &["lab::quiet::"], "an ordinary host (MEMTRACE_QUIET=600: for ten minutes)"),
];
/// From the start of memtrace to the finding. Of an emulated machine the start is told and not counted: programs are
/// verified there ten times as slowly.
const SOON_S: f64 = 10.0;
const VM_TIMEOUT: Duration = Duration::from_secs(3600);

/// Make the incidents happen, and see whether memtrace diagnose tells them; each scene, or those named
#[derive(Args)]
pub(crate) struct Lab {
    /// Which scenes; `--list` tells them
    scene: Vec<String>,
    /// On this kernel, in an emulated machine, instead of here
    #[arg(long)]
    kernel: Option<&'static vm::Release>,
    /// So many times in a row
    #[arg(long, default_value_t = 1)]
    times: u32,
    /// Say which there are
    #[arg(long)]
    list: bool,
}

/// What a scene said of itself.
#[derive(Deserialize)]
struct Told {
    scene: String,
    truth: serde_json::Value,
    /// From the start of memtrace to its first look; of a memtrace that was there before, nothing.
    starting_s: Option<f64>,
    found: Vec<Finding>,
    missing: Vec<String>,
    besides: Vec<Finding>,
}

#[derive(Deserialize)]
struct Finding {
    kind: String,
    severity: String,
    /// From the first look, or from when it went wrong.
    after_s: Option<f64>,
}

impl Lab {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if self.list {
            for (name, _, about) in SCENES {
                println!("{name:<18} {about}");
            }
            return Ok(ExitCode::SUCCESS);
        }
        let names = chosen(&self.scene)?;
        set_up(Purpose::Test)?;
        let artifacts = Artifacts::build(true)?;
        let mut good = true;
        for time in 1..=self.times {
            if self.times > 1 {
                println!("lab: time {time} of {}", self.times);
            }
            let Some((ran, emulated)) = self.once(&artifacts, &names)? else { return Ok(ExitCode::FAILURE) };
            good &= report(&ran, emulated);
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// What came of it, and whether on an emulated machine.
    fn once(&self, artifacts: &Artifacts, names: &[&str]) -> Result<Option<(Ran, bool)>> {
        let Some(release) = self.kernel else {
            let ran = live::here(artifacts, Some(live::LAB), names)?;
            if ran.is_none() {
                println!("lab: {}", live::NOT_ROOT);
            }
            return Ok(ran.map(|ran| (ran, false)));
        };
        match vm::live_tests(release, artifacts, Some(live::LAB), &names.join(" "), VM_TIMEOUT)? {
            vm::Outcome::Ran { ran, emulated } => Ok(Some((ran, emulated))),
            vm::Outcome::Skipped { reason } => {
                println!("lab: kernel {}: {reason}", release.label);
                Ok(None)
            }
        }
    }
}

/// Names of tests.
fn chosen(words: &[String]) -> Result<Vec<&'static str>> {
    if words.is_empty() {
        return Ok(SCENES.iter().flat_map(|(_, tests, _)| *tests).copied().collect());
    }
    let find = |word: &String| match SCENES.iter().find(|(name, ..)| name == word) {
        Some((_, tests, _)) => Ok(*tests),
        None => {
            let names: Vec<&str> = SCENES.iter().map(|(name, ..)| *name).collect();
            bail!("there is no scene {word}; there are {}", names.join(", "))
        }
    };
    let found: Vec<&[&str]> = words.iter().map(find).collect::<Result<_>>()?;
    Ok(found.concat())
}

/// The table, and whether all is well.
fn report(ran: &Ran, emulated: bool) -> bool {
    let tally = Tally::of(&ran.lines, ran.success);
    let told = told(&ran.lines);
    println!("\n{:<24} {:>6} {:>11}  {:<40} TRUTH", "SCENE", "START", "FOUND IN", "FOUND");
    for one in &told {
        println!("{}", one.line(emulated));
    }
    let late = told.iter().any(|one| one.is_late(emulated));
    if emulated {
        println!("lab: emulated, so that FOUND IN is without START");
    }
    for reason in &tally.reasons {
        println!("{reason}");
    }
    println!("lab: {} scenes told; tests: {tally}", told.len());
    tally.failed == 0 && !late
}

impl Told {
    /// When the last of what was to be found was.
    fn found_in(&self, emulated: bool) -> Option<f64> {
        let start = self.starting_s.filter(|_| !emulated).unwrap_or(0.0);
        self.found.iter().filter_map(|one| one.after_s).reduce(f64::max).map(|after| start + after)
    }

    fn is_late(&self, emulated: bool) -> bool {
        self.found_in(emulated).is_some_and(|after| after > SOON_S)
    }

    fn line(&self, emulated: bool) -> String {
        let mut found =
            if self.found.is_empty() { "nothing above info".to_owned() } else { words(&self.found) };
        if !self.missing.is_empty() {
            found = format!("MISSING {}", self.missing.join(", "));
        }
        if !self.besides.is_empty() {
            found = format!("{found}; BESIDES {}", words(&self.besides));
        }
        let start = self.starting_s.map_or("-".to_owned(), |start| format!("{start:.1} s"));
        let late = if self.is_late(emulated) { " LATE" } else { "" };
        let after = self.found_in(emulated).map_or("-".to_owned(), |after| format!("{after:.1} s{late}"));
        format!("{:<24} {start:>6} {after:>11}  {found:<40} {}", self.scene, self.truth)
    }
}

/// Of several, when each was found.
fn words(findings: &[Finding]) -> String {
    let one = |finding: &Finding| {
        let after = finding.after_s.filter(|_| findings.len() > 1);
        let after = after.map_or(String::new(), |after| format!(" {after:.1} s"));
        format!("{} ({}){after}", finding.kind, finding.severity)
    };
    findings.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Each is printed when it ends, and again at the end of a run that shows what tests print.
fn told(lines: &[String]) -> Vec<Told> {
    let mut seen: Vec<&str> = Vec::new();
    for line in lines {
        let Some(at) = line.find("lab {") else { continue };
        let object = line[at + "lab ".len()..].trim_end();
        if !seen.contains(&object) {
            seen.push(object);
        }
    }
    seen.into_iter().filter_map(|object| serde_json::from_str(object).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_is_read_once_and_told() {
        let line = r#"lab {"scene":"leak","truth":{"rate":1},"starting_s":0.7,"found":[{"kind":"memory-growth","severity":"critical","summary":"s","after_s":9.5}],"missing":[],"besides":[{"kind":"log-flood","severity":"warning","summary":"s","after_s":1.0}]}"#;
        let lines = [format!("test a ... {line}"), line.to_owned(), "lab {broken".to_owned()];
        let told = told(&lines);
        assert_eq!(told.len(), 1);
        let said = told[0].line(false);
        assert!(said.contains("0.7 s 10.2 s LATE") && said.contains("BESIDES log-flood (warning)"), "{said}");
        assert!(
            told[0].line(true).contains(" 9.5 s  memory-growth"),
            "the start of an emulated one is not counted"
        );
    }

    #[test]
    fn an_unknown_scene_is_refused_with_the_names() {
        let error = chosen(&["nonsense".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("endless-line") && error.contains("quiet"), "{error}");
        assert_eq!(chosen(&["quiet".to_owned()]).unwrap(), ["lab::quiet::"]);
    }
}
