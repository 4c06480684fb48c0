//! Encoded keys sort as the keys do, and decode to what they were.

use std::cmp::Ordering;
use std::fmt::Debug;

use indelible::{Key, Prefix, PrefixOf};
use proptest::prelude::*;

fn encode<K: Key>(key: K::Ref<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    K::encode(key, &mut bytes);
    bytes
}

/// Checks two keys, and each alone. `to_ref` borrows a key as look-ups do.
fn check<K: Key + Ord + Debug>(a: &K, b: &K, to_ref: impl Fn(&K) -> K::Ref<'_>) {
    let (encoded_a, encoded_b) = (encode::<K>(to_ref(a)), encode::<K>(to_ref(b)));
    assert_eq!(encoded_a.cmp(&encoded_b), a.cmp(b), "{a:?} {encoded_a:?}, {b:?} {encoded_b:?}");
    assert_eq!(K::decode(&encoded_a).as_ref(), Some(a));

    // As an element it tells its own end, whatever comes behind it.
    let mut elements = Vec::new();
    K::encode_element(to_ref(a), &mut elements);
    K::encode_element(to_ref(b), &mut elements);
    let mut rest = elements.as_slice();
    assert_eq!(K::decode_element(&mut rest).as_ref(), Some(a));
    assert_eq!(K::decode_element(&mut rest).as_ref(), Some(b));
    assert!(rest.is_empty());
}

/// Checks that the keys with a prefix are those that it is a prefix of.
fn check_prefix<K: Key>(key: K::Ref<'_>, prefix: impl PrefixOf<K>, begins: bool) {
    let mut bytes = Vec::new();
    prefix.encode(&mut bytes);
    assert_eq!(encode::<K>(key).starts_with(&bytes), begins);
}

/// Few distinct bytes, those that matter among them, so that keys share beginnings.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0), Just(1), Just(0x61), Just(0xfe), Just(0xff)];
    prop::collection::vec(byte, 0..5)
}

fn text() -> impl Strategy<Value = String> {
    let char = prop_oneof![Just('\0'), Just('\u{1}'), Just('a'), Just('b'), Just('\u{10ffff}')];
    prop::collection::vec(char, 0..5).prop_map(|chars| chars.into_iter().collect())
}

macro_rules! check_integers {
    ($($name:ident: $type:ident,)*) => {
        proptest! {$(
            #[test]
            fn $name(a: $type, b: $type, near in -2..=2_i8) {
                check(&a, &b, |key| *key);
                // Near zero too, where the sign changes.
                let zero: $type = 0;
                check(&zero.wrapping_add(near as $type), &a, |key| *key);
                check(&zero.wrapping_add(near as $type), &zero, |key| *key);
            }
        )*}
    };
}

check_integers! {
    u8_keys: u8, u16_keys: u16, u32_keys: u32, u64_keys: u64, u128_keys: u128,
    i8_keys: i8, i16_keys: i16, i32_keys: i32, i64_keys: i64, i128_keys: i128,
}

proptest! {
    #[test]
    fn simple_keys(a: bool, b: bool, c: [u8; 3], d: [u8; 3]) {
        check(&a, &b, |key| *key);
        check(&c, &d, |key| key);
    }

    #[test]
    fn texts(a in text(), b in text()) {
        check(&a, &b, String::as_str);
        check_prefix::<String>(&a, Prefix(b.as_str()), a.starts_with(&b));
    }

    #[test]
    fn byte_strings(a in bytes(), b in bytes()) {
        check(&a, &b, Vec::as_slice);
        check_prefix::<Vec<u8>>(&a, Prefix(b.as_slice()), a.starts_with(&b));
    }

    #[test]
    fn pairs(a in (text(), any::<u8>()), b in (text(), any::<u8>())) {
        check(&a, &b, |(text, number)| (text, *number));
        check_prefix::<(String, u8)>((&a.0, a.1), Prefix((b.0.as_str(),)), a.0 == b.0);
    }

    #[test]
    fn triples(a in (bytes(), text(), -2..2_i16), b in (bytes(), text(), -2..2_i16)) {
        type Triple = (Vec<u8>, String, i16);
        check::<Triple>(&a, &b, |(bytes, text, number)| (bytes, text, *number));
        let key = (a.0.as_slice(), a.1.as_str(), a.2);
        check_prefix::<Triple>(key, Prefix((b.0.as_slice(),)), a.0 == b.0);
        let leading = Prefix((b.0.as_slice(), b.1.as_str()));
        check_prefix::<Triple>(key, leading, (&a.0, &a.1) == (&b.0, &b.1));
    }

    #[test]
    fn nested_tuples(
        a in ((text(), bytes()), any::<bool>(), bytes(), any::<[u8; 2]>()),
        b in ((text(), bytes()), any::<bool>(), bytes(), any::<[u8; 2]>()),
    ) {
        check::<((String, Vec<u8>), bool, Vec<u8>, [u8; 2])>(&a, &b, |key| {
            ((&key.0.0, &key.0.1), key.1, &key.2, &key.3)
        });
    }

    #[test]
    fn decoding_never_panics(bytes: Vec<u8>) {
        let _ = <(String, u32)>::decode(&bytes);
        let _ = <(Vec<u8>, (bool, i8), [u8; 2])>::decode(&bytes);
        let _ = <(bool,)>::decode(&bytes);
    }
}

#[test]
fn bytes_of_another_type_do_not_decode() {
    assert_eq!(bool::decode(&[2]), None);
    assert_eq!(u32::decode(&[0; 3]), None);
    assert_eq!(u32::decode(&[0; 5]), None);
    assert_eq!(String::decode(&[0xff]), None);
    assert_eq!(<(String,)>::decode(b"a"), None);
    assert_eq!(<(String,)>::decode(b"a\0"), None);
    assert_eq!(<(String,)>::decode(b"a\0\x01"), None);
    assert_eq!(<(String,)>::decode(b"a\0\0b"), None);
}

#[test]
fn kinds_are_the_texts_that_the_ledger_records() {
    assert_eq!(i128::KIND, "i128");
    assert_eq!(Vec::<u8>::KIND, "bytes");
    assert_eq!(<[u8; 1024]>::KIND, "[u8;1024]");
    assert_eq!(<(String, u32)>::KIND, "(str,u32)");
    assert_eq!(<((bool,), Vec<u8>, [u8; 0])>::KIND, "((bool),bytes,[u8;0])");
}

#[test]
fn encodings_are_fixed() {
    assert_eq!(encode::<(String, u16)>(("a\0", 258)), b"a\0\xff\0\0\x01\x02");
    assert_eq!(encode::<i32>(-2), [0x7f, 0xff, 0xff, 0xfe]);
    assert_eq!(encode::<(i8, bool)>((1, true)), [0x81, 1]);
    assert_eq!(encode::<Vec<u8>>(&[0, 1]).cmp(&vec![0, 1]), Ordering::Equal);
}
