//! Logging in to PostgreSQL: whichever method it asks for, with what there is.

use super::error::{OpenError, ServerError};
use crate::secret::Secret;
use crate::wire::{MessageBuffer, ReadError, Stream};
use bytes::{Bytes, BytesMut};
use halephant_protocol::backend::{self, Authentication, ErrorFields};
use halephant_protocol::frontend::{PasswordMessage, SaslInitialResponse, SaslResponse};
use halephant_protocol::scram::{
    Challenge, Client, ClientKeys, ITERATIONS_MAX, Nonce, SCRAM_SHA_256_PLUS, SaltedPassword,
};
use halephant_protocol::{EncodeError, md5};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::task::spawn_blocking;

/// Messages before ReadyForQuery are small; a server that sends more is not believed.
pub(super) const LOGIN_BODY_BYTES_MAX: u32 = 64 * 1024;

/// What may be used to log in as one role on one node.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    pub password: Option<Secret<Vec<u8>>>,
    pub keys: Option<LearnedKeys>,
    /// What the server has stored of an MD5 password: as good as the password, for a server that asks for MD5.
    pub md5: Option<Secret<String>>,
}

impl Credentials {
    pub fn is_empty(&self) -> bool {
        self.password.is_none() && self.keys.is_none() && self.md5.is_none()
    }
}

/// The keys of a client that proved its password to us, good for the verifier it proved it against.
#[derive(Clone, Debug)]
pub struct LearnedKeys {
    pub keys: ClientKeys,
    pub salt: Vec<u8>,
    pub iterations: u32,
}

/// Keys derived from passwords, so that PBKDF2 runs once and not for every connection.
#[derive(Debug, Default)]
pub struct KeyCache(Mutex<HashMap<CacheKey, ClientKeys>>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct CacheKey {
    role: String,
    /// A password is only told apart by its digest.
    password: [u8; 32],
    salt: Vec<u8>,
    iterations: u32,
}

const CACHED_KEYS_MAX: usize = 1024;

impl KeyCache {
    async fn keys(
        &self,
        role: &str,
        password: &Secret<Vec<u8>>,
        challenge: &Challenge,
    ) -> Option<ClientKeys> {
        let key = CacheKey {
            role: role.to_owned(),
            password: {
                use sha2::Digest;
                sha2::Sha256::digest(password.expose()).into()
            },
            salt: challenge.salt().to_vec(),
            iterations: challenge.iterations().get(),
        };
        if let Some(keys) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Some(keys.clone());
        }
        let (password, salt, iterations) = (password.clone(), key.salt.clone(), challenge.iterations());
        let derive = move || SaltedPassword::derive(password.expose(), &salt, iterations).client_keys();
        let keys = spawn_blocking(derive).await.ok()?;
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHED_KEYS_MAX {
            cache.clear();
        }
        cache.insert(key, keys.clone());
        Some(keys)
    }
}

/// One login in progress.
pub(super) struct Dialog<'a> {
    pub(super) node: &'a str,
    pub(super) role: &'a str,
    pub(super) stream: &'a mut Stream,
    pub(super) buffer: &'a mut MessageBuffer,
    pub(super) credentials: &'a Credentials,
    pub(super) cache: &'a KeyCache,
    /// The server's certificate, where the connection is encrypted: what SCRAM-SHA-256-PLUS binds to.
    pub(super) end_point: Option<Vec<u8>>,
    pub(super) requires_binding: bool,
}

