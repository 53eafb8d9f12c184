//! The providers' clients against servers that answer byte for byte what a test says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// Waiting for another side with a bound, and servers that wait, are what these tests are about.
#![allow(clippy::disallowed_methods)]

mod answers;
mod calls;
mod forge;
mod openai;
mod probe;
mod raw_server;

use std::time::Duration;

use darkroom_core::answer::Refusal;
use darkroom_core::id::{JobId, ModelName};
use darkroom_core::key::Secret;
use darkroom_core::model::ProviderName;
use darkroom_core::request::{AspectRatio, ImageSize, Prompt, Shape};
use darkroom_providers::image_check::CheckedImage;
use darkroom_providers::{BaseUrl, DrawError, DrawRequest, DrawnImage, Progress, Providers, Settings};
use raw_server::RawServer;

/// Appears in no error text.
const KEY: &str = "AIzaSyCanaryCanaryCanaryCanaryCanary0123";

/// Every provider at one server.
fn providers(server: &RawServer) -> Providers {
    let base = BaseUrl::parse(&server.base_url()).unwrap();
    Providers::new(Settings {
        gemini_base_url: base.clone(),
        openai_base_url: base.clone(),
        forge_base_url: Some(base),
    })
}

/// A draw, apart from what every test asks.
struct Asked<'a> {
    provider: ProviderName,
    model: &'a str,
    shape: Shape,
    secret: Option<&'a str>,
    call: u32,
    timeout: Duration,
    progress: Progress,
    reference: Option<CheckedImage>,
}

impl Asked<'_> {
    fn of(provider: ProviderName) -> Self {
        let model = match provider {
            ProviderName::Local => "darkroom-local",
            ProviderName::Gemini => "gemini-3.1-flash-image",
            ProviderName::OpenAi => "gpt-image-2.6-flare",
            ProviderName::Forge => "sd_xl_base_1.0",
        };
        Self {
            provider,
            model,
            shape: Shape { aspect_ratio: AspectRatio::R16x9, size: ImageSize::K2 },
            secret: Some(KEY),
            call: 1,
            timeout: Duration::from_secs(20),
            progress: Progress::unknown(),
            reference: None,
        }
    }

    async fn draw(&self, providers: &Providers) -> Result<DrawnImage, DrawError> {
        let secret = self.secret.map(|secret| Secret::parse(secret).unwrap());
        let request = DrawRequest {
            job: &JobId::parse(&format!("job_{}", "a".repeat(52))).unwrap(),
            call: self.call,
            model: &ModelName::parse(self.model).unwrap(),
            prompt: &Prompt::parse("a \"lighthouse\" at dusk — Leuchtturm 灯台").unwrap(),
            reference: self.reference.as_ref(),
            shape: self.shape,
            seed: 0x1_0000_0007,
            secret: secret.as_ref(),
            progress: &self.progress,
        };
        providers.get(self.provider).draw(request, self.timeout).await
    }
}

async fn draw(providers: &Providers) -> Result<DrawnImage, DrawError> {
    draw_within(providers, Duration::from_secs(20)).await
}

async fn draw_within(providers: &Providers, timeout: Duration) -> Result<DrawnImage, DrawError> {
    Asked { timeout, ..Asked::of(ProviderName::Gemini) }.draw(providers).await
}

fn refused(error: DrawError) -> Refusal {
    assert!(!format!("{error:?} {error}").contains("Canary"), "the key in {error:?}");
    match error {
        DrawError::Refused(refusal) => refusal,
        DrawError::NotSent { detail } => panic!("not sent: {detail}"),
    }
}

/// A small picture: 3 × 2 pixels, with a text that says so.
fn picture() -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 3, 2);
    encoder.set_color(png::ColorType::Rgb);
    encoder.add_text_chunk("Comment".to_owned(), "made for a test".to_owned()).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[100; 18]).unwrap();
    writer.finish().unwrap();
    file
}

/// Request line and headers of a request in order of the alphabet, without those that are the same for all, and its body.
fn parts(request: &str) -> (String, Vec<String>, String) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().map(str::to_owned).collect();
    let first = lines.remove(0);
    lines.retain(|line| {
        !["content-length", "host: ", "user-agent: darkroom/"].iter().any(|name| line.starts_with(name))
    });
    lines.sort();
    (first, lines, body.to_owned())
}
