//! What the emulator itself costs: a measurement, run with `--ignored --nocapture`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{ACCOUNT, add_probe, lambda};
use bytes::Bytes;
use darkroom_local_lambda::{Gateway, GatewaySettings, Route};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const ROUNDS: u32 = 5_000;

/// Processor time of this process, user and system, in ticks of 10 ms.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn report(what: &str, start: Instant, before: Duration) {
    let wall = start.elapsed() / ROUNDS;
    let processor = processor_time().saturating_sub(before) / ROUNDS;
    println!(
        "{what}: {wall:?} each, of which {processor:?} of processor time in the emulator (and this client)"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn invocations_one_after_the_other() {
    let lambda = lambda();
    let function = add_probe(&lambda, |_| {});
    function.warm(1).await.unwrap();
    let event = Bytes::from_static(b"{\"a\":1}");
    let (start, before) = (Instant::now(), processor_time());
    for _ in 0..ROUNDS {
        function.invoke(event.clone()).await.unwrap();
    }
    report("invoke", start, before);

    let routes = vec![Route::new("POST /raw/{id}", Arc::clone(&function)).unwrap().authorized()];
    let gateway = Gateway::start(GatewaySettings::new(ACCOUNT, routes)).await.unwrap();
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (start, before) = (Instant::now(), processor_time());
    for _ in 0..ROUNDS {
        let request = Request::post("/raw/1?a=b")
            .header("host", "localhost")
            .header("authorization", "Bearer ada")
            .header("content-type", "application/json")
            .body(Full::<Bytes>::from("{\"prompt\":\"a lighthouse\"}"))
            .unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.unwrap();
    }
    report("gateway", start, before);
    println!("starts: {:?}", function.stats().init_durations);
    gateway.shutdown(Duration::from_secs(1)).await;
    lambda.shutdown(Duration::from_secs(1)).await;
}
