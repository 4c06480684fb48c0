//! Keys as bytes: encodings that sort as the keys do.
//!
//! A table holds its keys as bytes, in the order of those bytes. So each type here is encoded such
//! that `a < b` exactly where `encode(a) < encode(b)`:
//!
//! | type | kind | bytes |
//! |---|---|---|
//! | `bool` | `bool` | 0 or 1 |
//! | `u8` to `u128` | `u8` to `u128` | big-endian |
//! | `i8` to `i128` | `i8` to `i128` | big-endian, sign bit flipped |
//! | `[u8; N]` | `[u8;N]` | as they are |
//! | `String`, `Vec<u8>` alone | `str`, `bytes` | as they are |
//! | `String`, `Vec<u8>` in a tuple | | each 0x00 as 0x00 0xff, then 0x00 0x00 as the end |
//! | tuples of up to four | `(str,u32)` | their elements, one after the other |
//!
//! The end mark is below every byte that can follow the same text, so that a text sorts before its
//! continuations whatever stands behind it: `("a", 255)` is `61 0000 ff`, `("a\0", 0)` is
//! `61 00ff 0000 00`, and `("ab", 0)` is `6162 0000 00`.
//!
//! Every element tells its own end. That makes the encoding of a tuple's leading elements a prefix
//! of the encoding of exactly those tuples that begin with them, which is what [`Prefix`] uses.
//!
//! Not here: `usize` and `isize`, which differ between machines; floats, whose order is not total.

/// A type that can be the key of a table.
///
/// Look-ups take [`Key::Ref`], so that a `String` key is looked up by `&str`, and a tuple of texts
/// by a tuple of `&str`, without an allocation.
///
/// # Implementing
///
/// A newtype delegates to the type within. What it must keep: keys encode to bytes in the order of
/// the keys, an element tells its own end, and the encoding never changes once a table was written.
///
/// ```
/// use indelible::Key;
///
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// struct UserId(u64);
///
/// impl Key for UserId {
///     type Ref<'a> = UserId;
///     const KIND: &'static str = u64::KIND;
///
///     fn encode_element(key: UserId, bytes: &mut Vec<u8>) {
///         u64::encode_element(key.0, bytes);
///     }
///
///     fn decode_element(bytes: &mut &[u8]) -> Option<Self> {
///         u64::decode_element(bytes).map(UserId)
///     }
/// }
///
/// let mut bytes = Vec::new();
/// UserId::encode(UserId(258), &mut bytes);
/// assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 1, 2]);
/// assert_eq!(UserId::decode(&bytes), Some(UserId(258)));
/// ```
pub trait Key: Sized {
    /// What a look-up takes: the key itself where it is small, else a borrowed form of it.
    ///
    /// ```
    /// use indelible::Key;
    /// let key: <(String, u32) as Key>::Ref<'_> = ("orders", 7);
    /// ```
    type Ref<'a>: Copy;

    /// The kind of key, as the ledger records it at the first put into a table. Types of one kind
    /// have one encoding.
    ///
    /// ```
    /// use indelible::Key;
    /// assert_eq!(<(String, u32)>::KIND, "(str,u32)");
    /// ```
    const KIND: &'static str;

    /// Appends the encoding of a key that is an element of a tuple: it must tell its own end.
    ///
    /// ```
    /// use indelible::Key;
    /// let mut bytes = Vec::new();
    /// String::encode_element("ab", &mut bytes);
    /// assert_eq!(bytes, b"ab\0\0");
    /// ```
    fn encode_element(key: Self::Ref<'_>, bytes: &mut Vec<u8>);

    /// Takes a key off the front of `bytes`, or returns `None` where there is none of this type.
    ///
    /// ```
    /// use indelible::Key;
    /// let mut bytes = &b"ab\0\0\x01"[..];
    /// assert_eq!(String::decode_element(&mut bytes), Some("ab".into()));
    /// assert_eq!(bytes, [1]);
    /// ```
    fn decode_element(bytes: &mut &[u8]) -> Option<Self>;

    /// Appends the encoding of a whole key.
    ///
    /// ```
    /// use indelible::Key;
    /// let mut bytes = Vec::new();
    /// i16::encode(-1, &mut bytes);
    /// assert_eq!(bytes, [0x7f, 0xff]);
    /// ```
    fn encode(key: Self::Ref<'_>, bytes: &mut Vec<u8>) {
        Self::encode_element(key, bytes);
    }

    /// The key that `bytes` encode, all of them, or `None` where they are no key of this type.
    ///
    /// ```
    /// use indelible::Key;
    /// assert_eq!(u16::decode(&[1, 2]), Some(258));
    /// assert_eq!(u16::decode(&[1, 2, 3]), None);
    /// ```
    #[must_use]
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let key = Self::decode_element(&mut bytes)?;
        bytes.is_empty().then_some(key)
    }
}

