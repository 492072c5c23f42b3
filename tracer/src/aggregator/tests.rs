//! Rows over made-up events: disjoint, null where not known, exact in time.

use super::{kinds::Kind, row::How, *};
use crate::{
    event::{More, Stat},
    resolve::{Cgroup, Runtime},
};

const ROOT: u64 = 1;
const DOCKER: u64 = 2;
const WEB: u64 = 3;
const MIB: u64 = 1 << 20;

fn container(id: u64, path: &str) -> Container {
    Container {
        runtime: Runtime::Cgroup,
        id: path.to_owned(),
        name: None,
        pod: None,
        namespace: None,
        image: None,
        sandbox: false,
        cgroup: Cgroup { id, path: path.to_owned() },
    }
}

/// `/`, `/docker` and `/docker/web`, there before memtrace.
fn aggregator() -> Aggregator {
    let mut aggregator = Aggregator::default();
    aggregator.place(ROOT, container(ROOT, "/"), None, None);
    aggregator.place(DOCKER, container(DOCKER, "/docker"), Some(ROOT), None);
    aggregator.place(WEB, container(WEB, "/docker/web"), Some(DOCKER), None);
    aggregator
}

fn sampled(id: u64, usage: u64, anon: u64, more: More) -> Event {
    let stat = Stat { anon: Some(anon), file: Some(usage - anon), more: Some(more), ..Stat::default() };
    Event::Sampled { id, usage: Some(usage), stat: Some(Box::new(stat)) }
}

fn row<'a>(tick: &'a Tick, path: &str) -> &'a Row {
    tick.rows.iter().find(|row| row.container.cgroup.path == path).expect("a row")
}

fn apply(aggregator: &mut Aggregator, events: &[Event]) {
    for event in events {
        aggregator.apply(event, None, Duration::ZERO);
    }
}

#[test]
fn a_parent_never_counts_its_children() {
    let mut aggregator = aggregator();
    let more = |tasks, oom_kills| More { tasks: Some(tasks), oom_kills: Some(oom_kills), ..More::default() };
    apply(
        &mut aggregator,
        &[sampled(DOCKER, 100 * MIB, 60 * MIB, more(7, 1)), sampled(WEB, 90 * MIB, 55 * MIB, more(5, 1))],
    );
    let tick = aggregator.tick(Duration::from_secs(1));
    let docker = row(&tick, "/docker");
    assert_eq!((docker.memory.current, docker.memory.anon), (Some(10 * MIB), Some(5 * MIB)));
    assert_eq!(docker.tasks.total, Some(2), "tasks are hierarchical, too");
    assert_eq!(row(&tick, "/docker/web").memory.current, Some(90 * MIB));
    assert_eq!(row(&tick, "/").memory.current, None);
    assert_eq!(tick.attributed[Kind::Current as usize], Some(100 * MIB));
}

#[test]
fn the_first_tick_has_no_rates_and_the_second_is_exact() {
    let mut aggregator = aggregator();
    apply(&mut aggregator, &[sampled(WEB, 10 * MIB, 4 * MIB, More::default())]);
    let first = aggregator.tick(Duration::from_secs(1));
    assert_eq!(row(&first, "/docker/web").growth_per_s.current, None);
    apply(&mut aggregator, &[sampled(WEB, 30 * MIB, 4 * MIB, More::default())]);
    let second = aggregator.tick(Duration::from_secs(3));
    let web = row(&second, "/docker/web");
    assert_eq!(web.growth_per_s.current, Some((10 * MIB) as f64));
    assert_eq!(web.growth_per_s.anon, Some(0.0));
    assert_eq!(web.growth_per_s.sock, None, "not known stays not known");
}

#[test]
fn a_newborn_grew_from_nothing() {
    let mut aggregator = aggregator();
    aggregator.tick(Duration::from_secs(1));
    aggregator.place(4, container(4, "/docker/new"), Some(DOCKER), Some(Duration::from_millis(1500)));
    apply(&mut aggregator, &[sampled(4, 8 * MIB, 8 * MIB, More::default())]);
    let tick = aggregator.tick(Duration::from_secs(2));
    assert_eq!(row(&tick, "/docker/new").growth_per_s.anon, Some((8 * MIB) as f64));
}

