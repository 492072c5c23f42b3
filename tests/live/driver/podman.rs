//! podman as root, with conmon and runc, with directories and settings of our own. It has no daemon.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use super::{
    cgroup::Cgroup,
    container::{Container, Wanted},
    containerd::forget,
    guard,
    image::{self, IMAGE},
    known::Known,
    output, scratch, wait_for,
};

const PARENT: &str = "/libpod_parent";
/// runc, because older releases of crun refuse a hybrid of both cgroup versions; the limits, because podman asks for
/// more than it has where root is confined.
const SETTINGS: &str = "[containers]\nlog_driver = 'none'\ndefault_ulimits = ['nofile=1024:1024', 'nproc=1024:1024']\n\
    [engine]\nruntime = 'runc'\ncgroup_manager = 'cgroupfs'\nevents_logger = 'none'\n";

#[derive(Clone)]
pub struct Podman {
    dir: PathBuf,
}

pub fn podman() -> &'static Podman {
    static PODMAN: OnceLock<Podman> = OnceLock::new();
    PODMAN.get_or_init(|| {
        let dir = scratch::dir("podman");
        fs::write(dir.join("containers.conf"), SETTINGS).expect("the run's directory can be written");
        guard::at_end(&forget(&format!("{PARENT}/conmon")));
        guard::at_end(&format!("end_all {}", dir.display()));
        let podman = Podman { dir };
        podman.ask(&["import", &image::tar().to_string_lossy(), IMAGE]);
        podman
    })
}

impl Podman {
    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.dir.join("containers.conf")).env_remove("CONTAINER_HOST");
        for option in ["root", "runroot", "tmpdir"] {
            command.arg(format!("--{option}={}/{option}", self.dir.display()));
        }
        command.arg("--storage-driver=overlay");
        command
    }

    pub fn ask(&self, words: &[&str]) -> Output {
        let output = output::of(self.command().args(words));
        assert!(output.status.success(), "podman {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Starts a container, in a pod or alone; the name is made unique to this run.
    pub fn run(&self, wanted: &Wanted<'_>, pod: Option<&Pod>) -> Container {
        let name = format!("{}-{}", wanted.name, std::process::id());
        let id_file = scratch::dir("cid").join("id");
        let mut command = self.command();
        command.args(["run", "--rm", "--name", &name]).arg("--cidfile").arg(&id_file);
        match pod {
            Some(pod) => command.args(["--pod", &pod.own.id]),
            None => command.args(["--network", "none"]),
        };
        command.arg(IMAGE).args(wanted.line());
        let mut client = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // A Ctrl-C ends the tests, not the container behind their back.
            .process_group(0)
            .spawn()
            .expect("podman can be started");
        let said = output::lines(client.stdout.take().expect("its output is a pipe"));
        let id = wait_for("podman to make a container", || {
            let ended = client.try_wait().expect("it is our child");
            let id = fs::read_to_string(&id_file).ok().filter(|id| id.len() == 64);
            assert!(id.is_some() || ended.is_none(), "podman run failed; see above");
            id
        });
        let parent = pod.map_or(PARENT, |pod| &pod.own.cgroup.path);
        let path = format!("{parent}/libpod-{id}");
        guard::at_end(&forget(&path));
        let cgroup = Cgroup { path: path.clone() };
        wait_for("podman to start a container", || {
            (cgroup.dir().exists() || client.try_wait().expect("it is our child").is_some()).then_some(())
        });
        let (asked, remove_id) = (self.clone(), id.clone());
        Container {
            known: Known {
                name: Some(name),
                image: Some(format!("localhost/{IMAGE}")),
                ..Known::new("podman", &id, &path)
            },
            client,
            said,
            // On a busy machine podman may lose a race with itself, and leaves the container.
            remove: Box::new(move || {
                for _ in 0..5 {
                    let words = ["rm", "--force", "--ignore", "--time", "0", &remove_id];
                    if output::of(asked.command().args(words)).status.success() {
                        return;
                    }
                }
            }),
        }
    }

    /// A pod with its infra container, which is what holds its namespaces.
    pub fn pod(&self, name: &str) -> Pod {
        let name = format!("{name}-{}", std::process::id());
        let image = format!("localhost/{IMAGE}");
        let infra = ["--infra-image", &image, "--infra-command", "/bin/workload idle"];
        let words = [&["pod", "create", "--name", &name, "--network", "none"], &infra[..]].concat();
        let id = text(&self.ask(&words));
        self.ask(&["pod", "start", &id]);
        let infra = text(&self.ask(&["pod", "inspect", "--format", "{{.InfraContainerID}}", &id]));
        let path = format!("{PARENT}/{id}");
        guard::at_end(&forget(&format!("{path}/*")));
        // podman keeps its pods' names in a database, not in a file that can be read beside it.
        let own = Known::new("podman", &id, &path);
        let sandbox = Known {
            name: Some(format!("{}-infra", &id[..12])),
            image: Some(image),
            sandbox: true,
            ..Known::new("podman", &infra, &format!("{path}/libpod-{infra}"))
        };
        Pod { podman: self.clone(), own, sandbox }
    }

    /// The conmon of a container.
    pub fn conmon(&self, id: &str) -> u32 {
        let file = self.dir.join("runroot/overlay-containers").join(id).join("userdata/conmon.pid");
        let pid = fs::read_to_string(file).expect("podman wrote it");
        pid.trim().parse().expect("it is a process id")
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Ends with the value.
pub struct Pod {
    podman: Podman,
    /// The pod's own cgroup.
    pub own: Known,
    pub sandbox: Known,
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = output::of(self.podman.command().args(["pod", "rm", "--force", "--time", "0", &self.own.id]));
        // podman leaves the pod's cgroup in the hierarchies that it does not use.
        let remove = forget(&self.own.cgroup.path).replace("drop_cgroup", "rmdir");
        let _ = output::of(Command::new("sh").args(["-c", &remove]));
    }
}
