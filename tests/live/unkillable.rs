//! Tasks that cannot die: one hangs on a frozen file system, SIGKILL stays pending, and whoever wants it gone tries again.
//! Signals are counted exactly, in whichever way the probe is attached.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::driver::{
    bpf,
    cgroup::Made,
    doctor,
    hung::{Frozen, wait_until_hung},
    in_vm,
    lines::comm,
    matrix, memtrace, moment, output, skip, wait_for,
};

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid as i32).expect("it has a number");
    kill_process(pid, Signal::KILL).expect("it is there, since it cannot die");
}

/// A shell in a cgroup that hangs on the frozen file system.
struct Hanging {
    frozen: Frozen,
    child: Child,
    cgroup: Made,
}

impl Hanging {
    fn start() -> Result<Hanging, String> {
        let frozen = Frozen::new()?;
        let cgroup = Made::top("hanging");
        frozen.freeze();
        let script = format!(
            "echo $$ > {}/cgroup.procs; echo x > {}/file",
            cgroup.dir().display(),
            frozen.mount().display()
        );
        let child = Command::new("sh").args(["-c", &script]).spawn().expect("there is a shell");
        let hanging = Hanging { frozen, child, cgroup };
        wait_until_hung(hanging.child.id());
        Ok(hanging)
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.frozen.thaw();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn finished(memtrace: Child) -> Value {
    let output = memtrace.wait_with_output().expect("it is our child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one object is printed")
}

const OWN: u64 = 7;
const BY_SHELLS: u64 = 3;

/// Runs `diagnose` with the probe attached so, and sends so many SIGKILLs while it is surely attached; what it told.
fn counted(hanging: &Hanging, attach: &str) -> Value {
    let pid = hanging.child.id();
    let (seconds, settle) = if in_vm() { ("60", 20) } else { ("8", 2) };
    for _ in 0..3 {
        let mut command = memtrace::command(&["diagnose", "--json", "-i", "0.5", "-d", seconds]);
        let memtrace = command.args(["--attach", attach]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let memtrace = memtrace.spawn().expect("memtrace can be started");
        let dir = format!("/proc/{}", memtrace.id());
        wait_for("its programs to be loaded", || {
            bpf::held_by(dir.as_ref()).iter().any(|(kind, _)| *kind == "prog").then_some(())
        });
        thread::sleep(Duration::from_secs(settle));
        let began = SystemTime::now();
        for _ in 0..OWN {
            kill(pid);
            thread::sleep(Duration::from_millis(50));
        }
        for _ in 0..BY_SHELLS {
            let done = output::of(Command::new("sh").args(["-c", &format!("kill -9 {pid}; :")]));
            assert!(done.status.success());
        }
        let told = finished(memtrace);
        // A machine that was so busy that it attached later tells nothing of the count.
        if moment::of(&told["started"]) < began {
            return told;
        }
    }
    panic!("three times it was not attached in time");
}

#[test]
fn every_alternative_counts_every_kill() {
    let alternatives = doctor::usable("signal");
    let hanging = match Hanging::start() {
        Ok(hanging) => hanging,
        Err(reason) => return skip("every_alternative_counts_every_kill", &reason),
    };
    // The one that was delivered; all others are ignored.
    kill(hanging.child.id());
    matrix::each(&alternatives, |alternative| {
        let told = counted(&hanging, &alternative.word());
        let found = memtrace::found(&told, "unkillable-task");
        let of = |finding: &&Value| finding["container"]["cgroup"]["path"] == hanging.cgroup.path;
        let finding = found.iter().find(of).unwrap_or_else(|| panic!("it is not found: {found:#?}"));
        let evidence = &finding["evidence"];
        let task = &evidence["tasks"][0];
        println!("  {}: {} {}", alternative.word(), finding["summary"], task["killers"]);
        let own = std::process::id();
        assert_eq!(evidence["kill_attempts"], OWN + BY_SHELLS, "{task}");
        assert_eq!(
            (&task["pid"], &task["state"], &task["sigkill_pending"]),
            (&json!(hanging.child.id()), &json!("D"), &json!(true))
        );
        let killers = json!([
            {"pid": own, "comm": comm(own), "count": OWN, "via": []},
            {"pid": own, "comm": comm(own), "count": BY_SHELLS, "via": ["sh"]},
        ]);
        assert_eq!(task["killers"], killers);
        assert_eq!(finding["severity"], "critical");
        assert!(finding["daemon"].is_null(), "nobody serves it");
    });
}
