//! A file system of an NFS server on this machine, which can be made to answer nothing. Both end with the value.

use std::{
    ffi::CString,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;

use super::{cgroup::Made, daemon::Daemon, guard, scratch, wait_for, workload::Workload};

/// What the kernel says of where it is from.
pub const SOURCE: &str = "127.0.0.1:/";

/// Where a guest has the root of a server of NFSv4.
const SERVER_V4: &str = "/nfs-server";

enum Server {
    /// Of version 3, our own.
    V3(Workload),
    /// nfs-ganesha.
    V4(Daemon),
}

pub struct Nfs {
    pub mount: PathBuf,
    server: Server,
    _cgroup: Made,
}

impl Nfs {
    /// Of version 3, with files of these names; or why there is none.
    pub fn v3(files: &[&str]) -> Result<Nfs, String> {
        let cgroup = Made::top("nfs-server");
        // Ends with us, however we end.
        let server = Workload::start(&cgroup, &[&["nfs"], files].concat());
        let told: Value = serde_json::from_str(&server.next_line()).expect("it says so as JSON");
        let port = told["port"].as_u64().expect("it says at which");
        let options =
            format!("vers=3,mountproto=tcp,addr=127.0.0.1,port={port},mountport={port},nolock,noacl");
        let point = scratch::dir("nfs");
        mount_at(&point, "nfs", &options)?;
        Ok(Nfs { mount: point, server: Server::V3(server), _cgroup: cgroup })
    }

    /// Of version 4.2, as it is mounted where nothing else is asked for.
    pub fn v4(files: &[&str]) -> Result<Nfs, String> {
        let root = Path::new(SERVER_V4);
        if !root.exists() {
            return Err(
                "there is no server of version 4 here: it is brought along into guests only".to_owned()
            );
        }
        let cgroup = Made::top("nfs-server");
        let log = scratch::dir("nfs-log");
        let mut server = Command::new("/bin/busybox");
        // The guard knows the server by the directory in its command line.
        let line = format!(
            "cd {SERVER_V4} && echo $$ > {cgroup}/cgroup.procs && mkdir -p .{log} && mount -t proc proc proc && \
             mount -o bind /dev dev && exec env LD_LIBRARY_PATH=/usr/lib/ganesha chroot . /usr/bin/ganesha.nfsd -F \
             -f /etc/ganesha.conf -p {log}/pid -L STDERR",
            cgroup = cgroup.dir().display(),
            log = log.display()
        );
        server.args(["sh", "-c", &line]);
        guard::at_end(&format!("umount -l {SERVER_V4}/proc; umount -l {SERVER_V4}/dev"));
        let mut server = Daemon::start(server, &log, "nfs-ganesha");
        let options = "vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1,port=2049";
        wait_for("nfs-ganesha to listen", || {
            server.lives();
            TcpStream::connect(("127.0.0.1", 2049)).ok()
        });
        let point = scratch::dir("nfs");
        mount_at(&point, "nfs4", options)?;
        for file in files {
            fs::write(point.join(file), vec![b'x'; 8192]).expect("the server takes files");
        }
        // What is known of them is forgotten with the mount.
        unmounted(&point);
        mount_at(&point, "nfs4", options)?;
        Ok(Nfs { mount: point, server: Server::V4(server), _cgroup: cgroup })
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
        let pid = match &self.server {
            Server::V3(server) => server.pid(),
            Server::V4(server) => server.pid(),
        };
        let pid = Pid::from_raw(pid as i32).expect("it has a number");
        kill_process(pid, signal).expect("it is our child, not yet waited for");
    }
}

fn mount_at(point: &Path, kind: &str, options: &str) -> Result<(), String> {
    guard::at_end(&format!("umount -f -l {} 2>/dev/null", point.display()));
    // What is known of a file is believed for long: who reads one waits for its data, not for its age. A minute passes
    // until a request is sent again.
    let options = format!("{options},proto=tcp,hard,timeo=600,actimeo=3600");
    let options = CString::new(options).expect("no NUL");
    match mount(SOURCE, point, kind, MountFlags::empty(), options.as_c_str()) {
        Ok(()) => {}
        Err(Errno::NODEV) => return Err(format!("this kernel has no {kind}")),
        Err(Errno::PROTONOSUPPORT) => return Err(format!("this kernel has no such version of {kind}")),
        Err(error) => panic!("NFS cannot be mounted: {error}"),
    }
    // Nor is it asked any more who may look into the directory.
    assert!(!point.join("none").exists());
    Ok(())
}

fn unmounted(point: &Path) {
    wait_for("the files of NFS to be let go", || unmount(point, UnmountFlags::empty()).ok());
}

impl Drop for Nfs {
    fn drop(&mut self) {
        self.resume();
        unmounted(&self.mount);
    }
}
