//! Logs of programs, as shown when something fails.

/// The last lines of `text` under a title.
pub fn tail(title: &str, text: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(LINES);
    let note = if skipped > 0 { format!(" ({skipped} lines before)") } else { String::new() };
    format!("--- {title}{note}\n{}\n--- end", lines[skipped..].join("\n"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn shows_the_end_and_says_what_is_left_out() {
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let shown = super::tail("it", &text);
        assert!(shown.starts_with("--- it (40 lines before)\nline 40\n"), "{shown}");
        assert!(shown.ends_with("line 99\n--- end"), "{shown}");
    }
}
