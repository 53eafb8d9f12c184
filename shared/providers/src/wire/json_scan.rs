//! JSON read as it arrives, in pieces of any size, without keeping it.
//!
//! An answer with a picture is one string of up to 28 MB inside a small document. A tree of it would hold the text
//! and the picture at once; this tells its reader about each piece of each string and keeps none.
//!
//! What it accepts is RFC 8259 with two liberties that cannot change a value: raw control characters inside strings pass,
//! and text need not be UTF-8 (whoever keeps a string checks that).

use memchr::memchr2;

/// Nested deeper than this, a document is refused: real answers have about eight levels.
const DEPTH_MAX: usize = 64;
/// Longest number or literal.
const TOKEN_MAX: usize = 64;

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// `{`
    ObjectStart,
    /// `[`
    ArrayStart,
    /// `}` or `]`
    End,
    /// A piece of a member's name, unescaped. A name has zero or more pieces, then `KeyEnd`.
    KeyPart(&'a [u8]),
    /// The name is complete.
    KeyEnd,
    /// A piece of a string value, unescaped. A value has zero or more pieces, then `StringEnd`.
    StringPart(&'a [u8]),
    /// The string value is complete.
    StringEnd,
    /// A number, `true`, `false` or `null`.
    Token(&'a [u8]),
}

/// The text is not JSON, or deeper or longer than anything real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotJson;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value must follow.
    Value,
    /// A value or `]`.
    FirstElement,
    /// A name or `}`.
    FirstKey,
    /// A name.
    Key,
    /// `:`
    Colon,
    /// `,` or the container's end; nothing but white space at the top.
    AfterValue,
    /// Inside a string.
    Text,
    /// After a backslash.
    Escape,
    /// Inside `\u`: digits seen and their value.
    Unicode(u8, u32),
    /// Inside a number or a literal.
    Token,
}

/// Reads one document.
#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    stack: Vec<Container>,
    /// The string being read is a member's name.
    in_key: bool,
    /// A first half of a surrogate pair that waits for its second.
    high_surrogate: Option<u32>,
    token: Vec<u8>,
}

impl Scanner {
    pub(crate) const fn new() -> Self {
        Self {
            state: State::Value,
            stack: Vec::new(),
            in_key: false,
            high_surrogate: None,
            token: Vec::new(),
        }
    }

    /// Reads the next piece of the document and tells `each` what is in it, in order.
    pub(crate) fn push(&mut self, piece: &[u8], each: &mut impl FnMut(Event<'_>)) -> Result<(), NotJson> {
        let mut rest = piece;
        while !rest.is_empty() {
            rest = match self.state {
                State::Text => self.text(rest, each),
                State::Escape => self.escape(rest, each)?,
                State::Unicode(digits, value) => self.unicode(rest, digits, value, each)?,
                State::Token => self.token(rest, each)?,
                _ => self.structure(rest, each)?,
            };
        }
        Ok(())
    }

    /// Ends the document.
    pub(crate) fn finish(mut self, each: &mut impl FnMut(Event<'_>)) -> Result<(), NotJson> {
        if self.state == State::Token {
            self.end_token(each)?;
        }
        if self.stack.is_empty() && self.state == State::AfterValue { Ok(()) } else { Err(NotJson) }
    }

    /// One byte between values.
    fn structure<'a>(
        &mut self,
        rest: &'a [u8],
        each: &mut impl FnMut(Event<'_>),
    ) -> Result<&'a [u8], NotJson> {
        let Some((&byte, after)) = rest.split_first() else { return Ok(rest) };
        match (self.state, byte) {
            (_, b' ' | b'\t' | b'\r' | b'\n') => {}
            (State::FirstElement | State::AfterValue, b']') => self.close(Container::Array, each)?,
            (State::FirstKey | State::AfterValue, b'}') => self.close(Container::Object, each)?,
            (State::FirstKey | State::Key, b'"') => {
                self.in_key = true;
                self.state = State::Text;
            }
            (State::Colon, b':') => self.state = State::Value,
            (State::AfterValue, b',') => {
                self.state = match self.stack.last() {
                    Some(Container::Object) => State::Key,
                    Some(Container::Array) => State::Value,
                    None => return Err(NotJson),
                };
            }
            (State::Value | State::FirstElement, _) => return self.value(byte, rest, after, each),
            _ => return Err(NotJson),
        }
        Ok(after)
    }

    /// The first byte of a value.
    fn value<'a>(
        &mut self,
        byte: u8,
        rest: &'a [u8],
        after: &'a [u8],
        each: &mut impl FnMut(Event<'_>),
    ) -> Result<&'a [u8], NotJson> {
        match byte {
            b'{' => {
                self.open(Container::Object, State::FirstKey)?;
                each(Event::ObjectStart);
            }
            b'[' => {
                self.open(Container::Array, State::FirstElement)?;
                each(Event::ArrayStart);
            }
            b'"' => {
                self.in_key = false;
                self.state = State::Text;
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                self.token.clear();
                self.state = State::Token;
                return Ok(rest);
            }
            _ => return Err(NotJson),
        }
        Ok(after)
    }

