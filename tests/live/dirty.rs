//! Who makes which file's pages dirty: containers that write known amounts in each of the ways there are, told by every way
//! of attaching; what is written back meets it; what was before attach is told as far as the kernel tells.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;

use crate::driver::{
    MIB,
    cgroup::{Cgroup, Made, hierarchy},
    container::{self, Wanted},
    doctor::{self, Alternative},
    in_vm,
    interval::Interval,
    loops::Loop,
    matrix,
    memtrace::{self, Memtrace},
    output, patience, scratch, skip,
    workload::Workload,
};

/// Pages of a file system's own tables, which a writer dirties beside its file.
const TABLES: u64 = MIB / 2;

fn start(words: &[&str]) -> Memtrace {
    let mut memtrace =
        Memtrace::spawn_as("dirty", memtrace::command(&["dirty", "--json", "-i", "1"]).args(words));
    memtrace.next();
    memtrace
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} is not known in {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// Within 1 % of the truth, and what is allowed beside it.
fn is_about(told: u64, truth: u64, beside: u64) -> bool {
    told >= truth - truth / 100 && told <= truth + truth / 100 + beside
}

/// A file as it is told in a row.
fn file<'a>(row: &'a Value, path: &Path) -> Option<&'a Value> {
    let stat = fs::metadata(path).expect("the file is there");
    list(&row["files"])
        .iter()
        .find(|file| file["ino"] == stat.ino() && (file["dev"].is_null() || file["dev"] == stat.dev()))
}

/// A writer in a cgroup of its own.
struct Writer {
    // Fields go in this order, and a cgroup only without its process.
    workload: Workload,
    cgroup: Made,
    path: PathBuf,
    /// What becomes dirty of its file.
    truth: u64,
}

impl Writer {
    fn start(top: &Made, name: &str, dir: &Path, total: u64, dirties: bool, words: &[&str]) -> Writer {
        let (cgroup, path) = (top.child(name), dir.join(name));
        let total = total.to_string();
        let own = ["dirty", text(&path), "--total", &total, "--hold", "forever"];
        let workload = Workload::start(&cgroup, &[&own, words].concat());
        let done = workload.done();
        let truth = if dirties { done } else { 0 };
        Writer { workload, cgroup, path, truth }
    }

    fn row<'a>(&self, interval: &'a Interval) -> &'a Value {
        interval.row(&self.cgroup).unwrap_or_else(|| panic!("{}: no row", self.cgroup.path))
    }

    /// What its own process is told to have done.
    fn process<'a>(&self, row: &'a Value) -> Option<&'a Value> {
        list(&row["processes"]).iter().find(|process| process["pid"] == self.workload.pid())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may have removed it itself. The disk of the emulated machine is small.
        let _ = fs::remove_file(&self.path);
    }
}

#[test]
fn every_way_of_attaching_tells_container_process_and_file() {
    matrix::each(&doctor::usable("dirty"), tells_container_process_and_file);
}

