//! The trace that a statement belongs to, from the `traceparent` of a comment in it, as sqlcommenter writes it.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// How much of a statement's beginning and end is looked at: comments stand there.
pub const PARENT_BYTES_MAX: usize = 2048;

const KEY: &[u8] = b"traceparent='";
/// Version, trace, span and flags: `00-<32>-<16>-<2>`.
const VALUE_BYTES: usize = 55;

/// The span that a comment of `text` names, if there is one and it is well-formed.
pub fn parent_of(text: &[u8]) -> Option<SpanContext> {
    let (head, tail) = if text.len() <= 2 * PARENT_BYTES_MAX {
        (text, &[][..])
    } else {
        (&text[..PARENT_BYTES_MAX], &text[text.len() - PARENT_BYTES_MAX..])
    };
    [head, tail].into_iter().find_map(in_part)
}

fn in_part(part: &[u8]) -> Option<SpanContext> {
    let at = memchr::memmem::find(part, KEY)?;
    // Within a comment, that is: no string holds it.
    memchr::memmem::rfind(&part[..at], b"/*")?;
    let value = part.get(at + KEY.len()..at + KEY.len() + VALUE_BYTES)?;
    let ended = part.get(at + KEY.len() + VALUE_BYTES..)?.starts_with(b"'");
    parse(str::from_utf8(value).ok().filter(|_| ended)?)
}

fn parse(value: &str) -> Option<SpanContext> {
    let mut parts = value.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hexadecimal = |part: &str, length| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let well_formed = hexadecimal(version, 2)
        && version != "ff"
        && hexadecimal(trace, 32)
        && hexadecimal(span, 16)
        && hexadecimal(flags, 2)
        && parts.next().is_none();
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok().filter(|_| well_formed)?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(text: &str) -> Option<String> {
        parent_of(text.as_bytes()).map(|parent| format!("{}-{}", parent.trace_id(), parent.span_id()))
    }

    #[test]
    fn comments_name_their_trace() {
        let expected = Some("0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331".to_owned());
        assert_eq!(of(&format!("SELECT 1 /*traceparent='{PARENT}'*/")), expected);
        assert_eq!(of(&format!("/* app='x', traceparent='{PARENT}' */ SELECT 1")), expected);
        let long = "x".repeat(100_000);
        assert_eq!(of(&format!("SELECT '{long}' /*traceparent='{PARENT}'*/")), expected);
    }

    #[test]
    fn anything_else_names_none() {
        assert_eq!(of(""), None);
        assert_eq!(of(&format!("SELECT 'traceparent=''{PARENT}'''")), None);
        assert_eq!(of(&format!("/*traceparent='{PARENT}")), None);
        assert_eq!(of(&format!("/*traceparent='{}'*/", PARENT.replace('7', "G"))), None);
        assert_eq!(of(&format!("/*traceparent='{}'*/", PARENT.replace("00-", "ff-"))), None);
        assert_eq!(of("/*traceparent='00-00000000000000000000000000000000-b7ad6b7169203331-01'*/"), None);
        assert_eq!(of("/*traceparent='"), None);
    }
}
