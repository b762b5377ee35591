//! Who imports whom within the `halephant` crate, held against [`MODULES`].

use super::Finding;
use super::paths::{self, Named};
use super::source::Source;
use super::table::{MODULES, Module};

const CRATE: &str = "halephant/src/";

pub fn check(source: &Source<'_>, all: &[Source<'_>]) -> Vec<Finding> {
    // `lib.rs` declares the modules; it is above all of them.
    let Some(importer) = source.path.strip_prefix(CRATE).and(source.module.first()) else {
        return Vec::new();
    };
    let Some(module) = find(importer) else {
        return vec![Finding::new(
            source.path,
            1,
            format!("module {importer} has no layer in xtask's table"),
        )];
    };
    let mut findings = Vec::new();
    for named in paths::of(source.tokens.clone()) {
        let Some(target) = absolute(&named, &source.module, importer == "main") else { continue };
        let Some(reason) = target.first().and_then(|name| refusal(module, name)) else { continue };
        let file = file_of(&target, all);
        findings.push(Finding::new(source.path, named.line, format!("{reason} ({file})")));
    }
    findings
}

fn find(name: &str) -> Option<&'static Module> {
    MODULES.iter().find(|module| module.name == name)
}

/// The path from the crate's root, if it is one of this crate's.
fn absolute(named: &Named, module: &[String], is_binary: bool) -> Option<Vec<String>> {
    let (first, rest) = named.segments.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        // The binary is a crate of its own, before the library.
        "halephant" if is_binary => Some(rest.to_vec()),
        "super" => {
            let mut place: Vec<String> = module.iter().chain(&named.inside).cloned().collect();
            let up = named.segments.iter().take_while(|segment| *segment == "super").count();
            place.truncate(place.len().checked_sub(up)?);
            // Above the root module's own parts there is only the crate's root.
            place.is_empty().then(|| named.segments[up..].to_vec())
        }
        _ => None,
    }
}

/// Why `importer` may not import `name`.
fn refusal(importer: &Module, name: &str) -> Option<String> {
    // Not a module: something that the crate's root itself declares.
    let imported = find(name)?;
    if importer.name == imported.name {
        return None;
    }
    let who = format!("{} (layer {})", importer.name, importer.layer);
    if let Some(allowed) = imported.importers.filter(|allowed| !allowed.contains(&importer.name)) {
        return Some(format!("{who} may not import {name}: it is for {} alone", allowed.join(", ")));
    }
    if let Some(allowed) = importer.only.filter(|allowed| !allowed.contains(&name)) {
        return Some(format!(
            "{who} may not import {name}: of this crate it has {} alone",
            allowed.join(", ")
        ));
    }
    let lower = imported.layer < importer.layer;
    (!lower).then(|| format!("{who} may not import {name} (layer {})", imported.layer))
}

/// The file that a path leads to: the deepest module of it that is one.
fn file_of(target: &[String], all: &[Source<'_>]) -> String {
    let candidates = (1..=target.len()).rev().map(|depth| format!("{CRATE}{}.rs", target[..depth].join("/")));
    candidates
        .into_iter()
        .find(|path| all.iter().any(|source| source.path == path))
        .unwrap_or_else(|| format!("{CRATE}{}", target.first().map_or("", String::as_str)))
}

/// Two rows for one module would hide one of them.
#[cfg(test)]
pub fn duplicates() -> Vec<&'static str> {
    let mut names: Vec<&str> = MODULES.iter().map(|module| module.name).collect();
    names.sort_unstable();
    names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect()
}
