use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;
use serde_json::Value;

use super::{concerns, json, text};
use crate::{
    aggregator::oom::{
        Composition, Dirtier, Grown, Holder, InRow, Kill, LimitCgroup, Source, Trigger, Victim,
    },
    resolve::{Container, Runtime},
    view::{
        example,
        select::Filter,
        text::{Charset, is_hostile},
    },
};

const MIB: u64 = 1 << 20;

fn kill(container: Container, comm: &str) -> Kill {
    let container = Arc::new(container);
    let memory = Composition {
        limit: Some(600 * MIB),
        current: Some(600 * MIB),
        anon: Some(23 * MIB),
        file: Some(560 * MIB),
        shmem: Some(0),
        dirty: Some(541 * MIB),
        writeback: Some(0),
        kernel: Some(17 * MIB),
        ..Composition::default()
    };
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let comm = comm.to_owned();
    Kill {
        number: 1,
        at,
        before_attach: true,
        victim: Victim { pid: Some(7), comm: Some(comm.clone()), anon: Some(20 * MIB), ..Victim::default() },
        trigger: Some(Trigger {
            pid: Some(7),
            tid: Some(8),
            comm: Some(comm.clone()),
            container: Some(Arc::clone(&container)),
        }),
        global: Some(false),
        limit_cgroup: Some(LimitCgroup {
            id: None,
            path: Some(container.cgroup.path.clone()),
            path_how: None,
        }),
        container: Some(container),
        memory,
        source: Some(Source::Kmsg),
        grown: Some(Grown { over_s: 12.0, anon: Some(-1), file: Some(500 << 20), ..Grown::default() }),
        written_per_s: None,
        processes: vec![Holder { pid: 7, comm: comm.clone(), rss: 23 * MIB, anon: None }],
        top_dirtiers: vec![Dirtier {
            pid: 7,
            comm,
            path: Some("/data/\u{1b}[2J".to_owned()),
            dirtied: 600 * MIB,
        }],
        in_row: Some(InRow { count: 3, since: at }),
        cause: "limit 600 MiB: 541 MiB dirty page cache".to_owned(),
    }
}

#[test]
fn the_object_has_what_the_interface_names() {
    let mut container = example::container(Runtime::Docker, Some("importer"));
    container.cgroup.id = 0;
    let value: Value = serde_json::from_str(&json::oom(&kill(container, "qemu-img"))).unwrap();
    for key in [
        "schema",
        "kind",
        "ts",
        "container",
        "victim",
        "trigger",
        "limit_cgroup",
        "memory",
        "source",
        "before_attach",
        "top_dirtiers",
        "cause",
    ] {
        assert!(value.get(key).is_some(), "{key}");
    }
    assert!(value["container"]["cgroup"]["id"].is_null(), "it was gone: not 0");
    assert_eq!(value["source"], "kmsg");
    assert_eq!(value["memory"]["slab"], Value::Null);
    assert_eq!(value["kills_in_row"]["count"], 3);
}

#[test]
fn the_first_line_is_enough_and_nothing_obeys() {
    let text =
        text::block(&kill(example::container(Runtime::Docker, Some("importer")), "qemu-img"), Charset::Ascii);
    let first = text.lines().next().unwrap();
    assert_eq!(
        first,
        "2023-11-14T22:13:20.000Z (before attach)  importer: qemu-img[7] killed: limit 600 MiB: 541 MiB dirty page cache"
    );
    assert!(text.contains("again    kill 3 of this container") && text.contains(r"\x1b[2J"), "{text}");
}

#[test]
fn a_filter_names_victim_or_trigger() {
    let kill = kill(example::container(Runtime::Docker, Some("importer")), "a");
    assert!(concerns(&kill, &Filter::new("imp*").unwrap()) && concerns(&kill, &Filter::default()));
    assert!(!concerns(&kill, &Filter::new("other").unwrap()));
}

proptest! {
    #[test]
    fn any_name_is_harmless(comm in any::<String>(), name in any::<String>()) {
        let kill = kill(example::container(Runtime::Docker, Some(&name)), &comm);
        let value: Value = serde_json::from_str(&json::oom(&kill)).unwrap();
        prop_assert_eq!(value["victim"]["comm"].as_str(), Some(comm.as_str()));
        for text in [json::oom(&kill), text::block(&kill, Charset::Unicode).replace('\n', "")] {
            prop_assert!(!text.chars().any(is_hostile));
        }
    }
}
