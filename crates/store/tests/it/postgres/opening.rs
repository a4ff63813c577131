//! What is refused at opening, and what opening makes.

use super::{commit, get, mark, name_of, open, put, row};
use pem_rfc7468::LineEnding;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::thread;
use tombola_ledger::row::Table;
use tombola_ledger::store::StoreFault;
use tombola_tests::postgres::Server;
use tombola_tests::without::is_without;

#[test]
fn a_store_that_is_opened_again_is_the_same() {
    let Some(server) = Server::shared() else { return };
    let address = server.database();
    put(&open(&address).unwrap(), commit(0, b"1", Vec::new())).unwrap();
    assert_eq!(get(&open(&address).unwrap(), mark()), Some(row(1, b"1")));
    let name = name_of(&address);
    let over_the_socket = server.socket_address(name);
    assert_eq!(get(&open(&over_the_socket).unwrap(), mark()), Some(row(1, b"1")));
}

#[test]
fn many_open_an_empty_database_at_once() {
    let Some(server) = Server::shared() else { return };
    for _ in 0..3 {
        let address = server.database();
        thread::scope(|scope| {
            let opening = [(); 6].map(|()| scope.spawn(|| open(&address)));
            for opened in opening {
                opened.join().unwrap().unwrap();
            }
        });
        let versions = server.sql(name_of(&address), "SELECT version FROM tombola_schema");
        assert_eq!(versions.trim(), "1");
    }
}

#[test]
fn a_newer_version_is_refused_untouched() {
    let Some(server) = Server::shared() else { return };
    let address = server.database();
    drop(open(&address).unwrap());
    server.sql(name_of(&address), "INSERT INTO tombola_schema VALUES (2)");
    assert_eq!(open(&address).unwrap_err(), StoreFault::FileFormat);
    assert_eq!(
        server
            .sql(name_of(&address), "SELECT MAX(version) FROM tombola_schema")
            .trim(),
        "2"
    );
}

#[test]
fn tables_that_are_not_ours_are_refused_untouched() {
    let Some(server) = Server::shared() else { return };
    let table = format!("tombola_{}", Table::Accounts.name());
    for (sql, is_made_first) in [
        (
            format!("CREATE TABLE {table} (home BIGINT, key BYTEA, version BIGINT, body BYTEA)"),
            false,
        ),
        ("CREATE TABLE tombola_schema (version TEXT)".to_owned(), false),
        ("CREATE TABLE tombola_schema (version BIGINT)".to_owned(), false),
        (format!("ALTER TABLE {table} ADD COLUMN more TEXT"), true),
        (format!("DROP TABLE {table}"), true),
    ] {
        let address = server.database();
        if is_made_first {
            drop(open(&address).unwrap());
        }
        server.sql(name_of(&address), &sql);
        let tables = "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = 'public'";
        let before = server.sql(name_of(&address), tables);
        assert_eq!(open(&address).unwrap_err(), StoreFault::Foreign, "{sql}");
        assert_eq!(server.sql(name_of(&address), tables), before, "{sql}");
    }
}

#[test]
fn a_server_without_fsync_is_refused() {
    if is_without("postgres") {
        return;
    }
    let server = Server::start(&[("fsync", "off")]);
    assert_eq!(open(&server.database()).unwrap_err(), StoreFault::NotDurable);
}

#[test]
fn commits_wait_for_the_disk_whatever_the_server_says() {
    if is_without("postgres") {
        return;
    }
    let server = Server::start(&[("log_statement", "all")]);
    for (setting, wanted) in [
        ("off", "on"),
        ("local", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ] {
        let address = server.database();
        let name = name_of(&address);
        server.sql(
            "postgres",
            &format!("ALTER DATABASE {name} SET synchronous_commit = {setting}"),
        );
        let sets = |log: &str| log.matches(&format!("SET synchronous_commit = {wanted}\n")).count();
        let before = sets(&server.log());
        let store = open(&address).unwrap();
        assert_eq!(sets(&server.log()), before + 1, "{setting}");
        drop(store);
    }
}

#[test]
fn who_may_not_log_in_is_told_the_servers_code() {
    let Some(server) = Server::shared() else { return };
    let address = server.database();
    let nobody = address.replace("postgres://postgres@", "postgres://nobody_of_that_name@");
    assert_eq!(open(&nobody).unwrap_err(), StoreFault::Server(*b"28000"));
    let encrypted = address.replace("sslmode=disable", "sslmode=require");
    assert_eq!(open(&encrypted).unwrap_err(), StoreFault::Address);
    let missing = server.address("no_such_database");
    assert_eq!(open(&missing).unwrap_err(), StoreFault::Server(*b"3D000"));
    assert_eq!(
        StoreFault::Server(*b"3D000").to_string(),
        "the database server refused with SQLSTATE 3D000"
    );
}

#[test]
fn where_no_server_is_opening_says_so_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("postgres://postgres@127.0.0.1:{port}/d?sslmode=disable");
    let began = std::time::Instant::now();
    assert_eq!(open(&address).unwrap_err(), StoreFault::Unreachable);
    assert!(began.elapsed() < super::PATIENCE / 2);
}

fn pem(label: &str, der: &[u8]) -> String {
    pem_rfc7468::encode_string(label, LineEnding::LF, der).unwrap()
}

#[test]
fn a_certificate_is_verified_against_the_root_that_is_named() {
    if is_without("postgres") {
        return;
    }
    let root = || {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, another) = (root(), root());
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ours).unwrap();
    let server = Server::start_tls(
        &pem("CERTIFICATE", certificate.der()),
        &pem("PRIVATE KEY", &key.serialize_der()),
    );
    let home = tempfile::tempdir().unwrap();
    let named = |host: &str, mode: &str, root: &CertifiedIssuer<'_, KeyPair>| {
        let file = home.path().join("root.pem");
        std::fs::write(&file, pem("CERTIFICATE", root.der())).unwrap();
        let address = server.address("postgres").replace("127.0.0.1", host);
        let file = file.to_string_lossy().replace('/', "%2F");
        open(&address.replace("sslmode=disable", &format!("sslmode={mode}&sslrootcert={file}")))
    };
    for mode in ["verify-full", "require", "prefer"] {
        let store = named("localhost", mode, &ours).unwrap();
        assert_eq!(get(&store, mark()), None);
        assert_eq!(
            named("localhost", mode, &another).unwrap_err(),
            StoreFault::Untrusted,
            "{mode}"
        );
        // The certificate is for another name.
        assert_eq!(
            named("127.0.0.1", mode, &ours).unwrap_err(),
            StoreFault::Untrusted,
            "{mode}"
        );
    }
    let encrypted = "SELECT COUNT(*) > 0 FROM pg_stat_ssl WHERE ssl AND version = 'TLSv1.3'";
    let store = named("localhost", "require", &ours).unwrap();
    assert_eq!(server.sql("postgres", encrypted).trim(), "t");
    drop(store);
    let by_the_system = server.address("postgres").replace("127.0.0.1", "localhost");
    assert_eq!(
        open(&by_the_system.replace("disable", "require")).unwrap_err(),
        StoreFault::Untrusted
    );
}
