//! A pod that cannot be stopped: it hangs on a frozen file system since before memtrace, and the kubelet asks containerd for
//! its end again and again.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::driver::{
    containerd::{self, Containerd},
    cri::{BURSTABLE, Container, Pod},
    disk,
    hung::{Frozen, wait_until_hung},
    impatience, in_vm,
    lines::comm,
    scene::{self, During},
    skip,
};

/// Goes in this order: what hangs is let go before its end is asked for.
struct Incident {
    /// Since then it has hung, at the earliest.
    hung: Instant,
    frozen: Frozen,
    container: Container<'static>,
    _pod: Pod<'static>,
    containerd: &'static Containerd,
}

impl Drop for Incident {
    fn drop(&mut self) {
        self.frozen.thaw();
    }
}

impl Incident {
    fn start() -> Result<Incident, String> {
        if let Some(reason) = containerd::missing() {
            return Err(reason.to_owned());
        }
        let frozen = Frozen::new()?;
        let containerd = containerd::containerd();
        let pod = Pod::run(containerd, "unstoppable", BURSTABLE);
        let script = "while :; do echo x > /data/file; /bin/busybox sleep 0.05; done";
        let container = pod.start_with("writer", 0, &["/bin/sh", "-c", script], &[(frozen.mount(), "/data")]);
        let hung = Instant::now();
        frozen.freeze();
        let incident = Incident { hung, frozen, container, _pod: pod, containerd };
        wait_until_hung(incident.container.known.process());
        Ok(incident)
    }

    /// While it is done, the container is asked to end again and again; how often it was asked.
    fn with_retries<T>(&self, work: impl FnOnce() -> T) -> (T, u64) {
        let pause = Duration::from_millis(if in_vm() { 3000 } else { 700 });
        impatience::during(pause, || [self.container.stop(1)], work)
    }

    /// It has been asked to end by then.
    fn told_to_end() {
        thread::sleep(Duration::from_secs(if in_vm() { 15 } else { 4 }));
    }

    fn path(&self) -> &str {
        &self.container.known.cgroup.path
    }
}

/// Beside others.
pub fn going(during: During<'_>) -> Result<(), String> {
    let incident = Incident::start()?;
    incident.with_retries(|| {
        Incident::told_to_end();
        during(vec![("unkillable-task", incident.path().to_owned())]);
    });
    Ok(())
}

#[test]
fn a_pod_that_cannot_be_stopped_is_found_with_its_containerd() {
    const TEST: &str = "a_pod_that_cannot_be_stopped_is_found_with_its_containerd";
    disk::drop_caches();
    let incident = match Incident::start() {
        Ok(incident) => incident,
        Err(reason) => return skip(TEST, &reason),
    };
    let daemon = incident.containerd.pid();
    let known = &incident.container.known;
    let (report, asked) = incident.with_retries(|| {
        Incident::told_to_end();
        scene::diagnose(if in_vm() { "30" } else { "10" })
    });
    let wanted = [scene::Wanted { kind: "unkillable-task", path: incident.path() }];
    let truth = json!({ "container": known.pod, "asked": asked, "daemon": comm(daemon) });
    println!("{:#}", Value::from(report.findings().to_vec()));
    report.is("cannot-be-stopped, pod", &truth, &wanted);
    let finding = report.finding(&wanted[0]).expect("it was held to be there");
    known.is(finding).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(finding["severity"], "critical");
    let evidence = &finding["evidence"];
    let task = &evidence["tasks"][0];
    assert_eq!(task["pid"], known.process(), "{task}");
    assert_eq!((&task["state"], &task["sigkill_pending"]), (&json!("D"), &json!(true)), "{task}");
    assert!(task["waits_on"].as_str().is_some_and(|phrase| phrase.contains("frozen file system")), "{task}");
    // From before attach: what the kernel still tells, which is not more than the truth.
    let blocked = task["blocked_s"].as_f64().expect("a number");
    assert!(blocked > 5.0 && blocked < incident.hung.elapsed().as_secs_f64(), "{task}");
    assert_eq!(evidence["shims"][0]["pid"], known.shim(), "{evidence}");
    assert_eq!(finding["daemon"], json!({"pid": daemon, "comm": comm(daemon)}));
    let attempts = evidence["kill_attempts"].as_i64().expect("a number");
    let killers = evidence["tasks"][0]["killers"].as_array().expect("a list");
    let sent: i64 = killers.iter().filter_map(|killer| killer["count"].as_i64()).sum();
    assert!(attempts >= 1 && sent == attempts, "{killers:?}");
    assert!(killers.iter().all(|killer: &Value| killer["pid"] == known.shim()), "{killers:?}");
    let clients = evidence["clients"].as_array().expect("a list");
    let open: i64 = clients
        .iter()
        .filter(|client| client["comm"] == "curl")
        .filter_map(|client| client["open"].as_i64())
        .sum();
    assert!(open > 1 && open <= asked as i64, "{clients:?}");
}
