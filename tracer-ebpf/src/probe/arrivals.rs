//! Connections that arrive at a listening port, by port and network namespace.
//!
//! Kernel source: net/ipv4/af_inet.c `inet_sk_set_state`, which every change of a TCP socket's state goes through. One that
//! was asked for by a peer comes from SYN_RECV to ESTABLISHED, once, when it is put before `accept`; it happens wherever the
//! packet is taken in, so whose it is user space knows from who listens. When a descriptor is closed is not asked of the
//! states: they may end before it or long after it. Cost: a few times per connection, nothing per system call.

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use tracer_ebpf::abi::{failure::Failure, offsets::Symbol, work::Listener};

use crate::{
    access::{Access, Direct, Probed},
    atomic,
    emit::lose,
    globals::number,
    maps::ARRIVALS,
};

/// As `/proc/net/tcp` shows them.
const ESTABLISHED: u32 = 1;
const SYN_RECV: u32 = 3;

#[inline(always)]
fn is_arrival(old: u32, new: u32) -> bool {
    old == SYN_RECV && new == ESTABLISHED
}

#[inline(always)]
fn arrived<A: Access>(sock: u64) {
    // SAFETY: fields of `sock` and `net`; see `Access`.
    let key = unsafe {
        let net = A::word(sock + u64::from(number(Symbol::SockNet)));
        Listener {
            net: A::half(net + u64::from(number(Symbol::NetInum))),
            port: u32::from(A::quarter(sock + u64::from(number(Symbol::SockNum)))),
        }
    };
    if ARRIVALS.get_ptr_mut(key).is_none() {
        // BPF_NOEXIST: another CPU may have made the entry meanwhile, and its counts must stay.
        let _ = ARRIVALS.insert(key, 0, 1);
    }
    match ARRIVALS.get_ptr_mut(key) {
        // SAFETY: a valid map value, shared between CPUs: added to atomically.
        Some(count) => unsafe { atomic::add(count, 1) },
        None => lose(Failure::ArrivalsFull),
    }
}

/// `(const struct sock *, int oldstate, int newstate)`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn arrival_btf(ctx: BtfTracePointContext) -> i32 {
    let sock: u64 = ctx.arg(0);
    let (old, new): (u64, u64) = (ctx.arg(1), ctx.arg(2));
    if is_arrival(old as u32, new as u32) && sock != 0 {
        arrived::<Direct>(sock);
    }
    0
}
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn arrival_raw(ctx: RawTracePointContext) -> i32 {
    let (old, new): (u64, u64) = (ctx.arg(1), ctx.arg(2));
    if is_arrival(old as u32, new as u32) {
        arrived::<Probed>(ctx.arg(0));
    }
    0
}
#[tracepoint]
pub fn arrival_tp(ctx: TracePointContext) -> u32 {
    // SAFETY: the offsets come from the tracepoint's own format.
    let record = unsafe {
        (
            ctx.read_at::<u32>(number(Symbol::TpSockOld) as usize),
            ctx.read_at::<u32>(number(Symbol::TpSockNew) as usize),
            ctx.read_at::<u64>(number(Symbol::TpSockAddress) as usize),
        )
    };
    if let (Ok(old), Ok(new), Ok(sock)) = record
        && is_arrival(old, new)
    {
        arrived::<Probed>(sock);
    }
    0
}
