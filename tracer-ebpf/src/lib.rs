//! The ABI: what the programs in the kernel and the tracer in user space must agree on, written once.
//!
//! No program stands here (see `main.rs`) and nothing here allocates. Lists are macros or slices, so that a
//! name, its number and its sentence cannot drift apart.
#![no_std]

pub mod abi;
