//! What a payee sells: the files of a directory, and whatever a program that embeds the payee adds.

mod listing;
#[cfg(test)]
mod tests;

use listing::{Listing, names_below};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::{Semaphore, SemaphorePermit};
use tombola_core::amount::{Amount, Asset};
use tombola_core::limits::PAGE_ITEMS_MAX;
use tombola_core::message::{ContentHash, ServiceOffer};
use tombola_core::quote::Service;
use tombola_core::reject::{Code, Reject};

/// Something to sell, by name. Implement it to sell what is not a file.
pub trait Catalog: Send + Sync + 'static {
    /// A page of services after a name, in the order of their names, and whether more follow.
    fn list(&self, asset: Asset, after: Option<&Service>) -> (Vec<ServiceOffer>, bool);

    /// A service by its name. May block on a disk.
    ///
    /// # Errors
    /// `service_unknown` if it is not for sale; `busy` and `unavailable` are for later.
    fn find(&self, service: &Service) -> Result<Content, Reject>;

    /// What [`Self::find`] says, from a catalog that knows it without a disk; this spares each request two changes of
    /// thread. `None` has `find` asked instead.
    fn find_in_memory(&self, _service: &Service) -> Option<Result<Content, Reject>> {
        None
    }
}

/// One version of what a service delivers.
#[derive(Debug, Clone)]
pub struct Content {
    /// Price of a unit.
    pub price: Amount,
    /// Bytes of a unit; the last one may be shorter.
    pub unit_bytes: u32,
    /// Bytes in all.
    pub size: u64,
    /// SHA-256 of all of it.
    pub hash: ContentHash,
    /// Where the bytes are.
    pub source: Source,
}

/// Where the bytes of a service are.
#[derive(Debug, Clone)]
pub enum Source {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// In a file that stays open: what replaces it on disk is another version.
    File(Arc<File>),
}

impl Content {
    /// Content in memory.
    #[must_use]
    pub fn from_bytes(price: Amount, unit_bytes: u32, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let hash = ContentHash(Sha256::digest(&bytes).into());
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self {
            price,
            unit_bytes,
            size,
            hash,
            source: Source::Bytes(bytes),
        }
    }

    /// Number of units.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.size.div_ceil(u64::from(self.unit_bytes.max(1)))
    }

    /// These bytes. May block on a disk.
    ///
    /// # Errors
    /// `unavailable` if the disk fails or the file was cut short.
    pub fn read(&self, range: &Range<u64>) -> Result<Vec<u8>, Reject> {
        let unavailable = Reject::of(Code::Unavailable);
        let at = |place: u64| usize::try_from(place).map_err(|_| unavailable);
        match &self.source {
            Source::Bytes(bytes) => {
                let part = bytes.get(at(range.start)?..at(range.end)?);
                part.map(<[u8]>::to_vec).ok_or(unavailable)
            }
            Source::File(file) => {
                let mut part = vec![0; at(range.end.saturating_sub(range.start))?];
                file.read_exact_at(&mut part, range.start).map_err(|_| unavailable)?;
                Ok(part)
            }
        }
    }
}

/// The regular files below a directory, all at one price. Spec: D-06.
///
/// A name is `/` and the path below the root. Nothing above the root is served: no `..`, no link that leads out.
#[derive(Debug)]
pub struct FileCatalog {
    root: PathBuf,
    price: Amount,
    unit_bytes: u32,
    hashes: HashCache,
    listing: Listing,
}

type FileVersion = (u64, u64, i64, i64);

/// Hashing a large file takes a while, so a hash is kept while the file stays the same, and whoever asks while it is
/// being computed waits for it; but not too many at once, for one file or for all, as each of them holds a thread, and
/// others need threads too.
#[derive(Debug)]
struct HashCache {
    known: Mutex<BTreeMap<PathBuf, (FileVersion, Arc<HashSlot>)>>,
    /// For who computes or waits.
    places: Semaphore,
}

/// The hash of one version of a file.
#[derive(Debug)]
struct HashSlot {
    /// Held by the one that computes; empty until then, and again if that fails.
    hash: RwLock<Option<ContentHash>>,
    /// For who computes or waits.
    places: Semaphore,
}

impl Default for HashSlot {
    fn default() -> Self {
        Self {
            hash: RwLock::default(),
            places: Semaphore::new(HASHING_PER_FILE_MAX),
        }
    }
}

impl Default for HashCache {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            places: Semaphore::new(HASHING_MAX),
        }
    }
}

impl HashCache {
    /// The hash of a version of a file, computed if nobody has.
    ///
    /// # Errors
    /// `busy` (limit, now) if too many compute hashes or wait for one; `unavailable` if it cannot be computed.
    fn get(
        &self,
        path: &Path,
        version: FileVersion,
        compute: impl FnOnce() -> std::io::Result<ContentHash>,
    ) -> Result<ContentHash, Reject> {
        let slot = self.slot(path, version);
        if let Ok(hash) = slot.hash.try_read()
            && let Some(hash) = *hash
        {
            return Ok(hash);
        }
        let _of_file = place(&slot.places, HASHING_PER_FILE_MAX)?;
        let _of_all = place(&self.places, HASHING_MAX)?;
        let mut hash = slot.hash.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(hash) = *hash {
            return Ok(hash);
        }
        let computed = compute().map_err(|_| Reject::of(Code::Unavailable))?;
        Ok(*hash.insert(computed))
    }

