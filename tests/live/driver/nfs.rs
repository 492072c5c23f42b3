//! A file system of an NFS server on this machine, which can be made to answer nothing. Both end with the value.

use std::{ffi::CString, path::PathBuf};

use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;

use super::{cgroup::Made, guard, scratch, wait_for, workload::Workload};

/// What the kernel says of where it is from.
pub const SOURCE: &str = "127.0.0.1:/";

pub struct Nfs {
    pub mount: PathBuf,
    server: Workload,
    _cgroup: Made,
}

impl Nfs {
    /// With files of these names; or why there is none.
    pub fn mount(files: &[&str]) -> Result<Nfs, String> {
        let cgroup = Made::top("nfs-server");
        // Ends with us, however we end.
        let server = Workload::start(&cgroup, &[&["nfs"], files].concat());
        let told: Value = serde_json::from_str(&server.next_line()).expect("it says so as JSON");
        let port = told["port"].as_u64().expect("it says at which");
        let point = scratch::dir("nfs");
        guard::at_end(&format!("umount -f -l {} 2>/dev/null", point.display()));
        // What is known of a file is believed for long: who reads one waits for its data, not for its age. A minute passes
        // until a request is sent again.
        let options = format!(
            "vers=3,proto=tcp,mountproto=tcp,addr=127.0.0.1,port={port},mountport={port},nolock,noacl,hard,timeo=600,actimeo=3600"
        );
        let options = CString::new(options).expect("no NUL");
        match mount(SOURCE, &point, "nfs", MountFlags::empty(), options.as_c_str()) {
            Ok(()) => {}
            Err(Errno::NODEV) => return Err("this kernel has no nfs".to_owned()),
            Err(Errno::PROTONOSUPPORT) => return Err("this kernel has no version 3 of nfs".to_owned()),
            Err(error) => panic!("NFS cannot be mounted: {error}"),
        }
        // Nor is it asked any more who may look into the directory.
        assert!(!point.join("none").exists());
        Ok(Nfs { mount: point, server, _cgroup: cgroup })
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.mount.join(name)
    }

    /// From now on whoever asks it sleeps.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// And gets what was asked for.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.server.pid() as i32).expect("it has a number");
        kill_process(pid, signal).expect("it is our child, not yet waited for");
    }
}

impl Drop for Nfs {
    fn drop(&mut self) {
        self.resume();
        wait_for("the files of NFS to be let go", || unmount(&self.mount, UnmountFlags::empty()).ok());
    }
}