#[test]
fn one_that_lived_between_two_ticks_is_told_once() {
    let mut aggregator = aggregator();
    aggregator.tick(Duration::from_secs(1));
    aggregator.place(4, container(4, "/docker/brief"), Some(DOCKER), Some(Duration::from_millis(1200)));
    apply(&mut aggregator, &[sampled(4, 8 * MIB, 8 * MIB, More::default())]);
    apply(&mut aggregator, &[sampled(4, MIB, 0, More::default())]);
    let removed = Event::CgroupRemoved { id: 4, usage: Some(MIB), peak: Some(9 * MIB) };
    aggregator.apply(&removed, None, Duration::from_millis(1500));
    aggregator.gone(4, Duration::from_millis(1501));
    let tick = aggregator.tick(Duration::from_secs(2));
    let brief = row(&tick, "/docker/brief");
    assert_eq!(brief.memory.current, None, "its memory is in the row around it now");
    let told = brief.removed.as_ref().expect("its end");
    assert_eq!((told.peak, told.left, told.most.anon), (Some(9 * MIB), Some(MIB), Some(8 * MIB)));
    assert!((told.lived_s.expect("it was seen to begin") - 0.3).abs() < 1e-9);
    assert!(aggregator.tick(Duration::from_secs(3)).rows.iter().all(|row| row.container.cgroup.id != 4));
}

#[test]
fn a_removed_child_s_memory_shows_around_it() {
    let mut aggregator = aggregator();
    let events =
        [sampled(DOCKER, 50 * MIB, MIB, More::default()), sampled(WEB, 40 * MIB, MIB, More::default())];
    apply(&mut aggregator, &events);
    aggregator.tick(Duration::from_secs(1));
    aggregator.apply(
        &Event::CgroupRemoved { id: WEB, usage: Some(30 * MIB), peak: None },
        None,
        Duration::from_secs(1),
    );
    apply(&mut aggregator, &[sampled(DOCKER, 45 * MIB, MIB, More::default())]);
    let tick = aggregator.tick(Duration::from_secs(2));
    assert_eq!(row(&tick, "/docker").memory.current, Some(45 * MIB));
}

#[test]
fn limits_come_from_the_rows_around() {
    let mut aggregator = aggregator();
    let limit = |limit| More { limit, ..More::default() };
    let mut tick = aggregator.tick(Duration::ZERO);
    for second in 1..=3 {
        let all = (40 + second * 10) * MIB;
        let docker = sampled(DOCKER, all, all, limit(Some(100 * MIB)));
        apply(&mut aggregator, &[docker, sampled(WEB, second * 10 * MIB, 0, limit(None))]);
        tick = aggregator.tick(Duration::from_secs(second));
        let known = row(&tick, "/docker/web").seconds_to_limit.is_some();
        assert_eq!(known, second == 3, "two readings are no pace");
    }
    let web = row(&tick, "/docker/web");
    assert_eq!((web.memory.limit, web.memory.effective_limit), (None, Some(100 * MIB)));
    assert_eq!(web.seconds_to_limit.map(f64::round), Some(3.0), "30 MiB of room at 10 MiB/s");
    assert_eq!(web.seconds_to_limit_how, Some(How::Inferred));
    assert!(web.seconds_to_limit_low < web.seconds_to_limit, "{web:?}");
    assert!(web.seconds_to_limit_high > web.seconds_to_limit, "{web:?}");
}

