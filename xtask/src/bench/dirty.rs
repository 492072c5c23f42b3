//! What following dirty pages adds to those who make them, and to page faults, beside other ways of counting the same. What
//! is dirty is dropped again before it is written, so that no disk is measured.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{
    Bed,
    empty::Empty,
    member, peers,
    probes::{self, Statistics},
    process::Running,
    quiet,
    report::{Aim, Line, Report, Unit},
    rounds::Rounds,
    storm::{OwnCgroup, Storm, Took, median},
    tracing,
};
use crate::command::output;

const NAME: &str = "dirty";
const ADDED: &str = "dirty, added";
const RUNS: &str = "dirty, each run";

const AIM: f64 = 0.03;
/// Of the floor, and of what bpftrace adds for less.
const AIM_FLOOR: f64 = 2.0;
const AIM_BPFTRACE: f64 = 0.5;

/// Each storm of each round, and of the programs' own time.
const SECONDS: &str = "0.1";
const LONG: &str = "1";
const PAGE: f64 = 4096.0;
/// Far below what makes the kernel write back, or a writer wait.
const SIZE: &str = "32M";
/// Until what does not say so at once is attached; its first programs are seen, the last come a moment later.
const PATIENCE: Duration = Duration::from_secs(30);
const ATTACH: Duration = Duration::from_millis(200);

/// The storm of which each page comes by alone, and the one that makes none dirty.
const EACH_PAGE: usize = 0;
const FAULTS: usize = 4;

/// What runs beside the storms.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Beside {
    Nothing,
    Top,
    Diagnose,
    /// Dirty pages by container, process and file; what is written is inferred where only statistics tell.
    Dirty,
    /// What is written back is counted.
    Written,
    Floor,
    /// On the hook of write-back, too, where that is one of every page.
    FloorWritten,
    Bpftrace,
    BpftraceWritten,
}

/// Ended when dropped.
#[derive(Default)]
struct Started {
    program: Option<Running>,
    _empty: Vec<Empty>,
}

/// The files that storms are about, removed on every way out.
struct Files {
    made: PathBuf,
    copied: PathBuf,
}

pub(super) fn dirty(bed: &Bed, report: &mut Report) -> Result<()> {
    let files = Files::make(bed)?;
    let storms = storms(&files, SECONDS);
    let cgroup = OwnCgroup::make(member::parent(bed))?;
    let kinds = usable(bed, report)?;
    let rounds = Rounds::run(bed, kinds, storms.len(), |kind: Beside| {
        let mut started = kind.start(bed)?;
        let mut found = Vec::new();
        let mut alone = true;
        for storm in &storms {
            found.push(storm.once(bed, &cgroup)?);
            // A new file each time: nothing of it is ever old enough to be written back.
            files.remove_made();
            alone = alone && !quiet::is_another(kind.is_memtrace())?;
        }
        started.check()?;
        Ok(alone.then_some(found))
    })?;
    tell(&rounds, &storms, report)?;
    runs(bed, report, &rounds.kinds, &files)
}

fn storms(files: &Files, seconds: &str) -> [Storm; 5] {
    let made = files.made.to_string_lossy();
    let copied = files.copied.to_string_lossy();
    let storm = |what, counts, operation, args: &[&str]| {
        let args = args.iter().copied().chain(["--seconds", seconds]).map(str::to_owned).collect();
        Storm { name: NAME, args, counts, operation, what }
    };
    let write = |what, piece| {
        let args = ["write-storm", &made, "--bytes", SIZE, "--piece", piece];
        storm(what, "bytes", PAGE, &args)
    };
    [
        write("write, 4 KiB", "4k"),
        write("write, 1 MiB", "1M"),
        storm("mmap", "pages", 1.0, &["mmap-storm", &made, "--bytes", SIZE]),
        storm("copy", "bytes", PAGE, &["copy-storm", &copied, &made]),
        storm("page fault", "faults", 1.0, &["fault-storm", "--bytes", SIZE]),
    ]
}

