//! `tombola doctor`: looks for what would cost money later, and says what to do about it. It mends nothing;
//! the store of a stopped payee or payer is opened as a start would open it.
//!
//! Each check gives one finding. What cannot be looked at (a passphrase that nobody gave, an escrow that is away) is a
//! finding, too: silence would read as health.

mod clock;
mod home;
mod machine;
mod peer;
mod port;

use crate::exit::{CHECK_FAILED, Failure};
use crate::local::HomeArg;
use crate::output::Output;
use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

/// Looks at this machine and at one role's home, or at all homes that are in ~/.tombola.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tombola doctor
  tombola doctor payee --home /var/lib/tombola-payee
  tombola --json doctor escrow

It ends with exit code 6 if a check has failed; warnings alone end with 0.")]
pub(crate) struct Args {
    #[command(flatten)]
    home: HomeArg,
    /// Whose home; all that are there if none is given.
    #[arg(value_enum)]
    role: Option<Role>,
}

/// A role, by the name of its home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Escrow,
    Payee,
    Payer,
}

impl Role {
    const ALL: [Self; 3] = [Self::Escrow, Self::Payee, Self::Payer];

    const fn name(self) -> &'static str {
        match self {
            Self::Escrow => "escrow",
            Self::Payee => "payee",
            Self::Payer => "payer",
        }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Ok,
    Warning,
    Failed,
}

/// What one check found. The names of checks are a contract, listed in README.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Whose home; nothing where it is about the machine.
    role: Option<Role>,
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do; nothing where all is well.
    next: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            role: None,
            check,
            verdict: Verdict::Ok,
            found: found.into(),
            next: None,
        }
    }

    fn warning(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warning,
            next: Some(next.into()),
            ..Self::ok(check, found)
        }
    }

    fn failed(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Failed,
            ..Self::warning(check, found, next)
        }
    }

    /// From what another command would have failed with.
    fn of_failure(check: &'static str, failure: &Failure) -> Self {
        let next = failure.next_step().unwrap_or("see README.md");
        Self::failed(check, failure.error.message.clone(), next)
    }

    fn of(self, role: Role) -> Self {
        Self {
            role: Some(role),
            ..self
        }
    }

    fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok     ",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED ",
        };
        let role = self.role.map_or("machine", Role::name);
        let next = self.next.as_ref().map(|next| format!("\n{:>25} next: {next}", ""));
        format!(
            "{verdict}  {role:<7}  {:<12} {}{}",
            self.check,
            self.found,
            next.unwrap_or_default()
        )
    }
}

pub(crate) async fn run(args: Args, output: Output) -> Result<(), Failure> {
    let mut findings = machine::look();
    let roles = match args.role {
        Some(role) => vec![role],
        None if args.home.is_given() => {
            let next = "tombola doctor escrow --home DIR, or payee, or payer";
            return Err(Failure::new("no_role", "--home is given without the role that it is of").next(next));
        }
        None => Role::ALL
            .into_iter()
            .filter(|role| args.home.exists(role.name()))
            .collect(),
    };
    for role in roles {
        let found = home::look(&args.home, role).await;
        findings.extend(found.into_iter().map(|finding| finding.of(role)));
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (failed, warnings) = (count(Verdict::Failed), count(Verdict::Warning));
    let result = json!({ "findings": findings, "failed": failed, "warnings": warnings });
    let text = || {
        let lines: Vec<String> = findings.iter().map(Finding::line).collect();
        format!("{}\n{failed} failed, {warnings} warnings", lines.join("\n"))
    };
    if failed == 0 {
        output.result(&result, text);
        return Ok(());
    }
    let failure = Failure::new(CHECK_FAILED, format!("{failed} checks failed")).next("do what is said beside each");
    Err(output.found(result, text, failure))
}

#[cfg(test)]
mod tests;
