//! The MD5 digests that clients check, and the size that limits count.
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html#sqs-attributes-md5-message-digest-calculation>

use data_encoding::{BASE64, HEXLOWER};
use s3s::crypto::{Checksum as _, Md5};

use super::wire::{MessageAttribute, MessageAttributes};

/// Of a body: its UTF-8 bytes.
pub(super) fn md5_of_body(body: &str) -> String {
    HEXLOWER.encode(&Md5::checksum(body.as_bytes()))
}

/// Of attributes: by name, each as length and bytes of name and type, the kind of value, and length and bytes
/// of the value. `None` without attributes.
pub(super) fn md5_of_attributes(attributes: &MessageAttributes) -> Option<String> {
    if attributes.is_empty() {
        return None;
    }
    let mut digest = Md5::new();
    for (name, attribute) in attributes {
        update_counted(&mut digest, name.as_bytes());
        update_counted(&mut digest, attribute.data_type.as_bytes());
        let (kind, value) = value_bytes(attribute);
        digest.update(&[kind]);
        update_counted(&mut digest, &value);
    }
    Some(HEXLOWER.encode(&digest.finalize()))
}

/// What a message counts: its body and the names, types and values of its attributes, in bytes.
pub(super) fn message_bytes(body: &str, attributes: &MessageAttributes) -> usize {
    let counted = attributes
        .iter()
        .map(|(name, attribute)| name.len() + attribute.data_type.len() + value_bytes(attribute).1.len());
    body.len() + counted.sum::<usize>()
}

fn update_counted(digest: &mut Md5, bytes: &[u8]) {
    digest.update(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    digest.update(bytes);
}

/// 1 and the text, or 2 and the binary value. Attributes were validated before, so a value is there and is
/// base64.
fn value_bytes(attribute: &MessageAttribute) -> (u8, Vec<u8>) {
    match (&attribute.binary_value, &attribute.string_value) {
        (Some(binary), _) => (2, BASE64.decode(binary.as_bytes()).unwrap_or_default()),
        (None, text) => (1, text.clone().unwrap_or_default().into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_digest_is_the_md5_of_its_bytes() {
        // RFC 1321, appendix A.5.
        assert_eq!(md5_of_body("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    }

    #[test]
    fn attributes_are_digested_by_name_in_the_documented_form() {
        let text = MessageAttribute {
            data_type: "String".to_owned(),
            string_value: Some("v".to_owned()),
            binary_value: None,
        };
        let binary = MessageAttribute {
            data_type: "Binary".to_owned(),
            string_value: None,
            binary_value: Some("AAE=".to_owned()),
        };
        let attributes = MessageAttributes::from([("b".to_owned(), text), ("a".to_owned(), binary)]);
        let mut spelled: Vec<u8> = Vec::new();
        spelled.extend(b"\0\0\0\x01a\0\0\0\x06Binary\x02\0\0\0\x02\0\x01");
        spelled.extend(b"\0\0\0\x01b\0\0\0\x06String\x01\0\0\0\x01v");
        assert_eq!(md5_of_attributes(&attributes), Some(HEXLOWER.encode(&Md5::checksum(&spelled))));
        assert_eq!(md5_of_attributes(&MessageAttributes::new()), None);
        assert_eq!(message_bytes("body", &attributes), 4 + (1 + 6 + 2) + (1 + 6 + 1));
    }
}
