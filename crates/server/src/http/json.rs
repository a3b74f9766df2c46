//! JSON, byte for byte as `serde_json` writes it, for less: `serde_json` looks at each byte of a string, this at eight together,
//! and the names of a struct's fields are looked at by the compiler. Numbers and the keys of maps are written by `serde_json`.

use std::fmt::{self, Display, Write as _};

use serde::Serialize;
use serde::ser::{self, Error as _, SerializeStruct, Serializer as _};
use serde_json::Error;

type Result<T = ()> = std::result::Result<T, Error>;

/// Appends `value` to `body`, without white space.
///
/// # Errors
/// Those of `serde_json`: the value's own, and a map's key that is no text, number or bool. `body` then ends in half a value.
pub(crate) fn write<T: Serialize + ?Sized>(body: &mut Vec<u8>, value: &T) -> Result {
    value.serialize(Writer(body))
}

struct Writer<'a>(&'a mut Vec<u8>);

/// An array or an object that is not yet at its end.
struct Compound<'a> {
    body: &'a mut Vec<u8>,
    /// Written before the next element: the bracket before the first, a comma before every other.
    before: u8,
    /// Written after the last element. Empty for a value that `serde_json` writes in whole.
    close: &'static str,
}

/// How the names begin of the structs that `RawValue`, and `Number` with arbitrary precision, pretend to be. Only the
/// serializer of `serde_json` knows that each stands for its text.
const PRIVATE: &str = "$serde_json::private::";

macro_rules! by_serde_json {
    ($($method:ident($type:ty))*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result {
            serde_json::Serializer::new(self.0).$method(value)
        }
    )*};
}

