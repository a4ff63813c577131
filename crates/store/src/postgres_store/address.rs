//! A database's address, and connecting to it.

use super::password_file;
use super::session::Session;
use super::trouble::Trouble;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;
use tombola_ledger::store::StoreFault;

/// How long one host may take to accept a connection, unless the address says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long sent bytes may stay unacknowledged, unless the address says otherwise.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// After how long an idle connection is probed; the default of two hours is no use here.
const KEEPALIVES_IDLE: Duration = Duration::from_secs(15);
/// How long all hosts together may take to log us in: one that is stopped accepts and never answers.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Where a database is and how to get in.
pub(super) struct Address {
    config: Config,
    tls: MakeRustlsConnect,
}

impl Address {
    /// Reads `postgres://user:password@host:port,host:port/database?...` or `key=value` pairs.
    pub(super) fn parse(text: &str) -> Result<Self, StoreFault> {
        let (text, own) = OwnParameters::split_off(text)?;
        let mut config: Config = text.parse().map_err(|_| StoreFault::Address)?;
        if own.verification == Verification::Demanded {
            config.ssl_mode(SslMode::Require);
        }
        if config.get_password().is_none()
            && let Some(file) = password_file::place(own.password_file.as_deref(), |name| std::env::var_os(name))
            && let Some(password) = password_file::password(&config, &file)
        {
            config.password(password);
        }
        if config.get_target_session_attrs() == TargetSessionAttrs::Any {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(TCP_USER_TIMEOUT);
        }
        config.keepalives_idle(config.get_keepalives_idle().min(KEEPALIVES_IDLE));
        if config.get_application_name().is_none() {
            config.application_name("tombola");
        }
        let roots = match config.get_ssl_mode() {
            SslMode::Disable => RootCertStore::empty(),
            _ => roots(own.root_certificate.as_deref().map(Path::new))?,
        };
        let tls = MakeRustlsConnect::new(client_config(roots)?);
        Ok(Self { config, tls })
    }

    /// A new connection to the first host that takes writes; its driver runs on the runtime of the caller.
    pub(super) async fn connect(&self) -> Result<Session, Trouble> {
        let connecting = timeout(LOGIN_TIMEOUT, self.config.connect(self.tls.clone()));
        let connected = connecting.await.map_err(|_| Trouble::Lost)?;
        let (client, connection) = connected.map_err(|error| match Trouble::from(error) {
            // No password where one is asked for, no TLS where it is demanded.
            Trouble::Damaged => Trouble::Unfit,
            trouble => trouble,
        })?;
        // It ends when the client is dropped, or with an error that each later use of the client shows.
        drop(tokio::spawn(connection));
        Ok(Session::new(client))
    }
}

/// What an address may say beyond what the driver knows.
#[derive(Debug, PartialEq, Eq)]
struct OwnParameters {
    root_certificate: Option<String>,
    password_file: Option<String>,
    verification: Verification,
}

/// Whether an address names one of the modes of libpq that verify, which the driver does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verification {
    Demanded,
    /// As `sslmode` says; a certificate that comes is verified all the same.
    ByMode,
}

impl OwnParameters {
    /// Takes `sslrootcert`, `passfile` and the verifying modes of `sslmode` out of a URL's query.
    fn split_off(text: &str) -> Result<(String, Self), StoreFault> {
        let mut own = Self {
            root_certificate: None,
            password_file: None,
            verification: Verification::ByMode,
        };
        let Some((base, query)) = text.split_once('?') else {
            return Ok((text.to_owned(), own));
        };
        let mut kept = Vec::new();
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("sslrootcert", path)) => own.root_certificate = Some(percent_decoded(path)?),
                Some(("passfile", path)) => own.password_file = Some(percent_decoded(path)?),
                Some(("sslmode", "verify-ca" | "verify-full")) => own.verification = Verification::Demanded,
                _ => kept.push(pair),
            }
        }
        Ok((format!("{base}?{}", kept.join("&")), own))
    }
}

fn percent_decoded(text: &str) -> Result<String, StoreFault> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || {
            char::from(bytes.next()?)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        match (digit(), digit()) {
            (Some(high), Some(low)) => decoded.push(high << 4 | low),
            _ => return Err(StoreFault::Address),
        }
    }
    String::from_utf8(decoded).map_err(|_| StoreFault::Address)
}

/// The named roots and no others, or those of the system.
fn roots(file: Option<&Path>) -> Result<RootCertStore, StoreFault> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        // Where the system has none, every certificate is untrusted, and that is what connecting says.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    for certificate in CertificateDer::pem_file_iter(file).map_err(|_| StoreFault::Untrusted)? {
        let certificate = certificate.map_err(|_| StoreFault::Untrusted)?;
        roots.add(certificate).map_err(|_| StoreFault::Untrusted)?;
    }
    if roots.is_empty() {
        return Err(StoreFault::Untrusted);
    }
    Ok(roots)
}

fn client_config(roots: RootCertStore) -> Result<rustls::ClientConfig, StoreFault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| StoreFault::Untrusted)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_parameters_are_taken_out_of_an_address() {
        let text = "postgres://u@h/d?sslrootcert=%2Fetc%2Froot.pem&sslmode=verify-full&connect_timeout=3";
        let (rest, own) = OwnParameters::split_off(text).unwrap();
        assert_eq!(rest, "postgres://u@h/d?connect_timeout=3");
        assert_eq!(own.root_certificate.as_deref(), Some("/etc/root.pem"));
        assert_eq!(own.verification, Verification::Demanded);
    }

    #[test]
    fn a_password_that_the_address_lacks_comes_from_the_password_file() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "h:5432:d:u:kept").unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        let password = |user: &str| {
            let text = format!(
                "postgres://{user}@h/d?sslmode=disable&passfile={}",
                file.path().display()
            );
            let address = Address::parse(&text).unwrap();
            address.config.get_password().map(<[u8]>::to_vec)
        };
        assert_eq!(password("u").as_deref(), Some(&b"kept"[..]));
        assert_eq!(password("u:own").as_deref(), Some(&b"own"[..]));
        assert_eq!(password("other"), None);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "postgres://u@h/d?what=1",
            "redb:/home",
            "postgres://u@h/d?sslrootcert=%2",
        ] {
            assert_eq!(Address::parse(text).err(), Some(StoreFault::Address), "{text}");
        }
        let missing = "postgres://u@h/d?sslmode=require&sslrootcert=/nowhere/root.pem";
        assert_eq!(Address::parse(missing).err(), Some(StoreFault::Untrusted));
    }

    #[test]
    fn a_server_that_takes_writes_is_looked_for_unless_the_address_says_otherwise() {
        let address = Address::parse("postgres://u@a,b/d?sslmode=disable").unwrap();
        assert_eq!(address.config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(address.config.get_connect_timeout(), Some(&CONNECT_TIMEOUT));
    }
}
