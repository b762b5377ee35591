//! SASLprep (RFC 4013) as PostgreSQL applies it to passwords, which is looser than the RFC: where preparation
//! fails, the password is used as it is.

use stringprep::tables;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// The password as it goes into the hash.
pub(crate) fn prepare(password: &[u8]) -> Zeroizing<Vec<u8>> {
    if password.is_ascii() {
        return Zeroizing::new(password.to_vec());
    }
    let prepared = std::str::from_utf8(password).ok().and_then(saslprep);
    prepared.unwrap_or_else(|| Zeroizing::new(password.to_vec()))
}

/// `None` where PostgreSQL's `pg_saslprep` says prohibited. It looks for prohibited, unassigned and right-to-left
/// characters before it normalizes, the RFC after; a verifier made by PostgreSQL needs PostgreSQL's order.
fn saslprep(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mapped: Zeroizing<Vec<char>> = Zeroizing::new(
        text.chars()
            .map(|c| if tables::non_ascii_space_character(c) { ' ' } else { c })
            .filter(|&c| !tables::commonly_mapped_to_nothing(c))
            .collect(),
    );
    if mapped.is_empty() || mapped.iter().any(|&c| prohibited(c)) || !direction_is_consistent(&mapped) {
        return None;
    }
    // With room to spare, so that growing leaves no copy behind.
    let mut prepared = Zeroizing::new(Vec::with_capacity(text.len() * 4));
    for c in mapped.iter().copied().nfkc() {
        prepared.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(prepared)
}

fn prohibited(c: char) -> bool {
    tables::non_ascii_space_character(c)
        || tables::ascii_control_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
        || tables::unassigned_code_point(c)
}

/// RFC 3454, section 6: right-to-left text starts and ends with it and holds nothing left-to-right.
fn direction_is_consistent(text: &[char]) -> bool {
    let right_to_left = |c: &char| tables::bidi_r_or_al(*c);
    !text.iter().any(right_to_left)
        || (text.first().is_some_and(right_to_left)
            && text.last().is_some_and(right_to_left)
            && !text.iter().any(|&c| tables::bidi_l(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(password: impl AsRef<[u8]>, expected: impl AsRef<[u8]>) {
        assert_eq!(prepare(password.as_ref()).as_slice(), expected.as_ref());
    }

    /// The examples of RFC 4013 that PostgreSQL's own tests run too.
    #[test]
    fn prepares() {
        check("I\u{AD}X", "IX");
        check("user", "user");
        check("USER", "USER");
        check("\u{AA}", "a");
        check("\u{2168}", "IX");
        check("p\u{A0}w", "p w");
        check("\u{627}1\u{628}", "\u{627}1\u{628}");
    }

    #[test]
    fn what_cannot_be_prepared_stays_as_it_is() {
        check("\u{7}", "\u{7}");
        check("\u{627}\u{31}", "\u{627}\u{31}");
        check("\u{627}\u{AA}\u{628}", "\u{627}\u{AA}\u{628}");
        check("\u{AD}", "\u{AD}");
        check("\u{AA}\u{E000}", "\u{AA}\u{E000}");
        check(b"\xAA\xFF", b"\xAA\xFF");
        check("", "");
    }

    /// U+1F100 came after Unicode 3.2: PostgreSQL refuses it before NFKC could turn it into "0.".
    #[test]
    fn unassigned_characters_are_looked_for_before_normalization() {
        check("\u{1F100}", "\u{1F100}");
    }
}