/// All keys that begin with something: a text's beginning, or the leading elements of a tuple.
///
/// ```
/// use indelible::{Prefix, PrefixOf};
///
/// fn bytes<K>(prefix: impl PrefixOf<K>) -> Vec<u8> {
///     let mut bytes = Vec::new();
///     prefix.encode(&mut bytes);
///     bytes
/// }
///
/// // Every text that begins with "ad".
/// assert_eq!(bytes::<String>(Prefix("ad")), b"ad");
/// // Every pair whose text is "ad": not those whose text is "ada".
/// assert_eq!(bytes::<(String, u8)>(Prefix(("ad",))), b"ad\0\0");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix<P>(pub P);

/// That a [`Prefix`] is one of keys of type `K`, so that a scan by another one does not compile.
///
/// ```
/// use indelible::{Prefix, PrefixOf};
/// fn is_prefix_of<K>(_: impl PrefixOf<K>) {}
/// is_prefix_of::<(String, u32, u8)>(Prefix(("orders", 7)));
/// ```
pub trait PrefixOf<K> {
    /// Appends what the encodings of all the keys begin with.
    ///
    /// ```
    /// use indelible::{Prefix, PrefixOf};
    /// let mut bytes = Vec::new();
    /// PrefixOf::<(u8, u8)>::encode(&Prefix((7,)), &mut bytes);
    /// assert_eq!(bytes, [7]);
    /// ```
    fn encode(&self, bytes: &mut Vec<u8>);
}

impl Key for bool {
    type Ref<'a> = bool;
    const KIND: &'static str = "bool";

    fn encode_element(key: bool, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(key));
    }

    fn decode_element(bytes: &mut &[u8]) -> Option<Self> {
        match take::<1>(bytes)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

macro_rules! unsigned_keys {
    ($($type:ident)*) => {$(
        impl Key for $type {
            type Ref<'a> = $type;
            const KIND: &'static str = stringify!($type);

            fn encode_element(key: $type, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&key.to_be_bytes());
            }

            fn decode_element(bytes: &mut &[u8]) -> Option<Self> {
                take(bytes).map($type::from_be_bytes)
            }
        }
    )*};
}

macro_rules! signed_keys {
    ($($type:ident)*) => {$(
        impl Key for $type {
            type Ref<'a> = $type;
            const KIND: &'static str = stringify!($type);

            fn encode_element(key: $type, bytes: &mut Vec<u8>) {
                // MIN is the sign bit alone. Flipped, negative numbers come before the others.
                bytes.extend_from_slice(&(key ^ $type::MIN).to_be_bytes());
            }

            fn decode_element(bytes: &mut &[u8]) -> Option<Self> {
                take(bytes).map(|bytes| $type::from_be_bytes(bytes) ^ $type::MIN)
            }
        }
    )*};
}

unsigned_keys! { u8 u16 u32 u64 u128 }
signed_keys! { i8 i16 i32 i64 i128 }

impl<const N: usize> Key for [u8; N] {
    type Ref<'a> = &'a [u8; N];
    const KIND: &'static str = Text::of(&Self::KIND_TEXT);

    fn encode_element(key: &[u8; N], bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(key);
    }

    fn decode_element(bytes: &mut &[u8]) -> Option<Self> {
        take(bytes)
    }
}

impl Key for String {
    type Ref<'a> = &'a str;
    const KIND: &'static str = "str";

    fn encode_element(key: &str, bytes: &mut Vec<u8>) {
        escape(key.as_bytes(), bytes);
    }

    fn decode_element(bytes: &mut &[u8]) -> Option<Self> {
        Self::from_utf8(unescape(bytes)?).ok()
    }

    fn encode(key: &str, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(key.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Self::from_utf8(bytes.to_vec()).ok()
    }
}

impl Key for Vec<u8> {
    type Ref<'a> = &'a [u8];
    const KIND: &'static str = "bytes";

    fn encode_element(key: &[u8], bytes: &mut Vec<u8>) {
        escape(key, bytes);
    }

    fn decode_element(bytes: &mut &[u8]) -> Option<Self> {
        unescape(bytes)
    }

