//! The stand-in Gemini API against the real client: what the benches and the flow tests rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use darkroom_core::answer::Refusal;
use darkroom_core::id::{JobId, ModelName};
use darkroom_core::key::Secret;
use darkroom_core::model::ProviderName;
use darkroom_core::request::{AspectRatio, ImageSize, Prompt, Shape};
use darkroom_providers::{
    BaseUrl, DrawError, DrawRequest, DrawnImage, Progress, Providers, Settings as ProviderSettings,
};
use darkroom_tests::stand_in_gemini::{Behaviour, Faults, Latency, Limits, Outcome, Settings, StandIn};
use futures::future::join_all;

const MODEL: &str = "gemini-3.1-flash-image";

struct Setup {
    stand_in: StandIn,
    providers: Providers,
}

impl Setup {
    fn new(settings: Settings) -> Self {
        let stand_in = StandIn::start(settings).unwrap();
        let gemini_base_url = BaseUrl::parse(&stand_in.base_url()).unwrap();
        Self {
            stand_in,
            providers: Providers::new(ProviderSettings { gemini_base_url, ..ProviderSettings::default() }),
        }
    }

    fn plain() -> Self {
        let setup = Self::new(Settings::default());
        setup.stand_in.add_key("key-1", "project-1");
        setup
    }

    async fn draw(&self, key: &str, prompt: &str) -> Result<DrawnImage, DrawError> {
        let shape = Shape { aspect_ratio: AspectRatio::R16x9, size: ImageSize::K1 };
        self.draw_shape(key, prompt, shape, Duration::from_secs(30)).await
    }

    async fn draw_shape(
        &self,
        key: &str,
        prompt: &str,
        shape: Shape,
        timeout: Duration,
    ) -> Result<DrawnImage, DrawError> {
        let request = DrawRequest {
            job: &JobId::parse(&format!("job_{}", "a".repeat(52))).unwrap(),
            call: 1,
            model: &ModelName::parse(MODEL).unwrap(),
            prompt: &Prompt::parse(prompt).unwrap(),
            reference: None,
            shape,
            seed: 0,
            secret: Some(&Secret::parse(key).unwrap()),
            progress: &Progress::unknown(),
        };
        self.providers.get(ProviderName::Gemini).draw(request, timeout).await
    }

