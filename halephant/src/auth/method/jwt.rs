//! The options of `jwt`: whose signatures count, and what a token has to say.

use super::MethodError;
use super::options::Options;
use std::path::PathBuf;
use std::time::Duration;

/// Clocks that are set over a network are closer than that.
const LEEWAY_DEFAULT: Duration = Duration::from_secs(30);
/// More would make the times in tokens meaningless.
const LEEWAY_SECONDS_MAX: u64 = 600;

/// Where the keys come from that tokens are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    File(PathBuf),
    /// `http://` or `https://`
    Url(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtOptions {
    /// `jwks`
    pub jwks: JwksSource,
    /// `jwksca`: the authorities that the certificate of an `https://` URL may be from.
    pub jwks_ca: Option<PathBuf>,
    /// `issuer`: what `iss` must be.
    pub issuer: String,
    /// `audience`: what `aud` must be or contain.
    pub audience: String,
    /// `claim`: the one that says who the client is, `sub` unless another is named. Its value is a string or a list of
    /// strings.
    pub claim: String,
    /// `leeway`: how far clocks may be apart.
    pub leeway: Duration,
    /// `map`: the ident map from the claim to users.
    pub map: Option<String>,
}

impl JwtOptions {
    pub(super) fn take(options: &mut Options) -> Result<Self, MethodError> {
        let missing = |option| MethodError::Missing { method: "jwt", option };
        let mut required = |name| options.take(name).filter(|value| !value.is_empty()).ok_or(missing(name));
        let jwks = required("jwks")?;
        let issuer = required("issuer")?;
        let audience = required("audience")?;
        let jwks = match jwks.starts_with("http://") || jwks.starts_with("https://") {
            true => JwksSource::Url(jwks),
            false => JwksSource::File(PathBuf::from(jwks)),
        };
        let claim = options.take("claim").filter(|claim| !claim.is_empty());
        let leeway = match options.take("leeway") {
            None => LEEWAY_DEFAULT,
            Some(value) => {
                let seconds = value.parse().ok().filter(|seconds| *seconds <= LEEWAY_SECONDS_MAX);
                let expected = "it must be a number of seconds, at most 600";
                let wrong = || MethodError::Value { option: "leeway", value, expected };
                Duration::from_secs(seconds.ok_or_else(wrong)?)
            }
        };
        Ok(Self {
            jwks,
            jwks_ca: options.take("jwksca").map(PathBuf::from),
            issuer,
            audience,
            claim: claim.unwrap_or_else(|| "sub".to_owned()),
            leeway,
            map: options.take("map"),
        })
    }
}