fn tells_container_process_and_file(way: &Alternative) {
    let (top, dir) = (Made::top("dirty"), scratch::dir("dirty"));
    let word = way.word();
    let mut memtrace = start(&["-c", &format!("{}/*", top.path), "--attach", &word]);
    let writer = |name: &str, mib: u64, dirties: bool, words: &[&str]| {
        Writer::start(&top, name, &dir, mib * MIB, dirties, words)
    };
    let writers = [
        writer("buffered", 24, true, &[]),
        writer("mmap", 12, true, &["--way", "mmap"]),
        writer("twice", 8, true, &["--rounds", "2"]),
        writer("direct", 8, false, &["--way", "direct"]),
        writer("fallocate", 8, false, &["--way", "fallocate"]),
    ];
    let tmpfs = Tmpfs::file(&top, "dirty");
    let total = (8 * MIB).to_string();
    let in_memory = top.child("tmpfs");
    let workload =
        Workload::start(&in_memory, &["tmpfs", text(&tmpfs.0), "--total", &total, "--hold", "forever"]);
    workload.done();
    let last = memtrace.later(2);
    memtrace.stop();
    let inferred = way.kind == "tracepoint";
    for writer in &writers {
        let row = writer.row(&last);
        let (dirtied, told) = (number(row, "dirtied"), file(row, &writer.path));
        let of_file = told.map_or(0, |file| number(file, "dirtied"));
        let of_process = writer.process(row).map_or(0, |process| number(process, "dirtied"));
        println!(
            "  {word} {}: true {}, row {dirtied}, process {of_process}, file {of_file}",
            writer.cgroup.path, writer.truth
        );
        if writer.truth == 0 {
            assert_eq!(of_file, 0, "{row}");
            assert!(dirtied <= TABLES, "{row}");
            continue;
        }
        let told = told.unwrap_or_else(|| panic!("no file {} in {row}", writer.path.display()));
        assert_eq!(told["path"], text(&writer.path), "{row}");
        assert_eq!(told["backing"], false, "{row}");
        assert_eq!(writer.process(row).map(|process| &process["comm"]), Some(&Value::from("workload")));
        if inferred {
            assert_eq!(row["dirtied_how"], "at_least", "{row}");
            assert!(of_file > 0 && is_about(of_file.max(writer.truth), writer.truth, 0), "{row}");
            continue;
        }
        assert!(row["dirtied_how"].is_null(), "{row}");
        assert!(is_about(of_file, writer.truth, 0), "{of_file}, true {}: {row}", writer.truth);
        assert!(is_about(of_process, writer.truth, TABLES), "{of_process}, true {}: {row}", writer.truth);
        assert!(is_about(dirtied, writer.truth, TABLES), "{dirtied}, true {}: {row}", writer.truth);
    }
    let row = last.row(&in_memory).expect("it has a row");
    assert_eq!((number(row, "dirtied"), list(&row["files"]).len()), (0, 0), "tmpfs: {row}");
}

#[test]
fn every_way_of_attaching_tells_what_is_written() {
    matrix::each(&doctor::usable("writeback_done"), tells_what_is_written);
}

fn tells_what_is_written(way: &Alternative) {
    let (top, dir) = (Made::top("written"), scratch::dir("written"));
    let word = way.word();
    let mut memtrace = start(&["-c", &format!("{}/*", top.path), "--attach", &word]);
    let written = Writer::start(&top, "synced", &dir, 16 * MIB, true, &["--rounds", "2", "--sync"]);
    let cut = Writer::start(&top, "cut", &dir, 8 * MIB, true, &["--truncate"]);
    let last = memtrace.later(3);
    memtrace.stop();
    for writer in [&written, &cut] {
        let row = writer.row(&last);
        let [dirtied, written, cleaned, dirty, writeback] =
            ["dirtied", "written", "cleaned", "dirty", "writeback"].map(|key| number(row, key));
        println!(
            "  {word} {}: true {}, dirtied {dirtied}, written {written}, cleaned {cleaned}, left {dirty} and {writeback}",
            writer.cgroup.path, writer.truth
        );
        assert!(row["written_how"].is_null(), "{row}");
        let gone = written + cleaned + dirty + writeback;
        assert!(is_about(gone, dirtied, TABLES), "{row}");
        assert!(is_about(dirtied, writer.truth, TABLES), "{row}");
    }
    let row = written.row(&last);
    assert!(is_about(number(row, "written"), written.truth, TABLES), "{row}");
    assert!(number(row, "cleaned") <= written.truth / 100, "{row}");
    if !in_vm() {
        let row = cut.row(&last);
        assert!(is_about(number(row, "cleaned"), cut.truth, TABLES), "{row}");
    }
}

#[test]
fn a_loops_backing_file_is_listed_apart() {
    backing_is_apart(&Loop::mount("ext4", 48).expect("setup installs what it needs"));
}

#[test]
fn so_is_that_of_an_xfs() {
    // Smaller ones it does not make.
    match Loop::mount("xfs", 320) {
        Ok(loops) => backing_is_apart(&loops),
        Err(reason) => skip("so_is_that_of_an_xfs", &reason),
    }
}