    fn encode(key: &[u8], bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(key);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

macro_rules! tuple_keys {
    ($($element:ident $at:tt),*) => {
        impl<$($element: Key),*> Key for ($($element,)*) {
            type Ref<'a> = ($($element::Ref<'a>,)*);
            const KIND: &'static str = Text::of(&Self::KIND_TEXT);

            fn encode_element(key: Self::Ref<'_>, bytes: &mut Vec<u8>) {
                $($element::encode_element(key.$at, bytes);)*
            }

            fn decode_element(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($element::decode_element(bytes)?,)*))
            }
        }

        impl<$($element: Key),*> KindText for ($($element,)*) {
            const KIND_TEXT: Text = Text::tuple(&[$($element::KIND),*]);
        }
    };
}

tuple_keys! { A 0 }
tuple_keys! { A 0, B 1 }
tuple_keys! { A 0, B 1, C 2 }
tuple_keys! { A 0, B 1, C 2, D 3 }

impl PrefixOf<String> for Prefix<&str> {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.0.as_bytes());
    }
}

impl PrefixOf<Vec<u8>> for Prefix<&[u8]> {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.0);
    }
}

macro_rules! tuple_prefixes {
    ($($leading:ident $at:tt),*; $($rest:ident),*) => {
        impl<'a, $($leading: Key,)* $($rest: Key),*> PrefixOf<($($leading,)* $($rest,)*)>
            for Prefix<($($leading::Ref<'a>,)*)>
        {
            fn encode(&self, bytes: &mut Vec<u8>) {
                $($leading::encode_element(self.0.$at, bytes);)*
            }
        }
    };
}

tuple_prefixes! { A 0; B }
tuple_prefixes! { A 0; B, C }
tuple_prefixes! { A 0; B, C, D }
tuple_prefixes! { A 0, B 1; C }
tuple_prefixes! { A 0, B 1; C, D }
tuple_prefixes! { A 0, B 1, C 2; D }

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn escape(text: &[u8], bytes: &mut Vec<u8>) {
    bytes.reserve(text.len() + END.len());
    for byte in text {
        bytes.push(*byte);
        if *byte == 0 {
            bytes.push(ESCAPED);
        }
    }
    bytes.extend_from_slice(&END);
}

fn unescape(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        let zero = bytes.iter().position(|byte| *byte == 0)?;
        text.extend_from_slice(&bytes[..zero]);
        let mark = *bytes.get(zero + 1)?;
        *bytes = &bytes[zero + 2..];
        match mark {
            0 => return Some(text),
            ESCAPED => text.push(0),
            _ => return None,
        }
    }
}

const END: [u8; 2] = [0, 0];
const ESCAPED: u8 = 0xff;

/// The kind of a key type that is put together from others, computed by the compiler.
trait KindText {
    const KIND_TEXT: Text;
}

impl<const N: usize> KindText for [u8; N] {
    const KIND_TEXT: Text = Text::EMPTY.push("[u8;").push_number(N).push("]");
}

struct Text {
    bytes: [u8; KIND_BYTES_MAX],
    length: usize,
}

/// A longer kind does not compile; only deeply nested tuples have one.
const KIND_BYTES_MAX: usize = 128;

impl Text {
    const EMPTY: Self = Self { bytes: [0; KIND_BYTES_MAX], length: 0 };

    const fn of(text: &'static Self) -> &'static str {
        match std::str::from_utf8(text.bytes.split_at(text.length).0) {
            Ok(text) => text,
            Err(_) => panic!("a kind is put together from whole texts"),
        }
    }

    const fn tuple(kinds: &[&str]) -> Self {
        let mut text = Self::EMPTY.push("(");
        let mut index = 0;
        while index < kinds.len() {
            if index > 0 {
                text = text.push(",");
            }
            text = text.push(kinds[index]);
            index += 1;
        }
        text.push(")")
    }

    const fn push(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        assert!(self.length + bytes.len() <= KIND_BYTES_MAX, "the kind of this key is too long");
        let mut index = 0;
        while index < bytes.len() {
            self.bytes[self.length] = bytes[index];
            self.length += 1;
            index += 1;
        }
        self
    }

    const fn push_number(self, number: usize) -> Self {
        let digit = b'0' + (number % 10) as u8;
        let text = if number >= 10 { self.push_number(number / 10) } else { self };
        match std::str::from_utf8(&[digit]) {
            Ok(digit) => text.push(digit),
            Err(_) => panic!("a digit is ASCII"),
        }
    }
}
