//! Keys that are fetched by HTTP: kept for a while, and fetched anew for a token whose key is not among them.

use super::keys::{JWKS_BYTES_MAX, JwksError, Keys, KeysError};
use crate::tls::{Authorities, client_config};
use reqwest::{Client, StatusCode, Url, redirect};
use std::error::Error;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// From the connection to the last byte.
const FETCH_TIME_MAX: Duration = Duration::from_secs(10);
/// A key that was taken back counts no longer than that.
const KEYS_AGE_MAX: Duration = Duration::from_secs(600);
/// Unless nobody can be asked: then this long.
const STALE_AGE_MAX: Duration = Duration::from_secs(86_400);
/// Between two fetches, whatever tokens are shown.
const FETCH_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    Http(String),
    #[error("the server answers with status {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Keys(#[from] KeysError),
}

#[derive(Debug)]
pub(super) struct Remote {
    client: Client,
    url: Url,
    state: Mutex<State>,
    /// Changes with each fetch that is over.
    fetched: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    keys: Option<(Arc<Keys>, Instant)>,
    /// When the last fetch was over.
    tried: Option<Instant>,
    under_way: bool,
    failure: Option<String>,
}

/// How a look at what is known comes out.
enum Look {
    Keys(Arc<Keys>),
    Failed(String),
    Wait(watch::Receiver<()>),
}

impl Remote {
    /// Asks nobody yet.
    pub(super) fn new(text: &str, ca: Option<&Path>) -> Result<Self, JwksError> {
        let url = parse_url(text).map_err(|why| JwksError::Url { why })?;
        let is_encrypted = url.scheme() == "https";
        let authorities = if is_encrypted { Authorities::of(ca) } else { Authorities::Nobody };
        let builder = Client::builder()
            .tls_backend_preconfigured(client_config(authorities)?)
            .https_only(is_encrypted)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(FETCH_TIME_MAX);
        let client = builder.build().map_err(JwksError::Client)?;
        Ok(Self { client, url, state: Mutex::default(), fetched: watch::Sender::default() })
    }

    /// The keys, fetched anew where they are old or `fits` says no, but not more often than every few seconds. The error
    /// is for the log. Cancel safe: a fetch goes on without who began it.
    pub(super) async fn keys(self: &Arc<Self>, fits: impl Fn(&Keys) -> bool) -> Result<Arc<Keys>, String> {
        loop {
            let mut fetched = match self.look(&fits, Instant::now()) {
                Look::Keys(keys) => return Ok(keys),
                Look::Failed(why) => return Err(format!("there are no keys from {}: {why}", self.url)),
                Look::Wait(fetched) => fetched,
            };
            // The sender lives as long as we do.
            let _ = fetched.changed().await;
        }
    }

    fn look(self: &Arc<Self>, fits: &impl Fn(&Keys) -> bool, now: Instant) -> Look {
        let mut state = self.state();
        let age = |since: Instant| now.saturating_duration_since(since);
        if let Some((keys, since)) = &state.keys
            && age(*since) < KEYS_AGE_MAX
            && fits(keys)
        {
            return Look::Keys(Arc::clone(keys));
        }
        if !state.under_way && state.tried.is_some_and(|tried| age(tried) < FETCH_PAUSE) {
            return match (&state.keys, &state.failure) {
                (Some((keys, since)), _) if age(*since) < STALE_AGE_MAX => Look::Keys(Arc::clone(keys)),
                (_, Some(failure)) => Look::Failed(failure.clone()),
                (_, None) => Look::Failed("none were fetched".to_owned()),
            };
        }
        let fetched = self.fetched.subscribe();
        if !state.under_way {
            state.under_way = true;
            let ending = Ending { remote: Arc::clone(self), outcome: None };
            tokio::spawn(ending.fetch());
        }
        Look::Wait(fetched)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Result<Keys, FetchError> {
        let mut response = self.client.get(self.url.clone()).send().await.map_err(shown)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let mut json = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(shown)? {
            if json.len() + chunk.len() > JWKS_BYTES_MAX {
                return Err(KeysError::TooLarge.into());
            }
            json.extend_from_slice(&chunk);
        }
        Ok(Keys::parse(&json)?)
    }
}

/// Tells all who wait when a fetch is over, in whatever way.
struct Ending {
    remote: Arc<Remote>,
    outcome: Option<Result<Keys, FetchError>>,
}

impl Ending {
    async fn fetch(mut self) {
        self.outcome = Some(self.remote.fetch().await);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.remote.state();
        state.under_way = false;
        state.tried = Some(now);
        match self.outcome.take() {
            Some(Ok(keys)) => {
                state.keys = Some((Arc::new(keys), now));
                state.failure = None;
            }
            Some(Err(error)) => {
                let url = self.remote.url.as_str();
                tracing::warn!(url, %error, "the keys of tokens cannot be fetched");
                state.failure = Some(error.to_string());
            }
            None => {}
        }
        drop(state);
        self.remote.fetched.send_replace(());
    }
}

/// With its causes, which say what happened, and without the URL.
fn shown(error: reqwest::Error) -> FetchError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    FetchError::Http(text)
}

