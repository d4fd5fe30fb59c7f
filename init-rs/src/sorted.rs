//! Sorting, compiled once for many lists.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Sorts as `sort_by` of slices does, stable. That one is compiled anew, in 5 KB, for each comparison; there are some twenty, of
/// lists that are short. Here it is compiled once, for places in the list.
pub fn by<T>(list: &mut Vec<T>, compare: impl Fn(&T, &T) -> Ordering) {
    let mut places: Vec<usize> = (0..list.len()).collect();
    let order = |a: usize, b: usize| list.get(a).zip(list.get(b)).map_or(Ordering::Equal, |(a, b)| compare(a, b));
    sort(&mut places, &order);
    let mut taken: Vec<Option<T>> = list.drain(..).map(Some).collect();
    list.extend(places.into_iter().filter_map(|place| taken.get_mut(place)?.take()));
}

/// By a key.
pub fn by_key<T, K: Ord>(list: &mut Vec<T>, key: impl Fn(&T) -> K) {
    by(list, |a, b| key(a).cmp(&key(b)));
}

/// A map, made by the code that all maps of its type are made by: `collect` is compiled anew, in 8 KB with the sorting that it
/// begins with, for each iterator.
pub fn map<K: Ord, V>(entries: impl Iterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let entries: Vec<(K, V)> = entries.collect();
    entries.into_iter().collect()
}

fn sort(places: &mut [usize], order: &dyn Fn(usize, usize) -> Ordering) {
    places.sort_by(|a, b| order(*a, *b));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lists_are_sorted_as_slices_are(list: Vec<(u8, u32)>) {
            let mut expected = list.clone();
            expected.sort_by_key(|(key, _)| *key % 8);
            let mut sorted = list.clone();
            super::by_key(&mut sorted, |(key, _)| *key % 8);
            prop_assert_eq!(&sorted, &expected);
            let mut down = list;
            super::by(&mut down, |a, b| b.cmp(a));
            prop_assert!(down.is_sorted_by(|a, b| a >= b) && down.len() == expected.len());
        }
    }
}
