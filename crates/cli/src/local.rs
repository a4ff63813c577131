//! What the roles share on this machine: homes, init, the socket of a running node, and running one until it is told to end.

use crate::exit::{Failure, LOCKED};
use crate::key::{self, Opened, PassphraseArg, key_line};
use crate::output::Output;
use rustix::process::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tombola_core::key::{AccountKey, SecretKey};
use tombola_net::Address;
use tombola_node::admin::{self, AdminError, AdminServer, Progress, RequestError};
use tombola_node::config::{CONFIG_FILE, ConfigFile};
use tombola_node::home::{Existing, Home, HomeError, HomeLock, write_file};
use tombola_node::key_file::{self, Cost, KEY_FILE, KeyFile, KeyFileError, Protection};

/// When the last backup was made, and where.
pub(crate) const LAST_BACKUP_FILE: &str = "last-backup";
/// How long commands that have begun may go on after a node was told to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Which home, by the option or the default of a role.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct HomeArg {
    /// The role's directory: key, configuration, store and socket [default: ~/.tombola/ROLE].
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArg,
}

impl HomeArg {
    fn path(&self, role: &str) -> Result<PathBuf, Failure> {
        if let Some(home) = &self.home {
            return Ok(std::path::absolute(home)?);
        }
        let user = std::env::var_os("HOME").filter(|home| !home.is_empty());
        let user = user.ok_or_else(|| Failure::new("no_home", "HOME is not set").next("give --home DIR"))?;
        Ok(PathBuf::from(user).join(".tombola").join(role))
    }

    pub(crate) fn open(&self, role: &str) -> Result<Home, Failure> {
        Home::open(self.path(role)?).map_err(|error| match &error {
            HomeError::Missing { path } => Failure::new("no_home", error.to_string())
                .next(format!("tombola {role} init --home {}", path.display())),
            _ => error.into(),
        })
    }

    /// Whether the home of a role is there.
    pub(crate) fn exists(&self, role: &str) -> bool {
        self.path(role).is_ok_and(|path| path.join(CONFIG_FILE).exists())
    }

    /// Whether the option names one.
    pub(crate) const fn is_given(&self) -> bool {
        self.home.is_some()
    }

    /// Remembers when a backup was made and where, for `tombola doctor`.
    pub(crate) fn note_backup(&self, role: &str, file: &Path) {
        let note = json!({ "at": tombola_node::clock::now(), "file": file });
        let written = self.open(role).map(|home| {
            write_file(
                &home.file(LAST_BACKUP_FILE),
                note.to_string().as_bytes(),
                0o600,
                Existing::Replace,
            )
        });
        if !matches!(written, Ok(Ok(()))) {
            // The backup is as good without.
            tracing::warn!(event = "backup_not_noted", "doctor will not know of this backup");
        }
    }

    /// The options as they are to be repeated in a command that is shown.
    pub(crate) fn shown(&self) -> String {
        let home = match &self.home {
            None => String::new(),
            Some(home) => format!(" --home {}", quoted(&home.display().to_string())),
        };
        home + &self.passphrase.shown()
    }

    /// The key of a home, with its passphrase if it has one.
    pub(crate) fn key(&self, home: &Home) -> Result<SecretKey, Failure> {
        Ok(self.passphrase.open(&home.file(KEY_FILE))?.key)
    }

    /// The key of a home's account for what leaves the home as it is, so that root may use it for whoever owns it.
    pub(crate) fn account_key(&self, home: &Home) -> Result<SecretKey, Failure> {
        self.key_in(read_key_file(home).map_err(key::failure)?.0)
    }

    /// The key in a file that was read.
    pub(crate) fn key_in(&self, file: KeyFile) -> Result<SecretKey, Failure> {
        Ok(self.passphrase.open_file(file)?.key)
    }
}

/// The key file of a home. To root it may belong to another user, who is told, if the home is that user's as well:
/// a service has its own.
pub(crate) fn read_key_file(home: &Home) -> Result<(KeyFile, Option<u32>), KeyFileError> {
    let path = home.file(KEY_FILE);
    match KeyFile::read(&path) {
        Err(KeyFileError::NotMine { uid, .. }) if geteuid().is_root() && owner_of(home.path()) == Some(uid) => {
            Ok((KeyFile::read_of(&path, uid)?, Some(uid)))
        }
        read => Ok((read?, None)),
    }
}

