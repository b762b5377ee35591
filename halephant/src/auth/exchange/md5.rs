//! AuthenticationMD5Password with a client.

use super::{AuthError, read_response, send};
use crate::auth::throttle::Admission;
use crate::secret::Secret;
use crate::wire::{MessageBuffer, Stream};
use halephant_protocol::backend::Authentication;
use halephant_protocol::frontend::AuthenticationResponse;
use halephant_protocol::md5;
use subtle::ConstantTimeEq;

/// Asks the client to prove that it knows the password behind `stored`, which holds the user's name, too: it has to be the one
/// that the client gave.
pub async fn authenticate_md5(
    stream: &mut Stream,
    buffer: &mut MessageBuffer,
    user: &str,
    stored: &Secret<String>,
    admission: &mut Admission<'_>,
) -> Result<(), AuthError> {
    let mut salt = [0; 4];
    getrandom::fill(&mut salt).map_err(|_| halephant_protocol::scram::ScramError::Random)?;
    send(stream, &Authentication::Md5Password { salt }).await?;
    let body = read_response(stream, buffer).await?;
    let response = AuthenticationResponse { body: &body }.password()?;
    if response.password.is_empty() {
        return Err(AuthError::EmptyPassword);
    }
    admission.judge().await?;
    let expected = md5::respond_from_stored(stored.expose(), salt);
    let is_right = expected.is_some_and(|expected| expected.as_bytes().ct_eq(response.password).into());
    if is_right { Ok(()) } else { Err(AuthError::Failed { user: user.to_owned() }) }
}
