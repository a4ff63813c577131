mod erased;

use super::*;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// The private key of RFC 8410 section 10.3, as `openssl genpkey` writes it.
const RFC_8410: &str = "-----BEGIN PRIVATE KEY-----\n\
                        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                        -----END PRIVATE KEY-----\n";
/// The example of RFC 7914 section 13: scrypt with N of 2^20, 1 GiB; its passphrase is `Rabbit`.
const RFC_7914: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
                        MIHiME0GCSqGSIb3DQEFDTBAMB8GCSsGAQQB2kcECzASBAVNb3VzZQIDEAAAAgEI\n\
                        AgEBMB0GCWCGSAFlAwQBKgQQyYmguHMsOwzGMPoyObk/JgSBkJb47EWd5iAqJlyy\n\
                        +ni5ftd6gZgOPaLQClL7mEZc2KQay0VhjZm/7MbBUNbqOAXNM6OGebXxVp6sHUAL\n\
                        iBGY/Dls7B1TsWeGObE0sS1MXEpuREuloZjcsNVcNXWPlLdZtkSH6uwWzR0PyG/Z\n\
                        +ZXfNodZtd/voKlvLOw5B3opGIFaLkbtLZQwMiGtl42AS89lZg==\n\
                        -----END ENCRYPTED PRIVATE KEY-----\n";

fn secret(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

fn cheap(passphrase: &Passphrase) -> Protection<'_> {
    Protection::Passphrase(passphrase, Cost::NEGLIGIBLE)
}

fn parse(text: impl AsRef<[u8]>) -> Result<KeyFile, KeyFileProblem> {
    KeyFile::parse(Path::new("k"), text.as_ref()).map_err(problem)
}

fn open(text: impl AsRef<[u8]>, passphrase: &str) -> Result<SecretKey, KeyFileProblem> {
    parse(text)?.open(Some(&secret(passphrase))).map_err(problem)
}

