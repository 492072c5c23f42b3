use proptest::prelude::*;

use super::{
    kinds::{Survey, inherited_slab, pinned, without_kernel},
    origin::general,
    *,
};
use crate::{
    event::{
        dead::{DeadCgroup, DeadSum},
        survey::{Held, Own},
    },
    resolve::{Cgroup, Runtime},
};

const MIB: u64 = 1 << 20;

fn container(name: &str) -> Arc<Container> {
    Arc::new(Container {
        runtime: Runtime::Docker,
        id: "a".repeat(64),
        name: Some(name.to_owned()),
        pod: None,
        namespace: None,
        image: Some("busybox".to_owned()),
        sandbox: false,
        cgroup: Cgroup { id: 1, path: "/docker/a".to_owned() },
    })
}

fn dead(id: u64, above: u64, living: u64, name: &str, pinned: u64) -> DeadCgroup {
    DeadCgroup { id, above, living, name: Some(name.to_owned()), pinned, ..DeadCgroup::default() }
}

/// With the sums that the kernel would have made.
fn walked(listed: Vec<DeadCgroup>) -> Walked {
    let mut sums: HashMap<u64, DeadSum> = HashMap::new();
    let ids: HashSet<u64> = listed.iter().map(|dead| dead.id).collect();
    for one in &listed {
        let sum = sums.entry(one.living).or_default();
        sum.count += 1;
        sum.pinned += if ids.contains(&one.above) { 0 } else { one.pinned };
    }
    let all = sums.values().fold(DeadSum::default(), |all, sum| DeadSum {
        count: all.count + sum.count,
        pinned: all.pinned + sum.pinned,
        ..DeadSum::default()
    });
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(id, _)| *id);
    Walked { all, listed, sums, walks: 1, ..Walked::default() }
}

fn place(id: u64) -> Option<Place> {
    let path = match id {
        1 => "/",
        10 => "/docker",
        11 => "/kubepods",
        _ => return None,
    };
    Some(Place { path: path.to_owned(), container: None })
}

