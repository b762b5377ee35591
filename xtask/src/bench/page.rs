//! `docs/performance.md`: the part between its marks is made from results.

use anyhow::{Context, Result};
use halephant_harness::target;
use std::fs;

use super::results::Results;
use super::{chart, markdown};

const START: &str = "<!-- made by `cargo xtask bench --save`: start -->";
const END: &str = "<!-- made by `cargo xtask bench --save`: end -->";

/// Renews the page and its chart.
pub fn save(results: &Results) -> Result<()> {
    let docs = target::workspace().join("docs");
    let page = docs.join("performance.md");
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let made = format!("![Chart](performance.svg)\n\n{}", markdown::render(results));
    fs::write(&page, replace(&text, &made)?)?;
    fs::write(docs.join("performance.svg"), chart::render(results)?)?;
    Ok(())
}

fn replace(text: &str, made: &str) -> Result<String> {
    let (before, rest) = text.split_once(START).with_context(|| format!("no line {START:?}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {END:?}"))?;
    Ok(format!("{before}{START}\n\n{}\n\n{END}{after}", made.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_what_is_between_the_marks() {
        let page = format!("above\n{START}\nold\n{END}\nbelow\n");
        let new = replace(&page, "new\n").expect("it has marks");
        assert_eq!(new, format!("above\n{START}\n\nnew\n\n{END}\nbelow\n"));
        assert_eq!(replace(&new, "new").expect("it still has"), new);
        assert!(replace("none", "new").is_err());
    }
}
