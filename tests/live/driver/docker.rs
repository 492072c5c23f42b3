//! A docker of our own: its daemons, directories and socket are this run's, so that the machine's docker, if there is
//! one, is neither asked nor disturbed. Started with the first container, ended by the guard.

use std::{
    fs,
    os::unix::{fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
};

use super::{
    cgroup::{Cgroup, hierarchy},
    container::{Container, SCRATCH, Wanted},
    guard, output, scratch, wait_for, workload,
};

pub const IMAGE: &str = "mtlive:1";
/// docker's own parent of all containers, with the cgroupfs driver.
pub const PARENT: &str = "/docker";

pub struct Docker {
    dir: PathBuf,
    // Waited for by nobody: the guard ends them when this process ends.
    _daemons: [Child; 2],
}

pub fn docker() -> &'static Docker {
    static DOCKER: OnceLock<Docker> = OnceLock::new();
    DOCKER.get_or_init(Docker::start)
}

/// Starts a container; the name is made unique to this run.
pub fn run(wanted: &Wanted<'_>) -> Container {
    let docker = docker();
    let name = format!("{}-{}", wanted.name, std::process::id());
    let id_file = scratch::dir("cid").join("id");
    let mut command = docker.command();
    command.args(["run", "--rm", "--network", "none", "--log-driver", "none", "--name", &name]);
    command.arg("--tmpfs").arg(format!("{SCRATCH}:size=512m")).arg("--cidfile").arg(&id_file);
    for (from, to) in wanted.binds {
        command.arg("--volume").arg(format!("{}:{to}", from.display()));
    }
    for label in wanted.labels {
        command.args(["--label", label]);
    }
    command.args([IMAGE, "/bin/workload"]).args(wanted.words);
    let mut client = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A Ctrl-C ends the tests, not the container behind their back.
        .process_group(0)
        .spawn()
        .expect("docker's client can be started");
    let said = output::lines(client.stdout.take().expect("its output is a pipe"));
    let id = wait_for("docker to make a container", || {
        let ended = client.try_wait().expect("it is our child");
        let id = fs::read_to_string(&id_file).ok().filter(|id| id.len() == 64);
        assert!(id.is_some() || ended.is_none(), "docker run failed; see above");
        id
    });
    let cgroup = Cgroup { path: format!("{PARENT}/{id}") };
    wait_for("docker to start a container", || {
        (cgroup.dir().exists() || client.try_wait().expect("it is our child").is_some()).then_some(())
    });
    let remove_id = id.clone();
    Container {
        runtime: "docker",
        id,
        name: Some(name),
        image: Some(IMAGE.to_owned()),
        cgroup,
        client,
        said,
        remove: Box::new(move || {
            let _ = docker.command().args(["rm", "--force", &remove_id]).output();
        }),
    }
}

impl Docker {
    fn start() -> Docker {
        let dir = scratch::dir("docker");
        let parent = hierarchy().mount.join(PARENT.trim_start_matches('/'));
        if !parent.exists() {
            guard::at_end("rmdir /sys/fs/cgroup/docker /sys/fs/cgroup/*/docker 2>/dev/null");
        }
        let shown = dir.display();
        let containerd = format!(
            "version = 2\nroot = '{shown}/containerd'\nstate = '{shown}/containerd-run'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri']\n[grpc]\naddress = '{shown}/containerd.sock'\n"
        );
        fs::write(dir.join("containerd.toml"), containerd).expect("the run's directory can be written");
        let mut first = Command::new("containerd");
        first.arg("--config").arg(dir.join("containerd.toml"));
        let first = daemon(first, &dir, "containerd");
        let mut second = Command::new("dockerd");
        second.args(["--iptables=false", "--bridge=none", "--userland-proxy=false", "--log-level=warn"]);
        second.arg(format!("--containerd={shown}/containerd.sock"));
        second.arg(format!("--data-root={shown}/data")).arg(format!("--exec-root={shown}/run"));
        second
            .arg(format!("--pidfile={shown}/dockerd.pid"))
            .arg(format!("--host=unix://{shown}/docker.sock"));
        let mut docker = Docker { _daemons: [first, daemon(second, &dir, "dockerd")], dir };
        wait_for("dockerd to answer", || {
            for daemon in &mut docker._daemons {
                if let Some(status) = daemon.try_wait().expect("it is our child") {
                    panic!(
                        "{status}: {}",
                        fs::read_to_string(docker.dir.join("dockerd.log")).unwrap_or_default()
                    );
                }
            }
            output::of(docker.command().arg("version")).status.success().then_some(())
        });
        docker.import();
        docker
    }

    /// An image with a static busybox and the workload, which needs nothing else.
    fn import(&self) {
        let root = scratch::dir("image");
        for dir in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(root.join(dir)).expect("the run's directory can be written");
        }
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
        let busybox = busybox.expect("busybox is there; `cargo xtask setup --for test` installs it");
        fs::copy(busybox, root.join("bin/busybox")).expect("it can be copied");
        fs::copy(workload::binary(), root.join("bin/workload")).expect("it can be copied");
        symlink("busybox", root.join("bin/sh")).expect("a link can be made");
        let tar = scratch::dir("image").join("image.tar");
        let mut pack = Command::new("tar");
        let packed = output::of(pack.arg("--create").arg("--file").arg(&tar).arg("-C").arg(&root).arg("."));
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        self.ask(&["import", &tar.to_string_lossy(), IMAGE]);
    }

    /// docker's client, talking to our daemon, with none of the user's settings.
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command
            .env("DOCKER_CONFIG", self.dir.join("client"))
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT");
        command.arg(format!("--host=unix://{}/docker.sock", self.dir.display()));
        command
    }

    pub fn ask(&self, words: &[&str]) -> Output {
        let output = output::of(self.command().args(words));
        assert!(output.status.success(), "docker {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Where docker keeps what it knows of a container.
    pub fn records(&self, id: &str) -> PathBuf {
        self.dir.join("data/containers").join(id)
    }
}

fn daemon(mut command: Command, dir: &Path, name: &str) -> Child {
    let log = fs::File::create(dir.join(format!("{name}.log"))).expect("the run's directory can be written");
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a descriptor is left"))
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{name} cannot be started ({error}); `cargo xtask setup --for test` installs it")
        });
    guard::at_end(&format!("end {} {}", child.id(), dir.display()));
    child
}