fn problem(error: KeyFileError) -> KeyFileProblem {
    match error {
        KeyFileError::Bad { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

fn is(result: Result<SecretKey, KeyFileProblem>, expected: KeyFileProblem) {
    assert_eq!(result.err(), Some(expected));
}

/// Runs the `openssl` of this machine: its exit code and what it printed.
fn openssl(directory: &Path, args: &str) -> (bool, String) {
    let mut command = Command::new("openssl");
    let done = command.current_dir(directory).args(args.split(' ')).output();
    let done = done.expect("openssl is installed: it shows that other tools open our files");
    (
        done.status.success(),
        String::from_utf8_lossy(&done.stdout).into_owned(),
    )
}

/// The public key as `openssl pkey -text` shows it.
fn shown_by_openssl(text: &str) -> String {
    let public = text
        .split("pub:")
        .nth(1)
        .unwrap_or_else(|| panic!("no key in {text:?}"));
    public.chars().filter(char::is_ascii_hexdigit).collect()
}

#[test]
fn a_key_file_reads_as_it_was_written_and_is_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(KEY_FILE);
    let key = create(&path).unwrap();
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(read(&path).unwrap().account(), key.account());
    assert_eq!(create(&path).unwrap_err(), KeyFileError::Exists { path: path.clone() });
    assert_eq!(read(&path).unwrap().account(), key.account());
    assert_ne!(generate().unwrap().account(), generate().unwrap().account());
}

#[test]
fn the_format_is_the_one_of_rfc_8410_after_two_lines_of_our_own() {
    let key = parse(RFC_8410).unwrap().open(None).unwrap();
    let text = encode(&key, Protection::None).unwrap();
    let account = key.account();
    assert_eq!(*text, format!("tombola-key: 1\naccount: {account}\n{RFC_8410}"));
    let again = parse(text.as_bytes()).unwrap();
    assert_eq!(again.account(), Some(account));
    assert_eq!(again.open(None).unwrap().account(), account);
}

#[test]
fn an_encrypted_key_opens_with_its_passphrase_only_and_says_whose_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(KEY_FILE);
    let (key, passphrase) = (generate().unwrap(), secret("correct horse"));
    write(&path, &key, cheap(&passphrase)).unwrap();
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    let file = KeyFile::read(&path).unwrap();
    assert!(file.is_encrypted());
    assert_eq!(file.account(), Some(key.account()));
    assert_eq!(file.open(Some(&passphrase)).unwrap().account(), key.account());
    assert_eq!(read(&path).unwrap_err(), KeyFileError::Encrypted { path: path.clone() });
    let text = std::fs::read(&path).unwrap();
    for wrong in ["correct horsf", "correct hors", "correct horse ", "c"] {
        is(open(&text, wrong), KeyFileProblem::WrongPassphrase);
    }
    let other = encode(&key, cheap(&passphrase)).unwrap();
    assert_ne!(other.as_bytes(), text, "salts are fresh");
}

/// One wrong passphrase in 256 gives noise that ends like a padded text.
#[test]
fn noise_that_ends_well_is_still_a_wrong_passphrase() {
    let text = encode(&generate().unwrap(), cheap(&secret("right"))).unwrap();
    for wrong in 0..2_000 {
        is(
            open(text.as_bytes(), &wrong.to_string()),
            KeyFileProblem::WrongPassphrase,
        );
    }
}

#[test]
fn no_altered_byte_makes_another_key_of_a_file() {
    let (key, passphrase) = (generate().unwrap(), "p");
    for protection in [Protection::None, cheap(&secret(passphrase))] {
        let text = encode(&key, protection).unwrap();
        let mut refused = 0;
        for (at, bit) in (0..text.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut altered = text.as_bytes().to_vec();
            altered[at] ^= 1 << bit;
            match open(&altered, passphrase) {
                Ok(opened) => assert_eq!(opened.account(), key.account(), "byte {at}, bit {bit}"),
                Err(_) => refused += 1,
            }
        }
        println!("{refused} of {} altered files were refused", text.len() * 8);
        assert!(refused > text.len() * 4);
    }
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused() {
    let (key, passphrase) = (generate().unwrap(), "p");
    for protection in [Protection::None, cheap(&secret(passphrase))] {
        let text = encode(&key, protection).unwrap();
        is(open("", passphrase), KeyFileProblem::Empty);
        // Without its last newline it is whole.
        for length in 1..text.len() - 1 {
            let cut = open(&text.as_bytes()[..length], passphrase).err();
            let expected = [
                Some(KeyFileProblem::Truncated),
                Some(KeyFileProblem::Foreign),
                Some(KeyFileProblem::Altered),
            ];
            assert!(expected.contains(&cut), "{length}: {cut:?}");
        }
        is(
            open(&text.as_bytes()[..text.len() - 20], passphrase),
            KeyFileProblem::Truncated,
        );
    }
}

#[test]
fn what_is_not_a_key_of_ours_is_refused_by_name() {
    let key = generate().unwrap();
    let plain = encode(&key, Protection::None).unwrap();
    let other = encode(&generate().unwrap(), Protection::None).unwrap();
    let pem = |text: &str| text[text.find("-----").unwrap()..].to_owned();
    let swapped = format!("{}{}", &plain[..plain.find("-----").unwrap()], pem(&other));
    let table: [(&str, String, KeyFileProblem); 12] = [
        ("empty", String::new(), KeyFileProblem::Empty),
        ("blank", " \n\n".to_owned(), KeyFileProblem::Empty),
        ("text", "hello\n".to_owned(), KeyFileProblem::Foreign),
        ("a seed", hex::encode([7; 32]), KeyFileProblem::Foreign),
        (
            "a certificate",
            plain.replace("PRIVATE KEY", "CERTIFICATE"),
            KeyFileProblem::Foreign,
        ),
        (
            "OpenSSH",
            plain.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"),
            KeyFileProblem::Foreign,
        ),
        (
            "newer",
            plain.replace("tombola-key: 1", "tombola-key: 2"),
            KeyFileProblem::Newer { found: 2, known: 1 },
        ),
        (
            "no version",
            plain.replace("tombola-key: 1", "tombola-key: x"),
            KeyFileProblem::Altered,
        ),
        (
            "no account",
            plain.replace("account: ", "Account: "),
            KeyFileProblem::Altered,
        ),
        ("another's key", swapped, KeyFileProblem::Altered),
        (
            "lines only",
            plain[..plain.find("-----").unwrap()].to_owned(),
            KeyFileProblem::Truncated,
        ),
        (
            "1 GiB to open",
            RFC_7914.to_owned(),
            KeyFileProblem::TooMuchMemory {
                need_mib: 1_025,
                limit_mib: 256,
            },
        ),
    ];
    for (what, text, expected) in table {
        println!("{what}");
        is(open(&text, "Rabbit"), expected);
    }
    assert_eq!(parse([0xff; 64]).err(), Some(KeyFileProblem::Foreign));
    assert_eq!(
        open(pem(&other), "p").unwrap().account(),
        parse(&*other).unwrap().account().unwrap()
    );
}

#[test]
fn what_a_file_asks_for_is_bounded_before_anything_is_derived() {
    use pkcs8::der::Encode;
    use pkcs8::pkcs5::EncryptionScheme;
    use pkcs8::pkcs5::pbes2::{Kdf, Parameters, Pbkdf2Params};
    let file = |change: &dyn Fn(&mut Parameters)| {
        let text = encode(&generate().unwrap(), cheap(&secret("p"))).unwrap();
        let (_, der) = pkcs8::SecretDocument::from_pem(&text[text.find("-----").unwrap()..]).unwrap();
        let mut info = pkcs8::EncryptedPrivateKeyInfoOwned::try_from(der.as_bytes()).unwrap();
        let EncryptionScheme::Pbes2(parameters) = &mut info.encryption_algorithm else {
            panic!("PBES2 is what is written");
        };
        change(parameters);
        let der = pkcs8::SecretDocument::try_from(info.to_der().unwrap()).unwrap();
        der.to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF)
            .unwrap()
            .to_string()
    };
    let scrypt = |n, r, p| {
        file(&move |parameters| {
            let Kdf::Scrypt(scrypt) = &mut parameters.kdf else {
                panic!("scrypt is what is written");
            };
            (scrypt.cost_parameter, scrypt.block_size, scrypt.parallelization) = (n, r, p);
        })
    };
    let iterations = |count| {
        file(&move |parameters| {
            let mut pbkdf2 = Pbkdf2Params::hmac_sha256(1, b"salt of some length").unwrap();
            pbkdf2.iteration_count = count;
            parameters.kdf = pbkdf2.into();
        })
    };
    let start = Instant::now();
    let memory = |need_mib| KeyFileProblem::TooMuchMemory {
        need_mib,
        limit_mib: 256,
    };
    // N + p blocks of 128 r bytes: 2^18 of 1 KiB are the limit itself, and one more is beyond it.
    is(open(scrypt(1 << 18, 8, 1), "p"), memory(257));
    is(open(scrypt(1 << 62, 8, 1), "p"), memory(1 << 44));
    is(open(scrypt(2, 65_535, 65_535), "p"), memory(524_288));
    is(open(scrypt(1 << 14, 8, 129), "p"), KeyFileProblem::TooMuchWork);
    for (n, r, p) in [(0, 8, 1), (1, 8, 1), (3, 8, 1), (16, 0, 1), (16, 8, 0)] {
        is(open(scrypt(n, r, p), "p"), KeyFileProblem::UnknownEncryption);
    }
    is(open(iterations(10_000_001), "p"), KeyFileProblem::TooMuchWork);
    assert!(start.elapsed() < Duration::from_secs(2), "nothing was derived");
    is(open(iterations(1), "p"), KeyFileProblem::WrongPassphrase);
    is(open(scrypt(1 << 5, 8, 1), "p"), KeyFileProblem::WrongPassphrase);
}

#[test]
fn a_key_file_that_is_not_its_owners_alone_is_refused_with_the_mode() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(KEY_FILE);
    create(&path).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o601, 0o660] {
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = read(&path).unwrap_err();
        let path = path.clone();
        let shown = format!("(mode {mode:o}); run: chmod 600 {}", path.display());
        assert!(error.to_string().ends_with(&shown), "{error}");
        assert_eq!(error, KeyFileError::Exposed { path, mode });
    }
}

