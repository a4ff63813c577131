//! The stores that rules run on: each rule is a function that is generic over its store, and a test for each kind.

use crate::postgres::empty_store;
use tempfile::TempDir;
use tombola_ledger::store::{Sharing, Store};
use tombola_store::model::ModelStore;
use tombola_store::postgres_store::PostgresStore;
use tombola_store::redb_store::RedbStore;

/// A store, and what must live as long as it does.
pub(crate) struct Empty<S> {
    pub(crate) store: S,
    /// Where its file is.
    pub(crate) home: Option<TempDir>,
}

/// A kind of store.
pub(crate) trait Kind {
    type Store: Store;

    /// An empty one; none where its tests are left out, which they say.
    fn empty() -> Option<Empty<Self::Store>>;
}

/// The model, for one writer.
pub(crate) struct SoleModel;
/// The model, for several writers.
pub(crate) struct SharedModel;
/// A file.
pub(crate) struct Redb;
/// A database of a real server.
pub(crate) struct Postgres;

impl Kind for SoleModel {
    type Store = ModelStore;

    fn empty() -> Option<Empty<ModelStore>> {
        let store = ModelStore::new(Sharing::Sole);
        Some(Empty { store, home: None })
    }
}

impl Kind for SharedModel {
    type Store = ModelStore;

    fn empty() -> Option<Empty<ModelStore>> {
        let store = ModelStore::new(Sharing::Shared);
        Some(Empty { store, home: None })
    }
}

impl Kind for Redb {
    type Store = RedbStore;

    fn empty() -> Option<Empty<RedbStore>> {
        let home = tempfile::tempdir().unwrap();
        let store = RedbStore::open(home.path().join("ledger.redb")).unwrap();
        let home = Some(home);
        Some(Empty { store, home })
    }
}

impl Kind for Postgres {
    type Store = PostgresStore;

    fn empty() -> Option<Empty<PostgresStore>> {
        let store = empty_store()?;
        Some(Empty { store, home: None })
    }
}

/// Makes one test on one kind of store out of each rule.
macro_rules! on_store {
    ($place:ident $kind:ident: $($rule:ident)*) => {
        mod $place {
            $(#[test] fn $rule() {
                let empty = <$crate::stores::$kind as $crate::stores::Kind>::empty();
                let Some($crate::stores::Empty { store, home: _home }) = empty else { return };
                super::$rule(store);
            })*
        }
    };
}

/// Makes one test for each store out of each rule.
macro_rules! on_each_store {
    ($($rule:ident)*) => {
        $crate::stores::on_store! { on_the_model SoleModel: $($rule)* }
        $crate::stores::on_store! { on_the_model_with_several_writers SharedModel: $($rule)* }
        $crate::stores::on_store! { on_redb Redb: $($rule)* }
        $crate::stores::on_store! { on_postgres Postgres: $($rule)* }
    };
}

/// Makes one test for each store that several writers share out of each rule.
macro_rules! on_each_shared_store {
    ($($rule:ident)*) => {
        $crate::stores::on_store! { on_the_model SharedModel: $($rule)* }
        $crate::stores::on_store! { on_postgres Postgres: $($rule)* }
    };
}

pub(crate) use {on_each_shared_store, on_each_store, on_store};
