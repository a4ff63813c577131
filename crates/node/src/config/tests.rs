use super::*;
use tombola_core::amount::ParseAmountError;
use tombola_core::key::SecretKey;

fn address() -> Address {
    Address::new(SecretKey::from_seed(&[7; 32]).account(), "127.0.0.1", 7_400)
}

fn round_trips<C: ConfigFile + PartialEq + std::fmt::Debug>(config: &C) -> String {
    let text = config.text();
    assert_eq!(C::parse(&text).as_ref(), Ok(config), "{text}");
    for (key, comment) in C::SETTINGS {
        assert!(text.contains(&format!("#{comment}\n")), "{key} has no comment");
        let set = format!("\n{key} = ");
        let unset = format!("\n# {key} =");
        assert!(text.contains(&set) || text.contains(&unset), "{key} is not there");
    }
    text
}

#[test]
fn a_default_configuration_round_trips_with_a_comment_on_every_setting() {
    round_trips(&EscrowConfig::default());
    round_trips(&PayeeConfig::default());
    round_trips(&PayerConfig::default());
    round_trips(&PayeeConfig {
        escrow: Some(address()),
        files: Some("/srv/a \"quoted\" name".into()),
        ..PayeeConfig::default()
    });
    let text = round_trips(&PayerConfig {
        escrow: Some(address()),
        window_value: "0.02".parse().ok(),
        ..PayerConfig::default()
    });
    assert!(text.contains(&format!("escrow = \"{}\"", address())));
    assert_eq!(PayerConfig::parse(""), Ok(PayerConfig::default()));
}

#[test]
fn a_configuration_is_written_once_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(CONFIG_FILE);
    let config = EscrowConfig::default();
    config.write(&path).unwrap();
    assert_eq!(EscrowConfig::read(&path), Ok(config.clone()));
    assert_eq!(
        config.write(&path),
        Err(ConfigError::Io {
            path,
            kind: std::io::ErrorKind::AlreadyExists
        })
    );
}

#[test]
fn an_unknown_key_is_refused_with_file_line_and_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(CONFIG_FILE);
    std::fs::write(&path, "price = \"0.0001\"\n\npreis = \"1\"\n").unwrap();
    let error = PayeeConfig::read(&path).unwrap_err();
    let ConfigError::In { path: named, error } = error.clone() else {
        panic!("{error}");
    };
    assert_eq!(named, path);
    let ConfigError::Syntax { line, key, .. } = *error else {
        panic!("{error}");
    };
    assert_eq!((line, key.as_deref()), (3, Some("preis")));
}

