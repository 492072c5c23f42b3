//! What is in the maps of a memtrace that runs, read as bytes.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
    ptr,
};

use aya::maps::{MapInfo, MapType};

use super::bpf::held_by;

/// Every byte that the maps of a process hold, map by map: keys, values of every CPU, what a ring has carried.
pub fn of(process: u32) -> Vec<(String, Vec<u8>)> {
    let held = held_by(Path::new(&format!("/proc/{process}")));
    let ids = held.into_iter().filter(|(kind, _)| *kind == "map").map(|(_, id)| id);
    ids.filter_map(|id| {
        // One that goes away while it is looked at is none.
        let map = MapInfo::from_id(id).ok()?;
        let name = map.name_as_str().unwrap_or_default().to_owned();
        let bytes = match map.map_type().ok()? {
            MapType::RingBuf => ring(&map),
            _ => entries(&map),
        };
        Some((name, bytes))
    })
    .collect()
}

/// `union bpf_attr` for commands on elements (`include/uapi/linux/bpf.h`).
#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value_or_next_key: u64,
    flags: u64,
}

const LOOKUP: libc::c_long = 1;
const NEXT_KEY: libc::c_long = 4;

fn element(command: libc::c_long, map: i32, key: Option<&[u8]>, into: &mut [u8]) -> bool {
    let attribute = Element {
        map: map as u32,
        padding: 0,
        key: key.map_or(0, |key| key.as_ptr() as u64),
        value_or_next_key: into.as_mut_ptr() as u64,
        flags: 0,
    };
    let size = size_of::<Element>();
    // SAFETY: the kernel reads `size` bytes of the attribute and a key, and writes a key or the values of all CPUs, for
    // which the callers' buffers are large enough.
    unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attribute, size) == 0 }
}

fn entries(map: &MapInfo) -> Vec<u8> {
    let fd = map.fd().expect("root may look into a map");
    let fd = fd.as_fd().as_raw_fd();
    let cpus = aya::util::nr_cpus().expect("the kernel tells how many");
    // A value of each CPU is rounded up to eight bytes; of other maps there is only one.
    let mut value = vec![0; map.value_size().next_multiple_of(8) as usize * cpus];
    let mut next = vec![0; map.key_size() as usize];
    let mut key: Option<Vec<u8>> = None;
    let mut bytes = Vec::new();
    // A map that changes meanwhile may begin anew.
    for _ in 0..map.max_entries().saturating_mul(2) {
        if !element(NEXT_KEY, fd, key.as_deref(), &mut next) {
            break;
        }
        bytes.extend_from_slice(&next);
        if element(LOOKUP, fd, Some(&next), &mut value) {
            bytes.extend_from_slice(&value);
        }
        key = Some(next.clone());
    }
    bytes
}

/// The pages of a ring, also those that were read already.
fn ring(map: &MapInfo) -> Vec<u8> {
    let fd = map.fd().expect("root may look into a map");
    let page = rustix::param::page_size();
    // The producer's page, then the data twice, so that a record that wraps is in one piece.
    let length = page + 2 * map.max_entries() as usize;
    let (protection, raw) = (libc::PROT_READ, fd.as_fd().as_raw_fd());
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing that exists.
    let start = unsafe {
        libc::mmap(ptr::null_mut(), length, protection, libc::MAP_SHARED, raw, page as libc::off_t)
    };
    assert_ne!(start, libc::MAP_FAILED, "a ring can be looked at: {}", std::io::Error::last_os_error());
    let mut bytes = vec![0; length];
    // SAFETY: both are `length` bytes; that the kernel writes to the mapping meanwhile makes a byte old or new.
    unsafe { ptr::copy_nonoverlapping(start.cast::<u8>(), bytes.as_mut_ptr(), length) };
    // SAFETY: our own mapping, of which a copy was made.
    unsafe { libc::munmap(start, length) };
    bytes
}