#[test]
fn clean_page_cache_is_not_what_fills_a_limit() {
    let mut aggregator = aggregator();
    let limit = More { limit: Some(100 * MIB), ..More::default() };
    let mut tick = aggregator.tick(Duration::ZERO);
    let file = |file: u64, dirty: u64| {
        let stat = Stat {
            anon: Some(20 * MIB),
            file: Some(file * MIB),
            shmem: Some(0),
            dirty: Some(dirty * MIB),
            writeback: Some(0),
            more: Some(limit.clone()),
            ..Stat::default()
        };
        Event::Sampled { id: WEB, usage: Some((20 + file) * MIB), stat: Some(Box::new(stat)) }
    };
    for second in 1..6 {
        apply(&mut aggregator, &[file(second * 10, 0)]);
        tick = aggregator.tick(Duration::from_secs(second));
    }
    assert_eq!(row(&tick, "/docker/web").seconds_to_limit, None, "it is given back when the limit is met");
    for second in 6..10 {
        apply(&mut aggregator, &[file(60, (second - 5) * 10)]);
        tick = aggregator.tick(Duration::from_secs(second));
    }
    let web = row(&tick, "/docker/web");
    assert_eq!(web.seconds_to_limit.map(f64::round), Some(4.0), "dirty pages pile up at 10 MiB/s");
}

#[test]
fn counts_are_unknown_without_a_probe_and_exact_with_one() {
    let mut aggregator = aggregator();
    let count = |charged| Event::Counted { id: 9, count: CgroupCount { charged, ..CgroupCount::default() } };
    aggregator.apply(&count(100), Some(WEB), Duration::ZERO);
    aggregator.tick(Duration::from_secs(1));
    aggregator.apply(&count(150), Some(WEB), Duration::ZERO);
    assert_eq!(row(&aggregator.tick(Duration::from_secs(2)), "/docker/web").charged_per_s, None);
    aggregator.served = Served { charges: true, ..Served::default() };
    aggregator.apply(&count(160), Some(WEB), Duration::ZERO);
    let tick = aggregator.tick(Duration::from_secs(3));
    let web = row(&tick, "/docker/web");
    assert_eq!(
        web.charged_per_s,
        Some(10.0 * crate::event::page_size() as f64),
        "totals of a cgroup below it"
    );
    assert_eq!(web.tasks.execs_per_s, None);
}

#[test]
fn a_row_at_rest_is_the_same_row() {
    let mut aggregator = aggregator();
    apply(&mut aggregator, &[sampled(WEB, MIB, MIB, More::default())]);
    for second in 1..=70 {
        aggregator.tick(Duration::from_secs(second));
    }
    let before = aggregator.tick(Duration::from_secs(71));
    let after = aggregator.tick(Duration::from_secs(72));
    let find =
        |tick: &Tick| tick.rows.iter().find(|row| row.container.cgroup.id == WEB).cloned().expect("a row");
    assert!(Arc::ptr_eq(&find(&before), &find(&after)));
    apply(&mut aggregator, &[sampled(WEB, 2 * MIB, MIB, More::default())]);
    let tick = aggregator.tick(Duration::from_secs(73));
    assert_eq!(row(&tick, "/docker/web").growth_per_s.current, Some(MIB as f64));
}

#[test]
fn a_row_at_rest_wakes_with_its_whole_trend() {
    let mut aggregator = aggregator();
    let docker = |limit| {
        let more = More { limit, ..More::default() };
        sampled(DOCKER, 20 * MIB, 8 * MIB, more)
    };
    apply(&mut aggregator, &[docker(Some(50 * MIB)), sampled(WEB, 10 * MIB, 4 * MIB, More::default())]);
    let mut seconds = 0;
    let mut tick = |aggregator: &mut Aggregator| {
        seconds += 1;
        let tick = aggregator.tick(Duration::from_secs(seconds));
        tick.rows.iter().find(|row| row.container.cgroup.id == WEB).cloned().expect("a row")
    };
    let rested: Vec<_> = (0..30).map(|_| tick(&mut aggregator)).collect();
    assert!(Arc::ptr_eq(&rested[28], &rested[29]), "nothing moved");

    apply(&mut aggregator, &[docker(Some(40 * MIB))]);
    assert_eq!(tick(&mut aggregator).memory.effective_limit, Some(40 * MIB), "the limit around it did");

    apply(&mut aggregator, &[sampled(WEB, 11 * MIB, 4 * MIB, More::default())]);
    let woken = tick(&mut aggregator);
    assert_eq!(woken.growth_per_s.current, Some(MIB as f64));
    let mut trend = vec![Some(10 * MIB); 31];
    trend.push(Some(11 * MIB));
    assert_eq!(*woken.trend, *trend, "what it missed at rest was the same");
}