    fn slot(&self, path: &Path, version: FileVersion) -> Arc<HashSlot> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, slot)) = known.get(path).filter(|(of, _)| *of == version) {
            return Arc::clone(slot);
        }
        if known.len() >= HASHES_MAX {
            known.clear();
        }
        let slot = Arc::<HashSlot>::default();
        known.insert(path.to_path_buf(), (version, Arc::clone(&slot)));
        slot
    }
}

/// Hashes kept; beyond that all are computed anew, which is slow but right.
const HASHES_MAX: usize = 100_000;
/// Requests that compute a hash or wait for one: an eighth of the threads that tokio has for what blocks.
const HASHING_MAX: usize = 64;
/// Of these, for one file: one that is large and wanted leaves places for others.
const HASHING_PER_FILE_MAX: usize = 8;

fn place(places: &Semaphore, limit: usize) -> Result<SemaphorePermit<'_>, Reject> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let place = places.try_acquire();
    place.map_err(|_| Reject::compared(Code::Busy, limit, limit))
}

impl FileCatalog {
    /// Serves a directory.
    ///
    /// # Errors
    /// If it is no directory that can be read.
    pub fn new(root: &Path, price: Amount, unit_bytes: u32) -> std::io::Result<Self> {
        let root = root.canonicalize()?;
        std::fs::read_dir(&root)?;
        Ok(Self {
            root,
            price,
            unit_bytes: unit_bytes.max(1),
            hashes: HashCache::default(),
            listing: Listing::default(),
        })
    }

    fn resolve(&self, service: &Service) -> Option<PathBuf> {
        let relative = service.as_str().strip_prefix('/')?;
        // One name for one file: a path forgives empty parts and dots, a name does not.
        if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return None;
        }
        // Links are resolved first, so what counts is where the bytes really are.
        let path = self.root.join(relative).canonicalize().ok()?;
        path.starts_with(&self.root).then_some(path)
    }

    fn hash(&self, path: &Path, file: &File, metadata: &Metadata) -> Result<ContentHash, Reject> {
        let version = (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        self.hashes.get(path, version, || hash_of(file))
    }
}

fn hash_of(mut file: &File) -> std::io::Result<ContentHash> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(ContentHash(hasher.finalize().into())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

impl Catalog for FileCatalog {
    fn list(&self, asset: Asset, after: Option<&Service>) -> (Vec<ServiceOffer>, bool) {
        let names = self.listing.get(|| names_below(&self.root));
        let first = after.map_or(0, |after| {
            names.partition_point(|(name, _)| name.as_str() <= after.as_str())
        });
        let following = names.get(first..).unwrap_or_default();
        let page = following.iter().take(PAGE_ITEMS_MAX);
        let offer = |(name, size): &(String, u64)| {
            let service = Service::new(name.as_str()).ok()?;
            Some(ServiceOffer {
                service,
                asset,
                ticket_price: self.price,
                unit_bytes: self.unit_bytes,
                size: *size,
            })
        };
        (page.filter_map(offer).collect(), following.len() > PAGE_ITEMS_MAX)
    }

    fn find(&self, service: &Service) -> Result<Content, Reject> {
        let unknown = Reject::of(Code::ServiceUnknown);
        let path = self.resolve(service).ok_or(unknown)?;
        // Opening a pipe would block and a device would act, so only what is a regular file is opened at all.
        if !std::fs::metadata(&path).is_ok_and(|found| found.is_file()) {
            return Err(unknown);
        }
        let file = File::open(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::PermissionDenied => unknown,
            // Too many open files, a disk that fails: that passes, and the file is still for sale.
            _ => Reject::of(Code::Unavailable),
        })?;
        let metadata = file.metadata().map_err(|_| Reject::of(Code::Unavailable))?;
        let hash = self.hash(&path, &file, &metadata)?;
        let source = Source::File(Arc::new(file));
        Ok(Content {
            price: self.price,
            unit_bytes: self.unit_bytes,
            size: metadata.len(),
            hash,
            source,
        })
    }
}

/// Services in memory, for programs that embed a payee, and for payments that buy nothing but themselves.
#[derive(Debug, Default)]
pub struct MemoryCatalog {
    services: BTreeMap<Service, Content>,
}

impl MemoryCatalog {
    /// Adds a service.
    #[must_use]
    pub fn with(mut self, service: Service, content: Content) -> Self {
        self.services.insert(service, content);
        self
    }
}

impl Catalog for MemoryCatalog {
    fn list(&self, asset: Asset, after: Option<&Service>) -> (Vec<ServiceOffer>, bool) {
        let mut offers: Vec<_> = self
            .services
            .iter()
            .filter(|(service, _)| after.is_none_or(|after| *service > after))
            .take(PAGE_ITEMS_MAX + 1)
            .map(|(service, content)| ServiceOffer {
                service: service.clone(),
                asset,
                ticket_price: content.price,
                unit_bytes: content.unit_bytes,
                size: content.size,
            })
            .collect();
        let more = offers.len() > PAGE_ITEMS_MAX;
        offers.truncate(PAGE_ITEMS_MAX);
        (offers, more)
    }

    fn find(&self, service: &Service) -> Result<Content, Reject> {
        self.services
            .get(service)
            .cloned()
            .ok_or(Reject::of(Code::ServiceUnknown))
    }

    fn find_in_memory(&self, service: &Service) -> Option<Result<Content, Reject>> {
        Some(self.find(service))
    }
}