impl Dialog<'_> {
    /// Answers the server until it says AuthenticationOk.
    pub(super) async fn authenticate(&mut self) -> Result<(), OpenError> {
        let mut bound = false;
        loop {
            let body = self.read_request().await?;
            let request = self.parse(&body)?;
            // Who is in between could ask for a password in the clear, or for nothing at all.
            if self.requires_binding && !bound && !matches!(request, Authentication::Sasl { .. }) {
                return Err(OpenError::NoBinding { node: self.node.to_owned() });
            }
            match request {
                Authentication::Ok => return Ok(()),
                Authentication::CleartextPassword => {
                    let password = self.password()?;
                    self.send_password(password.expose()).await?;
                }
                Authentication::Md5Password { salt } => {
                    let stored = self.credentials.md5.as_ref();
                    let answer = stored.and_then(|stored| md5::respond_from_stored(stored.expose(), salt));
                    let answer = match answer {
                        Some(answer) => answer,
                        None => md5::respond(self.role.as_bytes(), self.password()?.expose(), salt),
                    };
                    self.send_password(answer.as_bytes()).await?;
                }
                Authentication::Sasl { mechanisms } => {
                    let offered: Vec<&str> = mechanisms.iter().collect();
                    bound = self.scram(&offered).await?;
                }
                other => {
                    return Err(OpenError::Method { node: self.node.to_owned(), method: other.name() });
                }
            }
        }
    }

    /// Whether the login is bound to the connection.
    async fn scram(&mut self, offered: &[&str]) -> Result<bool, OpenError> {
        let nonce = Nonce::generate().map_err(|error| self.broken(error))?;
        let end_point = self.end_point.clone();
        let client = Client::choose(offered.iter().copied(), end_point, nonce).ok_or_else(|| {
            OpenError::Method { node: self.node.to_owned(), method: "SASL without SCRAM-SHA-256" }
        })?;
        let mechanism = client.mechanism();
        let bound = mechanism == SCRAM_SHA_256_PLUS;
        if self.requires_binding && !bound {
            return Err(OpenError::NoBinding { node: self.node.to_owned() });
        }
        let (state, first) = client.client_first();
        let mut out = BytesMut::new();
        SaslInitialResponse { mechanism, data: Some(first.as_bytes()) }
            .encode(&mut out)
            .map_err(|error| self.unsendable(error))?;
        self.send(&out).await?;

        let body = self.read_request().await?;
        let Authentication::SaslContinue { data } = self.parse(&body)? else {
            return Err(self.broken("AuthenticationSASLContinue was due"));
        };
        let challenge = state.server_first(data, ITERATIONS_MAX).map_err(|error| self.broken(error))?;
        let keys = self.keys(&challenge).await?;
        let (state, answer) = challenge.respond(&keys);
        out.clear();
        SaslResponse { data: answer.as_bytes() }.encode(&mut out).map_err(|error| self.unsendable(error))?;
        self.send(&out).await?;

        let body = self.read_request().await?;
        let Authentication::SaslFinal { data } = self.parse(&body)? else {
            return Err(self.broken("AuthenticationSASLFinal was due"));
        };
        state.server_final(data).map_err(|error| self.broken(error))?;
        Ok(bound)
    }

    /// The keys a client brought, if they are for this salt; else those of the password.
    async fn keys(&self, challenge: &Challenge) -> Result<ClientKeys, OpenError> {
        if let Some(learned) = &self.credentials.keys
            && learned.salt == challenge.salt()
            && learned.iterations == challenge.iterations().get()
        {
            return Ok(learned.keys.clone());
        }
        let password = self.password()?;
        let derived = self.cache.keys(self.role, &password, challenge).await;
        derived.ok_or_else(|| self.broken("the key derivation was interrupted"))
    }

    fn password(&self) -> Result<Secret<Vec<u8>>, OpenError> {
        self.credentials.password.clone().ok_or_else(|| OpenError::NoCredentials {
            node: self.node.to_owned(),
            role: self.role.to_owned(),
        })
    }

    async fn send_password(&mut self, password: &[u8]) -> Result<(), OpenError> {
        let mut out = BytesMut::new();
        PasswordMessage { password }.encode(&mut out).map_err(|error| self.unsendable(error))?;
        let sent = self.send(&out).await;
        zeroize::Zeroize::zeroize(&mut out[..]);
        sent
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), OpenError> {
        let sent = self.stream.write_all(bytes).await;
        sent.map_err(|error| OpenError::Lost { node: self.node.to_owned(), source: ReadError::Io(error) })
    }

    /// The body of the next authentication request; an error of the server's ends the login.
    async fn read_request(&mut self) -> Result<Bytes, OpenError> {
        loop {
            let message = self
                .buffer
                .read_message(self.stream, LOGIN_BODY_BYTES_MAX)
                .await
                .map_err(|source| OpenError::Lost { node: self.node.to_owned(), source })?;
            match message.tag {
                backend::tag::AUTHENTICATION => return Ok(message.body),
                backend::tag::NOTICE_RESPONSE | backend::tag::NEGOTIATE_PROTOCOL_VERSION => {}
                backend::tag::ERROR_RESPONSE => return Err(self.refused(&message.body)),
                tag => {
                    return Err(self.broken(format!(
                        "message type {:?} instead of an authentication request",
                        char::from(tag)
                    )));
                }
            }
        }
    }

    fn parse<'b>(&self, body: &'b [u8]) -> Result<Authentication<'b>, OpenError> {
        Authentication::parse(body).map_err(|error| self.broken(error))
    }

    pub(super) fn refused(&self, body: &[u8]) -> OpenError {
        match ErrorFields::parse(body) {
            Ok(fields) => {
                OpenError::Refused { node: self.node.to_owned(), error: ServerError::from_fields(&fields) }
            }
            Err(error) => self.broken(error),
        }
    }

    pub(super) fn broken(&self, reason: impl ToString) -> OpenError {
        OpenError::Protocol { node: self.node.to_owned(), reason: reason.to_string() }
    }

    fn unsendable(&self, error: EncodeError) -> OpenError {
        self.broken(format!("the answer cannot be encoded: {error}"))
    }
}
