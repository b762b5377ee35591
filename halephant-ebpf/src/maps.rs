//! The maps. Their static names are those of `halephant_common::names`.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, SockHash, SockMap};
use halephant_common::address::{Birth, FlowKey, PairKey, Peer};
use halephant_common::counters::NodeCounters;
use halephant_common::flow::{Arrival, Attachment, Binding, FlowEntry, Switchboard};
use halephant_common::names::{
    BIRTHS_MAX, ENROLLED_MAX, EVENTS_BYTES, FLOWS_MAX, LISTEN_PORTS_MAX, NODES_MAX,
};

#[map]
pub static FLOWS: Array<FlowEntry> = Array::with_max_entries(FLOWS_MAX, BPF_F_MMAPABLE);
#[map]
pub static SWITCHBOARD: Array<Switchboard> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static COUNTERS: PerCpuArray<NodeCounters> = PerCpuArray::with_max_entries(NODES_MAX, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);
#[map]
pub static OWN_SOCKETS: SockMap = SockMap::with_max_entries(2 * FLOWS_MAX, 0);
#[map]
pub static OWN: HashMap<u64, Attachment> = HashMap::with_max_entries(2 * FLOWS_MAX, 0);
#[map]
pub static ENROLLED_SOCKETS: SockHash<FlowKey> = SockHash::with_max_entries(ENROLLED_MAX, 0);
#[map]
pub static ENROLLED: HashMap<FlowKey, Attachment> = HashMap::with_max_entries(ENROLLED_MAX, 0);
#[map]
pub static ARRIVED: HashMap<u64, Arrival> = HashMap::with_max_entries(ENROLLED_MAX, 0);
#[map]
pub static BINDINGS: HashMap<FlowKey, Binding> = HashMap::with_max_entries(2 * FLOWS_MAX, 0);
#[map]
pub static LISTEN_PORTS: HashMap<u16, u8> = HashMap::with_max_entries(LISTEN_PORTS_MAX, 0);
#[map]
pub static DIALS: LruHashMap<u64, u8> = LruHashMap::with_max_entries(BIRTHS_MAX, 0);
#[map]
pub static BIRTHS: LruHashMap<PairKey, Birth> = LruHashMap::with_max_entries(BIRTHS_MAX, 0);
#[map]
pub static PEERS: LruHashMap<u64, Peer> = LruHashMap::with_max_entries(ENROLLED_MAX, 0);
