//! Every value is written twice, by `serde_json` and by us.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Both write the same, or fail for the same reason.
#[track_caller]
fn same<T: Serialize + ?Sized>(value: &T) {
    // It is appended: what is there already stays.
    let mut body = b"before ".to_vec();
    match (super::write(&mut body, value), serde_json::to_string(value)) {
        (Ok(()), Ok(json)) => {
            assert_eq!(String::from_utf8(body).unwrap(), format!("before {json}"))
        }
        (Err(ours), Err(theirs)) => assert_eq!(ours.to_string(), theirs.to_string()),
        (ours, theirs) => panic!("{ours:?} instead of {theirs:?}"),
    }
}

#[derive(Serialize)]
struct Unit;

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Newtype<T>(T);

#[derive(Serialize)]
struct Pair(u8, &'static str);

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Row {
    id: u64,
    #[serde(rename = "a \"quoted\"\n name, and a long one")]
    quoted: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<u8>,
    phone: Option<&'static str>,
    kinds: Vec<Kind>,
}

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Unit,
    #[serde(rename = "new\ttype")]
    Newtype(Option<bool>),
    Tuple(u8, String),
    Struct {
        one: i8,
        two: char,
    },
    NoTuple(),
    NoStruct {},
}

fn row() -> Row {
    Row {
        id: 7,
        quoted: "\u{7f}\u{0}ø€𝄞\\",
        missing: None,
        phone: None,
        kinds: kinds(),
    }
}

fn kinds() -> Vec<Kind> {
    vec![
        Kind::Unit,
        Kind::Newtype(None),
        Kind::Tuple(1, "two\r".to_owned()),
        Kind::Struct { one: -1, two: '"' },
        Kind::NoTuple(),
        Kind::NoStruct {},
    ]
}

/// Serializes as bytes, which Rust's own slices do not.
struct Bytes(&'static [u8]);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Serializes what it displays, which comes in several parts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Displayed(&'static str);

impl Display for Displayed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\"{:>20}{}", self.0, self.0, 1)
    }
}

impl Serialize for Displayed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[test]
fn scalars() {
    for value in [true, false] {
        same(&value);
    }
    same(&(u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX));
    same(&(i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN));
    for value in [
        0.0,
        -0.0,
        1.0,
        0.1,
        1e21,
        -1e-7,
        f64::MAX,
        f64::MIN_POSITIVE,
    ] {
        same(&(value, value as f32));
    }
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        same(&[value]);
        same(&(value as f32));
    }
    for value in ['a', '"', '\\', '\n', '\u{1f}', 'ø', '𝄞'] {
        same(&value);
    }
    same(&((), Unit, Newtype("x"), Some(1), None::<u8>, Some(Some("y"))));
    same(&(Bytes(b""), Bytes(b"\0\"\xff")));
    same(&(Displayed(""), Displayed("a\\b")));
}

#[test]
fn compounds() {
    same(&[0; 0]);
    same(&vec![vec![1, 2], vec![], vec![3]]);
    same(&(Pair(1, "a"), Newtype(vec![Newtype(1)]), Empty {}));
    same(&kinds());
    same(&vec![row(), row()]);
    same(&BTreeMap::<String, u8>::new());
    same(&BTreeMap::from([("a\"", vec![1]), ("ø", vec![])]));
    same(&BTreeMap::from([(
        1,
        BTreeMap::from([(2, Unit), (3, Unit)]),
    )]));
    same(&json!({"a": [1, -2.5, null, true, "\u{b}"], "": {}, "b\\": {"c": [[], {}]}}));
    same(&Value::Null);
}

#[test]
fn keys() {
    same(&BTreeMap::from([(true, 1), (false, 2)]));
    same(&BTreeMap::from([('"', 1), ('a', 2)]));
    same(&BTreeMap::from([(i128::MIN, 1), (i128::MAX, 2)]));
    same(&BTreeMap::from([(Newtype("a"), 1), (Newtype("b"), 2)]));
    same(&BTreeMap::from([(Some("a"), 1), (Some("b"), 2)]));
    same(&BTreeMap::from([(Displayed("a"), 1), (Displayed("b"), 2)]));
    for kind in kinds() {
        same(&BTreeMap::from([(kind, 1)]));
    }
    same(&BTreeMap::from([((), 1)]));
    same(&BTreeMap::from([(None::<u8>, 1)]));
    same(&BTreeMap::from([([1], 1)]));
    same(&[BTreeMap::from([("good", BTreeMap::from([((1, 2), 1)]))])]);
}

#[test]
fn json_as_it_was_given() {
    let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
    same(&raw("{ \"a\" : \"\\u0041\" }"));
    same(&(
        raw("1.0e+2"),
        BTreeMap::from([("a", raw("[ ]")), ("b", raw("null"))]),
    ));
}

#[test]
fn a_value_that_fails() {
    struct Fails;
    impl Serialize for Fails {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    same(&[BTreeMap::from([("a", (1, Fails))])]);
}

#[test]
fn every_byte_at_every_place_of_a_string() {
    for length in 1..=33 {
        for place in 0..length {
            for byte in 0..=0x7f_u8 {
                let mut text = vec![b'x'; length];
                text[place] = byte;
                same(&String::from_utf8(text).unwrap());
            }
        }
    }
}

/// Bytes on both sides of each limit, next to each other in every way: a borrow must not reach the next byte.
#[test]
fn strings_at_random() {
    let letters: Vec<char> =
        "\u{0}\u{8}\t\n\u{c}\r\u{1e}\u{1f} !\"#@Z[\\]az~\u{7f}¢ÜàĀ߿ࠀ€𝄞\u{10ffff}"
            .chars()
            .collect();
    let mut state = 1_u64;
    let mut below = |end: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % end
    };
    for _ in 0..20_000 {
        let (length, plain) = (below(40), below(12));
        let text = (0..length).map(|_| match below(12) < plain {
            true => 'p',
            false => letters[below(letters.len())],
        });
        same(&text.collect::<String>());
    }
}