impl<'a> ser::Serializer for Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Compound<'a>;
    type SerializeTuple = Compound<'a>;
    type SerializeTupleStruct = Compound<'a>;
    type SerializeTupleVariant = Compound<'a>;
    type SerializeMap = Compound<'a>;
    type SerializeStruct = Compound<'a>;
    type SerializeStructVariant = Compound<'a>;

    by_serde_json! {
        serialize_bool(bool) serialize_char(char) serialize_bytes(&[u8]) serialize_f32(f32) serialize_f64(f64)
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64) serialize_i128(i128)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_u128(u128)
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result {
        write_string(self.0, text);
        Ok(())
    }

    /// Escapes the parts as they come, without a `String` of the whole.
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result {
        struct Parts<'a>(&'a mut Vec<u8>);
        impl fmt::Write for Parts<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                write_escaped(self.0, text);
                Ok(())
            }
        }
        self.0.push(b'"');
        write!(Parts(self.0), "{value}").map_err(Error::custom)?;
        self.0.push(b'"');
        Ok(())
    }

    #[inline]
    fn serialize_unit(self) -> Result {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        value.serialize(self)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result {
        self.serialize_str(variant)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result {
        write_name(self.0, b'{', variant);
        write(self.0, value)?;
        self.0.push(b'}');
        Ok(())
    }

    #[inline]
    fn serialize_seq(self, _: Option<usize>) -> Result<Compound<'a>> {
        Ok(self.begin(b'[', "]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Compound<'a>> {
        Ok(self.begin(b'[', "]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Compound<'a>> {
        Ok(self.begin(b'[', "]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'a>> {
        write_name(self.0, b'{', variant);
        Ok(self.begin(b'[', "]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Compound<'a>> {
        Ok(self.begin(b'{', "}"))
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Compound<'a>> {
        if name.starts_with(PRIVATE) {
            return Ok(self.begin(b',', ""));
        }
        Ok(self.begin(b'{', "}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'a>> {
        write_name(self.0, b'{', variant);
        Ok(self.begin(b'{', "}}"))
    }
}

impl<'a> Writer<'a> {
    #[inline]
    fn begin(self, before: u8, close: &'static str) -> Compound<'a> {
        let body = self.0;
        Compound {
            body,
            before,
            close,
        }
    }
}

impl Compound<'_> {
    #[inline]
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        self.body.push(self.before);
        self.before = b',';
        write(self.body, value)
    }

    #[inline(always)]
    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result {
        if self.close.is_empty() {
            let mut whole = serde_json::Serializer::new(&mut *self.body);
            let mut whole = whole.serialize_struct(name, 1)?;
            whole.serialize_field(name, value)?;
            return SerializeStruct::end(whole);
        }
        write_name(self.body, self.before, name);
        self.before = b',';
        write(self.body, value)
    }

    #[inline]
    fn close(self) -> Result {
        if self.before != b',' {
            self.body.push(self.before);
        }
        self.body.extend_from_slice(self.close.as_bytes());
        Ok(())
    }
}

macro_rules! compound {
    ($($trait:ident $method:ident $($name:ident)? => $own:ident;)*) => {$(
        impl ser::$trait for Compound<'_> {
            type Ok = ();
            type Error = Error;

            #[inline(always)]
            fn $method<T: Serialize + ?Sized>(&mut self, $($name: &'static str,)? value: &T) -> Result {
                self.$own($($name,)? value)
            }

            #[inline]
            fn end(self) -> Result {
                self.close()
            }
        }
    )*};
}

compound! {
    SerializeSeq serialize_element => element;
    SerializeTuple serialize_element => element;
    SerializeTupleStruct serialize_field => element;
    SerializeTupleVariant serialize_field => element;
    SerializeStruct serialize_field name => field;
    SerializeStructVariant serialize_field name => field;
}

impl ser::SerializeMap for Compound<'_> {
    type Ok = ();
    type Error = Error;

    /// Has `serde_json` write the key, as the first of a map of its own: it knows which keys there may be, and quotes numbers.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result {
        let at = self.body.len();
        let mut map = serde_json::Serializer::new(&mut *self.body);
        map.serialize_map(None)?.serialize_key(key)?;
        // In the place of that map's bracket.
        self.body[at] = self.before;
        self.before = b',';
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        self.body.push(b':');
        write(self.body, value)
    }

    fn end(self) -> Result {
        self.close()
    }
}

/// Inlined down to `special`, because the compiler then knows the name, and finds nothing to escape when it compiles.
#[inline(always)]
fn write_name(body: &mut Vec<u8>, before: u8, name: &str) {
    body.extend_from_slice(&[before, b'"']);
    write_escaped(body, name);
    body.extend_from_slice(b"\":");
}

fn write_string(body: &mut Vec<u8>, text: &str) {
    body.push(b'"');
    write_escaped(body, text);
    body.push(b'"');
}

#[inline(always)]
fn write_escaped(body: &mut Vec<u8>, text: &str) {
    let text = text.as_bytes();
    let plain = plain(text);
    if plain == text.len() {
        body.extend_from_slice(text);
    } else {
        write_with_escapes(body, text, plain);
    }
}

/// The first `plain` bytes need no escape, the one after them does.
#[cold]
fn write_with_escapes(body: &mut Vec<u8>, mut text: &[u8], mut plain: usize) {
    while plain < text.len() {
        body.extend_from_slice(&text[..plain]);
        write_special(body, text[plain]);
        text = &text[plain + 1..];
        plain = self::plain(text);
    }
    body.extend_from_slice(text);
}

fn write_special(body: &mut Vec<u8>, byte: u8) {
    let letter = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
            body.extend_from_slice(b"\\u00");
            return body.extend_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
        }
    };
    body.extend_from_slice(&[b'\\', letter]);
}

/// How many bytes there are before the first that has to be escaped.
#[inline(always)]
fn plain(bytes: &[u8]) -> usize {
    let length = bytes.len();
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            return index * 8 + first(special);
        }
    }
    match bytes.last_chunk::<8>() {
        _ if rest.is_empty() => length,
        // Some bytes of it were looked at before: they are plain.
        Some(last) => match special(u64::from_le_bytes(*last)) {
            0 => length,
            special => length - 8 + first(special),
        },
        None => {
            let special = |byte: &u8| *byte < b' ' || matches!(byte, b'"' | b'\\');
            bytes.iter().position(special).unwrap_or(length)
        }
    }
}

/// The highest bit of the first byte that is a quote, a backslash or less than a space; 0 if there is none. Bits of later
/// bytes mean nothing.
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    // Only a byte that is less than the one taken from it borrows from the next. By the first XOR the quote is the next
    // after those less than a space; by the second the backslash is zero.
    let low_or_quote = (word ^ (ONES * 0x02)).wrapping_sub(ONES * 0x21);
    let backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
    (low_or_quote | backslash) & !word & (ONES * 0x80)
}

/// The first byte with a bit.
#[inline]
fn first(bits: u64) -> usize {
    (bits.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests;
