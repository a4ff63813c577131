//! Configuration files: any text is refused by a typed error that says where, or means something and is written as it reads.

use tombola_node::config::{ConfigError, ConfigFile, EscrowConfig, PayeeConfig, PayerConfig};

/// The first byte names the role, the others are its file.
pub fn config(data: &[u8]) {
    let Some((role, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else { return };
    match role % 3 {
        0 => check::<EscrowConfig>(text),
        1 => check::<PayeeConfig>(text),
        _ => check::<PayerConfig>(text),
    }
}

fn check<C: ConfigFile + PartialEq + std::fmt::Debug>(text: &str) {
    match C::parse(text) {
        Ok(config) => {
            let again = C::parse(&config.text());
            assert_eq!(again, Ok(config), "a configuration reads as it is written");
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            if let ConfigError::Syntax { line, .. } = error {
                assert!((1..=text.matches('\n').count() + 1).contains(&line), "line {line}");
            }
        }
    }
}

/// The input that is the file of defaults of each role.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let file = |role: u8, text: String| [&[role], text.as_bytes()].concat();
    vec![
        file(0, EscrowConfig::default().text()),
        file(1, PayeeConfig::default().text()),
        file(2, PayerConfig::default().text()),
        file(
            0,
            "fee_flat = \"0.0001\"\n[store]\nurl = \"postgres://a@b/c\"\n".to_owned(),
        ),
        file(1, "price = \"1\"\nface_value_max = \"0.5\"\n".to_owned()),
    ]
}
