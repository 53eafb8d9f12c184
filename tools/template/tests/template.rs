#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]
use darkroom_template::*;
#[test]
fn dump() {
    let t = Template::parse(include_str!("../../../infra/template.yaml")).unwrap();
    let s = t
        .stack(&Names {
            stack: "darkroom".into(),
            region: "us-east-1".into(),
            account: "000000000000".into(),
            partition: "aws".into(),
            queue_url_prefix: "http://127.0.0.1:9324".into(),
            api_url: "http://127.0.0.1:3000".into(),
            parameters: [("JwtIssuer", "x"), ("JwtAudience", "y")].map(|(a, b)| (a.into(), b.into())).into(),
        })
        .unwrap();
    println!("{s:#?}");
}
