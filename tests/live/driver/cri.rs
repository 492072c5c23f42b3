//! Pods by CRI, as the kubelet asks for them. The few messages are written by hand: gRPC is a length before a
//! protobuf message, and curl speaks HTTP/2.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    containerd::{Containerd, IMAGE, forget},
    guard,
    known::Known,
    output, scratch, wait_for,
};

/// The kubelet's parent of a class's pods.
pub const GUARANTEED: &str = "/kubepods";
pub const BURSTABLE: &str = "/kubepods/burstable";
pub const BEST_EFFORT: &str = "/kubepods/besteffort";

pub struct Pod<'a> {
    containerd: &'a Containerd,
    config: Message,
    logs: PathBuf,
    /// The pod's own cgroup.
    pub own: Known,
    pub sandbox: Known,
}

/// Ends with the value.
pub struct Container<'a> {
    containerd: &'a Containerd,
    pub known: Known,
    log: PathBuf,
}

impl<'a> Pod<'a> {
    /// A pod below a class's parent, with the kubelet's cgroupfs driver.
    pub fn run(containerd: &'a Containerd, name: &str, class: &str) -> Pod<'a> {
        let uid = uid();
        let path = format!("{class}/pod{uid}");
        Pod::below(containerd, name, &uid, &path, |id| format!("{path}/{id}"))
    }

    /// A pod with a parent of the caller's choice; `cgroup` is the path that this makes of an id.
    pub fn below(
        containerd: &'a Containerd,
        name: &str,
        uid: &str,
        parent: &str,
        cgroup: impl Fn(&str) -> String,
    ) -> Pod<'a> {
        let name = format!("{name}-{}", std::process::id());
        guard::at_end(&forget(parent));
        let logs = scratch::dir("logs");
        // NODE: the host's network.
        let options = Message::default().number(1, 2);
        let metadata = Message::default().text(1, &name).text(2, uid).text(3, "shop");
        let config = Message::default().message(1, &metadata).text(3, &logs.to_string_lossy()).message(
            8,
            &Message::default().text(1, parent).message(2, &Message::default().message(1, &options)),
        );
        wait_for("containerd to know the image", || {
            let image = Message::default().text(1, IMAGE);
            let told = call(containerd, "ImageService/ImageStatus", &Message::default().message(1, &image));
            told.is_ok_and(|told| told.len() > 2).then_some(())
        });
        let request = Message::default().message(1, &config);
        let id = id(&call(containerd, "RuntimeService/RunPodSandbox", &request).expect("a pod can be made"));
        let own = Known {
            pod: Some(name.clone()),
            namespace: Some("shop".to_owned()),
            ..Known::new("cgroup", uid, parent)
        };
        let sandbox = Known {
            runtime: "containerd",
            id: id.clone(),
            sandbox: true,
            cgroup: super::cgroup::Cgroup { path: cgroup(&id) },
            ..own.clone()
        };
        Pod { containerd, config, logs, own, sandbox }
    }

    /// A container of the workload; `attempt` counts its restarts.
    pub fn start(&self, name: &str, attempt: u64, words: &[&str]) -> Container<'a> {
        let command: Vec<&str> = std::iter::once("/bin/workload").chain(words.iter().copied()).collect();
        self.start_with(name, attempt, &command, &[])
    }

    /// Of any command of the image; `binds`: what of the host it has, and where.
    pub fn start_with(
        &self,
        name: &str,
        attempt: u64,
        command: &[&str],
        binds: &[(&Path, &str)],
    ) -> Container<'a> {
        let log = format!("{name}-{attempt}.log");
        let metadata = Message::default().text(1, name).number(2, attempt);
        let mut config =
            Message::default().message(1, &metadata).message(2, &Message::default().text(1, IMAGE));
        for word in command {
            config = config.text(3, word);
        }
        for (from, to) in binds {
            config = config.message(7, &Message::default().text(1, to).text(2, &from.to_string_lossy()));
        }
        let config = config.text(11, &log);
        let request =
            Message::default().text(1, &self.sandbox.id).message(2, &config).message(3, &self.config);
        let told = call(self.containerd, "RuntimeService/CreateContainer", &request);
        let id = id(&told.expect("a container can be made"));
        call(self.containerd, "RuntimeService/StartContainer", &Message::default().text(1, &id))
            .expect("a container can be started");
        let path = self.sandbox.cgroup.path.replace(&self.sandbox.id, &id);
        let known = Known {
            id,
            name: Some(name.to_owned()),
            image: Some(IMAGE.to_owned()),
            sandbox: false,
            cgroup: super::cgroup::Cgroup { path },
            ..self.sandbox.clone()
        };
        Container { containerd: self.containerd, known, log: self.logs.join(log) }
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        for act in ["StopPodSandbox", "RemovePodSandbox"] {
            let request = Message::default().text(1, &self.sandbox.id);
            let _ = call(self.containerd, &format!("RuntimeService/{act}"), &request);
        }
        let _ = output::of(Command::new("sh").args(["-c", &remove_empty(&self.own.cgroup.path)]));
    }
}

