//! One at a time, for what is shared by all of a checkout.

use std::{
    fs::{File, TryLockError, create_dir_all},
    path::Path,
};

use anyhow::{Context, Result};

/// Waits until nobody else has it; it is let go when the file is dropped, or its process is gone.
pub(crate) fn take(path: &Path) -> Result<File> {
    let lock = open(path)?;
    if !free(&lock, path)? {
        // Another `cargo xtask`, or a part of this one that runs beside.
        eprintln!("waiting until {} is let go", path.display());
        lock.lock().with_context(|| cannot_lock(path))?;
    }
    Ok(lock)
}

/// The same without waiting; `None`: somebody has it.
pub(crate) fn try_take(path: &Path) -> Result<Option<File>> {
    let lock = open(path)?;
    Ok(free(&lock, path)?.then_some(lock))
}

fn open(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    File::create(path).with_context(|| format!("cannot make {}", path.display()))
}

fn free(lock: &File, path: &Path) -> Result<bool> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| cannot_lock(path)),
    }
}

fn cannot_lock(path: &Path) -> String {
    format!("cannot lock {}", path.display())
}

#[cfg(test)]
mod tests {
    use std::{fs, thread, time::Duration};

    use super::*;

    #[test]
    fn the_second_comes_after_the_first() {
        let dir = std::env::temp_dir().join(format!("memtrace-take-{}", std::process::id()));
        let path = dir.join("lock");
        let first = take(&path).expect("nobody has it");
        let second = thread::spawn({
            let path = path.clone();
            move || take(&path).map(drop)
        });
        thread::sleep(Duration::from_millis(50));
        let waits = !second.is_finished();
        let refused = try_take(&path).map(|lock| lock.is_none());
        drop(first);
        let came = second.join().expect("it does not panic");
        fs::remove_dir_all(&dir).expect("it can be removed");
        assert!(waits, "the first still had it");
        assert!(refused.expect("it can be looked at"), "the first still had it");
        came.expect("it is free");
    }
}
