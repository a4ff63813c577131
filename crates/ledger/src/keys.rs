//! Keys that were found acceptable: checking one costs as much as verifying a signature, and most are seen again and again.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};
use tombola_core::key::{AccountKey, BadKey};

/// Keys remembered at once: 4 MiB of them.
const KEYS_REMEMBERED_MAX: usize = 65_536;

/// A bounded set of keys that passed their check, shared by the cores that verify. A key never stops being acceptable.
#[derive(Debug, Default)]
pub struct CheckedKeys(RwLock<HashSet<AccountKey>>);

impl CheckedKeys {
    /// Checks a key, unless it was found acceptable before. Spec: K-03.
    ///
    /// # Errors
    /// [`BadKey`]; such a key is not remembered.
    pub fn check(&self, key: &AccountKey) -> Result<(), BadKey> {
        if self.0.read().unwrap_or_else(PoisonError::into_inner).contains(key) {
            return Ok(());
        }
        key.check()?;
        let mut checked = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Forgetting costs a check, so the simplest way to stay bounded is good enough.
        if checked.len() >= KEYS_REMEMBERED_MAX {
            checked.clear();
        }
        checked.insert(*key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombola_core::key::SecretKey;

    #[test]
    fn a_good_key_is_remembered_and_a_bad_one_is_refused_each_time() {
        let keys = CheckedKeys::default();
        let good = SecretKey::from_seed(&[1; 32]).account();
        // The neutral element is of small order.
        let weak = AccountKey(std::array::from_fn(|at| u8::from(at == 0)));
        for _ in 0..2 {
            assert_eq!(keys.check(&good), Ok(()));
            assert_eq!(keys.check(&weak), Err(BadKey));
            assert_eq!(*keys.0.read().unwrap(), HashSet::from([good]));
        }
    }

    #[test]
    fn more_keys_than_are_remembered_take_no_more_memory() {
        let filler = (0..KEYS_REMEMBERED_MAX).map(|number| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            AccountKey(bytes)
        });
        let keys = CheckedKeys(RwLock::new(filler.collect()));
        let one_more = SecretKey::from_seed(&[1; 32]).account();
        assert_eq!(keys.check(&one_more), Ok(()));
        assert_eq!(*keys.0.read().unwrap(), HashSet::from([one_more]));
    }
}
