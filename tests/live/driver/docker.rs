//! A docker of our own: its daemons, directories and socket are this run's, so that the machine's docker, if there is
//! one, is neither asked nor disturbed. One serves most tests, started with the first container; a test that hurts its
//! daemons starts another.

use std::{
    env, fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
};

use super::{
    cgroup::{Cgroup, hierarchy},
    container::{Container, SCRATCH, Wanted},
    daemon::Daemon,
    guard,
    image::{self, IMAGE, ran},
    known::Known,
    output, scratch, wait_for,
};

/// docker's own parent of all containers, with the cgroupfs driver.
pub const PARENT: &str = "/docker";

pub struct Docker {
    client: Client,
    pub dockerd: Daemon,
    pub containerd: Daemon,
}

/// docker's client, talking to our daemon, with none of the user's settings.
#[derive(Clone)]
pub struct Client {
    dir: PathBuf,
}

pub fn docker() -> &'static Docker {
    static DOCKER: OnceLock<Docker> = OnceLock::new();
    DOCKER.get_or_init(|| Docker::start("docker", Binaries::default()))
}

/// Starts a container; the name is made unique to this run.
pub fn run(wanted: &Wanted<'_>) -> Container {
    docker().run(wanted, &[])
}

/// The programs of a docker.
pub struct Binaries {
    dockerd: PathBuf,
    containerd: PathBuf,
    /// A name of its own, and where the program is.
    runc: Option<(&'static str, PathBuf)>,
    /// Where containerd looks for its shim first.
    shims: Option<PathBuf>,
}

impl Default for Binaries {
    fn default() -> Binaries {
        Binaries { dockerd: "dockerd".into(), containerd: "containerd".into(), runc: None, shims: None }
    }
}

impl Binaries {
    /// Copies under names that nobody knows. containerd finds its shim by a name that it makes from the runtime's, so
    /// that name stays, for a script; the shim that stays with the container is the program behind it.
    pub fn renamed() -> Binaries {
        let dir = scratch::dir("renamed");
        let copy = |program: &str, name: &str| {
            let found = ran(Command::new("sh").args(["-c", &format!("command -v {program}")]));
            let copy = dir.join(name);
            fs::copy(found.trim(), &copy).expect("the run's directory can be written");
            copy
        };
        let shim = copy("containerd-shim-runc-v2", "tug");
        let script = dir.join("containerd-shim-runc-v2");
        fs::write(&script, format!("#!/bin/sh\nexec {} \"$@\"\n", shim.display()))
            .and_then(|()| fs::set_permissions(&script, fs::Permissions::from_mode(0o755)))
            .expect("the run's directory can be written");
        Binaries {
            dockerd: copy("dockerd", "harbour"),
            containerd: copy("containerd", "crane"),
            runc: Some(("hoist", copy("runc", "hoist"))),
            shims: Some(dir.clone()),
        }
    }
}

impl Docker {
    pub fn start(name: &str, binaries: Binaries) -> Docker {
        let dir = scratch::dir(name);
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
        let mut first = Command::new(binaries.containerd);
        first.arg("--config").arg(dir.join("containerd.toml"));
        // What is left of a container when this process is killed: its shim knows the directory.
        guard::at_end(&format!("end_all {shown}"));
        // And its containers, if that was in the middle.
        guard::at_end(&format!(
            "for one in {shown}/data/containers/*; do for at in /sys/fs/cgroup{PARENT}/${{one##*/}} \
             /sys/fs/cgroup/*{PARENT}/${{one##*/}}; do drop_cgroup \"$at\"; done; done 2>/dev/null"
        ));
        if let Some(shims) = binaries.shims {
            let path = env::var("PATH").expect("there is a PATH");
            first.env("PATH", format!("{}:{path}", shims.display()));
        }
        let containerd = Daemon::start(first, &dir, "containerd");
        let mut second = Command::new(binaries.dockerd);
        second.args(["--iptables=false", "--bridge=none", "--userland-proxy=false", "--log-level=warn"]);
        second.arg(format!("--containerd={shown}/containerd.sock"));
        second.arg(format!("--data-root={shown}/data")).arg(format!("--exec-root={shown}/run"));
        second
            .arg(format!("--pidfile={shown}/dockerd.pid"))
            .arg(format!("--host=unix://{shown}/docker.sock"));
        if let Some((name, path)) = binaries.runc {
            second.arg(format!("--add-runtime={name}={}", path.display()));
            second.arg(format!("--default-runtime={name}"));
        }
        let dockerd = Daemon::start(second, &dir, "dockerd");
        let mut docker = Docker { client: Client { dir }, dockerd, containerd };
        let client = docker.client.clone();
        docker.dockerd.answers(|| {
            let mut ask = client.command();
            ask.arg("version");
            ask
        });
        docker.client.ask(&["import", &image::tar().to_string_lossy(), IMAGE]);
        docker
    }

