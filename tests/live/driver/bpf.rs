//! The programs, links and maps of memtrace that the kernel still has although no process holds them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::LazyLock,
    time::Duration,
};

use aya::{
    maps::{MapType, loaded_maps},
    programs::{loaded_links, loaded_programs},
};
use object::{File, Object as _, ObjectSection as _, ObjectSymbol as _};
use tracer::probe::{attach::OBJECT, registry::PROBES};

use super::{patience, wait_for};

/// Our maps, as the kernel names them, by the object's table of symbols.
pub static MAPS: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
    let object = File::parse(OBJECT).expect("the object is ELF");
    let maps = object.section_by_name("maps").expect("the object has maps").index();
    let symbols = object.symbols().filter(|symbol| symbol.section_index() == Some(maps));
    symbols.filter_map(|symbol| symbol.name().ok()).filter(|name| !name.is_empty()).map(short).collect()
});

/// Waits until nothing is left, and gives what is left all the same: the kernel frees a program some time after its last
/// holder is gone. What a living process holds (another memtrace on
/// this machine) is its own affair.
pub fn left_behind() -> Vec<String> {
    let start = std::time::Instant::now();
    loop {
        let loaded = loaded();
        let held = held();
        let left: Vec<String> =
            loaded.into_iter().filter(|(key, _)| !held.contains(key)).map(|(_, name)| name).collect();
        if left.is_empty() || start.elapsed() > patience() {
            return left;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub type Key = (&'static str, u32);

/// Programs and maps with our names, and the links of these programs.
pub fn loaded() -> BTreeMap<Key, String> {
    let ours: BTreeSet<&str> = PROBES
        .iter()
        .flat_map(|probe| probe.alternatives)
        .flat_map(|alternative| alternative.links)
        .map(|link| short(link.program))
        .collect();
    let mut found = BTreeMap::new();
    // One that goes away while it is looked at is none.
    for program in loaded_programs().flatten() {
        if let Some(name) = program.name_as_str().filter(|name| ours.contains(name)) {
            found.insert(("prog", program.id()), format!("program {name}"));
        }
    }
    for link in loaded_links().flatten() {
        if found.contains_key(&("prog", link.program_id())) {
            found.insert(("link", link.id()), format!("link of program {}", link.program_id()));
        }
    }
    for map in loaded_maps().flatten() {
        // Looked at in the moment after its last holder is gone, one of these stays for ever, empty: to look is to hold it,
        // and the kernel counts a reference for the second clearing that it drops (`prog_array_map_clear`). What it held
        // are programs, which are looked for above.
        if matches!(map.map_type(), Ok(MapType::ProgramArray)) {
            continue;
        }
        if let Some(name) = map.name_as_str().filter(|name| MAPS.contains(name)) {
            found.insert(("map", map.id()), format!("map {name}"));
        }
    }
    found
}

/// As the kernel keeps it.
pub fn short(name: &str) -> &str {
    &name[..name.len().min(15)]
}

/// What the living processes hold.
fn held() -> BTreeSet<Key> {
    let processes = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    processes.flat_map(|process| held_by(&process.path())).collect()
}

/// Until a memtrace that prints nothing yet is attached: its first programs are.
pub fn wait_for_links(pid: u32) {
    let process = format!("/proc/{pid}");
    wait_for("memtrace to attach", || {
        held_by(process.as_ref()).iter().any(|(kind, _)| *kind == "link").then_some(())
    });
}

/// Of programs, links and maps, by its directory in `/proc`.
pub fn held_by(process: &Path) -> BTreeSet<Key> {
    let mut held = BTreeSet::new();
    let Ok(descriptors) = fs::read_dir(process.join("fdinfo")) else { return held };
    for text in descriptors.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok()) {
        for (kind, key) in [("prog", "prog_id:"), ("map", "map_id:"), ("link", "link_id:")] {
            let id = text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
            held.extend(id.map(|id| (kind, id)));
        }
    }
    held
}