/// The parents are the kubelet's to remove.
fn remove_empty(path: &str) -> String {
    forget(path).replace("drop_cgroup", "rmdir")
}

impl Container<'_> {
    /// Waits until its work is done, and gives what it did in bytes.
    pub fn done(&self) -> u64 {
        wait_for("a workload's word in its log", || {
            let log = fs::read_to_string(&self.log).ok()?;
            let (_, said) = log.lines().find_map(|line| line.split_once(" F "))?;
            let said: serde_json::Value = serde_json::from_str(said).expect("it speaks JSON");
            said["done_bytes"].as_u64()
        })
    }

    /// Asks for its end, as the kubelet does again and again; `seconds`: before it is killed.
    pub fn stop(&self, seconds: u64) -> Child {
        let request = Message::default().text(1, &self.known.id).number(2, seconds);
        let mut curl = asked(self.containerd, "RuntimeService/StopContainer", &request).0;
        curl.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("curl can be started")
    }

    /// As the kubelet ends one before it starts its successor.
    pub fn remove(self) {}
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        for act in ["StopContainer", "RemoveContainer"] {
            // The time to stop in is 0.
            let request = Message::default().text(1, &self.known.id);
            let _ = call(self.containerd, &format!("RuntimeService/{act}"), &request);
        }
    }
}

/// A uid like the kubelet's, of this run.
pub fn uid() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("0bfe935e-70c3-41c7-{count:04x}-{:012x}", std::process::id())
}

/// A protobuf message being written: <https://protobuf.dev/programming-guides/encoding/>
#[derive(Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u64, value: u64) -> Message {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Message {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, field: u64, text: &str) -> Message {
        self.bytes(field, text.as_bytes())
    }

    fn message(self, field: u64, message: &Message) -> Message {
        self.bytes(field, &message.0)
    }
}

/// The id that a message holds as its first field.
fn id(message: &[u8]) -> String {
    assert!(message.len() > 2 && message[0] == 0x0a && message.len() == 2 + usize::from(message[1]));
    String::from_utf8(message[2..].to_vec()).expect("an id is text")
}

/// curl that asks, and where it puts the answer.
/// <https://github.com/kubernetes/cri-api/blob/v0.26.0/pkg/apis/runtime/v1/api.proto>
fn asked(containerd: &Containerd, method: &str, message: &Message) -> (Command, PathBuf) {
    let dir = scratch::dir("call");
    let (request, answer) = (dir.join("request"), dir.join("answer"));
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.0.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message.0);
    fs::write(&request, framed).expect("the run's directory can be written");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--http2-prior-knowledge", "--max-time", "50"]);
    curl.arg("--unix-socket").arg(containerd.socket()).arg("--output").arg(&answer);
    curl.args([
        "--dump-header",
        "-",
        "--header",
        "content-type: application/grpc",
        "--header",
        "te: trailers",
    ]);
    curl.arg("--data-binary").arg(format!("@{}", request.display()));
    curl.arg(format!("http://localhost/runtime.v1.{method}")).stdin(Stdio::null());
    (curl, answer)
}

fn call(containerd: &Containerd, method: &str, message: &Message) -> Result<Vec<u8>, String> {
    let (mut curl, answer) = asked(containerd, method, message);
    let said = output::of(&mut curl);
    let headers = String::from_utf8_lossy(&said.stdout).into_owned();
    if !headers.lines().any(|line| line.trim() == "grpc-status: 0") {
        return Err(format!("{method}: {headers}{}", String::from_utf8_lossy(&said.stderr)));
    }
    Ok(fs::read(answer).expect("curl wrote it").split_off(5))
}
