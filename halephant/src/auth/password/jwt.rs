//! `jwt`: the password is a token that somebody else has signed (RFC 7519).

mod keys;
mod remote;

pub use keys::JwksError;

use super::{Attempt, CheckError, Denied, Granted, PasswordCheck, VerifyFuture};
use crate::auth::method::{JwksSource, JwtOptions};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use keys::Keys;
use remote::Remote;
use serde_json::{Map, Value};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct JwtCheck {
    options: JwtOptions,
    source: Source,
}

#[derive(Debug)]
enum Source {
    File(Arc<Keys>),
    Url(Arc<Remote>),
}

impl JwtCheck {
    pub(super) fn new(options: &JwtOptions) -> Result<Self, CheckError> {
        let source = match &options.jwks {
            JwksSource::File(path) => Source::File(Arc::new(Keys::load(path)?)),
            JwksSource::Url(url) => Source::Url(Arc::new(Remote::new(url, options.jwks_ca.as_deref())?)),
        };
        Ok(Self { options: options.clone(), source })
    }

    async fn ask(&self, attempt: Attempt<'_>) -> Result<Granted, Denied> {
        let refused = |why: &str| Denied::Refused(why.to_owned());
        let token = attempt.password.expose();
        let header = decode_header(token).map_err(|_| refused("the password is not a signed token"))?;
        // What has to be understood to be safe is not.
        if header.crit.is_some() {
            return Err(refused("the token has critical extensions"));
        }
        if !keys::is_asymmetric(header.alg) {
            return Err(Denied::Refused(format!("the token is signed with {:?}", header.alg)));
        }
        let keys = match &self.source {
            Source::File(keys) => Arc::clone(keys),
            Source::Url(remote) => remote
                .keys(|keys| keys.fitting(&header).next().is_some())
                .await
                .map_err(Denied::Unavailable)?,
        };
        let claims = self.verified(token, &header, &keys)?;
        let identities = identities(&claims, &self.options.claim).ok_or_else(|| {
            Denied::Refused(format!("the token has no names in \"{}\"", self.options.claim))
        })?;
        Ok(Granted { identities })
    }

    fn verified(&self, token: &[u8], header: &Header, keys: &Keys) -> Result<Map<String, Value>, Denied> {
        let validation = self.validation(header.alg);
        for key in keys.fitting(header) {
            let claims = match decode::<Map<String, Value>>(token, key, &validation) {
                Ok(decoded) => decoded.claims,
                // Keys need not have names.
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => continue,
                Err(error) => return Err(Denied::Refused(format!("the token does not count: {error}"))),
            };
            // RFC 7519 has one issuer; the library takes a list that has it in it.
            return match claims.get("iss").and_then(Value::as_str) {
                Some(issuer) if issuer == self.options.issuer => Ok(claims),
                _ => Err(Denied::Refused("the token is of another issuer".to_owned())),
            };
        }
        Err(Denied::Refused("no key fits the token's signature".to_owned()))
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.options.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.options.issuer]);
        validation.set_audience(&[&self.options.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation
    }
}

impl PasswordCheck for JwtCheck {
    fn verify<'a>(&'a self, attempt: Attempt<'a>) -> VerifyFuture<'a> {
        Box::pin(self.ask(attempt))
    }
}

/// The names in a claim: a string or a list of them. A claim that is not there may be meant as a path with dots.
fn identities(claims: &Map<String, Value>, claim: &str) -> Option<Vec<String>> {
    let value = match claims.get(claim) {
        Some(value) => value,
        None => {
            let mut steps = claim.split('.');
            let first = claims.get(steps.next()?)?;
            steps.try_fold(first, |value, step| value.get(step))?
        }
    };
    match value {
        Value::String(name) => Some(vec![name.clone()]),
        Value::Array(names) => names.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