/// What runs on this machine; why the others do not is told.
fn usable(bed: &Bed, report: &mut Report) -> Result<Vec<Beside>> {
    use Beside::{Bpftrace, BpftraceWritten, Diagnose, Dirty, Floor, FloorWritten, Nothing, Top, Written};
    let mut kinds = vec![Nothing];
    let mut by_statistics = false;
    for kind in [Top, Diagnose, Dirty, Written, Floor, FloorWritten, Bpftrace, BpftraceWritten] {
        if matches!(kind, FloorWritten | BpftraceWritten) && !by_statistics {
            report.skip(kind.name(), "memtrace does not hook every page here for what is written");
            continue;
        }
        match kind.start(bed) {
            Ok(started) => {
                if let (Written, Some(running)) = (kind, &started.program) {
                    by_statistics = probes::counts(running)?.keys().any(|name| name.starts_with("wb_stat"));
                }
                kinds.push(kind);
            }
            // Without these there is nothing to tell.
            Err(error) if kind.is_memtrace() => return Err(error),
            Err(error) => peers::failed(bed, report, NAME, kind.name(), &error)?,
        }
    }
    Ok(kinds)
}

impl Beside {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "alone",
            Self::Top => "memtrace top",
            Self::Diagnose => "memtrace diagnose",
            Self::Dirty => "memtrace dirty",
            Self::Written => "memtrace dirty --written",
            Self::Floor => "an empty program",
            Self::FloorWritten => "empty programs, write-back too",
            Self::Bpftrace => "bpftrace, by cgroup",
            Self::BpftraceWritten => "bpftrace, write-back too",
        }
    }

    fn is_memtrace(self) -> bool {
        matches!(self, Self::Top | Self::Diagnose | Self::Dirty | Self::Written)
    }

    /// Started, and attached.
    fn start(self, bed: &Bed) -> Result<Started> {
        let event = tracing::of_dirty_pages().context("this kernel has no tracepoint of dirty pages")?;
        let mut command = match self {
            Self::Nothing => return Ok(Started::default()),
            Self::Floor => return Ok(Started { program: None, _empty: vec![Empty::attach(event)?] }),
            Self::FloorWritten => {
                let both = vec![Empty::attach(event)?, Empty::attach(c"mod_memcg_lruvec_state")?];
                return Ok(Started { program: None, _empty: both });
            }
            Self::Diagnose => return Ok(Started { program: Some(bed.diagnosing()?), _empty: Vec::new() }),
            Self::Top => bed.memtrace(&["--json"]),
            Self::Dirty => following(bed, &[]),
            Self::Written => following(bed, &["--written"]),
            Self::Bpftrace => tracing::counting(&tracing::dirtied("@[cgroup] = count();")?)?,
            Self::BpftraceWritten => {
                let dirtied = tracing::dirtied("@[cgroup] = count();")?;
                tracing::counting(&format!("{dirtied} {}", tracing::WRITTEN))?
            }
        };
        let mut running = Running::start(&mut command)?;
        match self {
            Self::Dirty | Self::Written => attached(bed, &mut running)?,
            Self::Top => drop(running.line(&bed.stop, 1)?),
            // bpftrace says how many probes it attaches before it does.
            _ => drop(running.line(&bed.stop, 2)?),
        }
        let mut started = Started { program: Some(running), _empty: Vec::new() };
        started.check()?;
        Ok(started)
    }
}

fn following(bed: &Bed, words: &[&str]) -> Command {
    let mut command = Command::new(&bed.memtrace);
    command.args(["dirty", "--json"]).args(words);
    command
}

/// There is something to say only at the end of an interval.
fn attached(bed: &Bed, running: &mut Running) -> Result<()> {
    bed.stop.wait("dirty pages to be followed", PATIENCE, || {
        ensure!(!running.ended()?, "memtrace has ended: {}", running.errors().trim());
        Ok(probes::counts(running)?.keys().any(|name| name.starts_with("dirty_")).then_some(()))
    })?;
    bed.stop.sleep(ATTACH)
}

impl Started {
    /// A number beside a program that is gone would mean nothing.
    fn check(&mut self) -> Result<()> {
        let Some(running) = &mut self.program else { return Ok(()) };
        ensure!(!running.ended()?, "a program has ended: {}", running.errors().trim());
        Ok(())
    }
}

