//! How a cluster's nodes are reached and as whom.

use crate::net::NodeAddress;
use crate::tls::ServerLeg;
use std::collections::BTreeMap;
use std::time::Duration;

/// The part of `[cluster.<name>]` that opening a connection needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    pub nodes: Vec<NodeAddress>,
    pub admin_user: String,
    pub admin_database: String,
    pub connect_timeout: Duration,
    pub tls: ServerLeg,
}

/// `[cluster.<name>.pool.<database>.user.<name>.parameters]`: sent in the StartupMessage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParameterSettings {
    pub application_name: Option<String>,
    /// Run-time parameters passed through `options`, name to value.
    pub options: BTreeMap<String, String>,
}

/// What the `options` of a startup packet may come to: PostgreSQL refuses packets over 10,000 bytes, and the user,
/// database and application name are in it too.
pub const OPTIONS_BYTES_MAX: usize = 8192;

impl ParameterSettings {
    /// The value of the startup packet's `options`: `-c name=value` each, white space and backslashes escaped as
    /// PostgreSQL's `pg_split_opts` undoes it. `None` where there is nothing to send.
    pub fn options_text(&self) -> Option<String> {
        if self.options.is_empty() {
            return None;
        }
        let mut text = String::new();
        for (name, value) in &self.options {
            text.push_str(if text.is_empty() { "-c " } else { " -c " });
            text.push_str(name);
            text.push('=');
            for character in value.chars() {
                if matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' | '\\') {
                    text.push('\\');
                }
                text.push(character);
            }
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Option<String> {
        let options = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        ParameterSettings { application_name: None, options }.options_text()
    }

    #[test]
    fn options_are_escaped_for_the_startup_packet() {
        assert_eq!(options(&[]), None);
        assert_eq!(options(&[("work_mem", "64MB")]).as_deref(), Some("-c work_mem=64MB"));
        assert_eq!(
            options(&[("search_path", "app, public"), ("statement_timeout", "5s")]).as_deref(),
            Some(r"-c search_path=app,\ public -c statement_timeout=5s"),
        );
        assert_eq!(options(&[("a.b", "\\\t"), ("c", "")]).as_deref(), Some("-c a.b=\\\\\\\t -c c="));
    }
}
