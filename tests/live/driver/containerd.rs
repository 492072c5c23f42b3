//! A containerd of our own, with its CRI plugin, and its client `ctr`.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock, mpsc::Receiver},
};

use super::{
    cgroup::{Hierarchy, hierarchy},
    daemon::Daemon,
    guard,
    image::{self, ran},
    in_vm,
    known::Known,
    output, scratch, wait_for, workload,
};

/// As containerd calls it.
pub const IMAGE: &str = "docker.io/library/mtlive:1";

pub struct Containerd {
    pub dir: PathBuf,
    program: PathBuf,
    daemon: Mutex<Daemon>,
    /// Namespaces that have the image.
    imported: Mutex<HashSet<String>>,
}

/// Why none can be started, where none can: a guest has what the machine had that made it.
pub fn missing() -> Option<&'static str> {
    let there = ["containerd", "ctr", "curl"].iter().all(|name| Path::new("/bin").join(name).exists());
    (in_vm() && !there).then_some("the emulated machine has no containerd")
}

pub fn containerd() -> &'static Containerd {
    static CONTAINERD: OnceLock<Containerd> = OnceLock::new();
    CONTAINERD.get_or_init(|| Containerd::start("containerd"))
}

/// What one containerd may have that another has not.
pub struct Settings {
    pub program: PathBuf,
    /// Its data root, below its directory.
    pub root: &'static str,
    /// `max_container_log_line_size`, where it is not the default.
    pub log_line: Option<i64>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { program: "containerd".into(), root: "root", log_line: None }
    }
}

impl Containerd {
    pub fn start(name: &str) -> Containerd {
        Containerd::start_with(name, Settings::default())
    }

    pub fn start_with(name: &str, settings: Settings) -> Containerd {
        let dir = scratch::dir(name);
        fs::write(dir.join("config.toml"), config(&dir, &settings))
            .expect("the run's directory can be written");
        guard::at_end(&format!("end_all {}", dir.display()));
        let program = settings.program;
        let daemon = Mutex::new(daemon(&program, &dir));
        let containerd = Containerd { daemon, program, dir, imported: Mutex::default() };
        containerd.import("k8s.io");
        containerd
    }

    /// Once into each namespace that something runs in: a guest takes half a minute for it.
    fn import(&self, namespace: &str) {
        let mut there = self.imported.lock().expect("no holder of this lock panics");
        if there.insert(namespace.to_owned()) {
            let image = image::archive().to_string_lossy();
            ran(&mut ctr(&self.dir, namespace, &["images", "import", "--snapshotter", "overlayfs", &image]));
        }
    }

    pub fn pid(&self) -> u32 {
        self.daemon.lock().expect("no holder of this lock panics").pid()
    }

    /// At once; its shims and their containers stay.
    pub fn kill(&self) {
        self.daemon.lock().expect("no holder of this lock panics").kill();
    }

    /// After it was killed: the same again.
    pub fn restart(&self) {
        *self.daemon.lock().expect("no holder of this lock panics") = daemon(&self.program, &self.dir);
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    /// Where it keeps the bundles of a namespace.
    pub fn bundles(&self, namespace: &str) -> PathBuf {
        self.dir.join("state/io.containerd.runtime.v2.task").join(namespace)
    }

    /// `ctr run` of a workload in a namespace; `more` are options for it.
    pub fn run(&self, namespace: &str, id: &str, words: &[&str], more: &[&str]) -> Started {
        self.import(namespace);
        let mut command = ctr(&self.dir, namespace, &["run", "--rm"]);
        command.args(more).args([IMAGE, id, "/bin/workload"]).args(words);
        let mut client = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("containerd's client can be started");
        let said = output::lines(client.stdout.take().expect("its output is a pipe"));
        let path = format!("/{namespace}/{id}");
        guard::at_end(&forget(&path));
        let known = Known { name: Some(id.to_owned()), ..Known::new("containerd", id, &path) };
        wait_for("ctr to start a container", || {
            let ended = client.try_wait().expect("it is our child");
            assert!(ended.is_none() || known.cgroup.dir().exists(), "ctr run failed; see above");
            known.cgroup.dir().exists().then_some(())
        });
        Started { known, client, said, ctr: (self.dir.clone(), namespace.to_owned()) }
    }
}

/// A namespace that no table knows.
pub const NAMESPACE: &str = "mtlive-team";

/// A container of `ctr run`; ends with the value.
pub struct Started {
    pub known: Known,
    client: Child,
    said: Receiver<String>,
    ctr: (PathBuf, String),
}

impl Started {
    /// Waits until its work is done, and gives what it did in bytes.
    pub fn done(&self) -> u64 {
        workload::done(&self.said)
    }

    /// `ctr` itself, which reads what the container says.
    pub fn client(&self) -> u32 {
        self.client.id()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let (dir, namespace) = &self.ctr;
        let _ = output::of(&mut ctr(dir, namespace, &["task", "kill", "--signal", "KILL", &self.known.id]));
        for _ in 0..100 {
            if !matches!(self.client.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// A line for the guard: these cgroups go, in every hierarchy, with what is in them; and the parents that were made
/// for them, if nothing else is there.
pub fn forget(path: &str) -> String {
    let mut line = String::new();
    let mounts = match hierarchy() {
        Hierarchy { mount, v2: true } => mount.display().to_string(),
        _ => "/sys/fs/cgroup/*".to_owned(),
    };
    line += &format!("for at in {mounts}{path}; do drop_cgroup \"$at\"; done 2>/dev/null; ");
    let mut above = Path::new(path).parent();
    while let Some(parent) = above.filter(|parent| *parent != Path::new("/")) {
        line += &format!("rmdir {mounts}{} 2>/dev/null; ", parent.display());
        above = parent.parent();
    }
    line
}

fn daemon(program: &Path, dir: &Path) -> Daemon {
    let mut command = Command::new(program);
    command.arg("--config").arg(dir.join("config.toml"));
    let mut daemon = Daemon::start(command, dir, "containerd");
    daemon.answers(|| ctr(dir, "k8s.io", &["version"]));
    daemon
}

fn ctr(dir: &Path, namespace: &str, words: &[&str]) -> Command {
    let mut command = Command::new("ctr");
    command.arg("--address").arg(dir.join("containerd.sock")).args(["--namespace", namespace]).args(words);
    command
}

/// A guest has no runc, and a root that cannot be pivoted away from.
const CRUN: &str = "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n\
    [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]\nBinaryName = 'crun'\nNoPivotRoot = true\n";

/// The network's plugins are not there, so pods have the host's; their configuration is looked for in vain.
fn config(dir: &Path, settings: &Settings) -> String {
    let dir = dir.display();
    let root = settings.root;
    let log_line =
        settings.log_line.map_or(String::new(), |size| format!("max_container_log_line_size = {size}\n"));
    let runtime = if in_vm() { CRUN } else { "" };
    format!(
        "version = 2\nroot = '{dir}/{root}'\nstate = '{dir}/state'\n\
         [grpc]\naddress = '{dir}/containerd.sock'\n\
         [plugins.'io.containerd.grpc.v1.cri']\n\
         disable_tcp_service = true\nrestrict_oom_score_adj = true\nsandbox_image = '{IMAGE}'\n\
         stream_server_port = '0'\n{log_line}\
         {runtime}\
         [plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '{dir}/cni'\nconf_dir = '{dir}/cni'\n\
         [plugins.'io.containerd.internal.v1.opt']\npath = '{dir}/opt'\n"
    )
}