/// Only root can give files away, so others are told that this was not run.
#[test]
fn a_file_of_another_user_is_refused_and_both_are_named() {
    let own = rustix::process::geteuid();
    if !own.is_root() {
        println!("NOT RUN: a file of another user, which only root can make");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (path, uid) = (directory.path().join(KEY_FILE), 65_534);
    create(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(uid), None).unwrap();
    let error = read(&path).unwrap_err();
    let shown = "belongs to user 65534, and this process to user 0";
    assert!(error.to_string().ends_with(shown), "{error}");
    assert!(KeyFile::read_of(&path, uid).is_ok());
    assert!(matches!(KeyFile::read_of(&path, 1), Err(KeyFileError::NotMine { .. })));
    let of_another = path.clone();
    assert_eq!(error, KeyFileError::NotMine { path: of_another, uid });
    let error = Passphrase::read(&path).unwrap_err();
    assert_eq!(error, PassphraseFileError::NotMine { path, uid });
}

#[test]
fn a_directory_a_pipe_a_large_and_a_missing_file_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    assert_eq!(read(&path).unwrap_err(), KeyFileError::NotAFile { path });
    let path = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_eq!(read(&path).unwrap_err(), KeyFileError::NotAFile { path });
    let path = directory.path().join("large");
    write_file(&path, &[b'x'; KEY_FILE_BYTES_MAX + 1], 0o600, Existing::Keep).unwrap();
    assert_eq!(problem(read(&path).unwrap_err()), KeyFileProblem::Foreign);
    let missing = read(&directory.path().join("none")).unwrap_err();
    let kind = io::ErrorKind::NotFound;
    assert!(matches!(missing, KeyFileError::Io { kind: found, .. } if found == kind));
}

