//! Sorting and sorted collections for the small lists of a boot, compiled once.
//!
//! The sorts of the standard library, and `collect` into its trees, which sorts, are 3 to 5 KB of code for each type they are
//! used with.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Sorts like the `sort_by` of slices: equal items keep their order.
pub fn sort_by<T>(items: &mut [T], compare: impl Fn(&T, &T) -> Ordering) {
    let mut order: Vec<usize> = (0..items.len()).collect();
    sort_indices(&mut order, &|a, b| items.get(a).zip(items.get(b)).map_or(Ordering::Equal, |(a, b)| compare(a, b)));
    arrange(items, &mut order);
}

/// Sorts like the `sort` of slices.
pub fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// The items as a set.
pub fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(items);
    set
}

/// The items as a map; of items with one key the last one counts.
pub fn map<K: Ord, V>(items: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(items);
    map
}

/// Drops what `keep` refuses. The trees' own removal is 4 KB for each type.
pub fn retain<K: Ord, V>(map: &mut BTreeMap<K, V>, keep: impl Fn(&K, &V) -> bool) {
    if !map.iter().all(|(key, value)| keep(key, value)) {
        *map = self::map(std::mem::take(map).into_iter().filter(|(key, value)| keep(key, value)));
    }
}

/// The one copy of the sort.
#[inline(never)]
fn sort_indices(order: &mut [usize], compare: &dyn Fn(usize, usize) -> Ordering) {
    order.sort_by(|a, b| compare(*a, *b));
}

/// Puts `items` into `order`, a permutation of their indices, along its cycles.
fn arrange<T>(items: &mut [T], order: &mut [usize]) {
    for start in 0..order.len() {
        let mut at = start;
        while let Some(from) = order.get_mut(at).map(|from| std::mem::replace(from, at)) {
            if from == start || from == at {
                break;
            }
            items.swap(at, from);
            at = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_the_standard_library_does(items: Vec<(u8, u8)>) {
            let (mut ours, mut theirs) = (items.clone(), items.clone());
            sort_by(&mut ours, |a, b| a.0.cmp(&b.0));
            theirs.sort_by_key(|item| item.0);
            prop_assert_eq!(&ours, &theirs);
            sort(&mut ours);
            theirs.sort_unstable();
            prop_assert_eq!(ours, theirs);
            prop_assert_eq!(set(items.clone()), items.iter().copied().collect::<BTreeSet<_>>());
            let mut theirs: BTreeMap<u8, u8> = items.iter().copied().collect();
            let mut ours = map(items);
            prop_assert_eq!(&ours, &theirs);
            theirs.retain(|key, value| key < value);
            retain(&mut ours, |key, value| key < value);
            prop_assert_eq!(ours, theirs);
        }
    }
}
