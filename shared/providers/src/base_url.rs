//! The address of a provider.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use thiserror::Error;

/// A provider's base URL: `https`, or `http` for the machine itself. No user, query or fragment; a path is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl {
    origin: Uri,
    path: String,
}

/// Why a text is no base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BaseUrlError {
    /// Not an absolute URL.
    #[error("a base URL is absolute: https://host, with a port and a path if need be")]
    NotAbsolute,
    /// Plain HTTP would show the key to the network.
    #[error("a base URL begins with https://; http:// is for 127.0.0.1, [::1] and localhost alone")]
    NotSecure,
    /// A user, a query or a fragment.
    #[error("a base URL has no user, no query and no fragment; keys are added with `darkroom keys add`")]
    Extra,
}

impl BaseUrl {
    /// Gemini's public address.
    pub fn gemini() -> Self {
        Self::vendor("https://generativelanguage.googleapis.com")
    }

    /// OpenAI's public address.
    pub fn openai() -> Self {
        Self::vendor("https://api.openai.com")
    }

    fn vendor(origin: &'static str) -> Self {
        Self { origin: Uri::from_static(origin), path: String::new() }
    }

    /// Parses a base URL; slashes at its end are dropped.
    ///
    /// # Errors
    /// See [`BaseUrlError`].
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        if text.contains(['?', '#', '@']) {
            return Err(BaseUrlError::Extra);
        }
        let uri: Uri = text.parse().map_err(|_| BaseUrlError::NotAbsolute)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(BaseUrlError::NotAbsolute);
        };
        let secure = match scheme {
            "https" => true,
            "http" => is_loopback(authority.host()),
            _ => false,
        };
        if !secure {
            return Err(BaseUrlError::NotSecure);
        }
        if authority.host().is_empty() {
            return Err(BaseUrlError::NotAbsolute);
        }
        let origin = Uri::builder()
            .scheme(scheme)
            .authority(authority.clone())
            .path_and_query("/")
            .build()
            .map_err(|_| BaseUrlError::NotAbsolute)?;
        Ok(Self { origin, path: uri.path().trim_end_matches('/').to_owned() })
    }

    /// Scheme, host and port.
    pub(crate) const fn origin(&self) -> &Uri {
        &self.origin
    }

    /// Host, and port when it was given: the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        self.origin.authority().map_or("", http::uri::Authority::as_str)
    }

    /// The path before every call's own, without a slash at its end.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Whether it is `https`.
    pub(crate) fn is_tls(&self) -> bool {
        self.origin.scheme_str() == Some("https")
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.origin.scheme_str().unwrap_or_default(), self.authority(), self.path)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BaseUrl({self})")
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_the_machine_itself() {
        for (text, expected) in [
            ("https://generativelanguage.googleapis.com", Ok("https://generativelanguage.googleapis.com")),
            ("https://proxy.example:8443/gemini/", Ok("https://proxy.example:8443/gemini")),
            ("http://127.0.0.1:9000", Ok("http://127.0.0.1:9000")),
            ("http://[::1]:9000/", Ok("http://[::1]:9000")),
            ("http://localhost:1", Ok("http://localhost:1")),
            ("http://generativelanguage.googleapis.com", Err(BaseUrlError::NotSecure)),
            ("http://127.0.0.1.example.com", Err(BaseUrlError::NotSecure)),
            ("http://localhost.example.com", Err(BaseUrlError::NotSecure)),
            ("http://169.254.169.254", Err(BaseUrlError::NotSecure)),
            ("ftp://localhost", Err(BaseUrlError::NotSecure)),
            ("https://user:pass@host", Err(BaseUrlError::Extra)),
            ("https://host/?key=x", Err(BaseUrlError::Extra)),
            ("https://host/#x", Err(BaseUrlError::Extra)),
            ("/v1beta", Err(BaseUrlError::NotAbsolute)),
            ("generativelanguage.googleapis.com", Err(BaseUrlError::NotAbsolute)),
            ("", Err(BaseUrlError::NotAbsolute)),
        ] {
            assert_eq!(
                BaseUrl::parse(text).map(|url| url.to_string()),
                expected.map(str::to_owned),
                "{text}"
            );
        }
    }

    #[test]
    fn the_vendors_addresses_are_what_they_would_be_parsed_from() {
        for vendor in [BaseUrl::gemini(), BaseUrl::openai()] {
            assert_eq!(BaseUrl::parse(&vendor.to_string()), Ok(vendor.clone()));
            assert!(vendor.is_tls());
        }
    }
}
