//! Advice that several kinds give.

use crate::{
    aggregator::stuck::StuckTask,
    resolve::{Container, Runtime, label, wait::Kind},
};

/// How the container is stopped: a command to be pasted, where there is a sure one.
pub(super) fn stop(container: &Container) -> Option<String> {
    if let Some(pod) = &container.pod
        && let Some(namespace) = &container.namespace
    {
        return command(&["kubectl", "-n", namespace, "delete", "pod", pod]);
    }
    let id = label::short_id(&container.id);
    match container.runtime {
        Runtime::Docker => command(&["docker", "stop", id]),
        Runtime::Podman => command(&["podman", "stop", id]),
        Runtime::CriO => command(&["crictl", "stop", id]),
        Runtime::Systemd => command(&["systemctl", "stop", container.cgroup.path.rsplit('/').next()?]),
        // `ctr` and `nerdctl` want the namespace too; a plain cgroup has nobody who stops it.
        Runtime::Containerd | Runtime::Cgroup => None,
    }
}

/// How it is seen who in the container is charged, and through what.
pub(super) fn sites(container: &Container) -> Option<String> {
    let name = container.pod.as_deref().or(container.name.as_deref());
    command(&["memtrace", "top", "-c", name.unwrap_or(label::short_id(&container.id)), "--sites"])
}

/// How more is seen of it.
pub(super) fn view(container: &Container, view: &str) -> Option<String> {
    let name = container.pod.as_deref().or(container.name.as_deref());
    command(&["memtrace", view, "-c", name.unwrap_or(label::short_id(&container.id))])
}

/// What ends the wait of a task.
pub(super) fn repair(task: &StuckTask) -> String {
    let held = task.owner.as_ref().map(|owner| format!(", which {}[{}] has", owner.comm, owner.tid));
    match task.wait {
        Kind::FrozenFileSystem => {
            "Thaw the file system (fsfreeze --unfreeze on its mount point), and look for who froze \
                                   it: a backup or snapshot that died half-way."
                .to_owned()
        }
        Kind::Server => {
            "Get the server to answer again. If it never will: a FUSE mount is given up by writing 1 to \
                         /sys/fs/fuse/connections/NUMBER/abort, an NFS mount by umount -f."
                .to_owned()
        }
        Kind::FrozenCgroup => "Thaw its cgroup: unpause the container, or end whatever froze it.".to_owned(),
        Kind::Device | Kind::Throttled => {
            "Look at the disk below it: dmesg for errors, iostat -x 1 for how busy it is.".to_owned()
        }
        Kind::Lock => format!("Look at what keeps the lock{}.", held.unwrap_or_default()),
        Kind::Memory => "Free memory where its limit is reached, or raise that limit.".to_owned(),
        Kind::Vfork | Kind::Other => "Its kernel stack tells what that is.".to_owned(),
    }
}

/// Where it sleeps, by the kernel.
pub(super) fn stack(task: &StuckTask) -> String {
    format!("$ cat /proc/{}/task/{}/stack", task.pid, task.tid)
}

/// Words that a shell takes as they are; names are whatever somebody chose, so any other makes no command.
fn command(words: &[&str]) -> Option<String> {
    let plain = |word: &str| {
        !word.is_empty()
            && !word.starts_with('-')
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:@".contains(&byte))
    };
    // The options among the words are our own.
    const OPTIONS: [&str; 3] = ["-n", "-c", "--sites"];
    words.iter().all(|word| plain(word) || OPTIONS.contains(word)).then(|| format!("$ {}", words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::example::container;

    #[test]
    fn only_names_that_a_shell_takes_as_they_are_make_a_command() {
        assert_eq!(
            stop(&container("shop", "web-7", "app")).as_deref(),
            Some("$ kubectl -n shop delete pod web-7")
        );
        for pod in ["$(reboot)", "a b", "--all", "a;b", "a'b", "\u{202e}x", ""] {
            assert_eq!(stop(&container("shop", pod, "app")), None, "{pod:?}");
        }
        let docker = Container { runtime: Runtime::Docker, pod: None, ..container("", "", "web") };
        let command = stop(&docker).unwrap();
        assert_eq!(command, format!("$ docker stop {}", &docker.id[..12]));
    }
}
