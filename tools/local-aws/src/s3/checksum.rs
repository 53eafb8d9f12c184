//! Digests that a writer declares, and those that the bytes have.

use data_encoding::BASE64;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::PutObjectInput;
use s3s::{S3Error, S3Result, s3_error};
use serde::{Deserialize, Serialize};

/// The headers that carry checksums, as headers or as trailers.
const PREFIX: &str = "x-amz-checksum-";

/// At most one value per algorithm, in base64.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Checksums {
    pub(super) crc32: Option<String>,
    pub(super) crc32c: Option<String>,
    pub(super) crc64nvme: Option<String>,
    pub(super) sha1: Option<String>,
    pub(super) sha256: Option<String>,
}

impl Checksums {
    fn slots(&mut self) -> [(&'static str, &mut Option<String>); 5] {
        [
            ("crc32", &mut self.crc32),
            ("crc32c", &mut self.crc32c),
            ("crc64nvme", &mut self.crc64nvme),
            ("sha1", &mut self.sha1),
            ("sha256", &mut self.sha256),
        ]
    }
}

/// What a writer declares about the bytes to come.
#[derive(Default)]
pub(super) struct Declared {
    md5: Option<Vec<u8>>,
    checksums: Checksums,
    /// The checksum that follows the bytes as a trailer.
    trailer: Option<&'static str>,
}

impl Declared {
    /// Reads `Content-MD5`, `x-amz-checksum-*` and the announcement of a trailer.
    ///
    /// # Errors
    /// `InvalidDigest` or `InvalidRequest` for values of the wrong form, and for more than one trailing
    /// checksum.
    pub(super) fn read(input: &PutObjectInput, headers: &HeaderMap) -> S3Result<Self> {
        let checksums = Checksums {
            crc32: input.checksum_crc32.clone(),
            crc32c: input.checksum_crc32c.clone(),
            crc64nvme: input.checksum_crc64nvme.clone(),
            sha1: input.checksum_sha1.clone(),
            sha256: input.checksum_sha256.clone(),
        };
        Self::of(input.content_md5.as_deref(), checksums, headers)
    }

    pub(super) fn of(md5: Option<&str>, mut checksums: Checksums, headers: &HeaderMap) -> S3Result<Self> {
        let md5 = md5.map(decode_md5).transpose()?;
        for (name, value) in checksums.slots() {
            if value.as_deref().is_some_and(|value| !has_form(name, value)) {
                return Err(s3_error!(InvalidRequest, "Value for {PREFIX}{name} header is invalid."));
            }
        }
        Ok(Self { md5, checksums, trailer: announced(headers)? })
    }

    /// A digester for every algorithm declared, and CRC-64/NVME where none is: AWS stores one then, too.
    pub(super) fn digester(&self) -> Digester {
        let wants = |name: &str, value: &Option<String>| value.is_some() || self.trailer == Some(name);
        let mut hasher = ChecksumHasher::default();
        let declared = &self.checksums;
        hasher.crc32 = wants("crc32", &declared.crc32).then(Crc32::new);
        hasher.crc32c = wants("crc32c", &declared.crc32c).then(Crc32c::new);
        hasher.sha1 = wants("sha1", &declared.sha1).then(Sha1::new);
        hasher.sha256 = wants("sha256", &declared.sha256).then(Sha256::new);
        let none = self.trailer.is_none() && *declared == Checksums::default();
        hasher.crc64nvme = (none || wants("crc64nvme", &declared.crc64nvme)).then(Crc64Nvme::new);
        Digester { md5: Md5::new(), hasher }
    }

    /// Takes the announced checksum from the trailers that came after the bytes.
    ///
    /// # Errors
    /// `MalformedTrailerError` when it did not come, or in the wrong form.
    pub(super) fn complete(&mut self, trailers: Option<&HeaderMap>) -> S3Result<()> {
        let Some(name) = self.trailer else { return Ok(()) };
        let value = trailers
            .and_then(|trailers| trailers.get(format!("{PREFIX}{name}")))
            .and_then(|value| value.to_str().ok())
            .filter(|value| has_form(name, value))
            .ok_or_else(malformed_trailer)?;
        if let Some((_, slot)) = self.checksums.slots().into_iter().find(|(slot, _)| *slot == name) {
            *slot = Some(value.to_owned());
        }
        Ok(())
    }

    /// Compares everything declared with what the bytes have.
    ///
    /// # Errors
    /// `BadDigest` naming the first that differs.
    pub(super) fn verify(&mut self, found: &mut Digests) -> S3Result<()> {
        if self.md5.as_deref().is_some_and(|declared| declared != found.md5) {
            return Err(s3_error!(
                BadDigest,
                "The Content-MD5 you specified did not match what we received."
            ));
        }
        for ((name, declared), (_, found)) in self.checksums.slots().into_iter().zip(found.checksums.slots())
        {
            if declared.is_some() && declared != found {
                let name = name.to_uppercase();
                return Err(s3_error!(
                    BadDigest,
                    "The {name} you specified did not match the calculated checksum."
                ));
            }
        }
        Ok(())
    }
}

/// Digests bytes as they arrive.
pub(super) struct Digester {
    md5: Md5,
    hasher: ChecksumHasher,
}

impl Digester {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.hasher.update(bytes);
    }

