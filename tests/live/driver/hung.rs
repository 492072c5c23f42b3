//! A file system on which tasks hang for as long as the test wants.

use std::{path::Path, process::Command};

use super::{guard, image::ran, loops::Loop, output};

/// An ext4 on a loop device. Thawed with the value, and by the guard.
pub struct Frozen {
    disk: Loop,
}

impl Frozen {
    pub fn new() -> Result<Frozen, String> {
        let disk = Loop::mount("ext4", 16)?;
        // Before it is unmounted: undone is in reverse.
        guard::at_end(&format!("fsfreeze --unfreeze {} 2>/dev/null", disk.mount.display()));
        Ok(Frozen { disk })
    }

    pub fn mount(&self) -> &Path {
        &self.disk.mount
    }

    /// From now on whoever writes sleeps.
    pub fn freeze(&self) {
        ran(Command::new("fsfreeze").arg("--freeze").arg(&self.disk.mount));
    }

    /// One that is not frozen is left as it is.
    pub fn thaw(&self) {
        let _ = output::of(Command::new("fsfreeze").arg("--unfreeze").arg(&self.disk.mount));
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.thaw();
    }
}
