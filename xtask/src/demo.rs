//! `cargo xtask demo`: PostgreSQL with a replica, halephant before it, one table of figures, and both to play with.

mod interrupt;
mod measure;

use anyhow::{Result, bail};
use clap::Args;
use halephant_harness::port::Port;
use halephant_harness::postgres::Binaries;
use halephant_harness::{Cluster, Login, Proxy, ProxyConfig, pgbench, process};
use std::time::Duration;

use crate::{cargo, say};
use interrupt::Interrupt;

const ROLE: &str = "app";
const PASSWORD: &str = "demo";
const DATABASE: &str = "app";
/// The same database, in session mode.
const SESSION_POOL: &str = "app_session";

#[derive(Args)]
pub struct Options {
    /// Leave after the table
    #[arg(long)]
    once: bool,
    /// pgbench clients
    #[arg(long, default_value_t = 8)]
    clients: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// pgbench's scale: times 100,000 accounts
    #[arg(long, default_value_t = 5)]
    scale: u32,
}

pub fn run(options: &Options) -> Result<()> {
    let interrupt = Interrupt::watch()?;
    say("looking for PostgreSQL");
    let binaries = Binaries::find_or_install()?;
    say("building halephant in release");
    let halephant = cargo::build_halephant(true)?;
    say(&format!(
        "starting PostgreSQL {} ({}), a primary and a replica",
        binaries.version,
        binaries.directory().display()
    ));
    let cluster = start_cluster(binaries, options)?;
    say(&format!("making pgbench's tables at scale {}", options.scale));
    let direct = cluster.login(ROLE, DATABASE);
    pgbench::initialize(cluster.binaries(), &direct, options.scale)?;
    cluster.wait_for_replay()?;
    say("starting halephant");
    let admin = Port::pick()?;
    let proxy = Proxy::start_binary(&halephant, &config(&cluster, &admin, options))?;

    say(&format!("measuring: pgbench, select only, {} clients, {} s each", options.clients, options.seconds));
    let transaction = proxy.login(direct.clone());
    let session = transaction.clone().database(SESSION_POOL);
    let ways: [(&str, &Login); 3] =
        [("direct", &direct), ("halephant, session", &session), ("halephant, transaction", &transaction)];
    print(&measure::table(&ways, &cluster, &proxy, options)?);
    if options.once {
        return Ok(());
    }
    print(&format!("\nTry it:   {}\n          {}", transaction.psql_line(), session.psql_line()));
    print(&format!("Direct:   {}", direct.psql_line()));
    print(&format!("Status:   http://{}/", admin_address(&admin)));
    print("Ctrl-C ends and removes everything.");
    stay(&interrupt, &proxy)?;
    say("removing everything");
    Ok(())
}

fn start_cluster(binaries: Binaries, options: &Options) -> Result<Cluster> {
    Cluster::builder()
        .binaries(binaries)
        .replicas(1)
        .setting("shared_buffers", "256MB")
        .setting("max_connections", &(options.clients * 3 + 50).to_string())
        .role(ROLE, PASSWORD)
        .database(DATABASE, ROLE)
        .start()
}

/// Passwords of clients are not in it: halephant learns what it needs when they log in.
fn config(cluster: &Cluster, admin: &Port, options: &Options) -> ProxyConfig {
    ProxyConfig::new(cluster)
        .set("logging.level", "info")
        .set("admin.listen", admin_address(admin))
        .pool(DATABASE, "transaction", options.clients.min(20), &[ROLE])
        .pool(SESSION_POOL, "session", options.clients + 10, &[ROLE])
        .set(&format!("cluster.main.pool.{SESSION_POOL}.database"), DATABASE)
}

fn admin_address(port: &Port) -> String {
    format!("127.0.0.1:{}", port.number())
}

fn stay(interrupt: &Interrupt, proxy: &Proxy) -> Result<()> {
    while !interrupt.wait(Duration::from_secs(1)) {
        if !process::is_running(proxy.pid()?) {
            bail!("halephant has ended\n{}", proxy.log_tail());
        }
    }
    Ok(())
}

#[allow(clippy::print_stdout)]
fn print(text: &str) {
    println!("{text}");
}
