//! The body of a request, written straight from what it is made of: a reference is some MB, and its base64 a third more.

use data_encoding::BASE64;
use serde::{Serialize, Serializer};
use serde_json::json;

use crate::DrawRequest;
use crate::image_check::CheckedImage;

/// The body of `generateContent`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body<'a> {
    contents: [Content<'a>; 1],
    generation_config: serde_json::Value,
}

#[derive(Serialize)]
struct Content<'a> {
    role: &'static str,
    parts: Vec<Part<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Part<'a> {
    Text(&'a str),
    InlineData(InlineData<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InlineData<'a> {
    mime_type: &'static str,
    #[serde(serialize_with = "base64")]
    data: &'a [u8],
}

fn base64<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&BASE64.encode_display(data))
}

impl<'a> Body<'a> {
    pub(super) fn of(request: &DrawRequest<'a>) -> Self {
        let picture = |image: &'a CheckedImage| {
            Part::InlineData(InlineData { mime_type: image.format.content_type(), data: &image.bytes })
        };
        let text = Part::Text(request.prompt.reveal());
        Self {
            contents: [Content {
                role: "user",
                parts: std::iter::once(text).chain(request.reference.map(picture)).collect(),
            }],
            generation_config: json!({
                "responseModalities": ["TEXT", "IMAGE"],
                "imageConfig": {
                    "aspectRatio": request.shape.aspect_ratio.as_str(),
                    "imageSize": request.shape.size.as_str(),
                },
            }),
        }
    }
}