#[test]
fn a_key_is_rewritten_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(KEY_FILE);
    let (key, passphrase) = (create(&path).unwrap(), secret("p"));
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    rewrite(&link, &key, cheap(&passphrase)).unwrap();
    assert!(link.is_symlink() && KeyFile::read(&path).unwrap().is_encrypted());
    let before = std::fs::read(&path).unwrap();
    // The place of the unfinished file is taken by something that cannot be removed as a file.
    let unfinished = directory.path().join(format!("{KEY_FILE}.{}.new", std::process::id()));
    std::fs::create_dir(&unfinished).unwrap();
    assert!(matches!(
        rewrite(&path, &key, Protection::None),
        Err(KeyFileError::Io { .. })
    ));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    std::fs::remove_dir(&unfinished).unwrap();
    rewrite(&path, &key, Protection::None).unwrap();
    assert_eq!(read(&path).unwrap().account(), key.account());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn openssl_opens_what_we_write_at_the_cost_that_is_the_default() {
    let directory = tempfile::tempdir().unwrap();
    let (key, passphrase) = (generate().unwrap(), secret("correct horse"));
    let public = hex::encode(key.account().0);
    let path = directory.path().join("plain.pem");
    write(&path, &key, Protection::None).unwrap();
    assert_eq!(
        shown_by_openssl(&openssl(directory.path(), "pkey -in plain.pem -text -noout").1),
        public
    );
    let path = directory.path().join("key.pem");
    write(&path, &key, Protection::Passphrase(&passphrase, Cost::DEFAULT)).unwrap();
    std::fs::write(directory.path().join("p"), "correct horse\n").unwrap();
    let (_, text) = openssl(directory.path(), "pkey -in key.pem -passin file:p -text -noout");
    assert_eq!(shown_by_openssl(&text), public);
    let (opened, _) = openssl(directory.path(), "pkey -in key.pem -passin pass:wrong -text -noout");
    assert!(!opened, "the passphrase is needed");
    let start = Instant::now();
    KeyFile::read(&path).unwrap().open(Some(&passphrase)).unwrap();
    println!("opened in {:?}", start.elapsed());
}