/// Keys that anybody on the way could have replaced are worth nothing.
fn parse_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "it is not a URL")?;
    let host = url.host_str().ok_or("it has no host")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user name or a password in it");
    }
    let is_loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback => Ok(url),
        "http" => Err("http:// is for this host alone; use https://"),
        _ => Err("it is neither https:// nor http://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_for_this_host_alone() {
        for url in
            ["https://issuer.example/keys", "http://127.0.0.1:80/k", "http://[::1]/k", "http://localhost:1/"]
        {
            assert!(parse_url(url).is_ok(), "{url}");
        }
        for url in [
            "http://issuer.example/",
            "http://localhost.example/",
            "http://10.0.0.1/",
            "https://a:b@c/",
            "ftp://h/",
        ] {
            assert!(parse_url(url).is_err(), "{url}");
        }
    }

    const SET: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    /// One that knows keys as of `fetched`, and was last asked at `tried`, in vain.
    fn remote(fetched: Instant, tried: Instant) -> Arc<Remote> {
        // Nobody listens there.
        let remote = Remote::new("http://127.0.0.1:1/", None).expect("it is a URL");
        let keys = Keys::parse(SET.as_bytes()).expect("they are keys");
        *remote.state() = State {
            keys: Some((Arc::new(keys), fetched)),
            tried: Some(tried),
            under_way: false,
            failure: Some("in vain".to_owned()),
        };
        Arc::new(remote)
    }

    #[tokio::test]
    async fn keys_are_fetched_when_they_are_old_or_do_not_fit() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        for (fits, tried, now, wanted) in [
            (true, 0, 1, "keys"),
            (false, 0, 1, "keys"),
            (false, 0, 6, "fetch"),
            (true, 0, 599, "keys"),
            (true, 0, 600, "fetch"),
            (true, 600, 601, "keys"),
            (true, 86_400, 86_401, "none"),
            (true, 86_400, 86_406, "fetch"),
        ] {
            let remote = remote(began, after(tried));
            let look = match remote.look(&|_: &Keys| fits, after(now)) {
                Look::Keys(_) => "keys",
                Look::Failed(_) => "none",
                Look::Wait(_) => "fetch",
            };
            assert_eq!(look, wanted, "fits: {fits}, tried at {tried}, now {now}");
            assert_eq!(remote.state().under_way, wanted == "fetch");
        }
    }

    #[tokio::test]
    async fn all_who_wait_are_told_how_a_fetch_ended() {
        let remote = Remote::new("http://127.0.0.1:1/", None).expect("it is a URL");
        let remote = Arc::new(remote);
        let (one, other) = tokio::join!(remote.keys(|_| true), remote.keys(|_| true));
        for outcome in [one, other] {
            assert!(outcome.expect_err("nobody listens").contains("Connection refused"));
        }
        assert!(!remote.state().under_way);
    }
}