    /// Starts a container; the name is made unique to this run. `more`: options for docker.
    pub fn run(&self, wanted: &Wanted<'_>, more: &[&str]) -> Container {
        let name = format!("{}-{}", wanted.name, std::process::id());
        let id_file = scratch::dir("cid").join("id");
        let mut command = self.client.command();
        command.args(["run", "--network", "none", "--log-driver", "none", "--name", &name]);
        // Who is started again is not removed at the end.
        command.args((!more.contains(&"--restart")).then_some("--rm"));
        command.arg("--tmpfs").arg(format!("{SCRATCH}:size=512m")).arg("--cidfile").arg(&id_file);
        for (from, to) in wanted.binds {
            command.arg("--volume").arg(format!("{}:{to}", from.display()));
        }
        if let Some(memory) = wanted.memory {
            command.arg("--memory").arg(memory.to_string());
        }
        if let Some(cpus) = wanted.cpus {
            command.arg("--cpus").arg(cpus.to_string());
        }
        for label in wanted.labels {
            command.args(["--label", label]);
        }
        command.args(more).arg(IMAGE).args(wanted.line());
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
        let parent = more.windows(2).find(|two| two[0] == "--cgroup-parent").map_or(PARENT, |two| two[1]);
        let cgroup = Cgroup { path: format!("{parent}/{id}") };
        wait_for("docker to start a container", || {
            (cgroup.dir().exists() || client.try_wait().expect("it is our child").is_some()).then_some(())
        });
        let (asked, remove_id) = (self.client.clone(), id.clone());
        Container {
            known: Known {
                name: Some(name),
                image: Some(IMAGE.to_owned()),
                ..Known::new("docker", &id, &cgroup.path)
            },
            client,
            said,
            remove: Box::new(move || {
                let _ = output::of(asked.command().args(["rm", "--force", &remove_id]));
            }),
        }
    }

    /// The workload once more, in a session of its own in a running container.
    pub fn exec(&self, container: &Known, words: &[&str]) -> Session {
        let mut command = self.client.command();
        command.args(["exec", &container.id, "/bin/workload"]).args(words);
        let mut client = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("docker's client can be started");
        output::drained(client.stdout.take().expect("its output is a pipe"));
        Session(client)
    }

    pub fn ask(&self, words: &[&str]) -> Output {
        self.client.ask(words)
    }

    /// Its client, for commands that are not waited for.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Its data root.
    pub fn data(&self) -> PathBuf {
        self.client.dir.join("data")
    }

    /// Where docker keeps what it knows of a container.
    pub fn records(&self, id: &str) -> PathBuf {
        self.data().join("containers").join(id)
    }
}

/// The client of a session; its process ends with the container.
pub struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Client {
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command
            .env("DOCKER_CONFIG", self.dir.join("client"))
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT");
        command.arg(format!("--host=unix://{}/docker.sock", self.dir.display()));
        command
    }

    fn ask(&self, words: &[&str]) -> Output {
        let output = output::of(self.command().args(words));
        assert!(output.status.success(), "docker {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }
}
