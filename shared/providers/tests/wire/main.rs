//! The Gemini client against servers that answer byte for byte what a test says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// Waiting for another side with a bound, and servers that wait, are what these tests are about.
#![allow(clippy::disallowed_methods)]

mod answers;
mod calls;
mod raw_server;

use std::time::Duration;

use darkroom_core::id::ModelName;
use darkroom_core::key::Secret;
use darkroom_core::model::ProviderName;
use darkroom_core::request::{AspectRatio, ImageSize, Prompt, Shape};
use darkroom_providers::{BaseUrl, DrawError, DrawRequest, DrawnImage, Providers, Settings};
use raw_server::RawServer;

/// Appears in no error text.
const KEY: &str = "AIzaSyCanaryCanaryCanaryCanaryCanary0123";

fn providers(server: &RawServer) -> Providers {
    Providers::new(Settings { gemini_base_url: BaseUrl::parse(&server.base_url()).unwrap() })
}

async fn draw(providers: &Providers) -> Result<DrawnImage, DrawError> {
    draw_within(providers, Duration::from_secs(20)).await
}

async fn draw_within(providers: &Providers, timeout: Duration) -> Result<DrawnImage, DrawError> {
    let request = DrawRequest {
        model: &ModelName::parse("gemini-3.1-flash-image").unwrap(),
        prompt: &Prompt::parse("a \"lighthouse\" at dusk — Leuchtturm 灯台").unwrap(),
        shape: Shape { aspect_ratio: AspectRatio::R16x9, size: ImageSize::K2 },
        seed: 1,
        secret: Some(&Secret::parse(KEY).unwrap()),
    };
    providers.get(ProviderName::Gemini).draw(request, timeout).await
}
