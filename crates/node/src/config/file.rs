//! A configuration as a file: read strictly, written with every setting and what it is.

use super::ConfigError;
use crate::home::{Existing, write_file};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::Path;

/// What one role is set to, as a TOML file.
pub trait ConfigFile: Default + Serialize + DeserializeOwned {
    /// The role's name in the heading.
    const ROLE: &'static str;
    /// Every setting in order, with what it is.
    const SETTINGS: &'static [(&'static str, &'static str)];
    /// Tables below the settings, each with what it is and its own settings.
    const SECTIONS: &'static [Section];

    /// Checks what [`DeserializeOwned`] cannot.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting and both numbers.
    fn check(&self) -> Result<(), ConfigError>;

    /// Reads the text of a file; what is not set has its default.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`] with line and key, or what [`ConfigFile::check`] finds.
    fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| syntax_error(text, &error))?;
        config.check()?;
        Ok(config)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError::Io`], or [`ConfigError::In`] with the file and what is wrong in it.
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| io_error(path, &error))?;
        Self::parse(&text).map_err(|error| error.in_file(path))
    }

    /// Writes a new file with every setting; an existing one is kept and is an error.
    ///
    /// # Errors
    /// [`ConfigError::Io`], of kind `AlreadyExists` where there is a file.
    fn write(&self, path: &Path) -> Result<(), ConfigError> {
        write_file(path, self.text().as_bytes(), 0o600, Existing::Keep).map_err(|error| io_error(path, &error))
    }

    /// The text of a file: each setting below a comment of what it is; what is unset, as a comment too.
    #[must_use]
    fn text(&self) -> String {
        // Settings are scalars with string forms, which TOML can always hold.
        let values = toml::Table::try_from(self).unwrap_or_default();
        let mut text = format!(
            "# Configuration of a Tombola {}. Unknown keys are errors.\n",
            Self::ROLE
        );
        describe(&mut text, Self::SETTINGS, &values);
        for section in Self::SECTIONS {
            text.push_str(&format!("\n#{}\n[{}]\n", section.comment, section.name));
            let none = toml::Table::new();
            let values = values.get(section.name).and_then(toml::Value::as_table);
            describe(&mut text, section.settings, values.unwrap_or(&none));
        }
        text
    }
}

/// A table of a configuration.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its name, in brackets.
    pub name: &'static str,
    /// What it is.
    pub comment: &'static str,
    /// Every setting in order, with what it is.
    pub settings: &'static [(&'static str, &'static str)],
}

/// Appends each setting below its comment.
fn describe(text: &mut String, settings: &[(&str, &str)], values: &toml::Table) {
    for (key, comment) in settings {
        let setting = match values.get(*key) {
            Some(value) => format!("{key} = {value}"),
            None => format!("# {key} ="),
        };
        text.push_str(&format!("\n#{comment}\n{setting}\n"));
    }
}

fn io_error(path: &Path, error: &io::Error) -> ConfigError {
    ConfigError::Io {
        path: path.to_owned(),
        kind: error.kind(),
    }
}

fn syntax_error(text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let key = text
        .lines()
        .nth(line - 1)
        .and_then(|line| line.split_once('='))
        .map(|(key, _)| key.trim().to_owned());
    ConfigError::Syntax {
        line,
        key,
        detail: error.message().to_owned(),
    }
}

/// Declares a configuration: each setting with its comment, type and default, in one place.
macro_rules! config {
    (
        $(#[doc = $about:literal])+
        $name:ident in $role:literal {
            $(#[doc = $comment:literal] $key:ident: $type:ty = $default:expr;)+
            $(section #[doc = $about_section:literal] $section:ident: $section_type:ty;)*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(#[doc = $comment] pub $key: $type,)+
            $(#[doc = $about_section] pub $section: $section_type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ $($section: <$section_type>::default(),)* }
            }
        }

        impl $crate::config::ConfigFile for $name {
            const ROLE: &'static str = $role;
            const SETTINGS: &'static [(&'static str, &'static str)] = &[$((stringify!($key), $comment),)+];
            const SECTIONS: &'static [$crate::config::Section] = &[$($crate::config::Section {
                name: stringify!($section),
                comment: $about_section,
                settings: <$section_type>::SETTINGS,
            },)*];

            fn check(&self) -> Result<(), $crate::config::ConfigError> {
                self.terms().map(drop)
            }
        }
    };
}

pub(super) use config;
