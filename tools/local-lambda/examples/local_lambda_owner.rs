//! An owner of functions that is going to be killed: a subject of this crate's tests.
//!
//! Arguments: the launcher (`itself`, `setpriv` or `direct`), the function's binary, the event. It starts an idle
//! environment, prints its process id, sends the event if it is not empty, and waits.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use darkroom_local_lambda::{
    Credentials, FunctionSettings, Lambda, LambdaSettings, Launcher, become_function_if_asked,
};

fn main() {
    become_function_if_asked();
    tokio::runtime::Runtime::new().unwrap().block_on(own());
}

async fn own() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let credentials =
        Credentials { access_key_id: "local".into(), secret_access_key: "local".into(), session_token: None };
    let mut settings = LambdaSettings::new("eu-central-1", "000000000000", credentials);
    settings.launcher = match arguments[0].as_str() {
        "itself" => Launcher::detect(),
        "setpriv" => Launcher::Setpriv("/usr/bin/setpriv".into()),
        _ => Launcher::Direct,
    };
    assert_eq!(arguments[0] == "itself", settings.launcher == Launcher::Itself);
    let lambda = Lambda::new(settings).unwrap();
    let mut function = FunctionSettings::new("probe", &arguments[1]);
    function.timeout = std::time::Duration::from_secs(60);
    let function = lambda.add(function).unwrap();
    function.warm(1).await.unwrap();
    println!("{}", function.process_ids()[0]);
    if !arguments[2].is_empty() {
        let answer = function.invoke(arguments[2].clone().into());
        println!("{:?}", answer.await);
    }
    std::future::pending::<()>().await;
}