fn tell(rounds: &Rounds<Beside>, storms: &[Storm], report: &mut Report) -> Result<()> {
    for (work, storm) in storms.iter().enumerate() {
        for kind in rounds.kinds.iter().copied().skip(1) {
            let mut row = |clock: &str, of: fn(&Took) -> f64| {
                let what = format!("{}: {}, {clock}", storm.what, kind.name());
                if let Some(line) = rounds.line(kind, work, NAME, what, of)? {
                    report.add(if kind.is_memtrace() { line.aim(Aim::Slowdown(AIM)) } else { line });
                }
                anyhow::Ok(())
            };
            row("CPU", |took| took.cpu)?;
            if kind.is_memtrace() {
                row("time", |took| took.wall)?;
            }
        }
    }
    let by_statistics = rounds.kinds.contains(&Beside::FloorWritten);
    let (floor, bpftrace) = if by_statistics {
        (Beside::FloorWritten, Beside::BpftraceWritten)
    } else {
        (Beside::Floor, Beside::Bpftrace)
    };
    let compared = [
        (Beside::Dirty, Beside::Floor, AIM_FLOOR),
        (Beside::Dirty, Beside::Bpftrace, AIM_BPFTRACE),
        (Beside::Written, floor, AIM_FLOOR),
        (Beside::Written, bpftrace, AIM_BPFTRACE),
    ];
    for (work, storm) in storms.iter().enumerate() {
        for (kind, than, most) in compared {
            // What is written by large folios comes by too seldom to tell; where nothing becomes dirty, only what hooks
            // every page adds anything.
            let tells = work == EACH_PAGE || by_statistics && kind == Beside::Written && work == FAULTS;
            if !tells {
                continue;
            }
            let (Some(own), Some(other)) = (rounds.added(kind, work), rounds.added(than, work)) else {
                continue;
            };
            let what = format!("{}: {} beside {}", storm.what, kind.name(), than.name());
            let line = Line::new(ADDED, what, Unit::Nanoseconds, median(own.into_iter()));
            report.add(line.beside(median(other.into_iter())).aim(Aim::Ratio(most)));
        }
    }
    Ok(())
}

/// The programs' own time, a run of them for each folio, as the kernel counts it.
fn runs(bed: &Bed, report: &mut Report, kinds: &[Beside], files: &Files) -> Result<()> {
    let _on = Statistics::on()?;
    let storms = storms(files, LONG);
    let work = |bed: &Bed| {
        // Of the first, each folio is a page.
        let done = output(Command::new(&bed.workload).arg("--with-parent").args(&storms[0].args)).map(drop);
        files.remove_made();
        done
    };
    let mut tell = |running: Running, what: &str| -> Result<()> {
        let counts = probes::during(bed, &running, work)?;
        for (name, cost) in probes::average(&counts) {
            if ["dirty_", "wb_", "writeback"].iter().any(|own| name.starts_with(own)) {
                let line = Line::new(RUNS, format!("{what} ({name})"), Unit::Nanoseconds, cost);
                report.add(line.note(probes::runs(&counts, &name)));
            }
        }
        Ok(())
    };
    if kinds.contains(&Beside::Bpftrace) {
        for (program, what) in
            [("", "bpftrace, an empty program"), ("@[cgroup] = count();", "bpftrace, by cgroup")]
        {
            let mut bpftrace = Running::start(&mut tracing::counting(&tracing::dirtied(program)?)?)?;
            bpftrace.line(&bed.stop, 2)?;
            tell(bpftrace, what)?;
        }
    }
    let mut memtrace = Running::start(&mut following(bed, &["--written"]))?;
    attached(bed, &mut memtrace)?;
    tell(memtrace, "memtrace dirty --written")
}

impl Files {
    /// The second is what is copied: in the page cache, and on the disk.
    fn make(bed: &Bed) -> Result<Self> {
        let folder = bed.folder()?;
        let files = Self { made: folder.join("dirty-storm"), copied: folder.join("copied") };
        output(Command::new(&bed.workload).arg("write").arg(&files.copied).args(["--total", SIZE]))?;
        sync(&files.copied)?;
        Ok(files)
    }

    fn remove_made(&self) {
        // The storm of page faults makes none.
        let _ = fs::remove_file(&self.made);
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.remove_made();
        // It may not have been made.
        let _ = fs::remove_file(&self.copied);
    }
}

fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("cannot write {} back", path.display()))
}
