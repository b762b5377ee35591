//! Names in certificates: a subject's common name and whole name, and host names where a certificate has nothing better.

use std::fmt::Write;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// The one common name of the subject; a subject with several could be anybody.
pub(super) fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    (names.next().is_none() && !name.contains('\0')).then_some(name)
}

/// The whole subject as OpenSSL writes it by RFC 2253: the last part first.
pub(super) fn subject(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut parts = Vec::new();
    for part in parsed.subject().iter_rdn() {
        let mut written = String::new();
        for attribute in part.iter() {
            if !written.is_empty() {
                written.push('+');
            }
            let name = oid2abbrev(attribute.attr_type(), oid_registry()).ok()?;
            write!(written, "{name}={}", escape(attribute.as_str().ok()?)).ok()?;
        }
        parts.push(written);
    }
    parts.reverse();
    Some(parts.join(","))
}

/// A value of a distinguished name (RFC 2253, section 2.4); what is not printable ASCII is written in hexadecimal.
fn escape(value: &str) -> String {
    let mut written = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (index, byte) in value.bytes().enumerate() {
        let is_special = match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => true,
            b'#' => index == 0,
            b' ' => index == 0 || index == last,
            _ => false,
        };
        if is_special {
            written.push('\\');
        }
        match byte {
            b' '..=b'~' => written.push(char::from(byte)),
            _ => {
                let _ = write!(written, "\\{byte:02X}");
            }
        }
    }
    written
}

/// Whether the common name is that of `host`, as libpq has it where a certificate has no alternative names at all:
/// letter case aside, with `*` for the whole first label.
pub(super) fn common_name_is(certificate: &[u8], host: &str) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    if !matches!(parsed.subject_alternative_name(), Ok(None)) {
        return false;
    }
    common_name(certificate).is_some_and(|name| matches(&name, host))
}

pub(super) fn matches(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return !host.is_empty();
    }
    let Some(domain) = pattern.strip_prefix("*.") else { return false };
    // A wildcard stands for one label, and never for a whole top-level domain.
    host.split_once('.').is_some_and(|(label, rest)| {
        !label.is_empty() && domain.contains('.') && rest.eq_ignore_ascii_case(domain)
    })
}

/// Whether now is within the certificate's time.
pub(super) fn is_in_time(certificate: &[u8], now_seconds: u64) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let now = i64::try_from(now_seconds).ok().and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    now.is_some_and(|now| parsed.validity().is_valid_at(now))
}