#[test]
fn we_open_what_openssl_writes_and_refuse_its_weak_ciphers() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let run = |args: &str| assert!(openssl(at, args).0, "{args}");
    run("genpkey -algorithm ed25519 -out plain.pem");
    let public = shown_by_openssl(&openssl(at, "pkey -in plain.pem -text -noout").1);
    let topk8 = "pkcs8 -topk8 -in plain.pem -passout pass:secret -out";
    run(&format!("{topk8} scrypt.pem -v2 aes-256-cbc -scrypt"));
    run(&format!("{topk8} pbkdf2.pem -v2 aes-128-cbc -v2prf hmacWithSHA256"));
    run(&format!(
        "{topk8} sha512.pem -v2 aes-192-cbc -v2prf hmacWithSHA512 -iter 100000"
    ));
    run("genpkey -algorithm ed25519 -aes-256-cbc -pass pass:secret -out genpkey.pem");
    for file in ["plain.pem", "scrypt.pem", "pbkdf2.pem", "sha512.pem"] {
        let key = open(std::fs::read(at.join(file)).unwrap(), "secret").unwrap();
        assert_eq!(hex::encode(key.account().0), public, "{file}");
    }
    let genpkey = std::fs::read(at.join("genpkey.pem")).unwrap();
    assert_eq!(parse(&genpkey).unwrap().account(), None, "nobody says whose it is");
    open(&genpkey, "secret").unwrap();
    is(open(&genpkey, "wrong"), KeyFileProblem::WrongPassphrase);

    run(&format!("{topk8} des3.pem -v2 des3"));
    run(&format!("{topk8} camellia.pem -v2 camellia-256-cbc"));
    run(&format!("{topk8} sha1.pem -v2 aes-256-cbc -v2prf hmacWithSHA1"));
    run("genpkey -algorithm x25519 -out x25519.pem");
    run("genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-256 -aes-256-cbc -pass pass:secret -out p256.pem");
    for (file, expected) in [
        ("des3.pem", KeyFileProblem::UnknownEncryption),
        ("camellia.pem", KeyFileProblem::UnknownEncryption),
        ("sha1.pem", KeyFileProblem::UnknownEncryption),
        ("x25519.pem", KeyFileProblem::AnotherAlgorithm),
        ("p256.pem", KeyFileProblem::AnotherAlgorithm),
    ] {
        println!("{file}");
        is(open(std::fs::read(at.join(file)).unwrap(), "secret"), expected);
    }
}

#[test]
fn a_passphrase_is_read_from_a_file_of_its_owner_without_the_newline_at_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passphrase");
    for (text, bytes) in [
        (&b"secret"[..], &b"secret"[..]),
        (b"secret\n", b"secret"),
        (b"secret\r\n", b"secret"),
        (b"secret\n\n", b"secret\n"),
        (b" two words \n", b" two words "),
        (&[0xff, 0, b'\n'], &[0xff, 0]),
        (&[b'x'; PASSPHRASE_BYTES_MAX], &[b'x'; PASSPHRASE_BYTES_MAX]),
    ] {
        write_file(&path, text, 0o600, Existing::Replace).unwrap();
        assert_eq!(Passphrase::read(&path).unwrap().bytes(), bytes);
    }
    let bad = |text: &[u8]| {
        write_file(&path, text, 0o600, Existing::Replace).unwrap();
        match Passphrase::read(&path) {
            Err(PassphraseFileError::Bad { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((bad(b""), bad(b"\n")), (BadPassphrase::Empty, BadPassphrase::Empty));
    assert!(matches!(
        bad(&[b'x'; PASSPHRASE_BYTES_MAX + 1]),
        BadPassphrase::TooLong { has: 1_025 }
    ));
    for mode in [0o640, 0o604, 0o622] {
        write_file(&path, b"secret\n", mode, Existing::Replace).unwrap();
        let error = Passphrase::read(&path).unwrap_err();
        let path = path.clone();
        assert_eq!(error, PassphraseFileError::Exposed { path, mode });
    }
    assert!(matches!(
        Passphrase::read(directory.path()).unwrap_err(),
        PassphraseFileError::Exposed { .. } | PassphraseFileError::Io { .. }
    ));
}

#[test]
fn core_dumps_are_off_once_they_are_forbidden() {
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};
    forbid_core_dumps().unwrap();
    let limit = getrlimit(Resource::Core);
    assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
}

#[test]
fn nothing_secret_is_in_what_debug_prints() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(KEY_FILE);
    let (key, passphrase) = (generate().unwrap(), secret("correct horse"));
    write(&path, &key, cheap(&passphrase)).unwrap();
    let file = KeyFile::read(&path).unwrap();
    let shown = format!("{key:?} {passphrase:?} {file:?} {:?}", cheap(&passphrase));
    let seed = hex::encode(*key.seed());
    for word in ["correct horse", &seed, &format!("{:?}", key.seed()), "encrypted_data"] {
        assert!(!shown.contains(word), "{shown}");
    }
    assert!(shown.contains("SecretKey(..) Passphrase(..) KeyFile"), "{shown}");
}
