//! `oom --json`: one object a kill, on one line.

use serde::Serialize;

use crate::{
    aggregator::oom::{Composition, Dirtier, Grown, Holder, Kill, LimitCgroup, Source, Victim},
    resolve::{Container, Runtime},
    view::{
        host::timestamp,
        json::{SCHEMA, written},
    },
};

#[derive(Serialize)]
struct Oom<'a> {
    schema: &'static str,
    kind: &'static str,
    ts: String,
    container: Option<Of<'a>>,
    victim: &'a Victim,
    trigger: Option<Trigger<'a>>,
    limit_cgroup: Option<&'a LimitCgroup>,
    /// Tells a cgroup's kill whose limit is not known from a global one.
    global: Option<bool>,
    memory: &'a Composition,
    source: Option<Source>,
    before_attach: bool,
    growth: Option<Grown>,
    processes: &'a [Holder],
    top_dirtiers: &'a [Dirtier],
    kills_in_row: Option<InRow>,
    cause: &'a str,
}

#[derive(Serialize)]
struct Trigger<'a> {
    pid: Option<u32>,
    tid: Option<u32>,
    comm: Option<&'a str>,
    container: Option<Of<'a>>,
}

#[derive(Serialize)]
struct InRow {
    count: u64,
    since: String,
}

/// A container, whose cgroup's id is not known where it was gone before memtrace came.
#[derive(Serialize)]
struct Of<'a> {
    runtime: Runtime,
    id: &'a str,
    name: Option<&'a str>,
    pod: Option<&'a str>,
    namespace: Option<&'a str>,
    image: Option<&'a str>,
    sandbox: bool,
    cgroup: Cgroup<'a>,
}

#[derive(Serialize)]
struct Cgroup<'a> {
    id: Option<u64>,
    path: &'a str,
}

fn of(container: &Container) -> Of<'_> {
    let Container { runtime, id, name, pod, namespace, image, sandbox, cgroup } = container;
    let known = (cgroup.id != 0).then_some(cgroup.id);
    Of {
        runtime: *runtime,
        id,
        name: name.as_deref(),
        pod: pod.as_deref(),
        namespace: namespace.as_deref(),
        image: image.as_deref(),
        sandbox: *sandbox,
        cgroup: Cgroup { id: known, path: &cgroup.path },
    }
}

/// The object, without the newline after it.
pub fn oom(kill: &Kill) -> String {
    let trigger = kill.trigger.as_ref().map(|trigger| Trigger {
        pid: trigger.pid,
        tid: trigger.tid,
        comm: trigger.comm.as_deref(),
        container: trigger.container.as_deref().map(of),
    });
    let told = Oom {
        schema: SCHEMA,
        kind: "oom",
        ts: timestamp(kill.at),
        container: kill.container.as_deref().map(of),
        victim: &kill.victim,
        trigger,
        limit_cgroup: kill.limit_cgroup.as_ref(),
        global: kill.global,
        memory: &kill.memory,
        source: kill.source,
        before_attach: kill.before_attach,
        growth: kill.grown,
        processes: &kill.processes,
        top_dirtiers: &kill.top_dirtiers,
        kills_in_row: kill.in_row.map(|row| InRow { count: row.count, since: timestamp(row.since) }),
        cause: &kill.cause,
    };
    written(&told, 2048)
}
