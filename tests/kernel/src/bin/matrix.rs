//! What `cargo xtask vm` runs inside each kernel: loads every program, runs the self-test, and carries bytes over every
//! path. Prints one line per finding, fields separated by tabs; the last one is `end`.
#![allow(clippy::print_stdout, reason = "the lines are the answer")]

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{Program, ProgramError};
use halephant::splice::Path;
use halephant::splice::policy::Directions;
use halephant_kernel_tests::messages::{query, ready, stream};
use halephant_kernel_tests::relay::Summary;
use halephant_kernel_tests::repeated::every_socket;
use halephant_kernel_tests::rig::{ADDRESSES, Rig, Session, carry};

static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../halephant-ebpf/object/halephant.bpfel.o"
));

const EXCHANGES: usize = 100;
/// More than the credit.
const BULK_BYTES: usize = 3 << 19;

fn say(fields: &[&str]) {
    let line = fields.iter().map(|field| field.replace(['\t', '\n'], " ")).collect::<Vec<_>>().join("\t");
    println!("matrix\t{line}");
}

fn main() {
    let outcome = run();
    match outcome {
        Ok(()) => say(&["end", "ok"]),
        Err(error) => say(&["end", "failed", &format!("{error:#}")]),
    }
}

fn run() -> Result<()> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    say(&["kernel", release.trim()]);
    load_every_program()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for address in ADDRESSES {
        runtime.block_on(every_path(address))?;
    }
    Ok(())
}

/// Loads each program by itself, those that the proxy would not choose on this kernel, too.
fn load_every_program() -> Result<()> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    // Before 5.11 maps count as locked memory.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let mut ebpf = aya::EbpfLoader::new().load(PROGRAMS).context("the object file does not load")?;
    for (name, program) in ebpf.programs_mut() {
        match load(program) {
            Ok(()) => say(&["program", name, "loads"]),
            Err(error) => say(&["program", name, "refused", &reason(&error)]),
        }
    }
    Ok(())
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::SkSkb(program) => program.load(),
        Program::SkMsg(program) => program.load(),
        Program::SockOps(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// The verifier's last words, which say what it did not like.
fn reason(error: &ProgramError) -> String {
    let ProgramError::LoadError { verifier_log, io_error } = error else { return error.to_string() };
    let log = verifier_log.to_string();
    // After what it did not like it goes on with figures.
    let figures = ["processed ", "stack depth ", "verification time ", "max_states"];
    let said = |line: &&str| !line.is_empty() && !figures.iter().any(|figure| line.starts_with(figure));
    let last = log.lines().rev().find(said).unwrap_or_default();
    format!("{io_error}: {last}")
}

async fn every_path(address: IpAddr) -> Result<()> {
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    let rig = Rig::start(address).await?;
    if address.is_ipv4() {
        say(&["netns", if rig.splice.report().netns { "on" } else { "off" }]);
        for outcome in &rig.splice.report().paths {
            let state = if outcome.used == Directions::BOTH { "on" } else { "off" };
            say(&["path", outcome.path.name(), state, &outcome.reason]);
        }
    }
    for path in Path::ALL {
        let row = rig.splice.report().paths.iter().find(|row| row.path == path).context("no such path")?;
        if row.used != Directions::BOTH {
            say(&["trip", path.name(), family, "skipped", &row.reason]);
            continue;
        }
        match round_trip(&rig, path).await {
            Ok(summary) => {
                let [copied, redirected] =
                    [summary.copied, summary.redirected].map(|[up, down]| (up + down).to_string());
                say(&["trip", path.name(), family, "equal", &copied, &redirected]);
            }
            Err(error) => say(&["trip", path.name(), family, "failed", &format!("{error:#}")]),
        }
    }
    ensure!(rig.splice.faults() == 0, "the kernel path switched itself off");
    Ok(())
}

/// Segments that repeat bytes, short exchanges, then bulk both ways, compared byte by byte.
async fn round_trip(rig: &Rig, path: Path) -> Result<Summary> {
    if rig.near_address()?.is_ipv4() {
        every_socket(rig, path).await.context("bytes that come again")?;
    }
    let mut session = rig.session(path).await?;
    let (request, answer) = (query(b"select 1\0"), [stream(1, b'D', 100, 50), ready(b'I')].concat());
    for _ in 0..EXCHANGES {
        exchange(&mut session, &request, &answer).await?;
    }
    let Session { client, server, .. } = &mut session;
    let cut = |i: usize| 1 + (i * 7919) % 70_000;
    carry(client, server, &stream(2, b'd', BULK_BYTES, 20_000), cut).await.context("to the server")?;
    carry(server, client, &stream(3, b'D', BULK_BYTES, 2000), cut).await.context("to the client")?;
    exchange(&mut session, &request, &answer).await?;
    let summary = session.finish().await?;
    let all = (EXCHANGES + 1) as u64 * request.len() as u64;
    ensure!(summary.redirected[0] > all / 2 && summary.redirected[1] > all / 2, "{summary:?}");
    Ok(summary)
}

async fn exchange(session: &mut Session, request: &[u8], answer: &[u8]) -> Result<()> {
    carry(&mut session.client, &mut session.server, request, |_| usize::MAX).await?;
    carry(&mut session.server, &mut session.client, answer, |_| usize::MAX).await
}
