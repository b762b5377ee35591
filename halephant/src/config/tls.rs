//! `[server.tls]` and `[cluster.<name>.tls]`: the files that they name are read and checked here, so that a start or a
//! reload either has all of them or does not happen.

use super::document::Table;
use super::findings::Reported;
use super::kind::{Choice, FilePath, HostName};
use super::problem::Problem;
use crate::tls::identity::IdentityError;
use crate::tls::settings::{IdentityFiles, TrustFiles};
use crate::tls::trust::TrustError;
use crate::tls::{
    ClientLeg, ClientLegSettings, Identity, MinimumVersion, NamedIdentity, ServerLeg, ServerLegSettings,
    TlsMode, Trust,
};
use std::path::PathBuf;

const MODES: Choice<TlsMode> = Choice(&[
    ("disable", TlsMode::Disable),
    ("allow", TlsMode::Allow),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
]);
const MIN_VERSIONS: Choice<MinimumVersion> =
    Choice(&[("TLSv1.2", MinimumVersion::Tls12), ("TLSv1.3", MinimumVersion::Tls13)]);
const BINDINGS: Choice<bool> = Choice(&[("prefer", false), ("require", true)]);

/// `[server.tls]`
pub(super) fn client_leg(table: &mut Table<'_>) -> Result<ClientLeg, Reported> {
    let mode = table.optional("mode", "disable", MODES);
    let identity = identity_files(table);
    let trust = trust_files(table);
    let min_version = table.text("min_version", "TLSv1.2", MIN_VERSIONS);
    let named = table.optional_tables("sni", "<host>", HostName { wildcard: true }, |host, table| {
        let files = identity_files(table).and_then(|files| {
            files.ok_or_else(|| table.wrong_at("certificate", Problem::Missing("a path".to_owned())))
        })?;
        let identity = load_identity(table, &files)?;
        Ok((files, NamedIdentity { host, identity }))
    });
    let mode = mode?.unwrap_or_default();
    if mode == TlsMode::Disable {
        refuse_all(table, &["certificate", "key", "ca", "crl", "min_version", "sni"])?;
        return Ok(ClientLeg::default());
    }
    let files = identity?.ok_or_else(|| table.wrong_at("certificate", Problem::NeededBy(mode)));
    let trust_files = trust?;
    if mode.needs_trust() && trust_files.is_none() {
        return Err(table.wrong_at("ca", Problem::NeededBy(mode)));
    }
    let files = files?;
    let identity = load_identity(table, &files);
    let trust = load_trust(table, trust_files.as_ref());
    let named: Vec<_> = named?.into_iter().collect::<Result<_, _>>()?;
    let settings = ClientLegSettings {
        mode,
        identity: Some(files),
        trust: trust_files,
        min_version: min_version?,
        sni: named.iter().map(|(files, named)| (named.host.clone(), files.clone())).collect(),
    };
    let named = named.into_iter().map(|(_, named)| named).collect();
    ClientLeg::new(settings, identity?, trust?, named).map_err(|error| table.wrong(Problem::Tls(error)))
}

/// `[cluster.<name>.tls]`
pub(super) fn server_leg(table: &mut Table<'_>) -> Result<ServerLeg, Reported> {
    let mode = table.optional("mode", "disable", MODES);
    let trust = trust_files(table);
    let identity = identity_files(table);
    let server_name = table.optional("server_name", "the node's host", HostName { wildcard: false });
    let sni = table.boolean("sni", true);
    let min_version = table.text("min_version", "TLSv1.2", MIN_VERSIONS);
    let requires_binding = table.text("channel_binding", "prefer", BINDINGS);
    let mode = mode?.unwrap_or_default();
    if mode == TlsMode::Disable {
        let keys =
            ["ca", "crl", "certificate", "key", "server_name", "sni", "min_version", "channel_binding"];
        refuse_all(table, &keys)?;
        return Ok(ServerLeg::default());
    }
    let (trust_files, identity_files) = (trust?, identity?);
    if requires_binding == Ok(true) && !mode.is_mandatory() {
        return Err(table.wrong_at("channel_binding", Problem::BindingInTheClear));
    }
    if mode.needs_trust() && trust_files.is_none() {
        return Err(table.wrong_at("ca", Problem::NeededBy(mode)));
    }
    let trust = load_trust(table, trust_files.as_ref());
    let identity = identity_files.as_ref().map(|files| load_identity(table, files)).transpose();
    let settings = ServerLegSettings {
        mode,
        identity: identity_files,
        trust: trust_files,
        min_version: min_version?,
        server_name: server_name?,
        sni: sni?,
        requires_binding: requires_binding?,
    };
    ServerLeg::new(settings, identity?, trust?).map_err(|error| table.wrong(Problem::Tls(error)))
}

/// Keys that would do nothing.
fn refuse_all(table: &Table<'_>, keys: &[&str]) -> Result<(), Reported> {
    let mut outcome = Ok(());
    for key in keys.iter().filter(|key| table.has(key)) {
        outcome = Err(table.wrong_at(key, Problem::WithoutTls));
    }
    outcome
}

fn identity_files(table: &mut Table<'_>) -> Result<Option<IdentityFiles>, Reported> {
    let certificate = table.optional("certificate", "none", FilePath);
    let key = table.optional("key", "none", FilePath);
    match pair(table, ("certificate", certificate?), ("key", key?))? {
        Some((certificate, key)) => Ok(Some(IdentityFiles { certificate, key })),
        None => Ok(None),
    }
}

fn pair(
    table: &Table<'_>,
    one: (&'static str, Option<PathBuf>),
    other: (&'static str, Option<PathBuf>),
) -> Result<Option<(PathBuf, PathBuf)>, Reported> {
    match (one, other) {
        ((_, Some(one)), (_, Some(other))) => Ok(Some((one, other))),
        ((_, None), (_, None)) => Ok(None),
        ((there, Some(_)), (missing, None)) | ((missing, None), (there, Some(_))) => {
            Err(table.wrong_at(missing, Problem::NeededWith(there)))
        }
    }
}

fn trust_files(table: &mut Table<'_>) -> Result<Option<TrustFiles>, Reported> {
    let ca = table.optional("ca", "none", FilePath);
    let crl = table.optional("crl", "none", FilePath);
    match (ca?, crl?) {
        (Some(ca), crl) => Ok(Some(TrustFiles { ca, crl })),
        (None, Some(_)) => Err(table.wrong_at("ca", Problem::NeededWith("crl"))),
        (None, None) => Ok(None),
    }
}

fn load_identity(table: &Table<'_>, files: &IdentityFiles) -> Result<Identity, Reported> {
    Identity::load(&files.certificate, &files.key).map_err(|error| match error {
        IdentityError::Certificate(error) => table.wrong_at("certificate", Problem::File(error)),
        IdentityError::Key(error) => table.wrong_at("key", Problem::File(error)),
        mismatch @ IdentityError::Mismatch { .. } => table.wrong_at("key", Problem::Identity(mismatch)),
    })
}

fn load_trust(table: &Table<'_>, files: Option<&TrustFiles>) -> Result<Option<Trust>, Reported> {
    let Some(files) = files else { return Ok(None) };
    Trust::load(&files.ca, files.crl.as_deref()).map(Some).map_err(|error| match error {
        TrustError::Ca(error) => table.wrong_at("ca", Problem::File(error)),
        TrustError::Crl(error) => table.wrong_at("crl", Problem::File(error)),
    })
}
