//! [`Object`]: the programs and maps in the kernel. They are gone when it is dropped or the process ends.

use std::os::fd::OwnedFd;

use aya::maps::{HashMap, Map, MapData, PerCpuArray, RingBuf, SockHash, SockMap};
use aya::programs::links::CgroupAttachMode;
use aya::programs::{Program, ProgramError, SkMsg, SkSkb, SockOps};
use aya::{Ebpf, EbpfLoader};
use halephant_common::address::{FlowKey, Peer};
use halephant_common::counters::NodeCounters;
use halephant_common::flow::{Arrival, Attachment, Binding};
use halephant_common::names;

use super::error::SpliceError;
use super::words::{self, Words};

#[cfg(target_endian = "little")]
static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../halephant-ebpf/object/halephant.bpfel.o"
));
#[cfg(target_endian = "big")]
static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../halephant-ebpf/object/halephant.bpfeb.o"
));

pub struct Object {
    /// Holds the programs and their links.
    _ebpf: Ebpf,
    pub flows: MapData,
    pub switchboard: MapData,
    pub counters: PerCpuArray<MapData, NodeCounters>,
    pub events: Option<RingBuf<MapData>>,
    pub words: Option<Words>,
    pub own_sockets: SockMap<MapData>,
    pub own: HashMap<MapData, u64, Attachment>,
    pub enrolled: HashMap<MapData, FlowKey, Attachment>,
    pub arrived: HashMap<MapData, u64, Arrival>,
    pub bindings: HashMap<MapData, FlowKey, Binding>,
    pub listen_ports: HashMap<MapData, u16, u8>,
    pub dials: HashMap<MapData, u64, u8>,
    pub peers: HashMap<MapData, u64, Peer>,
    _enrolled_sockets: SockHash<MapData, FlowKey>,
    /// The kernel tells programs the network namespace.
    pub netns: bool,
}

impl Object {
    /// `cgroup`: where to enrol other processes' sockets; `None` enrols none.
    pub fn load(cgroup: Option<&OwnedFd>) -> Result<Self, SpliceError> {
        // Before 5.11 maps count as locked memory.
        let _ = nix::sys::resource::setrlimit(
            nix::sys::resource::Resource::RLIMIT_MEMLOCK,
            nix::sys::resource::RLIM_INFINITY,
            nix::sys::resource::RLIM_INFINITY,
        );
        let mut ebpf = EbpfLoader::new()
            .override_global(words::LEVEL, &words::level(), false)
            .load(PROGRAMS)
            .map_err(|error| SpliceError::Object(Box::new(error)))?;
        let own_sockets: SockMap<_> = typed(&mut ebpf, names::OWN_SOCKETS)?;
        let enrolled_sockets: SockHash<_, FlowKey> = typed(&mut ebpf, names::ENROLLED_SOCKETS)?;
        attach(&mut ebpf, names::OWN_VERDICT, |program: &mut SkSkb| {
            program.load()?;
            program.attach(own_sockets.fd()).map(|_| ())
        })?;
        let mut netns = true;
        if let Some(cgroup) = cgroup {
            attach(&mut ebpf, names::ENROLLED_VERDICT, |program: &mut SkSkb| {
                program.load()?;
                program.attach(enrolled_sockets.fd()).map(|_| ())
            })?;
            let message = |program: &mut SkMsg| {
                program.load()?;
                program.attach(enrolled_sockets.fd()).map(|_| ())
            };
            let enrol = |program: &mut SockOps| {
                program.load()?;
                program.attach(cgroup, CgroupAttachMode::Single).map(|_| ())
            };
            netns = attach(&mut ebpf, names::ENROLLED_MSG, message).is_ok();
            if netns {
                attach(&mut ebpf, names::ENROL, enrol)?;
            } else {
                attach(&mut ebpf, names::ENROLLED_MSG_PLAIN, message)?;
                attach(&mut ebpf, names::ENROL_PLAIN, enrol)?;
            }
        }
        Ok(Self {
            flows: array(&mut ebpf, names::FLOWS)?,
            switchboard: array(&mut ebpf, names::SWITCHBOARD)?,
            counters: typed(&mut ebpf, names::COUNTERS)?,
            events: Some(typed(&mut ebpf, names::EVENTS)?),
            words: words::of(&mut ebpf),
            own_sockets,
            own: typed(&mut ebpf, names::OWN)?,
            enrolled: typed(&mut ebpf, names::ENROLLED)?,
            arrived: typed(&mut ebpf, names::ARRIVED)?,
            bindings: typed(&mut ebpf, names::BINDINGS)?,
            listen_ports: typed(&mut ebpf, names::LISTEN_PORTS)?,
            dials: typed(&mut ebpf, names::DIALS)?,
            peers: typed(&mut ebpf, names::PEERS)?,
            _enrolled_sockets: enrolled_sockets,
            netns,
            _ebpf: ebpf,
        })
    }
}

fn typed<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, SpliceError>
where
    T: TryFrom<Map, Error = aya::maps::MapError>,
{
    let map = ebpf.take_map(name).ok_or(SpliceError::Missing(name))?;
    T::try_from(map).map_err(|source| SpliceError::Map { name, step: "opening", source: Box::new(source) })
}

/// The map itself, to be mapped into memory.
fn array(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, SpliceError> {
    match ebpf.take_map(name) {
        Some(Map::Array(data)) => Ok(data),
        _ => Err(SpliceError::Missing(name)),
    }
}

fn attach<P>(
    ebpf: &mut Ebpf,
    name: &'static str,
    attach: impl Fn(&mut P) -> Result<(), ProgramError>,
) -> Result<(), SpliceError>
where
    for<'a> &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(SpliceError::Missing(name))?;
    let failed = |source| SpliceError::Program { name, source: Box::new(source) };
    attach(program.try_into().map_err(failed)?).map_err(failed)
}
