//! Work in flight over hand-made looks.

use super::*;

const NET: u32 = 4_026_531_840;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn listening(waiting: u64) -> (u32, u64, Option<Socket>) {
    let peer = IpAddr::from([0, 0, 0, 0]);
    (NET, 1, Some(Socket { port: 80, peer, listens: true, waiting }))
}

fn open(inode: u64, port: u16) -> (u32, u64, Option<Socket>) {
    let peer = IpAddr::from([10, 0, 0, (inode % 2) as u8]);
    (NET, inode, Some(Socket { port, peer, listens: false, waiting: 0 }))
}

fn arrivals(count: u64) -> Option<HashMap<Listener, u64>> {
    Some(HashMap::from([(Listener { net: NET, port: 80 }, count)]))
}

fn look(sockets: Vec<(u32, u64, Option<Socket>)>) -> Look {
    Look { sockets: Some(sockets), ..Look::default() }
}

fn flight(state: &WorkState, now: u64) -> Arc<Flight> {
    state.flights(at(now)).remove(&7).expect("it was looked at")
}

#[test]
fn what_ended_is_what_arrived_less_what_stays() {
    let mut state = WorkState::default();
    assert!(state.arrived(arrivals(3)), "nobody is known to listen there yet");
    // Three were open before; one is a connection of its own to somewhere else.
    state.look(
        7,
        &look(vec![listening(0), open(10, 80), open(11, 80), open(12, 80), open(13, 5000)]),
        None,
        (at(0), false, true),
    );
    let first = flight(&state, 0);
    assert_eq!((first.connections, first.connections_growth, first.queued), (Some(3), Some(0), Some(0)));
    assert_eq!((first.arrivals, first.arrivals_per_s), (Some(0), None), "those of before are not counted");
    assert!(!state.moved(7));
    assert!(!state.arrived(arrivals(13)), "it is known who listens");
    assert!(state.moved(7));
    // Ten came; of the three of before two went; the peer of the third tore it down, and its descriptor stays.
    let mut sockets = vec![listening(2), (NET, 12, None), (NET, 99, None)];
    sockets.extend((20..24).map(|inode| open(inode, 80)));
    state.look(7, &look(sockets), None, (at(2), false, false));
    let second = flight(&state, 2);
    assert_eq!((second.connections, second.connections_growth, second.queued), (Some(5), Some(2), Some(2)));
    assert_eq!((second.arrivals, second.completions), (Some(10), Some(6)));
    assert_eq!((second.arrivals_per_s, second.completions_per_s), (Some(5.0), Some(3.0)));
    assert_eq!(second.connections_growth_how, None);
    let peers: Vec<(String, u64)> =
        second.peers.iter().map(|peer| (peer.addr.to_string(), peer.count)).collect();
    assert_eq!(peers, [("10.0.0.0".to_owned(), 3), ("10.0.0.1".to_owned(), 2)]);
    assert!(state.flights(at(60)).is_empty(), "that was long ago");
}

#[test]
fn growth_is_since_the_beginning_where_that_is_known() {
    let mut state = WorkState::default();
    state.arrived(arrivals(9));
    let four = || look((10..14).map(|inode| open(inode, 80)).chain([listening(0)]).collect());
    // It began while memtrace watched: with nothing.
    state.look(7, &four(), None, (at(5), true, false));
    let born = flight(&state, 5);
    assert_eq!((born.connections_growth, born.arrivals, born.completions), (Some(4), Some(9), Some(5)));
    assert_eq!(born.connections_growth_how, None);
    let mut state = WorkState::default();
    state.look(7, &four(), None, (at(5), false, false));
    let late = flight(&state, 5);
    assert_eq!((late.connections_growth, late.connections_growth_how), (Some(0), Some(How::AtLeast)));
    assert_eq!((late.arrivals, late.completions), (None, None), "without the probe");
    // What cannot be read is not known, and what was known before does not become nothing.
    state.look(7, &Look::default(), None, (at(6), false, false));
    assert_eq!(flight(&state, 6).connections, None);
    assert!(!state.look(7, &four(), None, (at(7), false, false)), "something new was told");
    assert_eq!(flight(&state, 7).connections_growth, Some(0));
    assert!(state.look(7, &four(), None, (at(8), false, false)), "as before");
}

fn life(pid: u32, parent: u32, comm: &str, born: u64) -> Life {
    Life { pid, parent, comm: Arc::from(comm), threads: 1, born: at(born), zombie: false }
}

#[test]
fn children_by_name_with_those_that_ended() {
    let mut state = WorkState::default();
    let lives = vec![
        life(1, 900, "server", 0),
        life(2, 1, "du", 90),
        life(3, 1, "du", 96),
        life(4, 1, "du", 98),
        Life { zombie: true, ..life(5, 1, "du", 10) },
        life(6, 2, "helper", 99),
    ];
    let seconds = |seconds: u64| seconds * 1_000_000_000;
    let ended = HashMap::from([
        (
            "du",
            vec![
                LifeCount { count: 1, total: seconds(1), max: seconds(1) },
                LifeCount { count: 3, total: seconds(9), max: seconds(4) },
            ],
        ),
        ("sh", vec![LifeCount { count: 2, total: seconds(1), max: seconds(1) }]),
    ]);
    let seen = Look { lives, clock: at(100), sockets: None };
    state.look(7, &seen, Some(ended), (at(1), false, true));
    let with = flight(&state, 1);
    assert_eq!((with.processes, with.threads, with.running()), (5, 6, 4));
    let [du, second, third] = &with.children[..] else { panic!("{:?}", with.children) };
    assert_eq!((&*du.comm, du.running, du.ended), ("du", 3, Some(4)));
    assert_eq!((du.oldest_s, du.p50_s, du.p50_s_how, du.max_s), (Some(10.0), Some(3.0), None, Some(10.0)));
    assert_eq!([&*second.comm, &*third.comm], ["helper", "sh"], "the server is nobody's child here");
    assert_eq!((third.running, third.oldest_s, third.ended), (0, None, Some(2)));
    state.look(7, &seen, None, (at(2), false, false));
    let without = flight(&state, 2);
    let du = &without.children[0];
    assert_eq!((du.ended, du.p50_s, du.p50_s_how), (None, Some(4.0), Some(How::AtLeast)));
}