    async fn refusal(&self, key: &str) -> Refusal {
        match self.draw(key, "p").await {
            Err(DrawError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn pictures_have_the_shape_and_length_asked_for() {
    let setup = Setup::plain();
    for length in [64 * 1024, 1024 * 1024, 2 * 1024 * 1024] {
        setup.stand_in.update(|settings| settings.image_bytes = length);
        for aspect_ratio in [AspectRatio::R1x1, AspectRatio::R21x9, AspectRatio::R2x3] {
            for size in ImageSize::ALL {
                let shape = Shape { aspect_ratio, size };
                let image = setup.draw_shape("key-1", "p", shape, Duration::from_secs(30)).await.unwrap();
                assert!(image.bytes.len().abs_diff(length) < 16 * 1024, "{} for {length}", image.bytes.len());
                let (across, up) = aspect_ratio.terms();
                let ratio = f64::from(image.width * up) / f64::from(image.height * across);
                assert!((0.97..=1.03).contains(&ratio), "{} × {}", image.width, image.height);
                assert!(png::Decoder::new(std::io::Cursor::new(&image.bytes)).read_info().is_ok());
                assert_eq!(image.drawn_by, MODEL);
            }
        }
    }
}

#[tokio::test]
async fn each_behaviour_is_understood() {
    let setup = Setup::plain();
    let blocked = |word: &str| Refusal::ContentBlocked { detail: word.to_owned() };
    let no_image = |word: &str| Refusal::NoImage { detail: word.to_owned() };
    let unavailable = |word: &str| Refusal::Unavailable { detail: word.to_owned() };
    let rests = |seconds| Refusal::RateLimited { retry_after: seconds };
    for (behaviour, expected, outcome) in [
        (Behaviour::Finish("IMAGE_SAFETY".to_owned()), blocked("IMAGE_SAFETY"), (200, "IMAGE_SAFETY")),
        (Behaviour::Finish("NO_IMAGE".to_owned()), no_image("NO_IMAGE"), (200, "NO_IMAGE")),
        (Behaviour::PromptBlocked("SAFETY".to_owned()), blocked("SAFETY"), (200, "SAFETY")),
        (Behaviour::Body("<html>".into()), no_image("the answer is not JSON"), (200, "BODY")),
        (
            Behaviour::InvalidArgument,
            Refusal::InvalidRequest { detail: "INVALID_ARGUMENT".to_owned() },
            (400, "INVALID_ARGUMENT"),
        ),
        (Behaviour::InvalidKey, Refusal::InvalidKey, (400, "API_KEY_INVALID")),
        (Behaviour::NoBilling, Refusal::Billing, (400, "FAILED_PRECONDITION")),
        (Behaviour::Unauthenticated, Refusal::InvalidKey, (401, "UNAUTHENTICATED")),
        (Behaviour::PaymentRequired, Refusal::AccountParked, (402, "PAYMENT_REQUIRED")),
        (Behaviour::Suspended, Refusal::Suspended, (403, "CONSUMER_SUSPENDED")),
        (Behaviour::Leaked, Refusal::Suspended, (403, "LEAKED")),
        (Behaviour::DeniedAccess, Refusal::Suspended, (403, "DENIED_ACCESS")),
        (Behaviour::Forbidden, Refusal::InvalidKey, (403, "PERMISSION_DENIED")),
        (Behaviour::NotFound, Refusal::ModelRetired, (404, "NOT_FOUND")),
        (Behaviour::CreditsDepleted, Refusal::AccountParked, (429, "CREDITS_DEPLETED")),
        (Behaviour::ZeroQuota, Refusal::ZeroQuota, (429, "ZERO_QUOTA")),
        (Behaviour::PerDay, Refusal::DailyQuota, (429, "PER_DAY")),
        (
            Behaviour::PerMinute(Duration::from_millis(2_500)),
            rests(Some(Duration::from_millis(2_500))),
            (429, "PER_MINUTE"),
        ),
        (Behaviour::BareRateLimit, rests(None), (429, "BARE")),
        (Behaviour::Status(500), unavailable("HTTP_500"), (500, "INTERNAL")),
        (Behaviour::Status(503), unavailable("HTTP_503"), (503, "UNAVAILABLE")),
        (Behaviour::Status(504), unavailable("HTTP_504"), (504, "DEADLINE_EXCEEDED")),
        (Behaviour::Redirect("http://127.0.0.1:1/".to_owned()), unavailable("HTTP_302"), (302, "REDIRECT")),
    ] {
        setup.stand_in.clear_calls();
        setup.stand_in.set_behaviour("key-1", behaviour.clone());
        assert_eq!(setup.refusal("key-1").await, expected, "{behaviour:?}");
        let calls = setup.stand_in.calls();
        assert_eq!(calls.len(), 1, "{behaviour:?}");
        assert_eq!(calls[0].outcome, Outcome::Answered(outcome.0, outcome.1.to_owned()));
    }
}

#[tokio::test]
async fn drafts_are_passed_over_and_a_lone_thought_is_taken() {
    let setup = Setup::plain();
    let plain = setup.draw("key-1", "p").await.unwrap();
    for behaviour in [Behaviour::DrawAfterDrafts, Behaviour::DrawOnlyThought] {
        setup.stand_in.set_behaviour("key-1", behaviour.clone());
        assert_eq!(setup.draw("key-1", "p").await.unwrap(), plain, "{behaviour:?}");
    }
}

#[tokio::test]
async fn broken_connections_and_silence_are_unavailable() {
    let setup = Setup::plain();
    let lost = Refusal::Unavailable { detail: "the connection was lost".to_owned() };
    for behaviour in [Behaviour::Reset, Behaviour::ResetInBody] {
        setup.stand_in.set_behaviour("key-1", behaviour);
        assert_eq!(setup.refusal("key-1").await, lost);
    }
    setup.stand_in.set_behaviour("key-1", Behaviour::Hang);
    let shape = Shape { aspect_ratio: AspectRatio::R1x1, size: ImageSize::K1 };
    let hung = setup.draw_shape("key-1", "hang", shape, Duration::from_millis(200)).await;
    assert_eq!(
        hung,
        Err(DrawError::Refused(Refusal::Unavailable { detail: "no answer in time".to_owned() }))
    );
    // The stand-in notices that the client is gone.
    for _ in 0..1_000 {
        if setup.stand_in.calls().len() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let outcomes: Vec<_> = setup.stand_in.calls().into_iter().map(|call| call.outcome).collect();
    assert_eq!(outcomes, [Outcome::Reset, Outcome::Reset, Outcome::Abandoned]);
    // After each of them the next call works.
    setup.stand_in.set_behaviour("key-1", Behaviour::Draw);
    assert!(setup.draw("key-1", "p").await.is_ok());
}

#[tokio::test]
async fn keys_that_nobody_added_are_invalid() {
    let setup = Setup::plain();
    assert_eq!(setup.refusal("stranger").await, Refusal::InvalidKey);
    setup.stand_in.update(|settings| settings.accept_unknown_keys = true);
    assert!(setup.draw("stranger", "p").await.is_ok());
    setup.stand_in.retire_model(MODEL);
    assert_eq!(setup.refusal("key-1").await, Refusal::ModelRetired);
}

#[tokio::test]
async fn queued_behaviours_come_first_and_once() {
    let setup = Setup::plain();
    setup.stand_in.queue_behaviours("key-1", [Behaviour::Status(503), Behaviour::PerDay]);
    assert_eq!(setup.refusal("key-1").await, Refusal::Unavailable { detail: "HTTP_503".to_owned() });
    assert_eq!(setup.refusal("key-1").await, Refusal::DailyQuota);
    assert!(setup.draw("key-1", "p").await.is_ok());
}

#[tokio::test]
async fn keys_of_a_project_share_its_limits() {
    let minute = Duration::from_secs(3_600);
    let setup = Setup::new(Settings { minute, ..Settings::default() });
    for key in ["key-1", "key-2"] {
        setup.stand_in.add_key(key, "project-1");
    }
    setup.stand_in.add_key("key-3", "project-2");
    setup.stand_in.set_limits("project-1", Limits { per_minute: Some(3), per_day: Some(5) });
    for key in ["key-1", "key-2", "key-1"] {
        assert!(setup.draw(key, "p").await.is_ok());
    }
    let Refusal::RateLimited { retry_after: Some(rest) } = setup.refusal("key-2").await else {
        panic!("no minute limit")
    };
    assert!(rest <= minute && rest + Duration::from_secs(60) > minute, "{rest:?}");
    assert!(setup.draw("key-3", "p").await.is_ok(), "the other project has its own");
    setup.stand_in.set_limits("project-1", Limits { per_minute: None, per_day: Some(3) });
    assert_eq!(setup.refusal("key-2").await, Refusal::DailyQuota);
    setup.stand_in.new_day();
    assert!(setup.draw("key-2", "p").await.is_ok());
    setup.stand_in.set_limits("project-1", Limits { per_minute: Some(0), per_day: None });
    assert_eq!(setup.refusal("key-2").await, Refusal::ZeroQuota);
}

#[tokio::test]
async fn calls_are_logged_with_key_prompt_and_concurrency() {
    let latency = Latency::Fixed(Duration::from_millis(300));
    let setup = Setup::new(Settings { latency, ..Settings::default() });
    setup.stand_in.add_key("key-1", "project-1");
    let start = Instant::now();
    let prompts: Vec<_> = (0..10).map(|at| format!("prompt {}", at % 5)).collect();
    let drawn = join_all(prompts.iter().map(|prompt| setup.draw("key-1", prompt))).await;
    assert!(drawn.iter().all(Result::is_ok));
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(setup.stand_in.in_flight_max(), 10);
    assert_eq!(setup.stand_in.call_count(), 10);
    let twice: BTreeMap<_, _> = (0..5).map(|at| (format!("prompt {at}"), 2)).collect();
    assert_eq!(setup.stand_in.calls_by_prompt(), twice);
    assert_eq!(setup.stand_in.pictures_by_prompt(), twice);
    for call in setup.stand_in.calls() {
        assert_eq!(
            (call.key.as_str(), call.project.as_str(), call.model.as_str()),
            ("key-1", "project-1", MODEL)
        );
        assert!(call.took >= Duration::from_millis(300) && call.outcome == Outcome::Drawn);
    }
    setup.stand_in.clear_calls();
    assert_eq!((setup.stand_in.call_count(), setup.stand_in.in_flight_max()), (0, 0));
}

#[tokio::test]
async fn the_mix_of_faults_is_the_seeds() {
    let faults = Faults {
        rate_limited: 0.1,
        server_error: 0.1,
        reset: 0.05,
        no_image: 0.05,
        blocked: 0.05,
        hang: 0.0,
    };
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let setup = Setup::new(Settings { faults, seed, image_bytes: 8 * 1024, ..Settings::default() });
        setup.stand_in.add_key("key-1", "project-1");
        let prompts: Vec<_> = (0..400).map(|at| format!("prompt {at}")).collect();
        let drawn = join_all(prompts.iter().map(|prompt| setup.draw("key-1", prompt))).await;
        let failed = drawn.iter().filter(|drawn| drawn.is_err()).count();
        assert!((80..=200).contains(&failed), "{failed} of 400, about 140 expected");
        let mut calls = setup.stand_in.calls();
        calls.sort_by(|one, other| one.prompt.cmp(&other.prompt));
        let outcomes: Vec<_> = calls.into_iter().map(|call| (call.prompt, call.outcome)).collect();
        assert!(setup.stand_in.calls_by_outcome().len() >= 6);
        runs.push(outcomes);
    }
    assert_eq!(runs[0], runs[1], "the same seed");
    assert_ne!(runs[0], runs[2], "another seed");
}

#[tokio::test]
async fn latencies_spread_around_their_median() {
    let latency = Latency::LogNormal { median: Duration::from_millis(200), sigma: 0.3 };
    let setup = Setup::new(Settings { latency, image_bytes: 8 * 1024, ..Settings::default() });
    setup.stand_in.add_key("key-1", "project-1");
    let prompts: Vec<_> = (0..200).map(|at| format!("prompt {at}")).collect();
    join_all(prompts.iter().map(|prompt| setup.draw("key-1", prompt))).await;
    let mut took: Vec<_> = setup.stand_in.calls().into_iter().map(|call| call.took).collect();
    took.sort();
    // The server can only be late, so only lower bounds are certain.
    assert!(took[100] >= Duration::from_millis(160), "{:?}", took[100]);
    assert!(took[0] < took[199] / 2, "{:?} to {:?}", took[0], took[199]);
}

#[tokio::test]
async fn requests_that_are_none_are_answered_as_errors() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let setup = Setup::plain();
    let address = setup.stand_in.base_url().replace("http://", "");
    for (request, expected) in [
        (
            "POST /v1beta/models/m:generateContent HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
            "403",
        ),
        (
            "POST /v1beta/models/m:generateContent HTTP/1.1\r\nhost: x\r\nx-goog-api-key: key-1\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
            "400",
        ),
        (
            "GET /v1beta/files HTTP/1.1\r\nhost: x\r\nx-goog-api-key: key-1\r\nconnection: close\r\n\r\n",
            "404",
        ),
        (
            "GET /v1beta/models HTTP/1.1\r\nhost: x\r\nx-goog-api-key: key-1\r\nconnection: close\r\n\r\n",
            "200",
        ),
        (
            "GET /v1beta/models HTTP/1.1\r\nhost: x\r\nx-goog-api-key: nobody's\r\nconnection: close\r\n\r\n",
            "400",
        ),
        ("GET /v1beta/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "403"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{answer}");
    }
    drop(setup.stand_in);
    assert!(tokio::net::TcpStream::connect(&address).await.is_err(), "it no longer listens");
}
