//! Changes that leave JSON to be JSON, or nearly.

use std::fmt::Write as _;

use darkroom_tests::hostile::provider::SECRET;
use fastrand::Rng;
use serde_json::{Map, Value, json};

/// Texts that have been trouble somewhere.
const TEXTS: [&str; 16] = [
    "",
    " ",
    "\u{0}",
    "\u{200b}",
    "\u{fb2c}\u{1d160}\u{0958}",
    "e\u{301}\u{301}\u{301}\u{327}\u{327}",
    "\u{202e}abc\u{2066}",
    "\u{feff}x",
    "a\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
    "\u{1100}\u{1161}\u{11a8}",
    "STOP",
    "IMAGE_SAFETY",
    "true",
    "58.9999999999s",
    "AAAA====",
    SECRET,
];

/// Ways of writing numbers, not all of them JSON's.
const NUMBERS: [&str; 8] = [
    "1e999",
    "-0",
    "1E+2",
    "01",
    "0x10",
    "NaN",
    "123456789012345678901234567890",
    "1.0000000000000000000000001",
];

/// One change of the JSON that an input is, or that follows its first line. Other inputs stay.
pub(crate) fn change(input: &mut Vec<u8>, random: &mut Rng) {
    let start = match input.iter().position(|byte| *byte == b'\n') {
        Some(end) if input.first().is_some_and(u8::is_ascii_digit) => end + 1,
        _ => 0,
    };
    let Ok(mut value) = serde_json::from_slice::<Value>(&input[start..]) else { return };
    let nodes = count(&value);
    if let Some(node) = nth(&mut value, &mut random.usize(..nodes)) {
        replace(node, random);
    }
    let mut writer = Writer {
        text: String::from_utf8_lossy(&input[..start]).into_owned(),
        doubles: random.u8(..) < 40,
        escapes: random.u8(..) < 40,
        halves: random.u8(..) < 20,
        numbers: random.u8(..) < 20,
        random,
    };
    writer.value(&value);
    *input = writer.text.into_bytes();
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(values) => values.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// The node of this number, in the order of writing.
fn nth<'a>(value: &'a mut Value, at: &mut usize) -> Option<&'a mut Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Value::Array(values) => values.iter_mut().find_map(|value| nth(value, at)),
        Value::Object(members) => members.values_mut().find_map(|value| nth(value, at)),
        _ => None,
    }
}

fn replace(node: &mut Value, random: &mut Rng) {
    match (random.u8(..10), &mut *node) {
        (0, _) => *node = json!([node.take()]),
        (1, _) => *node = json!({"x": node.take()}),
        (2, Value::Array(values)) => {
            let again = values.clone();
            values.extend(again);
        }
        (3, Value::Array(values)) => values.reverse(),
        (2 | 3, Value::Object(members)) => rename(members, random),
        (2..=4, Value::String(text)) => {
            let times = random.usize(1..=40);
            *text = text.repeat(times);
        }
        (5, Value::String(text)) => text.insert_str(0, random.choice(TEXTS).unwrap()),
        (6, _) => *node = nested(*random.choice(&[8, 62, 63, 64, 65, 126, 127, 128]).unwrap()),
        (7 | 8, _) => *node = json!(random.choice(TEXTS).unwrap()),
        _ => *node = scalar(random),
    }
}

fn scalar(random: &mut Rng) -> Value {
    let values = [
        Value::Null,
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(0.5),
        json!(1e308),
        json!(u64::MAX),
        json!(i64::MIN),
        json!([]),
        json!({}),
        json!("x".repeat(5_000)),
    ];
    random.choice(values).unwrap()
}

fn rename(members: &mut Map<String, Value>, random: &mut Rng) {
    let Some(name) = random.choice(members.keys()).cloned() else { return };
    let value = members.remove(&name).unwrap();
    let name = match random.u8(..3) {
        0 => name.to_uppercase(),
        1 => format!("{name}\u{0}"),
        _ => (*random.choice(TEXTS).unwrap()).to_owned(),
    };
    members.insert(name, value);
}

fn nested(depth: usize) -> Value {
    (0..depth)
        .fold(Value::Null, |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({"x": inner}) })
}

/// Writes JSON in ways that few writers do.
struct Writer<'a> {
    text: String,
    /// Some members come twice, with two values.
    doubles: bool,
    /// Every character is escaped.
    escapes: bool,
    /// Some texts begin with half of a surrogate pair.
    halves: bool,
    /// Some numbers are of the odd ways.
    numbers: bool,
    random: &'a mut Rng,
}

impl Writer<'_> {
    fn some(&mut self) -> bool {
        self.random.u8(..3) == 0
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Array(values) => {
                self.text.push('[');
                for (at, value) in values.iter().enumerate() {
                    self.comma(at);
                    self.value(value);
                }
                self.text.push(']');
            }
            Value::Object(members) => {
                self.text.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    self.comma(at);
                    if self.doubles && self.some() {
                        let other = scalar(self.random);
                        self.member(name, &other);
                        self.text.push(',');
                    }
                    self.member(name, value);
                }
                self.text.push('}');
            }
            Value::String(text) => self.string(text),
            Value::Number(_) if self.numbers && self.some() => {
                self.text.push_str(self.random.choice(NUMBERS).unwrap());
            }
            other => write!(self.text, "{other}").unwrap(),
        }
    }

    fn comma(&mut self, at: usize) {
        if at > 0 {
            self.text.push(',');
        }
    }

    fn member(&mut self, name: &str, value: &Value) {
        self.string(name);
        self.text.push(':');
        self.value(value);
    }

    fn string(&mut self, text: &str) {
        if !self.escapes && !self.halves {
            return write!(self.text, "{}", json!(text)).unwrap();
        }
        self.text.push('"');
        if self.halves && self.some() {
            self.text.push_str("\\ud83d");
        }
        for unit in text.encode_utf16() {
            write!(self.text, "\\u{unit:04x}").unwrap();
        }
        self.text.push('"');
    }
}
