//! [`Objects`]: programs, maps and links in the kernel, and which of them are a process's.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::{self, ErrorKind};

use anyhow::{Context as _, Result, ensure};

/// By their identifiers, which the kernel does not give again soon.
#[derive(Debug, Default)]
pub struct Objects {
    /// Their names, as long as the kernel keeps them.
    pub programs: BTreeMap<u32, String>,
    pub maps: BTreeMap<u32, String>,
    /// Their programs; the attachments to a cgroup are such links.
    pub links: BTreeMap<u32, u32>,
}

impl Objects {
    /// Everything there is, whoever holds it.
    pub fn in_kernel() -> Result<Self> {
        let mut all = Self::default();
        for program in present(aya::programs::loaded_programs()) {
            let program = program?;
            all.programs.insert(program.id(), text(program.name()));
        }
        for map in present(aya::maps::loaded_maps()) {
            let map = map?;
            all.maps.insert(map.id(), text(map.name()));
        }
        for link in present(aya::programs::loaded_links()) {
            let link = link?;
            all.links.insert(link.id(), link.program_id());
        }
        Ok(all)
    }

    /// What a process holds descriptors of, and what these hold: a link its program, a program its maps.
    pub fn of(process: u32) -> Result<Self> {
        let (mut programs, mut maps, mut links) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let entries = std::fs::read_dir(format!("/proc/{process}/fdinfo"))
            .with_context(|| format!("looking at process {process}"))?;
        for entry in entries {
            // Descriptors come and go.
            let Ok(text) = std::fs::read_to_string(entry?.path()) else { continue };
            // A link's text names its program, too.
            for (name, ids) in [("link_id:", &mut links), ("map_id:", &mut maps), ("prog_id:", &mut programs)]
            {
                for id in text.lines().filter_map(|line| line.strip_prefix(name)) {
                    ids.insert(id.trim().parse::<u32>()?);
                }
            }
        }
        for program in present(aya::programs::loaded_programs()) {
            let program = program?;
            if programs.contains(&program.id()) {
                maps.extend(program.map_ids()?.unwrap_or_default());
            }
        }
        let mut objects = Self::in_kernel()?;
        objects.programs.retain(|id, _| programs.contains(id));
        objects.maps.retain(|id, _| maps.contains(id));
        objects.links.retain(|id, _| links.contains(id));
        ensure!(
            (objects.programs.len(), objects.maps.len(), objects.links.len())
                == (programs.len(), maps.len(), links.len()),
            "of programs {programs:?}, maps {maps:?} and links {links:?} there are only {objects:?}"
        );
        Ok(objects)
    }

    /// What is there of `self` at `now`, and what is linked to it.
    pub fn left(&self, mut now: Self) -> Self {
        now.programs.retain(|id, _| self.programs.contains_key(id));
        now.maps.retain(|id, _| self.maps.contains_key(id));
        now.links.retain(|id, program| self.links.contains_key(id) || self.programs.contains_key(program));
        now
    }

    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.maps.is_empty() && self.links.is_empty()
    }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Without those that went away between their number and the look at them.
fn present<T, E>(found: impl Iterator<Item = Result<T, E>>) -> impl Iterator<Item = Result<T, E>>
where
    E: Error + 'static,
{
    found.filter(|one| one.as_ref().err().is_none_or(|error| !is_gone(error)))
}

fn is_gone(error: &(dyn Error + 'static)) -> bool {
    let own = error.downcast_ref::<io::Error>().is_some_and(|it| it.kind() == ErrorKind::NotFound);
    own || error.source().is_some_and(is_gone)
}