fn backing_is_apart(loops: &Loop) {
    let top = Made::top("loop");
    let mut memtrace = start(&[]);
    let writer = Writer::start(&top, "inner", &loops.mount, 16 * MIB, true, &["--sync"]);
    let last = memtrace.later(2);
    memtrace.stop();
    let row = writer.row(&last);
    let inner = file(row, &writer.path).unwrap_or_else(|| panic!("no inner file in {row}"));
    assert!(is_about(number(inner, "dirtied"), writer.truth, 0), "{row}");
    assert_eq!((&inner["backing"], &inner["path"]), (&Value::from(false), &Value::from(text(&writer.path))));
    let process = writer.process(row).unwrap_or_else(|| panic!("no process in {row}"));
    assert!(is_about(number(process, "dirtied"), writer.truth, TABLES), "{row}");
    let backing: Vec<&Value> = last.rows().filter_map(|row| file(row, &loops.image)).collect();
    let dirtied: u64 = backing.iter().map(|file| number(file, "dirtied")).sum();
    println!("  inner {}, backing {dirtied} in {} rows", number(inner, "dirtied"), backing.len());
    assert!(backing.iter().all(|file| file["backing"] == true), "{backing:?}");
    assert!(backing.iter().all(|file| file["path"] == text(&loops.image)), "{backing:?}");
    // With the file system's journal and tables.
    assert!(is_about(dirtied, writer.truth, 4 * MIB), "{backing:?}");
    // On v2 it is the writer's, too, or that of the nearest cgroup around it which has the io controller: the loop's thread
    // works for the cgroup of the request (`loop_queue_work`). Before 5.14 the kernel's own thread has it.
    let of = |wanted: &dyn Fn(&str) -> bool| -> u64 {
        let rows = last.rows().filter(|row| row["container"]["cgroup"]["path"].as_str().is_some_and(wanted));
        rows.filter_map(|row| file(row, &loops.image)).map(|file| number(file, "dirtied")).sum()
    };
    let at = row["container"]["cgroup"]["path"].as_str().expect("every row has a path");
    let own = of(&|path| path != "/" && Path::new(at).starts_with(path));
    let kernels = of(&|path| path == "/");
    let enough = writer.truth - writer.truth / 100;
    assert!(
        !hierarchy().v2 || own >= enough || own == 0 && kernels >= enough,
        "{own}, {kernels}: {backing:?}"
    );
}

/// What filled the cache before memtrace was there is told by the processes' own counters and descriptors.
#[test]
fn what_was_before_attach_is_inferred() {
    let (top, dir) = (Made::top("before"), scratch::dir("before"));
    let writer = Writer::start(&top, "early", &dir, 16 * MIB, true, &["--unlink"]);
    let idle = top.child("idle");
    let _idle = Workload::start(&idle, &["idle"]);
    let mut memtrace = start(&["-c", &format!("{}/*", top.path)]);
    let last = memtrace.next();
    memtrace.stop();
    let row = writer.row(&last);
    let Some(process) = writer.process(row).filter(|process| !process["before_attach"].is_null()) else {
        // All of it may be written by now on a slow machine.
        assert!(in_vm() && number(row, "dirty") == 0, "{row}");
        return skip("what_was_before_attach_is_inferred", "it was written back before memtrace was there");
    };
    println!("  true {}, told {}", writer.truth, process["before_attach"]);
    assert!(is_about(number(process, "before_attach"), writer.truth, TABLES), "{row}");
    assert_eq!(process["before_attach_how"], "inferred");
    let file = list(&row["files"]).iter().find(|file| file["path"] == text(&writer.path));
    let file = file.unwrap_or_else(|| panic!("no deleted file {} in {row}", writer.path.display()));
    assert_eq!((&file["open_before"], &file["before_attach_how"]), (&Value::from(true), &"inferred".into()));
    assert!(is_about(number(file, "before_attach"), writer.truth, TABLES), "{row}");
    let row = last.row(&idle).expect("it has a row");
    assert!(row["before_attach"].is_null() && list(&row["processes"]).is_empty(), "{row}");
}

/// Deleted while it is written, and by a process that is gone before the next look.
#[test]
fn a_deleted_file_keeps_its_name() {
    let (top, dir) = (Made::top("deleted"), scratch::dir("deleted"));
    let mut memtrace = start(&["-c", &format!("{}/*", top.path)]);
    let deleted = top.child("deleted");
    let path = dir.join("gone (deleted)\n\u{1b}[31m");
    let total = (4 * MIB).to_string();
    let hold = if in_vm() { "3" } else { "0.2" };
    let words = ["dirty", text(&path), "--total", &total, "--unlink", "--hold", hold];
    let workload = Workload::start(&deleted, &words);
    assert_eq!(workload.done(), 4 * MIB);
    workload.wait();
    let last = memtrace.later(2);
    memtrace.stop();
    let row = last.row(&deleted).expect("it has a row");
    let file = list(&row["files"]).iter().find(|file| number(file, "dirtied") >= 4 * MIB);
    assert_eq!(file.map(|file| &file["path"]), Some(&Value::from(text(&path))), "{row}");
    assert_eq!(list(&row["top_dirtiers"])[0]["path"], text(&path), "{row}");
}

