//! The pages of the admin API in headless Chromium, where it is installed.

use anyhow::Result;
use halephant_harness::pgbench::{self, Length};
use halephant_harness::port::Port;
use halephant_harness::{Cluster, Pgbench, command, target};
use halephant_suite::{Stage, stage};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn chromium() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH")?;
    let directories: Vec<_> = std::env::split_paths(&path).collect();
    names.iter().flat_map(|name| directories.iter().map(move |at| at.join(name))).find(|path| path.is_file())
}

/// Opens `url`, lets it live for some seconds of its own time and gives its document; the screenshot stays behind.
fn open(browser: &PathBuf, url: &str, name: &str) -> Result<String> {
    let profile = tempfile::tempdir()?;
    let picture = target::cache("screenshots")?.join(format!("{name}.png"));
    let mut chromium = Command::new(browser);
    chromium
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--window-size=1280,1000", "--virtual-time-budget=20000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--screenshot={}", picture.display()))
        .args(["--dump-dom", url]);
    let output = command::run(&mut chromium, LIMIT)?;
    anyhow::ensure!(picture.is_file(), "no picture: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn pages_show_what_happens() {
    let Some(browser) = chromium() else {
        // `.ci/run` installs it, so a run of it that leaves this out is broken.
        assert!(std::env::var_os("CI").is_none(), "no Chromium is installed");
        eprintln!("no Chromium is installed: left out");
        return;
    };
    let port = Port::pick().expect("there is a free one");
    let number = port.number();
    let stage = Stage::with(Cluster::builder().replicas(1), |config| {
        config.set("admin.listen", format!("127.0.0.1:{number}"))
    })
    .expect("it starts");
    pgbench::initialize(stage.cluster.binaries(), &stage.direct(), 1).expect("there is room");
    let (binaries, login) = (stage.cluster.binaries().clone(), stage.transaction());
    let load = Pgbench { clients: 16, length: Length::Time(Duration::from_secs(15)), ..Pgbench::default() };
    let load = std::thread::spawn(move || load.run(&binaries, &login));

    let page = open(&browser, &format!("http://127.0.0.1:{number}/"), "status").expect("it opens");
    for part in [">live</", stage::DATABASE, ">primary</", ">replica</", ">Lag</", "statements/s"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let between = |id: &str| {
        let (_, rest) = page.split_once(&format!("id=\"{id}\">")).expect("the element");
        rest.split_once('<').expect("its end").0.to_owned()
    };
    // The browser's clock runs ahead of the load, so the rate may be any.
    assert_ne!(between("tps"), "–");
    assert_eq!(between("clients"), "16");
    if stage.proxy.log().contains("the kernel path is on") {
        assert!(between("bytes-more").contains("in the kernel"), "{}", between("bytes-more"));
    }

    let docs = open(&browser, &format!("http://127.0.0.1:{number}/docs"), "docs").expect("it opens");
    assert!(docs.contains("/admin/clients") && docs.contains("oldest_wait_seconds"), "{docs}");
    let report = load.join().expect("no panic").expect("it ran");
    assert_eq!((report.failed, report.errors.len()), (0, 0));
}
