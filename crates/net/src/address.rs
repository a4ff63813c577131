//! Where a node is and which key must answer there, as one copyable string. The key's checksum catches typos.

use std::fmt;
use std::str::FromStr;
use tombola_core::key::{AccountKey, ParseIdError};

const SCHEME: &str = "tombola://";
/// Longest DNS name.
const HOST_BYTES_MAX: usize = 253;

/// `tombola://KEY@HOST:PORT[/path]`; an IPv6 host stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// The key that must answer.
    pub key: AccountKey,
    /// A host name or IP address, without brackets.
    pub host: String,
    /// The UDP port.
    pub port: u16,
    /// What is wanted there: empty, or everything after the slash. It never takes part in connecting.
    pub path: String,
}

impl Address {
    /// An address without a path.
    #[must_use]
    pub fn new(key: AccountKey, host: impl Into<String>, port: u16) -> Self {
        Self {
            key,
            host: host.into(),
            port,
            path: String::new(),
        }
    }

    /// The same node with a path.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}@", self.key)?;
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        write!(f, ":{}", self.port)?;
        if self.path.is_empty() {
            return Ok(());
        }
        write!(f, "/{}", self.path)
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(SCHEME).ok_or(ParseAddressError::Scheme)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (key, place) = authority.split_once('@').ok_or(ParseAddressError::NoKey)?;
        let key = key.parse().map_err(ParseAddressError::Key)?;
        let (host, port) = split_place(place)?;
        let port = match port.bytes().all(|b| b.is_ascii_digit()) {
            true => port.parse().map_err(|_| ParseAddressError::Port)?,
            false => return Err(ParseAddressError::Port),
        };
        if port == 0 {
            return Err(ParseAddressError::Port);
        }
        Ok(Self::new(key, host, port).with_path(path))
    }
}

fn split_place(place: &str) -> Result<(&str, &str), ParseAddressError> {
    if let Some(bracketed) = place.strip_prefix('[') {
        let (host, port) = bracketed.split_once("]:").ok_or(ParseAddressError::Port)?;
        host.parse::<std::net::Ipv6Addr>()
            .map_err(|_| ParseAddressError::Host)?;
        return Ok((host, port));
    }
    let (host, port) = place.rsplit_once(':').ok_or(ParseAddressError::Port)?;
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(is_name) {
        return Err(ParseAddressError::Host);
    }
    Ok((host, port))
}

impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseAddressError {
    /// Not a host name, IPv4 address or bracketed IPv6 address.
    #[error("not a host name or address (IPv6 goes in brackets)")]
    Host,
    /// The key is mistyped or another kind of id.
    #[error("the key before @ is {0}")]
    Key(ParseIdError),
    /// No `@`.
    #[error("no key@ before the host")]
    NoKey,
    /// No port, or not 1 to 65535.
    #[error("no :port from 1 to 65535 after the host")]
    Port,
    /// Another scheme.
    #[error("an address starts with tombola://")]
    Scheme,
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombola_core::key::SecretKey;

    fn key() -> AccountKey {
        SecretKey::from_seed(&[7; 32]).account()
    }

    /// Spec: N-03.
    #[test]
    fn addresses_read_as_they_print() {
        for (host, port, path) in [
            ("127.0.0.1", 7_401, ""),
            ("::1", 1, "a/b c.txt"),
            ("pay.example", 65_535, "x"),
        ] {
            let address = Address::new(key(), host, port).with_path(path);
            assert_eq!(address.to_string().parse(), Ok(address.clone()), "{address}");
        }
        assert!(Address::new(key(), "::1", 9).to_string().ends_with("@[::1]:9"));
    }

    /// Spec: K-05, N-03.
    #[test]
    fn a_typo_in_the_key_is_refused_by_its_checksum() {
        let good = Address::new(key(), "127.0.0.1", 7_401).to_string();
        for at in SCHEME.len() + 4..good.find('@').unwrap() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'q' { b'p' } else { b'q' };
            let typo = String::from_utf8(bytes).unwrap();
            assert_eq!(
                typo.parse::<Address>(),
                Err(ParseAddressError::Key(ParseIdError::Checksum)),
                "{typo}"
            );
        }
    }

    /// Spec: N-03.
    #[test]
    fn bad_addresses_are_typed_errors() {
        let k = key();
        for (text, error) in [
            (format!("https://{k}@h:1"), ParseAddressError::Scheme),
            ("tombola://h:1".to_owned(), ParseAddressError::NoKey),
            (format!("tombola://{k}@h"), ParseAddressError::Port),
            (format!("tombola://{k}@h:0"), ParseAddressError::Port),
            (format!("tombola://{k}@h:+1"), ParseAddressError::Port),
            (format!("tombola://{k}@h:65536"), ParseAddressError::Port),
            (format!("tombola://{k}@:1"), ParseAddressError::Host),
            (format!("tombola://{k}@::1:1"), ParseAddressError::Host),
            (format!("tombola://{k}@[h]:1"), ParseAddressError::Host),
            (format!("tombola://{k}@a b:1"), ParseAddressError::Host),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
    }
}
