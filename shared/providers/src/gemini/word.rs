//! What may be kept of a provider's text.

/// Longest word kept.
const WORD_MAX: usize = 64;

/// The provider's own enumerated word, `IMAGE_SAFETY`; anything else is `UNRECOGNISED`, whole: a free text can contain the
/// key or the prompt, and a part of it would still be one.
pub(crate) fn word(text: &str) -> String {
    let enumerated = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
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
        for text in ["", "Image", "A B", "A-B", "key=AIzaX", "Ä", &"A".repeat(65)] {
            assert_eq!(word(text), "UNRECOGNISED", "{text}");
        }
    }
}
