//! An array map of the kernel's, read where it lies: no system call for each entry of each CPU.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::NonNull,
};

use aya::{
    Ebpf, Pod,
    maps::{Map, MapData, MapError},
};

/// Entries of a map that was made with `BPF_F_MMAPABLE`. The kernel's programs go on changing them.
pub struct Mapped<T: Pod> {
    at: NonNull<T>,
    bytes: usize,
    entries: usize,
    /// Its descriptor stays open: by that is told what the maps take.
    _map: MapData,
    _of: PhantomData<T>,
}

// SAFETY: the memory is the map's, which any thread may read and write.
unsafe impl<T: Pod + Send> Send for Mapped<T> {}

impl<T: Pod> Mapped<T> {
    pub fn take(ebpf: &mut Ebpf, name: &str) -> Result<Mapped<T>, MapError> {
        let Some(Map::Array(map)) = ebpf.take_map(name) else {
            return Err(MapError::InvalidName { name: name.to_owned() });
        };
        let info = map.info()?;
        let entries = info.max_entries() as usize;
        if info.value_size() as usize != size_of::<T>() || !size_of::<T>().is_multiple_of(8) {
            return Err(MapError::InvalidValueSize {
                size: size_of::<T>(),
                expected: info.value_size() as usize,
            });
        }
        // The kernel rounds the whole up to pages.
        let bytes = (entries * size_of::<T>()).next_multiple_of(rustix::param::page_size());
        let (access, fd) = (libc::PROT_READ | libc::PROT_WRITE, map.fd().as_fd().as_raw_fd());
        // SAFETY: a new mapping of a map's memory, at a place that the kernel chooses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_SHARED, fd, 0) };
        match NonNull::new(at.cast::<T>()).filter(|_| at != libc::MAP_FAILED) {
            Some(at) => Ok(Mapped { at, bytes, entries, _map: map, _of: PhantomData }),
            None => Err(MapError::IoError(io::Error::last_os_error())),
        }
    }

    pub fn len(&self) -> usize {
        self.entries
    }

    /// Where an entry is; only volatile access, since programs change it.
    pub fn entry(&self, at: usize) -> Option<*mut T> {
        // SAFETY: within the mapping.
        (at < self.entries).then(|| unsafe { self.at.as_ptr().add(at) })
    }

    pub fn get(&self, at: usize) -> Option<T> {
        // SAFETY: within the mapping, aligned to a word, valid for any bit pattern.
        self.entry(at).map(|entry| unsafe { entry.read_volatile() })
    }

    pub fn set(&mut self, at: usize, value: T) {
        if let Some(entry) = self.entry(at) {
            // SAFETY: as above.
            unsafe { entry.write_volatile(value) }
        }
    }
}

impl<T: Pod> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `take` made; nothing refers to it any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.bytes) };
    }
}
