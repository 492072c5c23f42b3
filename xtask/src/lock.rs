//! One `cargo xtask` at a time, for what is shared by all of a checkout.

use std::{
    fs::{File, TryLockError, create_dir_all},
    path::Path,
};

use anyhow::{Context, Result};

/// Waits until nobody else has it; it is let go when the file is dropped, or its process is gone.
pub(crate) fn take(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let lock = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let cannot = || format!("cannot lock {}", path.display());
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("waiting for another `cargo xtask`, which holds {}", path.display());
            lock.lock().with_context(cannot)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
    }
    Ok(lock)
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
        drop(first);
        let came = second.join().expect("it does not panic");
        fs::remove_dir_all(&dir).expect("it can be removed");
        assert!(waits, "the first still had it");
        came.expect("it is free");
    }
}
