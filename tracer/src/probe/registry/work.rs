//! The probe of connections that arrive.

use tracer_ebpf::abi::offsets::Symbol;

use super::{ALTERNATIVE, Alternative, Kind, Probe, event};

const OF_SOCKET: &[Symbol] = &[Symbol::SockNum, Symbol::SockNet, Symbol::NetInum];
const PRECISION: &str =
    "every TCP connection that a peer asked for, by listening port, when it is there to be accepted";

pub(super) const ARRIVALS: Probe = Probe {
    name: "arrivals",
    purpose: "TCP connections that arrive at each listening port",
    alternatives: &[
        Alternative {
            kind: Kind::TpBtf,
            links: &[event("arrival_btf", "sock", "inet_sock_set_state", 3)],
            needs: OF_SOCKET,
            precision: PRECISION,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::RawTp,
            links: &[event("arrival_raw", "sock", "inet_sock_set_state", 3)],
            needs: OF_SOCKET,
            precision: PRECISION,
            ..ALTERNATIVE
        },
        Alternative {
            kind: Kind::Tracepoint,
            links: &[event("arrival_tp", "sock", "inet_sock_set_state", 0)],
            needs: &[
                Symbol::SockNum,
                Symbol::SockNet,
                Symbol::NetInum,
                Symbol::TpSockAddress,
                Symbol::TpSockOld,
                Symbol::TpSockNew,
            ],
            precision: PRECISION,
            ..ALTERNATIVE
        },
    ],
    on_demand: None,
    lost: "how many connections arrive and end is not known; those in flight are, by /proc",
};
