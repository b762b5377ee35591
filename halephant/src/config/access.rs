//! `server.hba`, `server.ident` and `[server.throttle]`: the files are read and checked here, so that a start or a reload
//! either has all of their rules or does not happen.

use super::document::Table;
use super::findings::Reported;
use super::kind::{FROM_MILLISECOND, FilePath};
use super::problem::{Problem, Quoted};
use crate::auth::hba::Hba;
use crate::auth::ident::IdentMaps;
use crate::auth::settings::ClientAuthSettings;
use crate::auth::throttle::ThrottleSettings;
use crate::tls::ClientLeg;
use std::path::Path;
use std::sync::Arc;

const FAILURES_MAX: i64 = 1_000_000;
const ENTRIES_MAX: i64 = 10_000_000;

pub(super) fn client_auth(
    server: &mut Table<'_>,
    tls: &Result<ClientLeg, Reported>,
) -> Result<ClientAuthSettings, Reported> {
    let hba_file = server.optional("hba", "none", FilePath);
    let ident_file = server.optional("ident", "none", FilePath);
    let throttle = server.table("throttle", throttle);
    let (hba_file, ident_file) = (hba_file?, ident_file?);
    if ident_file.is_some() && hba_file.is_none() {
        return Err(server.wrong_at("hba", Problem::NeededWith("ident")));
    }
    let rules = hba_file.as_deref().map_or_else(|| Ok(Hba::default()), |path| load_rules(server, path));
    let maps = ident_file.as_deref().map_or_else(|| Ok(IdentMaps::default()), |path| load_maps(server, path));
    let (rules, maps) = (rules?, maps?);
    let trusts = tls.as_ref().map_or(true, |leg| leg.settings.trust.is_some());
    check(server, &rules, &maps, trusts)?;
    Ok(ClientAuthSettings {
        hba_file,
        ident_file,
        rules: Arc::new(rules),
        maps: Arc::new(maps),
        throttle: throttle?,
    })
}

fn load_rules(server: &Table<'_>, path: &Path) -> Result<Hba, Reported> {
    Hba::load(path).map_err(|mistakes| {
        let note = |mistake| server.wrong_at("hba", Problem::Hba(mistake));
        mistakes.into_iter().map(note).last().expect("a file that cannot be used has a mistake")
    })
}

fn load_maps(server: &Table<'_>, path: &Path) -> Result<IdentMaps, Reported> {
    IdentMaps::load(path).map_err(|mistakes| {
        let note = |mistake| server.wrong_at("ident", Problem::Ident(mistake));
        mistakes.into_iter().map(note).last().expect("a file that cannot be used has a mistake")
    })
}

/// Rules that could not let in whom they are for.
fn check(server: &Table<'_>, rules: &Hba, maps: &IdentMaps, trusts: bool) -> Result<(), Reported> {
    let mut outcome = Ok(());
    for rule in rules.rules() {
        if rule.demand.client_cert.is_some() && !trusts {
            let problem = Problem::CertificateWithoutTrust { place: rule.place.clone() };
            outcome = Err(server.wrong_at("hba", problem));
        }
        if let Some(map) = rule.demand.method.map().filter(|map| !map.is_empty() && !maps.has(map)) {
            let problem = Problem::NoMap { place: rule.place.clone(), map: Quoted::new(map) };
            outcome = Err(server.wrong_at("hba", problem));
        }
    }
    outcome
}

fn throttle(throttle: &mut Table<'_>) -> Result<ThrottleSettings, Reported> {
    let failures = throttle.integer("failures", 5, 0..=FAILURES_MAX);
    let delay = throttle.text("delay", "1s", FROM_MILLISECOND);
    let max_delay = throttle.text("max_delay", "1m", FROM_MILLISECOND);
    let reset_after = throttle.text("reset_after", "15m", FROM_MILLISECOND);
    let max_entries = throttle.integer("max_entries", 10_000, 1..=ENTRIES_MAX);
    Ok(ThrottleSettings {
        failures: failures?,
        delay: delay?,
        max_delay: max_delay?,
        reset_after: reset_after?,
        max_entries: max_entries?,
    })
}