fn owner_of(path: &Path) -> Option<u32> {
    path.metadata().ok().map(|metadata| metadata.uid())
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@=+,".contains(&b);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A home that was made.
pub(crate) struct Made {
    pub(crate) home: Home,
    pub(crate) account: AccountKey,
    pub(crate) is_encrypted: bool,
}

impl Made {
    /// How its key is protected, for people.
    pub(crate) fn key_line(&self) -> String {
        key_line(&self.home.file(KEY_FILE), self.is_encrypted)
    }
}

/// Makes a home with key and configuration; nothing that is there is overwritten.
pub(crate) fn init<C: ConfigFile>(arg: &HomeArg, role: &str, config: &C) -> Result<Made, Failure> {
    init_with(arg, role, config, None)
}

/// As [`init`], with the key of another home where one is given.
pub(crate) fn init_with<C: ConfigFile>(
    arg: &HomeArg,
    role: &str,
    config: &C,
    from: Option<&Path>,
) -> Result<Made, Failure> {
    config.check()?;
    let given = from.map(|from| arg.passphrase.open(from)).transpose()?;
    let home = Home::create(arg.path(role)?)?;
    let _lock = home.lock()?;
    for path in [home.file(KEY_FILE), home.file(CONFIG_FILE)] {
        if path.exists() {
            return Err(KeyFileError::Exists { path }.into());
        }
    }
    let Opened { key, passphrase } = match given {
        Some(given) => given,
        None => Opened {
            key: key_file::generate()?,
            passphrase: None,
        },
    };
    let passphrase = match passphrase {
        Some(passphrase) => Some(passphrase),
        None => arg.passphrase.for_new_key()?,
    };
    config.write(&home.file(CONFIG_FILE))?;
    let protection = passphrase.as_ref().map_or(Protection::None, |passphrase| {
        Protection::Passphrase(passphrase, Cost::DEFAULT)
    });
    key_file::write(&home.file(KEY_FILE), &key, protection)?;
    Ok(Made {
        account: key.account(),
        is_encrypted: passphrase.is_some(),
        home,
    })
}

/// Takes the lock of a home to run its node; a node that is there already is asked nothing but whether it listens.
pub(crate) async fn lock_to_run(home: &Home) -> Result<HomeLock, Failure> {
    let error = match home.lock() {
        Ok(lock) => return Ok(lock),
        Err(error) => error,
    };
    let HomeError::Locked { pid: Some(pid), .. } = error else {
        return Err(error.into());
    };
    if tokio::net::UnixStream::connect(admin::socket_path(home)).await.is_err() {
        return Err(error.into());
    }
    Err(Failure::new(LOCKED, format!("it runs already (pid {pid})"))
        .with("pid", pid)
        .next(format!("use it as it is, or end it first: kill {pid}")))
}

/// Takes the lock of a home whose node was asked and did not answer.
pub(crate) fn lock_unanswered(home: &Home) -> Result<HomeLock, Failure> {
    home.lock().map_err(|error| match &error {
        HomeError::Locked { .. } => Failure::from(error)
            .next("it does not answer on its socket: give it a moment to start or to stop, or stop it with kill"),
        _ => error.into(),
    })
}

/// The configuration of a home.
pub(crate) fn read<C: ConfigFile>(home: &Home) -> Result<C, Failure> {
    Ok(C::read(&home.file(CONFIG_FILE))?)
}

/// Asks the node that runs on a home; nothing if none does.
pub(crate) async fn ask(
    home: &Home,
    command: &(impl Serialize + Sync),
    on_progress: impl FnMut(&Value),
) -> Result<Option<Value>, Failure> {
    match admin::request(home, &json!(command), on_progress).await {
        Ok(result) => Ok(Some(result)),
        Err(RequestError::NoNode) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// An account, given as a key or by the address of its node.
pub(crate) fn parse_account(text: &str) -> Result<AccountKey, String> {
    if text.contains("://") {
        let address: Address = text.parse().map_err(|error| format!("{error}"))?;
        return Ok(address.key);
    }
    text.parse().map_err(|error| format!("{error}"))
}

/// The end of a node's work: Ctrl-C or SIGTERM.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Listens from now on, so that a signal that comes while a node starts is not lost.
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Serves a home's socket until `end` is ready, and then answers what has begun.
///
/// `carry_out` reports progress by a function that does not wait.
pub(crate) async fn serve_socket<C, H, F, T>(
    lock: &HomeLock,
    carry_out: H,
    end: impl Future<Output = T>,
) -> Result<T, Failure>
where
    C: DeserializeOwned,
    H: Fn(C, mpsc::UnboundedSender<Value>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Value, Failure>> + Send + 'static,
{
    let socket = AdminServer::bind(lock).map_err(|error| {
        Failure::new("socket", error.to_string()).next("a home with a shorter path, or on a local disk, may help")
    })?;
    let (ended, ending) = tokio::sync::oneshot::channel();
    let handler = move |request: Value, progress: Progress| {
        let (lines, mut waiting) = mpsc::unbounded_channel();
        let work = serde_json::from_value::<C>(request).map(|command| carry_out(command, lines));
        async move {
            let work = work.map_err(|error| AdminError::new("malformed", error.to_string()))?;
            let forward = async {
                while let Some(line) = waiting.recv().await {
                    progress.send(line).await;
                }
            };
            let (result, ()) = tokio::join!(work, forward);
            result.map_err(|failure| failure.error)
        }
    };
    let serving = socket.serve(handler, async {
        // An error would mean that the sender is gone, which is an end as well.
        let _ = ending.await;
    });
    let mut serving = std::pin::pin!(serving);
    let result = tokio::select! {
        biased;
        result = end => result,
        () = &mut serving => return Err(Failure::new("socket", "the socket is gone").next("start the node again")),
    };
    // Nobody listens only if the socket has ended already.
    let _ = ended.send(());
    if tokio::time::timeout(DRAIN_TIMEOUT, serving).await.is_err() {
        tracing::warn!("a command was cut off: repeat it when the node runs again");
    }
    Ok(result)
}

/// Takes a node out of what it was shared by: the commands that were cut off let go of it in a moment.
pub(crate) async fn sole<T>(mut shared: Arc<T>) -> Option<T> {
    for _ in 0..100 {
        match Arc::try_unwrap(shared) {
            Ok(node) => return Some(node),
            Err(again) => shared = again,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

/// Says that a node is ready: for people a few lines, for programs one object. `also` is another command with its use.
pub(crate) fn ready(output: Output, what: &str, mut fields: Value, next: &str, also: Option<(&str, &str)>) {
    if let Some(object) = fields.as_object_mut() {
        object.insert("ready".to_owned(), true.into());
        object.insert("next".to_owned(), next.into());
        object.insert("also".to_owned(), json!(also.map(|(_, command)| command)));
    }
    output.result(&fields, || {
        let also = also.map(|(when, command)| format!("\n{when}: {command}"));
        format!("{what}\nnext: {next}{}", also.unwrap_or_default())
    });
}