fn nobody(_: &str) -> Option<Arc<Container>> {
    None
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn those_seen_alive_have_their_name_and_the_others_what_is_left_of_the_path() {
    let mut state = DeadCgroups::default();
    state.died(100, Some(container("web")), seconds(5));
    state.died(101, Some(container("web")), seconds(8));
    let hex = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
    let walk = walked(vec![
        dead(100, 10, 10, "x", 4 * MIB),
        dead(101, 10, 10, "y", MIB),
        dead(200, 10, 10, hex, 3 * MIB),
        // In a dead one that was seen, but died before attach.
        dead(102, 100, 10, "inner", MIB),
    ]);
    let report = state.walked(&walk, seconds(20), &place, &nobody);
    assert_eq!((report.dead, report.pinned.total), (4, Some(8 * MIB)), "nested pages count once");
    let [web, docker] = report.by_origin.as_slice() else { panic!("{:?}", report.by_origin) };
    assert_eq!((web.origin.as_str(), web.count, web.pinned), ("web", 3, Some(5 * MIB)));
    assert_eq!(web.image.as_deref(), Some("busybox"));
    assert_eq!((docker.origin.as_str(), docker.count), ("/docker/*", 1));
    assert_eq!((docker.seen_alive, docker.runtime), (false, Some(Runtime::Docker)));
    assert_eq!(docker.examples, [format!("/docker/{hex}")], "the id is still told");
    assert_eq!((docker.oldest_s, docker.oldest_s_how), (Some(20.0), Some(How::AtLeast)));
}

#[test]
fn who_makes_them_is_told_once_there_is_a_before() {
    let mut state = DeadCgroups::default();
    let old = || (0..5).map(|id| dead(id + 100, 10, 10, "old", MIB)).collect::<Vec<_>>();
    let first = state.walked(&walked(old()), seconds(1), &place, &nobody);
    assert_eq!((first.made_per_s, first.makers.len()), (None, 0), "nobody saw those being made");
    for id in 200..220 {
        state.died(id, Some(container("crash")), seconds(5));
    }
    let mut all = old();
    all.extend((200..220).map(|id| dead(id, 10, 10, "new", MIB)));
    let alive = |name: &str| (name == "crash").then(|| container("crash"));
    let report = state.walked(&walked(all.clone()), seconds(11), &place, &alive);
    assert_eq!(report.made_per_s, Some(2.0));
    let [maker] = report.makers.as_slice() else { panic!("{:?}", report.makers) };
    assert_eq!((maker.origin.as_str(), maker.made), ("crash", 20));
    assert!(maker.workload.is_some(), "it runs again");
    let later = state.walked(&walked(all), seconds(120), &place, &nobody);
    assert_eq!(later.made_per_s, Some(0.0), "that was long ago");
}

#[test]
fn what_is_not_listed_is_counted_by_what_is_around() {
    let mut walk = walked(vec![dead(100, 10, 10, "a", MIB)]);
    walk.all = DeadSum { count: 9, pinned: 9 * MIB, ..DeadSum::default() };
    walk.sums = vec![(10, DeadSum { count: 6, pinned: 6 * MIB, ..DeadSum::default() })];
    let report = DeadCgroups::default().walked(&walk, seconds(1), &place, &nobody);
    let counts: Vec<(&str, u64, Option<u64>)> =
        report.by_origin.iter().map(|of| (of.origin.as_str(), of.count, of.pinned)).collect();
    assert_eq!(
        counts,
        [
            ("/docker: not listed one by one", 5, Some(5 * MIB)),
            ("/docker/a", 1, Some(MIB)),
            ("elsewhere: not listed one by one", 3, None),
        ]
    );
}

#[test]
fn numbers_and_ids_are_left_out() {
    for (name, general_name) in [
        ("session-12.scope", "session-*.scope"),
        ("docker-0a1b2c3d4e5f60718293a4b5.scope", "docker-*.scope"),
        ("kubepods-burstable-pod0f3c2a1b_1111_4aaa_8bbb_0123456789ab.slice", "kubepods-burstable-pod*.slice"),
        ("pod0f3c2a1b-1111-4aaa-8bbb-0123456789ab", "pod*"),
        ("c17", "c*"),
        ("web", "web"),
        ("", ""),
    ] {
        assert_eq!(general(name), general_name);
    }
}

fn held(anon: u64, file: u64, slab: u64, own: Option<Own>, vacant: bool) -> Held {
    Held {
        anon: Some(anon),
        file: Some(file),
        shmem: Some(0),
        swap: None,
        sock: Some(0),
        slab: Some(slab),
        own,
        vacant,
    }
}

#[test]
fn by_kind_is_what_neither_the_living_nor_the_cgroup_itself_have() {
    let walk = walked(vec![dead(100, 10, 10, "a", 7 * MIB)]);
    let own = Own { anon: MIB, file: 0, shmem: 0, swap: 0 };
    let mut survey = Survey { root: 1, ..Survey::default() };
    survey.held.insert(10, held(10 * MIB, 20 * MIB, 9, Some(own), false));
    survey.held.insert(12, held(7 * MIB, 15 * MIB, 4, Some(Own::default()), false));
    survey.children.insert(10, vec![12]);
    let v1 = pinned(&walk, &survey);
    assert_eq!((v1.anon, v1.anon_how, v1.file), (Some(2 * MIB), None, Some(5 * MIB)));
    assert_eq!((v1.total, v1.total_how), (Some(7 * MIB), None));
    assert_eq!(inherited_slab(&walk, &survey), None, "its own tasks may have it");

    let v2 = |vacant| {
        let mut survey = Survey { v2: true, root: 1, ..Survey::default() };
        survey.held.insert(10, held(2 * MIB, 4 * MIB, 9, None, vacant));
        survey
    };
    let walk = Walked { with_kernel: true, ..walk };
    let less = without_kernel(walk.clone(), &v2(true));
    assert_eq!(
        (less.listed[0].pinned, less.sums[0].1.pinned),
        (6 * MIB, 6 * MIB),
        "without what it handed on"
    );
    let known = pinned(&less, &v2(true));
    assert_eq!((known.anon, known.anon_how), (Some(2 * MIB), Some(How::Inferred)));
    assert_eq!((known.total, known.total_how), (Some(6 * MIB), Some(How::Inferred)));
    assert_eq!(inherited_slab(&walk, &v2(true)), Some(9));
    assert_eq!(pinned(&walk, &v2(false)).anon, None, "it has tasks of its own");
    let mut much = v2(true);
    much.held.insert(10, held(2 * MIB, 40 * MIB, 9, None, true));
    assert_eq!(pinned(&walk, &much).file, None, "more than the dead can hold");

    let at_root = walked(vec![dead(100, 1, 1, "a", MIB)]);
    let none = pinned(&at_root, &Survey { v2: true, root: 1, ..Survey::default() });
    assert_eq!((none.anon, none.file, none.total), (None, None, Some(MIB)));
    assert_eq!(pinned(&walked(Vec::new()), &v2(true)).anon, Some(0), "nothing pins nothing");
}

proptest! {
    /// Whatever the kernel's lists say, every dead one is in one origin, and no page in two.
    #[test]
    fn origins_add_up(
        nodes in proptest::collection::vec((0usize..40, 0u64..64, any::<bool>(), ".{0,12}"), 0..40),
        unlisted in 0u64..5,
    ) {
        // A forest: each is in one before it, or in a living one; sizes are with all below.
        let mut listed: Vec<DeadCgroup> = Vec::new();
        for (index, (above, own, _, name)) in nodes.iter().enumerate() {
            let id = 100 + index as u64;
            let one = match listed.get(*above).cloned() {
                Some(found) => dead(id, found.id, found.living, name, 0),
                None => dead(id, 10, 10, name, 0),
            };
            listed.push(one);
            let mut at = Some(index);
            while let Some(place) = at {
                listed[place].pinned += own;
                at = listed.iter().position(|other| other.id == listed[place].above);
            }
        }
        let mut walk = walked(listed);
        walk.all.count += unlisted;
        let mut state = DeadCgroups::default();
        for (index, (_, _, seen, name)) in nodes.iter().enumerate() {
            if *seen {
                state.died(100 + index as u64, Some(container(name)), seconds(1));
            }
        }
        let report = state.walked(&walk, seconds(9), &place, &nobody);
        prop_assert_eq!(report.by_origin.iter().map(|of| of.count).sum::<u64>(), walk.all.count);
        let pinned: u64 = report.by_origin.iter().filter_map(|of| of.pinned).sum();
        prop_assert_eq!(pinned, walk.all.pinned);
    }

    /// Lists that changed while they were walked over may say anything.
    #[test]
    fn no_list_is_a_loop(
        nodes in proptest::collection::vec((0u64..12, 0u64..12, 0u64..12, any::<u64>()), 0..20),
    ) {
        let listed = nodes.iter().map(|(id, above, living, pinned)| dead(*id, *above, *living, "x", *pinned / 64));
        let walk = Walked {
            all: DeadSum { count: nodes.len() as u64, ..DeadSum::default() },
            listed: listed.collect(),
            ..Walked::default()
        };
        DeadCgroups::default().walked(&walk, seconds(9), &place, &nobody);
    }

    #[test]
    fn any_name_can_be_made_general(name in any::<String>()) {
        general(&name);
    }
}
