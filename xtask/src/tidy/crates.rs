//! Which crates of the workspace depend on which, and on what they must not.

use toml::{Table, Value};

use super::table::{CRATES, FORBIDDEN_LIBRARIES};
use super::{File, Finding};

pub fn check(file: &File) -> Vec<Finding> {
    let manifest: Table = match file.text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::new(&file.path, 1, format!("not TOML: {error}"))],
    };
    // The root's manifest is of no package.
    let Some(name) = manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str)
    else {
        return Vec::new();
    };
    let refuse = |library: &str| refusal(name, library).map(|message| Finding::new(&file.path, 1, message));
    dependencies(&manifest).iter().filter_map(|library| refuse(library)).collect()
}

/// Of the program itself and its build; tests may use more.
fn dependencies(manifest: &Table) -> Vec<String> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flatten();
    let tables = std::iter::once(manifest).chain(targets.filter_map(|(_, target)| target.as_table()));
    tables
        .flat_map(|table| ["dependencies", "build-dependencies"].map(|key| table.get(key)))
        .flatten()
        .filter_map(Value::as_table)
        .flat_map(Table::keys)
        .cloned()
        .collect()
}

fn refusal(name: &str, library: &str) -> Option<String> {
    let forbidden = FORBIDDEN_LIBRARIES.iter().find(|(of, _)| *of == name);
    if forbidden.is_some_and(|(_, libraries)| libraries.contains(&library)) {
        return Some(format!("{name} must do without {library}"));
    }
    let is_ours = CRATES.iter().any(|known| known.name == library);
    let allowed = CRATES.iter().find(|known| known.name == name).map(|known| known.may_use);
    match allowed {
        Some(allowed) if is_ours && !allowed.contains(&library) => {
            Some(format!("{name} may not use {library}"))
        }
        // Not in the table, such as the fuzz targets: nothing may depend on it, so it may use all.
        _ => None,
    }
}
