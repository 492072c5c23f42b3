//! A docker of our own (daemon, state and socket below the build's folder) with a number of containers, for the tool
//! that most people would reach for. All of it goes with this.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{
    Bed,
    process::{Running, Usage},
};
use crate::command::{find, output, succeeds};

const IMAGE: &str = "memtrace-bench:1";
/// The cgroup that docker makes for its containers.
const PARENT: &str = "docker";
const PATIENCE: Duration = Duration::from_secs(60);

/// The container that is looked for: the others hold less than it.
pub(super) const GROWS: &str = "bench-grows";

pub(super) struct Docker {
    dir: PathBuf,
    /// Of the container that grows.
    pub(super) id: String,
    /// Dropped in this order: it asks containerd to the end.
    daemon: Running,
    containerd: Running,
    /// The cgroup was not there before.
    parents: Vec<PathBuf>,
}

/// Why there can be none here.
pub(super) fn missing() -> Option<String> {
    let programs = ["docker", "dockerd", "containerd", "runc"];
    programs
        .iter()
        .find(|program| find(program).is_none())
        .map(|program| format!("{program} is not installed"))
}

impl Docker {
    /// A daemon, and so many containers of which one grows.
    pub(super) fn start(bed: &Bed, containers: u32) -> Result<Self> {
        let dir = bed.folder()?.join("docker");
        // Of a run that was killed.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let shown = dir.display();
        let settings = format!(
            "version = 2\nroot = '{shown}/containerd'\nstate = '{shown}/containerd-run'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri']\n[grpc]\naddress = '{shown}/containerd.sock'\n"
        );
        fs::write(dir.join("containerd.toml"), settings).context("cannot write containerd's settings")?;
        let containerd =
            daemon(Command::new("containerd").arg("--config").arg(dir.join("containerd.toml")), &dir)?;
        let mut dockerd = Command::new("dockerd");
        dockerd.args(["--iptables=false", "--bridge=none", "--userland-proxy=false", "--log-level=warn"]);
        dockerd.arg(format!("--containerd={shown}/containerd.sock"));
        dockerd.arg(format!("--data-root={shown}/data")).arg(format!("--exec-root={shown}/run"));
        dockerd.arg(format!("--pidfile={shown}/pid")).arg(format!("--host=unix://{shown}/docker.sock"));
        let parents = parents().into_iter().filter(|parent| !parent.exists()).collect();
        let daemon = daemon(&mut dockerd, &dir)?;
        let mut docker = Self { dir, id: String::new(), daemon, containerd, parents };
        docker.wait(bed)?;
        docker.import(bed)?;
        for number in 1..containers {
            bed.stop.check()?;
            docker.run(&format!("bench-{number:03}"), &["--total", "8M", "--hold", "forever"])?;
        }
        docker.id = docker.run(GROWS, &["--total", "256M", "--rate", "2M", "--again"])?;
        Ok(docker)
    }

    fn wait(&mut self, bed: &Bed) -> Result<()> {
        let (dir, daemon) = (self.dir.clone(), &mut self.daemon);
        bed.stop.wait("dockerd to answer", PATIENCE, || {
            anyhow::ensure!(!daemon.ended()?, "dockerd ended: see {}/dockerd.log", dir.display());
            Ok(succeeds(client(&dir).arg("version")).then_some(()))
        })
    }

    /// An image with nothing but the workload, which is static.
    fn import(&self, bed: &Bed) -> Result<()> {
        let root = self.dir.join("image");
        let tar = self.dir.join("image.tar");
        for folder in ["bin", "dev", "proc", "sys"] {
            fs::create_dir_all(root.join(folder)).context("cannot make an image")?;
        }
        fs::copy(&bed.workload, root.join("bin/workload"))
            .context("cannot copy the workload into an image")?;
        output(Command::new("tar").arg("--create").arg("--file").arg(&tar).arg("-C").arg(&root).arg("."))?;
        output(client(&self.dir).arg("import").arg(&tar).arg(IMAGE)).map(drop)
    }

    /// Gives the container's id.
    fn run(&self, name: &str, words: &[&str]) -> Result<String> {
        let mut run = client(&self.dir);
        run.args(["run", "--detach", "--network", "none", "--log-driver", "none", "--name", name, IMAGE]);
        let id = output(run.args(["/bin/workload", "anon"]).args(words))?;
        Ok(id.trim().to_owned())
    }

    /// `docker stats`, all containers, again and again.
    pub(super) fn stats(&self) -> Command {
        let mut stats = client(&self.dir);
        stats.args(["stats", "--format", "{{.Name}} {{.MemUsage}}"]);
        stats
    }

    /// The inode number of the memory cgroup of the container that grows.
    pub(super) fn cgroup_id(&self, bed: &Bed) -> Result<u64> {
        let dir = bed.hierarchy.mount.join(PARENT).join(&self.id);
        let cgroup = fs::metadata(&dir)
            .with_context(|| format!("no {}: is docker's cgroup driver another?", dir.display()))?;
        Ok(std::os::unix::fs::MetadataExt::ino(&cgroup))
    }

    /// What the daemons cost so far.
    pub(super) fn usage(&self) -> Result<[Usage; 2]> {
        Ok([self.daemon.usage()?, self.containerd.usage()?])
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let listed = output(client(&self.dir).args(["ps", "--all", "--quiet"])).unwrap_or_default();
        let ids: Vec<&str> = listed.split_whitespace().collect();
        if !ids.is_empty() && !succeeds(client(&self.dir).args(["rm", "--force"]).args(&ids)) {
            eprintln!("bench: cannot remove the containers of {}", self.dir.display());
        }
        self.daemon.end();
        self.containerd.end();
        for parent in &self.parents {
            // On another hierarchy it was never made.
            let _ = fs::remove_dir(parent);
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("bench: cannot remove {}: {error}", self.dir.display());
        }
    }
}

/// docker's client, talking to our daemon, with none of the user's settings.
fn client(dir: &Path) -> Command {
    let mut client = Command::new("docker");
    client.env("DOCKER_CONFIG", dir.join("client")).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
    client.arg(format!("--host=unix://{}/docker.sock", dir.display()));
    client
}

fn daemon(command: &mut Command, dir: &Path) -> Result<Running> {
    let name = command.get_program().to_string_lossy().into_owned();
    let log = fs::File::create(dir.join(format!("{name}.log"))).context("cannot make a log")?;
    let errors = log.try_clone().context("cannot copy a descriptor")?;
    // A Ctrl-C is for us: they end once their containers are gone.
    std::os::unix::process::CommandExt::process_group(command, 0);
    Running::over(command.stdin(std::process::Stdio::null()).stdout(log).stderr(errors))
}

/// Where docker's cgroup may be, in every hierarchy.
fn parents() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let folders = hierarchies.filter(|path| path.is_dir() && !path.is_symlink());
    std::iter::once(root.to_owned()).chain(folders).map(|path| path.join(PARENT)).collect()
}