    pub(super) fn finish(self) -> Digests {
        let found = self.hasher.finalize();
        let checksums = Checksums {
            crc32: found.checksum_crc32,
            crc32c: found.checksum_crc32c,
            crc64nvme: found.checksum_crc64nvme,
            sha1: found.checksum_sha1,
            sha256: found.checksum_sha256,
        };
        Digests { md5: self.md5.finalize(), checksums }
    }
}

/// What the bytes have.
pub(super) struct Digests {
    pub(super) md5: [u8; 16],
    pub(super) checksums: Checksums,
}

fn decode_md5(value: &str) -> S3Result<Vec<u8>> {
    let decoded = BASE64.decode(value.as_bytes()).ok().filter(|bytes| bytes.len() == 16);
    decoded.ok_or_else(|| s3_error!(InvalidDigest, "The Content-MD5 you specified is not valid."))
}

/// Whether `value` is base64 of as many bytes as the algorithm makes.
fn has_form(name: &str, value: &str) -> bool {
    let length = match name {
        "crc32" | "crc32c" => 4,
        "crc64nvme" => 8,
        "sha1" => 20,
        _ => 32,
    };
    BASE64.decode(value.as_bytes()).is_ok_and(|bytes| bytes.len() == length)
}

/// The checksum that `x-amz-trailer` announces.
fn announced(headers: &HeaderMap) -> S3Result<Option<&'static str>> {
    let names = headers.get_all("x-amz-trailer").iter().filter_map(|value| value.to_str().ok());
    let mut names = names.flat_map(|names| names.split(',')).map(|name| name.trim().to_ascii_lowercase());
    let Some(name) = names.next() else { return Ok(None) };
    let mut known = Checksums::default();
    let known = known.slots().map(|(name, _)| name);
    let algorithm = known.into_iter().find(|known| name.strip_prefix(PREFIX) == Some(known));
    match (algorithm, names.next()) {
        (Some(algorithm), None) => Ok(Some(algorithm)),
        _ => {
            Err(s3_error!(InvalidRequest, "The value specified in the x-amz-trailer header is not supported"))
        }
    }
}

fn malformed_trailer() -> S3Error {
    let mut error = S3Error::with_message(
        s3s::S3ErrorCode::Custom("MalformedTrailerError".into()),
        "The request contained trailing data that was not well-formed or did not conform to our published schema.",
    );
    error.set_status_code(http::StatusCode::BAD_REQUEST);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailer(names: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-trailer", http::HeaderValue::from_static(names));
        headers
    }

    fn digests(declared: &Declared, bytes: &[u8]) -> Digests {
        let mut digester = declared.digester();
        digester.update(bytes);
        digester.finish()
    }

    /// Check values of the CRC catalogue and FIPS 180 for "123456789".
    #[test]
    fn each_algorithm_is_verified_and_each_wrong_value_refused() {
        let right = [("crc32", "y/Q5Jg=="), ("crc32c", "4waSgw=="), ("crc64nvme", "rosUhgp5mIg=")];
        for (name, value) in right {
            let mut declared = Declared::of(None, Checksums::default(), &HeaderMap::new()).unwrap();
            declared.trailer = Some(name);
            let mut headers = HeaderMap::new();
            headers.insert(
                format!("{PREFIX}{name}").parse::<http::HeaderName>().unwrap(),
                value.parse().unwrap(),
            );
            declared.complete(Some(&headers)).unwrap();
            let mut found = digests(&declared, b"123456789");
            assert!(declared.verify(&mut found).is_ok(), "{name}");
            let mut found = digests(&declared, b"123456780");
            assert_eq!(declared.verify(&mut found).unwrap_err().code().as_str(), "BadDigest", "{name}");
        }
    }

    #[test]
    fn an_announced_trailer_must_come() {
        let mut declared =
            Declared::of(None, Checksums::default(), &trailer("x-amz-checksum-crc32")).unwrap();
        for trailers in [None, Some(HeaderMap::new())] {
            let error = declared.complete(trailers.as_ref()).unwrap_err();
            assert_eq!(error.code().as_str(), "MalformedTrailerError");
        }
    }

    #[test]
    fn unknown_or_several_trailers_are_refused() {
        for names in ["x-amz-checksum-crc16", "x-amz-meta-a", "x-amz-checksum-crc32, x-amz-checksum-sha256"] {
            assert!(Declared::of(None, Checksums::default(), &trailer(names)).is_err(), "{names}");
        }
    }

    #[test]
    fn values_of_the_wrong_form_are_refused_before_any_byte() {
        assert!(Declared::of(Some("too short"), Checksums::default(), &HeaderMap::new()).is_err());
        let checksums = Checksums { sha256: Some("y/Q5Jg==".to_owned()), ..Checksums::default() };
        assert!(Declared::of(None, checksums, &HeaderMap::new()).is_err());
    }

    #[test]
    fn an_undeclared_object_gets_the_default_checksum_only() {
        let declared = Declared::of(None, Checksums::default(), &HeaderMap::new()).unwrap();
        let found = digests(&declared, b"123456789").checksums;
        assert_eq!(found, Checksums { crc64nvme: Some("rosUhgp5mIg=".to_owned()), ..Checksums::default() });
    }
}
