//! The answer to AuthenticationMD5Password (manual: Message Flow, Start-up).

use ::md5::{Digest, Md5};
use zeroize::{Zeroize, Zeroizing};

const HASH_TEXT_BYTES: usize = 32;

/// What `pg_authid` holds for a role with an MD5 password: `md5` and the hash of password and user name.
/// It is as good as the password, hence wiped on drop.
pub fn stored(user: &[u8], password: &[u8]) -> Zeroizing<String> {
    let mut hash = [0; HASH_TEXT_BYTES];
    hex(&[password, user], &mut hash);
    text(hash)
}

/// Whether `text` has the form of [`stored`].
pub fn is_stored(text: &str) -> bool {
    inner(text).is_some()
}

fn inner(stored: &str) -> Option<&str> {
    stored.strip_prefix("md5").filter(|hash| {
        hash.len() == HASH_TEXT_BYTES && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The answer to a server's salt, from what it has stored: `md5` and 32 hexadecimal digits. `None` where `stored`
/// does not have that form.
pub fn respond_from_stored(stored: &str, salt: [u8; 4]) -> Option<Zeroizing<String>> {
    let inner = inner(stored)?;
    let mut hash = [0; HASH_TEXT_BYTES];
    hex(&[inner.as_bytes(), &salt], &mut hash);
    Some(text(hash))
}

/// The answer to a server's salt, from the password.
pub fn respond(user: &[u8], password: &[u8], salt: [u8; 4]) -> Zeroizing<String> {
    let mut inner = Zeroizing::new([0; HASH_TEXT_BYTES]);
    hex(&[password, user], &mut inner);
    let mut hash = [0; HASH_TEXT_BYTES];
    hex(&[inner.as_slice(), &salt], &mut hash);
    text(hash)
}

/// The MD5 of the parts one after the other, in hexadecimal.
fn hex(parts: &[&[u8]], out: &mut [u8; HASH_TEXT_BYTES]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part);
    }
    let mut hash = md5.finalize();
    for (pair, byte) in out.as_chunks_mut().0.iter_mut().zip(hash.iter()) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    hash.as_mut_slice().zeroize();
}

fn text(mut hash: [u8; HASH_TEXT_BYTES]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(3 + HASH_TEXT_BYTES));
    text.push_str("md5");
    text.extend(hash.iter().map(|&b| char::from(b)));
    hash.zeroize();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_postgres_protocol() {
        for (user, password) in [("postgres", "secret"), ("", ""), ("kärl", "pässwörd"), ("a", "b c\u{1}")]
        {
            let salt = [0x2a, 0x3d, 0x8f, 0xe0];
            let expected =
                postgres_protocol::authentication::md5_hash(user.as_bytes(), password.as_bytes(), salt);
            assert_eq!(*respond(user.as_bytes(), password.as_bytes(), salt), expected);
            let stored = stored(user.as_bytes(), password.as_bytes());
            assert_eq!(*stored, postgres_protocol::password::md5(password.as_bytes(), user));
            assert_eq!(respond_from_stored(&stored, salt).map(|r| r.to_string()), Some(expected));
        }
    }

    #[test]
    fn stored_form_is_checked() {
        for bad in
            ["", "md5", "md5zz", "0123456789abcdef0123456789abcdef", "md50123456789abcdef0123456789abcdeG"]
        {
            assert!(respond_from_stored(bad, [0; 4]).is_none(), "{bad}");
        }
    }
}
