//! Keys of tables: their encoding, its order, and its decoding.
//!
//! The first byte says which type of key; the rest is divided into two keys. Asserted: what decodes
//! encodes to the same bytes; two keys sort as their encodings do; an element tells its own end; a
//! prefix is one of exactly the keys that begin with it.

use std::fmt::Debug;

use indelible::{Key, Prefix, PrefixOf};

use crate::allocations::bounded;
use crate::input::Input;

type Pair = (String, u32);
type Triple = (Vec<u8>, String, i16);
type Nested = ((Vec<u8>, i8), bool, Vec<u8>, [u8; 2]);

/// Takes `data` as two keys of some type.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let length = usize::from(input.byte());
    let (a, b) = (input.take(length), input.rest());
    match kind % 16 {
        0 => check::<bool>(a, b, |key| *key),
        1 => check::<u8>(a, b, |key| *key),
        2 => check::<u16>(a, b, |key| *key),
        3 => check::<u64>(a, b, |key| *key),
        4 => check::<u128>(a, b, |key| *key),
        5 => check::<i8>(a, b, |key| *key),
        6 => check::<i32>(a, b, |key| *key),
        7 => check::<i64>(a, b, |key| *key),
        8 => check::<i128>(a, b, |key| *key),
        9 => check::<[u8; 3]>(a, b, |key| key),
        10 => text(a, b),
        11 => bytes(a, b),
        12 | 13 => pair(a, b),
        14 => triple(a, b),
        _ => check::<Nested>(a, b, |key| ((&key.0.0, key.0.1), key.1, &key.2, &key.3)),
    }
}

fn encode<K: Key>(key: K::Ref<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    K::encode(key, &mut bytes);
    bytes
}

/// Decodes both, and compares them where both are keys.
fn check<K: Key + Ord + Debug>(a: &[u8], b: &[u8], to_ref: impl Fn(&K) -> K::Ref<'_>) {
    let decode = |bytes: &[u8]| {
        let key = bounded(bytes.len(), || K::decode(bytes))?;
        assert_eq!(encode::<K>(to_ref(&key)), bytes, "another encoding of {key:?}");
        Some(key)
    };
    let (Some(key_a), Some(key_b)) = (decode(a), decode(b)) else { return };
    assert_eq!(key_a.cmp(&key_b), a.cmp(b), "{key_a:?} {a:?}, {key_b:?} {b:?}");
    let mut elements = Vec::new();
    K::encode_element(to_ref(&key_a), &mut elements);
    let end = elements.len();
    K::encode_element(to_ref(&key_b), &mut elements);
    assert_eq!(elements[..end].cmp(&elements[end..]), key_a.cmp(&key_b));
    let mut rest = elements.as_slice();
    assert_eq!(K::decode_element(&mut rest).as_ref(), Some(&key_a));
    assert_eq!(rest.len(), elements.len() - end, "an element tells its own end");
    assert_eq!(K::decode_element(&mut rest).as_ref(), Some(&key_b));
    assert!(rest.is_empty());
}

fn check_prefix<K: Key>(key: K::Ref<'_>, prefix: impl PrefixOf<K>, begins: bool) {
    let mut bytes = Vec::new();
    prefix.encode(&mut bytes);
    assert_eq!(encode::<K>(key).starts_with(&bytes), begins);
}

fn text(a: &[u8], b: &[u8]) {
    check::<String>(a, b, String::as_str);
    if let (Ok(a), Ok(b)) = (str::from_utf8(a), str::from_utf8(b)) {
        check_prefix::<String>(a, Prefix(b), a.starts_with(b));
    }
}

fn bytes(a: &[u8], b: &[u8]) {
    check::<Vec<u8>>(a, b, Vec::as_slice);
    check_prefix::<Vec<u8>>(a, Prefix(b), a.starts_with(b));
}

fn pair(a: &[u8], b: &[u8]) {
    check::<Pair>(a, b, |(text, number)| (text, *number));
    if let (Some(a), Some(b)) = (Pair::decode(a), Pair::decode(b)) {
        check_prefix::<Pair>((&a.0, a.1), Prefix((b.0.as_str(),)), a.0 == b.0);
    }
}

fn triple(a: &[u8], b: &[u8]) {
    check::<Triple>(a, b, |(bytes, text, number)| (bytes, text, *number));
    if let (Some(a), Some(b)) = (Triple::decode(a), Triple::decode(b)) {
        let key = (a.0.as_slice(), a.1.as_str(), a.2);
        check_prefix::<Triple>(key, Prefix((b.0.as_slice(),)), a.0 == b.0);
        let leading = Prefix((b.0.as_slice(), b.1.as_str()));
        check_prefix::<Triple>(key, leading, (&a.0, &a.1) == (&b.0, &b.1));
    }
}
