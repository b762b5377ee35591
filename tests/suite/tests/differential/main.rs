//! Random sequences of messages, valid and not, direct and through halephant in transaction mode: the answers are the same.

mod found;
mod sequences;
mod statements;
mod stretch;

use halephant_suite::Message;

/// The environment's number, else this one.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Where in PostgreSQL's source an error was raised may differ: a Bind in a failed transaction that meets no copy
/// fails by the Parse in front of it, in the same words.
fn normalize(message: &mut Message) {
    if message.tag == b'E' {
        let fields = message.body.split(|byte| *byte == 0);
        let kept = fields.filter(|field| !matches!(field.first(), Some(b'F' | b'L' | b'R')));
        message.body = kept.collect::<Vec<_>>().join(&0);
    }
}

/// The messages of a client, for people to read.
fn text(mut bytes: &[u8]) -> String {
    let mut text = String::new();
    while let Some((&[tag, ref length @ ..], rest)) = bytes.split_first_chunk::<5>() {
        let body = u32::from_be_bytes(*length) as usize - 4;
        text += &format!("{}({}) ", char::from(tag), rest[..body].escape_ascii());
        bytes = &rest[body..];
    }
    text
}
