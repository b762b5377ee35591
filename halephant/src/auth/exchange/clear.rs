//! AuthenticationCleartextPassword with a client, and checking the password against what is stored.

use super::{AuthError, read_response, send};
use crate::auth::verifiers::Stored;
use crate::secret::Secret;
use crate::wire::{MessageBuffer, Stream};
use halephant_protocol::backend::Authentication;
use halephant_protocol::frontend::AuthenticationResponse;
use halephant_protocol::md5;
use halephant_protocol::scram::{ClientKeys, SaltedPassword, Verifier};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Passwords that are hashed at a time, over all clients; the others wait for their turn, within the time for a login.
static HASHING: Semaphore = Semaphore::const_new(8);

/// The client's password. Over a connection in the clear anybody in between can read it.
pub async fn ask_cleartext(
    stream: &mut Stream,
    buffer: &mut MessageBuffer,
) -> Result<Secret<Vec<u8>>, AuthError> {
    send(stream, &Authentication::CleartextPassword).await?;
    let body = read_response(stream, buffer).await?;
    let response = AuthenticationResponse { body: &body }.password()?;
    let password = Secret::new(response.password.to_vec());
    // Where nobody else holds the bytes they are wiped; a buffer of the stream may keep its copy for a while.
    if let Ok(mut bytes) = body.try_into_mut() {
        zeroize::Zeroize::zeroize(&mut bytes[..]);
    }
    if password.expose().is_empty() { Err(AuthError::EmptyPassword) } else { Ok(password) }
}

/// Whether the password is the one behind `stored`, as whom its hash was made (`role`). `mock` is hashed against where nothing is
/// stored, or an MD5 hash, so that all of them take the same time. Gives the keys to log in with as the user.
pub async fn check_cleartext(
    password: &Secret<Vec<u8>>,
    role: &str,
    stored: Option<&Stored>,
    mock: Verifier,
) -> Option<Option<ClientKeys>> {
    let verifier = match stored {
        Some(Stored::Scram(verifier)) => verifier.clone(),
        _ => mock,
    };
    let _turn = HASHING.acquire().await.ok()?;
    let hashed = password.clone();
    let derive = move || {
        let keys =
            SaltedPassword::derive(hashed.expose(), verifier.salt(), verifier.iterations()).client_keys();
        let fits = keys.fit(&verifier);
        (keys, fits)
    };
    let (keys, fits) = spawn_blocking(derive).await.ok()?;
    match stored {
        Some(Stored::Scram(_)) => fits.then_some(Some(keys)),
        Some(Stored::Md5(stored)) => {
            let given = md5::stored(role.as_bytes(), password.expose());
            bool::from(given.as_bytes().ct_eq(stored.expose().as_bytes())).then_some(None)
        }
        None => None,
    }
}
