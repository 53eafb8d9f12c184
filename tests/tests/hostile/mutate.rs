//! An input that a seed makes of a corpus.

use darkroom_tests::hostile::{IMAGE, LIST_QUERY, Target};
use fastrand::Rng;

use crate::{Seed, mutate_image, mutate_json};

/// Changes one after the other.
const CHANGES_MAX: usize = 4;
/// No input grows beyond.
const BYTES_MAX: usize = 64 * 1024;

/// The input of this seed.
pub(crate) fn mutated(target: Target, corpus: &[Seed], seed: u64) -> Vec<u8> {
    let mut random = Rng::with_seed(seed);
    // What is wrong already seldom becomes right.
    let good: Vec<_> = corpus.iter().filter(|seed| seed.name.starts_with("good")).collect();
    let mut input = random.choice(&good).expect("a good one").bytes.clone();
    if random.u8(..) < 64 {
        input.clone_from(&random.choice(corpus).expect("a corpus").bytes);
    }
    for _ in 0..random.usize(1..=random.clone().usize(1..=CHANGES_MAX)) {
        let other = &random.choice(corpus).expect("a corpus").bytes;
        match target.name {
            name if name == IMAGE.name && random.u8(..) < 160 => {
                mutate_image::change(&mut input, &mut random);
            }
            name if name == IMAGE.name || name == LIST_QUERY.name => change(&mut input, other, &mut random),
            _ if random.u8(..) < 180 => mutate_json::change(&mut input, &mut random),
            _ => change(&mut input, other, &mut random),
        }
        input.truncate(BYTES_MAX);
    }
    input
}

/// One change that knows nothing of the input's form.
fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
    if input.is_empty() {
        *input = other.to_vec();
        return;
    }
    let at = random.usize(..input.len());
    let end = (at + random.usize(1..=16)).min(input.len());
    match random.u8(..9) {
        0 => input[at] ^= 1 << random.u8(..8),
        1 => {
            input[at] =
                *random.choice(&[0, 1, 0x7f, 0x80, 0xfe, 0xff, b'"', b'\\', b'{', b'%', b'&', b'=']).unwrap();
        }
        2 => drop(input.drain(at..end)),
        3 => input.truncate(at),
        4 => {
            let part = input[at..end].repeat(random.usize(1..=64));
            input.splice(at..at, part);
        }
        5 => {
            let part: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(end - at).collect();
            input.splice(at..end, part);
        }
        6 => {
            let from = random.usize(..=other.len());
            input.splice(at.., other[from..].iter().copied());
        }
        7 => {
            let (from, length) = (random.usize(..=other.len()), random.usize(..=64));
            let part = &other[from..(from + length).min(other.len())];
            input.splice(at..at, part.iter().copied());
        }
        _ => number(input, at, random),
    }
}

/// Another number in the place of the first one from here on.
fn number(input: &mut Vec<u8>, at: usize, random: &mut Rng) {
    let Some(start) = input[at..].iter().position(u8::is_ascii_digit).map(|digit| at + digit) else { return };
    let length = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let numbers = [
        "0",
        "-1",
        "1",
        "00",
        "+5",
        "4294967296",
        "18446744073709551615",
        "18446744073709551616",
        "1e999",
        "9".repeat(400).as_str(),
    ]
    .map(str::to_owned);
    let number = random.choice(&numbers).expect("a number");
    input.splice(start..start + length, number.bytes());
}