/// By the name that the container has for it: of a volume, and of its own layer.
#[test]
fn a_path_is_the_containers_own() {
    if in_vm() {
        return skip("a_path_is_the_containers_own", "the containers' root is in memory there");
    }
    container::warm_up();
    let dir = scratch::dir("volume");
    let total = (8 * MIB).to_string();
    let mut memtrace = start(&[]);
    for path in ["/volume/file", "/layer"] {
        let words = ["dirty", path, "--total", &total, "--hold", "forever"];
        let wanted =
            Wanted { name: "dirty", words: &words, binds: &[(&dir, "/volume")], ..Wanted::default() };
        let container = container::run(&wanted);
        let told = memtrace.until("its file to be told", |interval| {
            let row = interval.row(&container.cgroup);
            row.is_some_and(|row| row["dirtied"].as_u64() >= Some(8 * MIB))
        });
        let row =
            told.last().and_then(|interval| interval.row(&container.cgroup)).expect("it was waited for");
        let file = list(&row["files"]).first().unwrap_or_else(|| panic!("no files in {row}"));
        println!("  {path}: {file}");
        assert_eq!(file["path"], path, "{row}");
        assert!(is_about(number(file, "dirtied"), 8 * MIB, 0), "{row}");
    }
    memtrace.stop();
}

/// A device that may have next to nothing dirty makes its writers wait.
#[test]
fn who_is_throttled_is_told() {
    let loops = Loop::mount("ext4", 48).expect("setup installs what it needs");
    let Some(bdi) = loops.strict() else {
        return skip("who_is_throttled_is_told", "this kernel has no strict_limit for a device");
    };
    let top = Made::top("throttled");
    let cgroup = top.child("writer");
    let mut memtrace = start(&["-c", &format!("{}/*", top.path)]);
    let path = loops.mount.join("file");
    let began = std::time::Instant::now();
    let words = ["dirty", text(&path), "--total", "24M", "--hold", "forever"];
    let workload = Workload::start(&cgroup, &words);
    workload.done();
    let took = began.elapsed().as_secs_f64();
    let last = memtrace.later(2);
    memtrace.stop();
    let row = last.row(&cgroup).expect("it has a row");
    let throttled = row["throttled_s"].as_f64().expect("a tracepoint tells it on every kernel");
    println!("  {bdi}: throttled {throttled} s of {took} s");
    assert!(throttled > 0.0 && throttled <= took + 1.0, "throttled {throttled} s of {took} s: {row}");
}

/// Plain rows name process and file below the container.
#[test]
fn plain_rows_name_process_and_file() {
    let (top, dir) = (Made::top("plain"), scratch::dir("plain"));
    let seconds = if in_vm() { "30" } else { "6" };
    let mut memtrace = memtrace::command(&["dirty", "-i", "1", "-d", seconds]);
    let mut memtrace = memtrace.stdout(Stdio::piped()).spawn().expect("memtrace can be started");
    let lines = output::lines(memtrace.stdout.take().expect("its output is a pipe"));
    // Attached is who prints.
    lines.recv_timeout(patience()).expect("memtrace prints");
    let cgroup = top.child("plain");
    let path = dir.join("file");
    let workload = Workload::start(&cgroup, &["dirty", text(&path), "--total", "8M", "--hold", "forever"]);
    workload.done();
    let said = lines.iter().collect::<Vec<String>>().join("\n");
    memtrace.wait().expect("it is our child");
    for part in [cgroup.path.as_str(), &format!("by workload[{}]: 8.0", workload.pid()), text(&path)] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
}

/// A file in memory that belongs to nobody's directory.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn file(of: &Cgroup, name: &str) -> Tmpfs {
        Tmpfs(PathBuf::from(format!("/dev/shm{}-{name}", of.path)))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}
