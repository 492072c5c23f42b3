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
/// From the start of memtrace to the finding.
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
    found: Vec<Finding>,
    after_s: Option<f64>,
    missing: Vec<String>,
    besides: Vec<Finding>,
}

#[derive(Deserialize)]
struct Finding {
    kind: String,
    severity: String,
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
            let Some(ran) = self.once(&artifacts, &names)? else { return Ok(ExitCode::FAILURE) };
            good &= report(&ran);
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn once(&self, artifacts: &Artifacts, names: &[&str]) -> Result<Option<Ran>> {
        let Some(release) = self.kernel else {
            let ran = live::here(artifacts, Some(live::LAB), names)?;
            if ran.is_none() {
                println!("lab: {}", live::NOT_ROOT);
            }
            return Ok(ran);
        };
        match vm::live_tests(release, artifacts, Some(live::LAB), &names.join(" "), VM_TIMEOUT)? {
            vm::Outcome::Ran { ran, .. } => Ok(Some(ran)),
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
fn report(ran: &Ran) -> bool {
    let tally = Tally::of(&ran.lines, ran.success);
    let told = told(&ran.lines);
    println!("\n{:<24} {:>9}  {:<40} TRUTH", "SCENE", "FOUND IN", "FOUND");
    let mut late = false;
    for one in &told {
        late |= one.after_s.is_some_and(|after| after > SOON_S);
        println!("{}", line(one));
    }
    for reason in &tally.reasons {
        println!("{reason}");
    }
    println!("lab: {} scenes told; tests: {tally}", told.len());
    tally.failed == 0 && !late
}

fn line(told: &Told) -> String {
    let of = |findings: &[Finding]| {
        let mut words: Vec<String> =
            findings.iter().map(|one| format!("{} ({})", one.kind, one.severity)).collect();
        words.dedup();
        words.join(", ")
    };
    let mut found = if told.found.is_empty() { "nothing above info".to_owned() } else { of(&told.found) };
    if !told.missing.is_empty() {
        found = format!("MISSING {}", told.missing.join(", "));
    }
    if !told.besides.is_empty() {
        found = format!("{found}; BESIDES {}", of(&told.besides));
    }
    let after = match told.after_s {
        Some(after) if after > SOON_S => format!("{after:.1} s LATE"),
        Some(after) => format!("{after:.1} s"),
        None => "-".to_owned(),
    };
    format!("{:<24} {after:>9}  {found:<40} {}", told.scene, told.truth)
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
        let line = r#"lab {"scene":"leak","truth":{"rate":1},"found":[{"kind":"memory-growth","severity":"critical","summary":"s"}],"after_s":12.5,"missing":[],"besides":[{"kind":"log-flood","severity":"warning","summary":"s"}]}"#;
        let lines = [format!("test a ... {line}"), line.to_owned(), "lab {broken".to_owned()];
        let told = told(&lines);
        assert_eq!(told.len(), 1);
        let said = super::line(&told[0]);
        assert!(said.contains("12.5 s LATE") && said.contains("BESIDES log-flood (warning)"), "{said}");
    }

    #[test]
    fn an_unknown_scene_is_refused_with_the_names() {
        let error = chosen(&["nonsense".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("endless-line") && error.contains("quiet"), "{error}");
        assert_eq!(chosen(&["quiet".to_owned()]).unwrap(), ["lab::quiet::"]);
    }
}
