//! What may be kept of a provider's text.

/// Longest word kept.
const WORD_MAX: usize = 64;

/// The provider's own enumerated word, `IMAGE_SAFETY` or `invalid_value`; anything else is `UNRECOGNISED`, whole: a free text can
/// contain the key or the prompt, and a part of it would still be one. A word in small letters is one only with an underscore.
pub(crate) fn word(text: &str) -> String {
    let small = text.contains('_') && text.bytes().all(|b| !b.is_ascii_uppercase());
    let enumerated = |b: u8| {
        let letter = if small { b.is_ascii_lowercase() } else { b.is_ascii_uppercase() };
        letter || b.is_ascii_digit() || b == b'_'
    };
    if !text.is_empty() && text.len() <= WORD_MAX && text.bytes().all(enumerated) {
        text.to_owned()
    } else {
        "UNRECOGNISED".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_enumerated_words_are_kept() {
        assert_eq!(word("IMAGE_SAFETY"), "IMAGE_SAFETY");
        assert_eq!(word("HTTP_418"), "HTTP_418");
        assert_eq!(word("invalid_value"), "invalid_value");
        for text in [
            "",
            "Image",
            "cat",
            "a_B",
            "a cat_s",
            "sk-proj_a",
            "A B",
            "A-B",
            "key=AIzaX",
            "Ä",
            &"A".repeat(65),
        ] {
            assert_eq!(word(text), "UNRECOGNISED", "{text}");
        }
    }
}
