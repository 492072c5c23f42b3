//! Reads who signalled whom from the kernel's map.

use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError},
};
use tracer_ebpf::abi::signal::{Kin, SignalCount, SignalKey};

/// The map, taken out of the loaded object.
pub struct SignalMap {
    map: HashMap<MapData, SignalKey, SignalCount>,
}

impl SignalMap {
    pub fn take(ebpf: &mut Ebpf) -> Result<SignalMap, MapError> {
        let map = ebpf.take_map("SIGNALS");
        let map = map.ok_or_else(|| MapError::InvalidName { name: "SIGNALS".to_owned() })?;
        Ok(SignalMap { map: HashMap::try_from(map)? })
    }

    /// All pairs of sender and target. An entry that goes meanwhile ends the walk; the next look reads on.
    pub fn keys(&self) -> Vec<SignalKey> {
        self.map.keys().map_while(Result::ok).collect()
    }

    /// What is counted of a pair, since it was first seen.
    pub fn count(&self, key: &SignalKey) -> Option<SignalCount> {
        self.map.get(key, 0).ok()
    }

    /// No more will come of it.
    pub fn remove(&mut self, key: &SignalKey) {
        // One that is gone already is no failure.
        let _ = self.map.remove(key);
    }
}

/// A process's name up to its NUL, or a question mark.
pub fn comm(kin: &Kin) -> String {
    let end = kin.comm.iter().position(|byte| *byte == 0).unwrap_or(kin.comm.len());
    if end == 0 { "?".to_owned() } else { String::from_utf8_lossy(&kin.comm[..end]).into_owned() }
}