    fn open(&mut self, container: Container, state: State) -> Result<(), NotJson> {
        if self.stack.len() == DEPTH_MAX {
            return Err(NotJson);
        }
        self.stack.push(container);
        self.state = state;
        Ok(())
    }

    fn close(&mut self, container: Container, each: &mut impl FnMut(Event<'_>)) -> Result<(), NotJson> {
        if self.stack.pop() != Some(container) {
            return Err(NotJson);
        }
        self.state = State::AfterValue;
        each(Event::End);
        Ok(())
    }

    /// The longest piece of a string without an escape.
    fn text<'a>(&mut self, rest: &'a [u8], each: &mut impl FnMut(Event<'_>)) -> &'a [u8] {
        let end = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        let (plain, rest) = rest.split_at(end);
        if !plain.is_empty() {
            self.lone_surrogate(each);
            self.part(plain, each);
        }
        let Some((&byte, after)) = rest.split_first() else { return rest };
        if byte == b'\\' {
            self.state = State::Escape;
            return after;
        }
        self.lone_surrogate(each);
        if self.in_key {
            self.state = State::Colon;
            each(Event::KeyEnd);
        } else {
            self.state = State::AfterValue;
            each(Event::StringEnd);
        }
        after
    }

    fn part(&self, part: &[u8], each: &mut impl FnMut(Event<'_>)) {
        each(if self.in_key { Event::KeyPart(part) } else { Event::StringPart(part) });
    }

    /// A first half that no second half followed becomes U+FFFD, as in every lenient decoder.
    fn lone_surrogate(&mut self, each: &mut impl FnMut(Event<'_>)) {
        if self.high_surrogate.take().is_some() {
            self.part("\u{FFFD}".as_bytes(), each);
        }
    }

    fn escape<'a>(&mut self, rest: &'a [u8], each: &mut impl FnMut(Event<'_>)) -> Result<&'a [u8], NotJson> {
        let Some((&byte, after)) = rest.split_first() else { return Ok(rest) };
        let plain: &[u8] = match byte {
            b'"' => b"\"",
            b'\\' => b"\\",
            b'/' => b"/",
            b'b' => b"\x08",
            b'f' => b"\x0c",
            b'n' => b"\n",
            b'r' => b"\r",
            b't' => b"\t",
            b'u' => {
                self.state = State::Unicode(0, 0);
                return Ok(after);
            }
            _ => return Err(NotJson),
        };
        self.lone_surrogate(each);
        self.part(plain, each);
        self.state = State::Text;
        Ok(after)
    }

    fn unicode<'a>(
        &mut self,
        rest: &'a [u8],
        digits: u8,
        value: u32,
        each: &mut impl FnMut(Event<'_>),
    ) -> Result<&'a [u8], NotJson> {
        let Some((&byte, after)) = rest.split_first() else { return Ok(rest) };
        let digit = char::from(byte).to_digit(16).ok_or(NotJson)?;
        let value = value * 16 + digit;
        if digits < 3 {
            self.state = State::Unicode(digits + 1, value);
            return Ok(after);
        }
        self.state = State::Text;
        self.code_unit(value, each);
        Ok(after)
    }

    /// One UTF-16 code unit of a `\u` escape.
    fn code_unit(&mut self, unit: u32, each: &mut impl FnMut(Event<'_>)) {
        if let (Some(high), 0xDC00..=0xDFFF) = (self.high_surrogate, unit) {
            self.high_surrogate = None;
            let code = 0x1_0000 + ((high - 0xD800) << 10) + (unit - 0xDC00);
            self.character(code, each);
            return;
        }
        self.lone_surrogate(each);
        if (0xD800..=0xDBFF).contains(&unit) {
            self.high_surrogate = Some(unit);
        } else {
            self.character(unit, each);
        }
    }

    fn character(&self, code: u32, each: &mut impl FnMut(Event<'_>)) {
        let character = char::from_u32(code).unwrap_or('\u{FFFD}');
        self.part(character.encode_utf8(&mut [0; 4]).as_bytes(), each);
    }

    fn token<'a>(&mut self, rest: &'a [u8], each: &mut impl FnMut(Event<'_>)) -> Result<&'a [u8], NotJson> {
        let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let end = rest.iter().position(|byte| !of_token(byte)).unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        if self.token.len() + token.len() > TOKEN_MAX {
            return Err(NotJson);
        }
        self.token.extend_from_slice(token);
        if !after.is_empty() {
            self.end_token(each)?;
        }
        Ok(after)
    }

    fn end_token(&mut self, each: &mut impl FnMut(Event<'_>)) -> Result<(), NotJson> {
        let text = std::str::from_utf8(&self.token).map_err(|_| NotJson)?;
        // A lone number is checked by the reader that everything else here uses.
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| NotJson)?;
        self.state = State::AfterValue;
        each(Event::Token(&self.token));
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    /// Builds the tree that the events tell, to compare with serde_json's.
    #[derive(Default)]
    struct Tree {
        open: Vec<(Option<String>, Value)>,
        key: Vec<u8>,
        names: Vec<String>,
        text: Vec<u8>,
        done: Option<Value>,
    }

    impl Tree {
        fn event(&mut self, event: Event<'_>) {
            match event {
                Event::ObjectStart => self.open.push((None, Value::Object(Map::new()))),
                Event::ArrayStart => self.open.push((None, Value::Array(Vec::new()))),
                Event::End => {
                    let (_, value) = self.open.pop().unwrap();
                    self.put(value);
                }
                Event::KeyPart(part) => self.key.extend(part),
                Event::KeyEnd => {
                    let name = String::from_utf8(std::mem::take(&mut self.key)).unwrap();
                    self.open.last_mut().unwrap().0 = Some(name.clone());
                    self.names.push(name);
                }
                Event::StringPart(part) => self.text.extend(part),
                Event::StringEnd => {
                    let text = String::from_utf8(std::mem::take(&mut self.text)).unwrap();
                    self.put(Value::String(text));
                }
                Event::Token(token) => self.put(serde_json::from_slice(token).unwrap()),
            }
        }

        fn put(&mut self, value: Value) {
            match self.open.last_mut() {
                Some((_, Value::Array(array))) => array.push(value),
                Some((name, Value::Object(object))) => {
                    object.insert(name.take().unwrap(), value);
                }
                _ => self.done = Some(value),
            }
        }
    }

    fn read(pieces: &[&[u8]]) -> Result<Value, NotJson> {
        let mut tree = Tree::default();
        let mut scanner = Scanner::new();
        for piece in pieces {
            scanner.push(piece, &mut |event| tree.event(event))?;
        }
        scanner.finish(&mut |event| tree.event(event))?;
        Ok(tree.done.unwrap())
    }

    #[test]
    fn escapes_numbers_and_nesting_are_read_whole_and_byte_by_byte() {
        let text = r#" { "a\u0062\/" : [1, -2.5e3, true, false, null, "\ud83d\ude00\"\\\b\f\n\r\t", {}, [], ""], "ü": "\u00e9" } "#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(read(&[text.as_bytes()]).unwrap(), expected);
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(read(&pieces).unwrap(), expected);
    }

    #[test]
    fn halves_of_surrogate_pairs_become_the_replacement_character() {
        for (text, expected) in [
            (r#""\ud83d""#, "\u{FFFD}"),
            (r#""\ud83dx""#, "\u{FFFD}x"),
            (r#""\ud83d\n""#, "\u{FFFD}\n"),
            (r#""\ud83d\ud83d\ude00""#, "\u{FFFD}😀"),
            (r#""\ude00""#, "\u{FFFD}"),
        ] {
            assert_eq!(read(&[text.as_bytes()]), Ok(json!(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "[1",
            "[1,",
            "[,1]",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "]",
            "[}",
            "{]",
            "1 2",
            "1,",
            "tru",
            "truth",
            "01",
            "1.",
            "+1",
            "--1",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "'a'",
            "nan",
            "[1 2]",
            "{\"a\" 1}",
            "{1:2}",
            "{\"a\":1 \"b\":2}",
            "[]]",
        ] {
            assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
            assert_eq!(read(&[text.as_bytes()]), Err(NotJson), "{text}");
        }
        let deep = "[".repeat(DEPTH_MAX + 1);
        assert_eq!(Scanner::new().push(deep.as_bytes(), &mut |_| {}), Err(NotJson));
        let long = "1".repeat(TOKEN_MAX + 1);
        assert_eq!(Scanner::new().push(long.as_bytes(), &mut |_| {}), Err(NotJson));
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(".{0,6}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_however_it_is_cut(document in documents(), cut in 1_usize..9, pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
            let text = text.unwrap();
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            prop_assert_eq!(read(&pieces), Ok(document));
        }

        #[test]
        fn agrees_with_serde_json_on_damaged_text(document in documents(), at: prop::sample::Index, byte in 0x20_u8..0x7f) {
            let mut text = serde_json::to_vec(&document).unwrap();
            let at = at.index(text.len());
            *text.get_mut(at).unwrap() = byte;
            let expected = serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok();
            let mut scanner = Scanner::new();
            let read = scanner.push(&text, &mut |_| {}).and_then(|()| scanner.finish(&mut |_| {}));
            // Where only this one is lenient (broken UTF-8, lone surrogates) it must still never refuse what is JSON.
            prop_assert!(read.is_ok() || !expected);
            if std::str::from_utf8(&text).is_ok() && !text.contains(&b'\\') {
                prop_assert_eq!(read.is_ok(), expected);
            }
        }
    }
}