#[test]
fn a_value_of_another_kind_is_refused_with_line_and_key() {
    for (text, at) in [
        ("price = 0.0001", "price"),
        ("price = \"1e-4\"", "price"),
        ("price = \"0.1\"\nlisten = \"nowhere\"", "listen"),
        ("escrow = \"tombola://tom1typo@h:1\"", "escrow"),
        ("per_bytes = -1", "per_bytes"),
        ("per_bytes = 4294967296", "per_bytes"),
    ] {
        match PayeeConfig::parse(text) {
            Err(ConfigError::Syntax { line, key, .. }) => {
                assert_eq!((line, key.as_deref()), (text.lines().count(), Some(at)), "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn ranges_name_the_setting_and_both_numbers() {
    let out = |key, given, min, max| ConfigError::OutOfRange { key, given, min, max };
    for (text, error) in [
        ("per_bytes = 0", out("per_bytes", 0, 1, 1 << 24)),
        ("book_length_max = 65537", out("book_length_max", 65_537, 1, 65_536)),
        ("jump_max = 0", out("jump_max", 0, 1, 65_536)),
        ("fee_ppm_max = 1000001", out("fee_ppm_max", 1_000_001, 0, 1_000_000)),
        ("price = \"0\"", ConfigError::Zero { key: "price" }),
        (
            "price = \"0.0000000001\"",
            ConfigError::Amount {
                key: "price",
                error: ParseAmountError::TooFine { decimals: 9 },
            },
        ),
        (
            "decimals = 19",
            ConfigError::Asset {
                name: "USD".to_owned(),
                decimals: 19,
            },
        ),
    ] {
        assert_eq!(PayeeConfig::parse(text), Err(error), "{text}");
    }
    let below = PayeeConfig::parse("face_value_max = \"0.0005\"").unwrap_err();
    assert_eq!(
        below.to_string(),
        "face_value_max is 0.0005, below face_value_min, which is 0.001"
    );
    let (short, longest) = (2 * HOUR_MS, HOLD_LIFE_MAX_MS);
    assert_eq!(
        PayeeConfig::parse(&format!("hold_life_max_ms = {short}")).unwrap_err(),
        out("hold_life_max_ms", short, REDEEM_WINDOW_MIN_MS + HOUR_MS, longest)
    );
    let short = PayerConfig::parse("redeem_window_ms = 1").unwrap_err();
    assert_eq!(
        short,
        out("redeem_window_ms", 1, REDEEM_WINDOW_MIN_MS, HOLD_LIFE_ACCEPTED_MS)
    );
}

#[test]
fn terms_are_amounts_of_the_asset() {
    let terms = PayeeConfig::default().terms().unwrap();
    assert_eq!(terms.price, Amount(100_000));
    assert_eq!(terms.face_value_max, Amount(1_000_000_000));
    let payer = PayerConfig::default().terms().unwrap();
    let (price, face) = (Amount(100_000), Amount(100_000_000));
    assert_eq!(
        payer.window_value(face, price),
        face,
        "one face value is more than 64 prices"
    );
    assert_eq!(payer.window_value(price, price), Amount(6_400_000));
    let set = PayerConfig::parse("window_value = \"0.02\"").unwrap().terms().unwrap();
    assert_eq!(set.window_value(face, price), Amount(20_000_000));
}

#[test]
fn numbers_of_bytes_read_with_their_units() {
    for (text, bytes) in [
        ("65536", 65_536),
        ("64KiB", 65_536),
        ("1MiB", 1 << 20),
        ("2kB", 2_000),
        ("1MB", 1_000_000),
    ] {
        assert_eq!(parse_bytes(text), Ok(bytes));
    }
    for text in ["", "KiB", "-1", "64 KiB", "64kib", "4096MiB", "99999999999999999999"] {
        assert_eq!(parse_bytes(text), Err(ParseBytesError), "{text:?}");
    }
}

#[test]
fn metrics_are_for_this_machine_unless_it_is_said_twice() {
    let at = |listen: &str, beyond: &str| PayeeConfig::parse(&format!("metrics_listen = {listen:?}\n{beyond}"));
    assert!(at("127.0.0.1:0", "").is_ok() && at("[::1]:9400", "").is_ok());
    for listen in ["0.0.0.0:9400", "192.0.2.1:9400", "[::]:9400"] {
        let refused = at(listen, "").unwrap_err();
        assert!(matches!(refused, ConfigError::NotLoopback { .. }), "{refused}");
        assert!(
            refused.to_string().contains("metrics_beyond_loopback = true"),
            "{refused}"
        );
        assert!(at(listen, "metrics_beyond_loopback = true").is_ok());
    }
}

/// A role's settings that are numbers or amounts, the largest number of each, and whether 0, 1 and that one are taken
/// where all else is as by default. 1 is the smallest amount, and an amount of `""` is as large as an account can hold.
const ENDS: &[(&str, &str, &str, [bool; 3])] = &[
    // Fewer places than the defaults have.
    ("escrow", "decimals", "255", [false, false, false]),
    ("escrow", "fee_flat", "", [true, true, true]),
    ("escrow", "fee_ppm", "4294967295", [true, true, false]),
    ("escrow", "face_value_min", "", [false, true, true]),
    ("escrow", "cap_min", "", [false, true, true]),
    ("escrow", "payout_fee", "", [true, true, true]),
    ("escrow", "payout_min", "", [true, true, true]),
    // Only a database has a second writer.
    ("escrow", "store.writer", "4294967295", [true, false, false]),
    ("payee", "decimals", "255", [false, false, false]),
    ("payee", "price", "", [false, true, false]),
    ("payee", "per_bytes", "4294967295", [false, true, false]),
    ("payee", "face_value_min", "", [false, true, false]),
    ("payee", "face_value_max", "", [false, false, true]),
    ("payee", "book_length_max", "4294967295", [false, true, false]),
    ("payee", "jump_max", "4294967295", [false, true, false]),
    ("payee", "credit_units", "4294967295", [true, true, false]),
    ("payee", "fee_flat_max", "", [true, true, true]),
    ("payee", "fee_ppm_max", "4294967295", [true, true, false]),
    ("payee", "redeem_at_value", "", [true, true, true]),
    ("payee", "redeem_window_min_ms", TOML_MAX, [false, false, false]),
    ("payee", "hold_life_max_ms", TOML_MAX, [false, false, false]),
    ("payee", "opens_per_second", "4294967295", [false, true, false]),
    ("payer", "decimals", "255", [false, false, false]),
    ("payer", "window_value", "", [false, true, true]),
    ("payer", "fee_flat_max", "", [true, true, true]),
    ("payer", "fee_ppm_max", "4294967295", [true, true, false]),
    ("payer", "hold_life_ms", TOML_MAX, [false, false, false]),
    ("payer", "redeem_window_ms", TOML_MAX, [false, false, false]),
    ("payer", "escrow_patience_ms", TOML_MAX, [true, true, false]),
];

/// The largest number of the format.
const TOML_MAX: &str = "9223372036854775807";
const AMOUNTS: [&str; 3] = ["\"0\"", "\"0.000000001\"", "\"18446744073.709551615\""];

/// Parses a configuration with one setting, and says what is wrong with it.
fn fault_of<C: ConfigFile>(key: &str, value: &str) -> Option<String> {
    let line = match key.split_once('.') {
        Some((section, key)) => format!("[{section}]\n{key} = {value}"),
        None => format!("{key} = {value}"),
    };
    C::parse(&line).err().map(|error| error.to_string())
}

#[test]
fn the_ends_of_every_number_are_taken_or_refused_by_name() {
    for (role, key, max, taken) in ENDS {
        let values = match *max {
            "" => AMOUNTS,
            max => ["0", "1", max],
        };
        for (value, is_taken) in values.into_iter().zip(taken) {
            let fault = match *role {
                "escrow" => fault_of::<EscrowConfig>(key, value),
                "payee" => fault_of::<PayeeConfig>(key, value),
                _ => fault_of::<PayerConfig>(key, value),
            };
            assert_eq!(fault.is_none(), *is_taken, "{role}: {key} = {value}: {fault:?}");
            // How many places there are is told of the amount that has more.
            let is_named = fault.is_none_or(|fault| fault.contains(key) || *key == "decimals");
            assert!(is_named, "{role}: {key} = {value} is refused without its name");
        }
    }
}

/// The settings of a role that are numbers or amounts; one that is unset by default is not seen.
fn numbers_of<C: ConfigFile>() -> Vec<String> {
    let is_number = |value: &toml::Value| match value {
        toml::Value::Integer(_) => true,
        toml::Value::String(text) => text.parse::<Money>().is_ok(),
        _ => false,
    };
    let mut numbers = Vec::new();
    for (key, value) in toml::Table::try_from(C::default()).unwrap() {
        match value {
            toml::Value::Table(section) => {
                let inner = section.iter().filter(|(_, value)| is_number(value));
                numbers.extend(inner.map(|(inner, _)| format!("{key}.{inner}")));
            }
            value if is_number(&value) => numbers.push(key),
            _ => {}
        }
    }
    numbers
}

#[test]
fn the_ends_of_no_number_are_left_out() {
    let of_roles = [
        ("escrow", numbers_of::<EscrowConfig>()),
        ("payee", numbers_of::<PayeeConfig>()),
        ("payer", numbers_of::<PayerConfig>()),
    ];
    for (role, numbers) in of_roles {
        assert!(numbers.len() >= 5, "{role}: {numbers:?}");
        for key in numbers {
            assert!(
                ENDS.iter().any(|(of, named, ..)| *of == role && *named == key),
                "{role}: {key}"
            );
        }
    }
}