#[test]
fn throttling_holds_until_the_next_reading() {
    let mut aggregator = aggregator();
    let more = |throttled| More { throttled: Some(throttled), ..More::default() };
    apply(&mut aggregator, &[sampled(WEB, MIB, MIB, more((100, 10)))]);
    assert_eq!(row(&aggregator.tick(Duration::from_secs(1)), "/docker/web").throttled_share, None);
    apply(&mut aggregator, &[sampled(WEB, MIB, MIB, more((110, 15)))]);
    assert_eq!(row(&aggregator.tick(Duration::from_secs(2)), "/docker/web").throttled_share, Some(0.5));
    let stat = Stat { anon: Some(MIB), ..Stat::default() };
    apply(&mut aggregator, &[Event::Sampled { id: WEB, usage: Some(MIB), stat: Some(Box::new(stat)) }]);
    assert_eq!(row(&aggregator.tick(Duration::from_secs(3)), "/docker/web").throttled_share, Some(0.5));
    apply(&mut aggregator, &[sampled(WEB, MIB, MIB, more((110, 15)))]);
    assert_eq!(row(&aggregator.tick(Duration::from_secs(4)), "/docker/web").throttled_share, Some(0.0));
}

/// Rows as they would be if everything were added up anew at each tick: usages and parents by id.
fn expected(usage: &HashMap<u64, u64>, above: &HashMap<u64, u64>) -> HashMap<u64, u64> {
    let nested = |id: u64| -> u64 {
        above.iter().filter(|(_, parent)| **parent == id).filter_map(|(child, _)| usage.get(child)).sum()
    };
    usage.iter().map(|(id, usage)| (*id, usage.saturating_sub(nested(*id)))).collect()
}

proptest::proptest! {
    /// Sums are kept up as rows come, move, change and go; they are what adding everything up anew would give.
    #[test]
    fn kept_sums_are_the_sums(
        steps in proptest::collection::vec((0u8..6, 2u64..12, 2u64..12, 1u64..1000), 1..80),
    ) {
        let mut aggregator = Aggregator::default();
        aggregator.place(ROOT, container(ROOT, "/"), None, None);
        let (mut usage, mut above) = (HashMap::new(), HashMap::new());
        let mut seconds = 0;
        for (what, id, other, size) in steps {
            let inside = |above: &HashMap<u64, u64>, mut at: u64| loop {
                if at == id {
                    break true;
                }
                match above.get(&at) {
                    Some(parent) => at = *parent,
                    None => break false,
                }
            };
            match what {
                // A row comes, or is nested elsewhere from now on: never in itself.
                0 | 1 => {
                    let parent = if above.contains_key(&other) && !inside(&above, other) { other } else { ROOT };
                    aggregator.place(id, container(id, &format!("/{id}")), Some(parent), None);
                    above.insert(id, parent);
                }
                // A row without others in it goes.
                2 if above.contains_key(&id) && !above.values().any(|parent| *parent == id) => {
                    aggregator.gone(id, Duration::from_secs(seconds));
                    above.remove(&id);
                    usage.remove(&id);
                    // Its last row is told at the next tick; then it may come again.
                    seconds += 1;
                    aggregator.tick(Duration::from_secs(seconds));
                }
                3 | 4 if above.contains_key(&id) => {
                    aggregator.apply(&sampled(id, size * MIB, 0, More::default()), None, Duration::ZERO);
                    usage.insert(id, size * MIB);
                }
                _ => {
                    seconds += 1;
                    aggregator.tick(Duration::from_secs(seconds));
                }
            }
        }
        seconds += 1;
        let tick = aggregator.tick(Duration::from_secs(seconds));
        let told: HashMap<u64, u64> = tick
            .rows
            .iter()
            .filter_map(|row| Some((row.container.cgroup.id, row.memory.current?)))
            .collect();
        let expected = expected(&usage, &above);
        proptest::prop_assert_eq!(tick.held, (!told.is_empty()).then(|| told.values().sum()));
        proptest::prop_assert_eq!(told, expected);
    }
}
